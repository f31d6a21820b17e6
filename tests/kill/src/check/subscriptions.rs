//! Subscriptions, and whether what arrives was asked for.

use std::collections::HashMap;

use super::history::History;
use super::messages::{Delivery, Message};
use super::{Place, Rule, Violation, topic};
use crate::event::{Name, Subscribe};

pub struct Subscription {
    pub client: Name,
    /// The session of which it is part.
    pub session: Option<usize>,
    pub filter: Name,
    /// Where it was first asked for.
    pub asked: Place,
    /// Where it was first granted.
    pub granted: Option<Place>,
    /// Each SUBSCRIBE, the first included.
    pub grants: Vec<Grant>,
    /// Where UNSUBSCRIBE was sent.
    pub leaving: Option<Place>,
    /// Where UNSUBACK was received.
    pub gone: Option<Place>,
}

pub struct Grant {
    sent: Place,
    acked: Option<Place>,
    qos: u8,
    sid: u32,
}

/// What the client waits for, by Packet Identifiers.
#[derive(Default)]
pub(super) struct Asked(HashMap<u16, Pending>);

struct Pending {
    subscription: Option<usize>,
    /// Which of its grants, of a SUBSCRIBE.
    grant: usize,
    leaves: bool,
    /// It was asked to leave before.
    again: bool,
    filter: Name,
}

impl Asked {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = String> {
        self.0.values().map(|pending| {
            let verb = if pending.leaves { "UNSUBSCRIBE" } else { "SUBSCRIBE" };
            format!("{verb} {}", pending.filter)
        })
    }
}

impl Subscription {
    pub(super) fn share(&self) -> Option<&str> {
        topic::parts(&self.filter).0
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        topic::matches(topic::parts(&self.filter).1, name)
    }

    /// Where it was granted, the first time after this place.
    pub(super) fn granted_after(&self, place: Option<Place>) -> Option<Place> {
        let Some(place) = place else { return self.granted };
        let acked = self.grants.iter().filter_map(|grant| grant.acked);
        acked.filter(|acked| *acked > place).min()
    }

    /// Whether it was granted more than QoS 0 each time.
    pub(super) fn is_sure(&self) -> bool {
        self.grants.iter().all(|grant| grant.qos > 0)
    }

    /// Whether it was there when the message was first sent.
    pub(super) fn is_owed(&self, message: &Message) -> bool {
        self.granted.is_some_and(|granted| granted < message.first) && self.matches(&message.topic)
    }

    /// Whether it may have brought what arrived here and was first sent there.
    pub(super) fn may_bring(&self, delivery: &Delivery, first: Place) -> bool {
        self.asked < delivery.place
            && self.session == delivery.session
            && self.gone.is_none_or(|gone| gone > first)
            && self.matches(&delivery.publish.topic)
    }

    /// How often it was asked for before this place.
    pub(super) fn asked_before(&self, place: Place) -> usize {
        self.grants.iter().filter(|grant| grant.sent < place).count()
    }
}

impl History<'_> {
    /// Whether it was granted, and is there at the end of the log.
    pub(super) fn lasts(&self, subscription: &Subscription) -> bool {
        let goes_on = |session: usize| self.sessions[session].until.is_none();
        self.granted(subscription).is_some()
            && subscription.leaving.is_none()
            && subscription.session.is_some_and(goes_on)
    }

    pub(super) fn subscriptions_of(&self) -> HashMap<&Name, Vec<&Subscription>> {
        let mut all = HashMap::<_, Vec<_>>::new();
        for subscription in &self.subscriptions {
            all.entry(&subscription.client).or_default().push(subscription);
        }
        all
    }

    /// The newest subscription of the client with this filter that is not known to have ended.
    fn current(&mut self, client: &Name, filter: &Name) -> Option<usize> {
        let session = self.client(client).life.session;
        let found = self.subscriptions.iter().rposition(|subscription| {
            subscription.client == *client && subscription.filter == *filter && subscription.session == session
        });
        found.filter(|index| self.subscriptions[*index].gone.is_none())
    }

    pub(super) fn subscribe(&mut self, place: Place, client: &Name, subscribe: &Subscribe) {
        let known = self.current(client, &subscribe.filter);
        let index = known.filter(|index| self.subscriptions[*index].leaving.is_none());
        let index = index.unwrap_or(self.subscriptions.len());
        if index == self.subscriptions.len() {
            let session = self.client(client).life.session;
            self.subscriptions.push(Subscription {
                client: client.clone(),
                session,
                filter: subscribe.filter.clone(),
                asked: place,
                granted: None,
                grants: Vec::new(),
                leaving: None,
                gone: None,
            });
        }
        let grants = &mut self.subscriptions[index].grants;
        grants.push(Grant {
            sent: place,
            acked: None,
            qos: subscribe.qos,
            sid: subscribe.sid,
        });
        let pending = Pending {
            subscription: Some(index),
            grant: grants.len() - 1,
            leaves: false,
            again: false,
            filter: subscribe.filter.clone(),
        };
        self.client(client).asked.0.insert(subscribe.id, pending);
    }

    pub(super) fn unsubscribe(&mut self, place: Place, client: &Name, id: u16, filter: &Name) {
        let subscription = self.current(client, filter);
        let again = subscription.is_none_or(|index| self.subscriptions[index].leaving.is_some());
        if let Some(index) = subscription {
            self.subscriptions[index].leaving.get_or_insert(place);
        }
        let pending = Pending {
            subscription,
            grant: 0,
            leaves: true,
            again,
            filter: filter.clone(),
        };
        self.client(client).asked.0.insert(id, pending);
    }

    pub(super) fn suback(&mut self, place: Place, client: &Name, id: u16, code: u8) {
        let pending = self.client(client).asked.0.remove(&id);
        let pending = pending.filter(|pending| !pending.leaves);
        let Some((index, grant)) = pending.and_then(|pending| Some((pending.subscription?, pending.grant))) else {
            return self.fault(
                place,
                Rule::Answer,
                format!("{client}: SUBACK for {id}, which is not in use"),
            );
        };
        let subscription = &mut self.subscriptions[index];
        let grant = &mut subscription.grants[grant];
        if code > grant.qos {
            let text = format!(
                "{client}: SUBACK {code:#04x} for {} with QoS {}",
                subscription.filter, grant.qos
            );
            return self.fault(place, Rule::Answer, text);
        }
        (grant.acked, grant.qos) = (Some(place), code);
        subscription.granted.get_or_insert(place);
    }

    pub(super) fn unsuback(&mut self, place: Place, client: &Name, id: u16, code: u8) {
        let pending = self.client(client).asked.0.remove(&id);
        let Some(pending) = pending.filter(|pending| pending.leaves) else {
            return self.fault(
                place,
                Rule::Answer,
                format!("{client}: UNSUBACK for {id}, which is not in use"),
            );
        };
        let mut was_there = false;
        if let Some(index) = pending.subscription {
            self.subscriptions[index].gone = Some(place);
            was_there = self.granted(&self.subscriptions[index]).is_some() && !pending.again;
        }
        if code >= 0x80 || (code == 0x11 && was_there && !self.may_be_older(place)) {
            let text = format!("{client}: UNSUBACK {code:#04x} for {}", pending.filter);
            self.fault(place, Rule::Answer, text);
        }
    }
}

/// [`Rule::Stranger`].
pub(super) fn strangers(history: &History<'_>, found: &mut Vec<Violation>) {
    let subscriptions = history.subscriptions_of();
    let wills: HashMap<_, _> = history.wills.iter().map(|will| (&will.label, will)).collect();
    for delivery in history.deliveries.iter().filter(|delivery| !delivery.publish.empty) {
        let publish = &delivery.publish;
        let message = delivery.message.map(|index| &history.messages[index]);
        let sent = message.map(|message| (&message.topic, message.first));
        let sent = sent.or_else(|| wills.get(&publish.label).map(|will| (&will.topic, will.connected)));
        let wrong = match sent {
            None => "nobody has sent it",
            Some((topic, _)) if *topic != publish.topic => "it was sent to another topic",
            _ if publish.retain && message.is_some_and(|message| !message.retain) => "it was not retained",
            // A retained one may be from long before.
            Some((_, first)) => {
                let since = if publish.retain { delivery.place } else { first };
                let own = subscriptions.get(&delivery.client).into_iter().flatten();
                if own.into_iter().any(|one| one.may_bring(delivery, since)) || history.may_be_older(delivery.place) {
                    continue;
                }
                "there is no subscription for it"
            }
        };
        let (client, at) = (&delivery.client, history.at(delivery.place));
        let text = format!("{client}: {} on {}: {wrong} (at {at} us)", publish.label, publish.topic);
        found.push(Violation {
            rule: Rule::Stranger,
            text,
        });
    }
}

/// [`Rule::Options`].
pub(super) fn options(history: &History<'_>, found: &mut Vec<Violation>) {
    let subscriptions = history.subscriptions_of();
    for delivery in history.deliveries.iter().filter(|delivery| !delivery.publish.retain) {
        let message = delivery.message.map(|index| &history.messages[index]);
        let Some(message) = message.filter(|_| !history.may_be_older(delivery.place)) else {
            continue;
        };
        let own = subscriptions.get(&delivery.client).into_iter().flatten();
        let mut own = own.filter(|one| one.may_bring(delivery, message.first));
        let (Some(subscription), None) = (own.next(), own.next()) else {
            continue;
        };
        let last = subscription.grants.iter().rfind(|grant| grant.sent < delivery.place);
        let Some(grant) = last.filter(|grant| grant.acked.is_some_and(|at| at < message.first)) else {
            continue;
        };
        let publish = &delivery.publish;
        let sids: Vec<u32> = (grant.sid > 0).then_some(grant.sid).into_iter().collect();
        let qos = message.qos.min(grant.qos);
        if publish.qos != qos || publish.sids != sids {
            let text = format!(
                "{}: {} came with QoS {} and identifiers {:?} instead of {qos} and {sids:?} (at {} us)",
                delivery.client,
                message.label,
                publish.qos,
                publish.sids,
                history.at(delivery.place)
            );
            found.push(Violation {
                rule: Rule::Options,
                text,
            });
        }
    }
}
