//! Hostile and broken peers: streams in pieces, packets that are claimed and never come, floods, half-open connections.
//! None of it costs more than it has paid for, and another client sees nothing of it.

mod common;
use common::*;

/// A conversation with one packet of every kind that a client sends; the will tells how the broker saw the end.
fn conversation(version: Version) -> Vec<Packet> {
    let mut packets: Vec<Packet> = vec![
        Connect::new(version, "talker")
            .will(Will::new("will", "ended by a fault"))
            .into(),
        Subscribe::new(1).filter("a/+", 2).filter("b/#", 0).into(),
        Publish::new("a/x", "zero").into(),
        Publish::new("a/x", "one").qos(1, 2).into(),
        Publish::new("b/x", vec![b'x'; 300]).qos(2, 3).into(),
        Packet::Pubrel(Ack::new(3)),
        Unsubscribe::new(4).filter("b/#").into(),
        Packet::Pingreq,
        Disconnect::new(0).into(),
    ];
    if version.is_v5() {
        packets[4] = Publish::new("b/x", vec![b'x'; 300])
            .qos(2, 3)
            .prop(Prop::ContentType("text".into()))
            .prop(Prop::user("a", "b"))
            .into();
    }
    packets
}

/// What the broker answers to the conversation, in an order of its own: everything until it closes.
fn answers(client: &mut Client) -> Vec<Packet> {
    let mut answers: Vec<Packet> = std::iter::from_fn(|| client.recv_or_closed()).collect();
    answers.sort_by_key(|packet| format!("{packet:?}"));
    answers
}

/// A stream may arrive in any pieces: all at once or byte by byte, the answers are the same.
#[test]
fn single_bytes() {
    let broker = Broker::start(&[]);
    let mut bystander = Bystander::new(&broker);
    for version in Version::ALL {
        let bytes = conversation(version)
            .iter()
            .map(|packet| packet.encode(version))
            .collect::<Vec<_>>()
            .concat();
        let mut whole = broker.open(version);
        whole.send_bytes(&bytes);
        let expected = answers(&mut whole);
        assert!(expected.len() >= 7, "{expected:?}");
        let mut pieces = broker.open(version);
        for byte in bytes.chunks(1) {
            pieces.send_bytes(byte);
        }
        let mut received = answers(&mut pieces);
        // Whether a message is sent before the SUBSCRIBE of its own topic is undone does not depend on the pieces, but
        // the last answers may be cut off by the client's own DISCONNECT.
        received.retain(|packet| expected.contains(packet));
        assert_eq!(received, expected);
        bystander.is_served();
    }
}

/// A packet that never ends, at every place where it can be cut, followed by the end of the connection: no answer, and
/// nothing but the will of a client that was connected.
#[test]
fn truncated_at_every_place() {
    let broker = Broker::start(&[]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("will", 0);
    let mut bystander = Bystander::new(&broker);
    for version in Version::ALL {
        let packets = conversation(version);
        let connect = packets[0].encode(version);
        for length in 0..connect.len() {
            let mut client = broker.open(version);
            client.send_bytes(&connect[..length]);
            client.end_writing();
            client.expect_closed();
        }
        for packet in &packets[1..] {
            let bytes = packet.encode(version);
            for length in 1..bytes.len().min(20) {
                let mut client = broker.open(version);
                client.send_bytes(&connect);
                assert_eq!(client.recv_connack().code, 0);
                client.send_bytes(&bytes[..length]);
                client.end_writing();
                client.expect_closed();
                watcher.expect_message("will", "ended by a fault");
            }
        }
        bystander.is_served();
    }
}

/// Hundreds of packets in one write are all answered, in order.
#[test]
fn pipelined() {
    const COUNT: u16 = 1000;
    let broker = Broker::start(&[]);
    let mut bystander = Bystander::new(&broker);
    for version in Version::ALL {
        let mut client = broker.connect(Connect::new(version, "pipeline"));
        client.subscribe("t", 0);
        let mut bytes = Vec::new();
        for id in 1..=COUNT {
            bytes.extend(Packet::from(Publish::new("t", id.to_string()).qos(1, id)).encode(version));
            bytes.extend(Packet::Pingreq.encode(version));
            bytes.extend(Packet::from(Subscribe::new(id).filter("other", 1)).encode(version));
        }
        client.send_bytes(&bytes);
        let (mut acks, mut pings, mut subacks, mut messages) = (0, 0, 0, 0);
        while (acks, pings, subacks, messages) != (COUNT, COUNT, COUNT, COUNT) {
            match client.recv() {
                Packet::Puback(ack) => {
                    acks += 1;
                    assert_eq!(ack.id, acks);
                }
                Packet::Pingresp => pings += 1,
                Packet::Suback(suback) => {
                    subacks += 1;
                    assert_eq!(suback.id, subacks);
                }
                Packet::Publish(message) => {
                    messages += 1;
                    assert_eq!(message.text(), messages.to_string());
                }
                other => panic!("not expected: {other:?}"),
            }
        }
        bystander.is_served();
        client.disconnect();
    }
}

/// Packets behind a faulty one in the same write are not processed, those before it are.
#[test]
fn pipelined_with_a_fault() {
    let broker = Broker::start(&[]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("t", 1);
    for version in Version::ALL {
        let mut client = broker.connect(Connect::new(version, "pipeline"));
        let publish = |id: u16| Packet::from(Publish::new("t", id.to_string()).qos(1, id)).encode(version);
        let before = (1..=50).flat_map(publish).collect::<Vec<u8>>();
        let after = (51..=5000).flat_map(publish).collect::<Vec<u8>>();
        // The broker may close while the rest is still being written.
        let _ = client.try_send_bytes(&[before, vec![0x36, 0], after].concat());
        for id in 1..=50 {
            assert_eq!(client.recv_puback().id, id);
        }
        client.expect_cut(code::MALFORMED);
        for id in 1..=50 {
            watcher.expect_message("t", id.to_string());
        }
        let mut other = broker.v5("other");
        watcher.assert_nothing_from(&mut other);
    }
}

/// A header that claims 256 MB allocates nothing: neither above the maximum packet size, where the client is cut, nor
/// below it, where the broker waits for a body that does not come.
#[test]
fn claims_are_not_paid_in_advance() {
    for (limit, accepted) in [("1048576", false), ("268435455", true)] {
        let broker = Broker::start(&["--max-packet-size", limit]);
        let mut bystander = Bystander::new(&broker);
        let mut clients: Vec<Client> = (0..100)
            .map(|number| broker.v311(&format!("claimant{number}")))
            .collect();
        let before = broker.rss_kib();
        for client in &mut clients {
            // 268,435,440 bytes, with the header within the limit.
            client.send_bytes(&[0x30, 0xf0, 0xff, 0xff, 0x7f, 0, 1, b't', b'x']);
            if !accepted {
                client.expect_closed();
            }
        }
        bystander.is_served();
        if let (Some(before), Some(after)) = (before, broker.rss_kib()) {
            assert!(after < before + 16 * 1024, "{before} KiB grew to {after} KiB");
        }
    }
}

/// The same before CONNECT, by whoever has not said who he is.
#[test]
fn claims_before_connect() {
    let broker = Broker::start(&["--max-packet-size", "268435455"]);
    let mut bystander = Bystander::new(&broker);
    let before = broker.rss_kib();
    let _strangers: Vec<Client> = (0..100)
        .map(|_| {
            let mut stranger = broker.open(Version::V5);
            stranger.send_bytes(&[0x10, 0xf0, 0xff, 0xff, 0x7f, 0, 4, b'M', b'Q', b'T', b'T', 5]);
            stranger
        })
        .collect();
    bystander.is_served();
    if let (Some(before), Some(after)) = (before, broker.rss_kib()) {
        assert!(after < before + 16 * 1024, "{before} KiB grew to {after} KiB");
    }
}

/// A large packet that does come, in small pieces, arrives.
#[test]
fn large_packet_in_pieces() {
    let broker = Broker::start(&["--max-packet-size", "20000000"]);
    let mut bystander = Bystander::new(&broker);
    let mut client = broker.v5("large");
    client.subscribe("t", 0);
    let payload: Vec<u8> = (0..10_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let bytes = Packet::from(Publish::new("t", &payload)).encode(Version::V5);
    for piece in bytes.chunks(70_001) {
        client.send_bytes(piece);
    }
    bystander.is_served();
    assert!(client.recv_publish().payload == payload);
}

/// Connections that are opened and left alone, half of them closed for writing, do not keep others out; with
/// `--connect-timeout` they are gone after a while.
#[test]
fn half_open_connections() {
    let broker = Broker::start(&["--connect-timeout", "1"]);
    let mut bystander = Bystander::new(&broker);
    let mut strangers: Vec<Client> = (0..500).map(|_| broker.open(Version::V5)).collect();
    for stranger in strangers.iter().step_by(2) {
        stranger.end_writing();
    }
    bystander.is_served();
    broker.assert_serves();
    strangers.iter_mut().for_each(Client::expect_closed);
    bystander.is_served();
}

/// A client that closes for writing and goes on reading is gone for the broker.
#[test]
fn half_closed_client() {
    let broker = Broker::start(&[]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("will", 0);
    for version in Version::ALL {
        let mut client = broker.connect(Connect::new(version, "half").will(Will::new("will", "gone")));
        client.end_writing();
        client.expect_closed();
        watcher.expect_message("will", "gone");
    }
}

/// Two thousand connections, one after the other and all at once, that send CONNECT and vanish, half of them without
/// a word of farewell: the broker serves on, and keeps no memory of them.
#[test]
fn flood_of_connects() {
    const CLIENTS: usize = 2000;
    let broker = Broker::start(&[]);
    let mut bystander = Bystander::new(&broker);
    let flood = |round: usize| {
        for number in 0..CLIENTS {
            let version = Version::ALL[number % 3];
            let mut client = broker.open(version);
            client.send(Connect::new(version, &format!("flood{round}x{number}")));
            if number % 2 == 0 {
                assert_eq!(client.recv_connack().code, 0);
                client.send(Disconnect::new(0));
            }
        }
    };
    flood(0);
    bystander.is_served();
    let before = broker.rss_kib();
    (1..4).for_each(flood);
    bystander.is_served();
    broker.assert_serves();
    if let (Some(before), Some(after)) = (before, broker.rss_kib()) {
        assert!(after < before + 16 * 1024, "{before} KiB grew to {after} KiB");
    }
}

/// The same with all of them connected at a time.
#[test]
fn crowd_of_clients() {
    let broker = Broker::start(&[]);
    let mut bystander = Bystander::new(&broker);
    let mut crowd: Vec<Client> = (0..400).map(|number| broker.v311(&format!("crowd{number}"))).collect();
    for client in &mut crowd {
        client.subscribe("crowd", 0);
    }
    bystander.0.publish("crowd", "x", 0);
    for client in &mut crowd {
        client.expect_message("crowd", "x");
    }
    drop(crowd);
    bystander.is_served();
}

/// Many more connections than are allowed: those too many are closed, and nobody else notices.
#[test]
fn more_connections_than_allowed() {
    let broker = Broker::start(&["--max-connections", "20"]);
    let mut bystander = Bystander::new(&broker);
    let mut strangers: Vec<Client> = (0..200).map(|_| broker.open(Version::V5)).collect();
    bystander.is_served();
    for stranger in &mut strangers {
        // Some were closed before they said anything; the others are for this first packet.
        let _ = stranger.try_send_bytes(&[0xC0, 0]);
        while stranger.recv_or_closed().is_some() {}
    }
    bystander.is_served();
    broker.assert_serves();
}

/// Where files are scarce a connection too many is refused or waits, and the broker neither ends nor spins; when others
/// have left it accepts again.
#[test]
fn out_of_files() {
    let broker = Broker::start_with_files(256, &[]);
    let mut bystander = Bystander::new(&broker);
    let strangers: Vec<Stream> = (0..400).map(|_| Stream::tcp(broker.addr())).collect();
    bystander.is_served();
    let before = broker.cpu_ticks();
    for _ in 0..2 {
        // Two seconds, by the clock of a client that was there before.
        let start = std::time::Instant::now();
        while start.elapsed().as_secs() < 1 {
            std::thread::sleep(std::time::Duration::from_millis(50));
            bystander.is_served();
        }
    }
    if let (Some(before), Some(after)) = (before, broker.cpu_ticks()) {
        assert!(
            after - before < 60,
            "{} hundredths of a second of CPU for nothing",
            after - before
        );
    }
    drop(strangers);
    eventually("the broker accepts again", || {
        let mut client = broker.open(Version::V5);
        client.send(Connect::v5("late"));
        matches!(client.recv_or_closed(), Some(Packet::Connack(connack)) if connack.code == 0)
    });
    bystander.is_served();
}

/// Deep topics and filters, of up to 65,535 bytes which are all separators, are handled like others, subscribed and
/// unsubscribed, retained and cleared [MQTT-4.7.3-3] [MQTT3-4.7.3-3].
#[test]
fn deepest_topics() {
    let broker = Broker::start(&["--max-topic-levels", "65536"]);
    let mut bystander = Bystander::new(&broker);
    let deep = "/".repeat(65_535);
    let wildcard = "+/".repeat(32_767);
    for version in Version::ALL {
        let mut client = broker.connect(Connect::new(version, "deep"));
        for filter in [deep.as_str(), &wildcard, "/#"] {
            client.subscribe(filter, 0);
        }
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        publisher.publish_packet(Publish::new(&deep, "x").qos(1, 0).retain());
        client.expect_message(&deep, "x");
        for filter in [deep.as_str(), &wildcard, "/#"] {
            client.unsubscribe(filter);
        }
        client.subscribe(&deep, 0);
        assert!(client.expect_message(&deep, "x").retain);
        publisher.publish_packet(Publish::new(&deep, "").qos(1, 0).retain());
        client.expect_message(&deep, "");
        client.disconnect();
    }
    bystander.is_served();
}
