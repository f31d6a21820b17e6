//! What is promised while Redis loses writes, and what is not: each with a log that is wrong and a twin that is not.

use super::Rule;
use super::cluster_tests::BEGIN;
use super::tests::broken;

const LOSES: &str = "* loses";
const KILLED: &str = "* store-kill
    p = closed
    s = closed
    * store-ready";
const READY: &str = "* ready
    @ 3000";
const BACK: &str = "p > CONNECT clean=0 expiry=99
    p < CONNACK present=1
    s > CONNECT clean=0 expiry=99
    s < CONNACK present=1";
/// The subscriber is told that its session has ended, and subscribes again.
const ANEW: &str = "p > CONNECT clean=0 expiry=99
    p < CONNACK present=1
    s > CONNECT clean=0 expiry=99
    s < CONNACK
    s > SUBSCRIBE id=2 filter=t qos=2
    s < SUBACK id=2 code=2";
const DEAD: &str = "* dead";
const END: &str = "* end";

/// Published, and acknowledged.
fn sent(number: u8, qos: u8) -> String {
    let sent = format!("p > PUBLISH id={number} qos={qos} topic=t label=m{number}");
    match qos {
        1 => format!("{sent}\np < PUBACK id={number}"),
        _ => format!("{sent}\np < PUBREC id={number}\np > PUBREL id={number}\np < PUBCOMP id={number}"),
    }
}

fn came(number: u8, qos: u8, id: u16) -> String {
    let ack = if qos == 1 { "PUBACK" } else { "PUBREC" };
    format!(
        "s < PUBLISH id={id} qos={qos} topic=t label=m{number}
        s > {ack} id={id}"
    )
}

#[test]
fn what_was_acknowledged_before_the_first_lost_write_is_there() {
    let m1 = &sent(1, 1);
    assert_eq!(broken(&[BEGIN, m1, LOSES, KILLED, READY, BACK, END]), [Rule::Lost]);
    assert_eq!(
        broken(&[BEGIN, m1, LOSES, KILLED, DEAD, READY, BACK, END]),
        [Rule::Lost]
    );
    assert_eq!(
        broken(&[BEGIN, m1, LOSES, KILLED, READY, BACK, &came(1, 1, 1), END]),
        []
    );
    // With its session.
    assert_eq!(broken(&[BEGIN, m1, LOSES, KILLED, READY, ANEW, END]), []);
}

#[test]
fn what_was_acknowledged_meanwhile_is_there_unless_a_node_has_died() {
    let m1 = &sent(1, 1);
    assert_eq!(broken(&[BEGIN, LOSES, m1, KILLED, READY, BACK, END]), [Rule::Lost]);
    let dead = [BEGIN, LOSES, m1, KILLED, DEAD, READY, BACK, END];
    assert_eq!(broken(&dead), []);
    assert_eq!(broken(&[BEGIN, LOSES, m1, "* kill", KILLED, READY, BACK, END]), []);
    assert_eq!(broken(&[BEGIN, "* term", LOSES, m1, KILLED, READY, BACK, END]), []);
    // Not meanwhile.
    assert_eq!(
        broken(&[BEGIN, LOSES, m1, KILLED, READY, BACK, "* kill", READY, END]),
        [Rule::Lost]
    );
    // It was sent before, and acknowledged between the server's death and the order.
    let (first, ack) = m1.split_once('\n').expect("two lines");
    assert_eq!(
        broken(&[BEGIN, first, LOSES, KILLED, BACK, ack, READY, END]),
        [Rule::Lost]
    );
}

#[test]
fn it_is_not_promised_to_who_had_not_subscribed_before() {
    let begin = BEGIN.replace("filter=t", "filter=other");
    let subscribes = "s > SUBSCRIBE id=2 filter=t qos=2
        s < SUBACK id=2 code=2";
    let (m1, m2) = (&sent(1, 1), &sent(2, 1));
    assert_eq!(broken(&[&begin, LOSES, subscribes, m1, KILLED, READY, BACK, END]), []);
    assert_eq!(
        broken(&[&begin, subscribes, LOSES, m1, KILLED, READY, BACK, END]),
        [Rule::Lost]
    );
    // What is published to it later is, unless a node has died with what it knew.
    let later = |dead| broken(&[&begin, LOSES, subscribes, KILLED, dead, READY, BACK, m2, END]);
    assert_eq!(later(""), [Rule::Lost]);
    assert_eq!(later(DEAD), []);
}

#[test]
fn all_promises_hold_for_what_begins_behind_the_order() {
    let (m1, m2) = (&sent(1, 2), &sent(2, 2));
    let begin = [BEGIN, LOSES, KILLED, READY, BACK].join("\n");
    let released = "s < PUBREL id=1
        s > PUBCOMP id=1";
    assert_eq!(broken(&[&begin, m1, END]), [Rule::Lost]);
    assert_eq!(
        broken(&[&begin, m1, &came(1, 2, 1), released, &came(1, 2, 2), END]),
        [Rule::Twice]
    );
    let wrong_order = [&*came(2, 2, 1), &came(1, 2, 2)].join("\n");
    assert_eq!(broken(&[&begin, m1, m2, &wrong_order, END]), [Rule::Order]);
    assert_eq!(broken(&[&begin, DEAD, m1, m2, &wrong_order, END]), [Rule::Order]);
    let stranger = "s < PUBLISH id=9 qos=1 topic=u label=m1";
    let on_u = m1.replace("topic=t", "topic=u");
    assert_eq!(broken(&[&begin, &on_u, stranger, END]), [Rule::Stranger]);
}

#[test]
fn order_and_qos_2_once_are_not_promised_for_what_was_sent_before() {
    let (m1, m2) = (&sent(1, 2), &sent(2, 2));
    let released = "s < PUBREL id=1
        s > PUBCOMP id=1";
    let rest = [KILLED, READY, BACK].join("\n");
    let twice = [&*came(1, 2, 1), released, &came(1, 2, 2)].join("\n");
    assert_eq!(broken(&[BEGIN, LOSES, m1, &rest, &twice, END]), []);
    assert_eq!(broken(&[BEGIN, m1, &twice, END]), [Rule::Twice]);
    let wrong_order = [&*came(2, 2, 1), &came(1, 2, 2)].join("\n");
    assert_eq!(broken(&[BEGIN, LOSES, m1, m2, &rest, &wrong_order, END]), []);
    assert_eq!(broken(&[BEGIN, m1, m2, &wrong_order, END]), [Rule::Order]);
}

#[test]
fn sessions_may_end_whose_clients_were_connected_and_once() {
    let gone = "s > CONNECT clean=0 expiry=99
        s < CONNACK";
    assert_eq!(broken(&[BEGIN, LOSES, KILLED, READY, ANEW, END]), []);
    assert_eq!(broken(&[BEGIN, KILLED, READY, ANEW, END]), [Rule::Session]);
    // Not before the server is killed, nor once the client was accepted behind the order.
    let early = "s = dropped
        s > CONNECT clean=0 expiry=99
        s < CONNACK
        s = dropped
        p = dropped";
    assert_eq!(
        broken(&[BEGIN, LOSES, early, "* store-kill", READY, BACK, END]),
        [Rule::Session]
    );
    let later = [BEGIN, LOSES, KILLED, READY, BACK, "s = dropped", gone, END];
    assert_eq!(broken(&later), [Rule::Session]);
    // Nor if nobody was there for long.
    let away = |millis: u32| {
        let pause = format!("s > DISCONNECT\ns = closed\n@ {millis}");
        let killed = "* store-kill
            p = closed";
        broken(&[BEGIN, &pause, LOSES, killed, READY, ANEW, END])
    };
    assert_eq!(away(5_000), []);
    assert_eq!(away(12_000), [Rule::Session]);
}

/// A CONNECT that had no answer may have made a session, which the client takes for the one that has ended.
#[test]
fn a_session_may_be_one_that_an_unanswered_connect_has_made() {
    let unanswered = "s > CONNECT clean=0 expiry=99
        s = dropped";
    let refused = "s > CONNECT clean=0 expiry=99
        s < CONNACK code=136
        s = closed";
    let (m1, m2) = (&sent(1, 1), &sent(2, 1));
    let run = |first, rest: &[&str]| broken(&[&[BEGIN, m1, LOSES, KILLED, first, READY, BACK], rest, &[END]].concat());
    assert_eq!(run(unanswered, &[]), []);
    assert_eq!(run(refused, &[]), [Rule::Lost]);
    assert_eq!(run(unanswered, &[m2]), []);
    // It subscribes again.
    let again = "s > SUBSCRIBE id=2 filter=t qos=2
        s < SUBACK id=2 code=2";
    assert_eq!(run(unanswered, &[again, m2]), [Rule::Lost]);
    assert_eq!(run(unanswered, &[again, m2, &came(2, 1, 1)]), []);
    // It may be the one before all the same.
    assert_eq!(run(unanswered, &[again, &came(1, 1, 1), m2, &came(2, 1, 2)]), []);
    let released = "s < PUBREL id=7
        s > PUBCOMP id=7";
    assert_eq!(run(unanswered, &[released]), []);
    assert_eq!(run(refused, &[&came(1, 1, 1), released]), [Rule::Identifier]);
}

/// The session that had it is another one: PUBCOMP says that of nothing.
#[test]
fn what_was_released_to_another_session_may_be_lost() {
    let recorded = "p > PUBLISH id=1 qos=2 topic=t label=m1
        p < PUBREC id=1";
    let lost = "* store-kill
        s = closed
        p = closed
        p > CONNECT clean=0 expiry=99
        p = dropped
        p > CONNECT clean=0 expiry=99";
    let back = "p < CONNACK present=1
        p > PUBREL id=1
        p < PUBCOMP id=1
        s > CONNECT clean=0 expiry=99
        s < CONNACK present=1";
    assert_eq!(broken(&[BEGIN, recorded, LOSES, lost, READY, back, END]), []);
    let lost = lost.replace("p = dropped", "p < CONNACK code=136\np = closed");
    assert_eq!(broken(&[BEGIN, recorded, LOSES, &lost, READY, back, END]), [Rule::Lost]);
}

#[test]
fn a_session_is_as_it_was_before_only_if_a_node_has_died() {
    let ended = "s > DISCONNECT expiry=0
        s = closed
        @ 3000";
    let killed = "* store-kill
        p = closed";
    let run = |dead| broken(&[BEGIN, LOSES, ended, killed, dead, READY, BACK, END]);
    assert_eq!(run(""), [Rule::Session]);
    assert_eq!(run(DEAD), []);
    // What it had unsubscribed from comes again then.
    let leaves = "s > UNSUBSCRIBE id=2 filter=t
        s < UNSUBACK id=2";
    let (m1, got) = (&sent(1, 1), &came(1, 1, 1));
    let run = |dead| broken(&[BEGIN, LOSES, leaves, KILLED, dead, READY, BACK, m1, got, END]);
    assert_eq!(run(""), [Rule::Stranger]);
    assert_eq!(run(DEAD), []);
}

#[test]
fn packet_identifiers_are_used_again_only_by_a_session_as_it_was_before() {
    let (m1, m2) = (&sent(1, 2), &sent(2, 2));
    let again = |dead| {
        let lost = [BEGIN, LOSES, m1, m2, &came(1, 2, 1), KILLED, dead, READY, BACK].join("\n");
        broken(&[&lost, &came(2, 2, 1), &came(1, 2, 2), END])
    };
    assert_eq!(again(""), [Rule::Identifier]);
    assert_eq!(again(DEAD), []);
}

#[test]
fn wills_are_promised_for_connections_that_begin_behind_the_order() {
    let watcher = "* cluster
        * ready
        s > CONNECT clean=0 expiry=99
        s < CONNACK
        s > SUBSCRIBE id=1 filter=w qos=2
        s < SUBACK id=1 code=2";
    let client = "c > CONNECT clean=1 will=w label=w1 qos=2
        c < CONNACK";
    let killed = "* store-kill
        s = closed
        * ready
        @ 3000
        s > CONNECT clean=0 expiry=99
        s < CONNACK present=1";
    let gone = "c = dropped
        @ 9000";
    assert_eq!(broken(&[watcher, client, LOSES, killed, gone, END]), []);
    assert_eq!(broken(&[watcher, LOSES, killed, client, gone, END]), [Rule::Will]);
}

/// One who looks at what is retained on `r`.
fn look(label: &str) -> String {
    let came = match label {
        "" => String::new(),
        label => format!("probe-1 < PUBLISH id=0 qos=0 retain=1 topic=r label={label}"),
    };
    format!(
        "probe-1 > CONNECT clean=1 expiry=0
        probe-1 < CONNACK
        probe-1 > SUBSCRIBE id=1 filter=r qos=0
        probe-1 < SUBACK id=1 code=0
        {came}
        probe-1 > UNSUBSCRIBE id=2 filter=r
        probe-1 < UNSUBACK id=2
        probe-1 > DISCONNECT
        probe-1 = closed"
    )
}

#[test]
fn a_retained_message_that_was_acknowledged_meanwhile_may_be_the_one_before() {
    let retain = |number: u8| {
        format!(
            "p > PUBLISH id={number} qos=1 retain=1 topic=r label=r{number}
            p < PUBACK id={number}"
        )
    };
    let run = |seen: &str| {
        let lost = [BEGIN, &retain(1), &retain(2), LOSES, &retain(3), KILLED, READY, BACK].join("\n");
        broken(&[&lost, &look(seen), END])
    };
    assert_eq!(run("r3"), []);
    assert_eq!(run("r2"), []);
    assert_eq!(run("r1"), [Rule::Retained]);
    assert_eq!(run(""), [Rule::Retained]);
    let later = |seen: &str| {
        let lost = [BEGIN, &retain(1), LOSES, &retain(2), KILLED, READY, BACK, &retain(3)].join("\n");
        broken(&[&lost, &look(seen), END])
    };
    assert_eq!(later("r3"), []);
    assert_eq!(later("r2"), [Rule::Retained]);
}

/// It was left open: its node may not know that it has lost its client, until all is in order.
#[test]
fn a_connection_that_was_left_may_get_more_until_the_order() {
    let left = "s = left s~1
        s > CONNECT clean=0 expiry=99
        s < CONNACK present=1";
    let (m1, gone) = (&sent(1, 1), "s~1 = closed");
    let got = "s~1 < PUBLISH id=1 qos=1 topic=t label=m1";
    let came = &came(1, 1, 1);
    let rest = [KILLED, READY, BACK].join("\n");
    assert_eq!(broken(&[BEGIN, LOSES, left, m1, got, gone, &rest, came, END]), []);
    assert_eq!(
        broken(&[BEGIN, left, LOSES, m1, got, gone, &rest, came, END]),
        [Rule::Owner]
    );
    assert_eq!(
        broken(&[BEGIN, LOSES, left, &rest, m1, got, came, gone, END]),
        [Rule::Owner]
    );
    assert_eq!(broken(&[BEGIN, LOSES, left, &rest, END]), [Rule::Owner]);
}

/// Members whose sessions have ended take with them what they had; what is published later goes to those that stay.
#[test]
fn a_group_loses_nothing_that_was_published_behind_the_order() {
    let member = |name: &str| {
        format!(
            "{name} > CONNECT clean=0 expiry=99
            {name} < CONNACK
            {name} > SUBSCRIBE id=1 filter=$share/g/t qos=2
            {name} < SUBACK id=1 code=2"
        )
    };
    let begin = "* cluster
        * ready
        p > CONNECT clean=0 expiry=99
        p < CONNACK";
    let killed = "* store-kill
        p = closed
        a = closed
        b = closed
        * ready
        @ 3000
        p > CONNECT clean=0 expiry=99
        p < CONNACK present=1
        a > CONNECT clean=0 expiry=99
        a < CONNACK present=1
        b > CONNECT clean=0 expiry=99
        b < CONNACK";
    let gather = [begin, &member("a"), &member("b")].join("\n");
    for qos in [1, 2] {
        let m1 = &sent(1, qos);
        assert_eq!(broken(&[&gather, LOSES, m1, killed, END]), []);
        assert_eq!(broken(&[&gather, LOSES, killed, m1, END]), [Rule::Lost]);
    }
}
