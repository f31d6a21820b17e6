//! Hooks of a program whose broker keeps sessions.

use std::sync::OnceLock;

use super::kept_tests::{Peer311, SUBACK, SUBSCRIBE};
use super::*;
use crate::hooks::{ForwardVerdict, Interests};
use crate::identity::ClientInfo;
use crate::message::Message;
use crate::store::{
    Batch, MemoryStore, Op, Recipient, SessionRecord, Store, TermsRecord, write_message, write_recipient,
};
use crate::time::Millis;
use async_trait::async_trait;

/// Filter `r/#`, QoS 1, Packet Identifier 1.
const SUBSCRIBE_R: &[u8] = &[0x82, 8, 0, 1, 0, 3, b'r', b'/', b'#', 1];
const SUBACK_1: &[u8] = &[0x90, 3, 0, 1, 1];

fn start(store: &Arc<MemoryStore>, hooks: impl Hooks) -> Broker {
    let broker = Broker::builder().hooks(hooks).start_with(Some(Arc::clone(store) as _));
    broker.expect("started")
}

async fn publish(broker: &Broker, topic: &str, payload: &str, retain: bool) {
    let message = NewMessage::new(topic, payload).expect("valid");
    let message = message.qos(QoS::AtLeastOnce).retain(retain);
    broker.publish(message).await.expect("published");
}

async fn all_gone(broker: &Broker) {
    while broker.connected_clients() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Publishes something that has to be kept, for each message it is asked about.
struct Echo(Arc<OnceLock<Broker>>);

#[async_trait]
impl Hooks for Echo {
    fn interests(&self) -> Interests {
        let mut interests = Interests::NONE;
        interests.authorize_forward = true;
        interests
    }

    async fn authorize_forward(&self, _client: &ClientInfo, _message: &Message) -> ForwardVerdict {
        publish(self.0.get().expect("started"), "a", "echo", false).await;
        ForwardVerdict::Allow
    }
}

/// What was written down before a hook is asked is kept without it: what the hook waits for may be kept as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_does_not_hold_up_the_store() {
    let own = Arc::new(OnceLock::new());
    let broker = start(&Arc::default(), Echo(Arc::clone(&own)));
    own.set(broker.clone()).expect("once");
    let mut other = Peer311::connect(&broker, "other", false).await;
    other.try_send(SUBSCRIBE);
    other.expect(SUBACK).await;
    drop(other);
    all_gone(&broker).await;
    for topic in ["r/1", "r/2"] {
        publish(&broker, topic, "x", true).await;
    }
    let mut client = Peer311::connect(&broker, "client", false).await;
    client.try_send(SUBSCRIBE_R);
    client.expect(SUBACK_1).await;
    // The first identifiers of retained messages.
    client.expect(b"\x33\x08\0\x03r/1\xC0\x01x").await;
    client.expect(b"\x33\x08\0\x03r/2\xC0\x02x").await;
    broker.shutdown().await;
}

/// Discards `secret`, and puts something else in the place of `private`.
struct Rules;

#[async_trait]
impl Hooks for Rules {
    fn interests(&self) -> Interests {
        let mut interests = Interests::NONE;
        interests.authorize_forward = true;
        interests
    }

    async fn authorize_forward(&self, _client: &ClientInfo, message: &Message) -> ForwardVerdict {
        match message.payload() {
            b"secret" => ForwardVerdict::Discard,
            b"private" => ForwardVerdict::Rewrite(NewMessage::from(message).payload("public")),
            _ => ForwardVerdict::Allow,
        }
    }
}

/// What a broker that was killed may have sent, and nobody was asked about or the answer is not known, is asked about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_is_asked_about_what_another_broker_may_have_sent() {
    let store = Arc::new(MemoryStore::default());
    let changes = |number, ops: &[Op<'_>]| {
        let mut bytes = Vec::new();
        ops.iter().for_each(|op| op.write(&mut bytes));
        store.commit(&Batch { number, bytes: &bytes }).expect("kept");
    };
    // A session that was connected when its broker was killed, so that its messages may have been sent.
    let record = SessionRecord {
        uid: 1,
        client_id: "client",
        expiry_interval: u32::MAX,
        away_since: None,
        unsent: 0,
        window: 10,
    };
    changes(1, &[Op::Session(record)]);
    for (index, payload) in ["secret", "private", "plain"].into_iter().enumerate() {
        let (mut recipients, mut bytes) = (Vec::new(), Vec::new());
        let terms = TermsRecord {
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: &[],
            share: None,
        };
        let index = index as u64;
        write_recipient(&mut recipients, &Recipient { uid: 1, index, terms });
        let message = NewMessage::new("a", payload).expect("valid").qos(QoS::AtLeastOnce);
        write_message(
            &mut bytes,
            1,
            &recipients,
            &message.as_publication(Millis::from_unix(1)),
        );
        let number = index + 2;
        store.commit(&Batch { number, bytes: &bytes }).expect("kept");
    }
    let broker = start(&store, Rules);
    for _ in 0..2 {
        let mut client = Peer311::open(&broker, "client", false);
        client.expect(&[0x20, 2, 1, 0]).await;
        client.expect(b"\x3A\x0B\0\x01a\0\x02public").await;
        client.expect(b"\x3A\x0A\0\x01a\0\x03plain").await;
        drop(client);
        all_gone(&broker).await;
    }
    broker.shutdown().await;
}
