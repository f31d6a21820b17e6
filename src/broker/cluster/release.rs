//! The end of a connection in a cluster: the client is free for its next owner.
//!
//! Order:
//! 1. What the connection has published, and what it has changed, is kept: the next owner's publications come behind it.
//! 2. This node has nothing of the session any more: from the release on it may be owned here again.
//! 3. The client is released, and with it its will: that is published by whoever is told to, once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Cluster;
use crate::broker::core::{Core, RouteScratch};
use crate::broker::registry::Entry as Registered;
use crate::session::{Session, WillMessage};
use crate::store::cluster::{ClusterOp, Departure, Entry, Mid};
use crate::store::{Op, Receipt};

impl Core {
    /// Gives the session back. If the runtime has ended, others find that this node is dead.
    pub(in crate::broker) fn release_in_cluster(self: &Arc<Core>, cluster: &Arc<Cluster>, mut session: Box<Session>) {
        if session.outbox.is_condemned() {
            session.expiry_interval = 0;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (core, cluster) = (Arc::clone(self), Arc::clone(cluster));
        let settled = cluster.settle();
        let releasing = Releasing::begin(&cluster);
        runtime.spawn(async move {
            if let Some(settled) = settled {
                settled.kept().await;
            }
            core.leave(&cluster, session).await;
            drop(releasing);
        });
    }

    async fn leave(self: &Arc<Core>, cluster: &Arc<Cluster>, mut session: Box<Session>) {
        let will = session.will.take();
        let key = session.outbox.key;
        let mid = cluster.new_mid();
        let grace = match *self.stopping.borrow() && will.is_some() {
            true => self.config().will_grace,
            false => 0,
        };
        let waits = will.as_ref().map_or(0, |will| will.delay_interval.max(grace));
        // As the script that releases decides.
        let is_due = waits == 0 || (session.expiry_interval == 0 && grace == 0);
        let receipt = self.write_release(cluster, *session, will.as_deref(), (mid, grace));
        if let Some(receipt) = receipt {
            receipt.kept().await;
        }
        if let Some(will) = will.filter(|_| is_due) {
            self.publish_job_will(cluster, will, key, mid, cluster.incarnation);
        }
    }

    fn write_release(
        self: &Arc<Core>,
        cluster: &Arc<Cluster>,
        session: Session,
        will: Option<&WillMessage>,
        (mid, grace): (Mid, u32),
    ) -> Option<Receipt> {
        let mut scratch = RouteScratch::default();
        let client_id = Arc::clone(session.client_id());
        let (uid, kept, expiry_interval, token) =
            (session.outbox.key, session.kept, session.expiry_interval, session.token);
        for (filter, subscription) in &session.subscriptions {
            if !kept {
                self.router.unsubscribe(filter, uid);
            }
            cluster.leave_route(filter, subscription, kept, &mut scratch);
        }
        self.put_away(&client_id, uid);
        if kept {
            let record = session.record(Some(self.clock.now()));
            scratch.pen().write(&cluster.journal, &Op::Session(record));
            cluster.mirror.disown(uid);
        } else {
            self.give_up_messages(session, &mut scratch);
        }
        let departure = Departure {
            has_will: will.is_some(),
            grace,
            expiry_interval,
        };
        let pen = scratch.pen();
        if let Some(token) = token {
            let release = ClusterOp::Release {
                client_id: &client_id,
                token,
                departure,
                mid,
            };
            pen.write(&cluster.journal, &Op::Cluster(release));
        }
        if kept && expiry_interval == 0 {
            let end = ClusterOp::Log(Entry::End { uid });
            pen.write(&cluster.journal, &Op::Cluster(end));
        }
        pen.receipt()
    }

    /// The client is not connected here any more, unless it is again by another session.
    fn put_away(&self, client_id: &Arc<str>, uid: u64) {
        let mut shard = self.registry.shard(client_id);
        if let Some(Registered::Online { outbox, .. }) = shard.get(client_id)
            && outbox.key == uid
        {
            shard.remove(client_id);
            self.registry.went_offline();
        }
    }
}

/// A client that is being released.
struct Releasing(Arc<Cluster>);

impl Releasing {
    fn begin(cluster: &Arc<Cluster>) -> Releasing {
        cluster.releases.fetch_add(1, Ordering::AcqRel);
        Releasing(Arc::clone(cluster))
    }
}

impl Drop for Releasing {
    fn drop(&mut self) {
        self.0.releases.fetch_sub(1, Ordering::AcqRel);
        self.0.released.notify_waiters();
    }
}

impl Cluster {
    /// Waits until no client is being released.
    pub(crate) async fn all_released(&self) {
        loop {
            let released = self.released.notified();
            if self.releases.load(Ordering::Acquire) == 0 {
                return;
            }
            released.await;
        }
    }

    /// What is to be waited for until all is kept that has been written until now.
    pub(super) fn settle(&self) -> Option<Receipt> {
        let mut scratch = RouteScratch::default();
        scratch.pen().begin(&self.journal);
        scratch.pen().receipt()
    }
}
