//! CONNECT in a cluster: the connection becomes the owner of its client, and goes on with what there is of the session.
//!
//! Invariants:
//! * A connection claims once, and then only looks: so the last one that has claimed wins.
//! * Whoever has claimed gives the client back, also if its connection has gone meanwhile: the claim goes on by itself, and what it
//!   comes to is an [`Owned`], which is released when it is dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::Cluster;
use crate::broker::core::{Core, RouteScratch};
use crate::broker::ownership::{Claimed, Owned};
use crate::broker::registry::Entry as Registered;
use crate::session::{Replay, Restored, Reuse, Session, Subscription, WillMessage};
use crate::store::cluster::{ClientRecord, ClusterOp, Entry, Incarnation, Open, Token, Will};
use crate::store::{Op, StoredSession, StoredSubscription, Uid, write_client};
use crate::topic::TopicFilter;

/// What a CONNECT wants.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) client_id: Arc<str>,
    pub(crate) clean_start: bool,
    /// Session Expiry Interval.
    pub(crate) expiry_interval: u32,
    pub(crate) will: Option<Box<WillMessage>>,
}

/// A claim that is waited for is looked at this often, beside when it is told of.
const LOOK: Duration = Duration::from_millis(100);

impl Core {
    /// Makes the caller the owner of the session, new or resumed. `None` if yet another connection has claimed it meanwhile, or the
    /// store can't be read.
    pub(crate) async fn claim_in_cluster(self: &Arc<Core>, cluster: &Arc<Cluster>, wanted: Wanted) -> Option<Claimed> {
        let (sender, receiver) = oneshot::channel();
        let (core, cluster) = (Arc::clone(self), Arc::clone(cluster));
        tokio::spawn(async move {
            if let Some(claimed) = core.become_owner(&cluster, wanted).await {
                // If nobody is there any more, it is dropped, and so released.
                drop(sender.send(claimed));
            }
        });
        receiver.await.ok()
    }

    async fn become_owner(self: &Arc<Core>, cluster: &Arc<Cluster>, wanted: Wanted) -> Option<Claimed> {
        let token = cluster.new_token();
        // What may be resumed must be kept, if only to the end of the connection.
        let candidate = match wanted.expiry_interval == 0 && wanted.clean_start {
            true => 0,
            false => cluster.new_uid(&wanted.client_id),
        };
        let told = Waiting::begin(cluster, &wanted.client_id);
        let receipt = cluster.write_claim(&wanted, token, candidate);
        if let Some(receipt) = receipt {
            receipt.kept().await;
        }
        let mut record = cluster.read_client(&wanted.client_id).await;
        if record.owner != Some(token) {
            cluster.counters.claims_waited.fetch_add(1, Ordering::Relaxed);
            told.wait_for(self, token, record).await?;
            record = ClientRecord::default();
        }
        if record.opened != Some(token) {
            let receipt = cluster.write_open(&wanted, token, candidate);
            if let Some(receipt) = receipt {
                receipt.kept().await;
            }
            record = cluster.read_client(&wanted.client_id).await;
        }
        drop(told);
        let session = self.open_session(cluster, &wanted, candidate, record.uid, token).await;
        let present = record.uid.is_some_and(|uid| uid != candidate);
        cluster.note_ended(&wanted.client_id, record.uid);
        let owned = self.put_online(session);
        if record.next.is_some() {
            // It was told before anybody was there to hear it.
            self.give_up(&wanted.client_id);
        }
        cluster.ask_until("the inbox", |store| store.empty_inbox()).await;
        cluster.heart.wait_until_young().await;
        Some(Claimed {
            session: owned,
            present,
            replaced: false,
        })
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
            false => cluster.ask_until("the session", move |store| store.session(uid)).await,
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
        let accepted = stored.accepted.into_iter();
        session.accepted = Some(Box::new(accepted.collect()));
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
        let entry = Registered::Online { outbox, claimant: None };
        if self.registry.shard(&client_id).insert(client_id, entry).is_none() {
            self.registry.went_online();
        }
        Owned::of(self, session)
    }
}

/// A connection that is told when it may have the client.
struct Waiting<'a> {
    cluster: &'a Cluster,
    client_id: &'a Arc<str>,
    told: Arc<Notify>,
}

impl<'a> Waiting<'a> {
    fn begin(cluster: &'a Cluster, client_id: &'a Arc<str>) -> Waiting<'a> {
        let told = Arc::new(Notify::new());
        let mut waiting = cluster.waiting.lock();
        waiting
            .entry(Arc::clone(client_id))
            .or_default()
            .push(Arc::clone(&told));
        drop(waiting);
        Waiting {
            cluster,
            client_id,
            told,
        }
    }

    /// Waits until it has the client. `None` if another one will have it.
    async fn wait_for(&self, core: &Arc<Core>, token: Token, mut record: ClientRecord) -> Option<()> {
        while record.owner != Some(token) {
            if record.next != Some(token) {
                return None;
            }
            let told = tokio::time::timeout(LOOK, self.told.notified()).await;
            record = self.cluster.read_client(self.client_id).await;
            let owner = record.owner.filter(|_| told.is_err() && record.next == Some(token));
            if let Some(owner) = owner {
                self.want_again(core, owner.incarnation).await;
            }
        }
        Some(())
    }
}

impl Waiting<'_> {
    /// The owner may not have heard of it. One of this node is told at once: later it might be the one who waits here.
    async fn want_again(&self, core: &Arc<Core>, from: Incarnation) {
        if from == self.cluster.incarnation {
            return core.give_up(self.client_id);
        }
        let client_id = Arc::clone(self.client_id);
        let told = self.cluster.ask(move |store| store.want(from, &client_id)).await;
        if let Err(error) = told {
            tracing::debug!(%error, "the owner of a client can't be told that it is wanted");
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.cluster.waiting.lock();
        if let Some(all) = waiting.get_mut(self.client_id) {
            all.retain(|other| !Arc::ptr_eq(other, &self.told));
            if all.is_empty() {
                waiting.remove(self.client_id);
            }
        }
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
        self.add_open(wanted, token, uid, &mut scratch);
        scratch.pen().receipt()
    }

    fn write_open(&self, wanted: &Wanted, token: Token, uid: Uid) -> Option<crate::store::Receipt> {
        let mut scratch = RouteScratch::default();
        self.add_open(wanted, token, uid, &mut scratch);
        scratch.pen().receipt()
    }

    /// It has effect if the token is that of the owner by then.
    fn add_open(&self, wanted: &Wanted, token: Token, uid: Uid, scratch: &mut RouteScratch) {
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
        scratch.pen().write(&self.journal, &Op::Cluster(ClusterOp::Open(open)));
    }

    async fn read_client(&self, client_id: &Arc<str>) -> ClientRecord {
        let client_id = Arc::clone(client_id);
        self.ask_until("a client", move |store| store.client(&client_id)).await
    }

    pub(super) fn notify_waiting(&self, client_id: &str) {
        let waiting = self.waiting.lock();
        waiting
            .get(client_id)
            .into_iter()
            .flatten()
            .for_each(|told| told.notify_one());
    }

    pub(super) fn notify_all_waiting(&self) {
        self.waiting
            .lock()
            .values()
            .flatten()
            .for_each(|told| told.notify_one());
    }

    /// Sessions of the client that are in the router, and are no more.
    fn note_ended(&self, client_id: &str, uid: Option<Uid>) {
        let ended = self.mirror.others_of(client_id, uid.unwrap_or(0));
        if !ended.is_empty() {
            drop(self.write(ended.into_iter().map(|uid| ClusterOp::Log(Entry::End { uid }))));
        }
    }
}
