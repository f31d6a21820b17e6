//! Nodes that follow each other.

use std::time::Duration;

use super::*;
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::store::cluster::{
    About, ClusterOp, Entry, Homes, How, Limits, Open, Publishing, RouteKind, Token, bucket_of_client, inbox_of,
    new_uid,
};
use crate::store::op::{Op, Recipient, SubscriptionRecord, TermsRecord, read_recipients, write_recipient};
use crate::store::redis::cluster::testing::{Recorder, cut};
use crate::store::redis::testing::{Cluster, RedisServer, publication};
use crate::store::{Batch, RedisSettings, Store};
use crate::wire::Reader;

const LIMITS: Limits = Limits {
    queue_messages: 1000,
    queue_bytes: 1_000_000,
    drops_oldest: false,
    retained_messages: 1000,
};
const LEASE: Duration = Duration::from_secs(30);

/// A node that follows.
struct Node {
    store: ClusterStore,
    told: Arc<Recorder>,
}

impl Node {
    fn join(settings: &RedisSettings) -> Node {
        let store = ClusterStore::open(settings, LIMITS, LEASE).expect("joins");
        let told = Arc::<Recorder>::default();
        store.follow_log(told.clone()).expect("follows");
        told.until("look");
        Node { store, told }
    }

    fn id(&self) -> Incarnation {
        self.store.incarnation()
    }

    fn token(&self, number: u64) -> Token {
        Token {
            incarnation: self.id(),
            number,
        }
    }

    fn mid(&self, number: u64) -> Mid {
        Mid {
            incarnation: self.id(),
            number,
        }
    }

    fn try_to_keep(&self, ops: &[ClusterOp<'_>]) -> Result<(), StoreError> {
        let number = self.store.last_batch().expect("a number") + 1;
        let mut bytes = Vec::new();
        ops.iter().for_each(|op| Op::Cluster(op.clone()).write(&mut bytes));
        self.store.keep(&Batch { number, bytes: &bytes })
    }

    fn keep(&self, ops: &[ClusterOp<'_>]) {
        self.try_to_keep(ops).expect("is kept");
    }

    /// Connection `number` has the client, and makes its session.
    fn begin(&self, client_id: &str, number: u64) -> Uid {
        let (token, uid) = (self.token(number), new_uid(self.id(), 1, client_id));
        let open = Open {
            client_id,
            token,
            clean: false,
            uid,
            expiry_interval: 600,
            mid: self.mid(1000),
            will: None,
        };
        self.keep(&[ClusterOp::Claim { client_id, token }, ClusterOp::Open(open)]);
        // A session in which nothing is changed ends with its connection.
        let (packet_id, message) = (1, publication("t", b"m"));
        self.keep(&[ClusterOp::Received {
            uid,
            packet_id,
            message,
        }]);
        uid
    }

    fn publish(&self, payload: &str, to: &[(Uid, Option<&str>)]) {
        self.publish_as(payload, QoS::AtLeastOnce, to);
    }

    fn publish_as(&self, payload: &str, qos: QoS, to: &[(Uid, Option<&str>)]) {
        let mut recipients = Vec::new();
        for (uid, share) in to {
            let terms = TermsRecord {
                qos,
                retain: false,
                subscription_ids: &[],
                share: *share,
            };
            let (uid, index) = (*uid, 0);
            write_recipient(&mut recipients, &Recipient { uid, index, terms });
        }
        let mut bytes = (recipients.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&recipients);
        let mut message = publication("a/b", payload.as_bytes());
        message.qos = qos;
        self.keep(&[ClusterOp::Publish {
            message,
            publishing: Publishing::default(),
            recipients: read_recipients(to.len() as u32, &mut Reader::new(&bytes)).expect("recipients"),
        }]);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.store.close().expect("closes");
    }
}

fn route(node: Incarnation, filter: &str) -> Entry<'_> {
    let kind = RouteKind::All;
    Entry::Route { node, filter, kind }
}

#[test]
fn what_one_writes_into_the_log_all_apply() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server.settings()), Node::join(&server.settings()));
    let subscription = SubscriptionRecord {
        filter: "s/#",
        options: SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAlways,
        },
        identifier: 0,
        replays: false,
    };
    let entries = [
        route(one.id(), "f"),
        Entry::Subscribe {
            uid: 7,
            client_id: "c",
            subscription,
        },
        Entry::Retain {
            message: publication("t", b"kept"),
        },
        Entry::Unsubscribe { uid: 7, filter: "s/#" },
    ];
    one.keep(&entries.clone().map(ClusterOp::Log));
    let lines: Vec<_> = entries.iter().map(|entry| format!("{entry:?}")).collect();
    // What is kept has been applied by its own node.
    let own = one.told.rest();
    assert!(own.ends_with(&lines), "{own:?}");
    assert_eq!(two.told.until(&lines[3]), lines);

    let three = Node::join(&server.settings());
    let snapshot = three.store.snapshot().expect("is read");
    assert_eq!(snapshot.nodes, [one.id(), two.id(), three.id()]);
    assert_eq!(snapshot.routes, [(one.id(), "f".into(), RouteKind::All)]);
    let mut retained = Vec::new();
    let read = three
        .store
        .retained(&mut |message| retained.push(message.payload().to_vec()));
    assert_eq!((read, &retained[..]), (Ok(()), &[b"kept".to_vec()][..]));
    // What was there before it joined is in the snapshot alone.
    two.keep(&[ClusterOp::Log(route(two.id(), "g"))]);
    let line = format!("{:?}", route(two.id(), "g"));
    assert_eq!(three.told.until(&line), [line]);
}

#[test]
fn messages_for_other_nodes_come_by_their_inboxes() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server.settings()), Node::join(&server.settings()));
    two.store.empty_inbox().expect("nothing is in it");
    let inbox = inbox_of(two.id());
    for round in 0..20 {
        one.publish(&format!("{round}"), &[(inbox, None), (inbox, Some("$share/g/a/b"))]);
        if round % 5 == 4 {
            cut(&server);
        }
        two.store.empty_inbox().expect("is read");
        let expected = [format!("{round}"), format!("{round} of $share/g/a/b")];
        let told = two.told.rest();
        let told: Vec<_> = told.into_iter().filter(|what| what != "look").collect();
        assert_eq!(told, expected);
    }
    one.publish_as("hint", QoS::AtMostOnce, &[(inbox, None)]);
    two.told.until("hint");
    let now = Instant::now();
    while two.store.last_contact().is_none_or(|contact| contact < now) {
        std::thread::yield_now();
    }
}

#[test]
fn a_client_goes_from_one_node_to_the_other() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server.settings()), Node::join(&server.settings()));
    let uid = one.begin("c", 1);
    two.publish("a", &[(uid, None)]);
    one.told.until(&format!("{uid} has Some(\"a\") at 0"));
    two.publish(&"long".repeat(10_000), &[(uid, None)]);
    one.told.until(&format!("{uid} has None at 1"));

    let (client_id, token) = ("c", two.token(5));
    two.keep(&[ClusterOp::Claim { client_id, token }]);
    one.told.until(&format!("c is wanted from {}", one.token(1)));
    // Whoever waits says it again.
    two.store.want(&[(one.token(1), "c".into())]).expect("is said");
    one.told.until(&format!("c is wanted from {}", one.token(1)));
    let waiting = ClientRecord {
        owner: Some(one.token(1)),
        next: Some(token),
        opened: Some(one.token(1)),
        uid: Some(uid),
        has_wills: false,
    };
    assert_eq!(two.store.client("c"), Ok(waiting));
    one.keep(&[ClusterOp::Release {
        client_id,
        token: one.token(1),
        how: How::Clean,
        expiry_interval: 600,
        mid: one.mid(9),
    }]);
    two.told.until("c is granted");
    assert_eq!(two.store.owned_by(two.id()), Ok(vec!["c".into()]));
    assert_eq!(one.store.owned_by(one.id()), Ok(vec![]));
    let session = two.store.session(uid).expect("is read").expect("is there");
    assert_eq!((&*session.client_id, session.live.count), ("c", 2));
    assert_eq!(two.store.session(uid + (1 << 40)), Ok(None));
}

#[test]
fn a_message_that_has_begun_is_a_job() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server.settings()), Node::join(&server.settings()));
    let uid = one.begin("c", 1);
    let (message, mid, packet_id) = (publication("t", b"once"), one.mid(3), 9);
    one.keep(&[ClusterOp::Received {
        uid,
        packet_id,
        message,
    }]);
    let session = one.store.session(uid).expect("is read").expect("is there");
    assert_eq!(session.received, [1, 9]);
    one.keep(&[ClusterOp::Begin { uid, packet_id, mid }]);
    let wanted = [(bucket_of_client("c"), mid), (bucket_of_client("c"), one.mid(4))];
    for jobs in [one.store.jobs(&wanted), two.store.jobs_of(one.id())] {
        let jobs = jobs.expect("are read");
        let [job] = &jobs[..] else { panic!("{jobs:?}") };
        assert_eq!((job.mid, job.of, job.origin), (mid, one.id(), uid));
        let payload = job.message.as_ref().map(|message| message.payload());
        assert_eq!(payload, Some(&b"once"[..]));
    }
    assert!(two.store.jobs_of(two.id()).expect("are read").is_empty());
    one.keep(&[ClusterOp::Finish {
        bucket: wanted[0].0,
        mid,
    }]);
    assert!(one.store.jobs(&wanted).expect("are read").is_empty());
}

#[test]
fn who_is_silent_can_be_declared_dead() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server.settings()), Node::join(&server.settings()));
    assert_eq!((one.store.beat(), two.store.beat()), (Ok(true), Ok(true)));
    one.store.beat().expect("is a member");
    let members = one.store.members().expect("are read");
    assert_eq!(members.nodes, [(one.id(), 2), (two.id(), 1)]);
    assert!(members.recoverers.is_empty() && members.now.is_some());
    // Its counter is another one by now.
    let dead = |counter| ClusterOp::Dead {
        node: two.id(),
        counter,
        lost: Homes::default(),
    };
    one.keep(&[dead(0)]);
    assert_eq!(two.store.beat(), Ok(true));
    one.keep(&[dead(2)]);
    let members = one.store.members().expect("are read");
    assert_eq!(members.nodes, [(one.id(), 2)]);
    assert_eq!(members.recoverers, [(two.id(), one.id())]);
    assert!(!matches!(two.store.beat(), Ok(true)));
    let error = two.store.beat().expect_err("is over");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    let error = two.try_to_keep(&[ClusterOp::Log(route(two.id(), "f"))]);
    assert!(matches!(error, Err(StoreError::Refused(_))), "{error:?}");
    assert_eq!(one.store.beat(), Ok(true));
}

#[test]
fn a_store_that_is_closed_follows_no_more() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server.settings()), Node::join(&server.settings()));
    let begun = Instant::now();
    two.store.close().expect("closes");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    two.told.rest();
    one.keep(&[ClusterOp::Log(route(one.id(), "f"))]);
    assert_eq!(two.told.rest(), [""; 0]);
    assert!(matches!(two.store.beat(), Err(StoreError::Unavailable(_))));
}

#[test]
fn nodes_meet_in_a_redis_cluster() {
    let cluster = Cluster::start(3);
    let (one, two) = (Node::join(&cluster.settings()), Node::join(&cluster.settings()));
    let uid = one.begin("c", 1);
    two.publish("a", &[(uid, None), (inbox_of(one.id()), None)]);
    one.store.empty_inbox().expect("is read");
    let told = [format!("{uid} has Some(\"a\") at 0"), "a".to_owned()];
    told.iter().for_each(|what| assert!(one.told.has(what), "{what}"));
    two.keep(&[ClusterOp::Log(route(two.id(), "f"))]);
    one.told.until(&format!("{:?}", route(two.id(), "f")));
    assert_eq!(one.store.beat(), Ok(true));
    assert_eq!(two.store.members().expect("are read").nodes.len(), 2);
    assert_eq!(two.store.owned_by(one.id()), Ok(vec!["c".into()]));
    assert_eq!(two.store.due(&[1, 2, 3], 9), Ok(vec![]));
}

/// With the rule that `docs/redis.md` has for a cluster, a node may do all that it does.
#[test]
fn the_rule_of_the_documents_allows_what_a_node_does() {
    let server = RedisServer::start(&[]);
    let text = include_str!("../../../../docs/redis.md");
    let rule = text
        .lines()
        .find(|line| line.starts_with("user broker ") && line.contains(" &mqtt:wake:* "));
    let words = rule.expect("there is one").split(' ').skip(1);
    let words: Vec<_> = ["ACL", "SETUSER"].into_iter().chain(words).collect();
    server.command::<()>(&words);
    let mut settings = server.settings();
    settings.url = format!("{}?user=broker&pass=secret", server.url());
    let (one, two) = (Node::join(&settings), Node::join(&settings));
    let uid = one.begin("c", 1);
    let (packet_id, message, bucket) = (9, publication("t", b"m"), bucket_of_client("c"));
    one.publish("a", &[(uid, None), (inbox_of(two.id()), None)]);
    one.publish_as("b", QoS::AtMostOnce, &[(inbox_of(two.id()), None)]);
    two.store.empty_inbox().expect("is read");
    two.keep(&[ClusterOp::Claim {
        client_id: "c",
        token: two.token(1),
    }]);
    let mid = one.mid(3);
    one.keep(&[
        ClusterOp::Received {
            uid,
            packet_id,
            message,
        },
        ClusterOp::Begin { uid, packet_id, mid },
        ClusterOp::Finish { bucket, mid },
        ClusterOp::Forget { bucket, mid },
        ClusterOp::ForgetOf { bucket, node: one.id() },
        ClusterOp::Sweep {
            bucket,
            first: one.mid(20),
            most: 9,
        },
        ClusterOp::Log(route(one.id(), "f")),
        ClusterOp::Log(Entry::Unroute {
            node: one.id(),
            filter: "f",
        }),
        ClusterOp::Log(Entry::Retain { message }),
        ClusterOp::Log(Entry::RetainClear { topic: "t" }),
        ClusterOp::Log(Entry::End { uid: 1 }),
    ]);
    let token = one.token(2);
    one.keep(&[
        ClusterOp::Lend {
            client_id: "c",
            token,
            uid,
        },
        ClusterOp::FinishRest { uid, mid },
    ]);
    one.store.jobs_of(one.id()).expect("are read");
    one.store.rests_of(one.id()).expect("are read");
    assert_eq!(one.store.depart(), Ok(vec![bucket]));
    one.store.snapshot().expect("is read");
    one.store.due(&[bucket], 1).expect("are counted");
    two.store.want(&[(one.token(1), "c".into())]).expect("is said");
    one.store.client("c").expect("is read");
    one.store.session(uid).expect("is read");
    one.store.sessions(&mut |_| {}).expect("are read");
    one.store.retained(&mut |_| {}).expect("are read");
    one.store.announce(&About::default()).expect("is said");
    one.store.overview().expect("is read");
    one.store.count_sessions().expect("are counted");
    one.store.some_sessions(bucket, 0).expect("are found");
    one.store.glance(uid).expect("is read");
    one.store.say(two.id(), b"hello").expect("is said");
    assert!(two.told.has("hello was said"));
    one.keep(&[ClusterOp::Expire {
        topic: "t",
        at: Millis::from_unix(1),
    }]);
    let counter = two.store.beat().map(|_| 1).expect("is a member");
    let node = two.id();
    one.keep(&[
        ClusterOp::Dead {
            node,
            counter,
            lost: Homes::default(),
        },
        ClusterOp::Fence { bucket, node },
        ClusterOp::TakeOver { node },
        ClusterOp::Free {
            node: one.id(),
            client_id: "c",
            mid: one.mid(30),
            how: How::Lost,
            ends: false,
        },
        ClusterOp::Destroy { node },
        ClusterOp::Recovered { node },
    ]);
    assert!(one.store.members().expect("are read").recoverers.is_empty());
    one.keep(&[]);
    one.keep(&[ClusterOp::ForgetOf { bucket, node: one.id() }]);
    assert_eq!(one.store.depart(), Ok(vec![]));
    assert_eq!(one.store.bye(), Ok(()));
    let denied: Vec<redis::Value> = server.command(&["ACL", "LOG"]);
    assert!(denied.is_empty(), "{denied:?}");
}
