//! What a publisher writes in the owner's place is neither mixed up with what the owner writes, nor lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

use super::*;
use crate::message::Publication;
use crate::packet::{QoS, Version};
use crate::session::outbox::{Appetite, OutboxLimits, Placement, QueueOverflow, Taken, Wire};
use crate::session::{Extras, Outgoing, Terms};
use crate::stats::Stats;
use crate::time::Clock;

const HUNGRY: Appetite = Appetite {
    below: u64::MAX,
    bytes: 1000,
    window: 10,
};

/// A socket with room for so many bytes.
#[derive(Debug, Default)]
struct Socket {
    room: usize,
    written: Mutex<Vec<u8>>,
    /// What happens while it is written to.
    meanwhile: Mutex<Option<Meanwhile>>,
}

struct Meanwhile(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Socket {
    fn with_room(room: usize) -> Arc<Socket> {
        Arc::new(Socket {
            room,
            ..Socket::default()
        })
    }

    fn meanwhile(&self, act: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock() = Some(Meanwhile(Box::new(act)));
    }
}

impl DirectWrite for Socket {
    fn write(&self, bytes: &[u8]) -> usize {
        if let Some(Meanwhile(act)) = self.meanwhile.lock().take() {
            act();
        }
        let mut written = self.written.lock();
        let size = bytes.len().min(self.room - written.len());
        written.extend_from_slice(&bytes[..size]);
        size
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// An outbox, its sleeping owner and a publisher.
struct Scene {
    outbox: Arc<Outbox>,
    wakes: Arc<Wakes>,
    socket: Arc<Socket>,
    scratch: FrameScratch,
    clock: Clock,
}

impl Scene {
    fn new(room: usize) -> Scene {
        let limits = OutboxLimits::new(Arc::new(Stats::default()));
        limits.set(10, 100_000, QueueOverflow::DropNew);
        let scene = Scene {
            outbox: Arc::new(Outbox::new(1, "client".into(), Arc::new(limits))),
            wakes: Arc::default(),
            socket: Socket::with_room(room),
            scratch: FrameScratch::default(),
            clock: Clock::start(),
        };
        scene.connect(&scene.socket);
        scene
    }

    fn connect(&self, socket: &Arc<Socket>) {
        self.outbox.attach(Wire {
            version: Version::V311,
            maximum_packet_size: usize::MAX,
            frames: true,
        });
        self.outbox.allow_direct(Arc::clone(socket) as Arc<dyn DirectWrite>);
        self.sleep();
    }

    fn waker(&self) -> Waker {
        Arc::clone(&self.wakes).into()
    }

    fn sleep(&self) {
        let waker = self.waker();
        assert!(!self.outbox.poll_ready(&Context::from_waker(&waker), Some(HUNGRY)));
    }

    fn awake(&self) -> Poll<Option<Box<Vec<u8>>>> {
        let waker = self.waker();
        self.outbox.poll_awake(&Context::from_waker(&waker))
    }

    fn publish(&mut self, payload: &str, qos: QoS, wake_ups: &mut WakeUps) {
        let publication = Publication {
            topic: "t",
            qos,
            retain: false,
            payload: payload.as_bytes(),
            properties: &[],
            expires_at: None,
        };
        let mut outgoing = Outgoing::new(&publication, &mut self.scratch, &self.clock);
        let terms = Terms {
            qos,
            retain: false,
            extras: Extras::new(&[], None),
        };
        assert!(self.outbox.offer(&mut outgoing, terms, Placement::Here, wake_ups));
    }

    /// Publishes a batch of one message.
    fn publish_alone(&mut self, payload: &str, qos: QoS) {
        let mut wake_ups = WakeUps::default();
        self.publish(payload, qos, &mut wake_ups);
        wake_ups.carry_out(&mut self.scratch);
    }

    fn written(&self) -> Vec<u8> {
        self.socket.written.lock().clone()
    }

    fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::Relaxed)
    }

    fn taken(&self) -> Taken {
        let mut taken = Taken::default();
        self.outbox.take(HUNGRY, &mut taken);
        taken
    }
}

/// PUBLISH to the topic `t`.
fn packet(payload: &str) -> Vec<u8> {
    let mut bytes = vec![0x30, u8::try_from(payload.len() + 3).expect("short"), 0, 1, b't'];
    bytes.extend_from_slice(payload.as_bytes());
    bytes
}

#[test]
fn a_batch_is_one_write_and_wakes_nobody() {
    let mut scene = Scene::new(1000);
    let mut wake_ups = WakeUps::default();
    scene.publish("one", QoS::AtMostOnce, &mut wake_ups);
    scene.publish("two", QoS::AtMostOnce, &mut wake_ups);
    assert!(scene.written().is_empty());
    wake_ups.carry_out(&mut scene.scratch);
    assert_eq!(scene.written(), [packet("one"), packet("two")].concat());
    assert_eq!(scene.wakes(), 0);
    assert_eq!(scene.outbox.backlog(), 0);
}

/// Also when the batch ends without being carried out.
#[test]
fn nobody_is_forgotten() {
    let mut scene = Scene::new(1000);
    let mut wake_ups = WakeUps::default();
    scene.publish("one", QoS::AtMostOnce, &mut wake_ups);
    drop(wake_ups);
    assert_eq!(scene.written(), packet("one"));
}

/// The rest of a packet is the first that the owner writes, and nobody writes in between.
#[test]
fn the_rest_of_a_packet_goes_first() {
    let mut scene = Scene::new(3);
    scene.publish_alone("one", QoS::AtMostOnce);
    assert_eq!(scene.wakes(), 1);
    scene.publish_alone("two", QoS::AtMostOnce);
    let Poll::Ready(Some(rest)) = scene.awake() else {
        panic!("there is a rest");
    };
    assert_eq!([scene.written(), *rest].concat(), packet("one"));
    let Some(Qos0::Frames { bytes, .. }) = scene.taken().qos0.pop() else {
        panic!("the second waits");
    };
    assert_eq!(bytes, packet("two"));
    assert!(matches!(scene.awake(), Poll::Ready(None)));
}

/// An owner that wakes up during the write waits for its end, and is told of it.
#[test]
fn one_writes_at_a_time() {
    let mut scene = Scene::new(1000);
    let (outbox, waker) = (Arc::clone(&scene.outbox), scene.waker());
    scene.socket.meanwhile(move || {
        assert!(outbox.poll_awake(&Context::from_waker(&waker)).is_pending());
    });
    scene.publish_alone("one", QoS::AtMostOnce);
    assert_eq!(scene.wakes(), 1);
    assert!(matches!(scene.awake(), Poll::Ready(None)));
    assert_eq!(scene.written(), packet("one"));
}

/// While the owner is awake everything waits for it: the answer to a SUBSCRIBE comes before its first message.
#[test]
fn nothing_is_written_for_an_owner_that_is_awake() {
    let mut scene = Scene::new(1000);
    assert!(scene.awake().is_ready());
    scene.publish_alone("one", QoS::AtMostOnce);
    assert!(scene.written().is_empty());
    assert_eq!(scene.wakes(), 0);
    let waker = scene.waker();
    assert!(scene.outbox.poll_ready(&Context::from_waker(&waker), Some(HUNGRY)));
}

/// What is published during the write stays behind it, and is not left lying.
#[test]
fn messages_that_come_meanwhile_wake_the_owner() {
    let mut scene = Scene::new(1000);
    let outbox = Arc::clone(&scene.outbox);
    let mut other = Scene {
        outbox,
        wakes: Arc::clone(&scene.wakes),
        socket: Arc::clone(&scene.socket),
        scratch: FrameScratch::default(),
        clock: Clock::start(),
    };
    scene
        .socket
        .meanwhile(move || other.publish_alone("two", QoS::AtMostOnce));
    scene.publish_alone("one", QoS::AtMostOnce);
    assert_eq!(scene.written(), packet("one"));
    assert_eq!(scene.wakes(), 1);
    assert_eq!(scene.taken().qos0.len(), 1);
}

/// QoS 1 needs its owner, which then takes the QoS 0 along.
#[test]
fn qos_1_wakes_the_owner() {
    let mut scene = Scene::new(1000);
    let mut wake_ups = WakeUps::default();
    scene.publish("zero", QoS::AtMostOnce, &mut wake_ups);
    scene.publish("one", QoS::AtLeastOnce, &mut wake_ups);
    wake_ups.carry_out(&mut scene.scratch);
    assert!(scene.written().is_empty());
    assert_eq!(scene.wakes(), 1);
    let taken = scene.taken();
    assert_eq!((taken.qos0.len(), taken.deliveries.len()), (1, 1));
}

/// The end of a packet to a connection that has gone is not sent to the next one.
#[test]
fn a_new_connection_begins_anew() {
    for left in [0, 1] {
        let mut scene = Scene::new(3);
        let next = Socket::with_room(1000);
        let (outbox, waker, new) = (Arc::clone(&scene.outbox), scene.waker(), Arc::clone(&next));
        let reconnect = move || {
            outbox.detach();
            outbox.attach(Wire {
                version: Version::V311,
                maximum_packet_size: usize::MAX,
                frames: true,
            });
            outbox.allow_direct(new);
            assert!(!outbox.poll_ready(&Context::from_waker(&waker), Some(HUNGRY)));
        };
        if left == 0 {
            scene.socket.meanwhile(reconnect);
            scene.publish_alone("one", QoS::AtMostOnce);
        } else {
            scene.publish_alone("one", QoS::AtMostOnce);
            reconnect();
        }
        scene.socket = next;
        scene.publish_alone("two", QoS::AtMostOnce);
        assert_eq!(scene.written(), packet("two"));
        assert!(matches!(scene.awake(), Poll::Ready(None)));
    }
}

/// With many subscribers the work is left to their tasks, and so to all threads.
#[test]
fn a_batch_writes_for_few() {
    let mut scenes: Vec<Scene> = (0..WRITES_IN_A_BATCH + 2).map(|_| Scene::new(1000)).collect();
    let mut wake_ups = WakeUps::default();
    for scene in &mut scenes {
        scene.publish("one", QoS::AtMostOnce, &mut wake_ups);
    }
    drop(wake_ups);
    assert_eq!(scenes.iter().filter(|scene| scene.written().is_empty()).count(), 2);
    assert_eq!(scenes.iter().map(Scene::wakes).sum::<usize>(), 2);
}
