//! `on_connect` and `authenticate`.

use std::time::Duration;

use mqtt_broker::{Interests, PublishVerdict, ReasonCode, Version as ClientVersion};

use crate::common::*;
use crate::harness::{Embedded, Gate, Notes, Script, config};

/// A refusal is told in the words of the version, with Session Present 0, and closes the connection [MQTT-3.2.2-7]
/// [MQTT-3.2.2-8] [MQTT-3.2.2-6] [MQTT-3.1.4-2] [MQTT3-3.2.2-5] [MQTT3-3.2.2-4]; where MQTT 3 has no word for it,
/// the connection is closed without a CONNACK [MQTT3-3.2.2-6].
#[test]
fn refusals() {
    // By the User Name, so that one broker does for all.
    let table = [
        (ReasonCode::BadUserNameOrPassword, 0x86, Some(4)),
        (ReasonCode::NotAuthorized, 0x87, Some(5)),
        (ReasonCode::Banned, 0x8A, Some(5)),
        (ReasonCode::ServerUnavailable, 0x88, Some(3)),
        (ReasonCode::ServerBusy, 0x89, Some(3)),
        (ReasonCode::ClientIdentifierNotValid, 0x85, Some(2)),
        (ReasonCode::UseAnotherServer, 0x9C, Some(3)),
        (ReasonCode::PacketTooLarge, 0x95, None),
        // No error, and no code of a CONNACK.
        (ReasonCode::Success, 0x87, Some(5)),
        (ReasonCode::TopicFilterInvalid, 0x80, None),
    ];
    let answer = move |username: Option<&str>, hook: &str| {
        let (which, code) = username.and_then(|name| name.split_once(' ')).expect("hook and code");
        let found = table
            .iter()
            .find(|(reason, ..)| reason.name() == code)
            .map(|(reason, ..)| *reason);
        if which == hook {
            Err(found.expect("a code of the table"))
        } else {
            Ok(())
        }
    };
    let script = Script::new()
        .on_connect(move |request| answer(request.client.username.as_deref(), "on_connect"))
        .authenticate(move |request| answer(request.client.username.as_deref(), "authenticate"));
    let embedded = Embedded::with_hooks(script);
    for (reason, v5, v3) in table {
        for version in Version::ALL {
            for hook in ["on_connect", "authenticate"] {
                let connect = Connect::persistent(version, "client").username(&format!("{hook} {}", reason.name()));
                let expected = if version.is_v5() { Some(v5) } else { v3 };
                match expected {
                    Some(code) => assert!(!embedded.expect_refused(connect, code).session_present),
                    None => embedded.begin_connect(connect).expect_closed(),
                }
            }
        }
    }
    assert_eq!(embedded.broker.connected_clients(), 0);
}

/// The hooks are told all that the CONNECT says, `on_connect` first; after a refusal the other is not asked.
#[test]
fn requests() {
    let notes = Notes::default();
    let note = |name: &'static str| {
        let notes = notes.clone();
        move |request: &mqtt_broker::ConnectRequest<'_>| {
            let client = request.client;
            let users: Vec<_> = request.properties.user_properties().collect();
            notes.add(format!(
                "{name} {} {:?} {:?} {} {} {users:?} {}",
                client.client_id,
                client.username,
                request.password.map(String::from_utf8_lossy),
                request.clean_start,
                request.keep_alive,
                client.version == ClientVersion::V5,
            ));
            match request.password {
                Some(b"wrong") => Err(ReasonCode::BadUserNameOrPassword),
                _ => Ok(()),
            }
        }
    };
    let script = Script::new()
        .on_connect(note("on_connect"))
        .authenticate(note("authenticate"));
    let embedded = Embedded::with_hooks(script);
    let connect = Connect::v5("ann")
        .username("user")
        .password(b"secret")
        .keep_alive(7)
        .prop(Prop::user("a", "b"));
    embedded.connect(connect.clone());
    let facts = r#"ann Some("user") Some("secret") true 7 [("a", "b")] true"#;
    assert_eq!(
        notes.take(),
        [format!("on_connect {facts}"), format!("authenticate {facts}")]
    );
    embedded.expect_refused(connect.password(b"wrong"), code::BAD_USER_NAME_OR_PASSWORD);
    assert!(matches!(&notes.take()[..], [only] if only.starts_with("on_connect")));
    embedded.connect(Connect::persistent(Version::V311, "bob").keep_alive(0));
    assert_eq!(notes.take()[1], "authenticate bob None None false 0 [] false");
    let assigned = embedded
        .connect(Connect::v5(""))
        .connack
        .props
        .assigned_client_id()
        .expect("an identifier");
    assert!(notes.take()[1].starts_with(&format!("authenticate {assigned} ")));
}

/// Who is refused gets nothing done: no takeover of the client that is connected under that identifier, no end of its
/// session, no will, and what it has sent behind its CONNECT is not processed [MQTT-3.1.4-6] [MQTT3-3.1.4-5].
#[test]
fn refused_clients_change_nothing() {
    let script = Script::new().authenticate(|request| match request.password {
        Some(b"right") => Ok(()),
        _ => Err(ReasonCode::BadUserNameOrPassword),
    });
    let embedded = Embedded::with_hooks(script);
    let right = |connect: Connect| connect.username("user").password(b"right");
    let mut watcher = embedded.connect(right(Connect::v5("watcher")));
    watcher.subscribe("t", 1);
    for version in Version::ALL {
        let mut client = embedded.connect(right(Connect::new(version, "client")));
        client.subscribe("own", 1);
        let mut intruder = Client::open(embedded.addr(), version);
        let connect = Connect::new(version, "client").will(Will::new("t", "will of an intruder"));
        let mut bytes = Packet::from(connect).encode(version);
        bytes.extend(Packet::from(Publish::new("t", "behind the CONNECT")).encode(version));
        intruder.send_bytes(&bytes);
        assert_ne!(intruder.recv_connack().code, 0);
        intruder.expect_closed();
        embedded.publish("own", "still here", 1);
        client.expect_message("own", "still here");
        client.disconnect();
    }
    embedded.publish("t", "sentinel", 1);
    embedded.publish("t", "sentinel", 0);
    let mut seen = [watcher.message(), watcher.message()];
    seen.sort_by_key(|message| message.qos);
    assert!(seen.iter().all(|message| message.text() == "sentinel"), "{seen:?}");
}

/// A hook that takes longer than the connect time-out loses the client, and nothing else: no session, no will, and the
/// others are served meanwhile.
#[test]
fn slow_hooks() {
    let gate = Gate::default();
    let mut config = config();
    config.connect_timeout = Duration::from_millis(500);
    let slow = Script::new().authenticate(|_| Ok(())).gate("authenticate", &gate);
    let embedded = Embedded::launch(config, Some(slow));
    let mut subscription = embedded.subscribe("will", 1);
    let will = Will::new("will", "x");
    let mut late = embedded.begin_connect(Connect::persistent(Version::V5, "late").will(will));
    gate.wait_for_arrival(&embedded);
    late.expect_closed();
    gate.open();
    assert!(
        !embedded
            .connect(Connect::v5("late").clean(false))
            .connack
            .session_present
    );
    embedded.publish("will", "sentinel", 1);
    embedded.expect_next(&mut subscription, "will", "sentinel");
}

/// Hooks that are not among the interests are never called.
#[test]
fn interests() {
    let never = |what: &'static str| move || -> () { panic!("{what} is called") };
    let (connect, authenticate) = (never("on_connect"), never("authenticate"));
    let (publish, subscribe) = (never("authorize_publish"), never("authorize_subscribe"));
    let (forward, published) = (never("authorize_forward"), never("published"));
    let script = Script::new()
        .on_connect(move |_| {
            connect();
            Ok(())
        })
        .authenticate(move |_| {
            authenticate();
            Ok(())
        })
        .authorize_publish(move |_, _| {
            publish();
            PublishVerdict::Allow
        })
        .authorize_subscribe(move |_, _, _| {
            subscribe();
            mqtt_broker::SubscribeVerdict::Allow
        })
        .authorize_forward(move |_, _| {
            forward();
            mqtt_broker::ForwardVerdict::Allow
        })
        .published(move |_, _| published())
        .interests(Interests::NONE);
    let embedded = Embedded::with_hooks(script);
    for version in Version::ALL {
        let connect = Connect::persistent(version, "client").will(Will::new("t", "will").qos(1));
        let mut client = embedded.connect(connect.clone());
        client.subscribe("t", 2);
        embedded.publish("t", "program", 1);
        client.expect_message("t", "program");
        (0..3).for_each(|qos| {
            client.publish("other", "x", qos);
        });
        client.kill();
        let mut client = embedded.connect(connect.clean(false));
        client.expect_message("t", "will");
        client.disconnect();
        embedded.connect(Connect::new(version, "client")).disconnect();
    }
}

/// By default every hook is of interest and allows everything.
#[test]
fn defaults() {
    struct Nothing;
    impl mqtt_broker::Hooks for Nothing {}
    let embedded = Embedded::with_hooks(Nothing);
    let connect = Connect::persistent(Version::V5, "client").will(Will::new("t", "will").qos(2));
    let mut client = embedded.connect(connect.clone());
    client.subscribe("t", 2);
    embedded.publish("t", "program", 2);
    client.expect_message("t", "program");
    client.kill();
    embedded.connect(connect.clean(false)).expect_message("t", "will");
}
