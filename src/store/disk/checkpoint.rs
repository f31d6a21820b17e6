//! Brings an overlay into the database, in one transaction.
//!
//! To do so twice does no harm: when a checkpoint has failed, nobody knows whether it has had its effect.

use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use redb::{Database, Durability, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use super::fault::Fault;
use super::lane::{Change, Delivery, Places, lane_number};
use super::overlay::{Below, Delta, Overlay, Subscription};
use super::shared::Shares;
use super::tables::{
    BODIES, BodyRow, Bytes, COUNTERS, ENDED, LAST_BATCH, LaneRow, NEXT_BODY, Place, PlaceRow, QUEUES, RECEIVED,
    REFERENCES, RETAINED, SESSIONS, SUBSCRIPTIONS, SessionRow, WILLS, read_subscription, write_subscription,
};
use crate::store::{Lane, Uid};

/// The most places of ended sessions that a transaction removes.
const REMOVED_AT_ONCE: usize = 50_000;
/// A queue that is removed at once, with its session.
const SHORT_QUEUE: u64 = 1_000;

/// Brings all of it into the database, and goes on to remove what has ended; whether some of that remains.
pub(super) fn apply(database: &Database, overlay: &Overlay) -> Result<bool, Fault> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    // The commit is in two phases, and opening after a crash reads no more than it needs.
    txn.set_quick_repair(true);
    let remains = {
        let mut checkpoint = Checkpoint::begin(&txn)?;
        checkpoint.put_sessions(overlay)?;
        checkpoint.remove_ended(REMOVED_AT_ONCE)?;
        checkpoint.finish()?
    };
    put_others(&txn, overlay)?;
    txn.commit()?;
    Ok(remains)
}

/// Makes the tables.
pub(super) fn create(database: &Database) -> Result<(), Fault> {
    apply(database, &Overlay::default()).map(drop)
}

fn put_others(txn: &WriteTransaction, overlay: &Overlay) -> Result<(), Fault> {
    let mut retained = txn.open_table(RETAINED)?;
    let mut topics: Vec<_> = overlay.retained.iter().collect();
    topics.sort_unstable_by_key(|(topic, _)| *topic);
    for (topic, body) in topics {
        match body {
            Some(body) => drop(retained.insert(&**topic, &*body.bytes)?),
            None => drop(retained.remove(&**topic)?),
        }
    }
    let mut wills = txn.open_table(WILLS)?;
    for (uid, will) in &overlay.wills {
        match will {
            Some(will) => drop(wills.insert(uid, &**will)?),
            None => drop(wills.remove(uid)?),
        }
    }
    let mut counters = txn.open_table(COUNTERS)?;
    let last = counters.get(LAST_BATCH)?.map_or(0, |last| last.value());
    counters.insert(LAST_BATCH, last.max(overlay.last))?;
    Ok(())
}

struct Checkpoint<'txn, 'a> {
    sessions: Table<'txn, Uid, Bytes>,
    subscriptions: Table<'txn, (Uid, &'static str), Bytes>,
    received: Table<'txn, (Uid, u16), ()>,
    queues: Table<'txn, Place, Bytes>,
    bodies: Table<'txn, u64, Bytes>,
    references: Table<'txn, u64, u64>,
    ended: Table<'txn, Uid, ()>,
    counters: Table<'txn, &'static str, u64>,
    shares: Shares<'a>,
    row: Vec<u8>,
}

impl<'txn, 'a> Checkpoint<'txn, 'a> {
    fn begin(txn: &'txn WriteTransaction) -> Result<Self, Fault> {
        let counters = txn.open_table(COUNTERS)?;
        let next_body = counters.get(NEXT_BODY)?.map_or(1, |next| next.value());
        Ok(Checkpoint {
            sessions: txn.open_table(SESSIONS)?,
            subscriptions: txn.open_table(SUBSCRIPTIONS)?,
            received: txn.open_table(RECEIVED)?,
            queues: txn.open_table(QUEUES)?,
            bodies: txn.open_table(BODIES)?,
            references: txn.open_table(REFERENCES)?,
            ended: txn.open_table(ENDED)?,
            counters,
            shares: Shares::new(next_body),
            row: Vec::new(),
        })
    }

    /// Whether there are sessions that have ended and have places still.
    fn finish(mut self) -> Result<bool, Fault> {
        self.counters.insert(NEXT_BODY, self.shares.next_number())?;
        self.shares.finish(&mut self.bodies, &mut self.references)?;
        Ok(!self.ended.is_empty()?)
    }

    fn put_sessions(&mut self, overlay: &'a Overlay) -> Result<(), Fault> {
        // In the order of the tables, so that each page is changed once.
        let mut deltas: Vec<_> = overlay.sessions.iter().collect();
        deltas.sort_unstable_by_key(|(uid, _)| **uid);
        for (uid, delta) in deltas {
            if delta.below == Below::Ended {
                self.end(*uid)?;
            }
            if delta.is_there {
                self.put_session(*uid, delta)?;
            }
        }
        Ok(())
    }

    fn put_session(&mut self, uid: Uid, delta: &'a Delta) -> Result<(), Fault> {
        let found = self.sessions.get(uid)?;
        let found = found.map(|row| SessionRow::read(row.value())).transpose()?;
        if found.is_none() && delta.below == Below::Kept {
            return Err(Fault::damaged(format!("session {uid} is missing")));
        }
        if found.is_none() && self.ended.remove(uid)?.is_some() {
            self.remove_places(uid, 0, 0..=u64::MAX, &mut LaneRow::default())?;
            self.remove_places(uid, 1, 0..=u64::MAX, &mut LaneRow::default())?;
        }
        let mut row = found.clone().unwrap_or_default();
        if let Some(record) = &delta.record {
            row.record = (**record).clone();
        }
        self.put_subscriptions(uid, delta)?;
        for (packet_id, is_there) in &delta.received {
            match is_there {
                true => drop(self.received.insert((uid, *packet_id), ())?),
                false => drop(self.received.remove((uid, *packet_id))?),
            }
        }
        if let Some(floor) = delta.floor.filter(|floor| *floor > row.floor) {
            row.floor = floor;
            let lane = &mut row.lanes[Lane::Live as usize];
            if lane.count > 0 && lane.first < floor {
                self.remove_places(uid, lane_number(Lane::Live), 0..=floor - 1, lane)?;
                self.measure(uid, Lane::Live, lane)?;
            }
        }
        for lane in [Lane::Live, Lane::Replayed] {
            self.put_places(uid, lane, delta.places(lane), &mut row.lanes[lane as usize])?;
        }
        if found.as_ref() != Some(&row) {
            self.sessions.insert(uid, &*row.write())?;
        }
        Ok(())
    }

    fn put_subscriptions(&mut self, uid: Uid, delta: &Delta) -> Result<(), Fault> {
        for (filter, change) in &delta.subscriptions {
            let key = (uid, &**filter);
            let replay = match change {
                Subscription::Set(subscription) => {
                    self.subscriptions.insert(key, &*write_subscription(subscription))?;
                    continue;
                }
                Subscription::Removed => {
                    self.subscriptions.remove(key)?;
                    continue;
                }
                Subscription::Replayed(topic) => Some(topic.clone()),
                Subscription::ReplayEnded => None,
            };
            let found = self.subscriptions.get(key)?;
            let found = found.map(|row| read_subscription(filter, row.value())).transpose()?;
            if let Some(mut subscription) = found.filter(|found| found.replay.is_some()) {
                subscription.replay = replay;
                self.subscriptions.insert(key, &*write_subscription(&subscription))?;
            }
        }
        Ok(())
    }

    fn put_places(&mut self, uid: Uid, lane: Lane, places: &'a Places, row: &mut LaneRow) -> Result<(), Fault> {
        for (index, entry) in places.range(0..=u64::MAX) {
            let key = (uid, lane_number(lane), index);
            match &entry.change {
                Change::Put(delivery) => self.put_delivery(key, delivery, row)?,
                Change::PutIfAbsent(delivery) => {
                    if self.queues.get(key)?.is_none() {
                        self.put_delivery(key, delivery, row)?;
                    }
                }
                Change::ReleasedNow { before } => self.put_released(key, *before, row)?,
                Change::Released { or_before } => {
                    let found = self.queues.get(key)?;
                    let found = found.map(|found| PlaceRow::read(found.value()).map(|found| found.before));
                    self.put_released(key, found.transpose()?.unwrap_or(*or_before), row)?;
                }
                Change::Removed => {
                    let old = Old::of(self.queues.remove(key)?.as_ref().map(|old| old.value()))?;
                    self.count_off(old, row);
                }
            }
        }
        match places.is_empty() {
            true => Ok(()),
            false => self.measure(uid, lane, row),
        }
    }

    fn put_delivery(&mut self, key: Place, delivery: &'a Delivery, row: &mut LaneRow) -> Result<(), Fault> {
        let places = Arc::strong_count(&delivery.body);
        let body = match self.shares.share(&delivery.body, places, &mut self.bodies)? {
            Some(id) => BodyRow::Shared {
                id,
                size: delivery.body.size,
            },
            None => BodyRow::Here(&delivery.body.bytes),
        };
        row.count += 1;
        row.bytes += u64::from(delivery.body.size);
        let place = PlaceRow {
            before: delivery.before,
            message: Some((delivery.terms.bytes(), body)),
        };
        self.put_row(key, &place, row)
    }

    fn put_released(&mut self, key: Place, before: u64, row: &mut LaneRow) -> Result<(), Fault> {
        row.count += 1;
        self.put_row(key, &PlaceRow { before, message: None }, row)
    }

    fn put_row(&mut self, key: Place, place: &PlaceRow<'_>, row: &mut LaneRow) -> Result<(), Fault> {
        self.row.clear();
        place.write(&mut self.row);
        let old = Old::of(self.queues.insert(key, &*self.row)?.as_ref().map(|old| old.value()))?;
        self.count_off(old, row);
        Ok(())
    }

    /// A place is there no more.
    fn count_off(&mut self, old: Option<Old>, row: &mut LaneRow) {
        if let Some(old) = old {
            row.count = row.count.saturating_sub(1);
            row.bytes = row.bytes.saturating_sub(old.size);
            if let Some(id) = old.shared {
                self.shares.count_off(id);
            }
        }
    }

    /// Notes where a queue begins and ends.
    fn measure(&self, uid: Uid, lane: Lane, row: &mut LaneRow) -> Result<(), Fault> {
        let lane = lane_number(lane);
        let mut range = self.queues.range((uid, lane, 0)..=(uid, lane, u64::MAX))?;
        let first = range.next().transpose()?.map(|(key, _)| key.value().2);
        let last = range.next_back().transpose()?.map(|(key, _)| key.value().2);
        row.first = first.unwrap_or(0);
        row.end = last.or(first).map_or(0, |last| last.saturating_add(1));
        Ok(())
    }

    /// The session ends. A long queue is left for later.
    fn end(&mut self, uid: Uid) -> Result<(), Fault> {
        let Some(row) = self.sessions.remove(uid)?.map(|row| SessionRow::read(row.value())) else {
            return Ok(());
        };
        let count: u64 = row?.lanes.iter().map(|lane| lane.count).sum();
        self.remove_subscriptions(uid)?;
        for packet_id in self
            .received
            .extract_from_if((uid, 0)..=(uid, u16::MAX), |_, ()| true)?
        {
            packet_id?;
        }
        if count > SHORT_QUEUE {
            self.ended.insert(uid, ())?;
            return Ok(());
        }
        for lane in [0, 1] {
            self.remove_places(uid, lane, 0..=u64::MAX, &mut LaneRow::default())?;
        }
        Ok(())
    }

    fn remove_subscriptions(&mut self, uid: Uid) -> Result<(), Fault> {
        let end = uid
            .checked_add(1)
            .map_or(Bound::Unbounded, |next| Bound::Excluded((next, "")));
        let range = (Bound::Included((uid, "")), end);
        for subscription in self.subscriptions.extract_from_if(range, |_, _| true)? {
            subscription?;
        }
        Ok(())
    }

    fn remove_places(
        &mut self,
        uid: Uid,
        lane: u8,
        places: RangeInclusive<u64>,
        row: &mut LaneRow,
    ) -> Result<(), Fault> {
        let range = (uid, lane, *places.start())..=(uid, lane, *places.end());
        let mut gone = Vec::new();
        for place in self.queues.extract_from_if(range, |_, _| true)? {
            gone.extend(Old::of(Some(place?.1.value()))?);
        }
        gone.into_iter().for_each(|old| self.count_off(Some(old), row));
        Ok(())
    }

    /// Removes places of sessions that have ended, so many at most.
    fn remove_ended(&mut self, most: usize) -> Result<(), Fault> {
        let mut left = most;
        loop {
            let first = self.ended.first()?.map(|(uid, _)| uid.value());
            let Some(uid) = first.filter(|_| left > 0) else {
                return Ok(());
            };
            let mut gone = Vec::new();
            let places = self
                .queues
                .extract_from_if((uid, 0, 0)..=(uid, 1, u64::MAX), |_, _| true)?;
            for place in places.take(left) {
                gone.extend(Old::of(Some(place?.1.value()))?);
            }
            if gone.len() < left {
                self.ended.remove(uid)?;
            }
            left -= gone.len();
            let row = &mut LaneRow::default();
            gone.into_iter().for_each(|old| self.count_off(Some(old), row));
        }
    }
}

/// A place that went.
struct Old {
    size: u64,
    shared: Option<u64>,
}

impl Old {
    fn of(row: Option<&[u8]>) -> Result<Option<Old>, Fault> {
        let Some(row) = row else {
            return Ok(None);
        };
        let row = PlaceRow::read(row)?;
        let (size, shared) = (row.size()?, row.shared_body());
        Ok(Some(Old { size, shared }))
    }
}
