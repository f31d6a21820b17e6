//! Batches: whole, durable, in order, once, and nothing that is invented.

use super::{Bench, State, Subject, changes, live, publication};
use crate::store::op::Op;
use crate::store::suite::changes::{Changes, PLAIN, subscription};
use crate::store::{Lane, StoreError};

/// A batch with a change of each kind that leaves something.
fn something_of_each() -> Changes {
    changes()
        .session(1)
        .session(2)
        .subscribe(1, subscription("plain"))
        .replaying(1, "r/#")
        .send(&[(1, 0), (1, 1), (2, 0)], &PLAIN, &publication("t", b"shared"))
        .released(1, Lane::Live, 0)
        .replayed(1, 0, "r/#", "r/1")
        .received(2, 7)
        .retain("kept", b"value")
        .will(1, "bye")
}

/// "A batch is kept as a whole": all that is in it can be read.
pub(crate) fn all_changes_of_a_batch_are_kept<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&something_of_each());
    bench.always(|state| {
        assert_eq!(state.sessions.keys().collect::<Vec<_>>(), [&1, &2]);
        let session = state.session(1);
        assert_eq!(session.subscriptions.len(), 2);
        assert_eq!((session.live.count, session.replayed.count), (2, 1));
        assert_eq!(live(state, 1), [(0, None), (1, Some("shared".to_owned()))]);
        assert_eq!(live(state, 2), [(0, Some("shared".to_owned()))]);
        assert_eq!(*state.session(2).received, [7]);
        assert_eq!(&*state.retained["kept"].payload, b"value");
        assert_eq!(&*state.wills[&1].text.payload, b"bye");
    });
}

/// "A batch is kept as a whole or not at all", and "nothing of one that failed": one that can't be read to its end is
/// refused, changes nothing, and has not used its number.
pub(crate) fn a_batch_that_cannot_be_read_changes_nothing<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().session(1).retain("a", b"old"));
    let before = bench.state();
    let good = changes().message(1, 0, "m").retain("a", b"new").session(2).will(2, "w");
    for rest in [&[250][..], &[5, 0, 0], &good.bytes()[..good.bytes().len() - 1]] {
        let bytes = [good.bytes(), rest].concat();
        let refused = bench.attempt(bench.number() + 1, &bytes);
        assert!(matches!(refused, Err(StoreError::Damaged(_))), "{refused:?}");
        assert_eq!(bench.store().last_batch(), Ok(bench.number()));
        bench.always(|state| assert_eq!(*state, before));
    }
    bench.commit(&good);
    bench.always(|state| assert_eq!(&*state.retained["a"].payload, b"new"));
}

/// "When `commit` has returned `Ok`, the batch survives."
pub(crate) fn what_was_committed_is_there_afterwards<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&something_of_each());
    let state = bench.state();
    bench.kill();
    assert_eq!(bench.state(), state, "after a kill");
    bench.reopen();
    assert_eq!(bench.state(), state, "after it was closed");
    bench.kill();
    assert_eq!(bench.state(), state, "after a kill that followed no commit");
}

/// "The batch survives": each of them, when the process is killed behind each.
pub(crate) fn each_batch_survives<S: Subject>() {
    const BATCHES: u64 = 20;
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().session(1));
    for index in 0..BATCHES {
        bench.commit(&changes().message(1, index, "m").retain("last", &index.to_be_bytes()));
        bench.kill();
        let state = bench.state();
        assert_eq!(live(&state, 1).len() as u64, index + 1);
        assert_eq!(*state.retained["last"].payload, index.to_be_bytes());
    }
}

/// "The changes of a batch have effect in their order."
pub(crate) fn changes_have_effect_in_their_order<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let batch = changes()
        .message(1, 0, "before its session")
        .session(1)
        .message(1, 1, "done")
        .done(1, Lane::Live, 1)
        .done(1, Lane::Live, 2)
        .message(1, 2, "kept");
    let batch = batch
        .subscribe(1, subscription("gone"))
        .unsubscribe(1, "gone")
        .unsubscribe(1, "kept")
        .subscribe(1, subscription("kept"))
        .received(1, 1)
        .received_end(1, 1)
        .received_end(1, 2)
        .received(1, 2);
    let batch = batch
        .retain("gone", b"1")
        .clear("gone")
        .clear("kept")
        .retain("kept", b"1")
        .retain("kept", b"2")
        .will(1, "gone")
        .will_end(1)
        .will_end(2)
        .will(2, "kept");
    let batch = batch.session(3).session_end(3).session_end(4).session(4);
    bench.commit(&batch);
    bench.always(|state| {
        assert_eq!(state.sessions.keys().collect::<Vec<_>>(), [&1, &4]);
        assert_eq!(live(state, 1), [(2, Some("kept".to_owned()))]);
        let session = state.session(1);
        assert_eq!(session.subscriptions.len(), 1);
        assert_eq!(&*session.subscriptions[0].filter, "kept");
        assert_eq!(session.received, [2]);
        assert_eq!(state.retained.len(), 1);
        assert_eq!(&*state.retained["kept"].payload, b"2");
        assert_eq!(state.wills.keys().collect::<Vec<_>>(), [&2]);
    });
}

/// "Batches are committed one after the other": the later one has the last word.
pub(crate) fn batches_have_effect_in_their_order<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().session(1).retain("a", b"1").message(1, 0, "m"));
    bench.commit(&changes().retain("a", b"2").done(1, Lane::Live, 0));
    bench.commit(&changes().clear("a").message(1, 1, "n"));
    bench.always(|state| assert!(state.retained.is_empty()));
    bench.commit(&changes().retain("a", b"3"));
    bench.always(|state| {
        assert_eq!(&*state.retained["a"].payload, b"3");
        assert_eq!(live(state, 1), [(1, Some("n".to_owned()))]);
    });
}

/// A batch that comes to something else when it is applied to its own outcome: the message would find its session, and a
/// message its place free.
fn not_for_a_second_time() -> Changes {
    changes()
        .message(1, 0, "before its session")
        .session(1)
        .message(1, 5, "first")
        .message(1, 6, "second")
        .message(1, 5, "not first")
        .done(1, Lane::Live, 5)
        .replayed(1, 0, "r/#", "r/1")
        .replaying(1, "r/#")
        .retain("a", b"1")
        .will(1, "w")
}

/// "A batch whose commit failed is committed again with the same number and the same bytes, and has effect once": also
/// if the failed attempt had its effect.
pub(crate) fn a_batch_has_effect_once<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let batch = not_for_a_second_time();
    bench.commit(&batch);
    let state = bench.state();
    assert_eq!(live(&state, 1), [(6, Some("second".to_owned()))]);
    assert_eq!(state.session(1).subscriptions[0].replay.as_deref(), Some(""));
    for _ in 0..3 {
        bench.commit_again(&batch);
        assert_eq!(bench.store().last_batch(), Ok(1));
        bench.always(|again| assert_eq!(*again, state));
    }
}

/// "Has effect once", also if the process was killed between the attempts.
pub(crate) fn a_batch_has_effect_once_after_opening<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let batch = not_for_a_second_time();
    bench.commit(&batch);
    let state = bench.state();
    bench.kill();
    bench.commit_again(&batch);
    assert_eq!(bench.state(), state, "after a kill");
    bench.reopen();
    bench.commit_again(&batch);
    bench.always(|again| assert_eq!(*again, state));
}

/// "The number of the last batch that is kept; 0 if there is none."
pub(crate) fn numbers_go_on_after_opening<S: Subject>() {
    let mut bench = Bench::<S>::new();
    assert_eq!(bench.store().last_batch(), Ok(0));
    bench.reopen();
    bench.kill();
    for number in 1..10 {
        bench.commit(&changes().retain("a", &[number]));
        assert_eq!(bench.store().last_batch(), Ok(u64::from(number)));
        match number % 3 {
            0 => bench.reopen(),
            1 => bench.kill(),
            _ => {}
        }
        assert_eq!(bench.state().retained["a"].payload[0], number);
    }
}

/// A batch without changes is a batch: it can be waited for.
pub(crate) fn an_empty_batch_has_its_number<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes());
    assert_eq!(bench.store().last_batch(), Ok(1));
    bench.kill();
    bench.commit(&changes().session(1));
    bench.commit(&changes());
    bench.commit(&changes());
    assert_eq!(bench.store().last_batch(), Ok(4));
    bench.always(|state| assert_eq!(state.sessions.len(), 1));
}

/// "Nothing is invented": there is nothing in a new store.
pub(crate) fn nothing_is_there_at_first<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.always(|state| assert_eq!(*state, State::default()));
}

/// "Reading yields what the committed batches come to", however often.
pub(crate) fn reading_changes_nothing<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&something_of_each().op(&Op::Floor { uid: 2, index: 9 }));
    let state = bench.state();
    assert_eq!(bench.state(), state);
    bench.always(|again| assert_eq!(*again, state));
}
