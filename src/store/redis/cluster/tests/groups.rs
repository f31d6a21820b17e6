//! Messages for groups: each goes to one member; what one leaves goes to others.

use super::faults::insist;
use super::proxy::{CuttingProxy, Way};
use super::testing::{Changes, For, LIMITS, Node, subscribed, to};
use crate::message::Publication;
use crate::packet::QoS;
use crate::store::cluster::{
    ClusterOp, How, Limits, Mid, Once, Open, Publishing, Rest, Shared, Will, bucket_of_client,
};
use crate::store::op::{Lane, Op};
use crate::store::redis::testing::{RedisServer, publication};
use crate::store::{Page, Store, Uid};

const SHARE: &str = "$share/g/a/b";

fn member(uid: Uid) -> For<'static> {
    For(uid, Some(SHARE))
}

/// Of the group, in the order in which they are asked.
fn members(node: &Node, uids: &[Uid]) {
    *node.told.members.lock() = uids.iter().map(|uid| (SHARE.to_owned(), *uid)).collect();
}

fn twice(payload: &str) -> Publication<'_> {
    Publication {
        qos: QoS::ExactlyOnce,
        ..publication("a/b", payload.as_bytes())
    }
}

fn job(mid: Mid, client_id: &str) -> Publishing<'static> {
    Publishing {
        once: Some(Once {
            mid,
            of: mid.incarnation,
            bucket: bucket_of_client(client_id),
        }),
        ..Publishing::default()
    }
}

fn keys(server: &RedisServer, pattern: &str) -> Vec<String> {
    server.command(&["KEYS", pattern])
}

#[test]
fn a_message_goes_to_a_member_whose_session_is_there() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let uid = node.begin("c", 1);
    let (one, other) = (node.uid(8, "d"), node.uid(9, "e"));
    members(&node, &[one, other, uid]);
    node.keep(
        &Changes::default()
            .publish("a", &[member(one)])
            .publish("b", &[member(uid)]),
    );
    assert_eq!(node.queue(uid), ["0 b", "1 a"]);
    let mut told = node.told.take();
    told.sort();
    let mut expected = [
        format!("arrived {uid} 0 b AtLeastOnce"),
        format!("arrived {uid} 1 a AtLeastOnce"),
        format!("gone {one}"),
        format!("gone {other}"),
    ];
    expected.sort();
    assert_eq!(told, expected);
    // One for itself is not given to anybody else.
    node.keep(&Changes::default().publish("c", &[to(one)]));
    assert_eq!(node.told.take(), [format!("gone {one}")]);
}

#[test]
fn who_is_added_to_a_group_gets_what_nobody_could_take() {
    let server = RedisServer::start(&[]);
    let node = Node::without_mirror(&server.settings(), LIMITS);
    let (uid, gone) = (node.begin("c", 1), node.uid(9, "d"));
    // The follower does not know of it: only the log does.
    node.apply(2, &subscribed(uid, SHARE));
    let changes = Changes::default().publish("a", &[member(gone)]).publish("b", &[]);
    node.keep(&changes);
    assert_eq!(node.queue(uid), ["0 b", "1 a"]);
    // Nobody is there.
    node.keep(&Changes::default().publish("c", &[member(gone)]));
    assert_eq!(node.queue(uid).len(), 2);
}

/// Three are asked: each takes a round trip.
#[test]
fn members_that_have_no_room_are_passed_over() {
    let server = RedisServer::start(&[]);
    let limits = Limits {
        queue_messages: 1,
        ..LIMITS
    };
    let node = Node::with(&server, &server.settings(), limits);
    let uids: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .zip(1..)
        .map(|(id, n)| node.begin(id, n))
        .collect();
    members(&node, &uids);
    for (number, expected) in [(0, Some(0)), (1, Some(1)), (2, Some(2)), (3, None)] {
        node.keep(&Changes::default().publish(&number.to_string(), &[member(uids[0])]));
        let told = node.told.take();
        match expected {
            Some(place) => assert_eq!(told, [format!("arrived {} 0 {number} AtLeastOnce", uids[place])]),
            None => assert_eq!(told, [format!("full {}", uids[2])]),
        }
    }
    assert_eq!(node.queue(uids[3]), [""; 0]);
}

#[test]
fn a_job_remembers_who_was_chosen() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let (uid, gone, mid) = (node.begin("c", 1), node.uid(9, "d"), node.mid(7));
    let key = |name: &str| format!("mqtt:{{{}}}:{name}", bucket_of_client("c"));
    let received = ClusterOp::Received {
        uid,
        packet_id: 1,
        message: twice("x"),
    };
    node.keep(&Changes::default().cluster(received));
    members(&node, &[uid]);
    let begin = ClusterOp::Begin { uid, packet_id: 1, mid };
    let publish = |to: For<'_>| Changes::default().publish_as(&twice("x"), &job(mid, "c"), &[to]);
    let changes = Changes::default().cluster(begin);
    node.keep(&Changes([changes.0, publish(member(gone)).0].concat()));
    let jobs = node.store.jobs_of(node.id()).expect("are read");
    let choices: Vec<_> = jobs.iter().map(|job| (job.mid, job.choices.clone())).collect();
    assert_eq!(choices, [(mid, vec![(SHARE.into(), uid)])]);
    // Whoever does it again gives it to the same one, which has it.
    node.keep(&publish(member(uid)));
    assert_eq!(node.queue(uid), ["0 x"]);
    for _ in 0..3 {
        node.keep(&Changes::default());
    }
    assert!(!node.store.owes());
    for name in ["jobs", "chosen", "m2"] {
        assert_eq!(keys(&server, &key(name)), [""; 0], "{name}");
    }
}

/// Without a job: its publisher is not kept. It has an identity for groups alone.
#[test]
fn a_qos_2_message_is_forgotten_when_it_has_been_given() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let uid = node.begin("c", 1);
    let publish = Changes::default().publish_as(&twice("x"), &Publishing::default(), &[member(uid), to(uid)]);
    node.keep(&publish);
    assert_eq!(node.queue(uid).len(), 2);
    let noted: Vec<String> = server.command(&["HVALS", &format!("mqtt:{{{}}}:m2", bucket_of_client("c"))]);
    assert_eq!(noted.len(), 1);
    assert!(noted[0].starts_with(&format!("{} {uid}s", node.id())), "{noted:?}");
    assert!(node.store.owes());
    node.keep(&Changes::default());
    assert_eq!(keys(&server, "*:m2"), [""; 0]);
    assert!(!node.store.owes());
}

fn leave(client_id: &str, node: &Node, number: u64) -> ClusterOp<'static> {
    ClusterOp::Release {
        client_id: Box::leak(client_id.to_owned().into_boxed_str()),
        token: node.token(number),
        how: How::Lost,
        expiry_interval: 0,
        mid: node.mid(number),
    }
}

#[test]
fn what_groups_have_given_a_session_outlives_it() {
    let server = RedisServer::start(&[]);
    let (node, other) = (Node::join(&server), Node::join(&server));
    let (token, uid) = (node.token(1), node.uid(1, "c"));
    let open = Changes::default().claim("c", token).open("c", token, 0);
    node.keep(&open.cluster(ClusterOp::Lend {
        client_id: "c",
        token,
        uid,
    }));
    // It has one.
    node.keep(&Changes::default().cluster(ClusterOp::Lend {
        client_id: "c",
        token,
        uid: node.uid(2, "c"),
    }));
    let all = [member(uid), to(uid)];
    let changes = Changes::default()
        .publish("a", &all)
        .publish("b", &all)
        .publish("c", &all);
    node.keep(&changes.publish_as(&twice("d"), &Publishing::default(), &[member(uid)]));
    node.keep(&Changes::default().done(uid, 0).done(uid, 4).done(uid, 1));
    node.told.take();
    node.keep(&Changes::default().cluster(leave("c", &node, 1)));
    let mid = node.mid(1);
    assert_eq!(
        node.told.take(),
        [format!("gone {uid}"), format!("rest {mid} of {uid}")]
    );
    assert_eq!(keys(&server, "*:s:*"), [""; 0]);
    assert_eq!(keys(&server, "*:c:*"), [""; 0]);
    let of = node.id();
    assert_eq!(other.store.rests_of(of), Ok(vec![Rest { mid, uid, of }]));
    assert_eq!(other.store.rests_of(other.id()), Ok(vec![]));
    // In pages, as any queue.
    let page = Page {
        messages: 2,
        bytes: 1000,
    };
    let page = other.store.queue(uid, Lane::Live, 0, page).expect("is read");
    let given = page.iter().map(|entry| {
        let stored = entry.message.as_ref().expect("a message");
        (entry.index, stored.share.as_deref(), stored.message.payload().to_vec())
    });
    assert_eq!(
        given.collect::<Vec<_>>(),
        [(2, Some(SHARE), b"b".to_vec()), (3, None, b"b".to_vec())]
    );
    other.keep(&Changes::default().cluster(ClusterOp::FinishRest { uid, mid }));
    for pattern in ["*:q:*", "*:rest"] {
        assert_eq!(keys(&server, pattern), [""; 0], "{pattern}");
    }
}

/// Nothing of QoS 1 is left of groups.
#[test]
fn a_session_that_has_done_what_groups_gave_it_leaves_nothing() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let uid = node.begin("c", 1);
    let changes = Changes::default().publish("a", &[member(uid), to(uid)]);
    node.keep(&changes.publish_as(&twice("b"), &Publishing::default(), &[member(uid)]));
    node.keep(&Changes::default().done(uid, 0).op(&Op::Released {
        uid,
        lane: Lane::Live,
        index: 2,
    }));
    node.told.take();
    node.keep(&Changes::default().op(&Op::SessionEnd { uid }));
    assert_eq!(node.told.take(), [format!("gone {uid}")]);
    assert_eq!(keys(&server, "*:q:*"), [""; 0]);
    // Its owner does not want it any more, and it has some.
    let uid = node.begin("d", 2);
    node.keep(&Changes::default().publish("c", &[member(uid)]));
    node.told.take();
    node.keep(&Changes::default().op(&Op::SessionEnd { uid }));
    let rests = node.store.rests_of(node.id()).expect("are read");
    assert_eq!(rests.len(), 1);
    assert!(rests[0].mid.number > 1 << 62, "the store has named it");
    assert_eq!(
        node.told.take(),
        [format!("gone {uid}"), format!("rest {} of {uid}", rests[0].mid)]
    );
}

/// What was answered is not known: it is asked for. Nobody gets anything twice, and what is to be done is told once.
#[test]
fn lost_answers_are_asked_for() {
    let server = RedisServer::start_at_a_port(&[]);
    let proxy = CuttingProxy::start(server.port.expect("has one"));
    let mut settings = server.settings();
    settings.url = proxy.url();
    let node = Node::with(&server, &settings, LIMITS);
    let (one, other, gone) = (node.begin("c", 1), node.begin("d", 2), node.uid(9, "e"));
    let (mut cuts, mut round) = (0, 10);
    for (way, stride) in [(Way::ToServer, 97), (Way::ToNode, 7)] {
        for bytes in (0..).step_by(stride) {
            round += 1;
            let (token, uid) = (node.token(round), node.uid(round as u32, "x"));
            let will = Will {
                delay_interval: 0,
                expires_in: None,
                message: publication("will", b"gone"),
                client: b"",
            };
            let open = ClusterOp::Open(Open {
                client_id: "x",
                token,
                clean: true,
                uid,
                expiry_interval: 600,
                mid: node.mid(100_000 + round),
                will: Some(will),
            });
            members(&node, &[gone, other]);
            let (first, second, third) = (format!("{round}-1"), format!("{round}-2"), format!("{round}-3"));
            let before = [one, other].map(|uid| node.queue(uid).len());
            let changes = Changes::default()
                .claim("x", token)
                .cluster(open)
                .publish(&first, &[member(gone)])
                .publish(&second, &[member(one)])
                .publish_as(
                    &twice(&third),
                    &Publishing::default(),
                    &[member(gone), For(one, Some("$share/h/a/b"))],
                )
                .publish("left", &[member(uid)])
                .cluster(leave("x", &node, round));
            node.told.take();
            proxy.cut_after(way, bytes);
            insist(&node, &changes);
            let has_cut = proxy.has_cut();
            let last = |uid: Uid, place: usize| -> Vec<String> {
                let queue = node.queue(uid).split_off(before[place]);
                let payloads = queue.iter().filter_map(|line| line.split_once(' '));
                // One that is not there any more may have had it, or not: then another one gets it, too.
                let payloads = payloads
                    .map(|(_, payload)| payload)
                    .filter(|payload| *payload != "left");
                payloads.map(str::to_owned).collect()
            };
            assert_eq!(last(one, 0), [second, third.clone()]);
            assert_eq!(last(other, 1), [first, third]);
            let told = node.told.take();
            let to_do: Vec<_> = told
                .iter()
                .filter(|what| what.starts_with("job") || what.starts_with("rest"))
                .collect();
            let mid = node.mid(round);
            let expected = [
                format!("job {mid} in {}", bucket_of_client("x")),
                format!("rest {mid} of {uid}"),
            ];
            assert_eq!(to_do, expected.iter().collect::<Vec<_>>());
            if !has_cut {
                break;
            }
            cuts += 1;
        }
    }
    assert!(cuts > 30, "{cuts} cuts");
}
