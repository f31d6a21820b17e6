//! What a batch comes to: calls of the scripts, one for each home that is touched, or a few, and what has become of them.
//!
//! The changes of a home stay in their order. Those of the global home, which are the entries of the log, come behind those of
//! all others; what begins with the batch comes before: a job that a killed node has begun is finished by others, one that it
//! had not begun is begun again by the client, and so must not have done anything.

use std::collections::{BTreeMap, BTreeSet};

use super::call::{Answer, Call, Expected, Outcome, Reached};
use super::gifts::Gifts;
use super::owed::Owed;
use super::planner::Planner;
use super::rematch::{Additions, Extra};
use crate::store::cluster::{
    ClusterOp, Follower, Incarnation, Limits, Mid, Once, bucket_of_inbox, bucket_of_uid, node_of_inbox,
};
use crate::store::redis::keys::Home;
use crate::store::{Batch, Op, StoreError, Uid};

/// What does not change while the store is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) incarnation: Incarnation,
    pub(super) limits: Limits,
    /// Bytes of the longest message that is told to the owner of its session; 0 if no message may leave a node by that way.
    pub(super) longest_told: u64,
    /// Bytes of the longest that are told together with where they are. What is longer is told behind that, which one server keeps in order,
    /// and several do not.
    pub(super) longest_joined: u64,
}

/// What a batch comes to, as far as that is known.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) batch: u64,
    pub(super) context: Context,
    /// In the order in which they are sent.
    pub(super) calls: Vec<Call>,
    /// Messages of the batch that go with a call.
    pub(super) messages: Vec<Vec<u8>>,
    /// Where in `messages` those are that have been published.
    pub(super) published: Vec<Option<usize>>,
    /// Messages that have had effect once, with the homes that have noted that.
    pub(super) onces: Vec<(Once, BTreeSet<Home>)>,
    /// The same of those that are no jobs: only groups must not get them twice.
    pub(super) identities: BTreeMap<usize, (Mid, BTreeSet<Home>)>,
    /// Who has got messages because of what was added while they were under way, in the order in which that was found.
    pub(super) extras: Vec<(usize, Extra)>,
    pub(super) gifts: Gifts,
    /// How many identities the store has made for this batch.
    mids: u64,
    /// How far the log was, at least, when all was written.
    pub(super) position: Option<u64>,
    /// Incarnations up to this one are over, as an answer has told.
    pub(super) generation: Incarnation,
    /// The batch is kept only when the log has been applied as far as it was.
    pub(super) needs_position: bool,
    /// The log tells of changes that others must find when they read it.
    pub(super) log_tells: bool,
    /// The messages have been matched with all that must be looked at.
    is_complete: bool,
}

/// Numbers of identities from here on are made by the store, those below by the broker.
const OF_STORE: u64 = 1 << 63;
/// More changes than a batch has.
const OF_BATCH: u32 = 24;

impl Plan {
    /// # Errors
    /// If the batch can't be read, or has changes that there are not in a cluster.
    pub(super) fn new(
        batch: &Batch<'_>,
        context: Context,
        additions: &Additions,
        calls_made: &[u64],
        owed: &Owed,
    ) -> Result<Plan, StoreError> {
        let mut plan = Plan::empty(batch.number, context);
        let mut planner = Planner::new(&mut plan);
        for op in owed.ops() {
            planner.cluster(op, additions);
        }
        for op in batch.ops() {
            planner.add(op?, additions)?;
        }
        planner.finish(calls_made);
        Ok(plan)
    }

    /// Of a batch that comes to no calls: nothing but that the log has been applied.
    pub(super) fn to_pass(batch: u64, context: Context) -> Plan {
        Plan {
            needs_position: true,
            ..Plan::empty(batch, context)
        }
    }

    /// Of what is no change of this node, but an old one that is made again.
    pub(super) fn of_no_batch(context: Context) -> Plan {
        Plan::empty(0, context)
    }

    fn empty(batch: u64, context: Context) -> Plan {
        Plan {
            batch,
            context,
            calls: Vec::new(),
            messages: Vec::new(),
            published: Vec::new(),
            onces: Vec::new(),
            identities: BTreeMap::new(),
            extras: Vec::new(),
            gifts: Gifts::default(),
            mids: 0,
            position: None,
            generation: 0,
            needs_position: false,
            log_tells: false,
            is_complete: false,
        }
    }

    /// All calls have been answered. The messages of the batch are put where they must go because of that, and, once, because of
    /// what has been added since.
    pub(super) fn go_on(
        &mut self,
        batch: &Batch<'_>,
        additions: &Additions,
        follower: Option<&dyn Follower>,
        calls_made: &[u64],
    ) -> Result<(), StoreError> {
        self.look_at_answers();
        let nothing_is_added = self.is_complete || additions.is_empty();
        let nothing = Additions::default();
        let additions = if self.is_complete { &nothing } else { additions };
        self.is_complete = true;
        if nothing_is_added && !self.gifts.has_open() {
            return Ok(());
        }
        let mut planner = Planner::new(self);
        let mut number = 0;
        for op in batch.ops() {
            if let Op::Cluster(ClusterOp::Publish {
                message,
                publishing,
                recipients,
            }) = op?
            {
                planner.go_on((number, message, &publishing), &recipients, additions, follower);
                number += 1;
            }
        }
        planner.finish(calls_made);
        Ok(())
    }

    /// Members that could not take a message.
    fn look_at_answers(&mut self) {
        for call in self.calls.iter_mut().filter(|call| call.is_done && !call.is_seen) {
            call.is_seen = true;
            let Some(Outcome::Answered(answers)) = &call.outcome else {
                continue;
            };
            for (expected, answer) in call.expected.iter().zip(answers) {
                match (expected, answer) {
                    (
                        Expected::Appended {
                            uid,
                            gift: Some((gift, _)),
                            ..
                        },
                        Answer::Gone,
                    ) => self.gifts.gone(*gift, *uid),
                    (
                        Expected::Appended {
                            uid,
                            gift: Some((gift, _)),
                            ..
                        },
                        Answer::Full,
                    ) => self.gifts.full(*gift, *uid),
                    _ => {}
                }
            }
        }
    }

    /// An identity that nobody else has.
    pub(super) fn new_mid(&mut self) -> Mid {
        self.mids += 1;
        Mid {
            incarnation: self.context.incarnation,
            number: OF_STORE | self.batch << OF_BATCH | self.mids,
        }
    }

    /// The identity of a message that groups must not get twice, and that is no job; this bucket notes it.
    pub(super) fn note_identity(&mut self, number: usize, bucket: u8) -> Mid {
        let mid = match self.identities.get(&number) {
            Some((mid, _)) => *mid,
            None => self.new_mid(),
        };
        let (_, homes) = self.identities.entry(number).or_insert((mid, BTreeSet::new()));
        homes.insert(Home::Bucket(bucket));
        mid
    }

    /// A message that must have effect once is put into this queue, or this inbox.
    pub(super) fn note_once(&mut self, once: Once, uid: Uid) {
        let bucket = node_of_inbox(uid).map_or_else(|| bucket_of_uid(uid), bucket_of_inbox);
        if let Some((_, homes)) = self.onces.iter_mut().find(|(other, _)| *other == once) {
            homes.insert(Home::Bucket(bucket));
        }
    }

    /// Something remains to be written or asked.
    pub(super) fn is_pending(&self) -> bool {
        let is_pending = |call: &Call| !call.is_done || call.must_be_asked();
        self.calls.iter().any(is_pending) || (self.needs_position && self.position.is_none())
    }

    /// The calls that remain to be made.
    pub(super) fn pending(&self) -> Vec<usize> {
        let calls = self.calls.iter().enumerate();
        calls
            .filter(|(_, call)| !call.is_done)
            .map(|(number, _)| number)
            .collect()
    }

    /// So far the global home was when all had been written; the call for it may have told a higher position.
    pub(super) fn reached(&mut self, reached: Reached) {
        let told = self.calls.iter().filter_map(|call| match call.outcome {
            Some(Outcome::Logged { reached, .. }) => Some(reached),
            _ => None,
        });
        for Reached { position, generation } in told.chain([reached]) {
            self.position = self.position.max(Some(position));
            self.generation = self.generation.max(generation);
        }
    }
}
