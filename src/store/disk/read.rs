//! Reading what is kept.

use std::sync::Arc;

use redb::ReadableTable;

use super::fault::Fault;
use super::lane::{Change, Delivery, Entry, lane_number};
use super::overlay::{Below, Delta, Known, Overlay, Sessions};
use super::tables::{
    BODIES, BodyRow, Bytes, PlaceRow, QUEUES, RECEIVED, RETAINED, ReadTable, SESSIONS, SUBSCRIPTIONS, SessionRow,
    Snapshot, WILLS, read_message, read_subscription,
};
use crate::message::Message;
use crate::store::op::read_publication;
use crate::store::{Lane, Op, Page, StoredDelivery, StoredMessage, StoredSession, StoredSubscription, StoredWill, Uid};
use crate::wire::Reader;

/// What must be known of each session in the database.
pub(super) fn known(snapshot: &Snapshot) -> Result<Sessions, Fault> {
    let mut known = Sessions::default();
    for row in snapshot.open(SESSIONS)?.iter()? {
        let (uid, row) = row?;
        let row = SessionRow::read(row.value())?;
        let session = Known {
            live: row.lane(Lane::Live).end,
            replayed: row.lane(Lane::Replayed).end,
            floor: row.floor,
            ..Known::default()
        };
        known.insert(uid.value(), session);
    }
    for row in snapshot.open(RECEIVED)?.iter()? {
        let (uid, packet_id) = row?.0.value();
        if let Some(session) = known.get_mut(&uid) {
            session.received.insert(packet_id);
        }
    }
    Ok(known)
}

/// All sessions in the database. The three tables have the same order.
pub(super) fn sessions(snapshot: &Snapshot, each: &mut dyn FnMut(StoredSession)) -> Result<(), Fault> {
    let subscriptions = snapshot.open(SUBSCRIPTIONS)?;
    let mut subscriptions = subscriptions.iter()?.peekable();
    let received = snapshot.open(RECEIVED)?;
    let mut received = received.iter()?.peekable();
    for row in snapshot.open(SESSIONS)?.iter()? {
        let (uid, row) = row?;
        let uid = uid.value();
        let mut session = session(uid, &SessionRow::read(row.value())?);
        while let Some(row) = subscriptions.next_if(|row| row.as_ref().map_or(true, |(key, _)| key.value().0 <= uid)) {
            let (key, row) = row?;
            let (owner, filter) = key.value();
            if owner == uid {
                session.subscriptions.push(read_subscription(filter, row.value())?);
            }
        }
        while let Some(row) = received.next_if(|row| row.as_ref().map_or(true, |(key, _)| key.value().0 <= uid)) {
            let (owner, packet_id) = row?.0.value();
            if owner == uid {
                session.received.push(packet_id);
            }
        }
        each(session);
    }
    Ok(())
}

fn session(uid: Uid, row: &SessionRow) -> StoredSession {
    let record = &row.record;
    StoredSession {
        uid,
        client_id: record.client_id.clone(),
        expiry_interval: record.expiry_interval,
        window: record.window,
        away_since: record.away_since(),
        unsent: record.unsent,
        subscriptions: Vec::<StoredSubscription>::new(),
        received: Vec::new(),
        accepted: Vec::new(),
        live: row.lane(Lane::Live).extent(record.unsent.max(row.floor)),
        replayed: row.lane(Lane::Replayed).extent(0),
        owner: None,
    }
}

/// All wills in the database.
pub(super) fn wills(snapshot: &Snapshot, each: &mut dyn FnMut(StoredWill)) -> Result<(), Fault> {
    for row in snapshot.open(WILLS)?.iter()? {
        let (_, row) = row?;
        each(will(row.value())?);
    }
    Ok(())
}

pub(super) fn will(bytes: &[u8]) -> Result<StoredWill, Fault> {
    match Op::read(&mut Reader::new(bytes))? {
        Op::Will {
            uid,
            delay_interval,
            expires_in,
            message,
            client,
        } => Ok(StoredWill {
            uid,
            delay_interval,
            expires_in,
            message: Message::new(&message),
            client: client.into(),
        }),
        _ => Err(Fault::damaged("a will is something else")),
    }
}

/// All retained messages in the database.
pub(super) fn retained(snapshot: &Snapshot, each: &mut dyn FnMut(Message)) -> Result<(), Fault> {
    for row in snapshot.open(RETAINED)?.iter()? {
        let (_, row) = row?;
        each(Message::new(&read_publication(row.value())?));
    }
    Ok(())
}

/// What of a queue is not in the database, for a part of its places.
#[derive(Debug)]
pub(super) struct Layers {
    /// The places that are known.
    from: u64,
    until: u64,
    /// Whether what is in the database counts.
    has_base: bool,
    frozen: Option<Arc<Overlay>>,
    active: Vec<(u64, Entry)>,
}

impl Layers {
    /// Takes from the overlays what a page of a queue needs.
    pub(super) fn take(
        active: &Overlay,
        frozen: Option<&Arc<Overlay>>,
        floor: u64,
        (uid, lane): (Uid, Lane),
        from: u64,
        most: usize,
    ) -> Layers {
        let mut layers = Layers {
            from: if lane == Lane::Live { from.max(floor) } else { from },
            until: u64::MAX,
            has_base: true,
            frozen: None,
            active: Vec::new(),
        };
        let delta = active.sessions.get(&uid);
        if let Some(delta) = delta {
            layers.copy(delta, lane, most);
        }
        if delta.is_none_or(|delta| delta.below == Below::Kept)
            && let Some(frozen) = frozen
        {
            let below = frozen.sessions.get(&uid).map(|delta| delta.below);
            layers.has_base = below.is_none_or(|below| below == Below::Kept);
            layers.frozen = Some(Arc::clone(frozen));
        }
        layers.has_base &= delta.is_none_or(|delta| delta.below == Below::Kept);
        layers
    }

    /// As many as may be needed: each that was not removed is there, whatever is below.
    fn copy(&mut self, delta: &Delta, lane: Lane, most: usize) {
        let mut there = 0;
        for (index, entry) in delta.places(lane).range(self.from..=u64::MAX) {
            if there == most {
                break;
            }
            there += usize::from(!matches!(entry.change, Change::Removed));
            self.active.push((index, entry.clone()));
            if there == most {
                self.until = index;
            }
        }
    }
}

/// A page of a queue.
pub(super) fn queue(
    snapshot: &Snapshot,
    layers: &Layers,
    (uid, lane): (Uid, Lane),
    most: Page,
) -> Result<Vec<StoredDelivery>, Fault> {
    let range = layers.from..=layers.until;
    let mut page = Pages::new(snapshot, most)?;
    if layers.from > layers.until {
        return Ok(page.found);
    }
    let empty = Delta::default();
    let frozen = layers.frozen.as_ref().and_then(|frozen| frozen.sessions.get(&uid));
    let frozen = &frozen.unwrap_or(&empty).places(lane);
    let mut frozen = frozen.range(range).peekable();
    let mut active = layers.active.iter().peekable();
    let queues = snapshot.open(QUEUES)?;
    let number = lane_number(lane);
    let rows = layers
        .has_base
        .then(|| queues.range((uid, number, layers.from)..=(uid, number, layers.until)));
    let mut rows = rows.transpose()?.into_iter().flatten().peekable();
    while !page.is_full() {
        let base = match rows.peek() {
            Some(Ok((key, _))) => Some(key.value().2),
            Some(Err(_)) => Some(0),
            None => None,
        };
        let over = frozen.peek().map(|(index, _)| *index);
        let top = active.peek().map(|(index, _)| *index);
        let Some(index) = [base, over, top].into_iter().flatten().min() else {
            break;
        };
        let row = rows.next_if(|_| base == Some(index)).transpose()?;
        let mut place = match &row {
            Some((_, row)) => Some(Found::Row(PlaceRow::read(row.value())?)),
            None => None,
        };
        if let Some((_, entry)) = frozen.next_if(|_| over == Some(index)) {
            place = Found::changed(place, entry);
        }
        if let Some((_, entry)) = active.next_if(|_| top == Some(index)) {
            place = Found::changed(place, entry);
        }
        if let Some(place) = place {
            page.push(index, &place)?;
        }
    }
    Ok(page.found)
}

/// A place of a queue, in whatever layer.
enum Found<'a> {
    Row(PlaceRow<'a>),
    Delivery(&'a Delivery),
    Released { before: u64 },
}

impl<'a> Found<'a> {
    fn changed(below: Option<Found<'a>>, entry: &'a Entry) -> Option<Found<'a>> {
        match &entry.change {
            Change::Put(delivery) => Some(Found::Delivery(delivery)),
            Change::PutIfAbsent(delivery) => Some(below.unwrap_or(Found::Delivery(delivery))),
            Change::ReleasedNow { before } => Some(Found::Released { before: *before }),
            Change::Released { or_before } => {
                let before = below.map_or(*or_before, |below| below.before());
                Some(Found::Released { before })
            }
            Change::Removed => None,
        }
    }

    fn before(&self) -> u64 {
        match self {
            Found::Row(row) => row.before,
            Found::Delivery(delivery) => delivery.before,
            Found::Released { before } => *before,
        }
    }
}

/// A page that is being filled.
struct Pages {
    bodies: ReadTable<u64, Bytes>,
    most: Page,
    bytes: usize,
    found: Vec<StoredDelivery>,
}

impl Pages {
    fn new(snapshot: &Snapshot, most: Page) -> Result<Self, Fault> {
        Ok(Pages {
            bodies: snapshot.open(BODIES)?,
            most,
            bytes: 0,
            found: Vec::new(),
        })
    }

    fn is_full(&self) -> bool {
        self.found.len() >= self.most.messages || self.bytes >= self.most.bytes
    }

    fn push(&mut self, index: u64, place: &Found<'_>) -> Result<(), Fault> {
        let message = match place {
            Found::Released { .. } | Found::Row(PlaceRow { message: None, .. }) => None,
            Found::Delivery(delivery) => Some(message(delivery.terms.bytes(), &delivery.body.bytes)?),
            Found::Row(PlaceRow {
                message: Some((terms, BodyRow::Here(body))),
                ..
            }) => Some(message(terms, body)?),
            Found::Row(PlaceRow {
                message: Some((terms, BodyRow::Shared { id, .. })),
                ..
            }) => Some(self.shared(terms, *id)?),
        };
        let before = place.before();
        let delivery = StoredDelivery { index, before, message };
        self.bytes += delivery.bytes();
        self.found.push(delivery);
        Ok(())
    }

    fn shared(&self, terms: &[u8], id: u64) -> Result<StoredMessage, Fault> {
        match self.bodies.get(id)? {
            Some(body) => message(terms, body.value()),
            None => Err(Fault::damaged(format!("message {id} is missing"))),
        }
    }
}

fn message(terms: &[u8], body: &[u8]) -> Result<StoredMessage, Fault> {
    let (terms, publication) = read_message(terms, body)?;
    Ok(StoredMessage::new(Arc::new(Message::new(&publication)), &terms))
}
