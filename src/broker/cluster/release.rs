//! The end of a connection in a cluster: the client is free for its next owner.
//!
//! Order:
//! 1. What the connection has published, and what it has changed, is kept: the next owner's publications come behind it.
//! 2. This node has nothing of the session any more: from the release on it may be owned here again.
//! 3. The client is released, and with it its will: that is published by whoever is told to, once.

use std::sync::Arc;

use super::Cluster;
use crate::broker::core::{Core, RouteScratch};
use crate::broker::registry::Entry as Registered;
use crate::session::Session;
use crate::store::cluster::{ClusterOp, Entry, How};
use crate::store::{Op, Receipt};

impl Core {
    /// Gives the session back. If the runtime has ended, others find that this node is dead.
    pub(in crate::broker) fn release_in_cluster(self: &Arc<Core>, cluster: &Arc<Cluster>, mut session: Box<Session>) {
        if session.outbox.is_condemned() || session.is_untold {
            // Who was not told of a new session would take it for the one before.
            session.expiry_interval = 0;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (core, cluster) = (Arc::clone(self), Arc::clone(cluster));
        // What was over before the node began to leave was lost, however long its release has to wait for Redis.
        let is_leaving = *self.stopping.borrow();
        let settled = cluster.settle();
        let work = cluster.begin_work();
        runtime.spawn(async move {
            if let Some(settled) = settled {
                settled.kept().await;
            }
            core.leave(&cluster, session, is_leaving).await;
            drop(work);
        });
    }

    async fn leave(self: &Arc<Core>, cluster: &Arc<Cluster>, mut session: Box<Session>, is_leaving: bool) {
        if session.outbox.is_condemned() {
            // Since its connection has gone.
            session.expiry_interval = 0;
        }
        let how = match (session.will.is_some(), is_leaving) {
            (false, _) => How::Clean,
            (true, false) => How::Lost,
            (true, true) => How::Left {
                grace: self.config().will_grace,
            },
        };
        // What the release leaves to be done, the store tells.
        let receipt = self.write_release(cluster, session, how);
        if let Some(receipt) = receipt {
            receipt.kept().await;
        }
    }

    fn write_release(self: &Arc<Core>, cluster: &Arc<Cluster>, mut session: Box<Session>, how: How) -> Option<Receipt> {
        let mut scratch = RouteScratch::default();
        let client_id = Arc::clone(session.client_id());
        let (uid, kept, expiry_interval) = (session.outbox.key, session.kept, session.expiry_interval);
        let token = session.token;
        cluster.touched.note(&client_id);
        for (filter, subscription) in &session.subscriptions {
            if !kept {
                self.router.unsubscribe(filter, uid);
            }
            cluster.leave_route(filter, subscription, session.has_queue_for(filter), &mut scratch);
        }
        self.put_away(&client_id, uid);
        // What is left of it goes to other members: it must not be one any more.
        let mut ends = (kept && expiry_interval == 0).then_some(uid);
        if kept {
            let record = session.record(Some(self.clock.now()));
            scratch.pen().write(&cluster.journal, &Op::Session(record));
            cluster.mirror.disown(uid);
            if expiry_interval > 0 && session.has_shared_subscriptions() {
                cluster.note_presence(uid, false, &mut scratch);
            }
        } else {
            if let Some(membership) = session.membership.take() {
                cluster.mirror.disown(membership.queue.key);
                ends = Some(membership.queue.key);
            }
            self.give_up_messages(*session, &mut scratch);
        }
        let pen = scratch.pen();
        if let Some(token) = token {
            let release = ClusterOp::Release {
                client_id: &client_id,
                token,
                how,
                expiry_interval,
                mid: cluster.new_mid(),
            };
            pen.write(&cluster.journal, &Op::Cluster(release));
        }
        if let Some(uid) = ends {
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

impl Cluster {
    /// What is to be waited for until all is kept that has been written until now.
    pub(super) fn settle(&self) -> Option<Receipt> {
        let mut scratch = RouteScratch::default();
        scratch.pen().begin(&self.journal);
        scratch.pen().receipt()
    }
}
