//! The tables of the database, and the bytes of their rows.

use redb::{ReadTransaction, ReadableDatabase, TableDefinition};

use super::fault::Fault;
use super::overlay::Record;
use crate::message::Publication;
use crate::store::op::{options_byte, read_options, read_publication, read_terms};
use crate::store::{Extent, Lane, StoredSubscription, TermsRecord, Uid};
use crate::time::Millis;
use crate::wire::{Malformed, Reader, put_binary, put_varint};

pub(super) type Bytes = &'static [u8];
/// Session, lane, place.
pub(super) type Place = (Uid, u8, u64);

/// [`LAST_BATCH`] and [`NEXT_BODY`].
pub(super) const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
pub(super) const SESSIONS: TableDefinition<'_, Uid, Bytes> = TableDefinition::new("sessions");
pub(super) const SUBSCRIPTIONS: TableDefinition<'_, (Uid, &str), Bytes> = TableDefinition::new("subscriptions");
/// Packet Identifiers of QoS 2.
pub(super) const RECEIVED: TableDefinition<'_, (Uid, u16), ()> = TableDefinition::new("received");
pub(super) const QUEUES: TableDefinition<'_, Place, Bytes> = TableDefinition::new("queues");
/// Messages that several queues have.
pub(super) const BODIES: TableDefinition<'_, u64, Bytes> = TableDefinition::new("bodies");
/// How many places have such a message.
pub(super) const REFERENCES: TableDefinition<'_, u64, u64> = TableDefinition::new("references");
pub(super) const RETAINED: TableDefinition<'_, &str, Bytes> = TableDefinition::new("retained");
pub(super) const WILLS: TableDefinition<'_, Uid, Bytes> = TableDefinition::new("wills");
/// Sessions that have ended, whose queues remain to be removed.
pub(super) const ENDED: TableDefinition<'_, Uid, ()> = TableDefinition::new("ended");

pub(super) const LAST_BATCH: &str = "last batch";
pub(super) const NEXT_BODY: &str = "next body";

/// All of them as a moment has them.
#[derive(Debug)]
pub(super) struct Snapshot {
    txn: ReadTransaction,
}

pub(super) type ReadTable<K, V> = redb::ReadOnlyTable<K, V>;

impl Snapshot {
    pub(super) fn new(database: &redb::Database) -> Result<Snapshot, Fault> {
        let txn = database.begin_read()?;
        Ok(Snapshot { txn })
    }

    pub(super) fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<ReadTable<K, V>, Fault> {
        Ok(self.txn.open_table(table)?)
    }

    pub(super) fn last_batch(&self) -> Result<u64, Fault> {
        let last = self.open(COUNTERS)?.get(LAST_BATCH)?;
        Ok(last.map_or(0, |last| last.value()))
    }
}

/// The row of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SessionRow {
    pub(super) record: Record,
    pub(super) floor: u64,
    pub(super) lanes: [LaneRow; 2],
}

/// What a queue comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LaneRow {
    pub(super) first: u64,
    /// The place behind the last one.
    pub(super) end: u64,
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl LaneRow {
    pub(super) fn extent(&self, at_least: u64) -> Extent {
        let next = self.end.max(at_least);
        Extent {
            first: if self.count == 0 { next } else { self.first },
            next,
            count: self.count,
            bytes: self.bytes,
        }
    }
}

impl SessionRow {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(64 + self.record.client_id.len());
        let record = &self.record;
        put_u64(&mut to, record.expiry_interval.into());
        put_u64(&mut to, record.window.into());
        put_u64(&mut to, record.away_since);
        put_u64(&mut to, record.unsent);
        put_u64(&mut to, self.floor);
        for lane in &self.lanes {
            put_u64(&mut to, lane.first);
            put_u64(&mut to, lane.end);
            put_u64(&mut to, lane.count);
            put_u64(&mut to, lane.bytes);
        }
        to.extend_from_slice(record.client_id.as_bytes());
        to
    }

    pub(super) fn read(bytes: &[u8]) -> Result<SessionRow, Malformed> {
        let mut from = Reader::new(bytes);
        let narrow = Malformed("a number is too large");
        let mut row = SessionRow {
            record: Record {
                expiry_interval: u32::try_from(from.u64()?).map_err(|_| narrow)?,
                window: u16::try_from(from.u64()?).map_err(|_| narrow)?,
                away_since: from.u64()?,
                unsent: from.u64()?,
                client_id: Box::default(),
            },
            floor: from.u64()?,
            lanes: [LaneRow::default(); 2],
        };
        for lane in &mut row.lanes {
            *lane = LaneRow {
                first: from.u64()?,
                end: from.u64()?,
                count: from.u64()?,
                bytes: from.u64()?,
            };
        }
        row.record.client_id = crate::wire::text(from.rest())?.into();
        Ok(row)
    }

    pub(super) fn lane(&self, lane: Lane) -> &LaneRow {
        &self.lanes[lane as usize]
    }
}

impl Record {
    pub(super) fn away_since(&self) -> Option<Millis> {
        (self.away_since != 0).then(|| Millis::from_unix(self.away_since))
    }
}

pub(super) fn write_subscription(subscription: &StoredSubscription) -> Vec<u8> {
    let mut to = vec![
        options_byte(subscription.options),
        u8::from(subscription.replay.is_some()),
    ];
    to.extend_from_slice(&subscription.identifier.to_be_bytes());
    if let Some(replay) = &subscription.replay {
        put_binary(&mut to, replay.as_bytes());
    }
    to
}

pub(super) fn read_subscription(filter: &str, bytes: &[u8]) -> Result<StoredSubscription, Malformed> {
    let mut from = Reader::new(bytes);
    let options = read_options(from.u8()?)?;
    let replays = from.u8()? != 0;
    Ok(StoredSubscription {
        filter: filter.into(),
        options,
        identifier: from.u32()?,
        replay: match replays {
            true => Some(from.string()?.into()),
            false => None,
        },
    })
}

/// The row of a place in a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaceRow<'a> {
    pub(super) before: u64,
    /// `None`: it is released.
    pub(super) message: Option<(&'a [u8], BodyRow<'a>)>,
}

/// Where the message of a place is.
#[derive(Clone, Copy, Debug)]
pub(super) enum BodyRow<'a> {
    Here(&'a [u8]),
    /// In [`BODIES`]; with the bytes of topic, properties and payload.
    Shared {
        id: u64,
        size: u32,
    },
}

const HAS_MESSAGE: u8 = 1;
const IS_SHARED: u8 = 2;
const HAS_BEFORE: u8 = 4;

impl<'a> PlaceRow<'a> {
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let (has_message, is_shared) = match self.message {
            None => (0, 0),
            Some((_, BodyRow::Here(_))) => (HAS_MESSAGE, 0),
            Some((_, BodyRow::Shared { .. })) => (HAS_MESSAGE, IS_SHARED),
        };
        let has_before = if self.before == 0 { 0 } else { HAS_BEFORE };
        to.push(has_message | is_shared | has_before);
        if self.before != 0 {
            put_u64(to, self.before);
        }
        if let Some((terms, body)) = &self.message {
            // They come from a packet, which is shorter.
            put_varint(to, terms.len() as u32);
            to.extend_from_slice(terms);
            match body {
                BodyRow::Here(bytes) => to.extend_from_slice(bytes),
                BodyRow::Shared { id, size } => {
                    put_u64(to, *id);
                    to.extend_from_slice(&size.to_be_bytes());
                }
            }
        }
    }

    pub(super) fn read(bytes: &'a [u8]) -> Result<PlaceRow<'a>, Malformed> {
        let mut from = Reader::new(bytes);
        let flags = from.u8()?;
        let before = match flags & HAS_BEFORE {
            0 => 0,
            _ => from.u64()?,
        };
        if flags & HAS_MESSAGE == 0 {
            return Ok(PlaceRow { before, message: None });
        }
        let len = from.varint()? as usize;
        let terms = from.bytes(len)?;
        let body = match flags & IS_SHARED {
            0 => BodyRow::Here(from.rest()),
            _ => BodyRow::Shared {
                id: from.u64()?,
                size: from.u32()?,
            },
        };
        let message = Some((terms, body));
        Ok(PlaceRow { before, message })
    }

    /// Bytes of topic, properties and payload.
    pub(super) fn size(&self) -> Result<u64, Malformed> {
        Ok(match self.message {
            None => 0,
            Some((_, BodyRow::Shared { size, .. })) => size.into(),
            Some((_, BodyRow::Here(bytes))) => {
                let message = read_publication(bytes)?;
                (message.topic.len() + message.properties.len() + message.payload.len()) as u64
            }
        })
    }

    pub(super) fn shared_body(&self) -> Option<u64> {
        match self.message {
            Some((_, BodyRow::Shared { id, .. })) => Some(id),
            _ => None,
        }
    }
}

/// A message and how it goes to a subscriber.
pub(super) fn read_message<'a>(
    terms: &'a [u8],
    body: &'a [u8],
) -> Result<(TermsRecord<'a>, Publication<'a>), Malformed> {
    Ok((read_terms(terms)?, read_publication(body)?))
}

pub(super) fn put_u64(to: &mut Vec<u8>, value: u64) {
    to.extend_from_slice(&value.to_be_bytes());
}
