//! Sessions, their records, subscriptions and identifiers.

use super::{Bench, State, Subject, changes, live, record, replayed};
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::store::suite::changes::subscription;
use crate::store::{Lane, SessionRecord, StoredSubscription, SubscriptionRecord};
use crate::time::Millis;

/// A record has all that was put there, at its limits, too.
pub(crate) fn a_session_has_its_record<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let long = "ü".repeat(32_767);
    let names = ["a", "", "with space and ' \" {} * \\ / \u{1}\n", "\u{10FFFF}", &long];
    let mut batch = changes();
    for (uid, client_id) in (1..).zip(names) {
        batch = batch.record(record(uid, client_id));
    }
    let largest = SessionRecord {
        uid: u64::MAX,
        client_id: "largest",
        expiry_interval: u32::MAX,
        window: u16::MAX,
        away_since: Some(Millis::from_unix(1 << 50)),
        unsent: 1 << 50,
    };
    bench.commit(&batch.record(largest));
    bench.always(|state| {
        assert_eq!(state.sessions.len(), names.len() + 1);
        for (uid, client_id) in (1..).zip(names) {
            assert_eq!(&*state.session(uid).client_id, client_id);
            assert_eq!(state.session(uid).away_since, None);
        }
        let session = state.session(u64::MAX);
        assert_eq!((session.expiry_interval, session.window), (u32::MAX, u16::MAX));
        assert_eq!((session.away_since, session.unsent), (largest.away_since, 1 << 50));
    });
}

/// "The session begins, or its record is replaced. Nothing else of it changes."
pub(crate) fn a_record_is_replaced_alone<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let parts = changes().session(1).subscribe(1, subscription("f")).replaying(1, "r/#");
    let parts = parts.message(1, 4, "m").replayed(1, 2, "r/#", "r/1");
    bench.commit(&parts.received(1, 3).floor(1, 2).will(1, "w"));
    let before = bench.state();
    let replaced = SessionRecord {
        expiry_interval: 7,
        window: 8,
        away_since: Some(Millis::from_unix(9)),
        unsent: 3,
        ..record(1, "client 1")
    };
    bench.commit(&changes().record(replaced));
    bench.always(|state| {
        let mut expected = before.clone();
        let session = expected.sessions.get_mut(&1).expect("there");
        (session.expiry_interval, session.window) = (7, 8);
        (session.away_since, session.unsent) = (replaced.away_since, 3);
        assert_eq!(*state, expected);
    });
    bench.commit(&changes().session(1));
    bench.always(|state| assert_eq!(*state, before));
}

/// "`SessionEnd` removes all that belongs to the session but its will", and nothing of another.
pub(crate) fn an_end_removes_all_but_the_will<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let of = |uid| {
        let parts = changes()
            .session(uid)
            .subscribe(uid, subscription("f"))
            .replaying(uid, "r/#");
        let parts = parts
            .message(uid, 0, "m")
            .message(uid, 1, "n")
            .released(uid, Lane::Live, 0);
        parts.replayed(uid, 0, "r/#", "r/1").received(uid, 3).will(uid, "w")
    };
    bench.commit(&of(2));
    let other = bench.state();
    // Numbers whose bytes or digits begin with those of the other.
    for uid in [1, 20, 0x0200, 3] {
        bench.commit(&of(uid));
        bench.commit(&changes().session_end(uid));
    }
    bench.always(|state| {
        let mut state = state.clone();
        for uid in [1, 20, 0x0200, 3] {
            assert_eq!(&*state.wills.remove(&uid).expect("is left").text.payload, b"w");
        }
        assert_eq!(state, other);
    });
    bench.commit(
        &changes()
            .session_end(2)
            .will_end(2)
            .will_end(1)
            .will_end(20)
            .will_end(0x0200)
            .will_end(3),
    );
    bench.always(|state| assert_eq!(*state, State::default()));
}

/// A session that follows another of the same client has nothing of it, also within a batch.
pub(crate) fn a_client_begins_anew_under_another_number<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let first = changes().record(record(1, "c")).subscribe(1, subscription("f"));
    bench.commit(&first.message(1, 0, "old").received(1, 1).will(1, "old"));
    let second = changes().session_end(1).record(record(2, "c"));
    bench.commit(&second.message(2, 0, "new").message(1, 1, "too late").will(2, "new"));
    bench.always(|state| {
        assert_eq!(state.sessions.len(), 1);
        let session = state.session(2);
        assert_eq!(&*session.client_id, "c");
        assert!(session.subscriptions.is_empty() && session.received.is_empty());
        assert_eq!(live(state, 2), [(0, Some("new".to_owned()))]);
        assert_eq!(state.wills.len(), 2);
    });
    // The other order: for a moment, the client has two.
    bench.commit(&changes().record(record(3, "c")).session_end(2));
    bench.always(|state| {
        assert_eq!(state.sessions.keys().collect::<Vec<_>>(), [&3]);
        assert_eq!(&*state.session(3).client_id, "c");
        assert!(live(state, 3).is_empty());
    });
}

/// All options that a subscription can have.
pub(crate) fn subscriptions_have_their_options<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let long = "/".repeat(65_535);
    let filters = ["a", "#", "+/b", "$share/g/a/#", "ü {x} * ? [a] \\ \n", "a ", &long];
    let handling = [
        RetainHandling::SendAlways,
        RetainHandling::SendIfNew,
        RetainHandling::SendNever,
    ];
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    let record = |number: usize| SubscriptionRecord {
        filter: filters[number],
        options: SubscriptionOptions {
            qos: qos[number % 3],
            no_local: number % 3 != 1,
            retain_as_published: number % 4 < 2,
            retain_handling: handling[number / 3 % 3],
        },
        identifier: [0, 1, 268_435_455][number % 3],
        replays: number % 2 == 1,
    };
    let all = 0..filters.len();
    let batch = all.clone().fold(changes().session(1).session(2), |batch, number| {
        batch.subscribe(1, record(number))
    });
    bench.commit(&batch.subscribe(2, subscription("a")));
    bench.always(|state| {
        let mut expected: Vec<_> = all.clone().map(|number| stored(&record(number))).collect();
        expected.sort_by(|a, b| a.filter.cmp(&b.filter));
        assert_eq!(state.session(1).subscriptions, expected);
        assert_eq!(state.session(2).subscriptions, [stored(&subscription("a"))]);
    });
}

fn stored(record: &SubscriptionRecord<'_>) -> StoredSubscription {
    StoredSubscription {
        filter: record.filter.into(),
        options: record.options,
        identifier: record.identifier,
        replay: record.replays.then(Box::default),
    }
}

/// "The subscription begins, or is replaced."
pub(crate) fn a_subscription_is_replaced<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(
        &changes()
            .session(1)
            .subscribe(1, subscription("f"))
            .subscribe(1, subscription("g")),
    );
    let record = SubscriptionRecord {
        options: SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            no_local: true,
            ..SubscriptionOptions::default()
        },
        identifier: 5,
        replays: true,
        filter: "f",
    };
    bench.commit(&changes().subscribe(1, record));
    bench.always(|state| {
        let expected = [stored(&record), stored(&subscription("g"))];
        assert_eq!(state.session(1).subscriptions, expected);
    });
    bench.commit(&changes().subscribe(1, subscription("f")));
    bench.always(|state| assert_eq!(state.session(1).subscriptions[0], stored(&subscription("f"))));
}

/// "The subscription ends", and no other does.
pub(crate) fn a_subscription_ends_alone<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let both = |uid| {
        changes()
            .session(uid)
            .subscribe(uid, subscription("a"))
            .subscribe(uid, subscription("a/b"))
    };
    bench.commit(&both(1));
    bench.commit(&both(2));
    bench.commit(
        &changes()
            .unsubscribe(1, "a")
            .unsubscribe(1, "a/")
            .unsubscribe(2, "never was"),
    );
    bench.always(|state| {
        assert_eq!(state.session(1).subscriptions, [stored(&subscription("a/b"))]);
        assert_eq!(state.session(2).subscriptions.len(), 2);
    });
    bench.commit(&changes().unsubscribe(1, "a/b"));
    bench.always(|state| assert!(state.session(1).subscriptions.is_empty()));
}

/// Packet Identifiers that have been received are there until they end, each once.
pub(crate) fn received_identifiers_are_a_set<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let batch = changes()
        .session(1)
        .session(2)
        .received(1, 65_535)
        .received(1, 1)
        .received(2, 256);
    bench.commit(&batch.received(1, 256).received(1, 1).received_end(1, 7));
    bench.always(|state| {
        assert_eq!(state.session(1).received, [1, 256, 65_535]);
        assert_eq!(state.session(2).received, [256]);
    });
    bench.commit(&changes().received_end(1, 256).received_end(1, 1));
    bench.always(|state| {
        assert_eq!(state.session(1).received, [65_535]);
        assert_eq!(state.session(2).received, [256]);
    });
}

/// Each of many sessions has what is its own.
pub(crate) fn there_may_be_many_sessions<S: Subject>() {
    const SESSIONS: u64 = 2000;
    let mut bench = Bench::<S>::new();
    let all = (1..=SESSIONS).fold(changes(), |batch, uid| {
        let batch = batch.session(uid).subscribe(uid, subscription(&format!("f/{uid}")));
        let batch = batch.message(uid, uid, &uid.to_string()).replayed(uid, 0, "", "r");
        batch.received(uid, uid as u16)
    });
    bench.commit(&all);
    bench.always(|state| {
        assert_eq!(state.sessions.len() as u64, SESSIONS);
        for uid in 1..=SESSIONS {
            let session = state.session(uid);
            assert_eq!(*session.subscriptions[0].filter, *format!("f/{uid}"));
            assert_eq!(session.received, [uid as u16]);
            assert_eq!(live(state, uid), [(uid, Some(uid.to_string()))]);
            assert_eq!(replayed(state, uid).len(), 1);
        }
    });
    let ends = (1..=SESSIONS).filter(|uid| uid % 100 != 0);
    bench.commit(&ends.fold(changes(), |batch, uid| batch.session_end(uid)));
    bench.always(|state| {
        let left: Vec<_> = state.sessions.keys().copied().collect();
        assert_eq!(
            left,
            (1..=SESSIONS / 100).map(|hundreds| hundreds * 100).collect::<Vec<_>>()
        );
    });
}
