//! Whether what was acknowledged has arrived, how often, and in which order.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::history::History;
use super::messages::{Delivery, Message};
use super::subscriptions::Subscription;
use super::{Rule, Violation};
use crate::event::Name;

/// How many of a kind are named.
const NAMED: usize = 5;

/// Indexes of messages, by topic.
type Topics<'h> = HashMap<&'h Name, Vec<usize>>;

/// [`Rule::Lost`].
pub(super) fn lost(history: &History<'_>, found: &mut Vec<Violation>) {
    let arrived: HashSet<_> = history
        .deliveries
        .iter()
        .map(|one| (one.session, one.message))
        .collect();
    let topics = acknowledged(history);
    let lasting = |one: &&Subscription| one.share().is_none() && history.lasts(one);
    for subscription in history.subscriptions.iter().filter(lasting) {
        let owed = owed(history, &topics, &[subscription]);
        let missing = owed.filter(|index| !arrived.contains(&(subscription.session, Some(*index))));
        let whom = format!("{}: {}", subscription.client, subscription.filter);
        report(history, &whom, missing.collect(), found);
    }
    let anywhere: HashSet<_> = shared_deliveries(history)
        .map(|(filter, one)| (filter, one.message))
        .collect();
    for (filter, members) in groups(history) {
        let (lasting, mut gone): (Vec<_>, Vec<_>) = members.into_iter().partition(|one| history.lasts(one));
        gone.extend(lasting.iter().filter(|one| history.granted(one) != one.granted));
        // What was on its way to a member that is no more goes to another one in a cluster, if it is QoS 1.
        let moves = |one: &Message| history.is_cluster && one.qos == 1 && !history.is_before_order(one.first);
        let is_due = |index: &usize| {
            let message = &history.messages[*index];
            moves(message) || gone.iter().all(|one| history.is_known_to_be_over(one, message))
        };
        let missing = owed(history, &topics, &lasting).filter(is_due);
        let missing = missing.filter(|index| !anywhere.contains(&(filter, Some(*index))));
        report(history, filter, missing.collect(), found);
    }
}

/// [`Rule::Twice`].
pub(super) fn twice(history: &History<'_>, found: &mut Vec<Violation>) {
    let subscriptions = history.subscriptions_of();
    let is_due = |index: usize| !history.is_before_order(history.messages[index].first);
    let once = |one: &&Delivery| one.fresh && one.publish.qos == 2 && one.message.is_some_and(is_due);
    let mut copies = HashMap::<_, usize>::new();
    for delivery in history.deliveries.iter().filter(once) {
        let own = subscriptions.get(&delivery.client).into_iter().flatten();
        let may = copies_of(history, delivery, own.copied());
        let publish = &delivery.publish;
        let key = (&delivery.client, delivery.receipt, publish.retain, &publish.label);
        let copies = copies.entry(key).or_default();
        *copies += 1;
        if *copies > may.max(1) {
            let text = format!(
                "{}: {}, copy {copies} (at {} us)",
                delivery.client,
                publish.label,
                history.at(delivery.place)
            );
            found.push(Violation {
                rule: Rule::Twice,
                text,
            });
        }
    }
    let mut takers = HashMap::<_, &Name>::new();
    for (filter, delivery) in shared_deliveries(history).filter(|(_, one)| once(one)) {
        let label = &delivery.publish.label;
        if let Some(first) = takers.insert((filter, label), &delivery.client) {
            let text = format!("{filter}: {label} came to {first} and to {}", delivery.client);
            found.push(Violation {
                rule: Rule::Twice,
                text,
            });
        }
    }
}

/// How many copies of this may have come: each subscription that may bring it brings one, and each SUBSCRIBE a retained message.
fn copies_of<'h>(history: &History<'_>, delivery: &Delivery, own: impl Iterator<Item = &'h Subscription>) -> usize {
    let message = delivery.message.map(|index| &history.messages[index]);
    match message.filter(|_| !delivery.publish.retain) {
        Some(message) => own.filter(|one| one.may_bring(delivery, message.first)).count(),
        None => {
            let bringing = own.filter(|one| one.may_bring(delivery, delivery.place));
            bringing.map(|one| one.asked_before(delivery.place)).sum()
        }
    }
}

/// [`Rule::Order`].
pub(super) fn order(history: &History<'_>, found: &mut Vec<Violation>) {
    let mut seen = HashSet::new();
    let mut newest = HashMap::<_, &Message>::new();
    let shared: HashSet<_> = shared_deliveries(history).map(|(_, one)| one.place).collect();
    let moved = moved(history);
    let subscriptions = history.subscriptions_of();
    for delivery in history.deliveries.iter().filter(|one| !one.publish.retain) {
        let session = (&delivery.client, delivery.receipt);
        let message = delivery.message.map(|index| &history.messages[index]);
        let Some(message) = message.filter(|message| !history.is_before_order(message.first)) else {
            continue;
        };
        // The first copy of a message that was sent again may have gone to another member of the group, or to nobody, as
        // nobody had subscribed.
        let mut own = subscriptions.get(&delivery.client).into_iter().flatten();
        let was_due = own.any(|one| one.session == delivery.session && one.is_owed(message));
        let is_second = message.sent.len() > 1 && (shared.contains(&delivery.place) || !was_due);
        if is_second || moved.contains(&delivery.place) || !seen.insert((session, &message.label)) {
            continue;
        }
        let stream = (session, &message.publisher, &message.topic, message.qos);
        let before = newest.get(&stream).copied();
        if let Some(before) = before.filter(|before| before.order > message.order) {
            let text = format!(
                "{}: {} came behind {} (at {} us)",
                delivery.client,
                message.label,
                before.label,
                history.at(delivery.place)
            );
            found.push(Violation {
                rule: Rule::Order,
                text,
            });
        } else {
            newest.insert(stream, message);
        }
    }
}

/// What may have been for a member before that is no more: it comes behind later messages.
fn moved(history: &History<'_>) -> HashSet<super::Place> {
    let ends = |members: &[&Subscription]| members.iter().any(|one| !history.lasts(one));
    let groups: HashSet<_> = groups(history)
        .into_iter()
        .filter(|(_, members)| history.is_cluster && ends(members))
        .map(|(filter, _)| filter)
        .collect();
    let deliveries = shared_deliveries(history).filter(|(filter, _)| groups.contains(filter));
    deliveries.map(|(_, one)| one.place).collect()
}

fn acknowledged<'h>(history: &'h History<'_>) -> Topics<'h> {
    let mut topics = Topics::new();
    for (index, message) in history.messages.iter().enumerate() {
        if message.acked.is_some() && !message.is_doubtful && message.qos > 0 && !message.empty {
            topics.entry(&message.topic).or_default().push(index);
        }
    }
    topics
}

/// Acknowledged messages that were first sent when one of these subscriptions was there.
fn owed<'h>(
    history: &'h History<'_>,
    topics: &'h Topics<'h>,
    subscriptions: &[&'h Subscription],
) -> impl Iterator<Item = usize> + use<'h> {
    let granted: Vec<_> = subscriptions.iter().filter_map(|one| history.granted(one)).collect();
    // With QoS 0 nothing is owed.
    let sure = subscriptions.iter().all(|one| one.is_sure());
    let one = subscriptions.first().copied();
    let matching = topics
        .iter()
        .filter(move |(topic, _)| sure && one.is_some_and(|one| one.matches(topic)));
    let indexes = matching.flat_map(|(_, indexes)| indexes.iter().copied());
    indexes.filter(move |index| {
        let message = &history.messages[*index];
        let mut before = granted.iter().filter(|since| message.first > **since);
        before.any(|since| history.is_promised(message, *since))
    })
}

fn report(history: &History<'_>, whom: &str, mut missing: Vec<usize>, found: &mut Vec<Violation>) {
    missing.sort_unstable();
    for index in missing.iter().take(NAMED) {
        let Message {
            label,
            topic,
            qos,
            acked,
            ..
        } = &history.messages[*index];
        let acked = acked.map_or(0, |place| history.at(place));
        let text = format!("{whom}: {label}, QoS {qos} on {topic}, acknowledged at {acked} us");
        found.push(Violation { rule: Rule::Lost, text });
    }
    if let Some(more) = missing.len().checked_sub(NAMED).filter(|more| *more > 0) {
        found.push(Violation {
            rule: Rule::Lost,
            text: format!("{whom}: {more} more"),
        });
    }
}

fn groups<'h>(history: &'h History<'_>) -> BTreeMap<&'h str, Vec<&'h Subscription>> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for subscription in &history.subscriptions {
        if let Some(share) = subscription.share() {
            groups.entry(share).or_default().push(subscription);
        }
    }
    groups
}

/// What came to members of groups, with the shared filter: where no subscription of the client's own matches.
fn shared_deliveries<'h>(history: &'h History<'_>) -> impl Iterator<Item = (&'h str, &'h Delivery)> {
    let subscriptions = history.subscriptions_of();
    history.deliveries.iter().filter_map(move |delivery| {
        let own = subscriptions.get(&delivery.client)?;
        let is_own = |one: &&&Subscription| one.session == delivery.session && one.matches(&delivery.publish.topic);
        let mut own = own.iter().filter(is_own);
        let (first, more) = (own.next()?, own.next());
        let share = first.share().filter(|_| more.is_none())?;
        Some((share, delivery))
    })
}
