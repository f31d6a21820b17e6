use std::time::Duration;

use super::*;
use crate::store::cluster::RouteKind;
use crate::store::redis::cluster::follow::Threads;
use crate::store::redis::cluster::testing::{Ending, Recorder, add, born_at, cut, log, wait_until};
use crate::store::redis::testing::RedisServer;

const LONG: Duration = Duration::from_secs(20);

/// Incarnation 5, which follows the log from a position.
struct Node {
    recorder: Arc<Recorder>,
    recent: Arc<Recent>,
    contact: Arc<Contact>,
    life: Ending,
    _threads: Threads,
}

impl Node {
    fn follow(settings: &RedisSettings, from: u64) -> Node {
        let keys = Keys::new("mqtt").expect("a prefix");
        let (recent, life) = born_at(from);
        let (recorder, contact) = (Arc::<Recorder>::default(), Arc::default());
        let follower: Arc<dyn Follower> = recorder.clone();
        let threads = Threads::new(settings, &life);
        let reader = LogReader::new(settings, (&keys, 5), &recent, &life, &follower, &contact);
        threads.start(reader).expect("starts");
        Node {
            recorder,
            recent,
            contact,
            life: Ending(life),
            _threads: threads,
        }
    }

    /// Why it has ended, as it does.
    fn ended(&self) -> String {
        assert!(!self.recent.wait_for(u64::MAX, LONG));
        match self.life.0.check() {
            Err(StoreError::Refused(why)) => why,
            other => panic!("{other:?}"),
        }
    }
}

fn end(uid: u64) -> Entry<'static> {
    Entry::End { uid }
}

fn told(uids: impl IntoIterator<Item = u64>) -> Vec<String> {
    uids.into_iter().map(|uid| format!("{:?}", end(uid))).collect()
}

#[test]
fn entries_are_applied_in_order_and_once() {
    let server = RedisServer::start(&[]);
    (1..=600).for_each(|uid| log(&server, &end(uid)));
    // What was there before is in the snapshot.
    let node = Node::follow(&server.settings(), 10);
    assert_eq!(node.recorder.until(&told([600])[0]), told(11..=600));
    for uid in 601..=620 {
        cut(&server);
        log(&server, &end(uid));
        log(&server, &end(uid + 1000));
        assert_eq!(node.recorder.until(&told([uid + 1000])[0]), told([uid, uid + 1000]));
    }
    assert!(node.recent.wait_for(640, LONG));
    assert_eq!((node.recent.position(), node.life.0.check()), (640, Ok(())));
    wait_until("it has been answered", || node.contact.get().is_some());
}

/// Messages that were matched before a subscription was applied must look at it.
#[test]
fn what_concerns_messages_is_kept_for_the_batches() {
    let server = RedisServer::start(&[]);
    let node = Node::follow(&server.settings(), 0);
    let (kind, filter) = (RouteKind::All, "f");
    log(&server, &end(1));
    log(&server, &Entry::Route { node: 3, filter, kind });
    log(&server, &Entry::Unroute { node: 3, filter });
    assert!(node.recent.wait_for(3, LONG));
    // The recorder says that batch 7 is open.
    let positions = |batch| {
        let entries = node.recent.of_batch(batch);
        entries.iter().map(|entry| entry.position).collect::<Vec<_>>()
    };
    assert_eq!((positions(7), positions(8)), (vec![2], vec![]));
}

#[test]
fn who_is_declared_dead_ends() {
    let server = RedisServer::start(&[]);
    let node = Node::follow(&server.settings(), 0);
    log(&server, &Entry::Dead(4));
    log(&server, &Entry::Dead(5));
    log(&server, &end(1));
    assert!(node.ended().contains("dead"));
    assert_eq!(node.recorder.rest(), [format!("{:?}", Entry::Dead(4))]);
    assert_eq!(node.recent.position(), 1);
}

#[test]
fn what_was_dropped_before_it_was_applied_is_noticed() {
    let server = RedisServer::start(&[]);
    let node = Node::follow(&server.settings(), 0);
    log(&server, &end(1));
    assert!(node.recent.wait_for(1, LONG));
    server.command::<u64>(&["HINCRBY", "mqtt:{g}:meta", "pos", "1"]);
    assert!(node.ended().contains("any more"), "nothing comes behind it");

    let node = Node::follow(&server.settings(), 1);
    // It ends either way: it is looked at before or after this.
    log(&server, &end(3));
    assert!(node.ended().contains("any more"));
    assert_eq!(node.recorder.rest(), [""; 0]);
}

#[test]
fn a_server_that_has_lost_what_was_applied_is_noticed() {
    let server = RedisServer::start(&[]);
    let node = Node::follow(&server.settings(), 0);
    (1..=3).for_each(|uid| log(&server, &end(uid)));
    assert!(node.recent.wait_for(3, LONG));
    server.command::<()>(&["HSET", "mqtt:{g}:meta", "pos", "2"]);
    assert!(node.ended().contains("lost"));

    // As far, and with something else.
    server.command::<()>(&["FLUSHALL"]);
    log(&server, &end(1));
    let node = Node::follow(&server.settings(), 0);
    assert!(node.recent.wait_for(1, LONG));
    let mut other = Vec::new();
    end(9).write(&mut other);
    let mut script = redis::cmd("EVAL");
    script
        .arg("redis.call('DEL', KEYS[1]); redis.call('XADD', KEYS[1], '1-1', 'e', ARGV[1])")
        .arg(1)
        .arg("mqtt:{g}:log")
        .arg(other);
    script.exec(&mut server.connection()).expect("is replaced");
    cut(&server);
    assert!(node.ended().contains("lost"));
}

#[test]
fn an_entry_that_is_not_understood_ends_it() {
    let server = RedisServer::start(&[]);
    let node = Node::follow(&server.settings(), 0);
    server.command::<u64>(&["HINCRBY", "mqtt:{g}:meta", "pos", "1"]);
    add(&server, "mqtt:{g}:log", "1-1", b"\xFF12345678");
    assert!(!node.recent.wait_for(1, LONG));
    let why = node.life.0.check().expect_err("is over");
    // The node begins again, with what there is behind it.
    assert!(matches!(why, StoreError::Refused(_)), "{why:?}");
}

/// A server that stands still, or that all others have left: who waits in vain has another connection made.
#[test]
fn who_waits_in_vain_has_it_read_anew() {
    let server = RedisServer::start(&[]);
    let node = Node::follow(&server.settings(), 0);
    log(&server, &end(1));
    assert!(node.recent.wait_for(1, LONG));
    let connections = || -> u64 {
        let stats: String = server.command(&["INFO", "stats"]);
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix("total_connections_received:"));
        line.and_then(|count| count.trim().parse().ok()).expect("a count")
    };
    // Each look is a connection of its own.
    let mut looks = connections();
    assert!(!node.recent.wait_for(2, Duration::from_millis(1)));
    wait_until("it connects again", || {
        looks += 1;
        connections() > looks
    });
    log(&server, &end(2));
    assert!(node.recent.wait_for(2, LONG));
}

#[test]
fn a_life_that_ends_ends_the_threads() {
    let mut server = RedisServer::start(&[]);
    let node = Node::follow(&server.settings(), 0);
    log(&server, &end(1));
    assert!(node.recent.wait_for(1, LONG));
    // Also without a server.
    server.kill();
    let Node { life, _threads, .. } = node;
    life.0.end(StoreError::Unavailable("closed".to_owned()));
    let begun = Instant::now();
    _threads.join();
    assert!(begun.elapsed() < Duration::from_secs(1));
}
