//! Queues: their order, their pages and their extents.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::state::{Place, Sent, read_queue};
use super::{Bench, Subject, Text, changes, live, publication, record, replayed};
use crate::message::Publication;
use crate::packet::QoS;
use crate::store::suite::changes::{Changes, PLAIN};
use crate::store::{Batch, Extent, Lane, Op, Page, SessionRecord, TermsRecord, Uid};
use crate::time::Millis;

const ALL: Page = Page {
    messages: usize::MAX,
    bytes: usize::MAX,
};

/// The places of a page.
fn page<S: Subject>(bench: &Bench<S>, from: u64, messages: usize, bytes: usize) -> Vec<u64> {
    let page = bench.store().queue(1, Lane::Live, from, Page { messages, bytes });
    page.expect("readable").iter().map(|delivery| delivery.index).collect()
}

fn indexes(queue: &[Place]) -> Vec<u64> {
    queue.iter().map(|place| place.index).collect()
}

/// "A queue is read in the order of its places", in whichever order they were put there.
pub(crate) fn a_queue_is_in_the_order_of_its_places<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let places = [9, 2, 1 << 40, 0, 255, 256, 10, 65_536, 100, u64::from(u32::MAX) + 1];
    let mut sorted = places;
    sorted.sort_unstable();
    bench.commit(&changes().session(1).session(2));
    for halves in places.chunks(5) {
        let put = |batch: Changes, index: &u64| batch.message(1, *index, "m").replayed(1, *index, "", "r");
        bench.commit(&halves.iter().fold(changes(), put));
    }
    bench.always(|state| {
        assert_eq!(indexes(state.queue(1, Lane::Live)), sorted);
        assert_eq!(indexes(state.queue(1, Lane::Replayed)), sorted);
        assert!(live(state, 2).is_empty());
    });
}

/// "Who reads waits for it, and so misses nothing that is durable."
pub(crate) fn what_is_durable_is_read_at_once<S: Subject>() {
    const MESSAGES: u64 = 20;
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().session(1));
    let (store, first) = (bench.store(), bench.number());
    let [durable, asked, answered] = [const { AtomicU64::new(0) }; 3];
    thread::scope(|scope| {
        scope.spawn(|| {
            for index in 0..MESSAGES {
                let message = changes().message(1, index, "m");
                let (number, bytes) = (first + 1 + index, message.bytes());
                let batch = Batch { number, bytes };
                while store.keep(&batch).is_err() {}
                durable.store(index + 1, Ordering::Release);
                // The reader asks for it, and has some time to be answered too early.
                while asked.load(Ordering::Acquire) <= index {
                    thread::yield_now();
                }
                (0..10).for_each(|_| thread::yield_now());
                store.follow(&batch);
                // Who reads waits for all that is durable, and so for the next one, too.
                while answered.load(Ordering::Acquire) <= index {
                    thread::yield_now();
                }
            }
        });
        for index in 0..MESSAGES {
            while durable.load(Ordering::Acquire) <= index {
                thread::yield_now();
            }
            asked.store(index + 1, Ordering::Release);
            let page = std::iter::repeat_with(|| store.queue(1, Lane::Live, index, ALL));
            let page = page.flatten().next().unwrap_or_default();
            let found = page.first().map(|delivery| delivery.index);
            if found != Some(index) {
                // Who writes must not wait for ever.
                asked.store(u64::MAX, Ordering::Release);
                answered.store(u64::MAX, Ordering::Release);
            }
            assert_eq!(found, Some(index));
            answered.store(index + 1, Ordering::Release);
        }
    });
}

/// A place has all that was put there.
pub(crate) fn places_are_read_as_they_were_put<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let full = Publication {
        properties: &[1, 1, 38, 0, 1, 0, 0, 1, 255],
        expires_at: Some(Millis::from_unix(1 << 45)),
        qos: QoS::ExactlyOnce,
        retain: true,
        ..publication("t/ü", b"\0\xff\r\n")
    };
    let with_all = TermsRecord {
        qos: QoS::ExactlyOnce,
        retain: true,
        subscription_ids: &[0, 0, 0, 1, 15, 255, 255, 255],
        share: Some("$share/g/t/+"),
    };
    let empty = publication("", b"");
    let cases = [(full, with_all), (empty, PLAIN), (full, PLAIN), (empty, with_all)];
    let mut batch = changes().session(1);
    for (index, (message, terms)) in (0..).zip(cases) {
        batch = batch.send(&[(1, index)], &terms, &message).op(&Op::Replayed {
            uid: 1,
            index,
            before: index << 30,
            filter: "t/+",
            terms,
            message,
        });
    }
    bench.commit(&batch);
    let place = |index, before, (message, terms): &(Publication<'_>, TermsRecord<'_>)| Place {
        index,
        before,
        message: Some(Sent {
            text: Text::from(message),
            qos: terms.qos,
            retain: terms.retain,
            subscription_ids: terms.subscription_ids().collect(),
            share: terms.share.map(Box::from),
        }),
    };
    bench.always(|state| {
        for (index, case) in (0..).zip(&cases) {
            let at = index as usize;
            assert_eq!(state.queue(1, Lane::Live)[at], place(index, 0, case));
            assert_eq!(state.queue(1, Lane::Replayed)[at], place(index, index << 30, case));
        }
    });
}

/// "Each with the state that it has": waiting, released or finished.
pub(crate) fn each_place_has_its_state<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let batch = (0..6).fold(changes().session(1), |batch, index| {
        batch.message(1, index, "m").replayed(1, index, "", "r")
    });
    bench.commit(&batch);
    let batch = changes()
        .released(1, Lane::Live, 1)
        .done(1, Lane::Live, 2)
        .released(1, Lane::Live, 4);
    let batch = batch.released(1, Lane::Replayed, 0).done(1, Lane::Replayed, 5);
    bench.commit(&batch);
    bench.commit(&changes().done(1, Lane::Live, 4).released(1, Lane::Live, 1));
    bench.always(|state| {
        let (m, r) = (|| Some("m".to_owned()), || Some("r".to_owned()));
        assert_eq!(live(state, 1), [(0, m()), (1, None), (3, m()), (5, m())]);
        assert_eq!(replayed(state, 1), [(0, None), (1, r()), (2, r()), (3, r()), (4, r())]);
    });
}

/// The lanes of a session, and the queues of others, have nothing to do with each other.
pub(crate) fn lanes_are_apart<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let sessions = changes().session(1).session(2).session(0x0100);
    bench.commit(&sessions.message(1, 0, "a").message(1, 1, "a").replayed(1, 1, "", "r"));
    bench.commit(
        &changes()
            .replayed(1, 0, "", "r")
            .message(2, 1, "b")
            .done(2, Lane::Live, 0),
    );
    bench.commit(
        &changes()
            .message(0x0100, 0, "c")
            .done(1, Lane::Live, 1)
            .done(1, Lane::Replayed, 0),
    );
    bench.always(|state| {
        assert_eq!(live(state, 1), [(0, Some("a".to_owned()))]);
        assert_eq!(replayed(state, 1), [(1, Some("r".to_owned()))]);
        assert_eq!(live(state, 2), [(1, Some("b".to_owned()))]);
        assert_eq!(live(state, 0x0100), [(0, Some("c".to_owned()))]);
        assert!(replayed(state, 2).is_empty());
    });
}

/// Commits places, with gaps between some of them, and the same for another session.
fn with_places<S: Subject>(places: &[u64], payload: &str) -> Bench<S> {
    let mut bench = Bench::<S>::new();
    let put = |batch: Changes, index: &u64| batch.message(1, *index, payload).message(2, *index, payload);
    bench.commit(&places.iter().fold(changes().session(1).session(2), put));
    bench
}

/// "At most `most.messages` of them."
pub(crate) fn pages_end_after_so_many_messages<S: Subject>() {
    let bench = with_places::<S>(&[0, 1, 2, 5, 6, 300], "m");
    assert_eq!(page(&bench, 0, 4, usize::MAX), [0, 1, 2, 5]);
    assert_eq!(page(&bench, 0, 6, usize::MAX), [0, 1, 2, 5, 6, 300]);
    assert_eq!(page(&bench, 0, 1, usize::MAX), [0]);
    assert!(page(&bench, 0, 0, usize::MAX).is_empty());
}

/// "No more after `most.bytes`": topic, properties and payload are counted, and what exceeds it is the last one.
pub(crate) fn pages_end_after_so_many_bytes<S: Subject>() {
    // 10 bytes each, with the topic.
    let bench = with_places::<S>(&[0, 1, 2, 3, 4], "payload 9");
    assert_eq!(page(&bench, 0, 9, 1), [0]);
    assert_eq!(page(&bench, 0, 9, 10), [0]);
    assert_eq!(page(&bench, 0, 9, 11), [0, 1]);
    assert_eq!(page(&bench, 2, 9, 20), [2, 3]);
    assert_eq!(page(&bench, 0, 9, 41), [0, 1, 2, 3, 4]);
    assert_eq!(page(&bench, 0, 3, 41), [0, 1, 2]);
    assert!(page(&bench, 0, 9, 0).is_empty());
}

/// "From this place on", whether it is there or not; nothing behind the last one, and none of another session.
pub(crate) fn a_page_begins_where_it_is_told<S: Subject>() {
    let mut bench = with_places::<S>(&[2, 5, 6, 300], "m");
    for (from, expected) in [
        (0, &[2, 5, 6, 300][..]),
        (2, &[2, 5, 6, 300]),
        (3, &[5, 6, 300]),
        (6, &[6, 300]),
        (7, &[300]),
    ] {
        assert_eq!(page(&bench, from, 9, usize::MAX), expected, "from {from}");
    }
    assert!(page(&bench, 301, 9, usize::MAX).is_empty());
    assert!(page(&bench, u64::MAX, 9, usize::MAX).is_empty());
    assert!(bench.store().queue(3, Lane::Live, 0, ALL).expect("readable").is_empty());
    bench.commit(&changes().message(1, 301, "of the last batch"));
    assert_eq!(page(&bench, 7, 9, usize::MAX), [300, 301]);
    bench.commit(&changes().done(1, Lane::Live, 300));
    assert_eq!(page(&bench, 7, 9, usize::MAX), [301]);
}

/// A page has a message, if there is one: or a queue would never be read to its end.
pub(crate) fn a_message_larger_than_a_page_is_read<S: Subject>() {
    let large = "x".repeat(100_000);
    let mut bench = Bench::<S>::new();
    bench.commit(
        &changes()
            .session(1)
            .message(1, 0, &large)
            .message(1, 1, "m")
            .message(1, 2, &large),
    );
    bench.kill();
    assert_eq!(page(&bench, 0, 9, 1000), [0]);
    assert_eq!(page(&bench, 1, 9, 1000), [1, 2]);
    let most = Page {
        messages: 9,
        bytes: 1000,
    };
    let queue = read_queue(bench.store(), 1, Lane::Live, most).expect("readable");
    assert_eq!(indexes(&queue), [0, 1, 2]);
    assert_eq!(queue, bench.state().queue(1, Lane::Live));
}

/// What has been released is a message of a page, but no bytes of it.
pub(crate) fn released_places_are_no_bytes_of_a_page<S: Subject>() {
    let mut bench = with_places::<S>(&[0, 1, 2, 3, 4], "payload 9");
    let released = |batch: Changes, index: &u64| batch.released(1, Lane::Live, *index);
    bench.commit(&[0, 1, 4].iter().fold(changes(), released));
    assert_eq!(page(&bench, 0, 9, 1), [0, 1, 2]);
    assert_eq!(page(&bench, 0, 9, 11), [0, 1, 2, 3]);
    assert_eq!(page(&bench, 0, 2, 11), [0, 1]);
    assert_eq!(page(&bench, 0, 9, 21), [0, 1, 2, 3, 4]);
}

/// A message is in each of the queues that it was put into, at the place that it has there, and is finished in each alone.
pub(crate) fn a_message_may_have_many_recipients<S: Subject>() {
    const RECIPIENTS: u64 = 10_000;
    let mut bench = Bench::<S>::new();
    let places: Vec<(Uid, u64)> = (1..=RECIPIENTS).map(|uid| (uid, uid * 3)).collect();
    let sessions = places.iter().fold(changes(), |batch, (uid, _)| batch.session(*uid));
    bench.commit(&sessions.send(&places, &PLAIN, &publication("t", b"for all")));
    let half = (1..=RECIPIENTS).filter(|uid| uid % 2 == 0);
    bench.commit(&half.fold(changes(), |batch, uid| batch.done(uid, Lane::Live, uid * 3)));
    bench.always(|state| {
        for (uid, index) in &places {
            let expected = (uid % 2 == 1).then(|| (*index, Some("for all".to_owned())));
            assert_eq!(live(state, *uid), Vec::from_iter(expected));
            assert_eq!(state.session(*uid).live.bytes, 8 * (uid % 2));
        }
    });
}

/// A message may be as large as a packet that few would send.
pub(crate) fn a_message_may_be_large<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let payload: Vec<u8> = (0..16_u32 << 20).map(|at| (at % 251) as u8).collect();
    let places = [(1, 0), (2, 5)];
    let batch = changes()
        .session(1)
        .session(2)
        .send(&places, &PLAIN, &publication("t", &payload));
    bench.commit(&batch.message(1, 1, "behind"));
    bench.always(|state| {
        for (uid, index) in places {
            let place = &state.queue(uid, Lane::Live)[0];
            assert_eq!(place.index, index);
            assert!(place.message.as_ref().expect("not released").text.payload[..] == payload);
        }
        assert_eq!(state.session(2).live.bytes, payload.len() as u64 + 1);
        assert_eq!(state.queue(1, Lane::Live).len(), 2);
    });
}

/// Topics and filters may have 65,535 bytes, and as many subscriptions as fit may match.
pub(crate) fn topics_may_be_long<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let (topic, share) = ("t".repeat(65_535), format!("$share/g/{}", "s".repeat(65_526)));
    let ids = [0, 1, 2, 3].repeat(5000);
    let terms = TermsRecord {
        subscription_ids: &ids,
        share: Some(&share),
        ..PLAIN
    };
    let batch = changes().session(1).send(&[(1, 0)], &terms, &publication(&topic, b"m"));
    bench.commit(&batch.replaying(1, &share).replayed(1, 0, &share, &topic));
    bench.always(|state| {
        let sent = state.queue(1, Lane::Live)[0].message.as_ref().expect("not released");
        assert!(*sent.text.topic == *topic && sent.share.as_deref() == Some(&share));
        assert_eq!(sent.subscription_ids.len(), 5000);
        assert!(sent.subscription_ids.iter().all(|id| *id == 0x0001_0203));
        let sent = state.queue(1, Lane::Replayed)[0]
            .message
            .as_ref()
            .expect("not released");
        assert!(*sent.text.topic == *topic);
        assert!(state.session(1).subscriptions[0].replay.as_deref() == Some(&topic));
    });
}

fn extent(first: u64, next: u64, count: u64, bytes: u64) -> Extent {
    Extent {
        first,
        next,
        count,
        bytes,
    }
}

/// All four figures of an [`Extent`], after each kind of change.
pub(crate) fn an_extent_follows_the_queue<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let mut step = |batch: Changes, live: Extent, replayed: Extent| {
        bench.commit(&batch);
        bench.always(|state| {
            assert_eq!(state.session(1).live, live);
            assert_eq!(state.session(1).replayed, replayed);
        });
    };
    let none = extent(0, 0, 0, 0);
    step(changes().session(1), none, none);
    // 10 bytes each, with the topic; 2 bytes each in the lane of replays.
    step(changes().message(1, 3, "payload 9"), extent(3, 4, 1, 10), none);
    step(
        changes().message(1, 4, "payload 9").message(1, 5, "payload 9"),
        extent(3, 6, 3, 30),
        none,
    );
    step(changes().message(1, 5, "there already"), extent(3, 6, 3, 30), none);
    let replays = changes()
        .replayed(1, 0, "", "r")
        .replayed(1, 1, "", "r")
        .replayed(1, 1, "", "there already");
    step(replays, extent(3, 6, 3, 30), extent(0, 2, 2, 4));
    step(
        changes().released(1, Lane::Live, 4),
        extent(3, 6, 3, 20),
        extent(0, 2, 2, 4),
    );
    step(
        changes().released(1, Lane::Live, 4),
        extent(3, 6, 3, 20),
        extent(0, 2, 2, 4),
    );
    step(
        changes().released(1, Lane::Replayed, 0),
        extent(3, 6, 3, 20),
        extent(0, 2, 2, 2),
    );
    step(
        changes().done(1, Lane::Live, 3),
        extent(4, 6, 2, 10),
        extent(0, 2, 2, 2),
    );
    step(
        changes().done(1, Lane::Live, 3).done(1, Lane::Live, 77),
        extent(4, 6, 2, 10),
        extent(0, 2, 2, 2),
    );
    step(
        changes().done(1, Lane::Replayed, 0),
        extent(4, 6, 2, 10),
        extent(1, 2, 1, 2),
    );
    step(
        changes().released(1, Lane::Live, 6),
        extent(4, 7, 3, 10),
        extent(1, 2, 1, 2),
    );
    let properties = Publication {
        properties: &[1, 1],
        ..publication("topic", b"")
    };
    step(
        changes().send(&[(1, 7)], &PLAIN, &properties),
        extent(4, 8, 4, 17),
        extent(1, 2, 1, 2),
    );
    step(changes().floor(1, 6), extent(6, 8, 2, 7), extent(1, 2, 1, 2));
    step(
        changes().message(1, 2, "below the floor"),
        extent(6, 8, 2, 7),
        extent(1, 2, 1, 2),
    );
    step(changes().session(1), extent(6, 8, 2, 7), extent(1, 2, 1, 2));
}

/// `next` is above the places that are there, at or above the floor and the first that was not sent, and not above all
/// that there has been; `first` is `next` where there is nothing.
pub(crate) fn the_place_behind_an_extent_follows_what_is_known<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let mut step = |batch: Changes, at_least: u64, at_most: u64| {
        bench.commit(&batch);
        bench.always(|state| {
            let live = state.session(1).live;
            assert!(
                (at_least..=at_most).contains(&live.next),
                "{live:?}, not {at_least} to {at_most}"
            );
            assert!(live.count > 0 || live.first == live.next, "{live:?}");
        });
    };
    let unsent = |unsent| {
        changes().record(SessionRecord {
            unsent,
            away_since: Some(Millis::from_unix(1)),
            ..record(1, "client 1")
        })
    };
    step(unsent(5), 5, 5);
    step(changes().floor(1, 3), 5, 5);
    step(changes().floor(1, 8), 8, 8);
    step(changes().message(1, 8, "m").message(1, 9, "m"), 10, 10);
    step(changes().done(1, Lane::Live, 8), 10, 10);
    step(changes().done(1, Lane::Live, 9), 8, 10);
    step(changes().session(1), 8, 10);
    step(unsent(12), 12, 12);
    step(changes().floor(1, 1 << 40), 1 << 40, 1 << 40);
    step(changes().message(1, 1 << 41, "m"), (1 << 41) + 1, (1 << 41) + 1);
}
