//! The bytes of what is kept: entries of queues, subscriptions, wills.

use std::sync::Arc;

use crate::message::{Message, Publication};
use crate::packet::SubscriptionOptions;
use crate::store::op::{
    Lane, SubscriptionRecord, TermsRecord, options_byte, put_publication, put_terms, read_options,
    read_publication, read_terms,
};
use crate::store::{StoredDelivery, StoredMessage, StoredSubscription, StoredWill, Uid};
use crate::wire::{Malformed, Reader};

/// Elements of a list for each message of a queue: its place, its terms, and the message itself.
pub(super) const ELEMENTS: usize = 3;

/// The terms of a message of the live lane.
pub(super) fn live_terms(message: &Publication<'_>, terms: &TermsRecord<'_>) -> Vec<u8> {
    let mut bytes = size(message).to_be_bytes().to_vec();
    put_terms(&mut bytes, terms);
    bytes
}

/// The terms of a message of the lane of replays.
pub(super) fn replayed_terms(message: &Publication<'_>, before: u64, terms: &TermsRecord<'_>) -> Vec<u8> {
    let mut bytes = size(message).to_be_bytes().to_vec();
    bytes.extend_from_slice(&before.to_be_bytes());
    put_terms(&mut bytes, terms);
    bytes
}

/// For what the message counts. A packet, and so the sum, is shorter than 4 GiB.
fn size(message: &Publication<'_>) -> u32 {
    (message.topic.len() + message.properties.len() + message.payload.len()) as u32
}

pub(super) fn message_bytes(message: &Publication<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32 + size(message) as usize);
    put_publication(&mut bytes, message);
    bytes
}

pub(super) fn read_message(bytes: &[u8]) -> Result<Message, Malformed> {
    read_publication(bytes).map(|publication| Message::new(&publication))
}

/// Reads an entry of a queue.
pub(super) fn read_delivery(lane: Lane, [place, terms, message]: [&[u8]; ELEMENTS]) -> Result<StoredDelivery, Malformed> {
    let index = read_place(place)?;
    let mut terms = Reader::new(terms);
    let size = terms.u32()?;
    let before = match lane {
        Lane::Live => 0,
        Lane::Replayed => terms.u64()?,
    };
    let message = match message.is_empty() {
        true => None,
        false => {
            let publication = read_publication(message)?;
            if self::size(&publication) != size {
                return Err(Malformed("a message has not the size that is noted"));
            }
            let message = Arc::new(Message::new(&publication));
            Some(StoredMessage::new(message, &read_terms(terms.rest())?))
        }
    };
    Ok(StoredDelivery { index, before, message })
}

/// Reads a number as the scripts compare them: without anything before its first digit.
pub(super) fn read_place(text: &[u8]) -> Result<u64, Malformed> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number
        .filter(|number: &u64| number.to_string().as_bytes() == text)
        .ok_or(Malformed("a place is not a number"))
}

const IS_REPLAYED: u8 = 1;

/// What a script relies on: the byte behind the identifier is 1 while the replay lasts, and its topic follows.
pub(super) fn subscription_bytes(subscription: &SubscriptionRecord<'_>) -> Vec<u8> {
    let mut bytes = vec![options_byte(subscription.options)];
    bytes.extend_from_slice(&subscription.identifier.to_be_bytes());
    bytes.push(u8::from(subscription.replays));
    bytes
}

pub(super) fn read_subscription(filter: &str, bytes: &[u8]) -> Result<StoredSubscription, Malformed> {
    let mut reader = Reader::new(bytes);
    let options: SubscriptionOptions = read_options(reader.u8()?)?;
    let identifier = reader.u32()?;
    let replay = match reader.u8()? {
        IS_REPLAYED => Some(crate::wire::text(reader.rest())?.into()),
        0 if reader.rest().is_empty() => None,
        _ => return Err(Malformed("a subscription has an unknown state")),
    };
    Ok(StoredSubscription {
        filter: filter.into(),
        options,
        identifier,
        replay,
    })
}

/// What a script relies on: the delay is the first 4 bytes.
pub(super) fn will_bytes(
    delay_interval: u32,
    expires_in: Option<u32>,
    message: &Publication<'_>,
    client: &[u8],
) -> Vec<u8> {
    let mut bytes = delay_interval.to_be_bytes().to_vec();
    bytes.push(u8::from(expires_in.is_some()));
    bytes.extend_from_slice(&expires_in.unwrap_or_default().to_be_bytes());
    let message = message_bytes(message);
    bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&message);
    bytes.extend_from_slice(client);
    bytes
}

pub(super) fn read_will(uid: Uid, bytes: &[u8]) -> Result<StoredWill, Malformed> {
    let mut reader = Reader::new(bytes);
    let delay_interval = reader.u32()?;
    let has_expiry = reader.u8()? != 0;
    let expiry = reader.u32()?;
    let length = reader.u32()? as usize;
    Ok(StoredWill {
        uid,
        delay_interval,
        expires_in: has_expiry.then_some(expiry),
        message: read_message(reader.bytes(length)?)?,
        client: reader.rest().into(),
    })
}
