//! What all connections of one broker share, and the way of a publication through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::addresses::Addresses;
use super::cluster::{Cluster, NodeSettings};
use super::endings::Endings;
use super::memory::Memory;
use super::policy::{self, Policies, Policy};
use super::registry::Registry;
use super::timers::{Due, TimerKey, Timers};
use super::trace::TraceList;
use crate::config::Config;
use crate::events::{Event, EventSender};
use crate::hooks::{Hooks, Interests, PublishRequest, PublishVerdict};
use crate::identity::{ClientInfo, IdentifierSource};
use crate::message::Publication;
use crate::reason::ReasonCode;
use crate::router::{Full, LastMatch, Matches, RetainedStore, Router};
use crate::session::{Delivery, FrameScratch, Outbox, OutboxLimits, Outgoing, Placement, WakeUps, WillMessage};
use crate::stats::{Discard, Stats};
use crate::store::cluster::{ClusterOp, Once, Publishing};
use crate::store::{Journal, Op, Pen};
use crate::time::Clock;

/// See the module.
pub(crate) struct Core {
    pub(crate) policies: Policies,
    pub(crate) clock: Clock,
    pub(crate) router: Router,
    pub(crate) registry: Registry,
    pub(crate) timers: Timers,
    pub(crate) stats: Arc<Stats>,
    pub(crate) events: EventSender,
    pub(crate) hooks: Option<Arc<dyn Hooks>>,
    pub(crate) interests: Interests,
    pub(crate) trace: TraceList,
    /// Open connections, refused ones that are being told so included.
    pub(crate) connections: AtomicUsize,
    /// Those of each address.
    pub(crate) addresses: Addresses,
    /// Those that are served no more, and whose sockets are still there.
    pub(crate) lingering: AtomicUsize,
    pub(crate) memory: Memory,
    /// Told when the settings have changed.
    pub(super) reconfigured: Notify,
    /// Told when a connection has closed.
    pub(crate) connection_closed: Notify,
    /// Becomes true when the broker shuts down.
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) outbox_limits: Arc<OutboxLimits>,
    /// Distinguishes this broker from others, also after a restart.
    pub(crate) id: Arc<str>,
    pub(crate) identifiers: IdentifierSource,
    next_key: AtomicU64,
    /// Whether clients are told of others as Aedes does.
    pub(super) tells_aedes: bool,
    /// Causes for which a message was not retained, a bit for each, that the log has.
    complaints: AtomicU32,
    /// The one timer for the retained messages that expire.
    retained_sweep: Mutex<Option<TimerKey>>,
    /// What must outlive the process goes there; `None` if nothing must.
    pub(crate) journal: Option<Arc<Journal>>,
    pub(super) endings: Endings,
    /// The others, if this broker is a node of a cluster.
    pub(crate) cluster: Option<Arc<Cluster>>,
}

/// An expired retained message, which nobody gets any more, takes memory for this long: those of a while go together.
const SWEEP_DELAY: Duration = Duration::from_secs(1);

/// Reusable memory for routing; lent to a connection for a batch.
#[derive(Debug, Default)]
pub(crate) struct RouteScratch {
    pub(super) matches: Matches,
    pub(super) frames: FrameScratch,
    pub(super) wake_ups: WakeUps,
    /// Deliveries offered since the connection last let others run.
    pub(super) offers: usize,
}

impl RouteScratch {
    /// Wakes the subscribers of everything that was routed. To be called before the connection waits for anything.
    ///
    /// What was written to the journal goes to the store from here.
    pub(crate) fn wake_subscribers(&mut self) {
        self.wake_ups.carry_out(&mut self.frames);
    }

    /// Puts messages of Shared Subscriptions among those that wait for a client.
    pub(super) fn put_of_member(&mut self, session: &Arc<Outbox>, deliveries: Vec<Delivery>) {
        session.put_of_member(deliveries, &mut self.wake_ups);
    }

    /// What writes to the journal, until the connection waits for anything.
    pub(crate) fn pen(&mut self) -> &mut Pen {
        &mut self.wake_ups.pen
    }

    /// Takes the buffers of frames that have been written.
    pub(crate) fn reuse(&mut self, buffers: &mut Vec<Vec<u8>>) {
        buffers.drain(..).for_each(|buffer| self.frames.reuse(buffer));
    }

    /// The sessions that subscribe to this topic, Shared Subscriptions aside.
    pub(crate) fn subscribers(&mut self, router: &Router, topic: &str) -> impl Iterator<Item = Arc<Outbox>> {
        router.matching(topic, &mut self.matches);
        self.matches.outboxes()
    }

    /// Whether so much was delivered that others should run before the connection goes on.
    pub(crate) fn has_worked_long(&mut self) -> bool {
        const LONG: usize = 2000;
        let long = self.offers > LONG;
        if long {
            self.offers = 0;
        }
        long
    }

    /// Lets go of subscribers and of unusually large memory.
    pub(crate) fn trim(&mut self) {
        self.offers = 0;
        self.wake_ups.carry_out(&mut self.frames);
        self.matches.trim();
        self.frames.trim();
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Core {
    #[cfg(test)]
    pub(crate) fn new(policy: Policy, hooks: Option<Arc<dyn Hooks>>, journal: Option<Arc<Journal>>) -> Core {
        Core::of_node(policy, hooks, journal, None)
    }

    /// A broker; with settings for that, it is a node of a cluster.
    pub(crate) fn of_node(
        policy: Policy,
        hooks: Option<Arc<dyn Hooks>>,
        journal: Option<Arc<Journal>>,
        node: Option<NodeSettings>,
    ) -> Core {
        let stats = Arc::new(Stats::default());
        let identifiers = IdentifierSource::default();
        let config = Arc::clone(&policy.config);
        let outbox_limits = OutboxLimits::new(Arc::clone(&stats));
        outbox_limits.set(
            config.max_queued_messages,
            config.max_queued_bytes,
            config.queue_overflow,
        );
        let outbox_limits = Arc::new(outbox_limits);
        let cluster = node
            .zip(journal.clone())
            .map(|(node, journal)| Arc::new(Cluster::new(node, journal, &outbox_limits)));
        let clock = match &cluster {
            None => Clock::start(),
            // All nodes go by the same clock.
            Some(cluster) => Clock::set(cluster.store.time()),
        };
        Core {
            clock,
            router: Router::new(RetainedStore::new(
                config.max_retained_messages,
                config.max_retained_bytes,
                // In a cluster, it is the log that retains.
                journal.clone().filter(|_| cluster.is_none()),
            )),
            cluster,
            journal,
            endings: Endings::default(),
            registry: Registry::default(),
            timers: Timers::default(),
            stats,
            events: EventSender::new(),
            interests: hooks.as_ref().map_or(Interests::NONE, |hooks| hooks.interests()),
            hooks,
            trace: TraceList::default(),
            connections: AtomicUsize::new(0),
            addresses: Addresses::default(),
            lingering: AtomicUsize::new(0),
            memory: Memory::default(),
            reconfigured: Notify::new(),
            connection_closed: Notify::new(),
            stopping: watch::Sender::new(false),
            outbox_limits,
            next_key: AtomicU64::new(1),
            complaints: AtomicU32::new(0),
            retained_sweep: Mutex::default(),
            id: identifiers.broker_id(),
            identifiers,
            tells_aedes: config.aedes_sys_topics && config.sys_interval.is_some(),
            policies: Policies::new(policy),
        }
    }

    pub(crate) fn new_outbox(&self, client_id: Arc<str>) -> Arc<Outbox> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        Arc::new(Outbox::new(key, client_id, Arc::clone(&self.outbox_limits)))
    }

    /// The outbox of a session that was stored.
    pub(super) fn outbox_of(&self, key: u64, client_id: Arc<str>) -> Arc<Outbox> {
        Arc::new(Outbox::new(key, client_id, Arc::clone(&self.outbox_limits)))
    }

    /// New sessions are to have other keys than those below this one.
    pub(super) fn keys_from(&self, key: u64) {
        self.next_key.fetch_max(key, Ordering::Relaxed);
    }

    /// Sends a publication to all sessions that subscribe to it [MQTT-4.5.0-1] and retains it if it says so; whether
    /// there was a subscriber. `origin` is the session of its publisher, `last` what it remembers.
    pub(crate) fn route(
        &self,
        publication: &Publication<'_>,
        origin: Option<&Origin<'_>>,
        scratch: &mut RouteScratch,
        last: &mut LastMatch,
    ) -> bool {
        if let Some(cluster) = &self.cluster {
            return self.route_in_cluster(cluster, publication, origin, scratch, last, None);
        }
        let RouteScratch {
            matches,
            frames,
            wake_ups,
            offers,
        } = scratch;
        let mut outgoing = Outgoing::new(publication, frames, &self.clock);
        if publication.retain {
            // What the broker tells of itself is little, and most wanted then.
            let is_own = origin.is_none() && publication.topic.starts_with("$SYS/");
            self.retain(&mut outgoing, is_own, &mut wake_ups.pen);
        }
        let matches = self.router.recall(publication.topic, last, matches);
        let found = !matches.is_empty();
        *offers += 1 + matches.len();
        matches.for_each_client(publication, origin.map(|origin| origin.key), |route, terms| {
            route.outbox.offer(&mut outgoing, terms, Placement::Here, wake_ups);
        });
        for group in matches.groups() {
            if !group.deliver(&mut outgoing, wake_ups) {
                self.no_member(publication.topic);
            }
        }
        wake_ups.pen.end_message(publication);
        self.events.emit(|| Event::Published {
            client: origin.and_then(|origin| origin.client.cloned()),
            message: Arc::clone(outgoing.message()),
        });
        found
    }

    /// Gives a message of a Shared Subscription to another member, since its session has ended.
    pub(crate) fn reroute_shared(&self, delivery: &Delivery, scratch: &mut RouteScratch) {
        let Some(filter) = delivery.share() else { return };
        let publication = delivery.message.as_publication();
        let mut outgoing = Outgoing::of_message(
            Arc::clone(&delivery.message),
            &publication,
            &mut scratch.frames,
            &self.clock,
        );
        let group = self.router.group(filter);
        let wake_ups = &mut scratch.wake_ups;
        let taken = match (&self.cluster, group) {
            (_, None) => false,
            (None, Some(group)) => group.deliver(&mut outgoing, wake_ups),
            (Some(cluster), Some(group)) => group.choose(&publication, |route, terms, placement| {
                cluster.give(route, terms, placement, &mut outgoing, None, wake_ups)
            }),
        };
        let publishing = Publishing {
            only: Some(filter.as_str()),
            ..Publishing::default()
        };
        match &self.cluster {
            None => scratch.wake_ups.pen.end_message(&publication),
            Some(_) => scratch.wake_ups.pen.end_publish(&publication, &publishing),
        }
        if !taken {
            self.no_member(publication.topic);
        }
    }

    pub(super) fn no_member(&self, topic: &str) {
        tracing::debug!(
            topic,
            "discarding a message: no member of the shared subscription can take it"
        );
        self.stats.discarded(Discard::NoShareMember, 1);
    }

    /// Publishes a will whose time has come. With a hook to ask, in a task of its own. `done` is dropped afterwards.
    pub(crate) fn publish_will(self: &Arc<Core>, will: Box<WillMessage>, key: u64, done: impl Send + 'static) {
        self.publish_will_once(will, key, None, done);
    }

    /// The same; in a cluster, as the message that must have effect `once`.
    pub(super) fn publish_will_once(
        self: &Arc<Core>,
        will: Box<WillMessage>,
        key: u64,
        once: Option<Once>,
        done: impl Send + 'static,
    ) {
        if !self.interests.authorize_publish && !self.interests.published {
            return self.route_will(&will, key, once, &mut RouteScratch::default());
        }
        let core = Arc::clone(self);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                core.publish_authorized_will(will, key, once).await;
                drop(done);
            });
        }
    }

    /// The will of this session has been published, or is not to be.
    pub(crate) fn note_will_end(&self, key: u64, scratch: &mut RouteScratch) {
        if let Some(journal) = self.journal.as_ref().filter(|_| self.cluster.is_none()) {
            scratch.pen().write(journal, &Op::WillEnd { uid: key });
        }
    }

    /// The same of a will that is not to be published, and that has become a job.
    fn note_will_refused(&self, key: u64, once: Option<Once>, scratch: &mut RouteScratch) {
        self.note_will_end(key, scratch);
        if let (Some(journal), Some(Once { mid, bucket, .. })) = (&self.journal, once) {
            let finish = ClusterOp::Finish { bucket, mid };
            scratch.pen().write(journal, &Op::Cluster(finish));
        }
    }

    fn route_will(&self, will: &WillMessage, key: u64, once: Option<Once>, scratch: &mut RouteScratch) {
        let origin = Origin {
            key,
            client: Some(&will.client),
        };
        let publication = will.message.as_publication(self.clock.now());
        let policy = self.policies.last_of(will.client.peer.listener.as_deref());
        let may_publish = policy.access.may_publish(&will.client, publication.topic);
        if !may_publish {
            tracing::info!(
                client = &*will.client.client_id,
                topic = publication.topic,
                "the will was not allowed"
            );
            return self.note_will_refused(key, once, scratch);
        }
        if let Some((cluster, once)) = self.cluster.as_ref().zip(once) {
            self.publish_once(cluster, &publication, &origin, once, scratch);
        } else {
            self.route(&publication, Some(&origin), scratch, &mut LastMatch::default());
        }
        // In one step with what becomes of it, so that it is published once: behind it, since a retained message begins a
        // step of its own.
        self.note_will_end(key, scratch);
    }

    async fn publish_authorized_will(self: Arc<Core>, mut will: Box<WillMessage>, key: u64, once: Option<Once>) {
        let client = Arc::clone(&will.client);
        if let Some(verdict) = self
            .ask_publish(&client, &will.message.as_publication(self.clock.now()), true)
            .await
        {
            match verdict {
                PublishVerdict::Allow => {}
                PublishVerdict::Rewrite(message) => will.message = message,
                PublishVerdict::Refuse(reason) => {
                    tracing::info!(client = &*client.client_id, %reason, "the will was refused");
                    self.note_will_refused(key, once, &mut RouteScratch::default());
                    return;
                }
            }
        }
        self.route_will(&will, key, once, &mut RouteScratch::default());
        self.tell_published(Some(&client), &will.message.as_publication(self.clock.now()), true)
            .await;
    }

    /// Asks the hook whether a client may publish; `None` if there is no such hook.
    pub(crate) async fn ask_publish(
        &self,
        client: &ClientInfo,
        publication: &Publication<'_>,
        is_will: bool,
    ) -> Option<PublishVerdict> {
        let hooks = self.hooks.as_ref().filter(|_| self.interests.authorize_publish)?;
        Some(
            hooks
                .authorize_publish(client, &PublishRequest { publication, is_will })
                .await,
        )
    }

    /// Tells the hook that a message was routed.
    pub(crate) async fn tell_published(
        &self,
        client: Option<&ClientInfo>,
        publication: &Publication<'_>,
        is_will: bool,
    ) {
        if let Some(hooks) = self.hooks.as_ref().filter(|_| self.interests.published) {
            hooks.published(client, &PublishRequest { publication, is_will }).await;
        }
    }

    pub(super) fn retain(&self, outgoing: &mut Outgoing<'_>, is_own: bool, pen: &mut Pen) {
        let publication = outgoing.publication();
        if publication.payload.is_empty() {
            return self.router.retained.clear(publication.topic, pen);
        }
        let is_full = self.memory.is_full() && !is_own;
        let message = Arc::clone(outgoing.message());
        let retained = match is_full {
            true => self.router.retained.replace(message, pen),
            false => self.router.retained.set(message, pen),
        };
        match retained {
            Ok(true) => self.arm_retained_sweep(),
            Ok(false) => {}
            Err(Full) if is_full => {
                self.not_retained(
                    Discard::MemoryShort,
                    "memory is full: messages are delivered, but not retained",
                );
            }
            Err(Full) => self.not_retained(
                Discard::RetainedFull,
                "too many retained messages: further ones are delivered, but not retained",
            ),
        }
    }

    /// The log has the first for a cause only.
    fn not_retained(&self, cause: Discard, complaint: &str) {
        self.stats.discarded(cause, 1);
        let bit = 1 << cause as u8;
        if self.complaints.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            tracing::warn!("{complaint}");
        }
    }

    /// Sets the timer to the first retained message that expires, if it is not set to an earlier time. Without such a
    /// message, there is no timer but perhaps a last one that was set for a message that has gone.
    pub(super) fn arm_retained_sweep(&self) {
        if self.cluster.is_some() {
            // It is the log that removes them.
            return;
        }
        let mut armed = self.retained_sweep.lock();
        let Some(first) = self.router.retained.first_expiry() else {
            return;
        };
        let at = first.plus(SWEEP_DELAY);
        if armed.is_some_and(|key| key.at() <= at) {
            return;
        }
        if let Some(later) = armed.take() {
            self.timers.cancel(later);
        }
        *armed = Some(self.timers.set(at, Due::RetainedSweep));
    }

    /// Removes some of the retained messages that have expired; for more, the timer is due again at once.
    pub(crate) fn sweep_retained(&self) {
        // Mostly the timer that has just gone off, but another may have been set since.
        if let Some(key) = self.retained_sweep.lock().take() {
            self.timers.cancel(key);
        }
        self.router.retained.sweep(self.clock.now(), &mut Pen::default());
        self.arm_retained_sweep();
    }

    /// Settings of the broker as a whole.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.policies.default().config
    }

    /// What clients are told when the broker shuts down.
    pub(crate) fn farewell(&self) -> ReasonCode {
        let config = self.config();
        match config.server_reference {
            Some(_) if config.server_moved => ReasonCode::ServerMoved,
            _ => self.farewell_for_now(),
        }
    }

    /// The same if they may come back.
    pub(crate) fn farewell_for_now(&self) -> ReasonCode {
        match self.config().server_reference {
            Some(_) => ReasonCode::UseAnotherServer,
            None => ReasonCode::ServerShuttingDown,
        }
    }

    /// Puts other settings into force: for the broker as a whole at once, for connections when they begin. What the
    /// clients may do is to be rechecked.
    pub(crate) fn reconfigure(&self, edit: impl FnOnce(&mut policy::Set)) {
        let config = self.policies.edit(edit).config;
        self.outbox_limits.set(
            config.max_queued_messages,
            config.max_queued_bytes,
            config.queue_overflow,
        );
        self.router
            .retained
            .limit(config.max_retained_messages, config.max_retained_bytes);
        self.reconfigured.notify_one();
    }
}

/// The session that a publication comes from, and its client, if that is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) key: u64,
    pub(crate) client: Option<&'a Arc<ClientInfo>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::memory::Pressure;
    use crate::packet::QoS;

    #[test]
    fn full_memory_takes_no_more_retained_messages() {
        let core = Core::new(Policy::default(), None, None);
        let retain = |topic, payload: &[u8]| {
            let publication = Publication {
                topic,
                payload,
                properties: &[],
                expires_at: None,
                qos: QoS::AtMostOnce,
                retain: true,
            };
            core.route(
                &publication,
                None,
                &mut RouteScratch::default(),
                &mut LastMatch::default(),
            );
            core.router.retained.holds(topic, payload)
        };
        let payload = vec![b'x'; 5000];
        assert!(retain("a", &payload) && retain("b", b"1") && retain("c", b"1"));
        core.memory.set(Pressure::Full);
        // In the place of one that is as large, or small.
        assert!(retain("a", &payload[1..]) && retain("b", &payload[..500]));
        assert!(retain("$SYS/broker/uptime", b"1 seconds"));
        assert_eq!(core.stats.all_discards(), 0);
        assert!(!retain("new", b"1"));
        // What was there is out of date.
        assert!(!retain("c", &payload) && !core.router.retained.holds("c", b"1"));
        assert_eq!(core.stats.discards(Discard::MemoryShort), 2);
        assert_eq!(core.stats.discards(Discard::RetainedFull), 0);
        core.memory.set(Pressure::None);
        assert!(retain("new", &payload));
    }
}
