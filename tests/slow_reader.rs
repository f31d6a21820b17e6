//! Clients that do not read: they cost themselves, nobody else.

mod common;
use common::*;
use std::time::{Duration, Instant};

const CHUNK: usize = 50_000;

/// The number that a message of these tests carries.
fn number(message: &Publish) -> u32 {
    u32::from_be_bytes(message.payload[..4].try_into().expect("four bytes"))
}

/// A payload that carries a number.
fn numbered(number: u32, size: usize) -> Vec<u8> {
    let mut payload = vec![0; size];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    payload
}

/// While a subscriber of `#` reads nothing, others exchange 100 MB: all of it arrives there, in order, and the broker's
/// memory stays within the bound of the queue.
#[test]
fn others_see_nothing_of_it() {
    const MESSAGES: u32 = 2000;
    let broker = Broker::start(&["--max-queued-bytes", "4000000", "--write-timeout", "60"]);
    let mut frozen = broker.v5("frozen");
    frozen.subscribe("#", 2);
    let mut frozen_v3 = broker.v311("frozen3");
    frozen_v3.subscribe("#", 0);
    let mut subscriber = broker.v5("subscriber");
    subscriber.subscribe("t/+", 1);
    let mut publisher = broker.v311("publisher");
    let before = broker.rss_kib();
    let mut peak = 0;
    for sent in 0..MESSAGES {
        publisher.publish("t/a", numbered(sent, CHUNK), u8::from(sent % 2 == 0));
        assert_eq!(number(&subscriber.message()), sent);
        if sent % 100 == 0 {
            peak = peak.max(broker.rss_kib().unwrap_or(0));
        }
    }
    if let Some(before) = before {
        assert!(peak < before + 64 * 1024, "{before} KiB grew to {peak} KiB");
    }
    publisher.ping();
}

/// A client whose socket takes nothing for the write time-out is cut, and its will is published; until then it keeps
/// its connection.
#[test]
fn write_timeout() {
    let broker = Broker::start(&["--write-timeout", "1", "--max-queued-bytes", "4000000"]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("will", 0);
    let mut publisher = broker.v5("publisher");
    for version in Version::ALL {
        let mut frozen = broker.connect(
            Connect::new(version, "frozen")
                .keep_alive(0)
                .will(Will::new("will", "frozen")),
        );
        frozen.subscribe("t", 0);
        let start = Instant::now();
        for sent in 0..1000 {
            publisher.publish("t", numbered(sent, CHUNK), 0);
        }
        publisher.ping();
        watcher.expect_message("will", "frozen");
        assert!(start.elapsed().as_secs_f64() > 0.9, "cut too soon");
        let got = frozen.drain_until_closed();
        assert!(got < 1000 * CHUNK, "nothing was in the way");
    }
}

/// A client that reads slowly, but does, keeps its connection, however much waits for it: its will is not published.
#[test]
fn a_steady_reader_is_not_cut() {
    let broker = Broker::start(&["--write-timeout", "3", "--max-queued-bytes", "32M"]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("will", 0);
    let will = Will::new("will", "cut");
    let mut slow = broker.connect(Connect::v5("slow").keep_alive(0).will(will));
    slow.subscribe("t", 0);
    let mut publisher = broker.v5("publisher");
    for sent in 0..400 {
        publisher.publish("t", numbered(sent, CHUNK), 0);
    }
    publisher.ping();
    let start = Instant::now();
    let mut buffer = [0; 48 * 1024];
    while start.elapsed() < Duration::from_secs(12) {
        let count = slow
            .stream()
            .read(&mut buffer, DEADLINE)
            .expect("the connection goes on");
        assert!(count > 0, "cut after {:?}", start.elapsed());
        // The pace of the reader, which is what the test is about: some 480 KB a second. The kernel asks for more only when a part of its buffer,
        // which may have some hundred KB, has been read.
        std::thread::sleep(Duration::from_millis(100));
    }
    watcher.assert_nothing_from(&mut publisher);
}

/// A slow client loses its own QoS 0 messages only: when it reads again, what it gets is in order, and QoS 1 is
/// complete.
#[test]
fn only_qos_0_is_lost() {
    const MESSAGES: u32 = 1000;
    let broker = Broker::start(&["--write-timeout", "60", "--max-queued-bytes", "8000000"]);
    let mut slow = broker.connect(Connect::v5("slow").keep_alive(0));
    slow.subscribe("lossy", 0);
    slow.subscribe("safe", 1);
    let mut publisher = broker.v5("publisher");
    for sent in 0..MESSAGES {
        publisher.publish("lossy", numbered(sent, CHUNK), 0);
        publisher.publish("safe", numbered(sent, 100), 1);
    }
    let (mut safe, mut lossy, mut last) = (0, 0, None);
    while safe < MESSAGES {
        let message = slow.message();
        if message.topic == "safe" {
            assert_eq!(number(&message), safe, "QoS 1 in order, none lost");
            safe += 1;
        } else {
            assert!(last < Some(number(&message)), "QoS 0 in order, none twice");
            last = Some(number(&message));
            lossy += 1;
        }
    }
    assert!(lossy < MESSAGES, "this test has not filled the queue");
    slow.ping_among_messages();
    publisher.ping();
}

/// A client that acknowledges nothing is sent no more than its Receive Maximum, and its queue is bounded
/// [MQTT-3.3.4-9] [MQTT-4.9.0-2]; PINGREQ is answered all the same [MQTT-4.9.0-3] [MQTT-3.3.4-10].
#[test]
fn never_acknowledging() {
    let broker = Broker::start(&["--max-queued-messages", "100"]);
    let mut lazy = broker.connect(Connect::v5("lazy").prop(Prop::ReceiveMaximum(10)));
    lazy.subscribe("t", 1);
    let mut publisher = broker.v5("publisher");
    (0..500).for_each(|sent| publisher.publish("t", numbered(sent, 100), 1));
    for expected in 0..10 {
        assert_eq!(number(&lazy.recv_publish()), expected);
    }
    lazy.ping();
    publisher.publish("t", numbered(500, 100), 1);
    lazy.ping();
}

/// A client that sends PINGREQ by the thousand and reads no answer fills its own socket only, until it is cut.
#[test]
fn unread_answers() {
    let broker = Broker::start(&["--write-timeout", "1"]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("will", 0);
    let mut deaf = broker.connect(Connect::v311("deaf").will(Will::new("will", "deaf")));
    deaf.stream()
        .socket()
        .set_write_timeout(Some(Duration::from_millis(200)))
        .expect("a time-out");
    let before = broker.rss_kib();
    let pings = [0xC0, 0].repeat(50_000);
    let stuck = (0..1000).any(|_| deaf.try_send_bytes(&pings).is_err());
    assert!(stuck, "the broker reads on from a client that reads nothing");
    broker.assert_serves();
    watcher.expect_message("will", "deaf");
    if let (Some(before), Some(after)) = (before, broker.rss_kib()) {
        assert!(after < before + 32 * 1024, "{before} KiB grew to {after} KiB");
    }
}

/// A packet that the socket took a part of is completed before anything else: a client that reads late finds every
/// packet whole. Each message is a batch of its own, which its publisher writes while it can.
#[test]
fn a_late_reader_finds_whole_packets() {
    const MESSAGES: u32 = 300;
    for version in Version::ALL {
        let broker = Broker::start(&["--max-queued-bytes", "100000000"]);
        let (mut late, mut publisher) = broker.pair(version);
        late.subscribe("t", 0);
        for sent in 0..MESSAGES {
            publisher.publish("t", numbered(sent, CHUNK + sent as usize), 0);
            publisher.ping();
        }
        for sent in 0..MESSAGES {
            let message = late.message();
            assert_eq!((number(&message), message.payload.len()), (sent, CHUNK + sent as usize));
        }
        late.ping();
    }
}
