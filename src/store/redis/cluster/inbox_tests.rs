use super::*;
use crate::store::op::put_publication;
use crate::store::redis::cluster::follow::Threads;
use crate::store::redis::cluster::testing::{Ending, Recorder, add, born_at, cut, messages, wait_until};
use crate::store::redis::testing::{RedisServer, publication as publication_of};

const LONG: Duration = Duration::from_secs(20);
const INBOX: &str = "mqtt:{5}:in:5";
const QOS0: &str = "mqtt:{5}:in0:5";

/// Incarnation 5, which reads its inbox.
struct Node {
    recorder: Arc<Recorder>,
    progress: Arc<Progress>,
    contact: Arc<Contact>,
    keys: Keys,
    life: Ending,
    _threads: Threads,
}

impl Node {
    fn follow(settings: &RedisSettings) -> Node {
        let keys = Keys::new("mqtt").expect("a prefix");
        let (_, life) = born_at(0);
        let (recorder, progress, contact) = (Arc::<Recorder>::default(), Arc::default(), Arc::default());
        let follower: Arc<dyn Follower> = recorder.clone();
        let threads = Threads::new(settings, &life);
        let reader = InboxReader::new(settings, (&keys, 5), &life, &follower, &progress, &contact);
        threads.start(reader).expect("starts");
        Node {
            recorder,
            progress,
            contact,
            keys,
            life: Ending(life),
            _threads: threads,
        }
    }
}

fn put(server: &RedisServer, key: &str, payloads: &[&str]) {
    let payloads: Vec<_> = payloads.iter().map(|payload| (*payload, None)).collect();
    add(server, key, "1-*", &messages(&payloads));
}

fn length(server: &RedisServer, key: &str) -> u64 {
    server.command(&["XLEN", key])
}

#[test]
fn messages_are_told_in_order_and_once_and_removed() {
    let server = RedisServer::start(&[]);
    put(&server, INBOX, &["a", "b"]);
    let node = Node::follow(&server.settings());
    assert_eq!(node.recorder.until("b"), ["a", "b"]);
    for round in 0..200 {
        put(&server, INBOX, &[&format!("{round}"), &format!("{round} too")]);
        if round % 10 == 9 {
            cut(&server);
        }
    }
    add(
        &server,
        INBOX,
        "1-*",
        &messages(&[("shared", Some("$share/g/t")), ("z", None)]),
    );
    let mut all: Vec<_> = (0..200).flat_map(|n| [format!("{n}"), format!("{n} too")]).collect();
    all.extend(["shared of $share/g/t".to_owned(), "z".to_owned()]);
    assert_eq!(node.recorder.until("z"), all);
    wait_until("what has been read is removed", || length(&server, INBOX) == 0);
    assert!(node.contact.get().is_some());
}

#[test]
fn messages_of_qos_0_are_on_their_own() {
    let server = RedisServer::start(&[]);
    let node = Node::follow(&server.settings());
    put(&server, QOS0, &["a", "b"]);
    put(&server, QOS0, &["c"]);
    assert_eq!(node.recorder.until("c"), ["a", "b", "c"]);
    put(&server, INBOX, &["d"]);
    assert_eq!(node.recorder.until("d"), ["d"]);
    wait_until("what has been read is removed", || {
        (length(&server, INBOX), length(&server, QOS0)) == (0, 0)
    });
}

#[test]
fn it_can_be_waited_for() {
    let server = RedisServer::start(&[]);
    let newest = |node: &Node| {
        let mut link = Link::connect(&server.settings()).expect("connects");
        newest(&mut link, &node.keys, 5).expect("is read")
    };
    put(&server, INBOX, &["a"]);
    put(&server, INBOX, &["b"]);
    let node = Node::follow(&server.settings());
    node.progress.wait_for(1, LONG).expect("comes there");
    assert_eq!(node.recorder.rest(), ["a", "b"]);
    wait_until("all is read", || newest(&node).is_none());
    let error = node
        .progress
        .wait_for(2, Duration::from_millis(1))
        .expect_err("there is no more");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    // Who waits is told when it ends.
    node.life.0.end(StoreError::Unavailable("closed".to_owned()));
    let begun = Instant::now();
    assert!(node.progress.wait_for(2, LONG).is_err());
    assert!(begun.elapsed() < LONG / 2);
    put(&server, INBOX, &["c"]);
    put(&server, INBOX, &["d"]);
    assert_eq!(newest(&node), Some(3));
}

/// A replica that takes over may lack what was read, and then gives the same numbers to others.
#[test]
fn numbers_that_are_given_again_are_read() {
    let server = RedisServer::start(&[]);
    let node = Node::follow(&server.settings());
    for payload in ["a", "b", "c"] {
        put(&server, INBOX, &[payload]);
    }
    node.recorder.until("c");
    wait_until("all is read", || length(&server, INBOX) == 0);
    server.command::<()>(&["DEL", INBOX]);
    cut(&server);
    put(&server, INBOX, &["d", "e"]);
    // What was put there before it has connected again is read as well.
    assert_eq!(node.recorder.until("e"), ["d", "e"]);
    put(&server, INBOX, &["f"]);
    assert_eq!(node.recorder.until("f"), ["f"]);
}

#[test]
fn a_head_is_read_as_it_was_put() {
    for share in [None, Some("$share/g/t")] {
        for origin in [None, Some(7 << 40)] {
            let mut bytes = Vec::new();
            Head { share, origin }.put(&mut bytes);
            put_publication(&mut bytes, &publication_of("t", b"m"));
            let mut messages = Vec::new();
            decode(&bytes, &mut messages).expect("can be read");
            let [message] = &messages[..] else {
                panic!("{} messages", messages.len())
            };
            assert_eq!(
                (message.share, message.origin, message.message.payload),
                (share, origin, &b"m"[..])
            );
        }
    }
}

#[test]
fn an_entry_that_is_damaged_is_left_out() {
    let server = RedisServer::start(&[]);
    let node = Node::follow(&server.settings());
    add(&server, INBOX, "1-*", b"\x07");
    let mut cut_off = messages(&[("a", None), ("b", None)]);
    cut_off.pop();
    add(&server, INBOX, "1-*", &cut_off);
    put(&server, INBOX, &["c"]);
    assert_eq!(node.recorder.until("c"), ["a", "c"]);
}
