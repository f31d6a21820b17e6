//! From a message to the queues and inboxes that it is put into.

use std::collections::BTreeSet;

use super::call::Expected;
use super::calls::{GroupOf, Touched};
use super::inbox::Head;
use super::plan::Plan;
use super::planner::{Planner, TAKES};
use super::rematch::Additions;
use super::runs;
use crate::message::Publication;
use crate::packet::QoS;
use crate::store::cluster::{
    Follower, Incarnation, Member, Mid, Once, Publishing, bucket_of_inbox, bucket_of_uid, node_of_inbox,
};
use crate::store::op::{Recipient, Recipients, put_publication};
use crate::store::redis::entry::{live_terms, put_live_terms, put_message};
use crate::store::redis::keys::Home;
use crate::store::{TermsRecord, Uid};

/// The message that is being put into queues, as it is kept there.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    number: Option<usize>,
    terms: Vec<u8>,
    message: Vec<u8>,
}

impl Encoded {
    fn of(&mut self, number: usize, message: &Publication<'_>, terms: &TermsRecord<'_>) -> (&[u8], &[u8]) {
        self.terms.clear();
        put_live_terms(&mut self.terms, message, terms);
        if self.number.replace(number) != Some(number) {
            self.message.clear();
            put_message(&mut self.message, message);
        }
        (&self.terms, &self.message)
    }
}

/// A message, and which of those that the batch publishes it is.
struct Published<'a> {
    number: usize,
    message: Publication<'a>,
    publishing: &'a Publishing<'a>,
}

impl Planner<'_> {
    pub(super) fn publish(
        &mut self,
        message: Publication<'_>,
        publishing: &Publishing<'_>,
        recipients: &Recipients<'_>,
        additions: &Additions,
    ) {
        self.plan.needs_position |= message.qos != QoS::AtMostOnce;
        let number = self.plan.published.len();
        self.plan.published.push(None);
        let once = publishing.once.into_iter();
        let log = message.retain.then_some(Home::Global);
        let homes = BTreeSet::from_iter(log);
        self.plan.onces.extend(once.map(|once| (once, homes.clone())));
        let to = Published {
            number,
            message,
            publishing,
        };
        for recipient in recipients.iter() {
            self.put(&to, &recipient);
        }
        self.extras(&to, recipients, additions);
    }

    /// Gives a message to members of groups in place of those who could not take it, and to who has been added meanwhile.
    pub(super) fn go_on(
        &mut self,
        (number, message, publishing): (usize, Publication<'_>, &Publishing<'_>),
        recipients: &Recipients<'_>,
        additions: &Additions,
        follower: Option<&dyn Follower>,
    ) {
        let to = Published {
            number,
            message,
            publishing,
        };
        for (gift, share, without) in self.plan.gifts.open_of(number) {
            let member = follower.and_then(|follower| follower.choose(&share, &message, &without));
            match member {
                Some(member) => self.put(&to, &recipient(&member, &share)),
                None => self.plan.gifts.close(gift),
            }
        }
        self.extras(&to, recipients, additions);
    }

    /// Puts a message where it must go because of what has been added while it was under way.
    fn extras(&mut self, to: &Published<'_>, recipients: &Recipients<'_>, additions: &Additions) {
        if additions.is_empty() || to.message.qos == QoS::AtMostOnce {
            return;
        }
        let Plan { extras, gifts, .. } = &*self.plan;
        let has = |uid: Uid, share: Option<&str>| match share {
            Some(share) => gifts.excludes(to.number, share, uid),
            None => {
                let extras = extras.iter().filter(|(number, _)| *number == to.number);
                let is_it = |other: &Recipient<'_>| other.uid == uid && other.terms.share.is_none();
                recipients.iter().any(|other| is_it(&other))
                    || extras.map(|(_, extra)| extra).any(|extra| extra.is_of(uid))
            }
        };
        for extra in additions.recipients(&to.message, to.publishing, has) {
            self.put(to, &extra.recipient());
            self.plan.extras.push((to.number, extra));
        }
    }

    /// Puts a message into a queue or an inbox.
    fn put(&mut self, to: &Published<'_>, recipient: &Recipient<'_>) {
        let share = recipient.terms.share;
        let gift = share.map(|share| self.plan.gifts.give(to.number, share, recipient.uid));
        // Without a session it only says that the Shared Subscription has had the message.
        if recipient.uid == 0 {
            return;
        }
        let node = node_of_inbox(recipient.uid);
        if let (Some(node), None) = (node, to.publishing.once) {
            return self.post(&to.message, node, share);
        }
        if to.publishing.once.is_none() && share.is_none() && self.append_to_run(to, recipient) {
            return;
        }
        let message = match self.plan.published[to.number] {
            Some(message) => message,
            None => self.keep_message(&to.message),
        };
        self.plan.published[to.number] = Some(message);
        if let Some(once) = to.publishing.once {
            self.plan.note_once(once, recipient.uid);
            share
                .into_iter()
                .for_each(|share| self.choose(once, share, recipient.uid));
        }
        match node {
            Some(node) => self.send(to, message, node, share),
            None => self.append(to, message, (recipient.uid, gift), &recipient.terms),
        }
    }

    /// Whoever repeats a job gives it to the same member: that is noted before.
    fn choose(&mut self, once: Once, share: &str, uid: Uid) {
        let change = self.first(once.bucket).change(Touched::Home, TAKES, b"choose");
        change.text(once.mid.to_string()).text(share).number(uid);
    }

    /// Puts a message into a queue together with others, unless it is long.
    fn append_to_run(&mut self, to: &Published<'_>, recipient: &Recipient<'_>) -> bool {
        let context = self.plan.context;
        let longest = match context.longest_told {
            0 => runs::LONGEST,
            told => runs::LONGEST.min(told as usize),
        };
        let (terms, message) = self.encoded.of(to.number, &to.message, &recipient.terms);
        let is_short = terms.len() + message.len() <= longest;
        if is_short {
            let home = self
                .homes
                .entry(Home::Bucket(bucket_of_uid(recipient.uid)))
                .or_default();
            home.append(recipient.uid, to.number, &context, (terms, message));
        }
        is_short
    }

    fn append(
        &mut self,
        to: &Published<'_>,
        message: usize,
        (uid, gift): (Uid, Option<usize>),
        terms: &TermsRecord<'_>,
    ) {
        let context = self.plan.context;
        let terms = live_terms(&to.message, terms);
        let identity = match (to.publishing.once, gift) {
            (Some(once), _) => Some((once.mid, once.of)),
            (None, Some(_)) if to.message.qos == QoS::ExactlyOnce => Some((
                self.plan.note_identity(to.number, bucket_of_uid(uid)),
                context.incarnation,
            )),
            (None, _) => None,
        };
        let group = match identity.is_some() && to.publishing.once.is_none() {
            true => GroupOf::Gift(to.number),
            false => GroupOf::Message(to.number),
        };
        let (mid, of) = names(identity);
        let touched = (Touched::Session(uid), TAKES);
        let part = self.bucket(bucket_of_uid(uid)).part(touched, group, |change| {
            let change = change.limits(&context).text("a");
            change.message(message).text(mid).text(of)
        });
        let gift = gift.map(|gift| (gift, identity.map(|(mid, _)| mid)));
        part.number(uid).terms((uid, gift), message, &terms);
    }

    /// Puts a message into an inbox, behind those that the same call puts there.
    fn post(&mut self, message: &Publication<'_>, node: Incarnation, share: Option<&str>) {
        let touched = (Touched::Inbox(node), TAKES);
        let of = GroupOf::Inbox(node, message.qos == QoS::AtMostOnce);
        self.bucket(bucket_of_inbox(node)).more(
            touched,
            of,
            |change| change.text("post").number(node).text(inbox_of_qos(message.qos)),
            |text| {
                Head { share, origin: None }.put(text);
                put_publication(text, message);
            },
        );
    }

    /// Puts a message that must have effect once into an inbox. The session of its publisher may be on any node, also on this one.
    fn send(&mut self, to: &Published<'_>, message: usize, node: Incarnation, share: Option<&str>) {
        let mut head = Vec::new();
        let origin = Some(to.publishing.origin).filter(|origin| *origin != 0);
        Head { share, origin }.put(&mut head);
        let (mid, of) = names(to.publishing.once.map(|once| (once.mid, once.of)));
        let home = self.bucket(bucket_of_inbox(node));
        let change = home.change(Touched::Inbox(node), TAKES, b"n").message(message);
        let change = change
            .text(mid)
            .text(of)
            .number(node)
            .text(inbox_of_qos(to.message.qos))
            .text(head);
        change.expect(Expected::Sent(1));
    }
}

/// Of a message that must have effect once: its identity, and whose it is.
fn names(identity: Option<(Mid, Incarnation)>) -> (String, String) {
    identity.map_or_else(Default::default, |(mid, of)| (mid.to_string(), of.to_string()))
}

fn recipient<'a>(member: &'a Member, share: &'a str) -> Recipient<'a> {
    Recipient {
        uid: member.uid,
        index: 0,
        terms: TermsRecord {
            qos: member.qos,
            retain: member.retain,
            subscription_ids: &member.subscription_ids,
            share: Some(share),
        },
    }
}

fn inbox_of_qos(qos: QoS) -> &'static str {
    match qos {
        QoS::AtMostOnce => "in0",
        _ => "in",
    }
}
