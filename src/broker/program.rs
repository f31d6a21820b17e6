//! Publishing and subscribing from within the program.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::core::{Core, RouteScratch};
use crate::message::{Message, NewMessage};
use crate::packet::{QoS, RetainHandling, SubscriptionOptions, Version};
use crate::router::Route;
use crate::session::{Appetite, Delivery, Outbox, Qos0, SubscriptionIds, Taken, Terms, Wire};
use crate::topic::{TopicError, TopicFilter};

/// Why a message of the program was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// Its QoS is above [`Config::max_qos`](crate::Config::max_qos).
    QoSNotSupported,
    /// It is to be retained, and [`Config::retain`](crate::Config::retain) is off.
    RetainNotSupported,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PublishError::QoSNotSupported => "the QoS is above the broker's maximum",
            PublishError::RetainNotSupported => "retained messages are turned off",
        })
    }
}

impl std::error::Error for PublishError {}

/// Why a subscription of the program was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeError(TopicError);

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid Topic Filter: {}", self.0)
    }
}

impl std::error::Error for SubscribeError {}

/// A message that a [`Subscription`] has received.
#[derive(Clone, Debug)]
pub struct ReceivedMessage {
    /// The message.
    pub message: Arc<Message>,
    /// The lower of the message's and the subscription's QoS.
    pub qos: QoS,
    /// Whether it was a retained message when the subscription was made.
    pub retained: bool,
}

pub(super) async fn publish(core: &Arc<Core>, message: NewMessage) -> Result<(), PublishError> {
    let publication = message.as_publication(core.clock.now());
    if publication.qos > core.config.max_qos {
        return Err(PublishError::QoSNotSupported);
    }
    if publication.retain && !core.config.retain {
        return Err(PublishError::RetainNotSupported);
    }
    let congested = {
        let mut scratch = RouteScratch::default();
        core.route(&publication, None, &mut scratch);
        core.congested(publication.topic, &mut scratch)
    };
    core.tell_published(None, &publication, false).await;
    for outbox in congested {
        let relieved = poll_fn(|cx| outbox.poll_relieved(cx));
        let _ = tokio::time::timeout(core.config.write_timeout, relieved).await;
    }
    Ok(())
}

/// Messages for the program. Ends when dropped.
#[derive(Debug)]
pub struct Subscription {
    core: Arc<Core>,
    filter: TopicFilter,
    outbox: Arc<Outbox>,
    received: VecDeque<ReceivedMessage>,
    taken: Taken,
}

/// Messages taken out of the queue at a time.
const BATCH: Appetite = Appetite {
    bytes: 64 * 1024,
    window: 256,
};

impl Subscription {
    pub(super) fn new(core: &Arc<Core>, filter: &str, qos: QoS) -> Result<Subscription, SubscribeError> {
        let filter = TopicFilter::parse(filter).map_err(SubscribeError)?;
        let outbox = core.new_outbox("(program)".into());
        outbox.attach(Wire {
            version: Version::V5,
            maximum_packet_size: usize::MAX,
            frames: false,
        });
        let options = SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        };
        let subscription = crate::session::Subscription {
            options,
            identifier: None,
        };
        core.router
            .subscribe(&filter, Route::new(Arc::clone(&outbox), &subscription));
        if filter.share_name().is_none() && options.retain_handling == RetainHandling::SendAlways {
            core.replay_retained(&outbox, &filter, &subscription);
        }
        let (received, taken) = (VecDeque::new(), Taken::default());
        Ok(Subscription {
            core: Arc::clone(core),
            filter,
            outbox,
            received,
            taken,
        })
    }

    /// The next message. Waits for as long as the broker lives.
    pub async fn next(&mut self) -> ReceivedMessage {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next message, in the terms of futures.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<ReceivedMessage> {
        loop {
            if let Some(message) = self.received.pop_front() {
                return Poll::Ready(message);
            }
            if !self.outbox.poll_ready(cx, Some(BATCH)) {
                return Poll::Pending;
            }
            self.receive();
        }
    }

    fn receive(&mut self) {
        self.outbox.take_signals();
        self.outbox.take(BATCH, &mut self.taken);
        let now = self.core.clock.now();
        let queued: usize = self
            .taken
            .deliveries
            .iter()
            .map(|delivery| delivery.charge as usize)
            .sum();
        self.outbox.settle(self.taken.deliveries.len(), queued);
        let qos0 = self.taken.qos0.drain(..).filter_map(|item| match item {
            Qos0::Message(delivery) => Some(delivery),
            // The outbox was attached without frames.
            Qos0::Frames { .. } => None,
        });
        let all = qos0.chain(self.taken.deliveries.drain(..));
        self.received
            .extend(all.filter(|delivery| !delivery.message.is_expired(now)).map(received));
    }
}

fn received(delivery: Delivery) -> ReceivedMessage {
    ReceivedMessage {
        qos: delivery.qos,
        retained: delivery.retain,
        message: delivery.message,
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.core.router.unsubscribe(&self.filter, self.outbox.key);
        let mut scratch = RouteScratch::default();
        for delivery in self.outbox.close() {
            self.core.reroute_shared(&delivery, &mut scratch);
        }
    }
}

impl Core {
    /// Queues the retained messages that a new subscription matches [MQTT-3.3.1-9].
    pub(crate) fn replay_retained(
        &self,
        outbox: &Outbox,
        filter: &TopicFilter,
        subscription: &crate::session::Subscription,
    ) {
        let now = self.clock.now();
        outbox.replay(|found| {
            self.router.retained.for_each_match(filter.filter(), now, |message| {
                let terms = Terms {
                    qos: subscription.options.qos.min(message.qos()),
                    retain: true,
                    subscription_ids: SubscriptionIds::one(subscription.identifier),
                    share: None,
                };
                found(Delivery::retained(Arc::clone(message), terms));
            });
        });
    }

    /// The connected subscribers of this topic that have much to catch up on.
    fn congested(&self, topic: &str, scratch: &mut RouteScratch) -> Vec<Arc<Outbox>> {
        let mark = self.config.max_queued_bytes / 2;
        let congested = |outbox: &Arc<Outbox>| outbox.is_online() && outbox.backlog() > mark;
        scratch.subscribers(&self.router, topic).filter(congested).collect()
    }
}
