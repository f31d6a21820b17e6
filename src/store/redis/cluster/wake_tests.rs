use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::packet::QoS;
use crate::store::op::TermsRecord;
use crate::store::redis::cluster::follow::Threads;
use crate::store::redis::cluster::testing::{Ending, Recorder, born_at, cut};
use crate::store::redis::entry::{live_terms, message_bytes};
use crate::store::redis::testing::{Cluster, RedisServer, publication};

/// Incarnation 5, which listens.
struct Node {
    recorder: Arc<Recorder>,
    life: Ending,
    _threads: Threads,
}

impl Node {
    fn listen(settings: &RedisSettings) -> Node {
        let keys = Keys::new("mqtt").expect("a prefix");
        let (_, life) = born_at(0);
        let recorder = Arc::<Recorder>::default();
        let follower: Arc<dyn Follower> = recorder.clone();
        let threads = Threads::new(settings, &life);
        let wake = Wake::new(settings, (&keys, 5), &life, &follower);
        threads.start(wake).expect("starts");
        let node = Node {
            recorder,
            life: Ending(life),
            _threads: threads,
        };
        assert_eq!(node.recorder.until("look"), ["look"]);
        node
    }
}

fn say(server: &RedisServer, event: &[u8]) -> u64 {
    let mut command = redis::cmd("PUBLISH");
    command.arg("mqtt:wake:5").arg(event);
    command.query(&mut server.connection()).expect("is said")
}

/// Terms and a message.
type Parts<'a> = (&'a [u8], &'a [u8]);

/// What was put into one queue: the terms and the message of each, or how many.
fn news(uid: u64, place: u64, messages: Result<&[Parts<'_>], u32>) -> Vec<u8> {
    let (count, entries) = match messages {
        Ok(messages) => {
            let parts = messages.iter().flat_map(|(terms, message)| [*terms, message]);
            let sized = parts.flat_map(|part| [&length(part)[..], part].concat());
            let entries = std::iter::once(b'E').chain(sized);
            (u32::try_from(messages.len()).expect("few"), entries.collect())
        }
        Err(count) => (count, Vec::new()),
    };
    let (uid, place) = (uid.to_be_bytes(), place.to_be_bytes());
    [&uid[..], &place, &count.to_be_bytes(), &length(&entries), &entries].concat()
}

fn length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).expect("is short").to_be_bytes()
}

fn event(news: &[Vec<u8>]) -> Vec<u8> {
    [b"m", &news.concat()[..]].concat()
}

#[test]
fn events_are_told() {
    let server = RedisServer::start(&[]);
    let node = Node::listen(&server.settings());
    say(&server, b"n5.12 a client");
    say(&server, b"g\xC3\xA4");
    say(&server, &event(&[news(3, 7, Err(2)), news(u64::MAX, 9, Err(1))]));
    let last = format!("{} has None at 9", u64::MAX);
    assert_eq!(
        node.recorder.until(&last),
        [
            "a client is wanted from 5.12",
            "ä is granted",
            "3 has None at 7",
            "3 has None at 8",
            &last
        ]
    );
}

#[test]
fn messages_come_with_their_terms() {
    let terms = TermsRecord {
        qos: QoS::ExactlyOnce,
        retain: true,
        subscription_ids: &[0, 0, 0, 9],
        share: Some("g"),
    };
    let message = publication("t", b"hello");
    let (terms, bytes) = (live_terms(&message, &terms), message_bytes(&message));
    let event = news(3, 4, Ok(&[(&terms, &bytes), (&terms, &bytes)]));
    let (head, entries) = event.split_at(24);
    let (uid, place, count) = (3, 4, 2);
    assert_eq!(put(&mut Reader::new(head)), Ok(Put { uid, place, count }));
    for message in messages(2, entries).expect("are read") {
        let message = message.expect("is there");
        assert_eq!(message.message.payload(), b"hello");
        assert_eq!((message.qos, message.retain), (QoS::ExactlyOnce, true));
        assert_eq!(
            (&*message.subscription_ids, message.share.as_deref()),
            (&[9][..], Some("g"))
        );
    }
    for end in 1..entries.len() {
        assert!(messages(2, &entries[..end]).is_err(), "{end}");
    }
    assert!(messages(1, entries).is_err() && messages(3, entries).is_err());
}

/// Long entries are an event of their own.
#[test]
fn entries_may_come_behind() {
    let server = RedisServer::start(&[]);
    let node = Node::listen(&server.settings());
    let terms = TermsRecord {
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: &[],
        share: None,
    };
    let message = publication("t", b"hello");
    let (terms, message) = (live_terms(&message, &terms), message_bytes(&message));
    let told = news(3, 4, Ok(&[(&terms, &message), (&terms, &message)]));
    let head = [b"M", &told[..20]].concat();
    say(&server, &told[24..]);
    say(&server, &head);
    say(&server, &told[24..]);
    say(&server, &told[24..]);
    say(&server, b"n5.1 c");
    let told = [
        "3 has Some(\"hello\") at 4",
        "3 has Some(\"hello\") at 5",
        "c is wanted from 5.1",
    ];
    assert_eq!(node.recorder.until("c is wanted from 5.1"), told);
}

#[test]
fn what_may_have_been_missed_is_looked_for() {
    let server = RedisServer::start(&[]);
    let node = Node::listen(&server.settings());
    for round in 0..3 {
        cut(&server);
        assert_eq!(node.recorder.until("look"), ["look"]);
        say(&server, format!("n5.1 {round}").as_bytes());
        assert_eq!(node.recorder.until(&format!("{round} is wanted from 5.1")).len(), 1);
    }
}

#[test]
fn what_is_not_understood_is_left_out() {
    let server = RedisServer::start(&[]);
    let node = Node::listen(&server.settings());
    for event in [
        &b""[..],
        b"x",
        b"n\xFF",
        b"nc",
        b"n5 c",
        b"m123",
        &event(&[news(1, 2, Ok(&[(b"123456", b"x")]))]),
    ] {
        assert_eq!(say(&server, event), 1);
    }
    say(&server, b"n5.1 c");
    assert_eq!(node.recorder.until("c is wanted from 5.1"), ["c is wanted from 5.1"]);
}

/// It hears them though nothing is said for longer than it waits for that, and while its connection is tried.
#[test]
fn silence_does_no_harm() {
    let server = RedisServer::start(&[]);
    let node = Node::listen(&server.settings());
    let pings = || -> bool {
        let stats: String = server.command(&["INFO", "commandstats"]);
        stats.contains("cmdstat_ping:")
    };
    while !pings() {
        std::thread::yield_now();
    }
    say(&server, b"n5.1 c");
    assert_eq!(node.recorder.until("c is wanted from 5.1"), ["c is wanted from 5.1"]);
}

/// What comes in parts, with so long a pause between them that it looks up meanwhile, is whole.
#[test]
fn an_event_may_come_in_parts() {
    let server = RedisServer::start_at_a_port(&[]);
    let mut settings = server.settings();
    settings.url = format!("redis://127.0.0.1:{}", slow_relay(server.port.expect("has one")));
    let node = Node::listen(&settings);
    say(&server, b"n5.1 slow");
    say(&server, b"n5.1 next");
    assert_eq!(
        node.recorder.until("next is wanted from 5.1"),
        ["slow is wanted from 5.1", "next is wanted from 5.1"]
    );
}

/// Passes one connection on, with a pause in the midst of what is slow.
fn slow_relay(server: u16) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let mut server = TcpStream::connect(("127.0.0.1", server)).expect("the server is there");
        let (mut from, mut to) = (client.try_clone().expect("cloned"), server.try_clone().expect("cloned"));
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = server.read(&mut buffer) {
            let slow = buffer[..length].windows(5).position(|part| part == b"nslow");
            let (first, rest) = buffer[..length].split_at(slow.map_or(0, |at| at + 2));
            client.write_all(first).expect("is passed on");
            if slow.is_some() {
                std::thread::sleep(LISTENS * 2);
            }
            client.write_all(rest).expect("is passed on");
        }
    });
    port
}

#[test]
fn who_may_not_listen_says_so() {
    let server = RedisServer::start(&[]);
    server.command::<()>(&["ACL", "SETUSER", "u", "on", ">p", "~*", "resetchannels", "+@all"]);
    let mut settings = server.settings();
    settings.url = format!("{}?user=u&pass=p", server.url());
    let link = Link::connect(&settings).expect("connects");
    let (_, life) = born_at(0);
    let recorder = Arc::<Recorder>::default();
    let follower: Arc<dyn Follower> = recorder.clone();
    let keys = Keys::new("mqtt").expect("a prefix");
    let error = Wake::new(&settings, (&keys, 5), &life, &follower).serve(link);
    let error = error.expect_err("is not allowed");
    assert!(error.to_string().contains("NOPERM"), "{error}");
    assert_eq!(recorder.rest(), [""; 0]);
}

#[test]
fn all_servers_of_a_redis_cluster_are_heard() {
    let cluster = Cluster::start(3);
    let node = Node::listen(&cluster.settings());
    for (place, server) in cluster.servers.iter().enumerate() {
        say(server, format!("n5.1 {place}").as_bytes());
        node.recorder.until(&format!("{place} is wanted from 5.1"));
    }
    assert_eq!(node.life.0.check(), Ok(()));
}
