use super::*;
use crate::store::cluster::Entry;
use crate::store::redis::cluster::testing::{cut, log};
use crate::store::redis::testing::{ALWAYS, RedisServer};

fn membership(settings: &RedisSettings, most: Duration) -> Membership {
    let keys = Keys::new("mqtt").expect("a prefix");
    Membership::new(settings, &keys, 5, most)
}

/// Whether it is a member.
fn beat(membership: &Membership, applied: u64) -> Result<bool, StoreError> {
    let beat = membership.beat(applied, &Servers::default())?;
    Ok(beat.is_member)
}

const LONG: Duration = Duration::from_secs(20);

fn node(server: &RedisServer, incarnation: &str, state: &str) {
    server.command::<()>(&["HSET", "mqtt:{g}:nodes", incarnation, state]);
}

fn state(server: &RedisServer) -> String {
    server.command(&["HGET", "mqtt:{g}:nodes", "5"])
}

#[test]
fn a_beat_counts_and_says_how_far_it_has_come() {
    let server = RedisServer::start(&[]);
    let membership = membership(&server.settings(), LONG);
    assert_eq!(beat(&membership, 3), Ok(false));
    assert!(!server.command::<bool>(&["EXISTS", "mqtt:{g}:nodes"]));
    node(&server, "5", "0:2");
    for (applied, counted) in [(3, "1:3"), (2, "2:3"), (9, "3:9")] {
        assert_eq!(beat(&membership, applied), Ok(true));
        assert_eq!(state(&server), counted);
    }
    // Its connection is cut, and it makes another one.
    cut(&server);
    assert_eq!(beat(&membership, 9), Ok(true));
    assert_eq!(state(&server), "4:9");
}

#[test]
fn a_beat_says_where_all_was_found_and_is_told_what_is_over() {
    let server = RedisServer::start(&[]);
    let membership = membership(&server.settings(), LONG);
    node(&server, "5", "0:2");
    node(&server, "6", "4:2:a1,b2");
    let servers = Servers::parse("c3,d4");
    let beat = |generation| Beat {
        is_member: true,
        generation,
    };
    assert_eq!(membership.beat(3, &servers), Ok(beat(0)));
    assert_eq!(state(&server), "1:3:c3,d4");
    server.command::<()>(&["HSET", "mqtt:{g}:meta", "gen", "7", "pos", "9"]);
    server.command::<()>(&["SADD", "mqtt:{g}:lost", "g", "255"]);
    assert_eq!(membership.beat(3, &servers), Ok(beat(7)));
    let members = membership.members().expect("some");
    assert_eq!(members.nodes, [(5, 2), (6, 4)]);
    assert_eq!(members.servers, [(5, servers), (6, Servers::parse("a1,b2"))]);
    assert_eq!((members.generation, members.position), (7, 9));
    assert_eq!(members.lost.to_string(), "g 255");
    assert_eq!(membership.beat(3, &Servers::default()), Ok(beat(7)));
    assert_eq!(state(&server), "3:3");
    server.command::<()>(&["SADD", "mqtt:{g}:lost", "256"]);
    assert!(matches!(membership.members(), Err(StoreError::Damaged(_))));
}

#[test]
fn a_beat_drops_what_all_have_applied() {
    let server = RedisServer::start(&["--stream-node-max-entries", "1"]);
    let membership = membership(&server.settings(), LONG);
    node(&server, "5", "0:0");
    node(&server, "6", "0:4");
    (1..=9).for_each(|uid| log(&server, &Entry::End { uid }));
    beat(&membership, 9).expect("is a member");
    let first = || -> u64 {
        let entries: Vec<(String, Vec<Vec<u8>>)> = server.command(&["XRANGE", "mqtt:{g}:log", "-", "+"]);
        let first = entries.first().expect("one is left");
        crate::store::redis::cluster::stream::number(first.0.as_bytes()).expect("a number")
    };
    assert!(matches!(first(), 4 | 5), "{}", first());
    beat(&membership, 2).expect("is a member");
    assert!(matches!(first(), 4 | 5), "{}", first());
}

#[test]
fn nodes_and_who_recovers_them_are_read() {
    let server = RedisServer::start(&[]);
    let membership = membership(&server.settings(), LONG);
    let none = membership.members().expect("none");
    assert_eq!((none.nodes, none.recoverers), (vec![], vec![]));
    node(&server, "5", "7:2");
    node(&server, "11", "0:4");
    server.command::<()>(&["HSET", "mqtt:{g}:rec", "3", "5", "4", "11"]);
    let members = membership.members().expect("some");
    assert_eq!(members.nodes, [(5, 7), (11, 0)]);
    assert_eq!(members.recoverers, [(3, 5), (4, 11)]);
    assert!(members.now > none.now || members.now == none.now && none.now.is_some());
    node(&server, "5", "x");
    assert!(matches!(membership.members(), Err(StoreError::Damaged(_))));
}

/// A lease is over before the answer of a server that stands still is given up, unless that is sooner.
#[test]
fn a_beat_does_not_wait_long() {
    let server = RedisServer::start(&[]);
    let membership = membership(&server.settings(), Duration::from_secs(1));
    node(&server, "5", "0:0");
    beat(&membership, 0).expect("is a member");
    server.signal("STOP");
    let begun = Instant::now();
    assert!(matches!(beat(&membership, 0), Err(StoreError::Unavailable(_))));
    assert!(begun.elapsed() < Duration::from_secs(5));
    server.signal("CONT");
    beat(&membership, 0).expect("is a member");
}

#[test]
fn a_beat_needs_no_memory_and_no_script_that_is_kept() {
    let server = RedisServer::start(ALWAYS);
    let membership = membership(&server.settings(), LONG);
    node(&server, "5", "0:0");
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(beat(&membership, 1), Ok(true));
    membership.members().expect("can be read");
    server.command::<()>(&["SCRIPT", "FLUSH"]);
    assert_eq!(beat(&membership, 1), Ok(true));
}
