//! Events: their content and their order.

use std::sync::Arc;

use mqtt_broker::{ClientInfo, Event, NextEvent, ReasonCode, Version as ClientVersion};

use crate::common::*;
use crate::harness::{Embedded, Script};

/// A short form of an event, with all that tests look at.
fn short(event: &Event) -> String {
    let name = |client: &Option<Arc<ClientInfo>>| client.as_ref().map_or("-".into(), |client| client.client_id.clone());
    match event {
        Event::Connected(client) => format!("{} connected", client.client_id),
        Event::Ready(client) => format!("{} ready", client.client_id),
        Event::Disconnected { client, reason } => format!("{} disconnected {:#04x}", client.client_id, *reason as u8),
        Event::Error { client, reason, detail } => {
            assert!(!detail.is_empty());
            format!("{} error {:#04x}", name(client), *reason as u8)
        }
        Event::KeepAliveTimeout(client) => format!("{} silent", client.client_id),
        Event::Published { client, message } => {
            let payload = String::from_utf8_lossy(message.payload());
            format!(
                "{} published {}={payload} at {}",
                name(client),
                message.topic(),
                message.qos() as u8
            )
        }
        Event::Acknowledged { client, message } => {
            format!(
                "{} acknowledged {}",
                client.client_id,
                String::from_utf8_lossy(message.payload())
            )
        }
        Event::Ping(client) => format!("{} ping", client.client_id),
        Event::Subscribed { client, filters } => {
            let filters: Vec<&str> = filters.iter().map(|filter| filter.as_str()).collect();
            format!("{} subscribed {}", client.client_id, filters.join(" "))
        }
        Event::Unsubscribed { client, filters } => format!("{} unsubscribed {}", client.client_id, filters.join(" ")),
        Event::Closed => "closed".into(),
        other => panic!("unknown: {other:?}"),
    }
}

/// Expects exactly these events next.
fn expect(embedded: &Embedded, events: &mut mqtt_broker::Events, expected: &[&str]) {
    for expected in expected {
        assert_eq!(short(&embedded.event(events)), *expected);
    }
}

/// The whole life of a client, in order.
#[test]
fn life_of_a_client() {
    let embedded = Embedded::start();
    let mut events = embedded.broker.events();
    for version in Version::ALL {
        let mut client = embedded.connect(Connect::new(version, "ann").username("user"));
        let Event::Connected(info) = embedded.event(&mut events) else {
            panic!("not Connected")
        };
        assert_eq!((&*info.client_id, info.username.as_deref()), ("ann", Some("user")));
        assert_eq!(info.peer.address.map(|address| address.ip().is_loopback()), Some(true));
        assert_eq!(info.version == ClientVersion::V5, version.is_v5());
        client.send(Subscribe::new(1).filter("t/a", 2).filter("b/#", 0));
        client.recv_suback();
        client.publish("t/a", "one", 1);
        client.expect_message("t/a", "one");
        client.ping();
        embedded.publish("t/a", "two", 2);
        client.expect_message("t/a", "two");
        client.ping();
        client.send(Unsubscribe::new(2).filter("t/a").filter("unknown"));
        client.recv_unsuback();
        client.disconnect();
        expect(
            &embedded,
            &mut events,
            &[
                "ann ready",
                "ann subscribed t/a b/#",
                "ann published t/a=one at 1",
                "ann acknowledged one",
                "ann ping",
                "- published t/a=two at 2",
                "ann acknowledged two",
                "ann ping",
                "ann unsubscribed t/a unknown",
                "ann disconnected 0x00",
            ],
        );
    }
}

/// Messages of the program have no client; those that a rule or a hook refuses are not published.
#[test]
fn publications() {
    let script = Script::new().authorize_publish(|_, request| match request.topic() {
        "no" => mqtt_broker::PublishVerdict::Refuse(ReasonCode::NotAuthorized),
        _ => mqtt_broker::PublishVerdict::Rewrite(request.to_message().payload("rewritten")),
    });
    let embedded = Embedded::with_hooks(script);
    let mut client = embedded.v5("ann");
    let mut events = embedded.broker.events();
    embedded.publish("t", "x", 2);
    client.send(Publish::new("no", "x").qos(1, 1));
    assert_eq!(client.recv_puback().reason, code::NOT_AUTHORIZED);
    client.publish("yes", "x", 1);
    expect(
        &embedded,
        &mut events,
        &["- published t=x at 2", "ann published yes=rewritten at 1"],
    );
}

/// Without a word from the client the connection is lost; its will is published behind that, in its name.
#[test]
fn lost_connections() {
    let embedded = Embedded::start();
    for version in Version::ALL {
        let client = embedded.connect(Connect::new(version, "ann").will(Will::new("will", "x").qos(2)));
        let mut events = embedded.broker.events();
        client.kill();
        expect(
            &embedded,
            &mut events,
            &["ann disconnected 0x80", "ann published will=x at 2"],
        );
    }
}

/// However a connection ends, its end is told: here the program drops its future, then a hook panics.
#[test]
fn dropped_connections() {
    let script = Script::new().authorize_publish(|_, _| panic!("the hook panics, as the test wants it"));
    let embedded = Embedded::with_hooks(script);
    let mut events = embedded.broker.events();
    embedded.pipe(Connect::v5("ann"), 1024).cancel();
    expect(
        &embedded,
        &mut events,
        &["ann connected", "ann ready", "ann disconnected 0x80"],
    );
    let mut client = embedded.v5("ann");
    client.send(Publish::new("t", "x"));
    client.expect_closed();
    expect(
        &embedded,
        &mut events,
        &["ann connected", "ann ready", "ann disconnected 0x80"],
    );
}

/// A connection without a CONNECT: another packet, no packet, too late; one that is just closed is no error.
#[test]
fn errors_before_connect() {
    let embedded = Embedded::with_config(|config| config.connect_timeout = std::time::Duration::from_millis(300));
    let mut events = embedded.broker.events();
    Client::open(embedded.addr(), Version::V5).kill();
    for (bytes, event) in [
        (&[0xC0, 0][..], "- error 0x82"),
        (&[0, 0], "- error 0x81"),
        (&[0x10], "- error 0x80"),
    ] {
        let mut client = Client::open(embedded.addr(), Version::V5);
        client.send_bytes(bytes);
        client.expect_closed();
        expect(&embedded, &mut events, &[event]);
    }
}

/// A SUBSCRIBE of which nothing is granted is no subscription.
#[test]
fn refused_subscriptions() {
    let script = Script::new().authorize_subscribe(|_, filter, _| match filter.as_str() {
        "no" => mqtt_broker::SubscribeVerdict::Refuse(ReasonCode::NotAuthorized),
        _ => mqtt_broker::SubscribeVerdict::Allow,
    });
    let embedded = Embedded::with_hooks(script);
    let mut client = embedded.v5("ann");
    let mut events = embedded.broker.events();
    assert_eq!(client.try_subscribe("no", 1), code::NOT_AUTHORIZED);
    client.send(Subscribe::new(7).filter("no", 0).filter("yes", 0));
    client.recv_suback();
    expect(&embedded, &mut events, &["ann subscribed yes"]);
}

/// An error of a client: what it was, then the end.
#[test]
fn errors() {
    let script = Script::new().authenticate(|request| match request.client.username.as_deref() {
        Some("mallory") => Err(ReasonCode::BadUserNameOrPassword),
        _ => Ok(()),
    });
    let embedded = Embedded::with_hooks(script);
    let mut events = embedded.broker.events();
    for version in Version::ALL {
        let connect = Connect::new(version, "ann");
        let code = if version.is_v5() {
            code::BAD_USER_NAME_OR_PASSWORD
        } else {
            4
        };
        embedded.expect_refused(connect.clone().username("mallory"), code);
        expect(&embedded, &mut events, &["- error 0x86"]);
        let mut client = embedded.connect(connect);
        client.send_bytes(&[0x36, 0]);
        client.expect_cut(code::MALFORMED);
        expect(
            &embedded,
            &mut events,
            &["ann connected", "ann ready", "ann error 0x81", "ann disconnected 0x81"],
        );
    }
}

/// A client that is silent for too long.
#[test]
fn keep_alive_timeout() {
    let embedded = Embedded::start();
    let mut client = embedded.connect(Connect::v5("ann").keep_alive(1));
    let mut events = embedded.broker.events();
    client.expect_disconnect(code::KEEP_ALIVE_TIMEOUT);
    expect(
        &embedded,
        &mut events,
        &["ann silent", "ann error 0x8d", "ann disconnected 0x8d"],
    );
}

/// On a takeover the old connection ends before the new one begins.
#[test]
fn takeover() {
    let embedded = Embedded::start();
    for connect in [Connect::v5("ann"), Connect::persistent(Version::V5, "ann").clean(false)] {
        let mut older = embedded.connect(connect.clone());
        let mut events = embedded.broker.events();
        let newer = embedded.connect(connect);
        older.expect_disconnect(code::SESSION_TAKEN_OVER);
        let expected = ["ann error 0x8e", "ann disconnected 0x8e", "ann connected", "ann ready"];
        expect(&embedded, &mut events, &expected);
        newer.kill();
    }
}

/// A shutdown ends every client, and then the broker.
#[test]
fn shutdown() {
    let embedded = Embedded::start();
    let _client = embedded.connect(Connect::v5("ann").will(Will::new("will", "x")));
    let mut events = embedded.broker.events();
    embedded.wait(embedded.broker.shutdown());
    expect(
        &embedded,
        &mut events,
        &[
            "ann published will=x at 0",
            "ann error 0x8b",
            "ann disconnected 0x8b",
            "closed",
        ],
    );
}

/// A listener that does not keep up is told how many events it has missed, and goes on with the oldest that is left;
/// the others miss nothing.
#[test]
fn lagging_listeners() {
    const MESSAGES: u64 = 10_000;
    let embedded = Embedded::start();
    let mut lagging = embedded.broker.events();
    let mut attentive = embedded.broker.events();
    let number_of = |event| match event {
        Some(NextEvent::Event(Event::Published { message, .. })) => String::from_utf8_lossy(message.payload())
            .parse::<u64>()
            .expect("a number"),
        other => panic!("not Published: {other:?}"),
    };
    for number in 0..MESSAGES {
        embedded.publish("t", number.to_string(), 0);
        assert_eq!(number_of(embedded.wait(attentive.next())), number);
    }
    let Some(NextEvent::Missed(missed)) = embedded.wait(lagging.next()) else {
        panic!("not told")
    };
    assert!(missed > 0 && missed < MESSAGES, "{missed}");
    (missed..MESSAGES).for_each(|number| assert_eq!(number_of(embedded.wait(lagging.next())), number));
}
