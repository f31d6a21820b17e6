//! The broker as a program sees it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use crate::access::Access;
use crate::broker::cluster::NodeSettings;
use crate::broker::policy::Policy;
use crate::broker::program::{self, PublishError, SubscribeError, Subscription, Subscriptions};
use crate::broker::{Core, Due, memory, metrics, sys};
use crate::config::Config;
use crate::connection::{self, Place};
use crate::events::Events;
use crate::hooks::Hooks;
use crate::identity::Peer;
use crate::message::NewMessage;
use crate::packet::QoS;
use crate::reason::ReasonCode;
use crate::server::{self, Listener};
#[cfg(feature = "redis")]
use crate::session::QueueOverflow;
#[cfg(feature = "redis")]
use crate::store::cluster::Limits;
use crate::store::{self, Journal, Persistence, Store, StoreError};

/// A running broker: a handle that is cheap to clone. There is no global state, so a program may run several.
///
/// The broker runs on the tokio runtime in which it was started. When the last handle is dropped its timers stop;
/// connections that are still open should have been ended with [`Broker::shutdown`] before.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use mqtt_broker::{Broker, Config};
///
/// let broker = Broker::start(Config::default());
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:1883").await?;
/// broker.serve(listener).await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Broker {
    pub(crate) core: Arc<Core>,
    subscriptions: Arc<Subscriptions>,
    _background: Arc<Background>,
}

/// What ends with the last handle.
#[derive(Debug)]
struct Background {
    tasks: Vec<AbortHandle>,
    journal: Option<Arc<Journal>>,
}

impl Drop for Background {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        if let Some(journal) = &self.journal {
            journal.let_go();
        }
    }
}

/// Settings of a broker that is about to start.
#[derive(Default)]
pub struct Builder {
    config: Config,
    hooks: Option<Arc<dyn Hooks>>,
    access: Access,
    persistence: Persistence,
}

impl Builder {
    /// Sets limits and behaviour.
    #[must_use]
    pub fn config(mut self, config: Config) -> Builder {
        self.config = config;
        self
    }

    /// Sets the hooks that decide who may do what.
    #[must_use]
    pub fn hooks(mut self, hooks: impl Hooks) -> Builder {
        self.hooks = Some(Arc::new(hooks));
        self
    }

    /// Sets who may do what, by files. Hooks are asked besides.
    #[must_use]
    pub fn access(mut self, access: Access) -> Builder {
        self.access = access;
        self
    }

    /// Sets where sessions, their messages, wills and retained messages are kept.
    #[must_use]
    pub fn persistence(mut self, persistence: Persistence) -> Builder {
        self.persistence = persistence;
        self
    }

    /// Starts the broker in the current tokio runtime, with a store that can always be opened: in memory.
    ///
    /// # Panics
    /// Outside of a tokio runtime, or if [another store](Builder::persistence) can't be opened; see
    /// [`Builder::try_start`].
    #[must_use]
    pub fn start(self) -> Broker {
        match self.try_start() {
            Ok(broker) => broker,
            Err(error) => panic!("the store can't be opened: {error}"),
        }
    }

    /// Opens the store and starts the broker with what is in it, in the current tokio runtime. Blocks meanwhile.
    ///
    /// # Errors
    /// If the store can't be opened, or what it holds can't be read.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn try_start(mut self) -> Result<Broker, StoreError> {
        let persistence = std::mem::take(&mut self.persistence);
        #[cfg(feature = "redis")]
        if let Persistence::Redis(settings) = &persistence {
            let limits = Limits {
                queue_messages: self.config.max_queued_messages as u64,
                queue_bytes: self.config.max_queued_bytes as u64,
                drops_oldest: self.config.queue_overflow == QueueOverflow::DropOldest,
                retained_messages: self.config.max_retained_messages as u64,
            };
            let store = store::open_shared(settings, limits)?;
            let node = NodeSettings {
                store: Arc::clone(&store),
                lease: settings.lease,
                name: settings.node_name.as_str().into(),
                isolation_limit: settings.isolation_limit,
            };
            let started = self.start_as(Some(Arc::clone(&store) as _), Some(node));
            if started.is_err() {
                // Whoever tries again finds what there is to be put in order.
                store.hand_over(Vec::new());
            }
            return started;
        }
        let store = store::open(&persistence)?;
        self.start_with(store)
    }

    pub(crate) fn start_with(self, store: Option<Arc<dyn Store>>) -> Result<Broker, StoreError> {
        self.start_as(store, None)
    }

    fn start_as(self, store: Option<Arc<dyn Store>>, node: Option<NodeSettings>) -> Result<Broker, StoreError> {
        let journal = store.map(Journal::start).transpose()?;
        let sys_interval = self.config.sys_interval;
        let policy = Policy {
            config: Arc::new(self.config),
            access: self.access,
        };
        let core = Arc::new(Core::of_node(policy, self.hooks, journal.clone(), node));
        let mut tasks = vec![tokio::spawn(run_timers(Arc::clone(&core))).abort_handle()];
        tasks.push(tokio::spawn(memory::watch(Arc::clone(&core))).abort_handle());
        if let Some(interval) = sys_interval {
            tasks.push(tokio::spawn(sys::run(Arc::clone(&core), interval)).abort_handle());
        }
        let mut background = Background { tasks, journal };
        core.restore()?;
        background.tasks.extend(core.join_cluster()?);
        Ok(Broker {
            core,
            subscriptions: Arc::default(),
            _background: Arc::new(background),
        })
    }
}

impl Broker {
    /// Starts a broker without hooks in the current tokio runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(config: Config) -> Broker {
        Broker::builder().config(config).start()
    }

    /// A broker with more than a [`Config`].
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Accepts connections until the broker is shut down: plain ones on a `TcpListener` or `UnixListener`, others on a
    /// [`Listener`]. A program may serve several. Dropping the future
    /// closes the listener; the connections go on.
    ///
    /// # Errors
    /// If the listener fails for good. Errors of single connections and a shortage of file descriptors do not end it.
    pub async fn serve(&self, listener: impl Into<Listener>) -> std::io::Result<()> {
        server::accept(Arc::clone(&self.core), listener.into()).await
    }

    /// Serves one connection that the program has accepted, over any transport, until it ends.
    ///
    /// Dropping the future closes the connection as if the network had failed.
    pub async fn handle(&self, io: impl AsyncRead + AsyncWrite + Send + Unpin, peer: impl Into<Peer>) {
        connection::serve(io, None, peer.into(), Place::enter(&self.core)).await;
    }

    /// Publishes a message. It is on its way to all subscribers when this returns. No hook is asked for permission.
    ///
    /// Waits while a connected subscriber, or a [`Subscription`] of the program, has more than half of what its queue
    /// may hold waiting, for at most [`Config::write_timeout`], so that a program that publishes without pause does not
    /// overrun its subscribers. The message is on its way meanwhile: dropping the future does not take it back.
    ///
    /// # Errors
    /// If the broker's settings do not allow the message.
    pub async fn publish(&self, message: NewMessage) -> Result<(), PublishError> {
        program::publish(&self.core, message).await
    }

    /// Subscribes to messages from within the program: retained ones first, except with a Shared Subscription, which
    /// the program may be a member of. The stream is bounded like the queue of a client, and what does not fit is
    /// discarded as it is for a client.
    ///
    /// # Errors
    /// If `filter` is no valid Topic Filter.
    pub fn subscribe(&self, filter: &str, qos: QoS) -> Result<Subscription, SubscribeError> {
        Subscription::new(&self.core, &self.subscriptions, filter, qos)
    }

    /// Events from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.core.events.subscribe()
    }

    /// Closes the connection of a client with this Reason Code, 0x80 or above; whether it was connected. Its will is
    /// published and its session kept, as after any connection that the client has not ended itself.
    pub fn disconnect(&self, client_id: &str, reason: ReasonCode) -> bool {
        let reason = if reason.is_error() {
            reason
        } else {
            ReasonCode::AdministrativeAction
        };
        self.core.disconnect(client_id, reason)
    }

    /// Looks again at what each connected client may do, after [`Access::reload`]: users who are no more are
    /// disconnected (0x87), subscriptions that are not allowed any more end.
    pub fn recheck(&self) {
        for outbox in self.core.registry.online_outboxes() {
            outbox.signal(|signals| signals.recheck = true);
        }
    }

    /// The broker's counters in the text format of Prometheus. Walks over all sessions.
    #[must_use]
    pub fn metrics(&self) -> String {
        metrics::render(&self.core)
    }

    /// Replaces the limits: those of the broker as a whole at once, those of connections for connections that begin from
    /// now on. What is started with the broker stays as it was: [`Config::sys_interval`], [`Config::aedes_sys_topics`].
    pub fn reconfigure(&self, config: Config) {
        self.core
            .reconfigure(|policies| policies.default.config = Arc::new(config));
    }

    /// Gives the listener of that name limits and rules of its own, or other ones. It may be called before the listener
    /// is served. Of `config`, what concerns the broker as a whole is not looked at; [`Config::max_connections`] is
    /// counted for this listener alone.
    ///
    /// Clients that are connected keep their limits, and the rules until [`Broker::recheck`].
    pub fn reconfigure_listener(&self, name: impl Into<Arc<str>>, config: Config, access: Access) {
        let config = Arc::new(config);
        self.core.reconfigure(|policies| {
            policies.name(name.into(), Policy { config, access });
        });
    }

    /// Waits until the store is lost for good: another broker has taken it over, this node of a cluster was declared dead, or Redis has
    /// lost what it had confirmed. Why. A broker that goes on then acknowledges nothing that must be kept; it should end.
    ///
    /// A program that starts another one for it uses a clone of the same [`RedisSettings`](crate::RedisSettings): what this broker remembers of what Redis
    /// has lost is there, once this has returned.
    pub async fn store_lost(&self) -> StoreError {
        match &self.core.journal {
            Some(journal) => {
                let error = journal.lost().await;
                self.core.hand_over();
                error
            }
            None => std::future::pending().await,
        }
    }

    /// Waits until clients can be served: a node of a cluster may have to put in order before what Redis has lost.
    #[cfg(feature = "cli")]
    pub(crate) async fn until_settled(&self) {
        if let Some(cluster) = &self.core.cluster {
            cluster.until_settled().await;
        }
    }

    /// Whether [`Broker::shutdown`] has begun.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.core.stopping.borrow()
    }

    /// Whether the store takes no changes now, so that nothing which rests on one is acknowledged.
    #[must_use]
    pub fn is_store_failing(&self) -> bool {
        self.core.is_store_down()
    }

    /// Connected clients.
    #[must_use]
    pub fn connected_clients(&self) -> usize {
        self.core.registry.online()
    }
}

/// Sets off what is due.
async fn run_timers(core: Arc<Core>) {
    loop {
        let mut count = 0;
        while let Some(due) = core.timers.pop_due(core.clock.now()) {
            let is_long = matches!(due, Due::RetainedSweep);
            set_off(&core, due);
            count += 1;
            if is_long || count % TIMERS_AT_A_TIME == 0 {
                tokio::task::yield_now().await;
            }
        }
        let earlier = core.timers.earlier.notified();
        match core.timers.next_due() {
            // A little late, so that what is due at almost the same time shares a wake-up.
            Some(at) => {
                let at = core.clock.instant(at) + TIMER_SLACK;
                let _ = tokio::time::timeout_at(at, earlier).await;
            }
            None => earlier.await,
        }
    }
}

const TIMER_SLACK: Duration = Duration::from_millis(2);
/// So many timers go off before other tasks of the thread have their turn.
const TIMERS_AT_A_TIME: usize = 64;

/// A panic is the end of one timer, and not of those of all sessions. What it leaves half done is no less sound than
/// after a panic in a connection: no lock is poisoned.
fn set_off(core: &Arc<Core>, due: Due) {
    let set_off = || match due {
        Due::Alarm(outbox) => outbox.signal(|signals| signals.alarm = true),
        Due::Session(client_id) => core.session_due(&client_id),
        Due::RetainedSweep => core.sweep_retained(),
    };
    if catch_unwind(AssertUnwindSafe(set_off)).is_err() {
        tracing::error!("a timer has panicked: this is a fault of the broker");
    }
}

mod inspect;
#[cfg(test)]
mod kept_hooks_tests;
#[cfg(test)]
mod kept_tests;
mod shutdown;
#[cfg(test)]
mod tests;
