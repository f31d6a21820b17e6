//! What is wrong with a key, and what can be done about it.

use std::fmt;

use crate::store::cluster::Incarnation;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fault {
    key: String,
    what: String,
    advice: Advice,
    /// What stays of `what` as long as the fault is there, if that has numbers that go on while nodes are at work.
    kind: Option<String>,
}

/// What can be done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Advice {
    /// A command of Redis puts it right.
    Run(String),
    /// A node can recover what this incarnation has left, if it is told to.
    Recover(Incarnation),
    /// The session can't go on.
    BeginAnew,
    /// Something else may write under the prefix.
    Stranger,
    /// What nodes have in memory must be read anew.
    Restart,
    /// What was confirmed is not there.
    Lost,
}

impl Fault {
    pub(super) fn new(key: impl Into<String>, what: impl Into<String>, advice: Advice) -> Fault {
        Fault {
            key: key.into(),
            what: what.into(),
            advice,
            kind: None,
        }
    }

    /// The text may be another one at the next look, and mean the same fault of its key.
    pub(super) fn of_kind(self, kind: impl Into<String>) -> Fault {
        Fault {
            kind: Some(kind.into()),
            ..self
        }
    }

    /// Whether it is this one, seen at another time.
    pub(super) fn is_still(&self, other: &Fault) -> bool {
        (&self.key, self.kind()) == (&other.key, other.kind())
    }

    fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or(&self.what)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. ", self.key, self.what)?;
        let prefix = self.key.split_once(":{").map_or("", |(prefix, _)| prefix);
        self.advice.write(f, prefix)
    }
}

impl Advice {
    /// For a store with this prefix.
    fn write(&self, f: &mut fmt::Formatter<'_>, prefix: &str) -> fmt::Result {
        match self {
            Advice::Run(command) => write!(f, "To put it right: {command}"),
            Advice::Recover(node) => write!(
                f,
                "A node that runs recovers it when it is told to: HSET {prefix}:{{g}}:rec {node} NODE, with one of {prefix}:{{g}}:nodes"
            ),
            Advice::BeginAnew => f.write_str(
                "The session can't go on: let its client connect with Clean Start, or remove it; what waited for it is lost",
            ),
            Advice::Stranger => {
                f.write_str("If something else writes there, give it another prefix; else remove the key")
            }
            Advice::Restart => f.write_str("Stop all nodes and start them again: they begin with what is there"),
            Advice::Lost => {
                f.write_str("Redis does not have what it had confirmed, or somebody else has changed it: see docs/redis.md")
            }
        }
    }
}

/// An argument of a command, as redis-cli reads it.
pub(super) fn quoted(text: &str) -> String {
    format!("{text:?}")
}
