//! What Redis has confirmed lately: if it loses that, the next incarnation of the process puts it into queues again.
//!
//! It is kept as it was sent, without being looked at or copied, and forgotten whole batches at a time. Bounded in time and in bytes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::call::{Call, Expected, Run};
use super::plan::Plan;
use super::runs;
use crate::store::legacy::{Append, Legacy};
use crate::wire::Reader;

/// Somewhat more than a failover may lose.
pub(super) const LONGEST: Duration = Duration::from_secs(10);
/// Bytes of calls and messages.
pub(super) const LARGEST: usize = 32 * 1024 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memory {
    batches: VecDeque<Kept>,
    bytes: usize,
    /// Of the last while, what was forgotten because there was too much: when, and how many messages for queues.
    forgotten: VecDeque<(Instant, u64)>,
}

/// The calls of a batch that have put messages into queues.
#[derive(Debug)]
struct Kept {
    at: Instant,
    calls: Vec<Call>,
    messages: Vec<Vec<u8>>,
    bytes: usize,
}

impl Memory {
    /// A batch has been kept.
    pub(super) fn keep(&mut self, plan: Plan, now: Instant) {
        let (mut calls, messages) = (plan.calls, plan.messages);
        calls.retain_mut(|call| {
            // What it was sent with is not needed any more.
            call.messages = Vec::new();
            call.outcome = None;
            call.expected.iter().any(is_append)
        });
        if !calls.is_empty() {
            let bytes = calls.iter().map(size).sum::<usize>() + messages.iter().map(Vec::capacity).sum::<usize>();
            self.bytes += bytes;
            self.batches.push_back(Kept {
                at: now,
                calls,
                messages,
                bytes,
            });
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        let is_old = |at: Instant| now.duration_since(at) > LONGEST;
        while self.forgotten.front().is_some_and(|(at, _)| is_old(*at)) {
            self.forgotten.pop_front();
        }
        while let Some(first) = self.batches.front()
            && (is_old(first.at) || self.bytes > LARGEST)
        {
            if !is_old(first.at) {
                self.forgotten.push_back((first.at, first.appends()));
            }
            self.bytes -= first.bytes;
            self.batches.pop_front();
        }
    }

    /// Leaves all that is remembered.
    pub(super) fn leave_to(self, legacy: &mut Legacy) {
        let kept_since = Instant::now().checked_sub(LONGEST);
        let is_young = |at: Instant| kept_since.is_none_or(|since| at >= since);
        let forgotten = self.forgotten.iter().filter(|(at, _)| is_young(*at));
        legacy.forgotten = forgotten.map(|(_, messages)| messages).sum();
        for kept in self.batches.into_iter().filter(|kept| is_young(kept.at)) {
            kept.leave_to(legacy);
        }
    }
}

impl Kept {
    fn appends(&self) -> u64 {
        let expected = self.calls.iter().flat_map(|call| &call.expected);
        let messages = expected.map(|expected| match expected {
            Expected::Appended { .. } => 1,
            Expected::Run(run) => run.messages as u64,
            _ => 0,
        });
        messages.sum()
    }

    /// In the order in which they were put there.
    fn leave_to(self, legacy: &mut Legacy) {
        let before = legacy.messages.len();
        legacy.messages.extend(self.messages);
        for call in &self.calls {
            for expected in &call.expected {
                match *expected {
                    Expected::Appended {
                        uid, message, terms, ..
                    } => legacy.appends.push(Append {
                        uid,
                        number: call.number,
                        terms: call.changes.get(terms).to_vec(),
                        message: (before + message) as u32,
                    }),
                    Expected::Run(run) => leave_run(call, run, legacy),
                    Expected::Sent(_) | Expected::Left { .. } => {}
                }
            }
        }
    }
}

fn leave_run(call: &Call, run: Run, legacy: &mut Legacy) {
    let mut entries = Reader::new(&call.changes.get(run.argument)[1..]);
    // What was written a moment ago can be read.
    while let Ok((terms, message)) = runs::entry(&mut entries) {
        legacy.appends.push(Append {
            uid: run.uid,
            number: call.number,
            terms: terms.to_vec(),
            message: legacy.messages.len() as u32,
        });
        legacy.messages.push(message.to_vec());
    }
}

/// What a call takes, nearly.
fn size(call: &Call) -> usize {
    let expected = call.expected.len() * size_of::<Expected>();
    call.changes.size() + expected + call.published.len() * size_of::<usize>()
}

fn is_append(expected: &Expected) -> bool {
    matches!(expected, Expected::Appended { .. } | Expected::Run(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Batch;
    use crate::store::cluster::{ClusterOp, Entry, write_publish};
    use crate::store::cluster::{Limits, Publishing, new_uid};
    use crate::store::op::{Op, Recipient, write_recipient};
    use crate::store::redis::cluster::owed::Owed;
    use crate::store::redis::cluster::plan::Context;
    use crate::store::redis::cluster::rematch::Additions;
    use crate::store::redis::entry::read_message;
    use crate::store::redis::testing::{publication, terms};

    fn plan(bytes: &[u8]) -> Plan {
        let context = Context {
            incarnation: 1,
            limits: Limits {
                queue_messages: 10,
                queue_bytes: 10,
                drops_oldest: false,
                retained_messages: 10,
            },
            longest_told: 100,
            longest_joined: 100,
        };
        let batch = Batch { number: 1, bytes };
        Plan::new(&batch, context, &Additions::default(), &[0; 257], &Owed::default()).expect("is planned")
    }

    fn publish(payload: &[u8], clients: &[&str]) -> Vec<u8> {
        let mut recipients = Vec::new();
        for (client, number) in clients.iter().zip(1..) {
            let (uid, index, terms) = (new_uid(1, number, client), 0, terms());
            write_recipient(&mut recipients, &Recipient { uid, index, terms });
        }
        // As `Op::Cluster` writes it.
        let mut bytes = vec![64];
        let to = (clients.len() as u32, &recipients[..]);
        write_publish(&mut bytes, &publication("t", payload), &Publishing::default(), to);
        bytes
    }

    fn left(memory: Memory) -> Vec<(u64, usize)> {
        let mut legacy = Legacy::default();
        memory.leave_to(&mut legacy);
        let length = |append: &Append| {
            let message = read_message(&legacy.messages[append.message as usize]).expect("is whole");
            (append.uid >> 8 & 0xFF, message.payload().len())
        };
        legacy.appends.iter().map(length).collect()
    }

    #[test]
    fn messages_for_queues_are_left_in_their_order() {
        let now = Instant::now();
        let mut memory = Memory::default();
        memory.keep(plan(&publish(b"short", &["a"])), now);
        let long = vec![0; 2000];
        let both = [publish(&long, &["a", "b"]), publish(b"x", &["a"])].concat();
        memory.keep(plan(&both), now);
        let mut nothing = Vec::new();
        Op::Cluster(ClusterOp::Log(Entry::End { uid: 7 })).write(&mut nothing);
        memory.keep(plan(&nothing), now);
        assert_eq!(memory.batches.len(), 2);
        let left = left(memory);
        assert_eq!(left.len(), 4);
        assert_eq!(left[0].1, 5);
        let lengths: Vec<_> = left.iter().map(|(_, length)| *length).collect();
        assert_eq!(lengths.iter().filter(|length| **length == 2000).count(), 2);
    }

    #[test]
    fn it_is_bounded_in_time() {
        let Some(old) = Instant::now().checked_sub(LONGEST * 2) else {
            return;
        };
        let mut memory = Memory::default();
        memory.keep(plan(&publish(b"old", &["a"])), old);
        memory.keep(plan(&publish(b"a", &["a"])), Instant::now());
        assert_eq!((memory.batches.len(), memory.forgotten.len()), (1, 0));
        assert_eq!(memory.bytes, memory.batches[0].bytes);
        let mut forgotten = Memory::default();
        forgotten.keep(plan(&publish(b"old", &["a"])), old);
        assert!(left(forgotten).is_empty());
    }

    #[test]
    fn it_is_bounded_in_bytes_and_counts_what_it_forgets() {
        let (now, large) = (Instant::now(), vec![0; LARGEST / 4]);
        let mut memory = Memory::default();
        for _ in 0..6 {
            memory.keep(plan(&publish(&large, &["a", "b"])), now);
        }
        assert!(memory.bytes <= LARGEST && memory.batches.len() == 3, "{}", memory.bytes);
        let mut legacy = Legacy::default();
        memory.leave_to(&mut legacy);
        assert_eq!((legacy.forgotten, legacy.appends.len()), (6, 6));
    }
}
