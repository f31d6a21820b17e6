//! A place is used once.

use super::{Bench, Subject, changes, live, replayed};
use crate::store::Lane;

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// "A message at a place that is there already replaces nothing", be it a message or what is left of one.
pub(crate) fn a_place_that_is_there_is_not_replaced<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let batch = changes().session(1).message(1, 0, "first").message(1, 0, "second");
    let batch = batch
        .message(1, 1, "released")
        .released(1, Lane::Live, 1)
        .message(1, 1, "second");
    let batch = batch
        .replayed(1, 0, "", "first")
        .replayed(1, 0, "", "second")
        .replayed(1, 1, "", "released");
    bench.commit(&batch.released(1, Lane::Replayed, 1));
    let batch = changes().message(1, 0, "third").message(1, 1, "third");
    bench.commit(&batch.replayed(1, 0, "", "third").replayed(1, 1, "", "third"));
    bench.always(|state| {
        assert_eq!(live(state, 1), [(0, some("first")), (1, None)]);
        assert_eq!(replayed(state, 1), [(0, some("first")), (1, None)]);
    });
}

/// "All messages of the live lane below this place are finished", released ones too, and the one at it is not.
pub(crate) fn what_is_below_the_floor_is_finished<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let batch = (0..5).fold(changes().session(1).session(2), |batch, index| {
        batch.message(1, index, "m").message(2, index, "m")
    });
    bench.commit(&batch.released(1, Lane::Live, 1).released(1, Lane::Live, 4));
    bench.commit(&changes().floor(1, 3));
    bench.always(|state| {
        assert_eq!(live(state, 1), [(3, some("m")), (4, None)]);
        assert_eq!(live(state, 2).len(), 5);
    });
    bench.commit(&changes().floor(1, 1 << 40));
    bench.always(|state| assert!(live(state, 1).is_empty()));
}

/// "Also those that are put there later": in the same batch, in a later one, and after the process was killed.
pub(crate) fn a_floor_is_above_what_comes_later<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(
        &changes()
            .session(1)
            .floor(1, 3)
            .message(1, 2, "left out")
            .message(1, 3, "kept"),
    );
    bench.commit(&changes().message(1, 0, "left out"));
    bench.kill();
    bench.commit(&changes().message(1, 1, "left out").message(1, 4, "kept"));
    bench.reopen();
    bench.commit(&changes().message(1, 2, "left out"));
    bench.always(|state| assert_eq!(live(state, 1), [(3, some("kept")), (4, some("kept"))]));
    bench.commit(&changes().done(1, Lane::Live, 3).done(1, Lane::Live, 4));
    bench.kill();
    bench.commit(&changes().message(1, 2, "left out"));
    bench.always(|state| assert!(live(state, 1).is_empty()));
}

/// A floor that was told before a higher one says nothing new.
pub(crate) fn a_floor_does_not_sink<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().session(1).floor(1, 5).floor(1, 2));
    bench.commit(&changes().floor(1, 3).floor(1, 0));
    bench.commit(&changes().message(1, 4, "left out").message(1, 5, "kept"));
    bench.always(|state| assert_eq!(live(state, 1), [(5, some("kept"))]));
}

/// A floor has nothing to do with the lane of replays, nor with other sessions.
pub(crate) fn a_floor_is_of_the_live_lane<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(
        &changes()
            .session(1)
            .session(2)
            .replayed(1, 0, "", "a")
            .message(2, 0, "m"),
    );
    bench.commit(&changes().floor(1, 9));
    bench.commit(
        &changes()
            .replayed(1, 1, "", "b")
            .message(2, 1, "n")
            .released(1, Lane::Replayed, 2),
    );
    bench.always(|state| {
        assert_eq!(replayed(state, 1), [(0, some("a")), (1, some("b")), (2, None)]);
        assert_eq!(live(state, 2), [(0, some("m")), (1, some("n"))]);
    });
}

/// "A message that is finished is gone", with its place.
pub(crate) fn what_is_finished_is_gone<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let batch = changes()
        .session(1)
        .message(1, 0, "m")
        .message(1, 1, "m")
        .message(1, 2, "m");
    bench.commit(
        &batch
            .replayed(1, 0, "", "r")
            .released(1, Lane::Replayed, 0)
            .done(1, Lane::Live, 1),
    );
    bench.commit(&changes().done(1, Lane::Live, 0).done(1, Lane::Replayed, 0));
    bench.always(|state| {
        assert_eq!(live(state, 1), [(2, some("m"))]);
        assert!(replayed(state, 1).is_empty());
    });
    bench.commit(&changes().done(1, Lane::Live, 2));
    bench.always(|state| assert!(live(state, 1).is_empty()));
}

/// What is not there can be finished, and that changes nothing: neither now nor for what comes there.
pub(crate) fn finishing_nothing_is_nothing<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().session(1).done(1, Lane::Live, 0).done(1, Lane::Replayed, 9));
    bench.commit(
        &changes()
            .message(1, 0, "m")
            .done(1, Lane::Live, 1)
            .done(1, Lane::Live, 1 << 40),
    );
    bench.commit(&changes().done(1, Lane::Replayed, 0));
    bench.always(|state| {
        assert_eq!(live(state, 1), [(0, some("m"))]);
        assert!(replayed(state, 1).is_empty());
    });
}

/// "A release without a message makes its place", which then can be finished.
pub(crate) fn a_release_makes_its_place<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(
        &changes()
            .session(1)
            .released(1, Lane::Live, 3)
            .released(1, Lane::Replayed, 4),
    );
    bench.commit(
        &changes()
            .message(1, 3, "too late")
            .replayed(1, 4, "", "too late")
            .message(1, 2, "m"),
    );
    bench.always(|state| {
        assert_eq!(live(state, 1), [(2, some("m")), (3, None)]);
        assert_eq!(replayed(state, 1), [(4, None)]);
    });
    bench.commit(&changes().done(1, Lane::Live, 3).done(1, Lane::Replayed, 4));
    bench.always(|state| {
        assert_eq!(live(state, 1), [(2, some("m"))]);
        assert!(replayed(state, 1).is_empty());
    });
}

/// What is below the floor is finished, so that it is not made by a release either.
pub(crate) fn a_release_below_the_floor_makes_no_place<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().session(1).floor(1, 3).released(1, Lane::Live, 2));
    bench.commit(&changes().released(1, Lane::Live, 0).released(1, Lane::Live, 3));
    bench.always(|state| assert_eq!(live(state, 1), [(3, None)]));
}
