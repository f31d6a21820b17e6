//! CONNECT in a cluster: the connection becomes the owner of its client, and goes on with what there is of the session.
//!
//! Invariants:
//! * A connection claims once, and then only looks: so the last one that has claimed wins.
//! * Whoever is told that a client is wanted is named by its token: what is told late closes no later connection of the client.
//! * CONNACK is sent when the wills of the client's connections before have been published, whoever does that.
//! * A CONNECT that was given up changes nothing: what arrives with the claim, which may be late, takes nothing away; the rest is asked for when
//!   the client is owned, if somebody is still there.
//! * Whoever has claimed gives the client back, also if its connection has gone meanwhile: the claim goes on by itself, and what it
//!   comes to is an [`Owned`], which is released when it is dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::Cluster;
use super::waiting::Waiting;
use super::work::Work;
use crate::broker::core::{Core, RouteScratch};
use crate::broker::ownership::{Claimed, Owned};
use crate::broker::registry::Entry as Registered;
use crate::session::{Replay, Restored, Reuse, Session, Subscription, WillMessage};
use crate::store::cluster::{ClientRecord, ClusterOp, Entry, How, Open, Token, Will};
use crate::store::{Op, StoredSession, StoredSubscription, Uid, write_client};
use crate::topic::TopicFilter;

/// Whether a client is opened with the claim.
const IS_EARLY: bool = true;

/// What a CONNECT wants.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) client_id: Arc<str>,
    pub(crate) clean_start: bool,
    /// Session Expiry Interval.
    pub(crate) expiry_interval: u32,
    pub(crate) will: Option<Box<WillMessage>>,
}

impl Core {
    /// Makes the caller the owner of the session, new or resumed. `None` if yet another connection has claimed it meanwhile, or the
    /// store can't be read.
    pub(crate) async fn claim_in_cluster(self: &Arc<Core>, cluster: &Arc<Cluster>, wanted: Wanted) -> Option<Claimed> {
        let (sender, receiver) = oneshot::channel();
        let (core, cluster) = (Arc::clone(self), Arc::clone(cluster));
        tokio::spawn(async move {
            if let Some(claimed) = core.become_owner(&cluster, wanted, &sender).await {
                // If nobody is there any more, it is dropped, and so released.
                drop(sender.send(claimed));
            }
        });
        receiver.await.ok()
    }

    async fn become_owner(
        self: &Arc<Core>,
        cluster: &Arc<Cluster>,
        wanted: Wanted,
        asker: &oneshot::Sender<Claimed>,
    ) -> Option<Claimed> {
        cluster.until_settled().await;
        if asker.is_closed() {
            return None;
        }
        let token = cluster.new_token();
        // What may be resumed must be kept, if only to the end of the connection.
        let candidate = match wanted.expiry_interval == 0 && wanted.clean_start {
            true => 0,
            false => cluster.new_uid(&wanted.client_id),
        };
        let is_over = || asker.is_closed() || cluster.is_leaving();
        let (record, _work) = self.begin_with(cluster, &wanted, (token, candidate), is_over).await?;
        let session = self.open_session(cluster, &wanted, candidate, record.uid, token).await;
        let present = record.uid.is_some_and(|uid| uid != candidate);
        cluster.note_ended(&wanted.client_id, record.uid);
        let owned = self.put_online(session);
        if record.has_wills {
            // Nobody waits any more.
            return None;
        }
        if record.next.is_some() {
            // It was told before anybody was there to hear it.
            self.give_up(&wanted.client_id, token);
        }
        cluster.wait_for_inbox().await;
        cluster.heart.wait_until_young().await;
        Some(Claimed {
            session: owned,
            present,
            replaced: false,
        })
    }

    /// Claims the client, and begins with it when it has it. What there is of it when its wills are out, or the CONNECT is over.
    async fn begin_with(
        self: &Arc<Core>,
        cluster: &Arc<Cluster>,
        wanted: &Wanted,
        (token, candidate): (Token, Uid),
        is_over: impl Fn() -> bool,
    ) -> Option<(ClientRecord, Work)> {
        let mut work = cluster.begin_work();
        let told = Waiting::begin(cluster, &wanted.client_id);
        let receipt = cluster.write_claim(wanted, token, candidate);
        if let Some(receipt) = receipt {
            receipt.kept().await;
        }
        let mut record = cluster.read_client(&wanted.client_id).await;
        if record.owner != Some(token) {
            cluster.counters.claims_waited.fetch_add(1, Ordering::Relaxed);
            // A node that leaves waits for no client. If it gets this one, it gives it back before it has left.
            drop(work);
            told.wait_for(self, token, record).await?;
            work = cluster.begin_work();
            record = ClientRecord::default();
        }
        if record.opened != Some(token) {
            if is_over() {
                cluster.give_back(&wanted.client_id, token).await;
                return None;
            }
            let receipt = cluster.write_open(wanted, token, candidate);
            if let Some(receipt) = receipt {
                receipt.kept().await;
            }
            record = cluster.read_client(&wanted.client_id).await;
        }
        Some((told.until_wills_are_out(record, is_over).await, work))
    }

    /// The session that is now owned by this connection, as the store has it.
    async fn open_session(
        self: &Arc<Core>,
        cluster: &Arc<Cluster>,
        wanted: &Wanted,
        candidate: Uid,
        uid: Option<Uid>,
        token: Token,
    ) -> Box<Session> {
        let Some(uid) = uid else {
            let mut session = Box::new(Session::new(self.new_outbox(Arc::clone(&wanted.client_id))));
            session.token = Some(token);
            return session;
        };
        let outbox = cluster.mirror.own(uid, &wanted.client_id);
        let stored = match uid == candidate {
            true => None,
            false => cluster.read_session(uid).await,
        };
        outbox.own(&stored.as_ref().map(|stored| stored.live).unwrap_or_default());
        let mut session = Box::new(Session::new(outbox));
        session.token = Some(token);
        session.kept = true;
        session.is_untold = uid == candidate;
        session.expiry_interval = wanted.expiry_interval;
        session.inflight.keep();
        session.reuse = Some(Box::new(Reuse::new(0)));
        if let Some(stored) = stored {
            self.resume_shared(cluster, &mut session, stored);
        }
        session
    }

    fn resume_shared(&self, cluster: &Arc<Cluster>, session: &mut Session, stored: StoredSession) {
        let StoredSession { live, replayed, .. } = stored;
        session.window = stored.window;
        session.restored = Some(Box::new(Restored {
            away_since: stored.away_since.unwrap_or_else(|| self.clock.now()),
            unsent: stored.unsent,
            window: stored.window,
            live,
            replayed,
        }));
        session.inflight.restore_next(live.first, replayed.first);
        session.reuse = Some(Box::new(Reuse::new(live.first)));
        stored.received.iter().for_each(|id| session.inbound.insert(*id));
        session.accepted = Some(Box::new(stored.accepted.into_iter().collect()));
        let mut scratch = RouteScratch::default();
        for stray in cluster.mirror.strays(session.outbox.key, &stored.subscriptions) {
            let entry = Entry::Unsubscribe {
                uid: session.outbox.key,
                filter: stray.as_str(),
            };
            scratch
                .pen()
                .write(&cluster.journal, &Op::Cluster(ClusterOp::Log(entry)));
        }
        if stored.subscriptions.iter().any(StoredSubscription::is_shared) {
            cluster.note_presence(session.outbox.key, true, &mut scratch);
        }
        for subscription in stored.subscriptions {
            self.resume_subscription(cluster, session, subscription, &mut scratch);
        }
    }

    fn resume_subscription(
        &self,
        cluster: &Arc<Cluster>,
        session: &mut Session,
        stored: StoredSubscription,
        scratch: &mut RouteScratch,
    ) {
        let Ok(filter) = TopicFilter::parse(&stored.filter) else {
            return tracing::error!(
                filter = &*stored.filter,
                "a subscription in the store has no valid Topic Filter"
            );
        };
        let subscription = Subscription {
            options: stored.options,
            identifier: std::num::NonZeroU32::new(stored.identifier),
            replay: 0,
        };
        cluster.join_route(&filter, &subscription, true, scratch);
        session.add_subscription(filter.clone(), subscription);
        if let Some(cursor) = stored.replay {
            let mut replay = Replay::new(filter, subscription, self.router.retained.changes());
            replay.resume_behind(&cursor);
            session.replay(replay);
        }
    }

    /// The client is connected to this node. An entry that is there is that of a connection which has been told to go, and whose
    /// session is not its own any more.
    fn put_online(self: &Arc<Core>, session: Box<Session>) -> Owned {
        let client_id = Arc::clone(session.client_id());
        let outbox = Arc::clone(&session.outbox);
        let entry = Registered::Online {
            outbox,
            token: session.token,
            claimant: None,
        };
        if self.registry.shard(&client_id).insert(client_id, entry).is_none() {
            self.registry.went_online();
        }
        Owned::of(self, session)
    }
}

impl Cluster {
    fn write_claim(&self, wanted: &Wanted, token: Token, uid: Uid) -> Option<crate::store::Receipt> {
        let mut scratch = RouteScratch::default();
        let claim = ClusterOp::Claim {
            client_id: &wanted.client_id,
            token,
        };
        scratch.pen().write(&self.journal, &Op::Cluster(claim));
        self.add_open(wanted, (token, uid), IS_EARLY, &mut scratch);
        scratch.pen().receipt()
    }

    fn write_open(&self, wanted: &Wanted, token: Token, uid: Uid) -> Option<crate::store::Receipt> {
        let mut scratch = RouteScratch::default();
        self.add_open(wanted, (token, uid), !IS_EARLY, &mut scratch);
        scratch.pen().receipt()
    }

    /// The client is for the next one, and is as it was: nobody has begun with it.
    async fn give_back(&self, client_id: &str, token: Token) {
        let mut scratch = RouteScratch::default();
        let release = ClusterOp::Release {
            client_id,
            token,
            how: How::Lost,
            expiry_interval: 0,
            mid: self.new_mid(),
        };
        scratch.pen().write(&self.journal, &Op::Cluster(release));
        let receipt = scratch.pen().receipt();
        drop(scratch);
        if let Some(receipt) = receipt {
            receipt.kept().await;
        }
    }

    /// It has effect if the token is that of the owner by then.
    fn add_open(&self, wanted: &Wanted, (token, uid): (Token, Uid), is_early: bool, scratch: &mut RouteScratch) {
        let mut client = Vec::new();
        let will = wanted.will.as_ref();
        if let Some(will) = will {
            write_client(&mut client, &will.client);
        }
        let will = will.map(|will| {
            let (message, expires_in) = will.message.as_will();
            Will {
                delay_interval: will.delay_interval,
                expires_in,
                message,
                client: &client,
            }
        });
        let open = Open {
            client_id: &wanted.client_id,
            token,
            clean: wanted.clean_start,
            uid,
            expiry_interval: wanted.expiry_interval,
            mid: self.new_mid(),
            will,
        };
        let op = match is_early {
            true => ClusterOp::OpenEarly(open),
            false => ClusterOp::Open(open),
        };
        scratch.pen().write(&self.journal, &Op::Cluster(op));
    }

    pub(super) async fn read_client(&self, client_id: &Arc<str>) -> ClientRecord {
        let client_id = Arc::clone(client_id);
        match self.questions.clients.ask(Arc::clone(&client_id)).await {
            Ok(record) => record,
            // What is damaged may be mended.
            Err(_) => self.ask_until("a client", move |store| store.client(&client_id)).await,
        }
    }

    async fn read_session(&self, uid: Uid) -> Option<StoredSession> {
        match self.questions.sessions.ask(uid).await {
            Ok(session) => session,
            Err(_) => self.ask_until("the session", move |store| store.session(uid)).await,
        }
    }

    /// What came for this node before now has been given to those for whom it is.
    async fn wait_for_inbox(&self) {
        if self.questions.inbox.ask(()).await.is_err() {
            self.ask_until("the inbox", |store| store.empty_inbox()).await;
        }
    }

    /// Sessions of the client that are in the router, and are no more.
    fn note_ended(&self, client_id: &str, uid: Option<Uid>) {
        let ended = self.mirror.others_of(client_id, uid.unwrap_or(0));
        if !ended.is_empty() {
            drop(self.write(ended.into_iter().map(|uid| ClusterOp::Log(Entry::End { uid }))));
        }
    }
}
