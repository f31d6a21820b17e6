//! Looking at a broker, and intervening: `Broker::clients`, `client`, `subscriptions_of`, `subscribers`, `retained…`,
//! `end_session`, `state`, `set_traced`.

use mqtt_broker::{BadCursor, ClientQuery, NewMessage, TopicFilter, TraceTargets, Version as MqttVersion};

use crate::common::*;
use crate::harness::{Embedded, message};

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).expect("a Topic Filter")
}

/// A client whose session outlives it by ten minutes.
fn persistent(id: &str) -> Connect {
    Connect::v5(id).clean(false).expiry(600)
}

#[test]
fn clients_and_their_sessions() {
    let embedded = Embedded::start();
    let broker = &embedded.broker;
    let mut online = embedded.connect(persistent("online").username("ann").keep_alive(30));
    online.subscribe("a", 1);
    let mut away = embedded.connect(persistent("away"));
    away.disconnect();
    eventually("it is away", || {
        broker.client("away").is_some_and(|client| !client.connected)
    });
    let mut query = ClientQuery::default();
    let page = embedded.wait(broker.clients(&query, None, 10)).expect("no cursor");
    assert_eq!((page.clients.len(), page.next), (2, None));
    query.connected = Some(true);
    let page = embedded.wait(broker.clients(&query, None, 10)).expect("no cursor");
    let client = &page.clients[0];
    let info = client.info.as_ref().expect("is connected");
    assert_eq!(
        (&*client.client_id, client.subscriptions, page.clients.len()),
        ("online", 1, 1)
    );
    assert_eq!(
        (info.username.as_deref(), info.keep_alive, info.session_expiry),
        (Some("ann"), 30, 600)
    );
    assert_eq!(info.version, MqttVersion::V5);
    let wrong = embedded.wait(broker.clients(&query, Some("nonsense"), 10));
    assert_eq!(wrong.err(), Some(BadCursor));
    let state = embedded.wait(broker.state());
    assert_eq!((state.connected_clients, state.disconnected_sessions), (1, 1));
    assert!(broker.end_session("away") && broker.client("away").is_none() && !broker.end_session("away"));
    assert!(broker.end_session("online"));
    online.expect_disconnect(0x98);
    eventually("it has gone", || broker.client("online").is_none());
    assert_eq!(embedded.wait(broker.state()).subscriptions, 0);
}

/// Whoever owns the session at the moment answers.
#[test]
fn subscriptions_while_connections_come_and_go() {
    let embedded = Embedded::start();
    let broker = &embedded.broker;
    let mut client = embedded.connect(persistent("c"));
    client.subscribe("a/+", 1);
    for round in 0..50 {
        let asking = broker.clone();
        let asked = embedded
            .runtime()
            .spawn(async move { asking.subscriptions_of("c", 0, 10).await });
        match round % 2 {
            0 => client.kill(),
            // A takeover: the session goes from one connection to the other.
            _ => drop(embedded.connect(persistent("c"))),
        }
        let page = embedded.wait(asked).expect("no panic").expect("there is a session");
        assert_eq!((page.subscriptions[0].filter.as_str(), page.next), ("a/+", None));
        client = embedded.connect(persistent("c"));
    }
    assert!(embedded.wait(broker.subscriptions_of("nobody", 0, 10)).is_none());
    let page = broker.subscribers(&filter("a/+"), 0, 10);
    assert_eq!(
        (&*page.subscribers[0].client_id, page.subscribers.len(), page.next),
        ("c", 1, None)
    );
}

#[test]
fn retained_messages() {
    let embedded = Embedded::start();
    let broker = &embedded.broker;
    for topic in ["a/1", "a/2", "b"] {
        embedded.publish_message(message(topic, topic, 1).retain(true));
    }
    let expired = NewMessage::new("a/old", "x").expect("a topic").retain(true).expiry(0);
    embedded.publish_message(expired);
    let retained = broker.retained("a/1").expect("is there");
    assert_eq!(
        (retained.payload(), broker.retained("a/old").is_none()),
        (&b"a/1"[..], true)
    );
    let page = embedded.wait(broker.retained_matching(&filter("a/#"), "", 1));
    assert_eq!((page.messages[0].topic(), page.messages.len()), ("a/1", 1));
    let next = page.next.expect("there is more");
    let page = embedded.wait(broker.retained_matching(&filter("a/#"), &next, 10));
    assert_eq!((page.messages[0].topic(), page.messages.len()), ("a/2", 1));
    assert!(embedded.wait(broker.clear_retained(&filter("a/#"))) >= 2);
    assert!(broker.retained("a/1").is_none() && broker.retained("b").is_some());
}

#[test]
fn the_list_of_those_who_are_traced() {
    let embedded = Embedded::start();
    let mut client = embedded.v5("client");
    let mut targets = TraceTargets::default();
    targets.clients.push("client".into());
    embedded.wait(embedded.broker.set_traced(targets.clone()));
    assert_eq!(embedded.broker.traced(), targets);
    client.subscribe("#", 2);
    client.publish("a", "x", 0);
    client.expect_message("a", "x");
}
