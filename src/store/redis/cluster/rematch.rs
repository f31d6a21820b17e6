//! Subscriptions and routes that were added while messages were under way, and so were not there when these were matched.

use std::sync::Arc;

use super::recent::RecentEntry;
use crate::message::Publication;
use crate::packet::{QoS, SubscriptionOptions};
use crate::store::cluster::{Entry, Incarnation, Publishing, RouteKind, inbox_of};
use crate::store::op::Recipient;
use crate::store::{StoreError, TermsRecord, Uid};
use crate::topic;
use crate::wire::Reader;

/// What has been added, and not been removed again, in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Additions(Vec<Addition>);

#[derive(Debug)]
struct Addition {
    to: Uid,
    filter: Box<str>,
    /// Of a session; a node decides when it has the message.
    terms: Option<(SubscriptionOptions, u32)>,
}

/// Somebody who gets a message because of what was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extra {
    uid: Uid,
    qos: QoS,
    retain: bool,
    subscription_ids: Vec<u8>,
    share: Option<Arc<str>>,
}

impl Extra {
    /// Whether this session, or node, gets it for itself.
    pub(super) fn is_of(&self, uid: Uid) -> bool {
        self.uid == uid && self.share.is_none()
    }

    pub(super) fn recipient(&self) -> Recipient<'_> {
        Recipient {
            uid: self.uid,
            index: 0,
            terms: TermsRecord {
                qos: self.qos,
                retain: self.retain,
                subscription_ids: &self.subscription_ids,
                share: self.share.as_deref(),
            },
        }
    }
}

impl Additions {
    /// # Errors
    /// If an entry can't be read.
    pub(super) fn new<'e>(
        entries: impl IntoIterator<Item = &'e RecentEntry>,
        own: Incarnation,
    ) -> Result<Additions, StoreError> {
        let mut additions = Additions::default();
        for entry in entries {
            let read = Entry::read(&mut Reader::new(&entry.bytes));
            let position = entry.position;
            let damaged = |error: crate::wire::Malformed| {
                StoreError::Damaged(format!("entry {position} of the log of the cluster: {}", error.0))
            };
            additions.apply(&read.map_err(damaged)?, own);
        }
        Ok(additions)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn apply(&mut self, entry: &Entry<'_>, own: Incarnation) {
        match *entry {
            Entry::Subscribe {
                uid, ref subscription, ..
            } => {
                self.remove(uid, Some(subscription.filter));
                // What wants QoS 0 is reached by the route of its node.
                if subscription.options.qos != QoS::AtMostOnce {
                    let terms = (subscription.options, subscription.identifier);
                    self.add(uid, subscription.filter, Some(terms));
                }
            }
            Entry::Unsubscribe { uid, filter } => self.remove(uid, Some(filter)),
            Entry::End { uid } => self.remove(uid, None),
            Entry::Route { node, filter, kind } => {
                self.remove(inbox_of(node), Some(filter));
                if node != own && kind == RouteKind::All {
                    self.add(inbox_of(node), filter, None);
                }
            }
            Entry::Unroute { node, filter } => self.remove(inbox_of(node), Some(filter)),
            Entry::Dead(node) => self.remove(inbox_of(node), None),
            Entry::Join(_)
            | Entry::Present { .. }
            | Entry::Away { .. }
            | Entry::Retain { .. }
            | Entry::RetainClear { .. } => {}
        }
    }

    fn add(&mut self, to: Uid, filter: &str, terms: Option<(SubscriptionOptions, u32)>) {
        self.0.push(Addition {
            to,
            filter: filter.into(),
            terms,
        });
    }

    fn remove(&mut self, to: Uid, filter: Option<&str>) {
        self.0
            .retain(|addition| addition.to != to || filter.is_some_and(|filter| filter != &*addition.filter));
    }

    /// Who is to get a message, for themselves or for a Shared Subscription, but for those who are not to get it (again).
    pub(super) fn recipients(
        &self,
        message: &Publication<'_>,
        publishing: &Publishing<'_>,
        has: impl Fn(Uid, Option<&str>) -> bool,
    ) -> Vec<Extra> {
        let mut extras: Vec<Extra> = Vec::new();
        for addition in self.0.iter().filter(|addition| addition.matches(message, publishing)) {
            let share = addition.share();
            if has(addition.to, share) {
                continue;
            }
            let is_same = |extra: &Extra| match share {
                Some(share) => extra.share.as_deref() == Some(share),
                None => extra.is_of(addition.to),
            };
            match extras.iter_mut().find(|extra| is_same(extra)) {
                Some(extra) if share.is_none() => addition.join(extra, message),
                Some(_) => {}
                None => extras.push(addition.extra(message)),
            }
        }
        extras
    }
}

impl Addition {
    /// The Shared Subscription that it belongs to.
    fn share(&self) -> Option<&str> {
        shared_filter(&self.filter).map(|_| &*self.filter)
    }

    fn matches(&self, message: &Publication<'_>, publishing: &Publishing<'_>) -> bool {
        if publishing.only.is_some_and(|only| self.share() != Some(only)) {
            return false;
        }
        // [MQTT-3.8.3-3]
        let is_own = publishing.origin == self.to && self.terms.is_some_and(|(options, _)| options.no_local);
        let filter = shared_filter(&self.filter).unwrap_or(&self.filter);
        !is_own && topic::matches(filter, message.topic)
    }

    fn extra(&self, message: &Publication<'_>) -> Extra {
        let mut extra = Extra {
            uid: self.to,
            qos: QoS::AtMostOnce,
            retain: false,
            subscription_ids: Vec::new(),
            share: self.share().map(Arc::from),
        };
        self.join(&mut extra, message);
        extra
    }

    /// One copy at the highest QoS, with all Subscription Identifiers.
    fn join(&self, extra: &mut Extra, message: &Publication<'_>) {
        let Some((options, identifier)) = self.terms else {
            extra.qos = message.qos;
            return;
        };
        extra.qos = extra.qos.max(options.qos.min(message.qos));
        extra.retain |= options.retain_as_published && message.retain;
        if identifier != 0 {
            extra.subscription_ids.extend_from_slice(&identifier.to_be_bytes());
        }
    }
}

/// What a Shared Subscription matches, if this is the filter of one.
fn shared_filter(filter: &str) -> Option<&str> {
    let (_, filter) = filter.strip_prefix("$share/")?.split_once('/')?;
    Some(filter)
}

#[cfg(test)]
#[path = "rematch_tests.rs"]
mod tests;
