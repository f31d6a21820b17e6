//! What must hold for whatever a few clients and the program do with one broker.
//!
//! The input is a script: two bytes of settings, then steps, each a byte that chooses what is done and by which client,
//! and the bytes of its fields. Behind its end all bytes are 0. Time is tokio's, and moves only when a step says so.
//!
//! What the clients receive is read by the decoder of the conformance tests, which shares no code with the broker. What
//! they send is watched as well, raw bytes included, so that it is known what they may be answered.

#[path = "../../common/packet.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
mod packet;
#[path = "session_clients.rs"]
mod session_clients;
#[path = "../../common/wire.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
mod wire;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic;
use std::sync::Once;
use std::time::Duration;

use mqtt_broker::{Broker, Config, NewMessage, Peer, QoS, QueueOverflow, ReasonCode};
use tokio::task::{JoinHandle, yield_now};

use self::packet::{Ack, Auth, Connect, Disconnect, Packet, Prop, Publish, Subscribe, Unsubscribe, Version, Will};
use self::session_clients::{Clients, Link};

/// Panics if something does not hold. The first bytes of the packets that the clients have received.
pub(crate) fn check(script: &[u8]) -> BTreeSet<u8> {
    watch_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let seen = runtime.block_on(play(Script(script)));
    drop(runtime);
    assert!(!PANICKED.get(), "a task has panicked");
    seen
}

thread_local! {
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// Also a panic that the broker catches, or of a task that nobody joins, is a fault.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICKED.set(true);
            before(info);
        }));
    });
}

/// What is left of the input.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }
}

const CLIENTS: usize = 3;
/// Longer scripts show nothing that shorter ones do not, and take their time.
const STEPS: usize = 200;
/// Turns that every task gets after a step.
const TURNS: usize = 6;
/// Paused time in which every connection has to end when its client has gone or the broker shuts down: the longest
/// Keep Alive, time-out or drain of these settings, and what a farewell takes.
const LIMIT: Duration = Duration::from_secs(60);

const CLIENT_IDS: [&str; 4] = ["a", "b", "", "c"];
const TOPICS: [&str; 8] = ["t", "t/u", "a/b/c", "$x/y", "", "$SYS/z", "t/é", "1/2/3/4/5/6/7"];
const FILTERS: [&str; 10] = [
    "t",
    "#",
    "t/#",
    "+/u",
    "$share/g/t",
    "$share/g/#",
    "+",
    "$SYS/#",
    "t#",
    "$x/+",
];
const NUMBERS: [u32; 8] = [0, 1, 2, 3, 5, 30, 300, u32::MAX];
const SIZES: [usize; 6] = [0, 1, 10, 60, 300, 3000];

fn settings(script: &mut Script<'_>) -> (Config, usize, u8) {
    let (flags, ending) = (script.byte(), script.byte());
    let is_set = |bit: u8| flags >> bit & 1 == 1;
    let mut config = Config::default();
    config.max_packet_size = 2048;
    config.max_connections = 4;
    config.max_topic_levels = 6;
    config.max_topic_length = 64;
    config.max_client_id_length = 24;
    config.max_inflight = 4;
    config.receive_maximum = 3;
    config.max_queued_messages = 5;
    config.max_queued_bytes = 4096;
    config.max_subscriptions = 4;
    config.max_subscription_bytes = 48;
    config.max_retained_messages = 4;
    config.max_retained_bytes = 2048;
    config.topic_alias_maximum = 2;
    config.topic_alias_maximum_out = 2;
    config.connect_timeout = Duration::from_secs(5);
    config.session_expiry_cap = Some(100);
    config.write_timeout = Duration::from_secs(10);
    config.drain_timeout = Duration::from_secs(2);
    config.max_keep_alive = is_set(0).then_some(20);
    config.queue_overflow = if is_set(1) {
        QueueOverflow::DropOldest
    } else {
        QueueOverflow::DropNew
    };
    config.max_qos = if is_set(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
    config.retain = !is_set(3);
    config.empty_client_id = !is_set(4);
    config.sys_interval = is_set(5).then_some(Duration::from_secs(7));
    config.aedes_sys_topics = is_set(7);
    let pipe = if is_set(6) { 48 } else { 8192 };
    (config, pipe, ending)
}

struct Play {
    broker: Broker,
    clients: Clients,
    tasks: Vec<JoinHandle<()>>,
    /// The tasks of the clients' current connections, by their place in `tasks`.
    current: [Option<usize>; CLIENTS],
    pipe: usize,
}

async fn play(mut script: Script<'_>) -> BTreeSet<u8> {
    let (config, pipe, ending) = settings(&mut script);
    let max_inflight = config.max_inflight;
    let mut play = Play {
        broker: Broker::start(config),
        clients: Clients::new(CLIENTS, max_inflight),
        tasks: Vec::new(),
        current: [None; CLIENTS],
        pipe,
    };
    for _ in 0..STEPS {
        if script.is_empty() {
            break;
        }
        play.step(&mut script).await;
    }
    play.end(ending).await
}

impl Play {
    async fn step(&mut self, script: &mut Script<'_>) {
        let step = script.byte();
        let client = usize::from(step >> 4) % CLIENTS;
        match step & 0xF {
            0 => self.open(client),
            1 => {
                self.open(client);
                self.connect(client, script);
            }
            2 => self.send(client, script.bytes().to_vec()),
            3 => self.publish(client, script),
            4 => self.subscribe(client, script),
            5 => {
                let unsubscribe = Unsubscribe::new(identifier(script)).filter(script.pick(&FILTERS));
                self.send_packet(client, &unsubscribe.into());
            }
            6 => self.acknowledge(client, script),
            7 => self.clients.read(client, usize::from(script.byte())),
            8 => self.clients.read(client, usize::MAX),
            9 => self.clients.cut(client),
            10 => self.drop_future(client),
            11 => tokio::time::advance(Duration::from_millis(u64::from(script.byte()) * 250)).await,
            12 => self.publish_here(script),
            13 => self.say(client, script),
            14 => {
                self.broker
                    .disconnect(CLIENT_IDS[client], ReasonCode::AdministrativeAction);
            }
            _ => self.clients.half_close(client),
        }
        // The others act before the broker does anything, now and then.
        if step & 0xC0 != 0xC0 {
            self.settle(TURNS).await;
        }
    }

    async fn settle(&mut self, turns: usize) {
        for _ in 0..turns {
            self.clients.pump();
            yield_now().await;
        }
    }

    fn open(&mut self, client: usize) {
        let (near, far) = tokio::io::duplex(self.pipe);
        self.clients.open(client, Link::new(near));
        let broker = self.broker.clone();
        self.current[client] = Some(self.tasks.len());
        self.tasks
            .push(tokio::spawn(async move { broker.handle(far, Peer::default()).await }));
    }

    /// The program drops the future of a connection.
    fn drop_future(&mut self, client: usize) {
        if let Some(task) = self.current[client].take() {
            self.tasks[task].abort();
        }
    }

    fn send(&mut self, client: usize, bytes: Vec<u8>) {
        self.clients.send(client, &bytes);
    }

    fn send_packet(&mut self, client: usize, packet: &Packet) {
        let version = self.clients.version(client);
        self.clients.send(client, &packet.encode(version));
    }

    fn connect(&mut self, client: usize, script: &mut Script<'_>) {
        let flags = script.byte();
        let version = [Version::V5, Version::V311, Version::V5, Version::V31][usize::from(flags & 3)];
        let mut connect = Connect::new(version, script.pick(&CLIENT_IDS))
            .clean(flags & 4 != 0)
            .keep_alive(script.pick(&[0, 10, 2, 60_000]));
        if flags & 8 != 0 {
            connect = connect.will(will(script));
        }
        if flags & 16 != 0 {
            connect = connect.expiry(script.pick(&NUMBERS));
        }
        if flags & 32 != 0 {
            connect = connect.prop(Prop::ReceiveMaximum(script.pick(&[1, 2, 3, 0, 9])));
        }
        if flags & 64 != 0 {
            connect = connect.prop(Prop::MaximumPacketSize(u32::from(script.byte())));
        }
        if flags & 128 != 0 {
            connect = connect.prop(Prop::TopicAliasMaximum(script.pick(&[1, 2, 3, 0])));
            connect = connect.prop(Prop::RequestProblemInfo(script.byte() & 1));
        }
        self.clients.send(client, &Packet::from(connect).encode(version));
    }

    fn publish(&mut self, client: usize, script: &mut Script<'_>) {
        let flags = script.byte();
        let topic = script.pick(&TOPICS);
        let payload = payload(script);
        let mut publish = Publish::new(topic, payload);
        publish.retain = flags & 4 != 0;
        let qos = (flags & 3) % 3;
        if qos > 0 {
            publish = publish.qos(qos, identifier(script));
            publish.dup = flags & 8 != 0;
        }
        if flags & 16 != 0 {
            publish = publish.prop(Prop::MessageExpiry(script.pick(&NUMBERS)));
        }
        if flags & 32 != 0 {
            publish = publish.prop(Prop::TopicAlias(script.pick(&[1, 2, 3, 0])));
        }
        if flags & 64 != 0 {
            publish = publish.prop(Prop::user("name", "value"));
        }
        if flags & 128 != 0 {
            publish = publish.prop(Prop::ResponseTopic(script.pick(&["r", "", "+"]).into()));
        }
        self.send_packet(client, &publish.into());
    }

    fn subscribe(&mut self, client: usize, script: &mut Script<'_>) {
        let flags = script.byte();
        let mut subscribe = Subscribe::new(identifier(script));
        for _ in 0..=flags & 1 {
            subscribe = subscribe.filter(script.pick(&FILTERS), script.byte());
        }
        if flags & 2 != 0 {
            subscribe = subscribe.prop(Prop::subscription_id(script.byte().into()));
        }
        self.send_packet(client, &subscribe.into());
    }

    /// Answers a message of those received and unacknowledged, as the protocol has it or not.
    fn acknowledge(&mut self, client: usize, script: &mut Script<'_>) {
        let choice = script.byte();
        let reason = script.pick(&[0, 0, 0, 0x10, 0x80, 0x92]);
        if choice == 255 {
            let (kind, id) = (script.byte(), identifier(script));
            return self.send_ack(client, kind, Ack::with(id, reason));
        }
        // Several at once, if the script wants.
        for _ in 0..=choice >> 6 {
            let Some((kind, id)) = self.clients.owed(client, usize::from(choice & 0x3F)) else {
                return;
            };
            self.send_ack(client, kind, Ack::with(id, if kind == 3 { 0 } else { reason }));
            self.clients.pump();
        }
    }

    fn send_ack(&mut self, client: usize, kind: u8, ack: Ack) {
        let ack = match kind % 4 {
            0 => Packet::Puback(ack),
            1 => Packet::Pubrec(ack),
            2 => Packet::Pubrel(ack),
            _ => Packet::Pubcomp(ack),
        };
        self.send_packet(client, &ack);
    }

    fn say(&mut self, client: usize, script: &mut Script<'_>) {
        let packet = match script.byte() % 6 {
            0 => Packet::Pingreq,
            1 => Disconnect::new(0).into(),
            2 => Disconnect::new(4).into(),
            3 => {
                let expiry = Prop::SessionExpiry(script.pick(&NUMBERS));
                Disconnect::new(script.pick(&[0, 4, 0x80])).prop(expiry).into()
            }
            4 => Auth::new(script.pick(&[0x18, 0x19, 0]))
                .prop(Prop::AuthMethod("m".into()))
                .into(),
            _ => Packet::Pubrel(Ack::new(identifier(script))),
        };
        self.send_packet(client, &packet);
    }

    /// The program publishes; it may wait for its subscribers, and the script goes on meanwhile.
    fn publish_here(&mut self, script: &mut Script<'_>) {
        let flags = script.byte();
        let Ok(message) = NewMessage::new(script.pick(&TOPICS), payload(script)) else {
            return;
        };
        let qos = QoS::from_u8((flags & 3) % 3).expect("below 3");
        let mut message = message.qos(qos).retain(flags & 4 != 0);
        if flags & 8 != 0 {
            message = message.expiry(script.pick(&NUMBERS));
        }
        let broker = self.broker.clone();
        self.tasks.push(tokio::spawn(async move {
            // Refused if the settings do not allow its QoS or its RETAIN flag.
            let _ = broker.publish(message).await;
        }));
    }

    async fn end(mut self, ending: u8) -> BTreeSet<u8> {
        self.settle(TURNS).await;
        match ending % 3 {
            0 => (0..CLIENTS).for_each(|client| self.clients.cut(client)),
            1 => self.shut_down(),
            // Those who read to the end see all that they are sent.
            _ => {
                (0..CLIENTS).for_each(|client| self.clients.read(client, usize::MAX));
                self.shut_down();
            }
        }
        let step = Duration::from_millis(250);
        let mut passed = Duration::ZERO;
        while self.tasks.iter().any(|task| !task.is_finished()) {
            assert!(passed < LIMIT, "a connection or a publication does not end");
            tokio::time::advance(step).await;
            passed += step;
            self.settle(TURNS).await;
            if ending % 3 == 2 {
                (0..CLIENTS).for_each(|client| self.clients.read(client, usize::MAX));
            }
        }
        for task in self.tasks {
            match task.await {
                Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
                _ => {}
            }
        }
        assert_eq!(self.broker.connected_clients(), 0);
        (0..CLIENTS).for_each(|client| self.clients.read(client, usize::MAX));
        self.clients.seen
    }

    fn shut_down(&mut self) {
        let broker = self.broker.clone();
        self.tasks.push(tokio::spawn(async move { broker.shutdown().await }));
    }
}

fn will(script: &mut Script<'_>) -> Will {
    let flags = script.byte();
    let mut will = Will::new(script.pick(&TOPICS), payload(script)).qos((flags & 3) % 3);
    will.retain = flags & 4 != 0;
    if flags & 8 != 0 {
        will = will.delay(script.pick(&NUMBERS));
    }
    if flags & 16 != 0 {
        will = will.prop(Prop::MessageExpiry(script.pick(&NUMBERS)));
    }
    will
}

/// A few identifiers, so that they meet again; 0 is one that must be refused.
fn identifier(script: &mut Script<'_>) -> u16 {
    script.pick(&[1, 2, 3, 4, 5, 0, 65_535])
}

fn payload(script: &mut Script<'_>) -> Vec<u8> {
    let (choice, fill) = (script.byte(), script.byte());
    vec![fill; SIZES[usize::from(choice) % SIZES.len()]]
}
