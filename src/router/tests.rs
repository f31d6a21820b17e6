use super::*;
use crate::message::{Message, Publication};
use crate::packet::SubscriptionOptions;
use crate::session::{Delivery, OutboxLimits, QueueOverflow, Terms};

fn router() -> Router {
    Router::new(RetainedStore::new(usize::MAX, usize::MAX, None))
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).expect("a valid filter")
}

fn route(key: u64, identifier: Option<u32>) -> Route {
    let limits = OutboxLimits::new(Arc::default());
    limits.set(1, 1, QueueOverflow::DropNew);
    let subscription = Subscription {
        options: SubscriptionOptions::default(),
        identifier: identifier.and_then(std::num::NonZeroU32::new),
        replay: 0,
    };
    let outbox = Arc::new(Outbox::new(key, "client".into(), Arc::new(limits)));
    Route::new(outbox, &filter("any"), &subscription)
}

fn matching(router: &Router, topic: &str) -> Matches {
    let mut matches = Matches::default();
    router.matching(topic, &mut matches);
    matches
}

/// Entries of both indexes, and the nodes that they need.
fn size(router: &Router) -> (usize, usize) {
    let indexes = router.literals.iter().chain([&router.wildcards]);
    indexes.fold((0, 0), |(filters, nodes), index| {
        let index = index.read();
        (filters + index.len(), nodes + index.node_count())
    })
}

/// With a search through the groups of the filter, this would be thousands of millions of comparisons.
#[test]
fn one_filter_may_have_many_groups() {
    const GROUPS: u32 = 60_000;
    let router = router();
    let member = route(1, None);
    let group = |n: u32| filter(&format!("$share/{n}/+/y"));
    (0..GROUPS).for_each(|n| router.subscribe(&group(n), member.clone()));
    assert_eq!(router.shared_subscriptions(), GROUPS as usize);
    assert!((0..GROUPS).all(|n| router.group(&group(n)).is_some()));
    assert_eq!(matching(&router, "x/y").groups().len(), GROUPS as usize);
    assert!((1..GROUPS).all(|n| router.unsubscribe(&group(n), 1)));
    let matches = matching(&router, "x/y");
    let left = router.group(&group(0)).expect("nobody has left it");
    assert!(matches!(matches.groups(), [found] if Arc::ptr_eq(found, &left)));
    assert!(router.group(&group(1)).is_none());
}

#[test]
fn a_filter_without_subscribers_leaves_nothing_behind() {
    let router = router();
    let texts = [
        "a/b",
        "a/+",
        "a/#",
        "$share/g/a/b",
        "$share/h/a/b",
        "$share/g/a/+",
        "$share/h/a/#",
    ];
    for text in texts {
        (1..=2).for_each(|key| router.subscribe(&filter(text), route(key, None)));
    }
    assert_eq!(size(&router).0, 3);
    assert_eq!(router.subscriptions(), 14);
    for key in 1..=2 {
        for text in texts {
            assert!(!router.unsubscribe(&filter(text), 3), "{text}: no such subscriber");
            assert!(router.unsubscribe(&filter(text), key), "{text}");
            assert!(!router.unsubscribe(&filter(text), key), "{text}: again");
        }
    }
    assert_eq!(size(&router), (0, 0));
    assert_eq!((router.subscriptions(), router.shared_subscriptions()), (0, 0));
    assert!(matching(&router, "a/b").is_empty());
}

#[test]
fn routes_and_groups_of_a_filter_are_apart() {
    let router = router();
    router.subscribe(&filter("a/+"), route(1, None));
    router.subscribe(&filter("$share/g/a/+"), route(1, None));
    assert!(!router.unsubscribe(&filter("$share/h/a/+"), 1));
    assert!(router.unsubscribe(&filter("$share/g/a/+"), 1));
    let matches = matching(&router, "a/b");
    assert_eq!((matches.outboxes().count(), matches.groups().len()), (1, 0));
    router.subscribe(&filter("$share/g/a/+"), route(1, None));
    assert!(router.unsubscribe(&filter("a/+"), 1));
    let matches = matching(&router, "a/b");
    assert_eq!((matches.outboxes().count(), matches.groups().len()), (0, 1));
}

const PUBLICATION: Publication<'_> = Publication {
    topic: "a/b",
    payload: b"x",
    properties: &[],
    expires_at: None,
    qos: QoS::AtLeastOnce,
    retain: false,
};

/// What each client gets, in the order of their keys.
fn deliveries(matches: &mut Matches, origin: Option<u64>) -> Vec<(u64, Terms)> {
    let mut found = Vec::new();
    matches.for_each_client(&PUBLICATION, origin, |route, terms| {
        found.push((route.outbox.key, terms))
    });
    found
}

/// [MQTT-3.3.4-4]; an identifier that several subscriptions have is there for each of them.
#[test]
fn overlapping_subscriptions_give_all_their_identifiers_to_their_own_client() {
    let router = router();
    let texts = ["a/b", "a/+", "a/#", "+/b", "#"];
    for (text, identifier) in texts.iter().zip([Some(3), None, Some(1), Some(3), Some(2)]) {
        router.subscribe(&filter(text), route(1, identifier));
    }
    router.subscribe(&filter("a/b"), route(2, None));
    router.subscribe(&filter("a/+"), route(2, None));
    router.subscribe(&filter("a/+"), route(3, Some(9)));
    router.subscribe(&filter("#"), route(3, None));
    let found = deliveries(&mut matching(&router, "a/b"), None);
    let identifiers: Vec<_> = found
        .iter()
        .map(|(key, terms)| {
            let mut identifiers = terms
                .extras
                .as_ref()
                .map_or(&[][..], |extras| &extras.subscription_ids)
                .to_vec();
            identifiers.sort_unstable();
            (*key, identifiers)
        })
        .collect();
    assert_eq!(identifiers, [(1, vec![1, 2, 3, 3]), (2, vec![]), (3, vec![9])]);
}

/// With a copy of all for each, this would copy 2 GB.
#[test]
fn a_client_may_have_many_overlapping_subscriptions() {
    const COUNT: u32 = 1 << 15;
    let routes: Vec<_> = (1..=COUNT).map(|identifier| route(1, Some(identifier))).collect();
    let mut matches = Matches::default();
    routes
        .iter()
        .for_each(|route| matches.add(std::slice::from_ref(route), std::iter::empty()));
    let found = deliveries(&mut matches, None);
    let [(1, terms)] = &found[..] else {
        panic!("one client: {found:?}")
    };
    assert!(
        terms
            .extras
            .as_ref()
            .map_or(&[][..], |extras| &extras.subscription_ids)
            .iter()
            .copied()
            .eq(1..=COUNT)
    );
}

#[test]
fn identifiers_in_memory_of_their_own_are_charged() {
    let message = Arc::new(Message::new(&PUBLICATION));
    let charge = |identifiers: &[u32]| {
        let mut matches = Matches::default();
        let routes: Vec<_> = identifiers.iter().map(|id| route(1, Some(*id))).collect();
        routes
            .iter()
            .for_each(|route| matches.add(std::slice::from_ref(route), std::iter::empty()));
        let (_, terms) = deliveries(&mut matches, None).remove(0);
        Delivery::new(Arc::clone(&message), terms).charge
    };
    let plain = charge(&[7]);
    assert_eq!(charge(&[7, 8]), plain + 4);
    assert_eq!(charge(&[7; 1000]), plain + 4 * 999);
}
