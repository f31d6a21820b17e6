//! What only a cluster can break, or may do, each with a log that is wrong and a twin that is not.

use super::Rule;
use super::tests::broken;

/// A publisher and a subscriber of `t`.
pub(super) const BEGIN: &str = "* cluster
    * ready
    p > CONNECT clean=0 expiry=99
    p < CONNACK
    s > CONNECT clean=0 expiry=99
    s < CONNACK
    s > SUBSCRIBE id=1 filter=t qos=2
    s < SUBACK id=1 code=2";
/// The subscriber goes to another node, and leaves its connection open.
const LEFT: &str = "s = left s~1
    s > CONNECT clean=0 expiry=99";
const ACCEPTED: &str = "s < CONNACK present=1";
const SENT: &str = "p > PUBLISH id=1 qos=2 topic=t label=m1";
const RELEASE: &str = "p < PUBREC id=1
    p > PUBREL id=1
    p < PUBCOMP id=1";
const CAME: &str = "s < PUBLISH id=1 qos=2 topic=t label=m1
    s > PUBREC id=1";
const CAME_TO_GHOST: &str = "s~1 < PUBLISH id=1 qos=2 topic=t label=m1";
const GONE: &str = "s~1 = closed";
const END: &str = "* end";

#[test]
fn a_connection_that_has_lost_its_client_is_closed() {
    assert_eq!(broken(&[BEGIN, LEFT, ACCEPTED, GONE, END]), []);
    assert_eq!(broken(&[BEGIN, LEFT, ACCEPTED, END]), [Rule::Owner]);
}

/// What a member had that is no more goes to another one at QoS 1, in a cluster, behind later messages.
#[test]
fn messages_move_to_members_that_stay() {
    let member = |name: &str, clean: u8| {
        format!(
            "{name} > CONNECT clean={clean} expiry=99
            {name} < CONNACK
            {name} > SUBSCRIBE id=1 filter=$share/g/t qos=2
            {name} < SUBACK id=1 code=2"
        )
    };
    let begin = "p > CONNECT clean=0 expiry=99
        p < CONNACK
        * ready";
    let (stays, goes) = (member("a", 0), member("b", 1));
    let sent = "p > PUBLISH id=1 qos=1 topic=t label=m1
        p > PUBLISH id=2 qos=1 topic=t label=m2
        p < PUBACK id=1
        p < PUBACK id=2
        a < PUBLISH id=1 qos=1 topic=t label=m2";
    let gone = "b > DISCONNECT
        b = closed
        b > CONNECT clean=1
        b < CONNACK";
    let moved = "a < PUBLISH id=2 qos=1 topic=t label=m1";
    let run = |first: &str, rest: &[&str]| broken(&[&[first, begin, &stays, &goes, sent, gone], rest, &[END]].concat());
    assert_eq!(run("* cluster", &[moved]), []);
    assert_eq!(run("* cluster", &[]), [Rule::Lost]);
    assert_eq!(run("", &[]), []);
}

#[test]
fn it_gets_nothing_that_was_sent_when_it_had_lost() {
    let rest = [RELEASE, CAME, GONE, END];
    let run = |parts: &[&str]| broken(&[&[BEGIN, LEFT], parts, &rest].concat());
    assert_eq!(run(&[ACCEPTED, SENT, CAME_TO_GHOST]), [Rule::Owner]);
    // It may have been on its way when the client was accepted.
    assert_eq!(run(&[SENT, ACCEPTED, CAME_TO_GHOST]), []);
}

#[test]
fn what_only_such_a_connection_got_has_not_come() {
    let parts = [BEGIN, LEFT, SENT, ACCEPTED, RELEASE, CAME_TO_GHOST, GONE, END];
    assert_eq!(broken(&parts), [Rule::Lost]);
}

#[test]
fn nothing_is_released_for_it() {
    let recorded = "s~1 > PUBREC id=1";
    let released = "s~1 < PUBREL id=1";
    let begin = [BEGIN, SENT, RELEASE, LEFT, CAME_TO_GHOST];
    let run = |parts: &[&str]| broken(&[&begin, parts, &[CAME, GONE, END]].concat());
    assert_eq!(run(&[ACCEPTED, recorded]), []);
    assert_eq!(run(&[ACCEPTED, recorded, released]), [Rule::Owner]);
    assert_eq!(run(&[ACCEPTED, released]), []);
}

#[test]
fn its_messages_are_not_taken() {
    let sent = "p~1 > PUBLISH id=60001 qos=1 topic=t label=p~1-1";
    let left = "p = left p~1
        p > CONNECT clean=0 expiry=99
        p < CONNACK present=1";
    let (acked, gone) = ("p~1 < PUBACK id=60001", "p~1 = closed");
    let came = "s < PUBLISH id=1 qos=1 topic=t label=p~1-1";
    assert_eq!(broken(&[BEGIN, left, sent, gone, END]), []);
    assert_eq!(broken(&[BEGIN, left, sent, acked, came, gone, END]), [Rule::Owner]);
    assert_eq!(broken(&[BEGIN, left, sent, came, gone, END]), [Rule::Owner]);
}

#[test]
fn an_acknowledgement_that_was_on_its_way_to_it_binds() {
    let left = "p = left p~1
        p > CONNECT clean=0 expiry=99
        p < CONNACK present=1
        p~1 < PUBACK id=1
        p~1 = closed";
    let sent = "p > PUBLISH id=1 qos=1 topic=t label=m1";
    let again = "p > PUBLISH id=1 qos=1 topic=t label=m1 dup=1
        p < PUBACK id=1";
    let came = "s < PUBLISH id=1 qos=1 topic=t label=m1";
    assert_eq!(broken(&[BEGIN, sent, left, again, END]), [Rule::Lost]);
    assert_eq!(broken(&[BEGIN, sent, left, again, came, END]), []);
}

#[test]
fn nodes_close_and_refuse_only_while_something_is_wrong() {
    let closed = "s = closed
        s > CONNECT clean=0 expiry=99
        s < CONNACK code=136
        s = closed
        s > CONNECT clean=0 expiry=99
        s < CONNACK present=1";
    let rest = "* ready
        @ 3000";
    assert_eq!(broken(&[BEGIN, "* apart", closed, rest, END]), []);
    assert_eq!(broken(&[BEGIN, closed, rest, END]), [Rule::Closed]);
    assert_eq!(broken(&[BEGIN, "* apart", rest, closed, closed, END]), [Rule::Closed]);
}

/// A client with a will, and one that watches.
const WILL: &str = "* cluster
    * ready
    s > CONNECT clean=0 expiry=99
    s < CONNACK
    s > SUBSCRIBE id=1 filter=will/# qos=2
    s < SUBACK id=1 code=2
    w > CONNECT clean=0 expiry=99 will=will/w label=w-1 qos=2 delay=0
    w < CONNACK
    @ 5000";
const WILL_CAME: &str = "s < PUBLISH id=1 qos=2 topic=will/w label=w-1";

#[test]
fn a_will_may_be_withheld_only_from_who_is_back_after_a_rolling_restart() {
    let back = "w > CONNECT clean=0 expiry=99
        w < CONNACK present=1";
    let ended = "* term
        w = closed";
    let lost = "* kill
        w = closed";
    let rest = "* ready
        @ 6000
        * end";
    assert_eq!(broken(&[WILL, ended, back, rest]), []);
    assert_eq!(broken(&[WILL, ended, back, WILL_CAME, rest]), []);
    assert_eq!(broken(&[WILL, ended, WILL_CAME, rest]), []);
    assert_eq!(broken(&[WILL, ended, rest]), [Rule::Will]);
    // The node has it still when it ends.
    let left = "w = left w~1
        w > CONNECT clean=0 expiry=99
        * term
        w < CONNACK present=1
        w~1 = closed";
    assert_eq!(broken(&[WILL, left, rest]), []);
    assert_eq!(broken(&[WILL, lost, back, rest]), [Rule::Will]);
    assert_eq!(broken(&[WILL, lost, back, WILL_CAME, rest]), []);
}

#[test]
fn a_will_may_come_before_the_client_knows_that_its_node_is_dead() {
    let stopped = "* stop
        @ 3000";
    let lost = "* cont
        w = closed
        * ready
        @ 6000
        * end";
    assert_eq!(broken(&[WILL, stopped, WILL_CAME, lost]), []);
    assert_eq!(
        broken(&[WILL, WILL_CAME, "@ 3000", "w = dropped", "@ 6000", END]),
        [Rule::Will]
    );
}

#[test]
fn retained_messages_are_the_same_on_all_nodes() {
    let retained = "r > CONNECT clean=0 expiry=99
        r < CONNACK
        r > PUBLISH id=1 qos=1 retain=1 topic=r label=r1
        r > PUBLISH id=2 qos=1 retain=1 topic=r label=r2";
    let look = |number: u8, label: &str| {
        format!(
            "probe-{number} > CONNECT clean=1 expiry=0
            probe-{number} < CONNACK
            probe-{number} > SUBSCRIBE id=1 filter=r qos=0
            probe-{number} < SUBACK id=1 code=0
            probe-{number} < PUBLISH id=0 qos=0 retain=1 topic=r label={label}
            probe-{number} > UNSUBSCRIBE id=2 filter=r
            probe-{number} < UNSUBACK id=2
            probe-{number} > DISCONNECT
            probe-{number} = closed"
        )
    };
    let acks = "r < PUBACK id=1
        r < PUBACK id=2";
    let run = |first, second| {
        broken(&[
            "* cluster",
            "* ready",
            retained,
            &look(1, first),
            &look(2, second),
            acks,
            END,
        ])
    };
    // Neither is acknowledged: either may be the last one.
    assert_eq!(run("r2", "r2"), []);
    assert_eq!(run("r1", "r2"), [Rule::Unequal]);
}

/// Its node has said that it ends: the will waits for its client, unless that is late, or something else was wrong.
#[test]
fn a_will_waits_for_a_client_that_was_sent_away() {
    let watcher = "* cluster
        * ready
        s > CONNECT clean=0 expiry=99
        s < CONNACK
        s > SUBSCRIBE id=1 filter=w qos=2
        s < SUBACK id=1 code=2
        c > CONNECT clean=1 will=w label=w1 qos=2
        c < CONNACK";
    let told = "* term
        c < DISCONNECT code=139
        c = closed";
    let lost = "* term
        c = closed";
    let back = "c > CONNECT clean=1
        c < CONNACK
        * ready";
    let came = "s < PUBLISH id=1 qos=2 topic=w label=w1";
    let run = |parts: &[&str]| broken(&[&[watcher], parts, &[END]].concat());
    assert_eq!(run(&[told, "@ 500", back, "@ 9000"]), []);
    assert_eq!(run(&[told, "@ 500", back, came]), [Rule::Will]);
    assert_eq!(run(&[told, "@ 1500", back, came]), []);
    assert_eq!(run(&[lost, "@ 500", back, came]), []);
    assert_eq!(run(&[told, "* apart", "@ 500", back, came]), []);
}
