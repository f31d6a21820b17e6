//! Publishing from the program.

use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use mqtt_broker::{NewMessage, PropertiesBuilder, PublishError, QoS, TopicError};

use crate::common::*;
use crate::harness::{Embedded, message};

/// What the settings or the protocol do not allow is not published.
#[test]
fn refused_messages() {
    let embedded = Embedded::with_config(|config| {
        config.max_qos = QoS::AtLeastOnce;
        config.retain = false;
    });
    let publish = |message| embedded.wait(embedded.broker.publish(message));
    assert_eq!(publish(message("t", "x", 2)), Err(PublishError::QoSNotSupported));
    assert_eq!(
        publish(message("t", "x", 0).retain(true)),
        Err(PublishError::RetainNotSupported)
    );
    assert_eq!(
        publish(message("t", vec![0; 268_435_455], 0)),
        Err(PublishError::TooLarge)
    );
    assert_eq!(publish(message("t", "x", 1)), Ok(()));
    for topic in ["", "a/+", "#", "a\0b"] {
        let refused: Result<NewMessage, TopicError> = NewMessage::new(topic, "x");
        assert!(refused.is_err(), "{topic:?} is no Topic Name");
        assert!(message("t", "x", 0).topic(topic).is_err());
    }
}

/// QoS, RETAIN flag, expiry and all properties of a message reach its receivers, User Properties in their order; an
/// empty retained message clears.
#[test]
fn whole_messages() {
    let embedded = Embedded::start();
    let mut subscriber = embedded.v5("subscriber");
    subscriber.subscribe("a/#", 2 | Subscribe::RETAIN_AS_PUBLISHED);
    let properties = || {
        PropertiesBuilder::new()
            .user_property("z", "1")?
            .payload_is_utf8(true)?
            .content_type("text/plain")?
            .response_topic("answer")?
            .correlation_data(&[0, 255])?
            .user_property("a", "2")
    };
    let properties = properties().expect("valid properties");
    for qos in 0..3 {
        let message = message("a/b", "text", qos)
            .retain(true)
            .expiry(60)
            .properties(properties.clone());
        embedded.publish_message(message);
        let received = subscriber.expect_message("a/b", "text");
        assert_eq!(
            (received.qos, received.retain, received.props.message_expiry()),
            (qos, true, Some(60))
        );
        assert_eq!(received.props.users(), [("z", "1"), ("a", "2")]);
        assert_eq!(received.props.payload_format(), Some(1));
        assert_eq!(received.props.content_type().as_deref(), Some("text/plain"));
        assert_eq!(received.props.response_topic().as_deref(), Some("answer"));
        assert_eq!(received.props.correlation_data(), Some(vec![0, 255]));
    }
    let mut late = embedded.v311("late");
    late.subscribe("a/b", 0);
    assert!(late.expect_message("a/b", "text").retain);
    embedded.publish_message(message("a/b", "", 0).retain(true));
    late.expect_message("a/b", "");
    let mut later = embedded.v311("later");
    later.subscribe("a/b", 0);
    later.assert_silent_until_ping();
}

/// Offline sessions get the program's messages as well [MQTT-4.5.0-1] [MQTT3-4.5.0-1].
#[test]
fn to_offline_sessions() {
    let embedded = Embedded::start();
    for version in Version::ALL {
        let mut client = embedded.connect(Connect::persistent(version, "client"));
        client.subscribe("t", 2);
        client.disconnect();
        (1..3).for_each(|qos| embedded.publish("t", format!("at {qos}"), qos));
        let mut client = embedded.connect(Connect::persistent(version, "client").clean(false));
        (1..3).for_each(|qos| assert_eq!(client.expect_message("t", format!("at {qos}")).qos, qos));
        client.disconnect();
        embedded.connect(Connect::new(version, "client")).disconnect();
    }
}

const SIZE: usize = 10_000;

/// A payload of [`SIZE`] bytes that begins with its number.
fn numbered(number: u32) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(SIZE, 0);
    payload
}

/// Publishes numbered messages of QoS 1 until that has to wait, and finishes the one that waits when `relieve` is
/// done; the number of messages.
fn publish_until_it_waits(embedded: &Embedded, relieve: impl FnOnce()) -> u32 {
    for number in 0..10_000 {
        let mut publishing = pin!(embedded.broker.publish(message("t", numbered(number), 1)));
        let done = embedded.wait(std::future::poll_fn(|cx| {
            Poll::Ready(publishing.as_mut().poll(cx).is_ready())
        }));
        if !done {
            relieve();
            embedded.wait_within(3 * DEADLINE, publishing).expect("published");
            return number + 1;
        }
    }
    panic!("publishing never waits");
}

/// While a connected subscriber has half of its queue waiting, publishing waits; it goes on when the client takes its
/// messages, of which none of QoS 1 is lost however long the program goes on publishing.
#[test]
fn waits_for_a_slow_client() {
    const LIMIT: usize = 1 << 20;
    const MORE: u32 = 500;
    let embedded = Embedded::with_config(|config| {
        config.max_queued_bytes = LIMIT;
        config.write_timeout = Duration::from_secs(60);
    });
    let mut slow = embedded.connect(Connect::v5("slow").prop(Prop::ReceiveMaximum(10)));
    slow.subscribe("t", 1);
    let mut expected = 0;
    let mut read_until = |slow: &mut Client, end: u32| {
        while expected < end {
            let message = slow.message();
            assert_eq!(message.payload[..4], expected.to_be_bytes());
            expected += 1;
        }
    };
    let sent = publish_until_it_waits(&embedded, || read_until(&mut slow, 40));
    assert!((sent as usize) * SIZE < LIMIT, "{sent} messages do not fit");
    let broker = embedded.broker.clone();
    let publishing = embedded.runtime().spawn(async move {
        for number in sent..sent + MORE {
            broker
                .publish(message("t", numbered(number), 1))
                .await
                .expect("published");
        }
    });
    read_until(&mut slow, sent + MORE);
    embedded.wait(publishing).expect("no panic");
    slow.ping();
}

/// The same for the limit of messages.
#[test]
fn waits_for_a_queue_that_is_full_of_messages() {
    let embedded = Embedded::with_config(|config| config.max_queued_messages = 50);
    let mut slow = embedded.connect(Connect::v5("slow").prop(Prop::ReceiveMaximum(1)));
    slow.subscribe("t", 1);
    let broker = embedded.broker.clone();
    let publishing = embedded.runtime().spawn(async move {
        for number in 0..500 {
            broker
                .publish(message("t", number.to_string(), 1))
                .await
                .expect("published");
        }
    });
    slow.expect_numbers(0..500);
    embedded.wait(publishing).expect("no panic");
}

/// However many subscribers take nothing, publishing waits no longer than the write time-out; what they were sent is
/// still there for them.
#[test]
fn waits_no_longer_than_the_write_timeout() {
    let embedded = Embedded::with_config(|config| {
        config.max_queued_bytes = 10 * SIZE;
        config.write_timeout = Duration::from_secs(1);
    });
    let mut lazy: Vec<Client> = (0..6)
        .map(|number| {
            let mut client = embedded.connect(Connect::v5(&format!("lazy{number}")).prop(Prop::ReceiveMaximum(1)));
            client.subscribe("t", 1);
            client
        })
        .collect();
    let start = Instant::now();
    let sent = publish_until_it_waits(&embedded, || {});
    assert_elapsed(start, 0.9, 5.0);
    for client in &mut lazy {
        for number in 0..sent {
            assert_eq!(client.message().payload[..4], number.to_be_bytes());
        }
        client.ping();
    }
}

/// Publishing also waits for a slow subscription of the program, until that is read or dropped.
#[test]
fn waits_for_the_program_itself() {
    let embedded = Embedded::with_config(|config| {
        config.max_queued_bytes = 10 * SIZE;
        config.write_timeout = Duration::from_secs(60);
    });
    let mut subscription = embedded.subscribe("t", 1);
    let sent = publish_until_it_waits(&embedded, || {
        assert_eq!(
            embedded.next(&mut subscription).message.payload()[..4],
            0_u32.to_be_bytes()
        );
    });
    for number in 1..sent {
        assert_eq!(
            embedded.next(&mut subscription).message.payload()[..4],
            number.to_be_bytes()
        );
    }
    publish_until_it_waits(&embedded, || drop(subscription));
    embedded.publish("t", numbered(0), 1);
}

/// A client that is not connected holds up nobody.
#[test]
fn does_not_wait_for_offline_sessions() {
    let embedded = Embedded::with_config(|config| {
        config.max_queued_bytes = 10 * SIZE;
        config.write_timeout = Duration::from_secs(600);
    });
    let mut client = embedded.connect(Connect::persistent(Version::V5, "client"));
    client.subscribe("t", 1);
    client.disconnect();
    (0..30).for_each(|number| embedded.publish("t", numbered(number), 1));
}
