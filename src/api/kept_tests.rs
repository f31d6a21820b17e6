//! What a client is not told before it is kept. Absence is shown by the answer to a PINGREQ, which waits for nothing.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::broker::RouteScratch;
use crate::router::LastMatch;
use crate::session::QueueOverflow;
use crate::store::{Gated, MemoryStore};

const PINGREQ: &[u8] = &[0xC0, 0];
const PINGRESP: &[u8] = &[0xD0, 0];
/// Filter `a`, QoS 2, Packet Identifier 1.
pub(super) const SUBSCRIBE: &[u8] = &[0x82, 6, 0, 1, 0, 1, b'a', 2];
pub(super) const SUBACK: &[u8] = &[0x90, 3, 0, 1, 2];
const UNSUBSCRIBE: &[u8] = &[0xA2, 5, 0, 2, 0, 1, b'a'];
const UNSUBACK: &[u8] = &[0xB0, 2, 0, 2];
/// Payload `x`, Packet Identifier 7.
const PUBLISH_1: &[u8] = &[0x32, 6, 0, 1, b'a', 0, 7, b'x'];
const PUBACK: &[u8] = &[0x40, 2, 0, 7];
const PUBLISH_2: &[u8] = &[0x34, 6, 0, 1, b'a', 0, 7, b'x'];
const PUBREC: &[u8] = &[0x50, 2, 0, 7];
const PUBREL: &[u8] = &[0x62, 2, 0, 7];
const PUBCOMP: &[u8] = &[0x70, 2, 0, 7];
/// QoS 0, payload `x`.
const PUBLISH_0: &[u8] = &[0x30, 4, 0, 1, b'a', b'x'];

pub(super) struct Peer311(DuplexStream);

impl Peer311 {
    /// MQTT 3.1.1, sends CONNECT.
    pub(super) fn open(broker: &Broker, name: &str, clean: bool) -> Peer311 {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let broker = broker.clone();
        tokio::spawn(async move { broker.handle(far, Peer::default()).await });
        let mut peer = Peer311(near);
        let mut connect = vec![0x10, 12 + name.len() as u8, 0, 4];
        connect.extend_from_slice(b"MQTT\x04");
        connect.extend_from_slice(&[u8::from(clean) << 1, 0, 60, 0, name.len() as u8]);
        connect.extend_from_slice(name.as_bytes());
        peer.try_send(&connect);
        peer
    }

    pub(super) async fn connect(broker: &Broker, name: &str, clean: bool) -> Peer311 {
        let mut peer = Peer311::open(broker, name, clean);
        peer.expect(&[0x20, 2, 0, 0]).await;
        peer
    }

    /// The pipe is never full.
    pub(super) fn try_send(&mut self, bytes: &[u8]) {
        // However much the task has done since it was polled.
        let mut write = pin!(tokio::task::unconstrained(self.0.write_all(bytes)));
        let written = write.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(written, Poll::Ready(Ok(()))));
    }

    pub(super) async fn expect(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        let read = tokio::time::timeout(DEADLINE, self.0.read_exact(&mut bytes)).await;
        read.unwrap_or_else(|_| panic!("{expected:02x?} does not come"))
            .expect("open");
        assert_eq!(bytes, expected);
    }

    /// What is sent is not answered before the store takes changes; all else is.
    async fn waits(&mut self, store: &Gated, sent: &[u8], answer: &[u8]) {
        let closed = store.gate.lock();
        self.try_send(&[sent, PINGREQ].concat());
        // Not held across an await: the lock is that of the test.
        let mut pong = Box::pin(self.expect(PINGRESP));
        block(&mut pong);
        drop(pong);
        drop(closed);
        self.expect(answer).await;
    }
}

/// Runs a future on this thread while others serve.
fn block(future: &mut Pin<Box<impl Future<Output = ()>>>) {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future));
}

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

const DEADLINE: Duration = Duration::from_secs(30);

fn broker() -> (Broker, Arc<Gated>) {
    let store = Arc::new(Gated::default());
    let broker = Broker::builder().start_with(Some(Arc::clone(&store) as _));
    (broker.expect("started"), store)
}

/// SUBACK and UNSUBACK wait for the change of the session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_are_kept_before_their_answer() {
    let (broker, store) = broker();
    let mut client = Peer311::connect(&broker, "client", false).await;
    client.waits(&store, SUBSCRIBE, SUBACK).await;
    client.waits(&store, UNSUBSCRIBE, UNSUBACK).await;
}

/// PUBACK, PUBREC and PUBCOMP wait for the queues of others, and for the publisher's own state; PUBLISH waits for its place,
/// PUBREL for the PUBREC [MQTT-4.3.2-4] [MQTT-4.3.3-8].
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_kept_before_their_acknowledgement() {
    let (broker, store) = broker();
    let mut subscriber = Peer311::connect(&broker, "subscriber", false).await;
    subscriber.try_send(SUBSCRIBE);
    subscriber.expect(SUBACK).await;
    for clean in [true, false] {
        let mut publisher = Peer311::connect(&broker, "publisher", clean).await;
        publisher.waits(&store, PUBLISH_1, PUBACK).await;
        publisher.waits(&store, PUBLISH_2, PUBREC).await;
        if clean {
            publisher.try_send(PUBREL);
            publisher.expect(PUBCOMP).await;
        } else {
            publisher.waits(&store, PUBREL, PUBCOMP).await;
        }
    }
    for (identifier, qos) in [(1, 1), (2, 2), (3, 1), (4, 2)] {
        subscriber
            .expect(&[0x30 | qos << 1, 6, 0, 1, b'a', 0, identifier, b'x'])
            .await;
    }
    subscriber.waits(&store, &[0x50, 2, 0, 2], &[0x62, 2, 0, 2]).await;
}

/// A message to a session that is kept is not sent before it is kept, although QoS 0 is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_wait_for_their_place_and_qos_0_does_not() {
    let (broker, store) = broker();
    let mut subscriber = Peer311::connect(&broker, "subscriber", false).await;
    subscriber.try_send(SUBSCRIBE);
    subscriber.expect(SUBACK).await;
    let mut publisher = Peer311::connect(&broker, "publisher", true).await;
    // Live messages come when it is kept that there are no retained ones.
    publisher.try_send(PUBLISH_0);
    subscriber.expect(PUBLISH_0).await;
    let closed = store.gate.lock();
    publisher.try_send(&[PUBLISH_1, PUBLISH_0, PINGREQ].concat());
    let mut answers = Box::pin(async {
        publisher.expect(PINGRESP).await;
        subscriber.expect(PUBLISH_0).await;
        subscriber.try_send(PINGREQ);
        subscriber.expect(PINGRESP).await;
    });
    block(&mut answers);
    drop(answers);
    drop(closed);
    publisher.expect(PUBACK).await;
    subscriber.expect(&[0x32, 6, 0, 1, b'a', 0, 1, b'x']).await;
}

/// CONNACK waits until the session is kept, or the old one gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_kept_before_connack() {
    let (broker, store) = broker();
    let mut other = Peer311::connect(&broker, "other", true).await;
    for clean in [false, true] {
        let closed = store.gate.lock();
        let mut client = Peer311::open(&broker, "client", clean);
        let mut seen = Box::pin(async {
            while broker.connected_clients() < 2 {
                tokio::task::yield_now().await;
            }
            other.0.write_all(PINGREQ).await.expect("open");
            other.expect(PINGRESP).await;
        });
        block(&mut seen);
        drop(seen);
        let mut byte = [0];
        let mut early = pin!(client.0.read(&mut byte));
        assert!(
            early
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        drop(closed);
        assert!(matches!(tokio::time::timeout(DEADLINE, early).await, Ok(Ok(1))));
        client.expect(&[2, 0, 0]).await;
        client.try_send(&[0xE0, 0]);
        let mut rest = Vec::new();
        let _ = client.0.read_to_end(&mut rest).await;
        while broker.connected_clients() > 1 {
            tokio::task::yield_now().await;
        }
    }
}

/// Sessions that end with their connection, and messages for them alone, wait for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_kept_waits_for_nothing() {
    let (broker, store) = broker();
    let closed = store.gate.lock();
    let mut all = Box::pin(async {
        let mut client = Peer311::connect(&broker, "client", true).await;
        client.try_send(&[SUBSCRIBE, PUBLISH_1].concat());
        client.expect(SUBACK).await;
        client.expect(PUBACK).await;
        client.expect(&[0x32, 6, 0, 1, b'a', 0, 1, b'x']).await;
    });
    block(&mut all);
    drop(all);
    drop(closed);
    broker.shutdown().await;
}

/// The next broker on the same store has what the first one acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_broker_goes_on() {
    let store = Arc::new(MemoryStore::default());
    let start = || {
        Broker::builder()
            .start_with(Some(Arc::clone(&store) as _))
            .expect("started")
    };
    let first = start();
    let mut subscriber = Peer311::connect(&first, "subscriber", false).await;
    subscriber.try_send(SUBSCRIBE);
    subscriber.expect(SUBACK).await;
    drop(subscriber);
    while first.connected_clients() > 0 {
        tokio::task::yield_now().await;
    }
    let message = NewMessage::new("a", "kept").expect("valid").qos(QoS::AtLeastOnce);
    first.publish(message).await.expect("published");
    first.shutdown().await;
    let second = start();
    let mut subscriber = Peer311::open(&second, "subscriber", false);
    subscriber.expect(&[0x20, 2, 1, 0]).await;
    subscriber.expect(b"\x32\x09\0\x01a\0\x01kept").await;
}

/// A session that was ended is not there again: who comes next is told so only when that is kept. Others do not wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_session_is_kept_before_the_next_connack() {
    let (broker, store) = broker();
    drop(Peer311::connect(&broker, "client", false).await);
    while broker.connected_clients() > 0 {
        tokio::task::yield_now().await;
    }
    let closed = store.gate.lock();
    broker.core.end_session("client", ReasonCode::Success);
    let mut client = Peer311::open(&broker, "client", true);
    let mut early = Box::pin(async {
        while broker.connected_clients() < 1 {
            tokio::task::yield_now().await;
        }
        let mut other = Peer311::connect(&broker, "other", true).await;
        for _ in 0..100 {
            other.0.write_all(PINGREQ).await.expect("open");
            other.expect(PINGRESP).await;
        }
    });
    block(&mut early);
    drop(early);
    let mut byte = [0];
    {
        let mut read = pin!(client.0.read(&mut byte));
        let polled = read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }
    drop(closed);
    client.expect(&[0x20, 2, 0, 0]).await;
}

/// Queues of one message, one message in flight, and the oldest makes room.
fn start_dropping(store: &Arc<MemoryStore>) -> Broker {
    let config = Config {
        max_inflight: 1,
        max_queued_messages: 1,
        queue_overflow: QueueOverflow::DropOldest,
        ..Config::default()
    };
    let broker = Broker::builder()
        .config(config)
        .start_with(Some(Arc::clone(store) as _));
    broker.expect("started")
}

async fn subscribed(broker: &Broker) -> Peer311 {
    let mut subscriber = Peer311::connect(broker, "subscriber", false).await;
    subscriber.try_send(SUBSCRIBE);
    subscriber.expect(SUBACK).await;
    subscriber
}

/// Publishes so many times, and waits for the store alone.
async fn publish(broker: &Broker, payload: &str, qos: QoS, times: usize) {
    let message = NewMessage::new("a", payload).expect("valid").qos(qos);
    let publication = message.as_publication(broker.core.clock.now());
    let receipt = {
        let mut scratch = RouteScratch::default();
        for _ in 0..times {
            let mut last = LastMatch::default();
            broker.core.route(&publication, None, &mut scratch, &mut last);
        }
        scratch.pen().receipt()
    };
    receipt.expect("to be kept").kept().await;
}

/// What makes room was waiting: what is in flight is there after a restart, a QoS 2 message that was released as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_outlives_what_makes_room() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let store = Arc::new(MemoryStore::default());
        let first = start_dropping(&store);
        let mut subscriber = subscribed(&first).await;
        publish(&first, "0", qos, 1).await;
        let publish_0 = [0x30 | (qos as u8) << 1, 6, 0, 1, b'a', 0, 1, b'0'];
        subscriber.expect(&publish_0).await;
        if qos == QoS::ExactlyOnce {
            subscriber.try_send(&[0x50, 2, 0, 1]);
            subscriber.expect(&[0x62, 2, 0, 1]).await;
        }
        for payload in ["1", "2", "3"] {
            publish(&first, payload, qos, 1).await;
        }
        first.shutdown().await;
        let second = start_dropping(&store);
        let mut subscriber = Peer311::open(&second, "subscriber", false);
        subscriber.expect(&[0x20, 2, 1, 0]).await;
        if qos == QoS::ExactlyOnce {
            subscriber.expect(&[0x62, 2, 0, 1]).await;
            subscriber.try_send(&[0x70, 2, 0, 1]);
        } else {
            subscriber.expect(&[0x3A, 6, 0, 1, b'a', 0, 1, b'0']).await;
            subscriber.try_send(&[0x40, 2, 0, 1]);
        }
        let publish_3 = [0x30 | (qos as u8) << 1, 6, 0, 1, b'a', 0, 4, b'3'];
        subscriber.expect(&publish_3).await;
        second.shutdown().await;
    }
}

/// What makes room before the client is back was waiting, too: what was in flight is there, and nothing is left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_in_flight_outlives_what_makes_room_before_the_client_is_back() {
    let store = Arc::new(MemoryStore::default());
    let first = start_dropping(&store);
    let mut subscriber = subscribed(&first).await;
    publish(&first, "0", QoS::ExactlyOnce, 1).await;
    subscriber.expect(&[0x34, 6, 0, 1, b'a', 0, 1, b'0']).await;
    subscriber.try_send(&[0x50, 2, 0, 1]);
    subscriber.expect(&[0x62, 2, 0, 1]).await;
    publish(&first, "1", QoS::ExactlyOnce, 1).await;
    first.shutdown().await;
    let second = start_dropping(&store);
    for payload in ["2", "3", "4"] {
        publish(&second, payload, QoS::ExactlyOnce, 1).await;
    }
    let mut subscriber = Peer311::open(&second, "subscriber", false);
    subscriber.expect(&[0x20, 2, 1, 0]).await;
    subscriber.expect(&[0x62, 2, 0, 1]).await;
    subscriber.try_send(&[0x70, 2, 0, 1]);
    subscriber.expect(&[0x34, 6, 0, 1, b'a', 0, 5, b'4']).await;
    second.shutdown().await;
}

/// However many messages were dropped, those behind them come: there are fewer identifiers than places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_behind_many_dropped_messages_comes() {
    let store = Arc::new(MemoryStore::default());
    let broker = start_dropping(&store);
    drop(subscribed(&broker).await);
    while broker.connected_clients() > 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..60 {
        publish(&broker, "0", QoS::AtLeastOnce, 1000).await;
    }
    publish(&broker, "1", QoS::AtLeastOnce, 1).await;
    let mut subscriber = Peer311::open(&broker, "subscriber", false);
    subscriber.expect(&[0x20, 2, 1, 0]).await;
    // 60,000 modulo 49,152, and 1.
    subscriber.expect(&[0x32, 6, 0, 1, b'a', 0x2A, 0x61, b'1']).await;
    subscriber.try_send(&[0x40, 2, 0x2A, 0x61]);
    publish(&broker, "2", QoS::AtLeastOnce, 1).await;
    subscriber.expect(&[0x32, 6, 0, 1, b'a', 0x2A, 0x62, b'2']).await;
    broker.shutdown().await;
}

/// Who clears a topic that another has just cleared is answered when that is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_cleared_for_all_at_once() {
    let (broker, store) = broker();
    let retain = &[0x33, 6, 0, 1, b'a', 0, 7, b'x'];
    let clear = &[0x33, 5, 0, 1, b'a', 0, 7];
    let mut first = Peer311::connect(&broker, "first", true).await;
    let mut second = Peer311::connect(&broker, "second", true).await;
    first.try_send(retain);
    first.expect(PUBACK).await;
    let closed = store.gate.lock();
    let mut early = Box::pin(async {
        for peer in [&mut first, &mut second] {
            peer.try_send(&[clear, PINGREQ].concat());
            peer.expect(PINGRESP).await;
        }
    });
    block(&mut early);
    drop(early);
    drop(closed);
    first.expect(PUBACK).await;
    second.expect(PUBACK).await;
    // What was clear before waits for nothing.
    let closed = store.gate.lock();
    let mut late = Box::pin(async {
        second.try_send(clear);
        second.expect(PUBACK).await;
    });
    block(&mut late);
    drop(late);
    drop(closed);
}

/// A program that goes on publishing while nothing is kept waits when much is pending, whatever the QoS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_retains_is_bounded() {
    let (broker, store) = broker();
    let closed = store.gate.lock();
    let retain = || {
        let message = NewMessage::new("a", vec![0; 1024 * 1024]).expect("valid").retain(true);
        Box::pin(broker.publish(message))
    };
    let published = (0..100).map(|_| retain()).find_map(|mut publish| {
        let polled = publish.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        polled.is_pending().then_some(publish)
    });
    drop(closed);
    published.expect("waits").await.expect("published");
}

/// Filter `$share/g/a`, QoS 1, Packet Identifier 1.
const SUBSCRIBE_SHARED: &[u8] = b"\x82\x0F\0\x01\0\x0A$share/g/a\x01";
const SUBACK_1: &[u8] = &[0x90, 3, 0, 1, 1];

/// When a session ends, all messages that others may take go to them: also those that are not kept yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shared_moves_when_it_is_kept() {
    let (broker, store) = broker();
    let mut away = Peer311::connect(&broker, "away", false).await;
    away.try_send(SUBSCRIBE_SHARED);
    away.expect(SUBACK_1).await;
    drop(away);
    while broker.connected_clients() > 0 {
        tokio::task::yield_now().await;
    }
    // What is in memory of a queue is less.
    publish(&broker, "0", QoS::AtLeastOnce, 2000).await;
    let mut other = Peer311::connect(&broker, "other", true).await;
    let closed = store.gate.lock();
    let mut early = Box::pin(async {
        let message = NewMessage::new("a", "1").expect("valid").qos(QoS::AtLeastOnce);
        let mut last = LastMatch::default();
        let publication = message.as_publication(broker.core.clock.now());
        broker
            .core
            .route(&publication, None, &mut RouteScratch::default(), &mut last);
        other.try_send(SUBSCRIBE_SHARED);
        other.expect(SUBACK_1).await;
        broker.core.end_session("away", ReasonCode::Success);
        for _ in 0..100 {
            other.try_send(PINGREQ);
            let mut read = [0; 2];
            other.0.read_exact(&mut read).await.expect("open");
            assert_eq!(read, PINGRESP);
        }
    });
    block(&mut early);
    drop(early);
    drop(closed);
    let mut last = 0;
    for identifier in 1..=2001_u16 {
        let mut frame = [0; 8];
        let read = tokio::time::timeout(DEADLINE, other.0.read_exact(&mut frame)).await;
        read.expect("comes").expect("open");
        let [high, low] = identifier.to_be_bytes();
        assert_eq!(frame[..7], [0x32, 6, 0, 1, b'a', high, low]);
        last += u16::from(frame[7] == b'1');
        other.try_send(&[0x40, 2, high, low]);
    }
    assert_eq!(last, 1);
}

/// A Packet Identifier is used again when it is durable that the message which had it is finished: else the next process
/// would take the acknowledgement of the one for that of the other [MQTT-4.3.3-1].
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identifier_is_free_when_that_is_kept() {
    let store = Arc::new(Gated::default());
    let config = Config {
        max_inflight: u16::MAX,
        max_queued_messages: 100_000,
        max_queued_bytes: 1 << 30,
        ..Config::default()
    };
    let broker = Broker::builder()
        .config(config)
        .start_with(Some(Arc::clone(&store) as _))
        .expect("started");
    let mut subscriber = subscribed(&broker).await;
    publish(&broker, "0", QoS::ExactlyOnce, 1).await;
    subscriber.expect(&[0x34, 6, 0, 1, b'a', 0, 1, b'0']).await;
    subscriber.try_send(&[0x50, 2, 0, 1]);
    subscriber.expect(&[0x62, 2, 0, 1]).await;
    publish(&broker, "1", QoS::AtLeastOnce, 49_151).await;
    publish(&broker, "2", QoS::ExactlyOnce, 1).await;
    let closed = store.gate.lock();
    let mut early = Box::pin(async {
        subscriber.0.write_all(&[0x70, 2, 0, 1]).await.expect("open");
        for identifier in 2..=49_152_u16 {
            let [high, low] = identifier.to_be_bytes();
            subscriber.expect(&[0x32, 6, 0, 1, b'a', high, low, b'1']).await;
            subscriber.0.write_all(&[0x40, 2, high, low]).await.expect("open");
        }
        // What is delivered in the turn of the first is before the answer to the second.
        for _ in 0..2 {
            subscriber.0.write_all(PINGREQ).await.expect("open");
            subscriber.expect(PINGRESP).await;
        }
    });
    block(&mut early);
    drop(early);
    drop(closed);
    subscriber.expect(&[0x34, 6, 0, 1, b'a', 0, 1, b'2']).await;
}

/// The same where most of the queue was dropped, so that the next message is far behind the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identifier_is_free_also_behind_what_was_dropped() {
    let store = Arc::new(Gated::default());
    let config = Config {
        max_inflight: 1,
        max_queued_messages: 10,
        queue_overflow: QueueOverflow::DropOldest,
        ..Config::default()
    };
    let broker = Broker::builder()
        .config(config)
        .start_with(Some(Arc::clone(&store) as _))
        .expect("started");
    let mut subscriber = subscribed(&broker).await;
    publish(&broker, "0", QoS::AtLeastOnce, 1).await;
    subscriber.expect(&[0x32, 6, 0, 1, b'a', 0, 1, b'0']).await;
    publish(&broker, "1", QoS::AtLeastOnce, 49_161).await;
    let closed = store.gate.lock();
    let mut early = Box::pin(async {
        subscriber.0.write_all(&[0x40, 2, 0, 1]).await.expect("open");
        // What is delivered in the turn of the first is before the answer to the second.
        for _ in 0..2 {
            subscriber.0.write_all(PINGREQ).await.expect("open");
            subscriber.expect(PINGRESP).await;
        }
    });
    block(&mut early);
    drop(early);
    drop(closed);
    subscriber.expect(&[0x32, 6, 0, 1, b'a', 0, 1, b'1']).await;
}
