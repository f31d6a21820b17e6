//! The changes that make what a line of an export describes.

use super::line::Line;
use crate::message::Publication;
use crate::packet::QoS;
use crate::store::{
    Lane, Op, Recipient, SessionRecord, StoredDelivery, StoredMessage, StoredSession, SubscriptionRecord, TermsRecord,
    Uid, write_message, write_recipient,
};

/// Appends them.
pub(super) fn write(to: &mut Vec<u8>, line: &Line) {
    match line {
        Line::Begin | Line::End(_) => {}
        Line::Session(session) => write_session(to, session),
        Line::Delivery(uid, Lane::Live, delivery) => write_live(to, *uid, delivery),
        Line::Delivery(uid, Lane::Replayed, delivery) => write_replayed(to, *uid, delivery),
        Line::Will(will) => Op::Will {
            uid: will.uid,
            delay_interval: will.delay_interval,
            expires_in: will.expires_in,
            message: will.message.as_publication(),
            client: &will.client,
        }
        .write(to),
        Line::Retained(message) => Op::Retain {
            message: message.as_publication(),
        }
        .write(to),
    }
}

fn write_session(to: &mut Vec<u8>, session: &StoredSession) {
    let uid = session.uid;
    Op::Session(SessionRecord {
        uid,
        client_id: &session.client_id,
        expiry_interval: session.expiry_interval,
        window: session.window,
        away_since: session.away_since,
        unsent: session.unsent,
    })
    .write(to);
    // What was below is finished, and places go on from where they were.
    Op::Floor {
        uid,
        index: session.live.first,
    }
    .write(to);
    for subscription in &session.subscriptions {
        Op::Subscribe {
            uid,
            subscription: SubscriptionRecord {
                filter: &subscription.filter,
                options: subscription.options,
                identifier: subscription.identifier,
                replays: subscription.replay.is_some(),
            },
        }
        .write(to);
    }
    write_cursors(to, session);
    for packet_id in &session.received {
        Op::Received {
            uid,
            packet_id: *packet_id,
        }
        .write(to);
    }
}

/// A cursor moves by a message in the lane, which is taken away at once; its place is above all others.
fn write_cursors(to: &mut Vec<u8>, session: &StoredSession) {
    let (uid, lane) = (session.uid, Lane::Replayed);
    let moved = session.subscriptions.iter().filter_map(|subscription| {
        let topic = subscription.replay.as_deref().filter(|topic| !topic.is_empty())?;
        Some((&subscription.filter, topic))
    });
    for (index, (filter, topic)) in (session.replayed.next..).zip(moved) {
        Op::Replayed {
            uid,
            index,
            before: 0,
            filter,
            terms: PLACEHOLDER,
            message: placeholder(topic),
        }
        .write(to);
        Op::Done { uid, lane, index }.write(to);
    }
}

fn write_live(to: &mut Vec<u8>, uid: Uid, delivery: &StoredDelivery) {
    let index = delivery.index;
    let Some(stored) = &delivery.message else {
        let lane = Lane::Live;
        return Op::Released { uid, lane, index }.write(to);
    };
    let (mut recipient, ids) = (Vec::new(), ids(stored));
    let terms = terms(stored, &ids);
    write_recipient(&mut recipient, &Recipient { uid, index, terms });
    write_message(to, 1, &recipient, &stored.message.as_publication());
}

/// The filter is none that a session has: no cursor moves.
fn write_replayed(to: &mut Vec<u8>, uid: Uid, delivery: &StoredDelivery) {
    let (index, before, lane) = (delivery.index, delivery.before, Lane::Replayed);
    let ids = delivery.message.as_ref().map(ids).unwrap_or_default();
    let (terms, message) = match &delivery.message {
        Some(stored) => (terms(stored, &ids), stored.message.as_publication()),
        None => (PLACEHOLDER, placeholder("released")),
    };
    Op::Replayed {
        uid,
        index,
        before,
        filter: "",
        terms,
        message,
    }
    .write(to);
    if delivery.message.is_none() {
        Op::Released { uid, lane, index }.write(to);
    }
}

fn ids(stored: &StoredMessage) -> Vec<u8> {
    stored.subscription_ids.iter().flat_map(|id| id.to_be_bytes()).collect()
}

fn terms<'a>(stored: &'a StoredMessage, ids: &'a [u8]) -> TermsRecord<'a> {
    TermsRecord {
        qos: stored.qos,
        retain: stored.retain,
        subscription_ids: ids,
        share: stored.share.as_deref(),
    }
}

const PLACEHOLDER: TermsRecord<'_> = TermsRecord {
    qos: QoS::AtLeastOnce,
    retain: true,
    subscription_ids: &[],
    share: None,
};

fn placeholder(topic: &str) -> Publication<'_> {
    Publication {
        topic,
        payload: &[],
        properties: &[],
        expires_at: None,
        qos: QoS::AtLeastOnce,
        retain: true,
    }
}
