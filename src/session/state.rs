//! A Session, as its owner holds it.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::accepted::Accepted;
use super::delivery::Delivery;
use super::inbound::InboundQos2;
use super::inflight::{Inflight, LIVE_IDENTIFIERS};
use super::membership::Membership;
use super::outbox::Outbox;
use super::replay::{Replay, Topics};
use super::reuse::Reuse;
use super::will::WillMessage;
use crate::packet::SubscriptionOptions;
use crate::store::cluster::Token;
use crate::store::{Extent, Lane, SessionRecord};
use crate::time::Millis;
use crate::topic::TopicFilter;

/// A subscription of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) options: SubscriptionOptions,
    pub(crate) identifier: Option<NonZeroU32>,
    /// The number of the replay of its retained messages.
    pub(crate) replay: u64,
}

/// Messages that a hook is to be asked about. Boxed, since most brokers have no such hook.
#[derive(Debug, Default)]
pub(crate) struct Forwarding(Option<Box<Asked>>);

#[derive(Debug, Default)]
struct Asked {
    /// Those taken out of the outbox.
    deliveries: VecDeque<Delivery>,
    /// Of each lane the place below which messages come from the store: the hook of this process was not asked about them.
    restored: [u64; 2],
}

impl Forwarding {
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |asked| asked.deliveries.len())
    }

    /// What is in flight comes from the store.
    pub(crate) fn restored(&mut self, inflight: &Inflight) {
        self.0.get_or_insert_default().restored = [inflight.next_place(), inflight.next_replayed().0];
    }

    pub(crate) fn has_restored(&self) -> bool {
        self.0.as_ref().is_some_and(|asked| asked.restored != [0, 0])
    }

    fn is_restored(&self, (lane, place): (Lane, u64)) -> bool {
        self.0
            .as_ref()
            .is_some_and(|asked| place < asked.restored[lane as usize])
    }

    pub(crate) fn extend(&mut self, deliveries: impl IntoIterator<Item = Delivery>) {
        self.0.get_or_insert_default().deliveries.extend(deliveries);
    }

    pub(crate) fn front(&self) -> Option<&Delivery> {
        self.0.as_ref()?.deliveries.front()
    }

    pub(crate) fn pop_front(&mut self) -> Option<Delivery> {
        self.0.as_mut()?.deliveries.pop_front()
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = Delivery> {
        self.0.into_iter().flat_map(|asked| asked.deliveries)
    }
}

/// The subscriptions of a session by their Topic Filters.
pub(crate) type Subscriptions = HashMap<TopicFilter, Subscription, foldhash::fast::RandomState>;

/// Session state (section 4.1).
///
/// Exactly one owner at a time: the connection task while the client is connected, the registry otherwise. The
/// messages that wait to be sent are in the outbox, which publishers share.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) inflight: Inflight,
    pub(crate) inbound: InboundQos2,
    /// Bytes of all Topic Filters.
    pub(crate) subscription_bytes: usize,
    /// Retained messages that new subscriptions have not been sent yet; live messages wait behind them.
    replays: Option<Box<VecDeque<(u64, Replay)>>>,
    /// Replays begun in this session: the number of the next one.
    replayed: u64,
    /// Messages that a hook is to be asked about.
    pub(crate) forwarding: Forwarding,
    /// Seconds; 0 ends the session with its connection, `u32::MAX` is never.
    pub(crate) expiry_interval: u32,
    /// Set while the client is connected or the Will Delay Interval runs.
    pub(crate) will: Option<Box<WillMessage>>,
    /// The last batch of the journal on which answers to the client rest.
    pub(crate) gate: u64,
    /// The session is kept in a store.
    pub(crate) kept: bool,
    /// Of a session that is kept.
    pub(crate) reuse: Option<Box<Reuse>>,
    /// The Receive Maximum of its last connection.
    pub(crate) window: u16,
    /// It comes from the store: what was in flight has to be read yet.
    pub(crate) restored: Option<Box<Restored>>,
    /// Of a session that a cluster keeps: the messages of `inbound`, which are published when they are released.
    pub(crate) accepted: Option<Box<Accepted>>,
    /// In a cluster: as which owner.
    pub(crate) token: Option<Token>,
    /// It was made for a client that has not been sent the CONNACK yet.
    pub(crate) is_untold: bool,
    /// Of a session in a cluster of which nothing else is kept.
    pub(crate) membership: Option<Box<Membership>>,
}

/// What is known of a session in the store whose client has not come yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restored {
    pub(crate) away_since: Millis,
    /// See [`SessionRecord`].
    pub(crate) unsent: u64,
    pub(crate) window: u16,
    pub(crate) live: Extent,
    pub(crate) replayed: Extent,
}

impl Session {
    pub(crate) fn new(outbox: Arc<Outbox>) -> Session {
        Session {
            outbox,
            subscriptions: HashMap::default(),
            inflight: Inflight::default(),
            inbound: InboundQos2::default(),
            subscription_bytes: 0,
            replays: None,
            replayed: 1,
            forwarding: Forwarding::default(),
            expiry_interval: 0,
            will: None,
            gate: 0,
            kept: false,
            reuse: None,
            window: 0,
            restored: None,
            accepted: None,
            token: None,
            is_untold: false,
            membership: None,
        }
    }

    pub(crate) fn client_id(&self) -> &Arc<str> {
        &self.outbox.client_id
    }

    /// Whether the session outlives its connection.
    pub(crate) fn is_persistent(&self) -> bool {
        self.expiry_interval > 0
    }

    /// Whether no live message is on its way to the client: the next one may be far behind the last, if those between them
    /// were dropped.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.inflight.has_no_live() && self.forwarding.len() == 0
    }

    /// The place from which on live messages have to wait for those before them, or until it is durable that those are
    /// finished.
    pub(crate) fn below(&self, durable: u64) -> u64 {
        let Some(reuse) = &self.reuse else { return u64::MAX };
        let free = self.identifiers_free(reuse, durable);
        match self.has_caught_up() {
            true if reuse.is_settled(durable) => u64::MAX,
            true => free,
            false => self.inflight.below().min(free),
        }
    }

    /// The place from which on a live message has a Packet Identifier that is in doubt.
    fn identifiers_free(&self, reuse: &Reuse, durable: u64) -> u64 {
        reuse.settled(self.inflight.first_place(), durable) + u64::from(LIVE_IDENTIFIERS)
    }

    /// Something in flight was finished in this batch, where all places below `before` were before it. Whether the
    /// session is to be told when that is durable.
    pub(crate) fn finished_in(&mut self, before: u64, batch: u64, durable: u64) -> bool {
        let first = self.inflight.first_place();
        let Some(reuse) = &mut self.reuse else { return false };
        if reuse.finished(before, first, batch, durable) {
            return true;
        }
        let is_far = |reuse| self.outbox.next_place() >= self.identifiers_free(reuse, durable);
        self.inflight.has_no_live() && self.reuse.as_deref().is_some_and(is_far)
    }

    /// In a cluster: whether messages of QoS 1 and 2 of this subscription come by a queue in the store.
    pub(crate) fn has_queue_for(&self, filter: &TopicFilter) -> bool {
        self.kept || filter.share_name().is_some()
    }

    /// Whether messages may be in its queue that others could take.
    pub(crate) fn has_shared_subscriptions(&self) -> bool {
        self.subscriptions.keys().any(|filter| filter.share_name().is_some())
    }

    /// What the store has of it, beside its parts. While retained messages wait, live messages wait behind them.
    pub(crate) fn record(&self, away_since: Option<Millis>) -> SessionRecord<'_> {
        let window = if away_since.is_some() || self.is_replaying() {
            0
        } else {
            self.window
        };
        let unsent = self.inflight.next_place();
        // Of what has not been read, nothing else is known than before.
        let unread = self
            .restored
            .as_ref()
            .map(|restored| (restored.window, restored.unsent));
        let (window, unsent) = unread.unwrap_or((window, unsent));
        SessionRecord {
            uid: self.outbox.key,
            client_id: self.client_id(),
            expiry_interval: self.expiry_interval,
            window,
            away_since,
            unsent,
        }
    }

    /// Adds or replaces a subscription; whether it is new.
    pub(crate) fn add_subscription(&mut self, filter: TopicFilter, subscription: Subscription) -> bool {
        let bytes = filter.as_str().len();
        let is_new = self.subscriptions.insert(filter, subscription).is_none();
        self.subscription_bytes += if is_new { bytes } else { 0 };
        self.outbox.note_subscriptions(self.subscriptions.len());
        is_new
    }

    /// Removes a subscription, and what it has not been sent of the retained messages; whether there was one.
    pub(crate) fn remove_subscription(&mut self, filter: &TopicFilter) -> bool {
        let removed = self.subscriptions.remove(filter).is_some();
        if removed {
            self.subscription_bytes -= filter.as_str().len();
            self.outbox.note_subscriptions(self.subscriptions.len());
        }
        removed
    }

    /// Sends the retained messages of a new subscription, from the beginning if it is being sent them already.
    ///
    /// Outdated replays are found by their number when their turn comes; there are never many more of them than there
    /// are subscriptions.
    pub(crate) fn replay(&mut self, replay: Replay) {
        if let Some(subscription) = self.subscriptions.get_mut(&replay.filter) {
            subscription.replay = self.replayed;
        }
        let replays = self.replays.get_or_insert_default();
        replays.push_back((self.replayed, replay));
        self.replayed += 1;
        if replays.len() > 2 * self.subscriptions.len() + 16 {
            let subscriptions = &self.subscriptions;
            replays.retain(|(number, replay)| is_current(subscriptions, *number, replay));
        }
    }

    /// Whether the message in flight with this Packet Identifier comes from the store.
    pub(crate) fn is_restored(&self, identifier: u16) -> bool {
        let place = self.inflight.place(identifier);
        place.is_some_and(|place| self.forwarding.is_restored(place))
    }

    /// Leaves these topics out of all replays.
    pub(crate) fn leave_out(&mut self, topics: Topics) {
        let topics = Arc::new(topics);
        let replays = self.replays.iter_mut().flat_map(|replays| replays.iter_mut());
        replays.for_each(|(_, replay)| replay.leave_out = Some(Arc::clone(&topics)));
    }

    /// Whether retained messages wait to be sent.
    pub(crate) fn is_replaying(&self) -> bool {
        self.replays.is_some()
    }

    /// The replay whose turn it is.
    pub(crate) fn current_replay(&mut self) -> Option<&Replay> {
        let replays = self.replays.as_mut()?;
        while let Some((number, replay)) = replays.front() {
            if is_current(&self.subscriptions, *number, replay) {
                break;
            }
            replays.pop_front();
        }
        if replays.is_empty() {
            self.replays = None;
        }
        self.replays.as_ref()?.front().map(|(_, replay)| replay)
    }

    /// The replay whose turn it is begins, if it has not: what is retained after this change is left out.
    pub(crate) fn begin_replay(&mut self, until: u64) {
        if let Some((_, replay)) = self.replays.as_mut().and_then(|replays| replays.front_mut())
            && replay.until == Replay::NOT_BEGUN
        {
            replay.until = until;
        }
    }

    /// The replay whose turn it is goes on at this topic; `None` if it is finished.
    pub(crate) fn move_replay(&mut self, cursor: Option<Arc<str>>) {
        let Some(replays) = &mut self.replays else { return };
        match (cursor, replays.front_mut()) {
            (Some(cursor), Some((_, replay))) => replay.cursor = cursor,
            _ => drop(replays.pop_front()),
        }
        if replays.is_empty() {
            self.replays = None;
        }
    }
}

/// Whether the subscription is still there and has not been made again since.
fn is_current(subscriptions: &Subscriptions, number: u64, replay: &Replay) -> bool {
    subscriptions
        .get(&replay.filter)
        .is_some_and(|subscription| subscription.replay == number)
}
