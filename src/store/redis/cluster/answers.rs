//! What has become of the messages of a batch, for whom it concerns.

use std::sync::Arc;

use super::call::{Answer, Call, Expected, Outcome};
use super::plan::Plan;
use crate::message::Message;
use crate::store::cluster::{Follower, Mid, Rest};
use crate::store::redis::entry::{read_live_terms, read_message};
use crate::store::{StoredMessage, Uid};

/// Tells all that the calls have answered, in their order.
pub(super) fn tell(plan: &Plan, follower: &dyn Follower) {
    let mut messages = Messages {
        plan,
        read: vec![None; plan.messages.len()],
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
}

impl Messages<'_> {
    /// As it goes to a session; `None` if it can't be read, which what was written a moment ago can.
    fn delivery(&mut self, call: &Call, message: usize, terms: usize) -> Option<StoredMessage> {
        let terms = read_live_terms(call.arguments.get(terms)).ok()?;
        let read = &mut self.read[message];
        if read.is_none() {
            *read = read_message(&self.plan.messages[message]).ok().map(Arc::new);
        }
        Some(StoredMessage::new(Arc::clone(read.as_ref()?), &terms))
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
            follower.arrived(uid, *place, messages.delivery(call, message, terms));
        }
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

fn look(expected: &[Expected], follower: &dyn Follower) {
    let mut last: Option<Uid> = None;
    for expected in expected {
        if let Expected::Appended { uid, .. } = *expected
            && last.replace(uid) != Some(uid)
        {
            follower.look_into(uid);
        }
    }
}
