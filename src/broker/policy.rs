//! What holds for the connections of a listener, and what takes its place when the settings change.
//!
//! A connection keeps the limits that it was told in its CONNACK. Who may do what is looked at again by
//! [`Broker::recheck`](crate::Broker::recheck).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::access::Access;
use crate::config::Config;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    pub(crate) config: Arc<Config>,
    pub(crate) access: Access,
}

/// Those of all listeners, by name. What has no name, and the broker itself, goes by the default.
#[derive(Debug, Default)]
pub(crate) struct Policies(RwLock<Set>);

/// Policies that come into force together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Set {
    pub(crate) default: Policy,
    pub(crate) named: HashMap<Arc<str>, Policy>,
    /// Those of listeners that are no more: what they have left behind must not get the rights of others.
    gone: HashMap<Arc<str>, Policy>,
    /// Changes with each edit.
    generation: u64,
}

impl Set {
    pub(crate) fn name(&mut self, listener: Arc<str>, policy: Policy) {
        self.gone.remove(&listener);
        self.named.insert(listener, policy);
    }

    /// Those that are not among them are no more.
    #[cfg(feature = "cli")]
    pub(crate) fn replace_named(&mut self, named: HashMap<Arc<str>, Policy>) {
        self.gone.extend(std::mem::take(&mut self.named));
        self.named = named;
        self.gone.retain(|name, _| !self.named.contains_key(name));
    }
}

impl Policies {
    pub(crate) fn new(default: Policy) -> Policies {
        Policies(RwLock::new(Set {
            default,
            ..Set::default()
        }))
    }

    /// Of the broker itself.
    pub(crate) fn default(&self) -> Policy {
        self.0.read().default.clone()
    }

    /// Of the listener; `None` if it is no more.
    pub(crate) fn of(&self, listener: Option<&str>) -> Option<Policy> {
        let set = self.0.read();
        let Some(name) = listener else {
            return Some(set.default.clone());
        };
        let is_gone = || set.gone.contains_key(name);
        let policy = set.named.get(name);
        policy.or_else(|| (!is_gone()).then_some(&set.default)).cloned()
    }

    /// Of the listener, or the last that it had: for what is left of its clients.
    pub(crate) fn last_of(&self, listener: Option<&str>) -> Policy {
        let set = self.0.read();
        let of = |all: &HashMap<Arc<str>, Policy>| listener.and_then(|name| all.get(name)).cloned();
        of(&set.named)
            .or_else(|| of(&set.gone))
            .unwrap_or_else(|| set.default.clone())
    }

    /// Whoever has looked something up and finds another generation later may have what is no longer in force.
    pub(crate) fn generation(&self) -> u64 {
        self.0.read().generation
    }

    /// Changes them; returns what is the default then.
    pub(crate) fn edit(&self, edit: impl FnOnce(&mut Set)) -> Policy {
        let mut set = self.0.write();
        edit(&mut set);
        set.generation += 1;
        set.default.clone()
    }
}
