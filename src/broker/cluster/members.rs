//! Members of Shared Subscriptions of whose sessions nothing else is kept: they get a queue in the store, for these alone, which ends with
//! the connection. See [`Membership`].

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::Cluster;
use crate::broker::core::{Core, RouteScratch};
use crate::packet::QoS;
use crate::session::{MEMBER_BATCH, Membership, Outbox, Session, Subscription, Taken};
use crate::store::cluster::{ClusterOp, Entry};
use crate::store::{Extent, Op, SubscriptionRecord, Uid};
use crate::topic::TopicFilter;

/// Before what could not be read is read again.
const READ_AGAIN: Duration = Duration::from_secs(1);

impl Core {
    /// The session has this Shared Subscription from now on, perhaps in place of one with another QoS. At QoS 0 it has nothing that
    /// would have to outlive its node.
    pub(crate) fn change_membership(
        self: &Arc<Core>,
        cluster: &Arc<Cluster>,
        session: &mut Session,
        (filter, subscription): (&TopicFilter, &Subscription),
        scratch: &mut RouteScratch,
    ) {
        if subscription.options.qos == QoS::AtMostOnce {
            return cluster.leave_group(session, filter, scratch);
        }
        let uid = self.make_member(cluster, session, scratch);
        let subscription = SubscriptionRecord {
            filter: filter.as_str(),
            options: subscription.options,
            identifier: subscription.identifier.map_or(0, u32::from),
            replays: false,
        };
        let entry = Entry::Subscribe {
            uid,
            client_id: session.client_id(),
            subscription,
        };
        let pen = scratch.pen();
        pen.write(&cluster.journal, &Op::Subscribe { uid, subscription });
        pen.write(&cluster.journal, &Op::Cluster(ClusterOp::Log(entry)));
        cluster.note_presence(uid, true, scratch);
    }

    /// The uid of its queue.
    fn make_member(self: &Arc<Core>, cluster: &Arc<Cluster>, session: &mut Session, scratch: &mut RouteScratch) -> Uid {
        if let Some(membership) = &session.membership {
            return membership.queue.key;
        }
        let client_id = Arc::clone(session.client_id());
        let uid = cluster.new_uid(&client_id);
        let queue = cluster.mirror.own(uid, &client_id);
        queue.own(&Extent::default());
        session.outbox.set_member();
        let task = tokio::spawn(pass_on(
            Arc::clone(self),
            Arc::clone(cluster),
            Arc::clone(&queue),
            Arc::clone(&session.outbox),
        ));
        session.membership = Some(Box::new(Membership::new(queue, task.abort_handle())));
        if let Some(token) = session.token {
            let op = ClusterOp::Lend {
                client_id: &client_id,
                token,
                uid,
            };
            scratch.pen().write(&cluster.journal, &Op::Cluster(op));
        }
        uid
    }
}

impl Cluster {
    /// The session has it no more. What is in its queue already still comes.
    pub(crate) fn leave_group(&self, session: &Session, filter: &TopicFilter, scratch: &mut RouteScratch) {
        let Some(membership) = &session.membership else { return };
        let (uid, filter) = (membership.queue.key, filter.as_str());
        let pen = scratch.pen();
        pen.write(&self.journal, &Op::Unsubscribe { uid, filter });
        let entry = Entry::Unsubscribe { uid, filter };
        pen.write(&self.journal, &Op::Cluster(ClusterOp::Log(entry)));
    }

    /// Tells all whether the client of a member of Shared Subscriptions is connected here.
    pub(crate) fn note_presence(&self, uid: Uid, is_present: bool, scratch: &mut RouteScratch) {
        let node = self.incarnation;
        let entry = match is_present {
            true => Entry::Present { uid, node },
            false => Entry::Away { uid },
        };
        scratch.pen().write(&self.journal, &Op::Cluster(ClusterOp::Log(entry)));
    }
}

/// Takes what comes into the queue to the session, as long as that has room. Whoever finds this node dead gives what is in
/// the queue to others: so it stays where it is while this one may be.
async fn pass_on(core: Arc<Core>, cluster: Arc<Cluster>, queue: Arc<Outbox>, session: Arc<Outbox>) {
    let mut taken = Taken::default();
    loop {
        poll_fn(|cx| session.poll_relieved(cx)).await;
        poll_fn(|cx| match queue.poll_ready(cx, Some(MEMBER_BATCH)) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        if let Some(page) = queue.tail_page()
            && let Err(error) = core.read_queue(&queue, page).await
        {
            let client = &*queue.client_id;
            tracing::error!(client, %error, "messages of shared subscriptions can't be read: that is tried again");
            tokio::time::sleep(READ_AGAIN).await;
        }
        cluster.heart.wait_until_young().await;
        let deliveries = queue.take_for_member(&mut taken);
        let mut scratch = RouteScratch::default();
        scratch.put_of_member(&session, deliveries);
    }
}
