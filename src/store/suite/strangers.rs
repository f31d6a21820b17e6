//! Changes of sessions that are not there.

use super::{Bench, State, Subject, changes, live, publication};
use crate::store::Lane;
use crate::store::suite::changes::{Changes, PLAIN, subscription};

/// All that needs a session.
fn changes_of(uid: u64) -> Changes {
    changes()
        .subscribe(uid, subscription("f"))
        .replaying(uid, "r/#")
        .message(uid, 0, "m")
        .replayed(uid, 0, "r/#", "r/1")
        .replay_end(uid, "r/#")
        .released(uid, Lane::Live, 1)
        .released(uid, Lane::Replayed, 1)
        .done(uid, Lane::Live, 2)
        .floor(uid, 9)
        .received(uid, 1)
        .received_end(uid, 1)
        .unsubscribe(uid, "f")
        .received(uid, 2)
        .session_end(uid)
}

/// "A change of a session that is not there has no effect": nor has it when the session begins later.
pub(crate) fn changes_of_a_stranger_have_no_effect<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes_of(1));
    bench.always(|state| assert_eq!(*state, State::default()));
    bench.commit(&changes().session(1).message(1, 3, "below no floor"));
    bench.always(|state| {
        let session = state.session(1);
        assert!(session.subscriptions.is_empty() && session.received.is_empty());
        assert_eq!(live(state, 1), [(3, Some("below no floor".to_owned()))]);
        assert_eq!(session.replayed.count, 0);
    });
}

/// The same of a session that was there, with another that stays.
pub(crate) fn who_has_ended_is_a_stranger<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().session(1).session(2).message(1, 0, "m").message(2, 0, "m"));
    bench.commit(&changes().session_end(1));
    let before = bench.state();
    bench.commit(&changes_of(1));
    bench.always(|state| assert_eq!(*state, before));
    assert_eq!(bench.state().sessions.keys().collect::<Vec<_>>(), [&2]);
}

/// A message for several is kept for those who are there.
pub(crate) fn a_message_reaches_those_who_are_there<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().session(2).session(4).session(5).session_end(5));
    let places = [(1, 0), (2, 7), (3, 0), (4, 8), (5, 0)];
    bench.commit(&changes().send(&places, &PLAIN, &publication("t", b"m")));
    bench.always(|state| {
        assert_eq!(state.sessions.len(), 2);
        assert_eq!(live(state, 2), [(7, Some("m".to_owned()))]);
        assert_eq!(live(state, 4), [(8, Some("m".to_owned()))]);
    });
}

/// "A will is kept without a session, and retained messages have none."
pub(crate) fn wills_and_retained_messages_need_no_session<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().will(9, "bye").retain("a", b"1"));
    bench.always(|state| {
        assert!(state.sessions.is_empty());
        assert_eq!(&*state.wills[&9].text.payload, b"bye");
        assert_eq!(state.retained.len(), 1);
    });
    bench.commit(&changes().will_end(9).clear("a"));
    bench.always(|state| assert_eq!(*state, State::default()));
}
