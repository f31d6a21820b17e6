//! `broker store check`: reads everything, and looks whether it goes together.

use std::collections::HashSet;

use super::line::are_forwardable;
use super::totals::Totals;
use super::{Checked, each_delivery};
use crate::message::Message;
use crate::store::{Extent, Lane, Store, StoreError, StoredSession, StoredWill, Uid, read_client};
use crate::topic::{self, TopicFilter};

/// Faults that are told of; others are counted.
const MOST_FAULTS: usize = 100;

/// Reads all that is in the store.
pub(super) fn check(store: &dyn Store) -> Checked {
    let mut faults = Faults::default();
    let queues = faults.sessions(store);
    for (uid, lane, extent) in queues {
        faults.queue(store, uid, lane, extent);
    }
    faults.wills(store);
    faults.retained(store);
    match Totals::of(store) {
        Ok(totals) if faults.count == 0 => return Checked::Clean(totals.to_string()),
        Ok(_) => {}
        Err(error) => faults.found("all", || error.to_string()),
    }
    if faults.count > MOST_FAULTS {
        faults.texts.push(format!("and {} others", faults.count - MOST_FAULTS));
    }
    Checked::Damaged(faults.texts)
}

#[derive(Default)]
struct Faults {
    texts: Vec<String>,
    count: usize,
}

impl Faults {
    fn found(&mut self, place: &str, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.count <= MOST_FAULTS {
            self.texts.push(format!("{place}: {}", what()));
        }
    }

    fn read(&mut self, place: &str, read: Result<(), StoreError>) {
        if let Err(error) = read {
            self.found(place, || error.to_string());
        }
    }

    /// The queues that are to be read.
    fn sessions(&mut self, store: &dyn Store) -> Vec<(Uid, Lane, Extent)> {
        let (mut queues, mut uids, mut clients) = (Vec::new(), HashSet::new(), HashSet::new());
        let read = store.sessions(&mut |session| {
            let place = || format!("session {} of {:?}", session.uid, session.client_id);
            if !uids.insert(session.uid) {
                self.found(&place(), || "its uid is that of another session".to_owned());
            }
            if !clients.insert(session.client_id.clone()) {
                self.found(&place(), || "the client has another session".to_owned());
            }
            if let Some(fault) = fault_of_session(&session) {
                self.found(&place(), || fault);
            }
            queues.push((session.uid, Lane::Live, session.live));
            queues.push((session.uid, Lane::Replayed, session.replayed));
        });
        self.read("sessions", read);
        queues
    }

    /// The queue has what the session says of it.
    fn queue(&mut self, store: &dyn Store, uid: Uid, lane: Lane, extent: Extent) {
        let place = format!("queue {lane:?} of session {uid}");
        let (mut count, mut bytes, mut first, mut last) = (0, 0, None, None);
        let read = each_delivery(store, uid, lane, &mut |delivery| {
            count += 1;
            bytes += delivery.bytes() as u64;
            first = first.or(Some(delivery.index));
            last = Some(delivery.index);
            if let Some(fault) = delivery
                .message
                .as_ref()
                .and_then(|stored| fault_of_message(&stored.message))
            {
                self.found(&place, || format!("place {}: {fault}", delivery.index));
            }
        });
        let has_failed = read.is_err();
        self.read(&place, read);
        let is_within = last.is_none_or(|last| last < extent.next);
        let is_as_said = (count, bytes, first.unwrap_or(extent.next)) == (extent.count, extent.bytes, extent.first);
        if !(has_failed || is_as_said && is_within) {
            self.found(&place, || {
                format!("it has {count} places with {bytes} bytes from {first:?} to {last:?}, and not {extent:?}")
            });
        }
    }

    fn wills(&mut self, store: &dyn Store) {
        let mut uids = HashSet::new();
        let read = store.wills(&mut |will| {
            let place = format!("will of session {}", will.uid);
            if !uids.insert(will.uid) {
                self.found(&place, || "there is another one".to_owned());
            }
            if let Some(fault) = fault_of_will(&will) {
                self.found(&place, || fault);
            }
        });
        self.read("wills", read);
    }

    fn retained(&mut self, store: &dyn Store) {
        let mut topics: HashSet<Box<str>> = HashSet::new();
        let read = store.retained(&mut |message| {
            let place = || format!("retained message of {:?}", message.topic());
            if !topics.insert(message.topic().into()) {
                self.found(&place(), || "there is another one".to_owned());
            }
            if let Some(fault) = fault_of_message(&message) {
                self.found(&place(), || fault);
            }
        });
        self.read("retained messages", read);
    }
}

fn fault_of_session(session: &StoredSession) -> Option<String> {
    if session.expiry_interval == 0 {
        return Some("it would have ended with its connection".to_owned());
    }
    if session.received.contains(&0) {
        return Some("0 is no Packet Identifier".to_owned());
    }
    session.subscriptions.iter().find_map(|subscription| {
        let fault = TopicFilter::parse(&subscription.filter).err()?;
        Some(format!("subscription to {:?}: {fault}", subscription.filter))
    })
}

fn fault_of_message(message: &Message) -> Option<String> {
    if let Err(error) = topic::check_name(message.topic()) {
        return Some(format!("topic {:?}: {error}", message.topic()));
    }
    let are_right = are_forwardable(message.as_publication().properties);
    (!are_right).then(|| "its properties can't be read".to_owned())
}

fn fault_of_will(will: &StoredWill) -> Option<String> {
    let fault = read_client(&will.client).err();
    fault.map_or_else(
        || fault_of_message(&will.message),
        |fault| Some(format!("its client: {}", fault.0)),
    )
}
