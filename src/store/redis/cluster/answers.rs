//! What has become of the messages of a batch, for whom it concerns.

use std::sync::Arc;

use super::call::{Answer, Call, Expected, Outcome, Run};
use super::plan::Plan;
use super::runs;
use crate::message::Message;
use crate::store::cluster::{Follower, Mid, Rest};
use crate::store::redis::entry::{read_live_terms, read_message};
use crate::store::{StoredMessage, Uid};
use crate::wire::Reader;

/// Tells all that the calls have answered, in their order.
pub(super) fn tell(plan: &Plan, follower: &dyn Follower) {
    let mut messages = Messages {
        plan,
        read: vec![None; plan.messages.len()],
        published: vec![None; plan.published.len()],
    };
    let (mut jobs, mut rests) = (Vec::new(), Vec::new());
    for call in &plan.calls {
        match &call.outcome {
            Some(Outcome::Answered(answers)) => {
                for (expected, answer) in call.expected.iter().zip(answers) {
                    told(call, expected, answer, follower, &mut messages);
                    add_to_do(plan, expected, answer, &mut jobs, &mut rests);
                }
            }
            Some(Outcome::Unknown) => look(&call.expected, follower),
            Some(Outcome::Logged { .. }) | None => {}
        }
    }
    if !jobs.is_empty() || !rests.is_empty() {
        follower.to_do(&jobs, &rests);
    }
}

fn add_to_do(plan: &Plan, expected: &Expected, answer: &Answer, jobs: &mut Vec<(u8, Mid)>, rests: &mut Vec<Rest>) {
    let (
        Expected::Left {
            bucket, is_own: true, ..
        },
        Answer::Left(left),
    ) = (expected, answer)
    else {
        return;
    };
    jobs.extend(left.jobs.iter().map(|mid| (*bucket, *mid)));
    let of = plan.context.incarnation;
    rests.extend(left.rests.iter().map(|(mid, uid)| Rest {
        mid: *mid,
        uid: *uid,
        of,
    }));
}

/// Retained messages that there was no room for.
pub(super) fn not_retained(plan: &Plan) -> u64 {
    let refused = plan.calls.iter().map(|call| match call.outcome {
        Some(Outcome::Logged { not_retained, .. }) => not_retained,
        _ => 0,
    });
    refused.sum()
}

/// Messages of the batch, each read once.
struct Messages<'a> {
    plan: &'a Plan,
    read: Vec<Option<Arc<Message>>>,
    /// Those that are in runs.
    published: Vec<Option<Arc<Message>>>,
}

impl Messages<'_> {
    /// As it goes to a session; `None` if it can't be read, which what was written a moment ago can.
    fn delivery(&mut self, call: &Call, message: usize, terms: usize) -> Option<StoredMessage> {
        let terms = read_live_terms(call.changes.get(terms)).ok()?;
        let read = &mut self.read[message];
        if read.is_none() {
            *read = read_message(&self.plan.messages[message]).ok().map(Arc::new);
        }
        Some(StoredMessage::new(Arc::clone(read.as_ref()?), &terms))
    }

    /// Those of a run, likewise.
    fn deliveries<'m>(&'m mut self, call: &'m Call, run: Run) -> impl Iterator<Item = Option<StoredMessage>> + 'm {
        let mut entries = Reader::new(&call.changes.get(run.argument)[1..]);
        let published = &call.published[run.first..run.first + run.messages];
        published.iter().map(move |number| {
            let (terms, message) = runs::entry(&mut entries).ok()?;
            let read = &mut self.published[*number];
            if read.is_none() {
                *read = read_message(message).ok().map(Arc::new);
            }
            Some(StoredMessage::new(
                Arc::clone(read.as_ref()?),
                &read_live_terms(terms).ok()?,
            ))
        })
    }
}

fn told(call: &Call, expected: &Expected, answer: &Answer, follower: &dyn Follower, messages: &mut Messages<'_>) {
    match (*expected, answer) {
        (
            Expected::Appended {
                uid, message, terms, ..
            },
            Answer::Place(place),
        ) => {
            let delivery = messages.delivery(call, message, terms);
            follower.arrived(uid, *place, &mut std::iter::once(delivery));
        }
        (
            Expected::Appended {
                uid, message, terms, ..
            },
            Answer::Instead(place, count),
        ) => {
            (0..*count).for_each(|_| follower.full(uid));
            if let Some(place) = place {
                let delivery = messages.delivery(call, message, terms);
                follower.arrived(uid, *place, &mut std::iter::once(delivery));
            }
        }
        (Expected::Run(run), Answer::Place(first)) => {
            let deliveries: Vec<_> = messages.deliveries(call, run).collect();
            follower.arrived(run.uid, *first, &mut deliveries.into_iter());
        }
        (Expected::Run(run), Answer::Each(each)) => told_each(run.uid, each, follower, messages.deliveries(call, run)),
        (Expected::Run(run), Answer::Gone) => follower.gone(run.uid),
        (Expected::Run(run), Answer::Known) => follower.look_into(run.uid),
        (Expected::Appended { uid, .. }, Answer::Gone) => follower.gone(uid),
        // Else another member has it, perhaps.
        (Expected::Appended { uid, gift, .. }, Answer::Full)
            if gift.is_none_or(|(gift, _)| messages.plan.gifts.was_last(gift, uid)) =>
        {
            follower.full(uid);
        }
        // By whom, and whether its owner has heard of it, is not known.
        (Expected::Appended { uid, .. }, Answer::Known) => follower.look_into(uid),
        (_, Answer::Left(left)) => left.ended.iter().for_each(|uid| follower.gone(*uid)),
        _ => {}
    }
}

/// Not all had room.
fn told_each(
    uid: Uid,
    each: &[Answer],
    follower: &dyn Follower,
    deliveries: impl Iterator<Item = Option<StoredMessage>>,
) {
    for (answer, delivery) in each.iter().zip(deliveries) {
        match answer {
            Answer::Place(place) => follower.arrived(uid, *place, &mut std::iter::once(delivery)),
            Answer::Full => follower.full(uid),
            Answer::Instead(place, count) => {
                (0..*count).for_each(|_| follower.full(uid));
                if let Some(place) = place {
                    follower.arrived(uid, *place, &mut std::iter::once(delivery));
                }
            }
            _ => {}
        }
    }
}

fn look(expected: &[Expected], follower: &dyn Follower) {
    let mut last: Option<Uid> = None;
    for expected in expected {
        if let Expected::Appended { uid, .. } | Expected::Run(Run { uid, .. }) = *expected
            && last.replace(uid) != Some(uid)
        {
            follower.look_into(uid);
        }
    }
}
