//! Retained messages: what a look at them shows, and that they reach new subscriptions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::history::History;
use super::messages::Message;
use super::subscriptions::Subscription;
use super::{Place, Rule, Violation};
use crate::event::Name;

/// Clients whose names begin so look at the retained messages: they subscribe, and unsubscribe when all have come.
const PROBE: &str = "probe";

/// What was retained on a topic, in the order of sending. Each topic has one publisher.
type Topics<'h> = BTreeMap<&'h Name, Vec<&'h Message>>;

/// [`Rule::Retained`].
pub(super) fn retained(history: &History<'_>, found: &mut Vec<Violation>) {
    let topics = topics(history);
    let probes = history.subscriptions.iter().filter(|one| one.client.starts_with(PROBE));
    for (look, end) in probes.filter_map(|one| Some((one, one.leaving?))) {
        let seen = seen(history, look, end);
        for (topic, changes) in topics.iter().filter(|(topic, _)| look.matches(topic)) {
            let (may, may_be_none) = possible(history, changes, look.asked, end);
            let right = match seen.get(topic) {
                Some(label) => may.contains(label),
                None => may_be_none,
            };
            if !right {
                let is = seen.get(topic).map_or("nothing", |label| label);
                let may: Vec<&str> = may.iter().map(|label| &***label).collect();
                let client = &look.client;
                let text = format!("{client}: {topic} has {is}, and not {}", one_of(&may, may_be_none));
                found.push(Violation {
                    rule: Rule::Retained,
                    text,
                });
            }
        }
    }
}

/// [`Rule::Replay`].
pub(super) fn replays(history: &History<'_>, found: &mut Vec<Violation>) {
    let topics = topics(history);
    let deliveries = history.deliveries.iter().filter(|one| one.publish.retain);
    let arrived: HashSet<_> = deliveries.map(|one| (one.session, &one.publish.label)).collect();
    let lasting = |one: &&Subscription| one.share().is_none() && one.grants.len() == 1 && history.lasts(one);
    for subscription in history.subscriptions.iter().filter(lasting) {
        for (topic, changes) in topics.iter().filter(|(topic, _)| subscription.matches(topic)) {
            let last = changes.last().expect("each topic has a change");
            let may_be_undone = history.may_be_undone(last.first, last.acked)
                || history.may_be_undone(subscription.asked, subscription.granted);
            let is_old = last.acked.is_some_and(|acked| acked < subscription.asked) && !may_be_undone;
            if is_old && !last.empty && !arrived.contains(&(subscription.session, &last.label)) {
                let (client, filter) = (&subscription.client, &subscription.filter);
                let text = format!("{client}: {filter}: {} of {topic} has not come", last.label);
                found.push(Violation {
                    rule: Rule::Replay,
                    text,
                });
            }
        }
    }
}

/// [`Rule::Unequal`]. Between two looks in a row at different nodes nobody publishes.
pub(super) fn unequal(history: &History<'_>, found: &mut Vec<Violation>) {
    let probes = history.subscriptions.iter().filter(|one| one.client.starts_with(PROBE));
    let looks: Vec<_> = probes.filter_map(|one| Some((one, one.leaving?))).collect();
    for (first, first_end) in &looks {
        let seconds = looks
            .iter()
            .filter(|(second, _)| second.filter == first.filter && second.asked > *first_end);
        let Some((second, end)) = seconds
            .min_by_key(|(second, _)| second.asked)
            .filter(|_| history.is_cluster)
        else {
            continue;
        };
        let is_quiet = !history
            .messages
            .iter()
            .any(|one| one.retain && one.is_moving(first.asked, *end));
        let (one, two) = (seen(history, first, *first_end), seen(history, second, *end));
        let topics: BTreeSet<_> = one.keys().chain(two.keys()).filter(|_| is_quiet).collect();
        for topic in topics.into_iter().filter(|topic| one.get(*topic) != two.get(*topic)) {
            let label =
                |looked: &HashMap<&Name, &Name>| looked.get(*topic).map_or("nothing".to_owned(), |it| it.to_string());
            let (client, other) = (&first.client, &second.client);
            let text = format!(
                "{topic} has {} for {client}, and {} for {other}",
                label(&one),
                label(&two)
            );
            found.push(Violation {
                rule: Rule::Unequal,
                text,
            });
        }
    }
}

fn topics<'h>(history: &'h History<'_>) -> Topics<'h> {
    let mut topics = Topics::new();
    for message in history.messages.iter().filter(|message| message.retain) {
        topics.entry(&message.topic).or_default().push(message);
    }
    topics
}

/// The label of the last retained message of each topic that came in a look.
fn seen<'h>(history: &'h History<'_>, look: &Subscription, end: Place) -> HashMap<&'h Name, &'h Name> {
    let deliveries = history
        .deliveries
        .iter()
        .filter(|one| one.client == look.client && one.publish.retain);
    let within = deliveries.filter(|one| (look.asked..end).contains(&one.place));
    within.map(|one| (&one.publish.topic, &one.publish.label)).collect()
}

/// Which messages a topic may have between two places, and whether it may have none. What was acknowledged while Redis lost
/// writes may be gone again.
fn possible<'h>(history: &History<'_>, changes: &[&'h Message], from: Place, to: Place) -> (Vec<&'h Name>, bool) {
    let last = changes.iter().rposition(|change| {
        let is_kept = !history.may_be_undone(change.first, change.acked);
        is_kept && !change.is_doubtful && change.acked.is_some_and(|acked| acked < from)
    });
    let may = changes[last.unwrap_or(0)..].iter().filter(|change| change.first < to);
    let none = last.is_none() || may.clone().any(|change| change.empty);
    (
        may.filter(|change| !change.empty).map(|change| &change.label).collect(),
        none,
    )
}

fn one_of(may: &[&str], may_be_none: bool) -> String {
    match (may, may_be_none) {
        ([], _) => "nothing".to_owned(),
        ([first], false) => (*first).to_owned(),
        ([first, .., last], false) => format!("one of {first} to {last}"),
        ([first, ..], true) => format!("nothing or one from {first} on"),
    }
}
