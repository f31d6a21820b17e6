//! Subscribing from the program.

use std::pin::pin;
use std::task::Poll;

use mqtt_broker::{NewMessage, Subscription};

use crate::common::*;
use crate::harness::{Embedded, level, message};

/// The QoS is the lower of the message's and the subscription's, messages come in order, and their content is whole,
/// whoever publishes.
#[test]
fn every_qos() {
    let embedded = Embedded::start();
    let mut client = embedded.v5("client");
    for granted in 0..3 {
        let mut subscription = embedded.subscribe("t/a", granted);
        for published in 0..3 {
            embedded.publish("t/a", "program", published);
            let received = embedded.expect_next(&mut subscription, "t/a", "program");
            assert_eq!(
                (received.qos, received.message.qos()),
                (level(granted.min(published)), level(published))
            );
            let with_property = Publish::new("t/a", "client").prop(Prop::user("name", "value"));
            client.publish_packet(with_property.qos(published, 0));
            let received = embedded.expect_next(&mut subscription, "t/a", "client");
            assert_eq!(received.qos, level(granted.min(published)));
            let users: Vec<_> = received.message.properties().user_properties().collect();
            assert_eq!(users, [("name", "value")]);
        }
    }
    let mut subscription = embedded.subscribe("t/a", 2);
    (0..1000).for_each(|number| embedded.publish("t/a", number.to_string(), 1));
    (0..1000).for_each(|number| drop(embedded.expect_next(&mut subscription, "t/a", &number.to_string())));
}

/// Wildcards match as they do for clients: not the topics that begin with `$` [MQTT-4.7.2-1] [MQTT3-4.7.2-1].
#[test]
fn wildcards() {
    let embedded = Embedded::start();
    let mut all = embedded.subscribe("#", 1);
    let mut some = embedded.subscribe("+/b/#", 1);
    for topic in ["$SYS/b", "a", "a/c", "a/b", "a/b/c/d", "$own/b"] {
        embedded.publish(topic, "x", 1);
    }
    for topic in ["a", "a/c", "a/b", "a/b/c/d"] {
        embedded.expect_next(&mut all, topic, "x");
    }
    embedded.expect_next(&mut some, "a/b", "x");
    embedded.expect_next(&mut some, "a/b/c/d", "x");
    assert_no_more(&embedded, &mut all, "sentinel");
    assert_no_more(&embedded, &mut some, "sentinel/b");
    for filter in ["", "a/#/b", "a+", "$share//a", "a\0"] {
        assert!(
            embedded.broker.subscribe(filter, level(0)).is_err(),
            "{filter:?} is no Topic Filter"
        );
    }
}

/// A message of this topic is the next.
fn assert_no_more(embedded: &Embedded, subscription: &mut Subscription, topic: &str) {
    embedded.publish(topic, "sentinel", 1);
    embedded.expect_next(subscription, topic, "sentinel");
}

/// Retained messages come first, and are told from live ones; an expired message does not come at all.
#[test]
fn retained_messages() {
    let embedded = Embedded::start();
    for topic in ["r/a", "r/b"] {
        embedded.publish_message(message(topic, "retained", 1).retain(true));
    }
    let mut subscription = embedded.subscribe("r/+", 2);
    embedded.publish_message(message("r/a", "live", 1).retain(true));
    let mut topics: Vec<String> = (0..2)
        .map(|_| {
            let received = embedded.next(&mut subscription);
            assert!(received.retained && received.qos == level(1) && received.message.payload() == b"retained");
            received.message.topic().to_owned()
        })
        .collect();
    topics.sort();
    assert_eq!(topics, ["r/a", "r/b"]);
    let live = embedded.expect_next(&mut subscription, "r/a", "live");
    assert!(!live.retained && live.message.retain());
    embedded.publish_message(message("r/a", "too late", 1).expiry(0));
    assert_no_more(&embedded, &mut subscription, "r/c");
}

/// The program takes part in a Shared Subscription: each message goes to one member. What the program has not taken
/// when it leaves goes to another member, if it is of QoS 1.
#[test]
fn shared_with_a_client() {
    let embedded = Embedded::start();
    let mut client = embedded.v5("client");
    client.subscribe("$share/group/t/#", 1);
    let mut subscription = embedded.subscribe("$share/group/t/#", 1);
    (0..10).for_each(|number| embedded.publish("t/a", number.to_string(), 1));
    let at_client: Vec<u32> = (0..5)
        .map(|_| client.message().text().parse().expect("a number"))
        .collect();
    let number = |payload: &[u8]| {
        std::str::from_utf8(payload)
            .expect("text")
            .parse::<u32>()
            .expect("a number")
    };
    let first = number(embedded.next(&mut subscription).message.payload());
    let mut seen: Vec<u32> = at_client.into_iter().chain([first]).collect();
    drop(subscription);
    seen.extend((0..4).map(|_| client.message().text().parse::<u32>().expect("a number")));
    seen.sort();
    assert_eq!(seen, (0..10).collect::<Vec<_>>(), "each once");
    embedded.publish("t/b", "all to the client now", 1);
    client.expect_message("t/b", "all to the client now");
}

/// Dropping it unsubscribes: the next message finds no subscriber.
#[test]
fn dropping_ends_it() {
    let embedded = Embedded::start();
    let mut publisher = embedded.v5("publisher");
    let mut reason = || {
        let id = publisher.next_id();
        publisher.send(Publish::new("t/a", "x").qos(1, id));
        publisher.recv_puback().reason
    };
    for filter in ["t/a", "t/+", "$share/group/t/a"] {
        let subscription = embedded.subscribe(filter, 1);
        assert_eq!(reason(), code::SUCCESS);
        drop(subscription);
        assert_eq!(reason(), code::NO_MATCHING_SUBSCRIBERS, "{filter}");
    }
}

/// A future of `next` that is dropped takes no message with it.
#[test]
fn next_can_be_cancelled() {
    let embedded = Embedded::start();
    let mut subscription = embedded.subscribe("t", 1);
    for number in 0..10 {
        {
            let mut next = pin!(subscription.next());
            let ready = embedded.wait(std::future::poll_fn(|cx| {
                Poll::Ready(next.as_mut().poll(cx).is_ready())
            }));
            assert!(!ready);
        }
        embedded.publish("t", number.to_string(), 1);
        embedded.expect_next(&mut subscription, "t", &number.to_string());
    }
}

/// A subscription that the program does not read is bounded like the queue of a client: what a client publishes then
/// is acknowledged to it and discarded for the program, and the rest is in order.
#[test]
fn bounded() {
    let embedded = Embedded::with_config(|config| config.max_queued_messages = 10);
    let mut subscription = embedded.subscribe("t/#", 1);
    let mut publisher = embedded.v5("publisher");
    publisher.publish_numbers_to("t/a", 30);
    for number in 0..10 {
        embedded.expect_next(&mut subscription, "t/a", &number.to_string());
    }
    assert_no_more(&embedded, &mut subscription, "t/b");
}

impl Client {
    fn publish_numbers_to(&mut self, topic: &str, count: u32) {
        (0..count).for_each(|number| self.publish(topic, number.to_string(), 1));
    }
}

/// A received message can be published again, changed, with everything else that it has.
#[test]
fn republish() {
    let embedded = Embedded::start();
    let mut subscription = embedded.subscribe("in", 2);
    let mut client = embedded.v5("client");
    client.subscribe("out", 2 | Subscribe::RETAIN_AS_PUBLISHED);
    let sent = Publish::new("in", "payload")
        .retain()
        .prop(Prop::MessageExpiry(60))
        .prop(Prop::user("a", "b"));
    let mut publisher = embedded.v5("publisher");
    publisher.publish_packet(sent.qos(2, 0));
    let received = embedded.next(&mut subscription);
    embedded.publish_message(NewMessage::from(&*received.message).topic("out").expect("a Topic Name"));
    let again = client.expect_message("out", "payload");
    assert_eq!(
        (again.qos, again.retain, again.props.users()),
        (2, true, vec![("a", "b")])
    );
    assert!(
        again
            .props
            .message_expiry()
            .is_some_and(|seconds| (50..=60).contains(&seconds))
    );
}
