use super::*;
use crate::store::redis::entry::{job_head, live_terms, message_bytes, record_sums, will_bytes};
use crate::store::redis::script::Scripts;
use crate::store::redis::testing::{Cluster, RedisServer, publication, terms};
use crate::store::{Lane, Page};

fn keys() -> Keys {
    Keys::new("mqtt").expect("a prefix")
}

fn link(server: &RedisServer) -> Link {
    Link::connect(&server.settings()).expect("connects")
}

fn token_of(incarnation: u64, number: u64) -> Token {
    Token { incarnation, number }
}

fn mid_of(incarnation: u64, number: u64) -> Mid {
    Mid { incarnation, number }
}

/// Has the server do something with a value that is no text.
fn set(server: &RedisServer, words: &[&str], value: &[u8]) {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).arg(value);
    command.exec(&mut server.connection()).expect("is set");
}

#[test]
fn who_owns_a_client_is_read() {
    let server = RedisServer::start(&[]);
    let mut link = link(&server);
    let all = |link: &mut Link, ids: &[&str]| {
        let ids: Vec<_> = ids.iter().map(|id| Arc::from(*id)).collect();
        clients(link, &keys(), &ids)
    };
    let client = |link: &mut Link, id| all(link, &[id]).expect("is read").remove(0);
    assert_eq!(client(&mut link, ""), ClientRecord::default());
    let key = format!("mqtt:{{{}}}:c:x y", bucket_of_client("x y"));
    server.command::<()>(&[
        "HSET",
        &key,
        "owner",
        "3.9",
        "opened",
        "3.9",
        "uid",
        "18446744073709551615",
    ]);
    let found = ClientRecord {
        owner: Some(token_of(3, 9)),
        next: None,
        opened: Some(token_of(3, 9)),
        uid: Some(u64::MAX),
        has_wills: false,
    };
    assert_eq!(client(&mut link, "x y"), found);
    let three = all(&mut link, &["other", "x y", ""]).expect("are read");
    assert_eq!(three, [ClientRecord::default(), found, ClientRecord::default()]);
    server.command::<()>(&["HSET", &key, "next", "4.1", "wills", "3.1 4.1"]);
    assert!(client(&mut link, "x y").has_wills);
    assert_eq!(client(&mut link, "x y").next, Some(token_of(4, 1)));
    server.command::<()>(&["HSET", &key, "next", "4"]);
    let error = all(&mut link, &["x y"]);
    assert!(matches!(error, Err(StoreError::Damaged(_))), "{error:?}");
}

#[test]
fn sessions_and_their_queues_are_read() {
    let server = RedisServer::start(&[]);
    let mut link = link(&server);
    let uid = 0x1_0005;
    let read_one = |link: &mut Link| {
        let mut read = sessions(link, &keys(), &[uid, 5, uid]).expect("are read");
        assert_eq!((read.len(), &read[1]), (3, &None));
        assert_eq!(read[0], read[2]);
        let next = read[0].as_ref().map_or(0, |session| session.live.next);
        assert_eq!(next_places(link, &keys(), &[5, uid]), Ok(vec![0, next]));
        read.remove(0)
    };
    assert_eq!(read_one(&mut link), None);
    let record = format!("mqtt:{{5}}:s:{uid}");
    let (client_sum, sum) = record_sums(b"c", [60, 0, 0, 0]);
    let fields = [
        "expiry", "60", "window", "0", "away", "0", "unsent", "0", "cid", "c", "owner", "3",
    ];
    server.command::<()>(&[&["HSET", &record], &fields[..]].concat());
    set(&server, &["HSET", &record, "csum"], &client_sum);
    set(&server, &["HSET", &record, "sum"], &sum);
    set(
        &server,
        &["HSET", &record, "in:8"],
        &message_bytes(&publication("t", b"received")),
    );
    server.command::<()>(&["HSET", &record, "last", "4", "bytes", "2"]);
    let message = publication("t", b"m");
    let queue = format!("mqtt:{{5}}:q:{uid}");
    set(&server, &["RPUSH", &queue], b"4");
    set(&server, &["RPUSH", &queue], &live_terms(&message, &terms()));
    set(&server, &["RPUSH", &queue], &message_bytes(&message));

    let session = read_one(&mut link).expect("is there");
    assert_eq!((&*session.client_id, &session.received[..]), ("c", &[8][..]));
    assert_eq!((session.live.first, session.live.next, session.live.bytes), (4, 5, 2));
    let scripts = Scripts::load(&mut link).expect("loads");
    let most = Page {
        messages: 9,
        bytes: 9999,
    };
    let key = (&keys(), Home::Bucket(5), uid, Lane::Live);
    let page = read::queue(&mut link, key, &scripts, 0, most).expect("is read");
    let [delivery] = &page[..] else { panic!("{page:?}") };
    let payload = delivery.message.as_ref().map(|stored| stored.message.payload());
    assert_eq!((delivery.index, payload), (4, Some(&b"m"[..])));
}

#[test]
fn nodes_and_routes_are_read() {
    let server = RedisServer::start(&[]);
    let mut link = link(&server);
    let none = snapshot(&mut link, &keys()).expect("is read");
    assert!(none.nodes.is_empty() && none.routes.is_empty());
    server.command::<()>(&["HSET", "mqtt:{g}:nodes", "7", "1:2", "11", "0:1"]);
    let mut fields: Vec<_> = (0..2000).flat_map(|n| [format!("7:a/{n}"), "0".to_owned()]).collect();
    fields.extend(["11:$share/g/b:c".to_owned(), "1".to_owned()]);
    let words = ["HSET", "mqtt:{g}:f"]
        .into_iter()
        .chain(fields.iter().map(String::as_str));
    server.command::<()>(&words.collect::<Vec<_>>());
    let Snapshot { nodes, mut routes } = snapshot(&mut link, &keys()).expect("is read");
    assert_eq!(nodes, [7, 11]);
    routes.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    routes.dedup();
    assert_eq!(routes.len(), 2001);
    assert_eq!(routes[0], (7, "a/0".into(), RouteKind::All));
    assert_eq!(routes[2000], (11, "$share/g/b:c".into(), RouteKind::OnlyQos0));
    for (field, kind) in [("7", "0"), ("x:a", "0"), ("7:a", "2")] {
        server.command::<()>(&["DEL", "mqtt:{g}:f"]);
        server.command::<()>(&["HSET", "mqtt:{g}:f", field, kind]);
        let result = snapshot(&mut link, &keys());
        assert!(matches!(result, Err(StoreError::Damaged(_))), "{field}: {result:?}");
    }
}

#[test]
fn jobs_are_read_by_their_identities_and_by_their_node() {
    let server = RedisServer::start(&[]);
    let mut link = link(&server);
    let (message, will) = (publication("t", b"m"), publication("w", b"will"));
    let begun = |of| [&job_head(of, Some(8))[..], &message_bytes(&message)].concat();
    let due = [&job_head(5, None)[..], &will_bytes(3, Some(4), &will, b"who")].concat();
    set(&server, &["HSET", "mqtt:{200}:jobs", "5.10"], &begun(5));
    set(&server, &["HSET", "mqtt:{200}:jobs", "6.1"], &begun(6));
    set(&server, &["HSET", "mqtt:{3}:jobs", "5.9"], &due);

    let mids = [
        (200, mid_of(5, 10)),
        (200, mid_of(5, 9)),
        (3, mid_of(5, 9)),
        (4, mid_of(6, 1)),
    ];
    let found = jobs(&mut link, &keys(), &mids).expect("are read");
    let names = |jobs: &[Job]| jobs.iter().map(|job| (job.bucket, job.mid)).collect::<Vec<_>>();
    assert_eq!(names(&found), [mids[0], mids[2]]);
    let payload = found[0].message.as_ref().map(|message| message.payload());
    assert_eq!((found[0].of, found[0].origin, payload), (5, 8, Some(&b"m"[..])));
    assert!(found[0].will.is_none());
    let will = found[1].will.as_ref().expect("is a will");
    assert_eq!(
        (will.delay_interval, will.expires_in, &*will.client),
        (3, Some(4), &b"who"[..])
    );
    assert_eq!(will.message.payload(), b"will");

    let of = |link: &mut Link, node| jobs_of(link, &keys(), node).expect("are read");
    assert_eq!(names(&of(&mut link, 5)), [mids[2], mids[0]]);
    assert_eq!(names(&of(&mut link, 6)), [(200, mid_of(6, 1))]);
    assert_eq!(names(&of(&mut link, 7)), []);
    let chosen = "78 $share/g/a b/+\09 $share/h/x\0";
    server.command::<()>(&["HSET", "mqtt:{200}:chosen", "5.10", chosen]);
    let choices = of(&mut link, 5).into_iter().map(|job| job.choices);
    let expected = vec![("$share/g/a b/+".into(), 78), ("$share/h/x".into(), 9)];
    assert_eq!(choices.collect::<Vec<_>>(), [vec![], expected]);
    server.command::<()>(&["HSET", "mqtt:{200}:chosen", "5.10", "78"]);
    assert!(matches!(jobs_of(&mut link, &keys(), 5), Err(StoreError::Damaged(_))));
    server.command::<()>(&["DEL", "mqtt:{200}:chosen"]);
    set(&server, &["HSET", "mqtt:{3}:jobs", "7.1"], b"x");
    assert!(matches!(jobs_of(&mut link, &keys(), 5), Err(StoreError::Damaged(_))));
}

#[test]
fn rests_are_read_by_their_node() {
    let server = RedisServer::start(&[]);
    let mut link = link(&server);
    server.command::<()>(&["HSET", "mqtt:{200}:rest", "5.10", "456 5", "6.1", "712 6"]);
    server.command::<()>(&["HSET", "mqtt:{3}:rest", "6.2", "259 5"]);
    let of = |link: &mut Link, node| rests_of(link, &keys(), node).expect("are read");
    let rest = |mid, uid, of| Rest { mid, uid, of };
    assert_eq!(
        of(&mut link, 5),
        [rest(mid_of(5, 10), 456, 5), rest(mid_of(6, 2), 259, 5)]
    );
    assert_eq!(of(&mut link, 6), [rest(mid_of(6, 1), 712, 6)]);
    assert_eq!(of(&mut link, 7), []);
    server.command::<()>(&["HSET", "mqtt:{3}:rest", "7.1", "x 7"]);
    assert!(matches!(rests_of(&mut link, &keys(), 5), Err(StoreError::Damaged(_))));
}

/// In a Redis Cluster, where each bucket is with one of the servers.
#[test]
fn clients_of_a_node_and_what_is_due_are_found_in_all_buckets() {
    let cluster = Cluster::start(3);
    let mut link = Link::connect(&cluster.settings()).expect("connects");
    let do_this = |link: &mut Link, words: &[&str]| {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        link.ask(command).expect("is done");
    };
    let names: Vec<_> = (0..300).map(|n| format!("client {n}")).collect();
    for name in &names {
        let bucket = bucket_of_client(name);
        do_this(&mut link, &["SADD", &format!("mqtt:{{{bucket}}}:own:5"), name]);
    }
    let sorted = |names: Vec<Box<str>>| {
        names
            .into_iter()
            .map(String::from)
            .collect::<std::collections::BTreeSet<_>>()
    };
    let owned = owned_by(&mut link, &keys(), 5).expect("are read");
    assert_eq!(sorted(owned), names.iter().cloned().collect());
    assert_eq!(owned_by(&mut link, &keys(), 6), Ok(Vec::new()));

    do_this(
        &mut link,
        &["ZADD", "mqtt:{9}:t", "1", "a", "2", "b", "99999999999999", "c"],
    );
    do_this(&mut link, &["ZADD", "mqtt:{77}:t", "1", "a"]);
    do_this(&mut link, &["ZADD", "mqtt:{78}:t", "99999999999999", "a"]);
    let all: Vec<_> = (0..=u8::MAX).collect();
    let due = |link: &mut Link, buckets, most| due(link, &keys(), buckets, most).expect("are counted");
    assert_eq!(due(&mut link, &all, 10), [(9, 2), (77, 1)]);
    assert_eq!(due(&mut link, &all, 1), [(9, 1), (77, 1)]);
    assert_eq!(due(&mut link, &[1, 77, 78], 10), [(77, 1)]);
}
