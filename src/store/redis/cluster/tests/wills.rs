//! Wills, and other messages that must have effect once.

use super::testing::{Changes, Node};
use crate::message::{Message, Publication};
use crate::packet::QoS;
use crate::store::Store;
use crate::store::cluster::{ClusterOp, Entry, How, Once, Open, Publishing, Shared, Will, bucket_of_client};
use crate::store::redis::testing::{RedisServer, publication};

/// Of the client `c`, of which nothing is kept.
fn open(node: &Node, number: u64, delay_interval: u32) -> Open<'static> {
    Open {
        client_id: "c",
        token: node.token(number),
        clean: false,
        uid: 0,
        expiry_interval: 0,
        mid: node.mid(number + 1000),
        will: Some(Will {
            delay_interval,
            expires_in: None,
            message: publication("a/b", b"gone"),
            client: b"\x00\x01c",
        }),
    }
}

/// Whoever repeats it does not put it over a later one; when that can't be any more, nothing is left of it.
#[test]
fn a_job_is_retained_once() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server), Node::join(&server));
    let mid = one.mid(7);
    let of = one.id();
    let retained = |text: &'static [u8]| Publication {
        retain: true,
        ..publication("a/b", text)
    };
    let once = |mid, entry| Changes::default().cluster(ClusterOp::RetainOnce { mid, of, entry });
    let offline = || Entry::Retain {
        message: retained(b"offline"),
    };
    one.keep(&once(mid, offline()));
    two.keep(&Changes::default().log(Entry::Retain {
        message: retained(b"online"),
    }));
    two.keep(&once(mid, offline()));
    let messages = || {
        let mut messages = Vec::new();
        let note = &mut |message: Message| messages.push(String::from_utf8_lossy(message.payload()).into_owned());
        one.store.retained(note).expect("is read");
        messages
    };
    assert_eq!(messages(), ["online"]);
    let clear = || Entry::RetainClear { topic: "a/b" };
    two.keep(&once(one.mid(8), clear()));
    assert_eq!(messages(), [""; 0]);
    two.keep(&Changes::default().log(Entry::Retain {
        message: retained(b"online"),
    }));
    one.keep(&once(one.mid(8), clear()));
    assert_eq!(messages(), ["online"]);
    let noted = || server.command::<u64>(&["HLEN", "mqtt:{g}:m2"]);
    assert_eq!(noted(), 2);
    two.keep(&Changes::default().cluster(ClusterOp::ForgetRetained { mid }));
    assert_eq!(noted(), 1);
    two.keep(&Changes::default().cluster(ClusterOp::Recovered { node: of }));
    assert_eq!(noted(), 0);
}

/// A will that nobody gets, also of QoS 0, is done like others.
#[test]
fn a_job_for_nobody_ends() {
    let server = RedisServer::start(&[]);
    let one = Node::join(&server);
    let bucket = bucket_of_client("c");
    let jobs = || server.command::<u64>(&["HLEN", &format!("mqtt:{{{bucket}}}:jobs")]);
    one.keep(
        &Changes::default()
            .claim("c", one.token(1))
            .cluster(ClusterOp::Open(open(&one, 1, 0))),
    );
    let release = ClusterOp::Release {
        client_id: "c",
        token: one.token(1),
        how: How::Lost,
        expiry_interval: 0,
        mid: one.mid(301),
    };
    one.keep(&Changes::default().cluster(release));
    assert_eq!(jobs(), 1);
    let message = Publication {
        qos: QoS::AtMostOnce,
        retain: true,
        ..publication("a/b", b"gone")
    };
    let once = Some(Once {
        mid: one.mid(301),
        of: one.id(),
        bucket,
    });
    let publishing = Publishing {
        once,
        ..Publishing::default()
    };
    one.keep(&Changes::default().publish_as(&message, &publishing, &[]));
    one.keep(&Changes::default());
    assert_eq!(jobs(), 0);
}

/// Until the will of the connection before has been published, the next one waits, and is told when it need not any more.
#[test]
fn a_client_waits_for_its_wills() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server), Node::join(&server));
    let bucket = bucket_of_client("c");
    let token = |node: &Node, number| node.token(number);
    let begin = |node: &Node, number| {
        let changes = Changes::default().claim("c", token(node, number));
        node.keep(&changes.cluster(ClusterOp::Open(open(node, number, 0))));
    };
    let end = |node: &Node, number| {
        node.keep(&Changes::default().cluster(ClusterOp::Release {
            client_id: "c",
            token: token(node, number),
            how: How::Lost,
            expiry_interval: 0,
            mid: node.mid(number),
        }));
    };
    let finish = |mid| one.keep(&Changes::default().cluster(ClusterOp::Finish { bucket, mid }));
    begin(&one, 1);
    end(&one, 1);
    begin(&two, 2);
    let record = || two.store.client("c").expect("is read");
    assert!(record().has_wills && record().opened == Some(token(&two, 2)));
    // It has gone before it was served.
    end(&two, 2);
    begin(&one, 3);
    let wills = || server.command::<String>(&["HGET", &format!("mqtt:{{{bucket}}}:c:c"), "wills"]);
    assert_eq!(wills(), format!("{} {}", one.mid(1), two.mid(2)));
    finish(one.mid(1));
    assert_eq!(wills(), two.mid(2).to_string());
    finish(one.mid(77));
    assert!(record().has_wills);
    finish(two.mid(2));
    assert!(!record().has_wills);
    end(&one, 3);
    let clients = || server.command::<Vec<String>>(&["KEYS", "*:c:c"]);
    assert_eq!(clients().len(), 1, "its will is being published");
    finish(one.mid(3));
    assert_eq!(clients(), [""; 0]);
}

/// What comes with the claim may come late: it begins only with what it takes nothing from.
#[test]
fn what_comes_early_takes_nothing_away() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let key = format!("mqtt:{{{}}}:c:c", bucket_of_client("c"));
    let session = |number, expiry_interval| Open {
        uid: node.uid(number as u32, "c"),
        expiry_interval,
        will: None,
        ..open(&node, number, 0)
    };
    let early = |open: Open<'static>| {
        node.keep(
            &Changes::default()
                .claim("c", open.token)
                .cluster(ClusterOp::OpenEarly(open)),
        );
        let opened: Option<String> = server.command(&["HGET", &key, "opened"]);
        opened == Some(open.token.to_string())
    };
    let end = |number, expiry_interval| {
        node.keep(&Changes::default().cluster(ClusterOp::Release {
            client_id: "c",
            token: node.token(number),
            how: How::Lost,
            expiry_interval,
            mid: node.mid(number),
        }));
    };
    assert!(early(session(1, 600)), "there is nothing of it");
    end(1, 600);
    assert!(early(session(2, 600)), "it goes on as it was");
    end(2, 600);
    assert!(!early(session(3, 700)), "it would end at another time");
    end(3, 0);
    let clean = Open {
        clean: true,
        ..session(4, 600)
    };
    assert!(!early(clean), "it would end");
    end(4, 0);
    let session_of = || server.command::<Option<String>>(&["HGET", &key, "uid"]);
    assert_eq!(session_of(), Some(node.uid(1, "c").to_string()));
    // With a will that waits.
    let with_will = Open {
        uid: node.uid(5, "c"),
        expiry_interval: 600,
        ..open(&node, 5, 60)
    };
    assert!(early(with_will), "no will waits yet");
    end(5, 600);
    assert!(!early(session(6, 600)), "the will would be dropped");
    end(6, 0);
    let will_at: Option<u64> = server.command(&["HGET", &key, "will_at"]);
    assert!(will_at.is_some() && session_of().is_some());
}
