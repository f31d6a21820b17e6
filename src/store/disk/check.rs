//! Whether a store is what it should be: every checksum, and what the tables say of each other.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use redb::ReadableTable;

use super::database::Base;
use super::fault::Fault;
use super::files::{Directory, Files};
use super::log::{Read, Segments};
use super::segment::frame_len;
use super::tables::{
    BODIES, BodyRow, ENDED, LaneRow, PlaceRow, QUEUES, RECEIVED, REFERENCES, RETAINED, SESSIONS, SUBSCRIPTIONS,
    SessionRow, Snapshot, WILLS, read_message, read_subscription,
};
use super::{Durability, StoreError, format, read};
use crate::store::Uid;
use crate::store::op::{read_publication, read_terms};

/// What was found in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckReport {
    /// The last batch, of the journal or of the database.
    pub(crate) last_batch: u64,
    /// Batches in the journal that the database does not have.
    pub(crate) batches: u64,
    /// Bytes of the journal that they take.
    pub(crate) journal_bytes: u64,
    pub(crate) sessions: u64,
    pub(crate) subscriptions: u64,
    /// Places in queues.
    pub(crate) messages: u64,
    pub(crate) retained: u64,
    pub(crate) wills: u64,
    /// What is not as it should be: the first [`MOST_FAULTS`].
    pub(crate) faults: Vec<String>,
}

/// Faults that are told.
pub(crate) const MOST_FAULTS: usize = 100;

/// Checks the store in a directory, which no process has open. Counts are those of the database.
///
/// # Errors
/// If it can't be used, or is so damaged that it can't be opened.
pub(super) fn check(dir: &Path) -> Result<CheckReport, StoreError> {
    check_files(&open_directory(dir)?)
}

/// Whether the directory is that of a store, as far as the names of its files tell.
pub(crate) fn is_there(dir: &Path) -> bool {
    dir.join(format::FORMAT).exists() || dir.join(super::database::STATE).exists()
}

/// Opens the directory of a store, which must be there.
pub(super) fn open_directory(dir: &Path) -> Result<Arc<dyn Files>, StoreError> {
    let missing = || StoreError::Refused(format!("{} is not the data directory of a broker", dir.display()));
    // Locking would leave a file in a directory of somebody else.
    if !is_there(dir) {
        return Err(missing());
    }
    Ok(Arc::new(Directory::lock(dir, Durability::Fsync)?))
}

pub(super) fn check_files(files: &Arc<dyn Files>) -> Result<CheckReport, StoreError> {
    if !format::is_store(&**files)? {
        return Err(StoreError::Refused("the store was not made to its end".to_owned()));
    }
    let mut report = CheckReport::default();
    let mut base = Base::open(Arc::clone(files))?;
    if !base.check()? {
        report.fault("the database was not consistent, and has repaired itself".to_owned());
    }
    report.last_batch = base.read(|snapshot| snapshot.last_batch())?;
    report.read_journal(&**files)?;
    base.read(|snapshot| report.read_tables(&snapshot))?;
    base.close()?;
    Ok(report)
}

impl CheckReport {
    fn fault(&mut self, what: String) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(what);
        }
    }

    fn read_journal(&mut self, files: &dyn Files) -> Result<(), StoreError> {
        Segments::find(files)?.read(files, self.last_batch, &mut |read| {
            if let Read::Batch(batch) = read {
                batch.ops().try_for_each(|op| op.map(drop))?;
                self.batches += 1;
                self.journal_bytes += frame_len(batch.bytes.len()) as u64;
                self.last_batch = batch.number;
            }
            Ok(())
        })
    }

    fn read_tables(&mut self, snapshot: &Snapshot) -> Result<(), Fault> {
        let mut sessions = HashMap::new();
        for row in snapshot.open(SESSIONS)?.iter()? {
            let (uid, row) = row?;
            sessions.insert(uid.value(), SessionRow::read(row.value())?);
        }
        self.sessions = sessions.len() as u64;
        self.read_parts(snapshot, &sessions)?;
        self.read_queues(snapshot, &sessions)?;
        self.read_others(snapshot)
    }

    fn read_parts(&mut self, snapshot: &Snapshot, sessions: &HashMap<Uid, SessionRow>) -> Result<(), Fault> {
        for row in snapshot.open(SUBSCRIPTIONS)?.iter()? {
            let (key, row) = row?;
            let (uid, filter) = key.value();
            read_subscription(filter, row.value())?;
            self.subscriptions += 1;
            if !sessions.contains_key(&uid) {
                self.fault(format!(
                    "the subscription {filter} is of session {uid}, which is missing"
                ));
            }
        }
        for row in snapshot.open(RECEIVED)?.iter()? {
            let (uid, packet_id) = row?.0.value();
            if !sessions.contains_key(&uid) {
                self.fault(format!(
                    "the Packet Identifier {packet_id} is of session {uid}, which is missing"
                ));
            }
        }
        Ok(())
    }

    fn read_queues(&mut self, snapshot: &Snapshot, sessions: &HashMap<Uid, SessionRow>) -> Result<(), Fault> {
        let ended = snapshot.open(ENDED)?;
        let mut lanes: HashMap<(Uid, u8), LaneRow> = HashMap::new();
        let mut references: HashMap<u64, u64> = HashMap::new();
        for row in snapshot.open(QUEUES)?.iter()? {
            let (key, row) = row?;
            let (uid, lane, index) = key.value();
            let place = PlaceRow::read(row.value())?;
            if let Some((terms, body)) = place.message {
                read_terms(terms)?;
                match body {
                    BodyRow::Here(body) => drop(read_message(terms, body)?),
                    BodyRow::Shared { id, .. } => *references.entry(id).or_default() += 1,
                }
            }
            match sessions.get(&uid) {
                Some(session) => {
                    self.messages += 1;
                    if lane == 0 && index < session.floor {
                        self.fault(format!("place {index} of session {uid} is below its floor"));
                    }
                    lanes.entry((uid, lane)).or_default().add(index, place.size()?);
                }
                None if ended.get(uid)?.is_some() => {}
                None => self.fault(format!("place {index} is of session {uid}, which is missing")),
            }
        }
        for (uid, session) in sessions {
            for (lane, row) in (0..).zip(&session.lanes) {
                let found = lanes.get(&(*uid, lane)).copied().unwrap_or_default();
                if found != *row {
                    self.fault(format!(
                        "queue {lane} of session {uid} should come to {row:?}, and comes to {found:?}"
                    ));
                }
            }
        }
        self.read_bodies(snapshot, &references)
    }

    fn read_bodies(&mut self, snapshot: &Snapshot, references: &HashMap<u64, u64>) -> Result<(), Fault> {
        let mut there = HashSet::new();
        for row in snapshot.open(BODIES)?.iter()? {
            let (id, body) = row?;
            read_publication(body.value())?;
            there.insert(id.value());
        }
        let counted = snapshot.open(REFERENCES)?;
        for row in counted.iter()? {
            let (id, count) = row?;
            let (id, count) = (id.value(), count.value());
            let found = references.get(&id).copied().unwrap_or(0);
            if found != count {
                self.fault(format!("message {id} should be in {count} queues, and is in {found}"));
            }
            if !there.remove(&id) {
                self.fault(format!("message {id} is missing"));
            }
        }
        for id in references.keys() {
            if counted.get(id)?.is_none() {
                self.fault(format!("message {id} is in queues, and was not counted"));
            }
        }
        for id in there {
            self.fault(format!("message {id} is in no queue"));
        }
        Ok(())
    }

    fn read_others(&mut self, snapshot: &Snapshot) -> Result<(), Fault> {
        for row in snapshot.open(RETAINED)?.iter()? {
            let (topic, message) = row?;
            self.retained += 1;
            let (topic, found) = (topic.value(), read_publication(message.value())?.topic);
            if topic != found {
                self.fault(format!("the topic {topic} has a retained message of {found}"));
            }
        }
        for row in snapshot.open(WILLS)?.iter()? {
            let (uid, will) = row?;
            self.wills += 1;
            if read::will(will.value())?.uid != uid.value() {
                self.fault(format!("session {} has the will of another one", uid.value()));
            }
        }
        Ok(())
    }
}

impl LaneRow {
    fn add(&mut self, index: u64, size: u64) {
        if self.count == 0 {
            self.first = index;
        }
        self.end = index.saturating_add(1);
        self.count += 1;
        self.bytes += size;
    }
}
