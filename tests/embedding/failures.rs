//! Hooks that panic, and connections that end while a hook is awaited.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mqtt_broker::{ForwardVerdict, PublishVerdict, ReasonCode, SubscribeVerdict};

use crate::common::*;
use crate::harness::{Embedded, Gate, Script};

/// A switch by which a test makes hooks panic.
#[derive(Clone, Default)]
struct Fault(Arc<AtomicBool>);

impl Fault {
    fn set(&self, on: bool) {
        self.0.store(on, Ordering::SeqCst);
    }

    /// For the hook: panics if the switch is on and this is about `victim`.
    fn strike(&self, client_id: &str) {
        assert!(
            client_id != "victim" || !self.0.load(Ordering::SeqCst),
            "the hook panics, as the test wants it"
        );
    }
}

/// A panic in any hook costs the connection that it was called for, and nothing else: the others go on, the session of
/// that client survives, and the Client Identifier can be used at once.
#[test]
fn a_panic_costs_one_connection() {
    let [connect, authenticate, publish, subscribe, forward, published] = [(); 6].map(|()| Fault::default());
    let script = Script::new()
        .on_connect({
            let fault = connect.clone();
            move |request| {
                fault.strike(&request.client.client_id);
                Ok(())
            }
        })
        .authenticate({
            let fault = authenticate.clone();
            move |request| {
                fault.strike(&request.client.client_id);
                Ok(())
            }
        })
        .authorize_publish({
            let fault = publish.clone();
            move |client, _| {
                fault.strike(&client.client_id);
                PublishVerdict::Allow
            }
        })
        .authorize_subscribe({
            let fault = subscribe.clone();
            move |client, _, _| {
                fault.strike(&client.client_id);
                SubscribeVerdict::Allow
            }
        })
        .authorize_forward({
            let fault = forward.clone();
            move |client, _| {
                fault.strike(&client.client_id);
                ForwardVerdict::Allow
            }
        })
        .published({
            let fault = published.clone();
            move |client, _| {
                if let Some(client) = client {
                    fault.strike(&client.client_id);
                }
            }
        });
    let embedded = Embedded::with_hooks(script);
    let mut other = embedded.v5("other");
    other.subscribe("other", 1);
    for version in Version::ALL {
        let persistent = Connect::persistent(version, "victim");
        let mut victim = embedded.connect(persistent.clone());
        victim.subscribe("t", 1);
        for fault in [&publish, &published, &subscribe, &forward] {
            fault.set(true);
            if std::ptr::eq(fault, &subscribe) {
                victim.send(Subscribe::new(1).filter("u", 1));
            } else if std::ptr::eq(fault, &forward) {
                embedded.publish("t", "forwarded again", 1);
            } else {
                victim.send(Publish::new("other", "x"));
            }
            victim.expect_closed();
            fault.set(false);
            victim = embedded.connect(persistent.clone().clean(false));
            assert!(victim.connack.session_present || version == Version::V31);
            if std::ptr::eq(fault, &forward) {
                victim.expect_message("t", "forwarded again");
            }
            if std::ptr::eq(fault, &published) {
                other.expect_message("other", "x");
            }
            embedded.publish("t", "still subscribed", 1);
            victim.expect_message("t", "still subscribed");
            victim.ping();
        }
        victim.disconnect();
        for fault in [&connect, &authenticate] {
            fault.set(true);
            embedded.begin_connect(persistent.clone().clean(false)).expect_closed();
            fault.set(false);
        }
        // Asked again for its subscriptions.
        subscribe.set(true);
        embedded.begin_connect(persistent.clone().clean(false)).expect_closed();
        subscribe.set(false);
        let mut victim = embedded.connect(persistent.clean(false));
        embedded.publish("t", "still subscribed", 1);
        victim.expect_message("t", "still subscribed");
        victim.disconnect();
        embedded.connect(Connect::new(version, "victim")).disconnect();
        other.ping();
    }
    assert_eq!(embedded.broker.connected_clients(), 1);
    embedded.wait(embedded.broker.shutdown());
    other.expect_disconnect(code::SERVER_SHUTTING_DOWN);
}

/// The will of a client whose hook panics is published like any other.
#[test]
fn a_panic_publishes_the_will() {
    let script = Script::new().authorize_subscribe(|client, _, _| {
        assert_ne!(&*client.client_id, "victim", "the hook panics, as the test wants it");
        SubscribeVerdict::Allow
    });
    let embedded = Embedded::with_hooks(script);
    let mut watcher = embedded.v5("watcher");
    watcher.subscribe("will", 1);
    let mut victim = embedded.connect(Connect::v5("victim").will(Will::new("will", "x").qos(1)));
    victim.send(Subscribe::new(1).filter("t", 1));
    victim.expect_closed();
    watcher.expect_message("will", "x");
}

/// A message that was routed before `published` panicked is not routed again when its QoS 2 publisher sends it again
/// [MQTT-4.3.3-10].
#[test]
fn a_panic_in_published_does_not_duplicate() {
    let fault = Fault::default();
    fault.set(true);
    let script = Script::new().published({
        let fault = fault.clone();
        move |client, _| fault.strike(client.map_or("", |client| &client.client_id))
    });
    let embedded = Embedded::with_hooks(script);
    let mut subscriber = embedded.v5("subscriber");
    subscriber.subscribe("t", 2);
    for version in Version::ALL {
        let connect = Connect::persistent(version, "victim");
        let mut victim = embedded.connect(connect.clone());
        fault.set(true);
        victim.send(Publish::new("t", "once").qos(2, 5));
        victim.expect_closed();
        fault.set(false);
        let mut victim = embedded.connect(connect.clean(false));
        victim.send(Publish::new("t", "once").qos(2, 5).dup());
        assert_eq!(victim.recv_pubrec(), Ack::new(5));
        subscriber.expect_message("t", "once");
        subscriber.assert_nothing_from(&mut victim);
        victim.disconnect();
        embedded.connect(Connect::new(version, "victim")).disconnect();
    }
}

/// A connection in a hook keeps its session until the hook has returned: a takeover waits for it, and then has
/// everything.
#[test]
fn takeover_waits_for_the_hook() {
    let gate = Gate::default();
    let script = Script::new()
        .authorize_publish(|_, _| PublishVerdict::Allow)
        .gate("authorize_publish", &gate);
    let embedded = Embedded::with_hooks(script);
    for version in Version::ALL {
        let connect = Connect::persistent(version, "client");
        let mut older = embedded.connect(connect.clone());
        older.subscribe("t", 1);
        older.send(Publish::new("t", "of the older connection").qos(1, 1));
        gate.wait_for_arrival(&embedded);
        let mut newer = embedded.begin_connect(connect.clone().clean(false));
        // This one gives up waiting.
        let abandoned = embedded.open_pipe(version, 1024, mqtt_broker::Peer::default());
        abandoned.cancel();
        gate.let_one_pass();
        assert!(newer.recv_connack().session_present || version == Version::V31);
        newer.expect_message("t", "of the older connection");
        newer.disconnect();
        embedded.connect(Connect::new(version, "client")).disconnect();
    }
}

/// A connection that claims a session and is dropped while it waits leaves the session where it is.
#[test]
fn an_abandoned_claim() {
    let gate = Gate::default();
    let script = Script::new()
        .authorize_publish(|_, _| PublishVerdict::Allow)
        .gate("authorize_publish", &gate);
    let embedded = Embedded::with_hooks(script);
    let connect = Connect::persistent(Version::V5, "client");
    let mut older = embedded.connect(connect.clone());
    older.subscribe("t", 1);
    older.send(Publish::new("t", "x").qos(1, 1));
    gate.wait_for_arrival(&embedded);
    let mut events = embedded.broker.events();
    let mut claimant = embedded.open_pipe(Version::V5, 1024, mqtt_broker::Peer::default());
    claimant.send(connect.clone().clean(false));
    // Another connection of the same thread pool gets an answer: the claim has been made by then, or will be refused
    // nothing that matters here.
    embedded.v5("other").ping();
    claimant.cancel();
    gate.let_one_pass();
    embedded.find_event(&mut events, |event| match event {
        mqtt_broker::Event::Disconnected { client, .. } if &*client.client_id == "client" => Some(()),
        mqtt_broker::Event::Acknowledged { client, .. } if &*client.client_id == "client" => Some(()),
        mqtt_broker::Event::Published { .. } => Some(()),
        _ => None,
    });
    drop(older);
    let mut again = embedded.connect(connect.clean(false));
    assert!(again.connack.session_present);
    again.expect_message("t", "x");
}

/// A refusal by a hook is not a panic: the connection goes on.
#[test]
fn refusals_cost_nothing() {
    let script = Script::new()
        .authorize_publish(|_, _| PublishVerdict::Refuse(ReasonCode::NotAuthorized))
        .authorize_subscribe(|_, _, _| SubscribeVerdict::Refuse(ReasonCode::NotAuthorized));
    let embedded = Embedded::with_hooks(script);
    for version in [Version::V311, Version::V5] {
        let mut client = embedded.connect(Connect::new(version, "client"));
        for qos in 0..3 {
            client.send(Publish::new("t", "x").qos(qos, 5));
        }
        client.recv_puback();
        client.recv_pubrec();
        assert!(client.try_subscribe("t", 1) >= 0x80);
        client.ping();
    }
}
