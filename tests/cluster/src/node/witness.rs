//! What a node has read and acted on may be lost, too, before it was confirmed to the one who wrote it: then the places that
//! it knows are given to others.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::Node;
use super::serve::Conn;
use crate::home::call::Queued;
use crate::home::{Answer, Call};
use crate::ids::{Cid, Group, Home, Index, Message, Uid};
use crate::net::shard_of;

/// The messages of a queue that were sent, and are not known to be finished.
pub(super) type Sent = BTreeMap<Index, (Message, Option<Group>)>;

/// What a connection knows of the queue of its client.
#[derive(Clone)]
pub(super) struct Witness {
    cid: Cid,
    uid: Uid,
    sent: Sent,
    /// Nobody else changes that queue.
    is_owner: bool,
}

impl Witness {
    pub(super) fn of(conn: &Conn, is_owner: bool) -> Option<Witness> {
        Some(Witness {
            cid: conn.cid,
            uid: conn.queue()?,
            sent: conn.sent.borrow().clone(),
            is_owner,
        })
    }

    /// Whether the queue can be the one that was read.
    fn fits(&self, found: Option<(BTreeMap<Index, Queued>, Index)>) -> bool {
        let Some((queue, next)) = found else {
            return !self.is_owner || self.sent.is_empty();
        };
        self.sent.iter().all(|(place, sent)| match queue.get(place) {
            Some(queued) => (queued.message, queued.group) == *sent,
            None => *place < next && !self.is_owner,
        })
    }
}

impl Node {
    /// Those of these homes that lack what this node has read there.
    pub(super) async fn lost_reads(self: &Rc<Self>, homes: &[Home]) -> BTreeSet<Home> {
        let mut lost = BTreeSet::new();
        let conns = self.conns.borrow().clone();
        let mut witnesses: Vec<_> = conns.iter().filter_map(|conn| Witness::of(conn, true)).collect();
        witnesses.extend(self.memory.borrow().witnesses());
        for witness in witnesses {
            let home = Home::of_client(witness.cid);
            if !homes.contains(&home) {
                continue;
            }
            if let Answer::Found(found) = self.read(home, Call::Look(witness.uid)).await
                && !witness.fits(found)
            {
                lost.insert(home);
            }
        }
        if homes.contains(&Home::Global) && !self.has_my_log().await {
            lost.insert(Home::Global);
        }
        lost
    }

    /// Whether the log goes on where this node's mirror is.
    async fn has_my_log(&self) -> bool {
        let (position, last) = {
            let mirror = self.mirror.borrow();
            (mirror.position, mirror.last.clone())
        };
        match self.read(Home::Global, Call::ReadLog { from: position }).await {
            Answer::Log { position: end, entries } => {
                let is_same =
                    |(at, entry): &(u64, _)| *at != position || last.as_ref().is_none_or(|last| last == entry);
                end >= position && entries.first().is_none_or(is_same)
            }
            // All nodes had applied it.
            _ => true,
        }
    }

    /// What this node knows to be there is not: whoever else has lost what, this incarnation is over.
    pub(super) fn misses(&self, home: Home) {
        self.world
            .trace(|| format!("I{} misses what it has read in {home:?}", self.inc.get()));
        {
            let mut memory = self.memory.borrow_mut();
            // Else it was declared dead.
            if memory.new_servers.contains(&shard_of(home)) {
                memory.missing.insert(home);
            }
        }
        self.fence();
    }
}
