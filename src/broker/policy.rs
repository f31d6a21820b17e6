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
}

impl Policies {
    pub(crate) fn new(default: Policy) -> Policies {
        let named = HashMap::new();
        Policies(RwLock::new(Set { default, named }))
    }

    /// Of the broker itself.
    pub(crate) fn default(&self) -> Policy {
        self.0.read().default.clone()
    }

    /// Of the listener. One that has gone has left clients behind, for which the default is in force.
    pub(crate) fn of(&self, listener: Option<&str>) -> Policy {
        let set = self.0.read();
        let named = listener.and_then(|name| set.named.get(name));
        named.unwrap_or(&set.default).clone()
    }

    /// Changes them; returns what is the default then.
    pub(crate) fn edit(&self, edit: impl FnOnce(&mut Set)) -> Policy {
        let mut set = self.0.write();
        edit(&mut set);
        set.default.clone()
    }
}
