//! Each rule with a log that breaks it and a twin that does not.

use super::{Rule, check};
use crate::event::parse;

/// Reads a log whose lines have no times: a millisecond lies between two of them, and `@ N` lets N milliseconds pass.
fn events(text: &str) -> Vec<crate::event::Event> {
    let mut now = 0;
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix("@ ") {
            Some(pause) => now += pause.parse::<u64>().expect("milliseconds") * 1000,
            None => {
                now += 1000;
                lines.push(format!("{now} {line}"));
            }
        }
    }
    parse(&lines.join("\n")).expect("a log")
}

/// The rules that are broken.
pub(super) fn broken(parts: &[&str]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = check(&events(&parts.join("\n")))
        .into_iter()
        .map(|one| one.rule)
        .collect();
    rules.dedup();
    rules
}

/// A publisher and a subscriber of `t`, both persistent, with QoS 2.
const BEGIN: &str = "* ready
    p > CONNECT clean=0 expiry=99
    p < CONNACK
    s > CONNECT clean=0 expiry=99
    s < CONNACK
    s > SUBSCRIBE id=1 filter=t qos=2
    s < SUBACK id=1 code=2";
const KILL: &str = "* kill
    p = closed
    s = closed
    * ready
    p > CONNECT clean=0 expiry=99
    p < CONNACK present=1
    s > CONNECT clean=0 expiry=99
    s < CONNACK present=1";
const SENT: &str = "p > PUBLISH id=1 qos=1 topic=t label=m1";
const ACKED: &str = "p < PUBACK id=1";
const CAME: &str = "s < PUBLISH id=1 qos=1 topic=t label=m1
    s > PUBACK id=1";
const SENT2: &str = "p > PUBLISH id=1 qos=2 topic=t label=m1";
const RELEASE: &str = "p < PUBREC id=1
    p > PUBREL id=1
    p < PUBCOMP id=1";
const CAME2: &str = "s < PUBLISH id=1 qos=2 topic=t label=m1
    s > PUBREC id=1";
const CAME2_AGAIN: &str = "s < PUBLISH id=1 qos=2 dup=1 topic=t label=m1
    s > PUBREC id=1";
const RELEASED: &str = "s < PUBREL id=1
    s > PUBCOMP id=1";
const END: &str = "* end";

#[test]
fn an_acknowledged_message_must_arrive() {
    assert_eq!(broken(&[BEGIN, SENT, ACKED, KILL, END]), [Rule::Lost]);
    assert_eq!(broken(&[BEGIN, SENT, ACKED, KILL, CAME, END]), []);
    let resent = "p > PUBLISH id=1 qos=1 topic=t label=m1 dup=1";
    assert_eq!(broken(&[BEGIN, SENT, KILL, resent, ACKED, END]), [Rule::Lost]);
}

#[test]
fn a_message_that_was_not_acknowledged_may_be_lost_with_its_session() {
    let volatile = "v > CONNECT clean=1 expiry=0
        v < CONNACK
        v > PUBLISH id=1 qos=1 topic=t label=v1
        * kill
        v = closed";
    assert_eq!(broken(&[BEGIN, volatile, END]), []);
}

#[test]
fn nothing_is_owed_to_a_subscription_that_was_acknowledged_later_or_left() {
    let later = "* ready
        p > CONNECT clean=0 expiry=99
        p < CONNACK
        s > CONNECT clean=0 expiry=99
        s < CONNACK
        s > SUBSCRIBE id=1 filter=t qos=2
        p > PUBLISH id=1 qos=1 topic=t label=m1
        s < SUBACK id=1 code=2";
    assert_eq!(broken(&[later, ACKED, END]), []);
    let leaves = "s > UNSUBSCRIBE id=2 filter=t
        s < UNSUBACK id=2";
    assert_eq!(broken(&[BEGIN, SENT, ACKED, leaves, END]), []);
}

#[test]
fn nothing_is_owed_to_a_session_that_has_ended() {
    let volatile = "* ready
        p > CONNECT clean=0 expiry=99
        p < CONNACK
        s > CONNECT clean=1 expiry=0
        s < CONNACK
        s > SUBSCRIBE id=1 filter=t qos=2
        s < SUBACK id=1 code=2";
    let lost = "* kill
        s = closed";
    assert_eq!(broken(&[volatile, SENT, ACKED, lost, END]), []);
    assert_eq!(broken(&[volatile, SENT, ACKED, END]), [Rule::Lost]);
}

#[test]
fn a_message_of_qos_2_must_arrive_once() {
    let second = "s < PUBLISH id=2 qos=2 topic=t label=m1";
    assert_eq!(broken(&[BEGIN, SENT2, RELEASE, CAME2, RELEASED, KILL, END]), []);
    assert_eq!(
        broken(&[BEGIN, SENT2, RELEASE, CAME2, RELEASED, KILL, second, END]),
        [Rule::Twice]
    );
    // The same identifier, which the subscriber has finished.
    assert_eq!(
        broken(&[BEGIN, SENT2, RELEASE, CAME2, RELEASED, KILL, CAME2_AGAIN, END]),
        [Rule::Twice]
    );
    // The same identifier, which it has not.
    assert_eq!(
        broken(&[BEGIN, SENT2, RELEASE, CAME2, KILL, CAME2_AGAIN, RELEASED, END]),
        []
    );
}

/// What a client had subscribed to in a session that has ended, or has left before the message was sent, brings no second copy.
#[test]
fn a_subscription_of_the_past_brings_no_second_copy() {
    let subscribe = "s > SUBSCRIBE id=1 filter=t qos=2
        s < SUBACK id=1 code=2";
    let leave = "s > UNSUBSCRIBE id=3 filter=t
        s < UNSUBACK id=3";
    let session = "s > CONNECT clean=1 expiry=0
        s < CONNACK";
    let publisher = "* ready
        p > CONNECT clean=0 expiry=99
        p < CONNACK";
    let second = "s < PUBLISH id=2 qos=2 topic=t label=m1
        s > PUBREC id=2
        s < PUBREL id=2
        s > PUBCOMP id=2";
    let ended = [publisher, session, subscribe, "s = dropped", session, subscribe].join("\n");
    let left = [publisher, session, subscribe, leave, subscribe].join("\n");
    for past in [ended, left] {
        let once = [&past, SENT2, RELEASE, CAME2, RELEASED];
        assert_eq!(broken(&[&once[..], &[END]].concat()), [], "{past}");
        assert_eq!(broken(&[&once[..], &[second, END]].concat()), [Rule::Twice], "{past}");
    }
    // It may have been published before the client left, and again behind its second SUBSCRIBE.
    let around = [
        publisher, session, subscribe, SENT2, leave, subscribe, RELEASE, CAME2, RELEASED, second,
    ];
    assert_eq!(broken(&[&around[..], &[END]].concat()), []);
}

#[test]
fn a_retained_message_comes_once_for_each_subscribe() {
    let retained = "p > PUBLISH id=1 qos=2 topic=t label=m1 retain=1";
    let publisher = "* ready
        p > CONNECT clean=0 expiry=99
        p < CONNACK";
    let subscribe = "s > SUBSCRIBE id=1 filter=t qos=2
        s < SUBACK id=1 code=2";
    let session = "s > CONNECT clean=1 expiry=0
        s < CONNACK";
    let came = |id: u16| {
        format!(
            "s < PUBLISH id={id} qos=2 topic=t label=m1 retain=1
            s > PUBREC id={id}
            s < PUBREL id={id}
            s > PUBCOMP id={id}"
        )
    };
    let (first, second) = (&*came(1), &*came(2));
    let before = [publisher, retained, RELEASE, session, subscribe];
    assert_eq!(broken(&[&before[..], &[first, subscribe, second, END]].concat()), []);
    assert_eq!(
        broken(&[&before[..], &[first, second, subscribe, END]].concat()),
        [Rule::Twice]
    );
    let anew = ["s = dropped", session, subscribe, first];
    assert_eq!(broken(&[&before[..], &[first], &anew, &[END]].concat()), []);
    assert_eq!(
        broken(&[&before[..], &[first], &anew, &[second, END]].concat()),
        [Rule::Twice]
    );
}

#[test]
fn qos_2_goes_to_one_member_of_a_group_and_qos_1_to_one_at_least() {
    let member = |name: &str| {
        format!(
            "{name} > CONNECT clean=0 expiry=99
            {name} < CONNACK
            {name} > SUBSCRIBE id=1 filter=$share/g/t qos=2
            {name} < SUBACK id=1 code=2"
        )
    };
    let (a, b) = (member("a"), member("b"));
    let begin = "p > CONNECT clean=0 expiry=99
        p < CONNACK";
    let to = |name: &str, qos: u8| format!("{name} < PUBLISH id=1 qos={qos} topic=t label=m1");
    let run = |messages: &[&str]| broken(&[&[begin, &a, &b], messages, &[END]].concat());
    assert_eq!(run(&[SENT2, RELEASE, &to("a", 2)]), []);
    assert_eq!(run(&[SENT2, RELEASE, &to("a", 2), &to("b", 2)]), [Rule::Twice]);
    assert_eq!(run(&[SENT2, RELEASE]), [Rule::Lost]);
    assert_eq!(run(&[SENT, ACKED, &to("a", 1), &to("b", 1)]), []);
    assert_eq!(run(&[SENT, ACKED]), [Rule::Lost]);
}

#[test]
fn messages_first_arrive_in_their_order() {
    let both = "p > PUBLISH id=1 qos=1 topic=t label=m1
        p > PUBLISH id=2 qos=1 topic=t label=m2
        p < PUBACK id=1
        p < PUBACK id=2";
    let one = "s < PUBLISH id=1 qos=1 topic=t label=m1";
    let two = "s < PUBLISH id=2 qos=1 topic=t label=m2";
    let one_again = "s < PUBLISH id=1 qos=1 dup=1 topic=t label=m1";
    assert_eq!(broken(&[BEGIN, both, one, two, KILL, one_again, END]), []);
    let swapped = [
        "s < PUBLISH id=1 qos=1 topic=t label=m2",
        "s < PUBLISH id=2 qos=1 topic=t label=m1",
    ];
    assert_eq!(broken(&[BEGIN, both, swapped[0], swapped[1], END]), [Rule::Order]);
    // Each QoS has an order of its own.
    let mixed = both
        .replace("id=2 qos=1", "id=2 qos=2")
        .replace("PUBACK id=2", "PUBREC id=2");
    let release = "p > PUBREL id=2
        p < PUBCOMP id=2";
    let first = "s < PUBLISH id=1 qos=2 topic=t label=m2";
    assert_eq!(broken(&[BEGIN, &mixed, release, first, swapped[1], END]), []);
}

#[test]
fn a_message_that_was_first_sent_before_the_subscription_may_come_when_it_is_sent_again() {
    let publisher = "p > CONNECT clean=0 expiry=99
        p < CONNACK
        p > PUBLISH id=1 qos=1 topic=t label=m1";
    let subscriber = "s > CONNECT clean=0 expiry=99
        s < CONNACK
        s > SUBSCRIBE id=1 filter=t qos=2
        s < SUBACK id=1 code=2";
    let second = "p > PUBLISH id=2 qos=1 topic=t label=m2
        s < PUBLISH id=1 qos=1 topic=t label=m2";
    let again = "p > PUBLISH id=1 qos=1 topic=t label=m1 dup=1
        s < PUBLISH id=2 qos=1 topic=t label=m1
        p < PUBACK id=1
        p < PUBACK id=2";
    let end = [second, again, END];
    assert_eq!(broken(&[&[publisher, subscriber][..], &end].concat()), []);
    assert_eq!(broken(&[&[subscriber, publisher][..], &end].concat()), [Rule::Order]);
}

const RETAINER: &str = "p > CONNECT clean=0 expiry=99
    p < CONNACK
    p > PUBLISH id=1 qos=1 retain=1 topic=r label=r1
    p < PUBACK id=1
    p > PUBLISH id=2 qos=1 retain=1 topic=r label=r2
    p < PUBACK id=2
    p > PUBLISH id=3 qos=1 retain=1 topic=r label=r3";

/// A look at the retained messages after a kill.
fn look(sees: &str) -> String {
    let found = if sees.is_empty() {
        String::new()
    } else {
        format!("probe < PUBLISH id=0 qos=0 retain=1 topic=r label={sees}")
    };
    format!(
        "* kill
        p = closed
        * ready
        probe > CONNECT clean=1 expiry=0
        probe < CONNACK
        probe > SUBSCRIBE id=1 filter=r qos=0
        probe < SUBACK id=1
        {found}
        probe > UNSUBSCRIBE id=2 filter=r
        probe < UNSUBACK id=2
        probe > DISCONNECT"
    )
}

#[test]
fn a_retained_message_is_the_last_acknowledged_or_a_later_one() {
    assert_eq!(broken(&[RETAINER, &look("r2")]), []);
    assert_eq!(broken(&[RETAINER, &look("r3")]), []);
    assert_eq!(broken(&[RETAINER, &look("r1")]), [Rule::Retained]);
    assert_eq!(broken(&[RETAINER, &look("")]), [Rule::Retained]);
}

#[test]
fn a_retained_message_that_was_removed_is_gone() {
    let removes = "p < PUBACK id=3
        p > PUBLISH id=4 qos=1 retain=1 empty=1 topic=r label=r4";
    let removed = "p < PUBACK id=4";
    assert_eq!(broken(&[RETAINER, removes, removed, &look("")]), []);
    assert_eq!(broken(&[RETAINER, removes, removed, &look("r3")]), [Rule::Retained]);
    assert_eq!(broken(&[RETAINER, removes, &look("r3")]), []);
    assert_eq!(broken(&[RETAINER, removes, &look("")]), []);
}

#[test]
fn retained_messages_reach_a_new_subscription() {
    let begin = "p > CONNECT clean=0 expiry=99
        p < CONNACK
        p > PUBLISH id=1 qos=1 retain=1 topic=t label=m1
        p < PUBACK id=1
        s > CONNECT clean=0 expiry=99
        s < CONNACK
        s > SUBSCRIBE id=1 filter=t qos=2
        s < SUBACK id=1 code=2";
    let came = "s < PUBLISH id=1 qos=1 retain=1 topic=t label=m1";
    assert_eq!(broken(&[begin, KILL, came, END]), []);
    assert_eq!(broken(&[begin, KILL, END]), [Rule::Replay]);
}

#[test]
fn a_retained_message_of_qos_2_is_replayed_once() {
    let begin = "p > CONNECT clean=0 expiry=99
        p < CONNACK
        p > PUBLISH id=1 qos=2 retain=1 topic=t label=m1
        p < PUBREC id=1
        p > PUBREL id=1
        p < PUBCOMP id=1
        s > CONNECT clean=0 expiry=99
        s < CONNACK
        s > SUBSCRIBE id=1 filter=t qos=2
        s < SUBACK id=1 code=2
        s < PUBLISH id=1 qos=2 retain=1 topic=t label=m1
        s > PUBREC id=1";
    let second = "s < PUBLISH id=2 qos=2 retain=1 topic=t label=m1";
    assert_eq!(broken(&[begin, KILL, RELEASED, END]), []);
    assert_eq!(broken(&[begin, KILL, RELEASED, second, END]), [Rule::Twice]);
}

#[test]
fn session_present_is_what_was_acknowledged() {
    let comes_back = "* kill
        s = closed
        * ready
        s > CONNECT clean=0 expiry=99";
    let run = |begin: &str, present: u8| broken(&[begin, comes_back, &format!("s < CONNACK present={present}"), END]);
    let known = "s > CONNECT clean=0 expiry=99
        s < CONNACK";
    assert_eq!(run(known, 1), []);
    assert_eq!(run(known, 0), [Rule::Session]);
    let unknown = "s > CONNECT clean=0 expiry=99";
    assert_eq!(run(unknown, 1), []);
    assert_eq!(run(unknown, 0), []);
    let volatile = "s > CONNECT clean=1 expiry=0
        s < CONNACK";
    assert_eq!(run(volatile, 0), []);
    assert_eq!(run(volatile, 1), [Rule::Session]);
}

#[test]
fn a_session_that_was_ended_is_not_present() {
    let ends = "s > CONNECT clean=0 expiry=99
        s < CONNACK
        s > DISCONNECT expiry=0
        s = closed";
    let comes_back = "* kill
        * ready
        s > CONNECT clean=0 expiry=99
        s < CONNACK present=1";
    assert_eq!(broken(&[ends, "@ 500", comes_back, END]), [Rule::Session]);
    // Nothing says that the broker had read the DISCONNECT.
    assert_eq!(broken(&[ends, comes_back, END]), []);
    let clean = "s > CONNECT clean=0 expiry=99
        s < CONNACK
        s = dropped
        s > CONNECT clean=1 expiry=99
        s < CONNACK present=1";
    assert_eq!(broken(&[clean, END]), [Rule::Session]);
}

const WATCHER: &str = "s > CONNECT clean=0 expiry=99
    s < CONNACK
    s > SUBSCRIBE id=1 filter=w qos=2
    s < SUBACK id=1 code=2";
const WILL_CAME: &str = "s < PUBLISH id=1 qos=2 topic=w label=w1";
const WILL_CAME_AGAIN: &str = "s < PUBLISH id=2 qos=2 topic=w label=w1";

#[test]
fn the_will_of_who_was_connected_is_published_once() {
    let lost = "c > CONNECT clean=1 will=w label=w1 qos=2
        c < CONNACK
        * kill
        c = closed
        s = closed
        * ready
        s > CONNECT clean=0 expiry=99
        s < CONNACK present=1";
    let late = "@ 2000";
    assert_eq!(broken(&[WATCHER, lost, WILL_CAME, late, END]), []);
    assert_eq!(broken(&[WATCHER, lost, late, END]), [Rule::Will]);
    assert_eq!(
        broken(&[WATCHER, lost, WILL_CAME, WILL_CAME_AGAIN, late, END]),
        [Rule::Will]
    );
    // Whether the broker had accepted it is not known.
    let unknown = lost.replace("c < CONNACK\n", "\n");
    assert_eq!(broken(&[WATCHER, &unknown, late, END]), []);
    assert_eq!(broken(&[WATCHER, &unknown, WILL_CAME, late, END]), []);
}

#[test]
fn the_will_of_who_said_goodbye_is_not_published() {
    let leaves = "c > CONNECT clean=1 will=w label=w1 qos=2
        c < CONNACK
        c > DISCONNECT code=0
        c = closed";
    let kill = "* kill
        s = closed
        * ready
        s > CONNECT clean=0 expiry=99
        s < CONNACK present=1";
    assert_eq!(broken(&[WATCHER, leaves, "@ 500", kill, END]), []);
    assert_eq!(broken(&[WATCHER, leaves, "@ 500", kill, WILL_CAME, END]), [Rule::Will]);
    assert_eq!(broken(&[WATCHER, leaves, kill, WILL_CAME, END]), []);
    let with_will = leaves.replace("code=0", "code=4");
    assert_eq!(broken(&[WATCHER, &with_will, "@ 2000", END]), [Rule::Will]);
    assert_eq!(broken(&[WATCHER, &with_will, WILL_CAME, END]), []);
}

#[test]
fn a_delayed_will_waits_and_is_dropped_if_the_client_comes_back() {
    let lost = "c > CONNECT clean=0 expiry=99 will=w label=w1 qos=2 delay=3
        c < CONNACK
        * kill
        c = closed
        s = closed
        * ready
        s > CONNECT clean=0 expiry=99
        s < CONNACK present=1";
    let back = "c > CONNECT clean=0 expiry=99
        c < CONNACK present=1";
    assert_eq!(broken(&[WATCHER, lost, "@ 3000", WILL_CAME, END]), []);
    assert_eq!(broken(&[WATCHER, lost, WILL_CAME, "@ 3000", END]), [Rule::Will]);
    assert_eq!(broken(&[WATCHER, lost, "@ 5000", END]), [Rule::Will]);
    assert_eq!(broken(&[WATCHER, lost, back, "@ 5000", END]), []);
    assert_eq!(broken(&[WATCHER, lost, back, "@ 3000", WILL_CAME, END]), [Rule::Will]);
    // The session has ended, and so the will is due.
    let anew = back.replace("clean=0", "clean=1").replace("present=1", "present=0");
    assert_eq!(broken(&[WATCHER, lost, &anew, WILL_CAME, "@ 5000", END]), []);
    assert_eq!(broken(&[WATCHER, lost, &anew, "@ 5000", END]), [Rule::Will]);
}

#[test]
fn what_arrives_was_sent_and_asked_for() {
    let unasked = "s < PUBLISH id=1 qos=1 topic=u label=u1";
    let sent = "p > PUBLISH id=2 qos=1 topic=u label=u1
        p < PUBACK id=2";
    assert_eq!(broken(&[BEGIN, sent, unasked, END]), [Rule::Stranger]);
    assert_eq!(broken(&[BEGIN, sent, END]), []);
    let invented = "s < PUBLISH id=1 qos=1 topic=t label=never";
    assert_eq!(broken(&[BEGIN, invented, END]), [Rule::Stranger]);
    let elsewhere = "p > PUBLISH id=2 qos=1 topic=u label=u1
        p < PUBACK id=2
        s < PUBLISH id=1 qos=1 topic=t label=u1";
    assert!(broken(&[BEGIN, elsewhere, END]).contains(&Rule::Stranger));
}

#[test]
fn nothing_arrives_that_was_sent_after_unsuback() {
    let leaves = "s > UNSUBSCRIBE id=2 filter=t";
    let left = "s < UNSUBACK id=2";
    assert_eq!(
        broken(&[BEGIN, leaves, left, KILL, SENT, ACKED, CAME, END]),
        [Rule::Stranger]
    );
    assert_eq!(broken(&[BEGIN, leaves, KILL, SENT, ACKED, CAME, END]), []);
    assert_eq!(broken(&[BEGIN, SENT, leaves, left, ACKED, CAME, END]), []);
}

#[test]
fn a_message_has_the_options_of_its_subscription() {
    let begin = BEGIN.replace("qos=2", "qos=1 sid=7").replace("code=2", "code=1");
    let run = |came: &str| broken(&[&begin, SENT2, RELEASE, came, END]);
    assert_eq!(run("s < PUBLISH id=1 qos=1 topic=t label=m1 sid=7"), []);
    assert_eq!(run("s < PUBLISH id=1 qos=1 topic=t label=m1"), [Rule::Options]);
    assert_eq!(run("s < PUBLISH id=1 qos=2 topic=t label=m1 sid=7"), [Rule::Options]);
    // The subscription is being changed.
    let changes = "s > SUBSCRIBE id=2 filter=t qos=2 sid=7";
    let came = "s < PUBLISH id=1 qos=2 topic=t label=m1 sid=7
        s < SUBACK id=2 code=2";
    assert_eq!(broken(&[&begin, changes, SENT2, RELEASE, came, END]), []);
}

#[test]
fn an_identifier_stands_for_one_message() {
    let two = "p > PUBLISH id=2 qos=2 topic=t label=m2
        p < PUBREC id=2
        p > PUBREL id=2
        p < PUBCOMP id=2";
    let other = "s < PUBLISH id=1 qos=2 topic=t label=m2";
    let wrong = broken(&[BEGIN, SENT2, RELEASE, two, CAME2, KILL, other, END]);
    assert_eq!(wrong, [Rule::Identifier]);
    assert_eq!(
        broken(&[BEGIN, SENT2, RELEASE, two, CAME2, RELEASED, KILL, other, END]),
        []
    );
}

#[test]
fn a_release_follows_pubrec() {
    let early = "s < PUBLISH id=1 qos=2 topic=t label=m1
        s < PUBREL id=1";
    assert_eq!(broken(&[BEGIN, SENT2, RELEASE, early, END]), [Rule::Identifier]);
    assert_eq!(broken(&[BEGIN, SENT2, RELEASE, CAME2, KILL, RELEASED, END]), []);
    assert_eq!(broken(&[BEGIN, "s < PUBREL id=5", END]), [Rule::Identifier]);
}

#[test]
fn what_was_finished_long_before_does_not_come_again() {
    let again = "s < PUBLISH id=1 qos=1 dup=1 topic=t label=m1";
    assert_eq!(broken(&[BEGIN, SENT, ACKED, CAME, KILL, again, END]), []);
    assert_eq!(
        broken(&[BEGIN, SENT, ACKED, CAME, "@ 500", KILL, again, END]),
        [Rule::Repeat]
    );
    assert_eq!(
        broken(&[BEGIN, SENT2, RELEASE, CAME2, RELEASED, KILL, RELEASED, END]),
        []
    );
    let late = broken(&[BEGIN, SENT2, RELEASE, CAME2, RELEASED, "@ 500", KILL, RELEASED, END]);
    assert_eq!(late, [Rule::Repeat]);
    // A broker that was stopped has not read the PUBACK.
    let stop = "* stop";
    assert_eq!(broken(&[BEGIN, SENT, ACKED, CAME, stop, "@ 500", KILL, again, END]), []);
}

#[test]
fn acknowledgements_are_for_what_was_sent() {
    assert_eq!(broken(&[BEGIN, "p < PUBACK id=9", END]), [Rule::Answer]);
    assert_eq!(
        broken(&[BEGIN, SENT, "p < PUBACK id=1 code=151", CAME, END]),
        [Rule::Answer]
    );
    assert_eq!(broken(&[BEGIN, SENT, "p < PUBACK id=1 code=16", CAME, END]), []);
    assert_eq!(broken(&[BEGIN, SENT2, "p < PUBACK id=1", CAME2, END]), [Rule::Answer]);
    assert_eq!(broken(&[BEGIN, SENT2, "p < PUBCOMP id=1", CAME2, END]), [Rule::Answer]);
    // After a resumption, PUBREL may meet a message that is finished.
    let finished = "p < PUBREC id=1
        p > PUBREL id=1
        p < PUBCOMP id=1 code=146";
    assert_eq!(broken(&[BEGIN, SENT2, finished, CAME2, RELEASED, END]), []);
}

#[test]
fn subscriptions_are_granted_and_left() {
    let refused = BEGIN.replace("code=2", "code=128");
    assert_eq!(broken(&[&refused, END]), [Rule::Answer]);
    let leaves = "s > UNSUBSCRIBE id=2 filter=t
        s < UNSUBACK id=2 code=17";
    assert_eq!(broken(&[BEGIN, leaves, END]), [Rule::Answer]);
    let left = "s > UNSUBSCRIBE id=1 filter=t";
    assert_eq!(broken(&[BEGIN, left, KILL, leaves, END]), []);
}

#[test]
fn in_the_end_everything_is_answered() {
    assert_eq!(broken(&[BEGIN, SENT, CAME, END]), [Rule::Unanswered]);
    assert_eq!(
        broken(&[BEGIN, "s > SUBSCRIBE id=9 filter=x qos=1", END]),
        [Rule::Unanswered]
    );
    assert_eq!(broken(&[BEGIN, "c > CONNECT clean=1", END]), [Rule::Unanswered]);
    assert_eq!(broken(&[BEGIN, SENT, CAME, "p = dropped", END]), []);
}

#[test]
fn the_broker_closes_no_connection() {
    assert_eq!(broken(&[BEGIN, "p = closed"]), [Rule::Closed]);
    assert_eq!(broken(&[BEGIN, "* kill", "p = closed"]), []);
    assert_eq!(broken(&[BEGIN, "p > DISCONNECT", "p = closed"]), []);
    assert_eq!(broken(&[BEGIN, "* store-kill", "p = closed"]), [Rule::Closed]);
    let refused = "p > CONNECT clean=1
        p < CONNACK code=137
        p = closed";
    assert_eq!(broken(&["* ready", refused]), [Rule::Closed]);
    assert_eq!(broken(&["* ready", "* term", refused]), []);
    assert_eq!(broken(&["* term", "* ready", refused]), [Rule::Closed]);
}

#[test]
fn what_was_acknowledged_just_before_the_connection_ended_may_come_again() {
    let comes_back = "@ 500
        s > CONNECT clean=0 expiry=99
        s < CONNACK present=1
        s < PUBLISH id=1 qos=1 dup=1 topic=t label=m1";
    assert_eq!(broken(&[BEGIN, SENT, ACKED, CAME, "s = dropped", comes_back, END]), []);
    assert_eq!(
        broken(&[BEGIN, SENT, ACKED, CAME, "@ 500", "s = dropped", comes_back, END]),
        [Rule::Repeat]
    );
}
