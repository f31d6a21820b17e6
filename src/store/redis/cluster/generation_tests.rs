use super::*;
use crate::store::cluster::Limits;
use crate::store::redis::cluster::ClusterStore;
use crate::store::redis::testing::RedisServer;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(60);
const LIMITS: Limits = Limits {
    queue_messages: 10,
    queue_bytes: 1000,
    drops_oldest: false,
    retained_messages: 10,
};

fn join(server: &RedisServer) -> ClusterStore {
    ClusterStore::open(&server.settings(), LIMITS, LEASE).expect("joins")
}

/// As if another server had taken its place.
fn replace(server: &RedisServer) {
    server.command::<()>(&["HSET", "mqtt:{g}:meta", "server", "another"]);
}

fn asked<T>(server: &RedisServer, ask: impl FnOnce(&mut Link, &Keys) -> T) -> T {
    let settings = server.settings();
    let keys = Keys::new(&settings.prefix).expect("a prefix");
    ask(&mut Link::connect(&settings).expect("connects"), &keys)
}

fn raised(server: &RedisServer, over: Incarnation) -> Incarnation {
    asked(server, |link, keys| raise(link, keys, over, Homes::all())).expect("an answer")
}

#[test]
fn numbers_that_a_server_may_have_forgotten_do_not_come_again() {
    let server = RedisServer::start(&[]);
    let (one, two) = (join(&server), join(&server));
    assert_eq!((one.incarnation, two.incarnation), (1, 2));
    replace(&server);
    let three = join(&server);
    assert!(
        (2 + 64..=2 + 64 + 448).contains(&three.incarnation),
        "{}",
        three.incarnation
    );
    // Only once for each server.
    assert_eq!(join(&server).incarnation, three.incarnation + 1);
    assert_eq!((three.generation, raised(&server, 2)), (0, three.incarnation + 1));
}

#[test]
fn all_that_a_server_may_have_forgotten_is_over() {
    let server = RedisServer::start(&[]);
    let one = join(&server);
    replace(&server);
    let generation = raised(&server, one.incarnation);
    assert!(generation >= one.incarnation + 64, "{generation}");
    let next = join(&server);
    assert_eq!((next.incarnation, next.generation), (generation + 1, generation));
    // One that it knows nothing of.
    let generation = raised(&server, next.incarnation + 10);
    assert_eq!(generation, next.incarnation + 10);
    assert_eq!(join(&server).incarnation, generation + 1);
}

#[test]
fn who_may_write_and_who_could_are_found() {
    let server = RedisServer::start(&[]);
    let one = join(&server);
    server.command::<()>(&["SADD", "mqtt:{7}:fenced", "12"]);
    server.command::<()>(&["HSET", "mqtt:{7}:hw", "top", "12"]);
    let found = asked(&server, |link, keys| writers(link, keys, Home::buckets())).expect("an answer");
    assert_eq!(found, [one.incarnation, 12].into());
}
