//! The queue in the store by which a session gets messages of its Shared Subscriptions, if it is one of which nothing else is kept.
//!
//! In a cluster, such a message is in one place from its PUBACK to that of a member: in a queue that others can read if the
//! member, or its node, is gone. A task takes messages out of it, in order, and puts them among those that wait for the client; when the
//! client is done with one, that is written down. What is left at the end goes on to other members.

use std::sync::Arc;

use tokio::task::AbortHandle;

use super::outbox::Outbox;

/// See the module. Its task ends with it.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) queue: Arc<Outbox>,
    task: AbortHandle,
}

impl Membership {
    pub(crate) fn new(queue: Arc<Outbox>, task: AbortHandle) -> Membership {
        Membership { queue, task }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.task.abort();
    }
}
