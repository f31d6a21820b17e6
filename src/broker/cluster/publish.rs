//! The way of a message through a node of a cluster, out and in.
//!
//! Out: sessions here of which nothing is kept get it at once; for all others it is written down, once for each queue, and once
//! for each node. In: a message from the inbox goes to what its sender could not know, the sessions of this node.

use std::sync::Arc;

use super::{Choice, Cluster};
use crate::broker::core::{Core, Origin, RouteScratch};
use crate::events::Event;
use crate::message::Publication;
use crate::packet::QoS;
use crate::router::{LastMatch, Route};
use crate::session::{Extras, Outgoing, Placement, Terms, WakeUps, write_down};
use crate::stats::Discard;
use crate::store::cluster::{ClusterOp, Entry, InboxMessage, Once, Publishing, inbox_of};
use crate::store::{Op, Recipient, TermsRecord, Uid};
use crate::topic::TopicFilter;

impl Core {
    /// [`Core::route`] in a cluster. A message that must have effect `once` reaches all by queues and inboxes, also those here.
    pub(in crate::broker) fn route_in_cluster(
        &self,
        cluster: &Arc<Cluster>,
        publication: &Publication<'_>,
        origin: Option<&Origin<'_>>,
        scratch: &mut RouteScratch,
        last: &mut LastMatch,
        once: Option<Once>,
    ) -> bool {
        let RouteScratch {
            matches,
            frames,
            wake_ups,
            offers,
        } = scratch;
        // What this broker tells of itself is for its own clients.
        let is_own = origin.is_none() && publication.topic.starts_with("$SYS/");
        let mut outgoing = Outgoing::new(publication, frames, &self.clock);
        if publication.qos > QoS::AtMostOnce || once.is_some() {
            // Before it is matched: what is applied meanwhile is looked at by the batch.
            wake_ups.pen.begin(&cluster.journal);
        }
        let may_be_shed = publication.qos == QoS::AtMostOnce && once.is_none();
        let stays_here = is_own || (may_be_shed && cluster.is_shedding());
        if publication.retain {
            match (is_own, stays_here) {
                (true, _) => self.retain(&mut outgoing, true, &mut wake_ups.pen),
                (false, true) => self.stats.discarded(Discard::StoreDown, 1),
                (false, false) => self.log_retained(cluster, publication, once, wake_ups),
            }
        }
        let matches = self.router.recall(publication.topic, last, matches);
        let found = !matches.is_empty();
        *offers += 1 + matches.len();
        let mut goes_round = false;
        // Who of a group has it already, or is to.
        let choices = once.map_or_else(Vec::new, |once| cluster.choices_for(once));
        matches.for_each_client(publication, origin.map(|origin| origin.key), |route, terms| {
            let is_here = !route.outbox.is_shared();
            match once {
                _ if is_own && route.outbox.is_node() => {}
                _ if stays_here && route.outbox.is_node() => self.stats.discarded(Discard::StoreDown, 1),
                Some(_) if is_here || (terms.qos == QoS::AtMostOnce && !route.outbox.is_node()) => goes_round = true,
                _ => drop(route.outbox.offer(&mut outgoing, terms, Placement::Here, wake_ups)),
            }
        });
        if goes_round {
            cluster.write_to_self(publication, None, wake_ups);
        }
        for Choice { share, uid } in &choices {
            let terms = self.terms_of_choice(share, *uid, publication);
            cluster.write_chosen(*uid, &terms, wake_ups);
        }
        for group in matches.groups() {
            if choices.iter().any(|choice| group.is_of(&choice.share)) {
                continue;
            }
            let given = group.choose(publication, |route, terms, placement| {
                (!stays_here || !route.outbox.is_node())
                    && cluster.give(route, terms, placement, &mut outgoing, once, wake_ups)
            });
            if !given {
                self.no_member(publication.topic);
            }
        }
        let key = origin.map_or(0, |origin| origin.key);
        let publishing = Publishing {
            origin: key,
            once,
            only: None,
        };
        wake_ups.pen.end_publish(publication, &publishing);
        self.events.emit(|| Event::Published {
            client: origin.and_then(|origin| origin.client.cloned()),
            message: Arc::clone(outgoing.message()),
        });
        found
    }

    /// How a member that was chosen gets a message. If its subscription is gone meanwhile, as it was published.
    fn terms_of_choice(&self, share: &TopicFilter, uid: Uid, publication: &Publication<'_>) -> Terms {
        let group = self.router.group(share);
        let terms = group.and_then(|group| group.terms_for(uid, publication));
        terms.unwrap_or_else(|| Terms {
            qos: publication.qos,
            retain: false,
            extras: Extras::new(&[], Some(share.clone())),
        })
    }

    /// Retained messages have one order, that of the log: also here it is the log that retains.
    fn log_retained(
        &self,
        cluster: &Cluster,
        publication: &Publication<'_>,
        once: Option<Once>,
        wake_ups: &mut WakeUps,
    ) {
        let entry = match publication.payload.is_empty() {
            true => Entry::RetainClear {
                topic: publication.topic,
            },
            false if self.memory.is_full() => return self.stats.discarded(Discard::MemoryShort, 1),
            false => Entry::Retain { message: *publication },
        };
        let op = match once {
            None => ClusterOp::Log(entry),
            Some(Once { mid, of, .. }) => ClusterOp::RetainOnce { mid, of, entry },
        };
        wake_ups.pen.write(&cluster.journal, &Op::Cluster(op));
    }

    /// Messages from other nodes, for the sessions of this one.
    pub(super) fn route_inbox(&self, messages: &mut dyn Iterator<Item = InboxMessage<'_>>) {
        let (mut scratch, mut last) = (RouteScratch::default(), LastMatch::default());
        for InboxMessage { message, share, origin } in messages {
            match share.map(TopicFilter::parse) {
                None => self.route_here(&message, origin, &mut scratch, &mut last),
                Some(Ok(filter)) => self.route_to_member(&message, &filter, &mut scratch),
                Some(Err(_)) => {}
            }
        }
    }

    fn route_here(
        &self,
        publication: &Publication<'_>,
        origin: Option<Uid>,
        scratch: &mut RouteScratch,
        last: &mut LastMatch,
    ) {
        let RouteScratch {
            matches,
            frames,
            wake_ups,
            ..
        } = scratch;
        let matches = self.router.recall(publication.topic, last, matches);
        let mut outgoing = Outgoing::new(publication, frames, &self.clock);
        matches.for_each_client(publication, origin, |route, terms| {
            if is_by_inbox(route, &terms) {
                route.outbox.offer(&mut outgoing, terms, Placement::Here, wake_ups);
            }
        });
    }

    /// A member of a Shared Subscription here gets the message, since its sender has chosen this node: one that is sent it at QoS 0, or
    /// the program itself.
    fn route_to_member(&self, publication: &Publication<'_>, filter: &TopicFilter, scratch: &mut RouteScratch) {
        let RouteScratch { frames, wake_ups, .. } = scratch;
        let mut outgoing = Outgoing::new(publication, frames, &self.clock);
        let group = self.router.group(filter);
        let given = group.is_some_and(|group| {
            group.choose(publication, |route, terms, placement| {
                let by_queue = terms.qos > QoS::AtMostOnce && (route.outbox.is_shared() || route.outbox.is_member());
                !by_queue && !route.outbox.is_node() && route.outbox.offer(&mut outgoing, terms, placement, wake_ups)
            })
        });
        if !given {
            self.no_member(publication.topic);
        }
    }
}

/// Whether a session gets this by the inbox of its node: all, if nothing of it is kept, else what is sent at QoS 0.
fn is_by_inbox(route: &Route, terms: &Terms) -> bool {
    !route.outbox.is_shared() || (!route.outbox.is_node() && terms.qos == QoS::AtMostOnce)
}

impl Cluster {
    /// Whether the store takes nothing, or not as fast as it comes: QoS 0 does not wait for it.
    fn is_shedding(&self) -> bool {
        self.journal.is_failing() || self.journal.is_full()
    }

    /// Who is to get a message that a dead node had begun.
    fn choices_for(&self, once: Once) -> Vec<Choice> {
        self.choices.lock().get(&once.mid).cloned().unwrap_or_default()
    }

    fn write_chosen(&self, uid: Uid, terms: &Terms, wake_ups: &mut WakeUps) {
        write_down(&self.journal, uid, terms, wake_ups);
    }

    /// Gives a message to a member of a Shared Subscription.
    pub(in crate::broker) fn give(
        &self,
        route: &Route,
        terms: Terms,
        placement: Placement,
        outgoing: &mut Outgoing<'_>,
        once: Option<Once>,
        wake_ups: &mut WakeUps,
    ) -> bool {
        if route.outbox.is_shared() {
            return route.outbox.offer(outgoing, terms, placement, wake_ups);
        }
        if terms.qos > QoS::AtMostOnce && route.outbox.is_member() {
            // It has a queue in the group.
            return false;
        }
        let share = terms.extras.as_ref().and_then(|extras| extras.share.clone());
        if once.is_some() {
            self.write_to_self(outgoing.publication(), share.as_ref(), wake_ups);
            return true;
        }
        let qos = terms.qos;
        let given = route.outbox.offer(outgoing, terms, placement, wake_ups);
        if given && qos > QoS::AtMostOnce {
            self.write_recipient(0, outgoing.publication(), share.as_ref(), wake_ups);
        }
        given
    }

    fn write_to_self(&self, publication: &Publication<'_>, share: Option<&TopicFilter>, wake_ups: &mut WakeUps) {
        self.write_recipient(inbox_of(self.incarnation), publication, share, wake_ups);
    }

    fn write_recipient(
        &self,
        uid: u64,
        publication: &Publication<'_>,
        share: Option<&TopicFilter>,
        wake_ups: &mut WakeUps,
    ) {
        let recipient = Recipient {
            uid,
            index: 0,
            terms: TermsRecord {
                qos: publication.qos,
                retain: publication.retain,
                subscription_ids: &[],
                share: share.map(|share| share.as_str()),
            },
        };
        wake_ups.pen.add_recipient(&self.journal, &recipient);
    }
}
