//! Against the model: any changes, one after the other.

use proptest::prelude::*;

use crate::store::op::{Op, SessionRecord};
use crate::store::redis::doctor;
use crate::store::redis::testing::{Changes, RedisServer, dump, indexes, publication, terms};
use crate::store::{Batch, Lane, MemoryStore, Store};
use crate::time::Millis;

/// Any changes of few sessions, so that they meet.
fn any_change() -> impl Strategy<Value = Vec<u8>> {
    let uid = 1..5_u64;
    let index = 0..12_u64;
    (uid, index, 0..20_u8, any::<bool>(), 0..40_usize).prop_map(|(uid, index, kind, flag, size)| {
        let lane = if flag { Lane::Live } else { Lane::Replayed };
        let payload = vec![b'x'; size * size / 10];
        let filter = if flag { "a/#" } else { "b" };
        let topic = if index % 2 == 0 { "a/b" } else { "a/c" };
        let changes = Changes::default();
        let changes = match kind {
            0 | 1 => changes.op(&Op::Session(SessionRecord {
                uid,
                client_id: &format!("client-{}", uid % 3),
                expiry_interval: if flag { u32::MAX } else { index as u32 },
                window: size as u16,
                away_since: (index > 5).then_some(Millis::from_unix(index)),
                unsent: index,
            })),
            2 if index == 0 => changes.op(&Op::SessionEnd { uid }),
            2 | 3 => changes.subscribe(uid, filter, index > 3),
            4 => changes.op(&Op::Unsubscribe { uid, filter }),
            5..=8 => changes.message(&payload, &[(uid, index), (uid % 4 + 1, index + 1)]),
            9 | 10 => changes.op(&Op::Replayed {
                uid,
                index,
                before: index / 2,
                filter,
                terms: terms(),
                message: publication(topic, &payload),
            }),
            11 => changes.op(&Op::ReplayEnd { uid, filter }),
            12 => changes.op(&Op::Released { uid, lane, index }),
            13 | 14 => changes.op(&Op::Done { uid, lane, index }),
            15 => changes.op(&Op::Floor { uid, index: index / 2 }),
            16 => changes.op(&Op::Received {
                uid,
                packet_id: index as u16,
            }),
            17 => changes.op(&Op::ReceivedEnd {
                uid,
                packet_id: index as u16,
            }),
            18 if flag => changes.op(&Op::Retain {
                message: publication(topic, &payload),
            }),
            18 => changes.op(&Op::RetainClear { topic }),
            _ if flag => changes.op(&Op::Will {
                uid,
                delay_interval: index as u32,
                expires_in: (index > 5).then_some(9),
                message: publication(topic, &payload),
                client: &payload,
            }),
            _ => changes.op(&Op::WillEnd { uid }),
        };
        changes.bytes
    })
}

/// Redis comes to what the model comes to, with and without being opened again.
#[test]
fn it_is_what_the_model_is() {
    let server = RedisServer::start(&[]);
    let batches = prop::collection::vec((prop::collection::vec(any_change(), 0..25), any::<bool>()), 1..8);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&batches, |batches| {
        server.command::<()>(&["FLUSHDB"]);
        let mut store = server.open();
        let model = MemoryStore::default();
        for (number, (changes, is_reopened)) in (1..).zip(batches) {
            let bytes = changes.concat();
            store.commit(&Batch { number, bytes: &bytes }).expect("commits");
            model.commit(&Batch { number, bytes: &bytes }).expect("commits");
            if is_reopened {
                store = server.open();
            }
            prop_assert_eq!(store.last_batch(), Ok(number));
            prop_assert_eq!(dump(&store), dump(&model));
            let report = doctor(&server.settings()).expect("can look");
            prop_assert!(report.faults.is_empty(), "{}", report);
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn places_stay_in_order_however_they_come() {
    let server = RedisServer::start(&[]);
    let store = server.open();
    let begin = Changes::default().session(1, "c", None);
    begin.commit(&store, 1).expect("commits");
    let mut number = 1;
    // Backwards, each in a batch of its own, and far from both ends.
    let places = (0..1000_u64)
        .filter(|place| place % 7 != 3)
        .chain((0..1000).filter(|place| place % 7 == 3).rev());
    for place in places {
        number += 1;
        let change = Changes::default().message(b"m", &[(1, place)]);
        change.commit(&store, number).expect("commits");
    }
    assert_eq!(indexes(&store, 1), (0..1000).collect::<Vec<_>>());
    let kept = |place: &u64| place.is_multiple_of(3) && *place >= 500;
    let mut changes = Changes::default();
    for place in (0..1000).filter(|place: &u64| !place.is_multiple_of(3)).rev() {
        changes = changes.done(1, place);
    }
    let changes = changes.op(&Op::Floor { uid: 1, index: 500 });
    changes.commit(&store, number + 1).expect("commits");
    assert_eq!(indexes(&store, 1), (0..1000).filter(kept).collect::<Vec<_>>());
}
