//! What holds for the connections of a listener, and what takes its place when the settings change.
//!
//! A connection keeps the limits that it was told in its CONNACK. Who may do what is looked at again by
//! [`Broker::recheck`](crate::Broker::recheck).

use std::collections::{HashMap, HashSet};
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
    /// Listeners that are no more: what they have left behind must not get the rights of others.
    gone: HashSet<Arc<str>>,
}

impl Set {
    pub(crate) fn name(&mut self, listener: Arc<str>, policy: Policy) {
        self.gone.remove(&listener);
        self.named.insert(listener, policy);
    }

    /// Those that are not among them are no more.
    #[cfg(feature = "cli")]
    pub(crate) fn replace_named(&mut self, named: HashMap<Arc<str>, Policy>) {
        self.gone.extend(std::mem::take(&mut self.named).into_keys());
        self.named = named;
        self.gone.retain(|name| !self.named.contains_key(name));
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
        let is_gone = || set.gone.contains(name);
        let policy = set.named.get(name);
        policy.or_else(|| (!is_gone()).then_some(&set.default)).cloned()
    }

    /// Changes them; returns what is the default then.
    pub(crate) fn edit(&self, edit: impl FnOnce(&mut Set)) -> Policy {
        let mut set = self.0.write();
        edit(&mut set);
        set.default.clone()
    }
}
