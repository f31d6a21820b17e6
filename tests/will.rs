//! Will Messages: when they are published, when not, and how.

mod common;
use common::*;
use std::time::Instant;

/// Seconds, far beyond any test.
const LONG: u32 = 3600;

/// A broker with a client that receives every will, as it is published.
fn watched() -> (Broker, Client) {
    let broker = Broker::start(&[]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("will/#", 2 | Subscribe::RETAIN_AS_PUBLISHED);
    (broker, watcher)
}

/// A connection that breaks publishes the will that CONNECT has stored [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT3-3.1.2-8],
/// at the Will QoS, of which all three are accepted [MQTT-3.1.2-12] [MQTT3-3.1.2-14] [MQTT3-3.1.2-9], not retained
/// [MQTT-3.1.2-14] [MQTT3-3.1.2-16].
#[test]
fn published_when_the_connection_breaks() {
    let (broker, mut watcher) = watched();
    for version in Version::ALL {
        for qos in 0..3 {
            let will = Will::new("will/a", [0, 0xff, qos]).qos(qos);
            broker.connect(Connect::new(version, "mortal").will(will)).kill();
            let message = watcher.expect_message("will/a", [0, 0xff, qos]);
            assert_eq!((message.qos, message.retain, message.dup), (qos, false, false));
        }
    }
    let mut late = broker.v5("late");
    late.subscribe("will/#", 0);
    late.assert_silent_until_ping();
}

/// With Will Retain the will is retained [MQTT-3.1.2-15] [MQTT3-3.1.2-17]; an empty one clears.
#[test]
fn published_retained() {
    let (broker, mut watcher) = watched();
    for version in Version::ALL {
        broker
            .connect(Connect::new(version, "mortal").will(Will::new("will/r", "kept").retain()))
            .kill();
        assert!(watcher.expect_message("will/r", "kept").retain);
        let mut late = broker.v5("late");
        late.subscribe("will/r", 0);
        assert!(late.expect_message("will/r", "kept").retain);
        broker
            .connect(Connect::new(version, "mortal").will(Will::new("will/r", "").retain()))
            .kill();
        watcher.expect_message("will/r", "");
        late.expect_message("will/r", "");
        late.unsubscribe("will/r");
        late.subscribe("will/r", 0);
        late.assert_silent_until_ping();
    }
}

/// DISCONNECT 0x00 deletes the will without publishing it [MQTT-3.14.4-3] [MQTT-3.1.2-10] [MQTT3-3.14.4-3]
/// [MQTT3-3.1.2-10], also one with a delay.
#[test]
fn disconnect_deletes_it() {
    let (broker, mut watcher) = watched();
    for version in Version::ALL {
        broker
            .connect(Connect::new(version, "mortal").will(Will::new("will/a", "no")))
            .disconnect();
    }
    broker
        .connect(
            Connect::v5("slow")
                .expiry(LONG)
                .will(Will::new("will/a", "no").delay(1)),
        )
        .disconnect();
    broker.let_time_pass();
    let mut other = broker.v5("other");
    watcher.assert_nothing_from(&mut other);
}

/// DISCONNECT 0x04 asks for it; so does every other code of a client but 0x00 [MQTT-3.1.2-8].
#[test]
fn disconnect_with_will() {
    let (broker, mut watcher) = watched();
    for reason in [
        0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    ] {
        let mut client = broker.connect(Connect::v5("mortal").will(Will::new("will/a", [reason])));
        client.disconnect_with(Disconnect::new(reason));
        watcher.expect_message("will/a", [reason]);
    }
}

/// Without a Will Flag nothing is published when the connection ends [MQTT3-3.1.2-12], and a will that has been
/// published is gone from the session: the next connection without one breaks silently [MQTT-3.1.2-10]
/// [MQTT3-3.1.2-10].
#[test]
fn published_once() {
    let (broker, mut watcher) = watched();
    let mut other = broker.v5("other");
    for version in Version::ALL {
        broker
            .connect(Connect::persistent(version, "mortal").will(Will::new("will/a", "once")))
            .kill();
        watcher.expect_message("will/a", "once");
        broker.connect(Connect::persistent(version, "mortal")).kill();
        broker.connect(Connect::new(version, "mortal")).kill();
        watcher.assert_nothing_from(&mut other);
    }
}

/// The broker's own cut for a fault of the client publishes the will [MQTT-3.1.2-8] [MQTT3-3.1.2-8].
#[test]
fn protocol_error_publishes() {
    let (broker, mut watcher) = watched();
    for version in Version::ALL {
        let mut client = broker.connect(Connect::new(version, "mortal").will(Will::new("will/a", "fault")));
        client.send_bytes(&[0x36, 0]);
        client.expect_cut(code::MALFORMED);
        watcher.expect_message("will/a", "fault");
    }
}

/// A DISCONNECT that is itself malformed does not delete the will [MQTT-3.14.1-1] [MQTT3-3.14.1-1].
#[test]
fn malformed_disconnect_does_not_delete() {
    let (broker, mut watcher) = watched();
    for version in [Version::V311, Version::V5] {
        let mut client = broker.connect(Connect::new(version, "mortal").will(Will::new("will/a", "fault")));
        client.send_bytes(&[0xE1, 0]);
        client.expect_cut(code::MALFORMED);
        watcher.expect_message("will/a", "fault");
    }
}

/// A takeover ends the older connection without a DISCONNECT from its client, so its will is published
/// [MQTT-3.1.2-8] [MQTT3-3.1.2-8]; the newer connection has its own.
#[test]
fn takeover_publishes() {
    let (broker, mut watcher) = watched();
    for version in Version::ALL {
        for connect in [Connect::new(version, "twin"), Connect::persistent(version, "twin")] {
            let mut older = broker.connect(connect.clone().will(Will::new("will/a", "older")));
            let newer = broker.connect(connect.clone().will(Will::new("will/a", "newer")));
            older.expect_cut(code::SESSION_TAKEN_OVER);
            watcher.expect_message("will/a", "older");
            newer.kill();
            watcher.expect_message("will/a", "newer");
        }
    }
}

/// A takeover that resumes the session cancels a will with a delay [MQTT-3.1.3-9]; one with a clean start ends the
/// session, which publishes it at once [MQTT-3.1.2-8].
#[test]
fn takeover_and_delay() {
    let (broker, mut watcher) = watched();
    let mut other = broker.v5("other");
    let connect = || {
        Connect::v5("twin")
            .expiry(LONG)
            .will(Will::new("will/a", "late").delay(LONG))
    };
    let mut older = broker.connect(connect());
    let mut newer = broker.connect(connect().clean(false));
    assert!(newer.connack.session_present);
    older.expect_disconnect(code::SESSION_TAKEN_OVER);
    watcher.assert_nothing_from(&mut other);
    let _newest = broker.connect(Connect::v5("twin"));
    newer.expect_disconnect(code::SESSION_TAKEN_OVER);
    watcher.expect_message("will/a", "late");
}

/// The Will Delay Interval passes first [MQTT-3.1.2-8], unless the session ends earlier, as it does at once without a
/// Session Expiry Interval.
#[test]
fn delay() {
    let (broker, mut watcher) = watched();
    let start = Instant::now();
    broker
        .connect(
            Connect::v5("delayed")
                .expiry(LONG)
                .will(Will::new("will/a", "delayed").delay(1)),
        )
        .kill();
    let immediate = Instant::now();
    broker
        .connect(Connect::v5("ended").will(Will::new("will/a", "session ended").delay(LONG)))
        .kill();
    watcher.expect_message("will/a", "session ended");
    assert_elapsed(immediate, 0.0, 5.0);
    watcher.expect_message("will/a", "delayed");
    assert_elapsed(start, 0.9, 9.0);
}

/// The end of the session publishes a will whose delay would be longer [MQTT-3.1.2-8].
#[test]
fn session_expiry_before_delay() {
    let (broker, mut watcher) = watched();
    let start = Instant::now();
    broker
        .connect(
            Connect::v5("brief")
                .expiry(1)
                .will(Will::new("will/a", "x").delay(LONG)),
        )
        .kill();
    watcher.expect_message("will/a", "x");
    assert_elapsed(start, 0.9, 9.0);
}

/// A client that is back before the delay has passed is not reported dead [MQTT-3.1.3-9]: neither then nor when the
/// time is up, nor does the old will come back when the new connection ends well.
#[test]
fn reconnection_cancels_a_delayed_will() {
    let (broker, mut watcher) = watched();
    let connect = || Connect::v5("back").clean(false).expiry(LONG);
    broker
        .connect(connect().will(Will::new("will/a", "dead").delay(1)))
        .kill();
    let mut back = broker.connect(connect());
    assert!(back.connack.session_present);
    broker.let_time_pass();
    let mut other = broker.v5("other");
    watcher.assert_nothing_from(&mut other);
    back.disconnect();
    watcher.assert_nothing_from(&mut other);
}

/// Properties of a will go to its receivers: User Properties in order [MQTT-3.1.3-10], the others unaltered, the
/// Message Expiry Interval from its publication; a Will Delay Interval is not one of them.
#[test]
fn properties() {
    let (broker, mut watcher) = watched();
    let will = Will::new("will/a", "text")
        .prop(Prop::PayloadFormat(1))
        .prop(Prop::user("z", "1"))
        .prop(Prop::MessageExpiry(LONG))
        .prop(Prop::ContentType("text/plain".into()))
        .prop(Prop::user("a", "2"))
        .prop(Prop::ResponseTopic("answer/here".into()))
        .prop(Prop::CorrelationData(vec![0, 1, 255]))
        .prop(Prop::user("z", "3"))
        .delay(1);
    broker.connect(Connect::v5("mortal").expiry(LONG).will(will)).kill();
    let props = watcher.expect_message("will/a", "text").props;
    assert_eq!(props.users(), [("z", "1"), ("a", "2"), ("z", "3")]);
    assert_eq!(
        (props.payload_format(), props.content_type().as_deref()),
        (Some(1), Some("text/plain"))
    );
    assert_eq!(props.response_topic().as_deref(), Some("answer/here"));
    assert_eq!(props.correlation_data(), Some(vec![0, 1, 255]));
    let expiry = props.message_expiry().expect("a Message Expiry Interval");
    assert!(expiry > LONG - 10 && expiry <= LONG, "{expiry}");
}

/// A will is a message like any other: it waits in the session of an absent subscriber [MQTT-4.5.0-1]
/// [MQTT3-4.5.0-1].
#[test]
fn waits_for_absent_subscribers() {
    let (broker, mut watcher) = watched();
    for version in Version::ALL {
        let mut absent = broker.connect(Connect::persistent(version, "absent"));
        absent.subscribe("will/+", 1);
        absent.disconnect();
        broker
            .connect(Connect::new(version, "mortal").will(Will::new("will/a", "x").qos(2)))
            .kill();
        watcher.expect_message("will/a", "x");
        let mut absent = broker.connect(Connect::persistent(version, "absent"));
        assert_eq!(absent.expect_message("will/a", "x").qos, 1);
        absent.disconnect();
        broker.connect(Connect::new(version, "absent")).disconnect();
    }
}
