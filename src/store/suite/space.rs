//! Where a store is: the space that it takes, who has it open, and what becomes of it when it is damaged.

use super::{Bench, Changes, State, Subject, changes, live};
use crate::store::{Lane, StoreError};

/// Does so many rounds of what leaves nothing behind; the size of the closed store afterwards.
fn size_after<S: Subject>(bench: &mut Bench<S>, rounds: u64, round: impl Fn(u64) -> [Changes; 2]) -> u64 {
    for number in 0..rounds {
        round(number).iter().for_each(|batch| bench.commit(batch));
    }
    bench.close();
    let size = bench.subject.size();
    bench.open();
    size
}

/// Asserts that ten times as many rounds do not take more space.
fn levels_off<S: Subject>(first: &Changes, round: impl Fn(u64) -> [Changes; 2]) {
    const SLACK: u64 = 256 * 1024;
    let mut bench = Bench::<S>::new();
    bench.commit(first);
    let few = size_after(&mut bench, 10, &round);
    let many = size_after(&mut bench, 100, |number| round(number + 10));
    assert!(many <= 2 * few + SLACK, "{few} bytes after 10 rounds, {many} after 110");
}

/// About 50 KiB.
const MESSAGES: u64 = 50;

fn payload() -> String {
    "x".repeat(1024)
}

/// "What is finished takes no space for good": one by one, by a floor, and released.
pub(crate) fn space_of_messages_is_used_again<S: Subject>() {
    let payload = payload();
    levels_off::<S>(
        &changes().session(1).session(2).session(3).message(3, 0, "stays"),
        |round| {
            let all = round * MESSAGES..(round + 1) * MESSAGES;
            let put = all.clone().fold(changes(), |batch, index| {
                batch
                    .message(1, index, &payload)
                    .message(2, index, &payload)
                    .replayed(1, index, "", "topic")
            });
            let ends = all.clone().fold(changes().floor(2, all.end), |batch, index| {
                let batch = batch.released(1, Lane::Live, index).done(1, Lane::Live, index);
                batch.done(1, Lane::Replayed, index)
            });
            [put, ends]
        },
    );
}

/// "What is ended takes no space for good": sessions with all that they have.
pub(crate) fn space_of_sessions_is_used_again<S: Subject>() {
    let payload = payload();
    levels_off::<S>(&changes().session(1), |round| {
        let uid = round + 2;
        let begins = (0..MESSAGES).fold(changes().session(uid), |batch, index| {
            let batch = batch.message(uid, index, &payload).replayed(uid, index, "", &payload);
            batch
                .replaying(uid, &format!("{payload}/{index}"))
                .received(uid, index as u16)
        });
        [begins, changes().session_end(uid)]
    });
}

/// "What is replaced takes no space for good", nor what is cleared.
pub(crate) fn space_of_retained_messages_and_wills_is_used_again<S: Subject>() {
    let payload = payload();
    levels_off::<S>(&changes().retain("stays", b"1"), |round| {
        let topics = (0..MESSAGES).map(|number| format!("{payload}/{}", number + round));
        let put = topics
            .clone()
            .fold(changes().will(round, &payload).will(0, &payload), |batch, topic| {
                batch
                    .retain(&topic, payload.as_bytes())
                    .retain("replaced", topic.as_bytes())
            });
        [
            put,
            topics.fold(changes().will_end(round), |batch, topic| batch.clear(&topic)),
        ]
    });
}

/// "What is open can't be opened by another process"; when it has been closed or killed, it can.
pub(crate) fn what_is_open_is_not_opened_again<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().session(1).message(1, 0, "m"));
    for _ in 0..2 {
        if S::IS_EXCLUSIVE {
            let second = bench.subject.open();
            assert!(matches!(second, Err(StoreError::Refused(_))), "{second:?}");
        }
        bench.commit(&changes().retain("a", b"1"));
        bench.always(|state| assert_eq!(live(state, 1), [(0, Some("m".to_owned()))]));
    }
}

/// "What was damaged is an error when it is read, never another value": the error comes when the store is opened, or when
/// what was damaged is read, or nothing that is read was damaged.
pub(crate) fn what_was_damaged_is_an_error<S: Subject>() {
    const SEEDS: u64 = 100;
    let mut noticed = 0;
    for seed in 0..SEEDS {
        let mut bench = Bench::<S>::new();
        fill(&mut bench);
        let state = bench.state();
        bench.close();
        if !bench.subject.damage(seed) {
            return;
        }
        match bench.subject.open().and_then(|store| State::read(&*store)) {
            Ok(read) => assert!(read == state, "seed {seed}: {read:#?}\ninstead of {state:#?}"),
            Err(StoreError::Unavailable(why)) => panic!("seed {seed}: that is to be tried again? {why}"),
            Err(_) => noticed += 1,
        }
    }
    assert!(noticed > 0, "nothing was damaged, or nothing was noticed");
}

fn fill<S: Subject>(bench: &mut Bench<S>) {
    for uid in 1..4 {
        let batch = (0..20).fold(changes().session(uid).replaying(uid, "f"), |batch, index| {
            let batch = batch.message(uid, index, &payload()).replayed(uid, index, "f", "topic");
            batch.retain(&format!("{uid}/{index}"), payload().as_bytes())
        });
        let batch = batch
            .released(uid, Lane::Live, 3)
            .done(uid, Lane::Live, 4)
            .received(uid, 5);
        bench.commit(&batch.will(uid, "w").floor(uid, 1));
    }
}
