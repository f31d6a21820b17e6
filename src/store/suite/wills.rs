//! Wills.

use super::{Bench, Changes, State, Subject, Text, changes, publication};
use crate::message::Publication;
use crate::packet::QoS;
use crate::store::Op;
use crate::store::suite::state::Will;

fn will<'a>(uid: u64, delay_interval: u32, expires_in: Option<u32>, client: &'a [u8]) -> Op<'a> {
    let message = Publication {
        properties: &[1, 0],
        qos: QoS::ExactlyOnce,
        retain: true,
        ..publication("will/ü", b"\0bye")
    };
    Op::Will {
        uid,
        delay_interval,
        expires_in,
        message,
        client,
    }
}

fn kept(op: &Op<'_>) -> Will {
    match op {
        Op::Will {
            delay_interval,
            expires_in,
            message,
            client,
            ..
        } => Will {
            delay_interval: *delay_interval,
            expires_in: *expires_in,
            text: Text::from(message),
            client: (*client).into(),
        },
        _ => panic!("no will: {op:?}"),
    }
}

/// A will is kept with all that it has: no expiry is another thing than one of 0 seconds.
pub(crate) fn a_will_is_kept_as_it_was<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let any: Vec<u8> = (0..=255).collect();
    let wills = [
        will(1, 0, None, b""),
        will(2, 5, Some(0), b"\0"),
        will(3, u32::MAX, Some(u32::MAX), &any),
        will(u64::MAX, 1, Some(1), b"x"),
    ];
    bench.commit(&wills.iter().fold(changes().session(2), Changes::op));
    bench.always(|state| {
        let all: Vec<_> = state.wills.values().cloned().collect();
        assert_eq!(all, wills.iter().map(kept).collect::<Vec<_>>());
        assert_eq!(state.wills.keys().collect::<Vec<_>>(), [&1, &2, &3, &u64::MAX]);
    });
}

/// The last will of a client is the one that counts.
pub(crate) fn a_will_is_replaced<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().will(1, "first").will(2, "other"));
    let second = will(1, 9, Some(3), b"again");
    bench.commit(&changes().op(&second));
    bench.always(|state| {
        assert_eq!(state.wills[&1], kept(&second));
        assert_eq!(&*state.wills[&2].text.payload, b"other");
    });
}

/// "The client's will, whether its session is kept or not, until `WillEnd`."
pub(crate) fn a_will_ends<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().session(1).will(1, "with").will(2, "without").will(3, "stays"));
    bench.commit(&changes().will_end(1).will_end(2).will_end(4));
    bench.always(|state| {
        assert_eq!(state.wills.keys().collect::<Vec<_>>(), [&3]);
        assert_eq!(state.sessions.len(), 1);
    });
}

/// A will that waits is there when its session has ended.
pub(crate) fn a_will_outlives_its_session<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(&changes().session(1).will(1, "w"));
    bench.commit(&changes().session_end(1));
    bench.always(|state| assert_eq!(&*state.wills[&1].text.payload, b"w"));
    bench.commit(&changes().will_end(1));
    bench.always(|state| assert_eq!(*state, State::default()));
}

/// Message and client may be as large as packets let them be.
pub(crate) fn a_will_may_be_large<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let (topic, payload, client) = ("t".repeat(65_535), vec![7; 65_535], vec![9; 1 << 20]);
    let op = Op::Will {
        uid: 1,
        delay_interval: 0,
        expires_in: None,
        message: publication(&topic, &payload),
        client: &client,
    };
    bench.commit(&changes().op(&op));
    bench.always(|state| assert!(state.wills[&1] == kept(&op)));
}
