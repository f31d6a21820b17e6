//! `authorize_forward`.

use mqtt_broker::{ForwardVerdict, NewMessage};

use crate::common::*;
use crate::harness::{Embedded, Gate, Notes, Script, message};

/// Discards `secret` for all but `ann`, and rewrites `greeting` for each recipient.
fn rules() -> Script {
    Script::new().authorize_forward(|client, message| match message.payload() {
        b"secret" if &*client.client_id != "ann" => ForwardVerdict::Discard,
        b"greeting" => {
            let payload = format!("hello {}", client.client_id);
            ForwardVerdict::Rewrite(NewMessage::from(message).payload(payload))
        }
        _ => ForwardVerdict::Allow,
    })
}

/// Each recipient is decided on by itself, at every QoS.
#[test]
fn per_recipient() {
    let embedded = Embedded::with_hooks(rules());
    for version in Version::ALL {
        let [mut ann, mut bob] = ["ann", "bob"].map(|name| {
            let mut client = embedded.connect(Connect::new(version, name));
            client.subscribe("t/#", 2);
            client
        });
        for qos in 0..3 {
            for payload in ["secret", "greeting", "plain"] {
                embedded.publish("t/a", payload, qos);
            }
            for payload in ["secret", "hello ann", "plain"] {
                assert_eq!(ann.expect_message("t/a", payload).qos, qos);
            }
            for payload in ["hello bob", "plain"] {
                assert_eq!(bob.expect_message("t/a", payload).qos, qos);
            }
        }
        embedded.assert_nothing_for(&mut bob);
        [ann, bob].iter_mut().for_each(Client::disconnect);
    }
}

/// Retained messages too.
#[test]
fn retained_messages() {
    let embedded = Embedded::with_hooks(rules());
    for (topic, payload) in [("r/a", "secret"), ("r/b", "greeting"), ("r/c", "plain")] {
        embedded.publish_message(message(topic, payload, 1).retain(true));
    }
    for version in Version::ALL {
        for (name, expected) in [
            ("ann", vec![("r/a", "secret"), ("r/b", "hello ann"), ("r/c", "plain")]),
            ("bob", vec![("r/b", "hello bob"), ("r/c", "plain")]),
        ] {
            let mut client = embedded.connect(Connect::new(version, name));
            client.subscribe("r/#", 1);
            let mut seen: Vec<(String, String)> = (0..expected.len())
                .map(|_| client.message())
                .map(|message| {
                    assert!(message.retain && message.qos == 1, "{message:?}");
                    (message.topic.clone(), message.text().to_owned())
                })
                .collect();
            seen.sort();
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .collect();
            assert_eq!(seen, expected);
            embedded.assert_nothing_for(&mut client);
            client.disconnect();
        }
    }
}

/// A rewritten message has the topic, payload and properties of the hook, and the QoS and RETAIN flag of the delivery.
#[test]
fn rewrite_everything() {
    let script = Script::new().authorize_forward(|_, message| match message.topic() {
        "t" => {
            let other = NewMessage::new("other", "payload").expect("a Topic Name");
            ForwardVerdict::Rewrite(other.qos(mqtt_broker::QoS::ExactlyOnce).retain(true))
        }
        _ => ForwardVerdict::Allow,
    });
    let embedded = Embedded::with_hooks(script);
    let mut client = embedded.v5("client");
    client.subscribe("t", 1);
    let sent = Publish::new("t", "original")
        .prop(Prop::user("a", "b"))
        .prop(Prop::MessageExpiry(60));
    for qos in 0..3 {
        embedded.v5("publisher").publish_packet(sent.clone().qos(qos, 0));
        let received = client.expect_message("other", "payload");
        assert_eq!(
            (received.qos, received.retain, received.props),
            (qos.min(1), false, Props::default())
        );
    }
}

/// What is discarded takes no place in the client's window, nor for ever one in its queue.
#[test]
fn discards_leave_nothing_behind() {
    let script = Script::new().authorize_forward(|_, message| match message.payload() {
        b"no" => ForwardVerdict::Discard,
        _ => ForwardVerdict::Allow,
    });
    let mut config = crate::harness::config();
    config.max_queued_messages = 20;
    config.max_queued_bytes = 20_000;
    let embedded = Embedded::launch(config, Some(script));
    let mut publisher = embedded.v5("publisher");
    for version in Version::ALL {
        let connect = Connect::new(version, "client");
        let mut client = embedded.connect(if version.is_v5() {
            connect.prop(Prop::ReceiveMaximum(1))
        } else {
            connect
        });
        client.subscribe("t", 2);
        for round in 0..10 {
            // Fewer than the queue holds, should the client's connection not run meanwhile.
            for _ in 0..5 {
                publisher.publish("t", "no", 1 + round % 2);
                publisher.publish_packet(Publish::new("t", vec![0; 1000]).prop(Prop::MessageExpiry(0)).qos(1, 0));
            }
            embedded.publish("t", round.to_string(), 1 + round % 2);
            client.expect_message("t", round.to_string());
        }
        client.disconnect();
    }
}

/// While the hook is asked the message is in the session: if the connection ends meanwhile, for whatever reason, it is
/// delivered on the next one, once, and with those behind it in order [MQTT-4.4.0-1] [MQTT3-4.4.0-1].
#[test]
fn nothing_is_lost_while_the_hook_is_asked() {
    for qos in 1..3 {
        for version in Version::ALL {
            for cancel in [false, true] {
                let gate = Gate::default();
                let embedded = Embedded::with_hooks(rules().gate("authorize_forward", &gate));
                let connect = Connect::persistent(version, "ann");
                let mut pipe = embedded.pipe(connect.clone(), 4096);
                pipe.send(Subscribe::new(1).filter("t", qos));
                assert!(matches!(pipe.recv(), Packet::Suback(_)));
                let mut publisher = embedded.v5("publisher");
                for number in 0..5 {
                    publisher.publish("t", number.to_string(), qos);
                }
                gate.wait_for_arrival(&embedded);
                gate.let_one_pass();
                // The second message: the first is in flight, the others wait.
                gate.wait_for_arrival(&embedded);
                if cancel {
                    drop(pipe.cancel());
                    gate.open();
                } else {
                    gate.open();
                    pipe.hang_up();
                }
                let mut client = embedded.connect(connect.clean(false));
                let messages = client.take(5);
                let texts: Vec<&str> = messages.iter().map(Publish::text).collect();
                assert_eq!(
                    texts,
                    ["0", "1", "2", "3", "4"],
                    "QoS {qos} {version:?} cancelled: {cancel}"
                );
                embedded.assert_nothing_for(&mut client);
            }
        }
    }
}

/// The same for retained messages.
#[test]
fn no_retained_message_is_lost_while_the_hook_is_asked() {
    for qos in 1..3 {
        let gate = Gate::default();
        let embedded = Embedded::with_hooks(rules().gate("authorize_forward", &gate));
        for number in 0..100 {
            embedded.publish_message(message(&format!("r/{number:02}"), "x", qos).retain(true));
        }
        let connect = Connect::persistent(Version::V5, "ann");
        let mut pipe = embedded.pipe(connect.clone(), 4096);
        pipe.send(Subscribe::new(1).filter("r/+", qos));
        for _ in 0..70 {
            gate.wait_for_arrival(&embedded);
            gate.let_one_pass();
        }
        gate.wait_for_arrival(&embedded);
        drop(pipe.cancel());
        gate.open();
        let mut client = embedded.connect(connect.clean(false));
        let mut topics: Vec<String> = client.take(100).into_iter().map(|message| message.topic).collect();
        topics.sort();
        topics.dedup();
        assert_eq!(topics.len(), 100);
        embedded.assert_nothing_for(&mut client);
    }
}

/// A hook that keeps one recipient waiting keeps nobody else waiting, and not that client's publisher.
#[test]
fn others_do_not_wait() {
    let gate = Gate::default();
    let notes = Notes::default();
    let waiting = gate.clone();
    struct OnlyAnn(Gate, Notes);
    #[mqtt_broker::async_trait]
    impl mqtt_broker::Hooks for OnlyAnn {
        async fn authorize_forward(
            &self,
            client: &mqtt_broker::ClientInfo,
            message: &mqtt_broker::Message,
        ) -> ForwardVerdict {
            if &*client.client_id == "ann" {
                self.0.pass().await;
                self.1.add(message.topic());
            }
            ForwardVerdict::Allow
        }
    }
    let embedded = Embedded::with_hooks(OnlyAnn(waiting, notes.clone()));
    let [mut ann, mut bob] = ["ann", "bob"].map(|name| {
        let mut client = embedded.v5(name);
        client.subscribe("t", 1);
        client
    });
    let mut publisher = embedded.v5("publisher");
    for number in 0..50 {
        publisher.publish("t", number.to_string(), 1);
        bob.expect_message("t", number.to_string());
    }
    gate.wait_for_arrival(&embedded);
    assert!(notes.take().is_empty());
    gate.open();
    (0..50).for_each(|number| drop(ann.expect_message("t", number.to_string())));
    assert_eq!(notes.take().len(), 50, "once for each");
}
