//! `authorize_subscribe`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mqtt_broker::{ReasonCode, SubscribeVerdict, SubscriptionOptions, TopicFilter};

use crate::common::*;
use crate::harness::{Embedded, Notes, Script, level, message};

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).expect("a Topic Filter")
}

fn with_qos(options: SubscriptionOptions, qos: u8) -> SubscriptionOptions {
    let mut options = options;
    options.qos = level(qos);
    options
}

/// Refuses filters under `no/`; gives `mine/…` the client's own place, and `low/…` no more than QoS 0.
fn rules() -> Script {
    Script::new().authorize_subscribe(|client, asked, options| {
        let text = asked.filter();
        if text.starts_with("no/") {
            SubscribeVerdict::Refuse(ReasonCode::NotAuthorized)
        } else if let Some(rest) = text.strip_prefix("mine/") {
            SubscribeVerdict::Rewrite(filter(&format!("of/{}/{rest}", client.client_id)), options)
        } else if text.starts_with("low/") {
            SubscribeVerdict::Rewrite(asked.clone(), with_qos(options, 0))
        } else {
            SubscribeVerdict::Allow
        }
    })
}

/// One code for each Topic Filter, in their order [MQTT-3.9.3-1] [MQTT-3.8.4-6] [MQTT3-3.9.3-1]: what was granted
/// [MQTT-3.8.4-7], or why not [MQTT-3.9.3-2] [MQTT3-3.9.3-2]. Only granted subscriptions get messages, retained ones
/// too.
#[test]
fn allow_rewrite_refuse() {
    let embedded = Embedded::with_hooks(rules());
    for topic in ["yes/a", "no/a", "of/client/a", "of/other/a", "mine/a", "low/a"] {
        embedded.publish_message(message(topic, "retained", 2).retain(true));
    }
    for version in [Version::V311, Version::V5] {
        let mut client = embedded.connect(Connect::new(version, "client"));
        let subscribe = Subscribe::new(1)
            .filter("yes/+", 2)
            .filter("no/+", 1)
            .filter("mine/+", 1)
            .filter("low/+", 2);
        client.send(subscribe);
        let refused = if version.is_v5() {
            code::NOT_AUTHORIZED
        } else {
            code::v3::SUBACK_FAILURE
        };
        assert_eq!(client.recv_suback().codes, [2, refused, 1, 0]);
        for payload in ["retained", "live"] {
            if payload == "live" {
                for topic in ["yes/a", "no/a", "of/client/a", "of/other/a", "mine/a", "low/a"] {
                    embedded.publish(topic, payload, 2);
                }
            }
            let mut seen: Vec<(String, u8)> = client.take_as_it_comes(3, payload);
            seen.sort();
            let expected = [("low/a", 0), ("of/client/a", 1), ("yes/a", 2)];
            assert_eq!(seen, expected.map(|(topic, qos)| (topic.to_owned(), qos)), "{payload}");
        }
        embedded.assert_nothing_for(&mut client);
        client.disconnect();
    }
}

impl Client {
    /// Topic and QoS of the next messages, which have this payload.
    fn take_as_it_comes(&mut self, count: usize, payload: &str) -> Vec<(String, u8)> {
        let messages = self.take(count);
        let check = |message: Publish| {
            assert_eq!(message.text(), payload, "{message:?}");
            (message.topic, message.qos)
        };
        messages.into_iter().map(check).collect()
    }
}

/// MQTT 3.1 can't be told of a refusal: the connection is closed.
#[test]
fn refusal_in_mqtt_31() {
    let embedded = Embedded::with_hooks(rules());
    let mut client = embedded.connect(Connect::v31("client"));
    client.subscribe("yes/a", 2);
    client.send(Subscribe::new(9).filter("yes/b", 1).filter("no/a", 1));
    client.expect_closed();
}

/// The code of the hook is sent if a SUBACK may carry it, and an error in any case [MQTT-3.9.3-2].
#[test]
fn codes_of_a_refusal() {
    let script = Script::new().authorize_subscribe(|_, filter, _| {
        let value = filter.as_str().parse().expect("a number");
        SubscribeVerdict::Refuse(ReasonCode::from_u8(value).expect("a Reason Code"))
    });
    let embedded = Embedded::with_hooks(script);
    let mut client = embedded.v5("client");
    for (answer, sent) in [
        (0x87, 0x87),
        (0x8F, 0x8F),
        (0x97, 0x97),
        (0x9E, 0x9E),
        (0x8A, 0x80),
        (0, 0x87),
    ] {
        assert_eq!(client.try_subscribe(&answer.to_string(), 1), sent);
    }
}

/// The hook is told the options, and the Shared Subscription as one.
#[test]
fn requests() {
    let notes = Notes::default();
    let told = notes.clone();
    let script = Script::new().authorize_subscribe(move |client, filter, options| {
        let facts = (
            options.qos as u8,
            options.no_local,
            options.retain_as_published,
            options.retain_handling,
        );
        told.add(format!(
            "{} {} {:?} {facts:?}",
            client.client_id,
            filter.filter(),
            filter.share_name()
        ));
        SubscribeVerdict::Allow
    });
    let embedded = Embedded::with_hooks(script);
    let mut client = embedded.v5("ann");
    client.subscribe("a/#", 1 | Subscribe::NO_LOCAL | Subscribe::RETAIN_NEVER);
    client.subscribe("$share/group/b", 2 | Subscribe::RETAIN_AS_PUBLISHED);
    assert_eq!(
        notes.take(),
        [
            r#"ann a/# None (1, true, false, SendNever)"#,
            r#"ann b Some("group") (2, false, true, SendAlways)"#
        ]
    );
}

/// A session that is resumed is asked about again: what is revoked gets nothing of what is published from then on,
/// what is rewritten is as the hook has it, the rest goes on. A new session has nothing to be asked about.
#[test]
fn asked_again_for_a_resumed_session() {
    let notes = Notes::default();
    let revoked = Arc::new(AtomicBool::new(false));
    let (told, is_revoked) = (notes.clone(), Arc::clone(&revoked));
    let script = Script::new().authorize_subscribe(move |_, asked, options| {
        told.add(asked.as_str());
        match asked.as_str() {
            _ if !is_revoked.load(Ordering::SeqCst) => SubscribeVerdict::Allow,
            "revoked" | "$share/group/revoked" => SubscribeVerdict::Refuse(ReasonCode::NotAuthorized),
            "lowered" => SubscribeVerdict::Rewrite(asked.clone(), with_qos(options, 0)),
            "moved" => SubscribeVerdict::Rewrite(filter("elsewhere"), options),
            _ => SubscribeVerdict::Allow,
        }
    });
    let embedded = Embedded::with_hooks(script);
    let filters = ["kept", "revoked", "$share/group/revoked", "lowered", "moved"];
    for version in Version::ALL {
        revoked.store(false, Ordering::SeqCst);
        let connect = Connect::persistent(version, "client");
        let mut client = embedded.connect(connect.clone());
        filters.iter().for_each(|filter| client.subscribe(filter, 2));
        client.kill();
        notes.take();
        revoked.store(true, Ordering::SeqCst);
        let mut client = embedded.connect(connect.clone().clean(false));
        let mut asked = notes.take();
        asked.sort();
        let mut expected = filters.map(str::to_owned);
        expected.sort();
        assert_eq!(asked, expected);
        let published = ["revoked", "moved", "lowered", "elsewhere", "kept"];
        published.iter().for_each(|topic| embedded.publish(topic, "x", 2));
        let mut seen = client.take_as_it_comes(3, "x");
        seen.sort();
        assert_eq!(
            seen,
            [("elsewhere", 2), ("kept", 2), ("lowered", 0)].map(|(topic, qos)| (topic.to_owned(), qos))
        );
        embedded.assert_nothing_for(&mut client);
        client.kill();
        embedded.connect(Connect::new(version, "client")).disconnect();
        assert!(
            notes.take().iter().all(|asked| !filters.contains(&asked.as_str())),
            "a new session is not asked about"
        );
    }
}

/// While the session is offline its subscriptions stand as they are: nobody is there to be asked about.
#[test]
fn offline_sessions_keep_their_subscriptions() {
    let embedded = Embedded::with_hooks(rules());
    let mut client = embedded.connect(Connect::persistent(Version::V5, "client"));
    client.subscribe("mine/a", 1);
    client.disconnect();
    embedded.publish("of/client/a", "x", 1);
    embedded
        .connect(Connect::v5("client").clean(false))
        .expect_message("of/client/a", "x");
}
