//! Subscriptions, by client and by Topic Filter.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::broker::core::Core;
use crate::broker::registry::Entry;
use crate::packet::{QoS, SubscriptionOptions};
use crate::session::{Excerpt, Inquiry, Range};
use crate::topic::TopicFilter;

/// A subscription of a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscriptionState {
    /// The Topic Filter, as it was subscribed to.
    pub filter: TopicFilter,
    /// Its options; the QoS as granted.
    pub options: SubscriptionOptions,
    /// Subscription Identifier.
    pub identifier: Option<u32>,
}

/// Some of the subscriptions of a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscriptionPage {
    /// The subscriptions.
    pub subscriptions: Vec<SubscriptionState>,
    /// Where the list goes on; `None` at its end.
    pub next: Option<usize>,
}

/// Who subscribes to a Topic Filter.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Subscriber {
    /// Client Identifier; `(program)` for subscriptions of the program itself.
    pub client_id: Arc<str>,
    /// QoS as granted.
    pub qos: QoS,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
}

/// Some of those who subscribe to a Topic Filter.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscriberPage {
    /// The subscribers, those whose sessions are older first.
    pub subscribers: Vec<Subscriber>,
    /// Where the list goes on; `None` at its end.
    pub next: Option<u64>,
}

/// Time for the owner of a session to answer: it may be waiting for a hook.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Owners that are asked one after the other, when the session changes hands meanwhile.
const TRIES: usize = 100;
/// Time that a session has to change hands.
const HANDING_OVER: Duration = Duration::from_millis(5);

enum Asked {
    Nobody,
    Answered(Excerpt),
    Owner(oneshot::Receiver<Excerpt>),
    Busy,
}

impl Core {
    /// Subscriptions of the session of this client, at most `limit`, without the first `skip`: in an order that stays the
    /// same while none is added or removed. `None` if there is no such session, or its owner has no time to answer.
    pub(crate) async fn subscriptions_of(
        &self,
        client_id: &str,
        skip: usize,
        limit: usize,
    ) -> Option<SubscriptionPage> {
        let range = Range { skip, limit };
        for _ in 0..TRIES {
            let excerpt = match self.ask_subscriptions(client_id, range) {
                Asked::Nobody | Asked::Busy => return None,
                Asked::Answered(excerpt) => excerpt,
                Asked::Owner(answer) => match tokio::time::timeout(ANSWER_TIME, answer).await {
                    Ok(Ok(excerpt)) => excerpt,
                    // It has another owner now.
                    Ok(Err(_)) => {
                        tokio::time::sleep(HANDING_OVER).await;
                        continue;
                    }
                    Err(_) => return None,
                },
            };
            return Some(SubscriptionPage::of(excerpt, range));
        }
        None
    }

    fn ask_subscriptions(&self, client_id: &str, range: Range) -> Asked {
        let outbox = match self.registry.shard(client_id).get(client_id) {
            None => return Asked::Nobody,
            Some(Entry::Offline(offline)) => {
                return Asked::Answered(Excerpt::of(&offline.session.subscriptions, range));
            }
            Some(Entry::Online { outbox, .. }) => Arc::clone(outbox),
        };
        let (answer, receiver) = oneshot::channel();
        match outbox.inquire(Inquiry::Subscriptions { range, answer }) {
            true => Asked::Owner(receiver),
            false => Asked::Busy,
        }
    }

    /// Those who subscribe to just this Topic Filter, at most `limit`, behind the place where an earlier list ended.
    pub(crate) fn subscribers(&self, filter: &TopicFilter, after: u64, limit: usize) -> SubscriberPage {
        let mut routes = self.router.some_routes(filter, after, limit.saturating_add(1));
        let more = routes.len() > limit;
        routes.truncate(limit);
        SubscriberPage {
            next: routes.last().filter(|_| more).map(|route| route.outbox.key),
            subscribers: routes
                .iter()
                .map(|route| Subscriber {
                    client_id: Arc::clone(&route.outbox.client_id),
                    qos: route.qos,
                    no_local: route.no_local,
                    retain_as_published: route.retain_as_published,
                })
                .collect(),
        }
    }
}

impl SubscriptionPage {
    fn of(excerpt: Excerpt, range: Range) -> SubscriptionPage {
        let Excerpt { subscriptions, more } = excerpt;
        let next = more.then(|| range.skip + subscriptions.len());
        let mut subscriptions: Vec<_> = subscriptions
            .into_iter()
            .map(|(filter, subscription)| SubscriptionState {
                filter,
                options: subscription.options,
                identifier: subscription.identifier.map(u32::from),
            })
            .collect();
        subscriptions.sort_unstable_by(|one, other| one.filter.as_str().cmp(other.filter.as_str()));
        SubscriptionPage { subscriptions, next }
    }
}
