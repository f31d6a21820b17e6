//! Retained messages that go to new subscriptions, and how far they have come.

use super::{Bench, State, Subject, changes, replayed};
use crate::store::Op;
use crate::store::suite::changes::{PLAIN, publication, subscription};

fn cursor<'a>(state: &'a State, filter: &str) -> Option<&'a str> {
    let subscriptions = &state.session(1).subscriptions;
    let found = subscriptions
        .iter()
        .find(|subscription| &*subscription.filter == filter);
    found.expect("subscribed").replay.as_deref()
}

/// "Putting a retained message into the lane moves the cursor of its subscription to its topic", and no other.
pub(crate) fn a_replay_moves_its_cursor<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(
        &changes()
            .session(1)
            .session(2)
            .replaying(1, "a/#")
            .replaying(1, "b/#")
            .replaying(2, "a/#"),
    );
    bench.always(|state| assert_eq!(cursor(state, "a/#"), Some("")));
    bench.commit(&changes().replayed(1, 0, "a/#", "a/2").replayed(1, 1, "a/#", "a/1 ü"));
    bench.always(|state| {
        assert_eq!(cursor(state, "a/#"), Some("a/1 ü"));
        assert_eq!(cursor(state, "b/#"), Some(""));
        assert_eq!(state.session(2).subscriptions[0].replay.as_deref(), Some(""));
        let payloads = [(0, Some("a/2".to_owned())), (1, Some("a/1 ü".to_owned()))];
        assert_eq!(replayed(state, 1), payloads);
    });
    // A place that is there already is not replaced, but the cursor moves.
    let topic = "a/".repeat(32_767);
    bench.commit(&changes().replayed(1, 1, "a/#", &topic));
    bench.always(|state| {
        assert!(cursor(state, "a/#") == Some(&*topic));
        assert_eq!(replayed(state, 1)[1], (1, Some("a/1 ü".to_owned())));
    });
}

/// "All retained messages of the subscription have been put into the lane, or sent": they stay there.
pub(crate) fn a_replay_ends<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(
        &changes()
            .session(1)
            .replaying(1, "a/#")
            .replaying(1, "b")
            .replayed(1, 0, "a/#", "a/1"),
    );
    bench.commit(&changes().replay_end(1, "a/#").replay_end(1, "never was"));
    bench.always(|state| {
        assert_eq!(cursor(state, "a/#"), None);
        assert_eq!(cursor(state, "b"), Some(""));
        assert_eq!(replayed(state, 1).len(), 1);
        assert_eq!(state.session(1).subscriptions.len(), 2);
    });
}

/// Where no replay goes on, none begins.
pub(crate) fn what_does_not_replay_has_no_cursor<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let batch = changes()
        .session(1)
        .subscribe(1, subscription("a"))
        .replaying(1, "b")
        .replay_end(1, "b");
    bench.commit(&batch.replayed(1, 0, "a", "a").replayed(1, 1, "b", "b"));
    bench.always(|state| {
        assert_eq!((cursor(state, "a"), cursor(state, "b")), (None, None));
        assert_eq!(replayed(state, 1).len(), 2);
    });
}

/// A subscription that is replaced replays from the start, or not at all.
pub(crate) fn a_subscription_made_anew_replays_anew<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let batch = ["a", "b", "c"].iter().fold(changes().session(1), |batch, filter| {
        batch.replaying(1, filter).replayed(1, 0, filter, "topic")
    });
    bench.commit(&batch);
    let batch = changes()
        .replaying(1, "a")
        .subscribe(1, subscription("b"))
        .unsubscribe(1, "c");
    bench.commit(&batch.replaying(1, "c"));
    bench.always(|state| {
        assert_eq!(cursor(state, "a"), Some(""));
        assert_eq!(cursor(state, "b"), None);
        assert_eq!(cursor(state, "c"), Some(""));
    });
}

/// A message that was put there is kept when its subscription is not there, and keeps where it belongs.
pub(crate) fn a_replayed_message_needs_no_subscription<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(
        &changes()
            .session(1)
            .replaying(1, "a")
            .replayed(1, 0, "a", "a")
            .unsubscribe(1, "a"),
    );
    bench.commit(&changes().op(&Op::Replayed {
        uid: 1,
        index: 1,
        before: 1 << 40,
        filter: "a",
        terms: PLAIN,
        message: publication("b", b"b"),
    }));
    bench.always(|state| {
        assert!(state.session(1).subscriptions.is_empty());
        let befores = state
            .queue(1, crate::store::Lane::Replayed)
            .iter()
            .map(|place| place.before);
        assert_eq!(befores.collect::<Vec<_>>(), [0, 1 << 40]);
    });
}
