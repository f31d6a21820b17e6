//! The checker: from a log of what clients sent and received to what the broker did wrong.
//!
//! It knows MQTT and nothing of any broker, nor of what the clients meant to do. Where the log does not say whether the
//! broker had got something when it was killed, both outcomes are right.

mod delivery;
mod ghosts;
mod history;
mod loss;
mod messages;
mod retained;
mod session;
mod subscriptions;
mod topic;
mod wills;

use std::fmt;

use crate::event::Event;
pub use history::History;

/// A place in the log.
pub type Place = usize;

/// What a client has done so long before a fault has been done: a DISCONNECT is obeyed, an acknowledgement taken.
pub const LONG: u64 = 400_000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub rule: Rule,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// An acknowledged message arrives at every subscription that was acknowledged before it was sent.
    Lost,
    /// QoS 2 is delivered once, in a session and in a group of a shared subscription.
    Twice,
    /// Messages of a publisher on a topic, of one QoS, first arrive in the order in which they were first sent.
    Order,
    /// A topic's retained message is the last acknowledged one, or a later one.
    Retained,
    /// Retained messages that do not change reach a subscription that was acknowledged.
    Replay,
    /// Session Present is 1 where the session was acknowledged and has not ended, and 0 where it has.
    Session,
    /// The will of a client that was connected, and did not say goodbye, is published once; others are not.
    Will,
    /// What arrives was sent, and asked for by a subscription that is not known to have ended.
    Stranger,
    /// A message arrives with the QoS and the Subscription Identifier of its subscription.
    Options,
    /// A Packet Identifier stands for one message until it is finished, and is released only after PUBREC.
    Identifier,
    /// What was acknowledged long before the fault does not come again.
    Repeat,
    /// Acknowledgements are for what was sent, and none refuses it.
    Answer,
    /// In the end everything that was sent is acknowledged.
    Unanswered,
    /// The broker closes no connection.
    Closed,
    /// A connection whose client was accepted on another one gets and changes nothing any more, and is closed.
    Owner,
    /// All nodes of a cluster have the same retained messages.
    Unequal,
    /// No node of a cluster is declared dead, or begins again, that was silent for less than its lease.
    Died,
    /// All that a store in Redis has belongs together, and nothing is left to be done.
    Doctor,
}

impl Rule {
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.text)
    }
}

/// All that is wrong, sorted by rule.
pub fn check(events: &[Event]) -> Vec<Violation> {
    let history = History::read(events);
    let mut found = history.found.clone();
    delivery::lost(&history, &mut found);
    delivery::twice(&history, &mut found);
    delivery::order(&history, &mut found);
    subscriptions::strangers(&history, &mut found);
    subscriptions::options(&history, &mut found);
    retained::retained(&history, &mut found);
    retained::replays(&history, &mut found);
    retained::unequal(&history, &mut found);
    ghosts::strays(&history, &mut found);
    wills::wills(&history, &mut found);
    found.sort();
    found
}

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod loss_tests;
#[cfg(test)]
mod tests;
