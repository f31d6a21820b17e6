//! Nodes of a cluster for a test, and batches that they keep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::message::Publication;
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::store::cluster::{
    ClusterOp, Entry, Follower, InboxMessage, Incarnation, Limits, Member, Mid, Open, Publishing, Rest, Token, Witness,
    inbox_of, new_uid, write_publish,
};
use crate::store::op::{Lane, Op, Recipient, SubscriptionRecord, TermsRecord, write_recipient};
use crate::store::redis::cluster::ClusterStore;
use crate::store::redis::cluster::recent::RecentEntry;
use crate::store::redis::testing::{RedisServer, publication};
use crate::store::{Batch, Page, RedisSettings, Store, StoreError, StoredMessage, Uid};
use crate::wire::Reader;

pub(super) const LIMITS: Limits = Limits {
    queue_messages: 1000,
    queue_bytes: 1_000_000,
    drops_oldest: false,
    retained_messages: 1000,
};

pub(super) const LEASE: std::time::Duration = std::time::Duration::from_secs(30);

/// A node: its store, and what it was told. It applies the log by itself.
pub(super) struct Node {
    pub(super) store: Arc<ClusterStore>,
    pub(super) told: Arc<Told>,
    batch: Mutex<u64>,
    mirror: Option<Mirror>,
}

/// Writes down what it is told.
#[derive(Debug, Default)]
pub(super) struct Told {
    told: Mutex<Vec<String>>,
    /// Who can be chosen, by Shared Subscription.
    pub(super) members: Mutex<Vec<(String, Uid)>>,
    /// What it says of sessions that it owns.
    pub(super) witnesses: Mutex<Vec<Witness>>,
}

/// Reads the log on a connection of its own.
struct Mirror {
    is_over: Arc<AtomicBool>,
    /// The batch that is open, as the entries that are applied are told.
    open: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    pub(super) fn join(server: &RedisServer) -> Node {
        Node::with(server, &server.settings(), LIMITS)
    }

    /// A node that reaches the server in its own way.
    pub(super) fn with(server: &RedisServer, settings: &RedisSettings, limits: Limits) -> Node {
        let mut node = Node::without_mirror(settings, limits);
        node.mirror = Some(Mirror::start(server, &node.store));
        node
    }

    /// One that applies nothing of the log unless it is told to.
    pub(super) fn without_mirror(settings: &RedisSettings, limits: Limits) -> Node {
        let store = Arc::new(ClusterStore::open(settings, limits, LEASE).expect("opens"));
        let told = Arc::new(Told::default());
        *store.follower.lock() = Some(Arc::clone(&told) as _);
        Node {
            store,
            told,
            batch: Mutex::new(0),
            mirror: None,
        }
    }

    pub(super) fn id(&self) -> Incarnation {
        self.store.incarnation
    }

    pub(super) fn token(&self, number: u64) -> Token {
        Token {
            incarnation: self.id(),
            number,
        }
    }

    pub(super) fn mid(&self, number: u64) -> Mid {
        Mid {
            incarnation: self.id(),
            number,
        }
    }

    pub(super) fn uid(&self, number: u32, client_id: &str) -> Uid {
        new_uid(self.id(), number, client_id)
    }

    pub(super) fn keep(&self, changes: &Changes) {
        self.try_to_keep(changes).expect("is kept");
    }

    /// The number of the batch goes up only if it is kept.
    pub(super) fn try_to_keep(&self, changes: &Changes) -> Result<(), StoreError> {
        let mut batch = self.batch.lock();
        let number = *batch + 1;
        if let Some(mirror) = &self.mirror {
            mirror.open.store(number + 1, Ordering::SeqCst);
        }
        self.store.keep(&Batch {
            number,
            bytes: &changes.0,
        })?;
        *batch = number;
        Ok(())
    }

    /// The next batch has nothing but messages for nobody; whether it need not be read.
    pub(super) fn passes(&self) -> bool {
        let mut batch = self.batch.lock();
        let passed = self.store.pass(*batch + 1).expect("is kept");
        *batch += u64::from(passed);
        passed
    }

    /// The next entry of the log has been applied while this batch was open.
    pub(super) fn apply(&self, open: u64, entry: &Entry<'_>) {
        let mut bytes = Vec::new();
        entry.write(&mut bytes);
        let position = self.store.recent.position() + 1;
        let entry = RecentEntry {
            position,
            open,
            bytes: bytes.into(),
        };
        self.store.recent.applied(Some(entry), position);
    }

    /// A client with a session that this node owns.
    pub(super) fn begin(&self, client_id: &str, number: u32) -> Uid {
        let (token, uid) = (self.token(u64::from(number)), self.uid(number, client_id));
        self.keep(
            &Changes::default()
                .claim(client_id, token)
                .open(client_id, token, uid)
                .used(uid),
        );
        uid
    }

    pub(super) fn queue(&self, uid: Uid) -> Vec<String> {
        let most = Page {
            messages: 1_000_000,
            bytes: usize::MAX,
        };
        let page = self.store.queue(uid, Lane::Live, 0, most).expect("a queue");
        let text = |message: &StoredMessage| String::from_utf8_lossy(message.message.payload()).into_owned();
        let entry = page.iter().map(|entry| {
            let message = entry.message.as_ref().map_or_else(|| "released".to_owned(), text);
            format!("{} {message}", entry.index)
        });
        entry.collect()
    }
}

impl Mirror {
    fn start(server: &RedisServer, store: &Arc<ClusterStore>) -> Mirror {
        let (is_over, open) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(1)));
        let (over, opened, store) = (Arc::clone(&is_over), Arc::clone(&open), Arc::clone(store));
        let mut connection = server.connection();
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                let position = store.recent.position();
                let mut command = redis::cmd("XREAD");
                command.arg(&["BLOCK", "20", "STREAMS", &format!("{}:{{g}}:log", store.keys.prefix())]);
                command.arg(format!("1-{position}"));
                let Ok(found) = command.query::<Option<Vec<(String, Vec<LogItem>)>>>(&mut connection) else {
                    return;
                };
                for (id, [_, bytes]) in found.into_iter().flatten().flat_map(|(_, items)| items) {
                    let position = id[2..].parse().expect("a position");
                    let entry = RecentEntry {
                        position,
                        open: opened.load(Ordering::SeqCst),
                        bytes: bytes.into(),
                    };
                    store.recent.applied(Some(entry), position);
                }
            }
        });
        Mirror {
            is_over,
            open,
            thread: Some(thread),
        }
    }
}

type LogItem = (String, [Vec<u8>; 2]);

impl Drop for Mirror {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Told {
    /// What was told since this was asked.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock())
    }

    fn say(&self, what: String) {
        self.told.lock().push(what);
    }
}

impl Follower for Told {
    fn apply(&self, _: &Entry<'_>) -> u64 {
        unreachable!("the tests apply the log themselves")
    }

    fn inbox(&self, _: &mut dyn Iterator<Item = InboxMessage<'_>>) {}

    fn arrived(&self, uid: Uid, place: u64, messages: &mut dyn Iterator<Item = Option<StoredMessage>>) {
        for (place, message) in (place..).zip(messages) {
            let message = message.expect("its message");
            let payload = String::from_utf8_lossy(message.message.payload()).into_owned();
            self.say(format!("arrived {uid} {place} {payload} {:?}", message.qos));
        }
    }

    fn look(&self) {}

    fn look_into(&self, uid: Uid) {
        self.say(format!("look {uid}"));
    }

    fn wanted(&self, client_id: &str, from: Token) {
        self.say(format!("wanted {client_id} from {from}"));
    }

    fn granted(&self, client_id: &str) {
        self.say(format!("granted {client_id}"));
    }

    fn gone(&self, uid: Uid) {
        self.say(format!("gone {uid}"));
    }

    fn full(&self, uid: Uid) {
        self.say(format!("full {uid}"));
    }

    fn choose(&self, share: &str, message: &Publication<'_>, without: &[Uid]) -> Option<Member> {
        let members = self.members.lock();
        let members = members.iter().filter(|(group, _)| group == share);
        let member = members.map(|(_, uid)| *uid).find(|uid| !without.contains(uid))?;
        Some(Member {
            uid: member,
            qos: message.qos,
            retain: false,
            subscription_ids: Vec::new(),
        })
    }

    fn to_do(&self, jobs: &[(u8, Mid)], rests: &[Rest]) {
        for (bucket, mid) in jobs {
            self.say(format!("job {mid} in {bucket}"));
        }
        for rest in rests {
            self.say(format!("rest {} of {}", rest.mid, rest.uid));
        }
    }

    fn witnesses(&self) -> Vec<Witness> {
        self.witnesses.lock().clone()
    }

    fn said(&self, words: &[u8]) {
        self.say(format!("said {}", String::from_utf8_lossy(words)));
    }
}

/// Writes a batch.
#[derive(Clone, Default)]
pub(super) struct Changes(pub(super) Vec<u8>);

/// For whom a message is.
#[derive(Clone, Copy)]
pub(super) struct For<'a>(pub(super) Uid, pub(super) Option<&'a str>);

impl Changes {
    pub(super) fn op(mut self, op: &Op<'_>) -> Changes {
        op.write(&mut self.0);
        self
    }

    pub(super) fn cluster(self, op: ClusterOp<'_>) -> Changes {
        self.op(&Op::Cluster(op))
    }

    pub(super) fn claim(self, client_id: &str, token: Token) -> Changes {
        self.cluster(ClusterOp::Claim { client_id, token })
    }

    /// A session in which nothing is changed ends with its connection.
    pub(super) fn used(self, uid: Uid) -> Changes {
        let filter = "nothing";
        self.op(&Op::Unsubscribe { uid, filter })
    }

    /// Begins, and goes on with a session if there is one.
    pub(super) fn open(self, client_id: &str, token: Token, uid: Uid) -> Changes {
        self.cluster(ClusterOp::Open(Open {
            client_id,
            token,
            clean: false,
            uid,
            expiry_interval: 600,
            mid: Mid {
                incarnation: token.incarnation,
                number: 1_000_000 + token.number,
            },
            will: None,
        }))
    }

    pub(super) fn publish(self, payload: &str, to: &[For<'_>]) -> Changes {
        self.publish_as(&publication("a/b", payload.as_bytes()), &Publishing::default(), to)
    }

    pub(super) fn publish_as(
        mut self,
        message: &Publication<'_>,
        publishing: &Publishing<'_>,
        to: &[For<'_>],
    ) -> Changes {
        let mut recipients = Vec::new();
        for For(uid, share) in to {
            let terms = TermsRecord {
                qos: message.qos,
                retain: false,
                subscription_ids: &[],
                share: *share,
            };
            let (uid, index) = (*uid, 0);
            write_recipient(&mut recipients, &Recipient { uid, index, terms });
        }
        // As `Op::Cluster` writes it.
        self.0.push(64);
        write_publish(&mut self.0, message, publishing, (to.len() as u32, &recipients));
        self
    }

    pub(super) fn done(self, uid: Uid, index: u64) -> Changes {
        self.op(&Op::Done {
            uid,
            lane: Lane::Live,
            index,
        })
    }

    pub(super) fn log(self, entry: Entry<'_>) -> Changes {
        self.cluster(ClusterOp::Log(entry))
    }
}

pub(super) fn to(uid: Uid) -> For<'static> {
    For(uid, None)
}

pub(super) fn to_node(node: Incarnation) -> For<'static> {
    For(inbox_of(node), None)
}

pub(super) fn subscribed(uid: Uid, filter: &str) -> Entry<'_> {
    Entry::Subscribe {
        uid,
        client_id: "c",
        subscription: subscription(filter),
    }
}

pub(super) fn subscription(filter: &str) -> SubscriptionRecord<'_> {
    SubscriptionRecord {
        filter,
        options: SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAlways,
        },
        identifier: 0,
        replays: false,
    }
}

/// The entries of the log, each as `position entry`.
pub(super) fn log(server: &RedisServer) -> Vec<String> {
    let items: Vec<LogItem> = server.command(&["XRANGE", "mqtt:{g}:log", "-", "+"]);
    let entry = |(id, [_, bytes]): &LogItem| {
        let entry = Entry::read(&mut Reader::new(bytes)).expect("an entry");
        format!("{} {entry:?}", &id[2..])
    };
    items.iter().map(entry).collect()
}
