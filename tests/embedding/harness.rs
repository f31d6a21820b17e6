//! A broker inside the test process, hooks made of closures, and a client on an in-memory pipe.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mqtt_broker::{
    Broker, ClientInfo, Config, ConnectRequest, Event, Events, ForwardVerdict, Hooks, Interests, Listener, Message,
    NewMessage, NextEvent, Peer, PublishRequest, PublishVerdict, QoS, ReasonCode, ReceivedMessage, SubscribeVerdict,
    Subscription, SubscriptionOptions, TopicFilter, async_trait,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::common::{Client, Connack, Connect, DEADLINE, Packet, Version, wire};

/// A broker that serves TCP on a free port of the loopback interface.
pub struct Embedded {
    pub broker: Broker,
    addr: SocketAddr,
    serving: Option<JoinHandle<io::Result<()>>>,
    // Last, so that the broker's handle goes while there is a runtime.
    runtime: Runtime,
}

/// The defaults, without `$SYS`.
pub fn config() -> Config {
    let mut config = Config::default();
    config.sys_interval = None;
    config
}

impl Embedded {
    /// With default settings and no hooks.
    pub fn start() -> Embedded {
        Embedded::launch(config(), None::<Script>)
    }

    pub fn with_config(change: impl FnOnce(&mut Config)) -> Embedded {
        let mut config = config();
        change(&mut config);
        Embedded::launch(config, None::<Script>)
    }

    pub fn with_hooks(hooks: impl Hooks) -> Embedded {
        Embedded::launch(config(), Some(hooks))
    }

    pub fn launch(config: Config, hooks: Option<impl Hooks>) -> Embedded {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        Embedded::on(runtime.expect("a runtime"), config, hooks)
    }

    /// On this runtime.
    pub fn on(runtime: Runtime, config: Config, hooks: Option<impl Hooks>) -> Embedded {
        let guard = runtime.enter();
        let builder = Broker::builder().config(config);
        let broker = match hooks {
            Some(hooks) => builder.hooks(hooks).start(),
            None => builder.start(),
        };
        drop(guard);
        let (addr, serving) = serve(&runtime, &broker);
        Embedded {
            broker,
            addr,
            serving: Some(serving),
            runtime,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Opens a second listener.
    pub fn serve_another(&self) -> (SocketAddr, JoinHandle<io::Result<()>>) {
        serve(&self.runtime, &self.broker)
    }

    /// Opens a listener with layers; where it listens.
    pub fn serve_on(&self, layers: impl FnOnce(Listener) -> Listener) -> SocketAddr {
        let listener = self
            .runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let (broker, listener) = (self.broker.clone(), layers(listener.into()));
        self.runtime.spawn(async move { broker.serve(listener).await });
        addr
    }

    /// Waits until [`Broker::serve`] has returned.
    pub fn served(&mut self) -> io::Result<()> {
        let serving = self.serving.take().expect("asked for once");
        self.wait(serving).expect("serve does not panic")
    }

    /// Waits for something of the library, for at most [`DEADLINE`].
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.wait_within(DEADLINE, future)
    }

    pub fn wait_within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> T {
        let outcome = self
            .runtime
            .block_on(async { tokio::time::timeout(limit, future).await });
        outcome.unwrap_or_else(|_| panic!("not finished within {limit:?}"))
    }

    /// Connects and expects to be accepted.
    pub fn connect(&self, connect: Connect) -> Client {
        let client = self.try_connect(connect);
        assert_eq!(
            client.connack.code, 0,
            "{} is not accepted: {:?}",
            client.name, client.connack
        );
        client
    }

    /// Connects and returns whatever CONNACK comes, in [`Client::connack`].
    pub fn try_connect(&self, connect: Connect) -> Client {
        let mut client = self.begin_connect(connect);
        client.connack = client.recv_connack();
        client
    }

    /// Sends CONNECT and does not wait for an answer.
    pub fn begin_connect(&self, connect: Connect) -> Client {
        let mut client = Client::open(self.addr, connect.version);
        client.name = connect.client_id.clone();
        client.send(connect);
        client
    }

    /// Expects to be refused with this code and cut.
    pub fn expect_refused(&self, connect: Connect, code: u8) -> Connack {
        let mut client = self.try_connect(connect);
        assert_eq!(
            client.connack.code, code,
            "refused, but not as expected: {:?}",
            client.connack
        );
        client.expect_closed();
        client.connack
    }

    pub fn v5(&self, client_id: &str) -> Client {
        self.connect(Connect::v5(client_id))
    }

    pub fn v311(&self, client_id: &str) -> Client {
        self.connect(Connect::v311(client_id))
    }

    /// Connects over an in-memory pipe of `size` bytes.
    pub fn pipe(&self, connect: Connect, size: usize) -> Pipe<'_> {
        let mut pipe = self.open_pipe(connect.version, size, Peer::default());
        pipe.send(connect);
        match pipe.recv() {
            Packet::Connack(connack) if connack.code == 0 => pipe,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// An in-memory pipe on which nothing has been sent.
    pub fn open_pipe(&self, version: Version, size: usize, peer: Peer) -> Pipe<'_> {
        self.open_pipe_with(&[], version, size, peer)
    }

    /// An in-memory pipe in which these bytes are when the broker gets its end.
    pub fn open_pipe_with(&self, bytes: &[u8], version: Version, size: usize, peer: Peer) -> Pipe<'_> {
        let (mut near, far) = tokio::io::duplex(size);
        self.wait(near.write_all(bytes)).expect("the pipe is large enough");
        let broker = self.broker.clone();
        let handling = self.runtime.spawn(async move { broker.handle(far, peer).await });
        Pipe {
            embedded: self,
            io: near,
            handling,
            version,
            received: Vec::new(),
        }
    }

    /// Publishes from the program.
    pub fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>, qos: u8) {
        self.publish_message(message(topic, payload, qos));
    }

    pub fn publish_message(&self, message: NewMessage) {
        self.wait(self.broker.publish(message)).expect("published");
    }

    /// Subscribes from the program.
    pub fn subscribe(&self, filter: &str, qos: u8) -> Subscription {
        self.broker.subscribe(filter, level(qos)).expect("a valid Topic Filter")
    }

    /// The next message of a subscription of the program.
    pub fn next(&self, subscription: &mut Subscription) -> ReceivedMessage {
        self.wait(subscription.next())
            .expect("the broker has not been shut down")
    }

    /// Expects this message next.
    pub fn expect_next(&self, subscription: &mut Subscription, topic: &str, payload: &str) -> ReceivedMessage {
        let received = self.next(subscription);
        let seen = (received.message.topic(), received.message.payload());
        assert_eq!(seen, (topic, payload.as_bytes()));
        received
    }

    /// The next event.
    pub fn event(&self, events: &mut Events) -> Event {
        match self.wait(events.next()) {
            Some(NextEvent::Event(event)) => event,
            other => panic!("not an event: {other:?}"),
        }
    }

    /// Skips events up to the one for which `wanted` yields something.
    pub fn find_event<T>(&self, events: &mut Events, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(&self.event(events)) {
                return found;
            }
        }
    }

    /// Proves that `client` is to receive nothing that the program or a client has caused so far, at any QoS.
    pub fn assert_nothing_for(&self, client: &mut Client) {
        let mut other = self.v5("");
        client.assert_nothing_from(&mut other);
        other.disconnect();
    }
}

fn serve(runtime: &Runtime, broker: &Broker) -> (SocketAddr, JoinHandle<io::Result<()>>) {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let broker = broker.clone();
    (addr, runtime.spawn(async move { broker.serve(listener).await }))
}

pub fn message(topic: &str, payload: impl Into<Vec<u8>>, qos: u8) -> NewMessage {
    NewMessage::new(topic, payload)
        .expect("a valid Topic Name")
        .qos(level(qos))
}

pub fn level(qos: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)]
}

/// A client of [`Broker::handle`].
pub struct Pipe<'a> {
    embedded: &'a Embedded,
    io: DuplexStream,
    handling: JoinHandle<()>,
    version: Version,
    received: Vec<u8>,
}

impl Pipe<'_> {
    pub fn send(&mut self, packet: impl Into<Packet>) {
        let bytes = packet.into().encode(self.version);
        self.send_bytes(&bytes);
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.embedded.wait(self.io.write_all(bytes)).expect("the broker reads");
    }

    pub fn recv(&mut self) -> Packet {
        self.recv_or_closed().expect("a packet, not the end")
    }

    pub fn recv_or_closed(&mut self) -> Option<Packet> {
        loop {
            if let Some((first, body, size)) = wire::split(&self.received) {
                let packet = Packet::decode(self.version, first, body);
                self.received.drain(..size);
                return Some(packet);
            }
            let mut buffer = [0; 4096];
            match self.embedded.wait(self.io.read(&mut buffer)) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// PINGREQ, and PINGRESP next.
    pub fn ping(&mut self) {
        self.send(Packet::Pingreq);
        assert_eq!(self.recv(), Packet::Pingresp);
    }

    /// Drops the future of [`Broker::handle`], and waits until it is gone; what is left of the pipe.
    pub fn cancel(self) -> DuplexStream {
        self.handling.abort();
        let ended = self.embedded.wait(self.handling);
        assert!(
            ended.is_err_and(|error| error.is_cancelled()),
            "the connection was still there"
        );
        self.io
    }

    /// Closes the client's end and waits until [`Broker::handle`] has returned.
    pub fn hang_up(self) {
        drop(self.io);
        self.embedded.wait(self.handling).expect("no panic");
    }

    /// Waits until [`Broker::handle`] has returned.
    pub fn ended(self) {
        self.embedded.wait(self.handling).expect("no panic");
    }
}

/// Notes of hooks, for tests to read.
#[derive(Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub fn add(&self, note: impl Into<String>) {
        self.0.lock().expect("not poisoned").push(note.into());
    }

    pub fn len(&self) -> usize {
        self.0.lock().expect("not poisoned").len()
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("not poisoned"))
    }
}

/// A place where a hook waits until the test lets it go on.
#[derive(Clone)]
pub struct Gate {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate {
            arrived: Arc::new(Semaphore::new(0)),
            open: Arc::new(Semaphore::new(0)),
        }
    }
}

impl Gate {
    /// For the hook.
    pub async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.acquire().await.expect("never closed").forget();
    }

    /// Waits until one more hook has arrived.
    pub fn wait_for_arrival(&self, embedded: &Embedded) {
        embedded.wait(self.arrived.acquire()).expect("never closed").forget();
    }

    /// Lets one hook go on.
    pub fn let_one_pass(&self) {
        self.open.add_permits(1);
    }

    /// Lets all go on, from now on.
    pub fn open(&self) {
        self.open.add_permits(10_000);
    }
}

type Verdict = Result<(), ReasonCode>;
type ConnectHook = Box<dyn Fn(&ConnectRequest<'_>) -> Verdict + Send + Sync>;
type PublishHook = Box<dyn Fn(&ClientInfo, &PublishRequest<'_>) -> PublishVerdict + Send + Sync>;
type SubscribeHook = Box<dyn Fn(&ClientInfo, &TopicFilter, SubscriptionOptions) -> SubscribeVerdict + Send + Sync>;
type ForwardHook = Box<dyn Fn(&ClientInfo, &Message) -> ForwardVerdict + Send + Sync>;
type PublishedHook = Box<dyn Fn(Option<&ClientInfo>, &PublishRequest<'_>) + Send + Sync>;

/// Hooks made of closures: those without one are not among the interests.
#[derive(Default)]
pub struct Script {
    interests: Option<Interests>,
    on_connect: Option<ConnectHook>,
    authenticate: Option<ConnectHook>,
    publish: Option<PublishHook>,
    subscribe: Option<SubscribeHook>,
    forward: Option<ForwardHook>,
    published: Option<PublishedHook>,
    gates: Vec<(&'static str, Gate)>,
}

impl Script {
    pub fn new() -> Script {
        Script::default()
    }

    /// Whatever hooks there are.
    pub fn interests(self, interests: Interests) -> Script {
        Script {
            interests: Some(interests),
            ..self
        }
    }

    pub fn on_connect(self, hook: impl Fn(&ConnectRequest<'_>) -> Verdict + Send + Sync + 'static) -> Script {
        Script {
            on_connect: Some(Box::new(hook)),
            ..self
        }
    }

    pub fn authenticate(self, hook: impl Fn(&ConnectRequest<'_>) -> Verdict + Send + Sync + 'static) -> Script {
        Script {
            authenticate: Some(Box::new(hook)),
            ..self
        }
    }

    pub fn authorize_publish(
        self,
        hook: impl Fn(&ClientInfo, &PublishRequest<'_>) -> PublishVerdict + Send + Sync + 'static,
    ) -> Script {
        Script {
            publish: Some(Box::new(hook)),
            ..self
        }
    }

    pub fn authorize_subscribe(
        self,
        hook: impl Fn(&ClientInfo, &TopicFilter, SubscriptionOptions) -> SubscribeVerdict + Send + Sync + 'static,
    ) -> Script {
        Script {
            subscribe: Some(Box::new(hook)),
            ..self
        }
    }

    pub fn authorize_forward(
        self,
        hook: impl Fn(&ClientInfo, &Message) -> ForwardVerdict + Send + Sync + 'static,
    ) -> Script {
        Script {
            forward: Some(Box::new(hook)),
            ..self
        }
    }

    pub fn published(self, hook: impl Fn(Option<&ClientInfo>, &PublishRequest<'_>) + Send + Sync + 'static) -> Script {
        Script {
            published: Some(Box::new(hook)),
            ..self
        }
    }

    /// The hook of this name waits at the gate before its closure is called.
    pub fn gate(mut self, hook: &'static str, gate: &Gate) -> Script {
        self.gates.push((hook, gate.clone()));
        self
    }

    async fn pass(&self, hook: &str) {
        for (_, gate) in self.gates.iter().filter(|(name, _)| *name == hook) {
            gate.pass().await;
        }
    }
}

#[async_trait]
impl Hooks for Script {
    fn interests(&self) -> Interests {
        let mut interests = Interests::NONE;
        interests.on_connect = self.on_connect.is_some();
        interests.authenticate = self.authenticate.is_some();
        interests.authorize_publish = self.publish.is_some();
        interests.authorize_subscribe = self.subscribe.is_some();
        interests.authorize_forward = self.forward.is_some();
        interests.published = self.published.is_some();
        self.interests.unwrap_or(interests)
    }

    async fn on_connect(&self, request: &ConnectRequest<'_>) -> Verdict {
        self.pass("on_connect").await;
        self.on_connect.as_ref().map_or(Ok(()), |hook| hook(request))
    }

    async fn authenticate(&self, request: &ConnectRequest<'_>) -> Verdict {
        self.pass("authenticate").await;
        self.authenticate.as_ref().map_or(Ok(()), |hook| hook(request))
    }

    async fn authorize_publish(&self, client: &ClientInfo, request: &PublishRequest<'_>) -> PublishVerdict {
        self.pass("authorize_publish").await;
        self.publish
            .as_ref()
            .map_or(PublishVerdict::Allow, |hook| hook(client, request))
    }

    async fn authorize_subscribe(
        &self,
        client: &ClientInfo,
        filter: &TopicFilter,
        options: SubscriptionOptions,
    ) -> SubscribeVerdict {
        self.pass("authorize_subscribe").await;
        self.subscribe
            .as_ref()
            .map_or(SubscribeVerdict::Allow, |hook| hook(client, filter, options))
    }

    async fn authorize_forward(&self, client: &ClientInfo, message: &Message) -> ForwardVerdict {
        self.pass("authorize_forward").await;
        self.forward
            .as_ref()
            .map_or(ForwardVerdict::Allow, |hook| hook(client, message))
    }

    async fn published(&self, client: Option<&ClientInfo>, request: &PublishRequest<'_>) {
        self.pass("published").await;
        if let Some(hook) = &self.published {
            hook(client, request);
        }
    }
}
