//! What access lists mean for a connected client.

use super::{Client, Closing, subscribe};
use crate::access::Reading;
use crate::reason::ReasonCode;
use crate::session::Delivery;

impl Client {
    /// Whether there is anything that it may not do.
    #[inline]
    fn is_limited(&self) -> bool {
        self.access.has_acl() || self.info.rights.is_some()
    }

    /// Whether it may publish to the topic.
    #[inline]
    pub(super) fn may_publish(&mut self, topic: &str) -> bool {
        if !self.is_limited() {
            return true;
        }
        let last = self.last_decision.get_or_insert_default();
        self.access.may_publish_again(&self.info, topic, last)
    }

    /// Whether it may be sent this message.
    #[inline]
    pub(super) fn may_receive(&self, delivery: &Delivery) -> bool {
        !self.checks_reads || self.access.may_receive(&self.info, delivery.message.topic())
    }

    /// Checks each message from now on.
    pub(super) fn check_reads(&mut self) {
        if !std::mem::replace(&mut self.checks_reads, true) {
            self.session.outbox.accept_frames(false);
        }
    }

    /// The rules have changed: ends what is not allowed any more.
    ///
    /// # Errors
    /// If the user itself is no more.
    pub(crate) fn recheck(&mut self) -> Result<(), Closing> {
        let listener = self.info.peer.listener.as_deref();
        let Some(policy) = self.core.policies.of(listener) else {
            return Err(Closing::told(
                ReasonCode::AdministrativeAction,
                "its listener is no more",
            ));
        };
        self.access = policy.access;
        // Of another access, perhaps.
        self.last_decision = None;
        if !self.access.is_known(&self.info) {
            return Err(Closing::told(
                ReasonCode::NotAuthorized,
                "the user may not connect any more",
            ));
        }
        self.narrow();
        Ok(())
    }

    /// Ends the subscriptions that are not allowed, or sees to it that their messages are checked. What waits in the
    /// session may have come by rules that are no more, so it is checked, too.
    pub(super) fn narrow(&mut self) {
        if !self.is_limited() {
            return;
        }
        if self.session.outbox.backlog() > 0 {
            self.check_reads();
        }
        let filters: Vec<_> = self.session.subscriptions.keys().cloned().collect();
        for filter in filters {
            match self.access.reading(&self.info, &filter) {
                Reading::All => {}
                Reading::Some => self.check_reads(),
                Reading::Denied => {
                    let client = &*self.info.client_id;
                    tracing::info!(client, filter = filter.as_str(), "subscription revoked");
                    subscribe::revoke(self, &filter);
                    self.check_reads();
                }
            }
        }
    }
}
