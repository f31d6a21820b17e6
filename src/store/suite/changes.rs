//! Batches of changes, in few words.

use crate::message::Publication;
use crate::packet::{QoS, SubscriptionOptions};
use crate::store::op::{write_message, write_recipient};
use crate::store::{Lane, Op, Recipient, SessionRecord, SubscriptionRecord, TermsRecord, Uid};

/// A batch that grows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(Vec<u8>);

/// An empty batch.
pub(crate) fn changes() -> Changes {
    Changes::default()
}

/// A QoS 1 message.
pub(crate) fn publication<'a>(topic: &'a str, payload: &'a [u8]) -> Publication<'a> {
    Publication {
        topic,
        payload,
        properties: &[],
        expires_at: None,
        qos: QoS::AtLeastOnce,
        retain: false,
    }
}

/// The record of a session that is away.
pub(crate) fn record(uid: Uid, client_id: &str) -> SessionRecord<'_> {
    SessionRecord {
        uid,
        client_id,
        expiry_interval: 3600,
        window: 20,
        away_since: None,
        unsent: 0,
    }
}

/// How a message goes to a subscriber who asked for nothing special.
pub(crate) const PLAIN: TermsRecord<'_> = TermsRecord {
    qos: QoS::AtLeastOnce,
    retain: false,
    subscription_ids: &[],
    share: None,
};

/// A subscription with no options.
pub(crate) fn subscription(filter: &str) -> SubscriptionRecord<'_> {
    SubscriptionRecord {
        filter,
        options: SubscriptionOptions::default(),
        identifier: 0,
        replays: false,
    }
}

impl Changes {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn op(mut self, op: &Op<'_>) -> Changes {
        op.write(&mut self.0);
        self
    }

    pub(crate) fn record(self, record: SessionRecord<'_>) -> Changes {
        self.op(&Op::Session(record))
    }

    /// A session with the usual record.
    pub(crate) fn session(self, uid: Uid) -> Changes {
        self.record(record(uid, &format!("client {uid}")))
    }

    pub(crate) fn session_end(self, uid: Uid) -> Changes {
        self.op(&Op::SessionEnd { uid })
    }

    pub(crate) fn subscribe(self, uid: Uid, subscription: SubscriptionRecord<'_>) -> Changes {
        self.op(&Op::Subscribe { uid, subscription })
    }

    /// A subscription that retained messages are replayed for.
    pub(crate) fn replaying(self, uid: Uid, filter: &str) -> Changes {
        let replays = true;
        self.subscribe(
            uid,
            SubscriptionRecord {
                replays,
                ..subscription(filter)
            },
        )
    }

    pub(crate) fn unsubscribe(self, uid: Uid, filter: &str) -> Changes {
        self.op(&Op::Unsubscribe { uid, filter })
    }

    /// A message for these places, all with the same terms.
    pub(crate) fn send(mut self, places: &[(Uid, u64)], terms: &TermsRecord<'_>, message: &Publication<'_>) -> Changes {
        let mut recipients = Vec::new();
        for &(uid, index) in places {
            let terms = *terms;
            write_recipient(&mut recipients, &Recipient { uid, index, terms });
        }
        write_message(&mut self.0, places.len() as u32, &recipients, message);
        self
    }

    /// A message of the topic `t` for one place.
    pub(crate) fn message(self, uid: Uid, index: u64, payload: &str) -> Changes {
        self.send(&[(uid, index)], &PLAIN, &publication("t", payload.as_bytes()))
    }

    /// A retained message, put into the lane of replays before the first live one.
    pub(crate) fn replayed(self, uid: Uid, index: u64, filter: &str, topic: &str) -> Changes {
        self.op(&Op::Replayed {
            uid,
            index,
            before: 0,
            filter,
            terms: PLAIN,
            message: publication(topic, topic.as_bytes()),
        })
    }

    pub(crate) fn replay_end(self, uid: Uid, filter: &str) -> Changes {
        self.op(&Op::ReplayEnd { uid, filter })
    }

    pub(crate) fn released(self, uid: Uid, lane: Lane, index: u64) -> Changes {
        self.op(&Op::Released { uid, lane, index })
    }

    pub(crate) fn done(self, uid: Uid, lane: Lane, index: u64) -> Changes {
        self.op(&Op::Done { uid, lane, index })
    }

    pub(crate) fn floor(self, uid: Uid, index: u64) -> Changes {
        self.op(&Op::Floor { uid, index })
    }

    pub(crate) fn received(self, uid: Uid, packet_id: u16) -> Changes {
        self.op(&Op::Received { uid, packet_id })
    }

    pub(crate) fn received_end(self, uid: Uid, packet_id: u16) -> Changes {
        self.op(&Op::ReceivedEnd { uid, packet_id })
    }

    pub(crate) fn retain(self, topic: &str, payload: &[u8]) -> Changes {
        let message = publication(topic, payload);
        self.op(&Op::Retain { message })
    }

    pub(crate) fn clear(self, topic: &str) -> Changes {
        self.op(&Op::RetainClear { topic })
    }

    /// A will with the usual terms.
    pub(crate) fn will(self, uid: Uid, payload: &str) -> Changes {
        self.op(&Op::Will {
            uid,
            delay_interval: 5,
            expires_in: None,
            message: publication("will", payload.as_bytes()),
            client: b"whose",
        })
    }

    pub(crate) fn will_end(self, uid: Uid) -> Changes {
        self.op(&Op::WillEnd { uid })
    }
}
