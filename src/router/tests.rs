use super::*;
use crate::packet::SubscriptionOptions;
use crate::session::{OutboxLimits, QueueOverflow};

fn router() -> Router {
    Router::new(RetainedStore::new(usize::MAX, usize::MAX))
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).expect("a valid filter")
}

fn route(key: u64, identifier: Option<u32>) -> Route {
    let limits = OutboxLimits {
        messages: 1,
        bytes: 1,
        overflow: QueueOverflow::DropNew,
        stats: Arc::default(),
    };
    let subscription = Subscription {
        options: SubscriptionOptions::default(),
        identifier,
    };
    let outbox = Arc::new(Outbox::new(key, "client".into(), Arc::new(limits)));
    Route::new(outbox, &subscription)
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

/// With a search through the groups of the filter, this would be 5 thousand million comparisons.
#[test]
fn one_filter_may_have_many_groups() {
    const GROUPS: u32 = 60_000;
    let router = router();
    let member = route(1, None);
    let group = |n: u32| filter(&format!("$share/{n}/+/y"));
    (0..GROUPS).for_each(|n| router.subscribe(&group(n), member.clone()));
    assert_eq!(router.shared_subscriptions(), GROUPS as usize);
    assert!((0..GROUPS).all(|n| router.group(&group(n)).is_some_and(|found| *found.filter() == group(n))));
    assert_eq!(matching(&router, "x/y").groups().len(), GROUPS as usize);
    assert!((1..GROUPS).all(|n| router.unsubscribe(&group(n), 1)));
    let left: Vec<_> = matching(&router, "x/y")
        .groups()
        .iter()
        .map(|group| group.filter().clone())
        .collect();
    assert_eq!(left, [group(0)]);
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
