//! A broker with a bound of memory does not die of what its clients leave with it.
//!
//! Over TCP alone: what is said of memory is the same for every transport.

mod common;
use common::*;

const SERVER_BUSY: u8 = 0x89;
const QUOTA_EXCEEDED: u8 = 0x97;
/// Of the process. The program itself takes some of it.
const BOUND: usize = 96 * 1024 * 1024;

fn broker() -> Broker {
    Broker::start_on(&[
        "--max-memory",
        "96M",
        "--max-queued-bytes",
        "1G",
        "--write-timeout",
        "300",
    ])
}

/// QoS 0 that waits for slow clients goes first: the broker lives within its bound, and clients that read are served.
#[test]
fn messages_of_qos_0_are_shed() {
    let broker = broker();
    let mut slow: Vec<_> = (0..4).map(|number| broker.v5(&format!("slow{number}"))).collect();
    for client in &mut slow {
        client.subscribe("a", 0);
    }
    let mut reader = broker.v5("reader");
    reader.subscribe("b", 1);
    let mut publisher = broker.v5("publisher");
    let payload = vec![b'x'; 64 * 1024];
    // Four times more than there is room for.
    for _ in 0..BOUND / payload.len() {
        publisher.send(Publish::new("a", &payload));
    }
    publisher.publish("b", "served", 1);
    reader.expect_message("b", "served");
    broker.expect_log("memory is short");
    // What comes between two looks may be above the bound, if the machine is slow.
    if let Some(kib) = broker.rss_kib() {
        assert!((kib as usize) < BOUND / 1024 * 2, "{kib} KiB");
    }
    eventually("there is enough again", || {
        broker.log().contains("there is enough memory again")
    });
    // It may have been short several times.
    eventually("new clients are accepted", || {
        broker.try_connect(Connect::v5("new")).connack.code == 0
    });
}

/// What is acknowledged is kept, so what can't be kept is not acknowledged: MQTT 5.0 clients are told 0x97, others are
/// closed. Who has no session is refused; who has one may take what waits, and then there is room for all.
#[test]
fn messages_of_qos_1_and_2_are_refused() {
    let broker = broker();
    let mut away = broker.connect(Connect::v5("away").prop(Prop::SessionExpiry(1000)));
    away.subscribe("a", 1);
    away.disconnect();
    let mut publisher = broker.v5("publisher");
    let mut old = broker.connect(Connect::v311("old"));
    let payload = vec![b'x'; 256 * 1024];
    let (mut kept, mut number) = (0, 1);
    loop {
        publisher.send(Publish::new("a", &payload).qos(1 + (number % 2) as u8, number));
        let reason = match number % 2 {
            0 => publisher.recv_puback().reason,
            _ => publisher.recv_pubrec().reason,
        };
        if reason == QUOTA_EXCEEDED {
            break;
        }
        assert_eq!(reason, 0);
        if number % 2 == 1 {
            publisher.send(Packet::Pubrel(Ack::new(number)));
            publisher.recv_pubcomp();
        }
        kept += 1;
        number += 1;
        assert!(kept < 2 * BOUND / payload.len(), "all is accepted");
    }
    old.send(Publish::new("a", "x").qos(1, 1));
    old.expect_closed();
    broker.expect_refused(Connect::v5("new"), SERVER_BUSY);
    broker.expect_refused(Connect::v311("new"), 3);
    let mut back = broker.connect(Connect::v5("away").clean(false).prop(Prop::SessionExpiry(1000)));
    for _ in 0..kept {
        assert_eq!(back.message().payload.len(), payload.len());
    }
    eventually("there is enough again", || {
        broker.log().contains("there is enough memory again")
    });
    eventually("new clients are accepted", || {
        broker.try_connect(Connect::v5("new")).connack.code == 0
    });
    broker.v5("new").publish("a", "x", 1);
    back.expect_message("a", "x");
}

/// Who has gone has left room for others, although the process stays as large as it was.
#[test]
fn sessions_that_end_make_room() {
    let broker = Broker::start_on(&["--max-memory", "32M"]);
    let come = |number: u32, expiry| {
        let connect = Connect::v5(&format!("session-{number}")).prop(Prop::SessionExpiry(expiry));
        let mut client = broker.try_connect(connect);
        let code = client.connack.code;
        if code == 0 {
            client.disconnect();
        }
        code
    };
    let mut count = 0;
    loop {
        match come(count, 1000) {
            0 => count += 1,
            code => break assert_eq!(code, SERVER_BUSY),
        }
        assert!(count < 100_000, "all are accepted");
    }
    // Who has a session may come, and end it.
    for number in 0..count {
        assert_eq!(come(number, 0), 0);
    }
    eventually("there is enough again", || {
        broker.log().contains("there is enough memory again")
    });
    broker.v5("new").ping();
}

/// Whoever sends half of a large packet holds memory that nobody has allowed. Clients get more of it than strangers.
#[test]
fn halves_of_packets_are_bounded() {
    let broker = Broker::start_on(&["--max-memory", "64M", "--log-level", "debug"]);
    let mut good = broker.v5("good");
    good.subscribe("a", 1);
    let half = vec![0; 900_000];
    let head = |first: u8| [&[first, 0xc0, 0x84, 0x3d][..], b"\0\x04MQTT\x05\x02"].concat();
    let mut strangers: Vec<_> = (0..200).map(|_| broker.open(Version::V5)).collect();
    for stranger in &mut strangers {
        // An error tells that the broker has closed.
        let _ = stranger.try_send_bytes(&[&head(0x10)[..], &half].concat());
    }
    good.publish("a", "among strangers", 1);
    good.expect_message("a", "among strangers");
    assert_within_bound(&broker);
    let mut clients: Vec<_> = (0..200)
        .filter_map(|number| {
            let client = broker.try_connect(Connect::v5(&format!("client{number}")));
            (client.connack.code == 0).then_some(client)
        })
        .collect();
    assert!(clients.len() > 100, "{} are accepted", clients.len());
    for client in &mut clients {
        let _ = client.try_send_bytes(&[&head(0x30)[..], &half].concat());
    }
    // Whom it is told depends on who was there first.
    broker.expect_log("0x97");
    broker.expect_log("the broker has no memory for packets that arrive in parts");
    good.ping();
    assert_within_bound(&broker);
    drop((strangers, clients));
    eventually("others are served", || {
        broker.try_connect(Connect::v5("new")).connack.code == 0
    });
}

fn assert_within_bound(broker: &Broker) {
    if let Some(kib) = broker.rss_kib() {
        assert!(kib < 64 * 1024 * 2, "{kib} KiB");
    }
}

/// Connections that are no clients take memory, too; some have to be let in, since one may be that of a session whose
/// messages wait.
#[test]
fn few_strangers_are_let_in_where_memory_is_full() {
    let broker = Broker::start_on(&[
        "--max-memory",
        "48M",
        "--max-queued-bytes",
        "1G",
        "--connect-timeout",
        "300",
    ]);
    let connect = || Connect::v5("away").clean(false).prop(Prop::SessionExpiry(1000));
    let mut away = broker.connect(connect());
    away.subscribe("a", 1);
    away.disconnect();
    let mut publisher = broker.v5("publisher");
    let payload = vec![b'x'; 256 * 1024];
    let refused = (1..1000).find(|&number| {
        publisher.send(Publish::new("a", &payload).qos(1, number));
        publisher.recv_puback().reason == QUOTA_EXCEEDED
    });
    assert!(refused.is_some(), "all is accepted");
    let mut strangers: Vec<_> = (0..300).map(|_| broker.open(Version::V5)).collect();
    strangers.last_mut().expect("not empty").expect_closed();
    publisher.ping();
    drop(strangers);
    let mut back = None;
    eventually("the session can be had", || {
        let mut client = broker.open(Version::V5);
        let connect = wire_bytes(connect());
        let is_in = client.try_send_bytes(&connect).is_ok()
            && matches!(client.recv_or_closed(), Some(Packet::Connack(connack)) if connack.code == 0);
        back = is_in.then_some(client);
        is_in
    });
    assert_eq!(back.expect("is in").message().payload.len(), payload.len());
}

fn wire_bytes(connect: Connect) -> Vec<u8> {
    Packet::from(connect).encode(Version::V5)
}
