//! `authorize_publish` and `published`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use mqtt_broker::{NewMessage, PublishVerdict, ReasonCode};
use tokio::runtime;

use crate::common::*;
use crate::harness::{Embedded, Gate, Notes, Script, config, level};

/// Refuses topics under `no/`.
fn refusing() -> Script {
    Script::new().authorize_publish(|_, request| match request.topic().starts_with("no/") {
        true => PublishVerdict::Refuse(ReasonCode::NotAuthorized),
        false => PublishVerdict::Allow,
    })
}

/// What is allowed goes on as it is.
#[test]
fn allow() {
    let embedded = Embedded::with_hooks(refusing());
    for version in Version::ALL {
        let mut subscriber = embedded.connect(Connect::new(version, "subscriber"));
        subscriber.subscribe("#", 2);
        let mut publisher = embedded.connect(Connect::new(version, "publisher"));
        for qos in 0..3 {
            publisher.publish("yes/a", format!("at {qos}"), qos);
            assert_eq!(subscriber.expect_message("yes/a", format!("at {qos}")).qos, qos);
        }
        subscriber.disconnect();
    }
}

/// What is refused reaches nobody and is not retained. MQTT 5.0 is told in PUBACK [MQTT-3.4.2-1] or PUBREC
/// [MQTT-3.5.2-1]; MQTT 3 gets a positive acknowledgement [MQTT3-3.3.5-2].
#[test]
fn refuse() {
    let embedded = Embedded::with_hooks(refusing());
    let mut subscriber = embedded.v5("subscriber");
    subscriber.subscribe("#", 2);
    for version in Version::ALL {
        let mut publisher = embedded.connect(Connect::new(version, "publisher"));
        let reason = if version.is_v5() { code::NOT_AUTHORIZED } else { 0 };
        publisher.send(Publish::new("no/a", "x").retain());
        publisher.ping();
        publisher.send(Publish::new("no/a", "x").retain().qos(1, 1));
        assert_eq!(publisher.recv_puback(), Ack::with(1, reason));
        publisher.send(Publish::new("no/a", "x").retain().qos(2, 2));
        assert_eq!(publisher.recv_pubrec(), Ack::with(2, reason));
        if !version.is_v5() {
            publisher.send(Packet::Pubrel(Ack::new(2)));
            assert_eq!(publisher.recv_pubcomp(), Ack::new(2));
        }
        subscriber.assert_nothing_from(&mut publisher);
        let mut late = embedded.v5("late");
        late.subscribe("no/#", 0);
        late.assert_silent_until_ping();
    }
}

/// After a PUBREC with an error its Packet Identifier is free for a new message [MQTT-4.3.3-9].
#[test]
fn refused_identifiers_are_free() {
    let embedded = Embedded::with_hooks(refusing());
    let mut client = embedded.v5("client");
    client.subscribe("yes/#", 0);
    client.send(Publish::new("no/a", "x").qos(2, 7));
    assert_eq!(client.recv_pubrec(), Ack::with(7, code::NOT_AUTHORIZED));
    client.send(Publish::new("yes/a", "new").qos(2, 7));
    let mut seen = [client.recv(), client.recv()];
    seen.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
    assert!(
        matches!(&seen[0], Packet::Pubrec(ack) if *ack == Ack::new(7)),
        "{seen:?}"
    );
    assert!(
        matches!(&seen[1], Packet::Publish(publish) if publish.text() == "new"),
        "{seen:?}"
    );
}

/// The code of the hook is sent if the packet may carry it, and an error in any case [MQTT-3.4.2-1].
#[test]
fn codes_of_a_refusal() {
    let script = Script::new().authorize_publish(|_, request| {
        let value = request.payload()[0];
        PublishVerdict::Refuse(ReasonCode::from_u8(value).expect("a Reason Code"))
    });
    let embedded = Embedded::with_hooks(script);
    let mut client = embedded.v5("client");
    for (answer, sent) in [
        (0x97, 0x97),
        (0x90, 0x90),
        (0x99, 0x99),
        (0x80, 0x80),
        (0x8A, 0x80),
        (0x10, 0x87),
    ] {
        for qos in 1..3 {
            client.send(Publish::new("t", [answer]).qos(qos, 1));
            let ack = if qos == 1 {
                client.recv_puback()
            } else {
                client.recv_pubrec()
            };
            assert_eq!(ack.reason, sent);
        }
    }
}

/// Another message in its place: the receivers get that, the publisher its own acknowledgement [MQTT-4.3.2-4].
#[test]
fn rewrite() {
    let script = Script::new().authorize_publish(|client, request| {
        let topic = format!("by/{}/{}", client.client_id, request.topic());
        let message = match request.payload() {
            b"all" => NewMessage::new(topic, "other").map(|message| message.qos(level(2)).retain(true)),
            _ => request.to_message().topic(topic),
        };
        PublishVerdict::Rewrite(message.expect("a Topic Name"))
    });
    let embedded = Embedded::with_hooks(script);
    let mut subscriber = embedded.v5("subscriber");
    subscriber.subscribe("by/#", 2 | Subscribe::RETAIN_AS_PUBLISHED);
    for version in Version::ALL {
        let mut publisher = embedded.connect(Connect::new(version, "ann"));
        for qos in 0..3 {
            publisher.publish_packet(Publish::new("t", "kept").qos(qos, 0));
            let received = subscriber.expect_message("by/ann/t", "kept");
            assert_eq!((received.qos, received.retain), (qos, false));
            publisher.publish_packet(Publish::new("t", "all").qos(qos, 0));
            let received = subscriber.expect_message("by/ann/t", "other");
            assert_eq!((received.qos, received.retain), (2, true), "as the hook has it");
        }
        publisher.disconnect();
    }
    let mut publisher = embedded.v5("bob");
    let whole = Publish::new("t", "whole")
        .retain()
        .prop(Prop::user("b", "1"))
        .prop(Prop::MessageExpiry(100))
        .prop(Prop::ContentType("c".into()))
        .prop(Prop::user("a", "2"));
    publisher.publish_packet(whole.qos(2, 0));
    let received = subscriber.expect_message("by/bob/t", "whole");
    assert_eq!((received.qos, received.retain), (2, true));
    assert_eq!(received.props.users(), [("b", "1"), ("a", "2")]);
    assert_eq!(received.props.content_type().as_deref(), Some("c"));
    assert!(
        received
            .props
            .message_expiry()
            .is_some_and(|seconds| (90..=100).contains(&seconds))
    );
}

/// Wills are asked about when they are due: allowed, rewritten or refused [MQTT-3.1.2-8] [MQTT3-3.1.2-8]; also when
/// their delay has passed.
#[test]
fn wills() {
    let script = Script::new().authorize_publish(|client, request| {
        assert!(request.is_will() && &*client.client_id == "mortal", "{request:?}");
        match request.payload() {
            b"no" => PublishVerdict::Refuse(ReasonCode::NotAuthorized),
            b"rewrite" => PublishVerdict::Rewrite(request.to_message().payload("rewritten")),
            _ => PublishVerdict::Allow,
        }
    });
    let embedded = Embedded::with_hooks(script);
    let mut subscription = embedded.subscribe("will/#", 2);
    for version in Version::ALL {
        for (payload, published) in [("no", None), ("rewrite", Some("rewritten")), ("yes", Some("yes"))] {
            embedded
                .connect(Connect::new(version, "mortal").will(Will::new("will/a", payload).qos(1)))
                .kill();
            if let Some(published) = published {
                embedded.expect_next(&mut subscription, "will/a", published);
            }
        }
    }
    let will = Will::new("will/late", "rewrite").delay(1);
    embedded.connect(Connect::v5("mortal").expiry(60).will(will)).kill();
    embedded.expect_next(&mut subscription, "will/late", "rewritten");
}

/// While the hook is asked, only that publisher waits: what it has sent before is delivered and acknowledged, and
/// others go on.
#[test]
fn waiting_for_the_hook() {
    let gate = Gate::default();
    let embedded = Embedded::with_hooks(refusing().gate("authorize_publish", &gate));
    let mut subscriber = embedded.v5("subscriber");
    subscriber.subscribe("#", 1);
    let mut publisher = embedded.v5("publisher");
    publisher.send(Publish::new("t", "first").qos(1, 1));
    publisher.send(Publish::new("t", "second").qos(1, 2));
    publisher.send(Packet::Pingreq);
    gate.wait_for_arrival(&embedded);
    embedded.publish("t", "of the program", 1);
    subscriber.expect_message("t", "of the program");
    gate.let_one_pass();
    subscriber.expect_message("t", "first");
    gate.wait_for_arrival(&embedded);
    gate.let_one_pass();
    subscriber.expect_message("t", "second");
    assert_eq!((publisher.recv_puback().id, publisher.recv_puback().id), (1, 2));
    assert_eq!(publisher.recv(), Packet::Pingresp);
}

/// A QoS 2 message that is sent again is not asked about again, nor delivered again [MQTT-4.3.3-10].
#[test]
fn retransmission_is_not_asked_about() {
    let notes = Notes::default();
    let asked = notes.clone();
    let script = Script::new().authorize_publish(move |_, request| {
        asked.add(request.topic());
        PublishVerdict::Allow
    });
    let embedded = Embedded::with_hooks(script);
    let mut subscriber = embedded.v5("subscriber");
    subscriber.subscribe("t", 2);
    for version in Version::ALL {
        let connect = Connect::persistent(version, "publisher");
        let mut publisher = embedded.connect(connect.clone());
        publisher.send(Publish::new("t", "x").qos(2, 9));
        assert_eq!(publisher.recv_pubrec(), Ack::new(9));
        publisher.kill();
        let mut publisher = embedded.connect(connect.clean(false));
        publisher.send(Publish::new("t", "x").qos(2, 9).dup());
        assert_eq!(publisher.recv_pubrec(), Ack::new(9));
        subscriber.expect_message("t", "x");
        assert_eq!(notes.take(), ["t"]);
        subscriber.assert_nothing_from(&mut publisher);
        notes.take();
        publisher.disconnect();
        embedded.connect(Connect::new(version, "publisher")).disconnect();
    }
}

/// `published` is told of every message that was routed: by whom, with what a hook has made of it, and whether it is
/// a will; not of those that were refused, nor of the broker's own.
#[test]
fn published() {
    let notes = Notes::default();
    let told = notes.clone();
    let script = Script::new()
        .authorize_publish(|_, request| match request.payload() {
            b"no" => PublishVerdict::Refuse(ReasonCode::NotAuthorized),
            b"rewrite" => PublishVerdict::Rewrite(request.to_message().payload("rewritten")),
            _ => PublishVerdict::Allow,
        })
        .published(move |client, request| {
            let payload = String::from_utf8_lossy(request.payload());
            let client = client.map_or("program", |client| &client.client_id);
            let facts = (request.qos() as u8, request.retain(), request.is_will());
            told.add(format!("{client} {}={payload} {facts:?}", request.topic()));
        });
    let mut config = crate::harness::config();
    config.sys_interval = Some(std::time::Duration::from_millis(10));
    config.aedes_sys_topics = true;
    let embedded = Embedded::launch(config, Some(script));
    let mut subscription = embedded.subscribe("#", 1);
    for version in Version::ALL {
        let will = Will::new("will", "rewrite").qos(1);
        let mut client = embedded.connect(Connect::new(version, "ann").will(will));
        client.publish("t/0", "zero", 0);
        client.publish("t/1", "rewrite", 1);
        client.send(Publish::new("t/1", "no").qos(1, 77));
        client.recv_puback();
        client.publish_packet(Publish::new("t/2", "two").retain().qos(2, 0));
        embedded.publish("t/3", "no", 1);
        client.kill();
        while embedded.next(&mut subscription).message.topic() != "will" {}
        eventually("the hook is told of the will", || notes.len() >= 5);
        let expected = [
            "ann t/0=zero (0, false, false)",
            "ann t/1=rewritten (1, false, false)",
            "ann t/2=two (2, true, false)",
            "program t/3=no (1, false, false)",
            "ann will=rewritten (1, false, true)",
        ];
        assert_eq!(notes.take(), expected);
    }
}

/// A client whose hook answers at once lets other tasks have their turns, though a batch of its messages never waits.
#[test]
fn a_flood_through_a_hook_that_answers_at_once_lets_others_run() {
    const FLOOD: u64 = 12_000;
    let turns = Arc::new(AtomicU64::new(0));
    let (counted, seen) = (Arc::clone(&turns), Arc::new(Mutex::new(Runs::default())));
    let runs = Arc::clone(&seen);
    let script = Script::new().authorize_publish(move |_, _| {
        runs.lock().expect("not poisoned").count(counted.load(Relaxed));
        PublishVerdict::Allow
    });
    // With one thread, nobody runs unless the others let it.
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let embedded = Embedded::on(runtime.expect("a runtime"), config(), Some(script));
    embedded.runtime().spawn(async move {
        loop {
            turns.fetch_add(1, Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let mut client = embedded.pipe(Connect::v311("client"), 1 << 20);
    // Shorter than what the broker reads at a time, and in the pipe as one piece.
    let flood = Packet::from(Publish::new("t", "")).encode(Version::V311);
    client.send_bytes(&flood.repeat(FLOOD as usize));
    client.ping();
    let runs = seen.lock().expect("not poisoned");
    assert_eq!(runs.total, FLOOD);
    assert!(runs.longest <= FLOOD / 2, "{runs:?}");
}

/// Messages that came one behind the other without a turn of the other task.
#[derive(Debug, Default)]
struct Runs {
    turn: u64,
    current: u64,
    longest: u64,
    total: u64,
}

impl Runs {
    fn count(&mut self, turn: u64) {
        self.total += 1;
        self.current = if turn == self.turn { self.current + 1 } else { 1 };
        self.turn = turn;
        self.longest = self.longest.max(self.current);
    }
}
