//! Puts messages into queues again that had been confirmed to an incarnation before, and were lost then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::call::{Answer, Call, Expected, Outcome};
use super::calls::{GroupOf, Touched};
use super::life::Life;
use super::plan::Plan;
use super::planner::{Planner, TAKES};
use super::writer::Writer;
use crate::packet::QoS;
use crate::store::cluster::{Again, bucket_of_uid};
use crate::store::legacy::{Append, Legacy};
use crate::store::redis::entry::{read_live_terms, read_message};
use crate::store::redis::keys::Home;
use crate::store::{StoreError, StoredMessage};

/// Messages that are put into queues at a time.
const AT_A_TIME: usize = 5000;
/// Before an attempt that has failed is repeated.
const PAUSE: Duration = Duration::from_millis(100);

impl Legacy {
    /// Whether the call that has done this is one that was lost.
    fn has_lost(&self, append: &Append) -> bool {
        let home = Home::Bucket(bucket_of_uid(append.uid));
        let kept = self.kept.get(home.index()).copied().flatten();
        kept.is_some_and(|kept| append.number > kept)
    }
}

impl Writer {
    /// Puts there what these have lost, in the order in which it was there. Until that is done nothing else is written; what was
    /// done is not repeated.
    ///
    /// # Errors
    /// If nothing was done, as a batch has not been kept; or if the life of this incarnation is over.
    pub(super) fn append_again(&mut self, life: &Life, legacies: &[Legacy]) -> Result<Again, StoreError> {
        self.must_be_idle()?;
        let mut again = Again::default();
        for legacy in legacies {
            again.forgotten += legacy.forgotten;
            let lost: Vec<_> = legacy.appends.iter().filter(|append| legacy.has_lost(append)).collect();
            for some in lost.chunks(AT_A_TIME) {
                let plan = self.append_some(life, legacy, some)?;
                plan.calls.iter().for_each(|call| count(&plan, call, &mut again));
            }
        }
        Ok(again)
    }

    fn append_some(&mut self, life: &Life, legacy: &Legacy, some: &[&Append]) -> Result<Plan, StoreError> {
        let mut plan = Plan::of_no_batch(self.context());
        let mut planner = Planner::new(&mut plan);
        let mut messages = HashMap::new();
        for append in some {
            let message = *messages.entry(append.message).or_insert_with(|| {
                let bytes = &legacy.messages[append.message as usize];
                planner.plan.messages.push(bytes.clone());
                planner.plan.messages.len() - 1
            });
            planner.append_again(append, message);
        }
        planner.finish(self.calls_made());
        while let Err(error) = self.send(&mut plan) {
            life.check()?;
            if matches!(error, StoreError::Refused(_)) {
                return Err(error);
            }
            tracing::debug!(%error, "what was lost can't be put into queues again: that is tried again");
            life.pause(PAUSE);
        }
        Ok(plan)
    }
}

impl Planner<'_> {
    /// Without an identity: that it is there once is known by the number of the call that was lost.
    fn append_again(&mut self, append: &Append, message: usize) {
        let context = self.plan.context;
        let touched = (Touched::Session(append.uid), TAKES);
        let part = self
            .bucket(bucket_of_uid(append.uid))
            .part(touched, GroupOf::Message(message), |change| {
                let change = change.limits(&context).text("a");
                change.message(message).text("").text("")
            });
        part.number(append.uid)
            .terms((append.uid, None), message, &append.terms);
    }
}

fn count(plan: &Plan, call: &Call, again: &mut Again) {
    let Some(Outcome::Answered(answers)) = &call.outcome else {
        // An answer was lost, and with it what has become of each.
        again.made += call.expected.len() as u64;
        return;
    };
    for (expected, answer) in call.expected.iter().zip(answers) {
        match answer {
            Answer::Gone => match for_another(plan, call, *expected) {
                Some(message) => again.for_others.push(message),
                None => again.gone += 1,
            },
            Answer::Full => again.full += 1,
            _ => again.made += 1,
        }
    }
}

/// A message of a Shared Subscription whose member is not there any more [MQTT-4.8.2-5].
fn for_another(plan: &Plan, call: &Call, expected: Expected) -> Option<StoredMessage> {
    let Expected::Appended { message, terms, .. } = expected else {
        return None;
    };
    let terms = read_live_terms(call.changes.get(terms)).ok()?;
    if terms.share.is_none() || terms.qos != QoS::AtLeastOnce {
        return None;
    }
    let message = read_message(&plan.messages[message]).ok()?;
    Some(StoredMessage::new(Arc::new(message), &terms))
}
