//! Publishing and subscribing from within the program.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;

use super::core::{Core, RouteScratch};
use crate::codec::encode::{self, PublishFrame};
use crate::codec::frame::MAX_PACKET_SIZE;
use crate::message::{Message, NewMessage, Publication};
use crate::packet::{QoS, SubscriptionOptions, Version};
use crate::reason::ReasonCode;
use crate::router::{Found, LastMatch, Route};
use crate::session::{Appetite, Delivery, Outbox, Qos0, Replay, Taken, Terms, Wire};
use crate::stats::Discard;
use crate::topic::{TopicError, TopicFilter};

/// Why a message of the program was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// Its QoS is above [`Config::max_qos`](crate::Config::max_qos).
    QoSNotSupported,
    /// It is to be retained, and [`Config::retain`](crate::Config::retain) is off.
    RetainNotSupported,
    /// No packet can carry it: topic, properties and payload have more than 268,435,455 bytes.
    TooLarge,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PublishError::QoSNotSupported => "the QoS is above the broker's maximum",
            PublishError::RetainNotSupported => "retained messages are turned off",
            PublishError::TooLarge => "the message is larger than any packet may be",
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

pub(crate) async fn publish(core: &Arc<Core>, message: NewMessage) -> Result<(), PublishError> {
    let config = core.config();
    let publication = message.as_publication(core.clock.now());
    if publication.qos > config.max_qos {
        return Err(PublishError::QoSNotSupported);
    }
    if publication.retain && !config.retain {
        return Err(PublishError::RetainNotSupported);
    }
    if !fits_a_packet(&publication) {
        return Err(PublishError::TooLarge);
    }
    if let Some(cluster) = &core.cluster {
        cluster.until_settled().await;
    }
    let (congested, receipt) = {
        let mut scratch = RouteScratch::default();
        core.route(&publication, None, &mut scratch, &mut LastMatch::default());
        let receipt = scratch.pen().receipt();
        (core.congested(publication.topic, &mut scratch), receipt)
    };
    let is_full = core.journal.as_ref().is_some_and(|journal| journal.is_full());
    if let Some(receipt) = receipt.filter(|_| publication.qos > QoS::AtMostOnce || is_full) {
        receipt.kept().await;
    }
    core.tell_published(None, &publication, false).await;
    // One deadline for all of them, so that several slow subscribers hold up the program no longer than one.
    let relieved = async {
        for outbox in congested {
            poll_fn(|cx| outbox.poll_relieved(cx)).await;
        }
    };
    let _ = tokio::time::timeout(config.write_timeout, relieved).await;
    Ok(())
}

/// Whether the protocol has packets large enough, with room for what a delivery may add: Message Expiry Interval,
/// Topic Alias and Subscription Identifiers.
fn fits_a_packet(publication: &Publication<'_>) -> bool {
    const ADDED: usize = 1024;
    let frame = PublishFrame {
        dup: false,
        qos: QoS::ExactlyOnce,
        retain: false,
        topic: publication.topic,
        packet_id: 1,
        topic_alias: None,
        message_expiry_interval: None,
        subscription_identifiers: &[],
        properties: publication.properties,
        payload: publication.payload,
    };
    encode::publish_size(Version::V5, &frame) + ADDED <= MAX_PACKET_SIZE as usize
}

/// The subscriptions of the program, so that they end with the broker.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Mutex<Subscribed>);

#[derive(Debug, Default)]
struct Subscribed {
    outboxes: HashMap<u64, Arc<Outbox>>,
    ended: bool,
}

impl Subscriptions {
    /// No further messages: each subscription yields what has arrived, and then its end. Whether this is the first
    /// time.
    pub(crate) fn end(&self) -> bool {
        let mut subscribed = self.0.lock();
        subscribed.outboxes.drain().for_each(|(_, outbox)| end(&outbox));
        !std::mem::replace(&mut subscribed.ended, true)
    }

    fn insert(&self, outbox: &Arc<Outbox>) {
        let mut subscribed = self.0.lock();
        if subscribed.ended {
            end(outbox);
        } else {
            subscribed.outboxes.insert(outbox.key, Arc::clone(outbox));
        }
    }

    fn remove(&self, key: u64) {
        self.0.lock().outboxes.remove(&key);
    }
}

fn end(outbox: &Outbox) {
    outbox.signal(|signals| signals.close = Some(ReasonCode::ServerShuttingDown));
}

/// Messages for the program. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    core: Arc<Core>,
    all: Arc<Subscriptions>,
    filter: TopicFilter,
    subscription: crate::session::Subscription,
    outbox: Arc<Outbox>,
    /// Retained messages that have not been received yet.
    replay: Option<Replay>,
    /// Taken out of the outbox, and not yet asked for by the program.
    received: VecDeque<Delivery>,
    taken: Taken,
    ended: bool,
}

/// Messages taken out of the queue at a time.
const BATCH: Appetite = Appetite {
    below: u64::MAX,
    bytes: 64 * 1024,
    window: 256,
};

impl Subscription {
    pub(crate) fn new(
        core: &Arc<Core>,
        all: &Arc<Subscriptions>,
        filter: &str,
        qos: QoS,
    ) -> Result<Subscription, SubscribeError> {
        let filter = TopicFilter::parse(filter).map_err(SubscribeError)?;
        let outbox = core.new_outbox("(program)".into());
        outbox.attach(Wire {
            version: Version::V5,
            maximum_packet_size: usize::MAX,
            frames: false,
        });
        let subscription = crate::session::Subscription {
            options: SubscriptionOptions {
                qos,
                ..SubscriptionOptions::default()
            },
            identifier: None,
            replay: 0,
        };
        core.router
            .subscribe(&filter, Route::new(Arc::clone(&outbox), &filter, &subscription));
        if let Some(cluster) = &core.cluster {
            cluster.join_route(&filter, &subscription, false, &mut RouteScratch::default());
        }
        let until = core.router.retained.changes();
        let replay = filter
            .share_name()
            .is_none()
            .then(|| Replay::new(filter.clone(), subscription, until));
        all.insert(&outbox);
        let mut subscription = Subscription {
            core: Arc::clone(core),
            all: Arc::clone(all),
            filter,
            subscription,
            outbox,
            replay,
            received: VecDeque::new(),
            taken: Taken::default(),
            ended: false,
        };
        // The first of them are those of this moment, whatever is published next.
        subscription.receive_retained();
        Ok(subscription)
    }

    /// The next message; `None` when the broker has been shut down and all messages have been taken.
    ///
    /// No message is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<ReceivedMessage> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Subscription::next) in the terms of futures.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<ReceivedMessage>> {
        loop {
            if let Some(delivery) = self.received.pop_front() {
                return Poll::Ready(Some(received(delivery)));
            }
            if self.replay.is_some() {
                self.receive_retained();
                continue;
            }
            if self.ended && !self.outbox.has_for(BATCH) {
                return Poll::Ready(None);
            }
            if !self.outbox.poll_ready(cx, Some(BATCH)) {
                return Poll::Pending;
            }
            self.receive();
        }
    }

    fn receive_retained(&mut self) {
        let Some(mut replay) = self.replay.take() else { return };
        let Found { messages, next } = self.core.router.retained.find(&replay, self.core.clock.now());
        let qos = replay.subscription.options.qos;
        let delivery = |message: Arc<Message>| {
            let terms = Terms {
                qos: qos.min(message.qos()),
                retain: true,
                extras: None,
            };
            Delivery::new(message, terms)
        };
        self.received.extend(messages.into_iter().map(delivery));
        if let Some(next) = next {
            replay.cursor = next;
            self.replay = Some(replay);
        }
    }

    fn receive(&mut self) {
        self.ended |= self.outbox.take_signals().close.is_some();
        self.outbox.take(BATCH, &mut self.taken);
        let queued = self.taken.deliveries.iter().map(|delivery| delivery.charge as usize);
        self.outbox.settle(self.taken.deliveries.len(), queued.sum());
        let qos0 = self.taken.qos0.drain(..).filter_map(|item| match item {
            Qos0::Message(delivery) => Some(delivery),
            // The outbox was attached without frames.
            Qos0::Frames { .. } => None,
        });
        let now = self.core.clock.now();
        for delivery in qos0.chain(self.taken.deliveries.drain(..)) {
            if delivery.message.is_expired(now) {
                self.outbox.count_discard(Discard::Expired);
            } else {
                self.received.push_back(delivery);
            }
        }
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
        self.all.remove(self.outbox.key);
        let mut scratch = RouteScratch::default();
        if let Some(cluster) = &self.core.cluster {
            cluster.leave_route(&self.filter, &self.subscription, false, &mut scratch);
        }
        let mut lost = 0;
        // What the program has not been handed finds another member of a Shared Subscription.
        for delivery in self.received.drain(..).chain(self.outbox.close()) {
            match delivery.share() {
                Some(_) => self.core.reroute_shared(&delivery, &mut scratch),
                None => lost += 1,
            }
        }
        self.core.stats.discarded(Discard::SessionEnded, lost);
    }
}

impl Core {
    /// The connected subscribers of this topic that have much to catch up on.
    fn congested(&self, topic: &str, scratch: &mut RouteScratch) -> Vec<Arc<Outbox>> {
        let subscribers = scratch.subscribers(&self.router, topic);
        subscribers.filter(|outbox| outbox.is_congested()).collect()
    }
}
