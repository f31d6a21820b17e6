//! The bytes of what is kept: entries of queues, subscriptions, wills.

use std::sync::Arc;

use super::slots::crc16;
use crate::message::{Message, Publication};
use crate::store::cluster::{Incarnation, Job, Mid};
use crate::store::op::{
    Lane, SubscriptionRecord, TermsRecord, options_byte, put_publication, put_terms, read_options, read_publication,
    read_terms,
};
use crate::store::{StoredDelivery, StoredMessage, StoredSubscription, StoredWill, Uid};
use crate::wire::{Malformed, Reader, text};

/// Elements of a list for each message of a queue: its place, its terms, and the message itself.
pub(super) const ELEMENTS: usize = 3;

/// The terms of a message of the live lane. Nobody knows its place before.
pub(super) fn live_terms(message: &Publication<'_>, terms: &TermsRecord<'_>) -> Vec<u8> {
    let mut rest = Vec::new();
    put_terms(&mut rest, terms);
    terms_bytes(size(message), &rest)
}

/// Appends [`live_terms`] without a place.
pub(super) fn put_live_terms(to: &mut Vec<u8>, message: &Publication<'_>, terms: &TermsRecord<'_>) {
    to.extend_from_slice(&size(message).to_be_bytes());
    let begun = to.len();
    to.extend_from_slice(&[0; 2]);
    put_terms(to, terms);
    let checksum = sum(&[&to[begun + 2..]]);
    to[begun..begun + 2].copy_from_slice(&checksum);
}

/// The terms of a message of the lane of replays.
pub(super) fn replayed_terms(message: &Publication<'_>, before: u64, terms: &TermsRecord<'_>) -> Vec<u8> {
    let mut rest = before.to_be_bytes().to_vec();
    put_terms(&mut rest, terms);
    terms_bytes(size(message), &rest)
}

/// The terms of a place that never had a message.
pub(super) fn no_terms(lane: Lane) -> Vec<u8> {
    match lane {
        Lane::Live => terms_bytes(0, &[]),
        Lane::Replayed => terms_bytes(0, &0_u64.to_be_bytes()),
    }
}

/// What scripts rely on: the size is the first 4 bytes. They set it to 0 when the message is released; so it is not in the
/// checksum.
fn terms_bytes(size: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = size.to_be_bytes().to_vec();
    bytes.extend_from_slice(&sum(&[rest]));
    bytes.extend_from_slice(rest);
    bytes
}

/// Reads what [`live_terms`] has made.
pub(super) fn read_live_terms(bytes: &[u8]) -> Result<TermsRecord<'_>, Malformed> {
    let (_, terms) = bytes.split_first_chunk::<4>().ok_or(WRONG)?;
    read_terms(summed(terms, &[])?)
}

/// For what the message counts. A packet, and so the sum, is shorter than 4 GiB.
fn size(message: &Publication<'_>) -> u32 {
    (message.topic.len() + message.properties.len() + message.payload.len()) as u32
}

pub(super) fn message_bytes(message: &Publication<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32 + size(message) as usize);
    put_message(&mut bytes, message);
    bytes
}

/// Appends [`message_bytes`].
pub(super) fn put_message(to: &mut Vec<u8>, message: &Publication<'_>) {
    let begun = to.len();
    put_publication(to, message);
    let checksum = crc32fast::hash(&to[begun..]);
    to.extend_from_slice(&checksum.to_be_bytes());
}

/// The checksum of [`message_bytes`].
pub(super) fn message_sum(message: &Message) -> u32 {
    let mut bytes = Vec::with_capacity(32 + message.size());
    put_publication(&mut bytes, &message.as_publication());
    crc32fast::hash(&bytes)
}

pub(super) fn read_message(bytes: &[u8]) -> Result<Message, Malformed> {
    read_publication(unseal(bytes)?).map(|publication| Message::new(&publication))
}

/// With a checksum behind it.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes
}

fn unseal(bytes: &[u8]) -> Result<&[u8], Malformed> {
    match bytes.split_last_chunk::<4>() {
        Some((bytes, checksum)) if crc32fast::hash(bytes) == u32::from_be_bytes(*checksum) => Ok(bytes),
        _ => Err(WRONG),
    }
}

const WRONG: Malformed = Malformed("it is not what its checksum says");

/// A checksum of what has few bytes.
fn sum(parts: &[&[u8]]) -> [u8; 2] {
    parts.iter().fold(0, |crc, part| crc16(crc, part)).to_be_bytes()
}

fn summed<'a>(bytes: &'a [u8], also: &[&[u8]]) -> Result<&'a [u8], Malformed> {
    let Some((checksum, rest)) = bytes.split_first_chunk::<2>() else {
        return Err(WRONG);
    };
    let parts: Vec<_> = also.iter().copied().chain([rest]).collect();
    match sum(&parts) == *checksum {
        true => Ok(rest),
        false => Err(WRONG),
    }
}

/// Reads an entry of a queue.
pub(super) fn read_delivery(
    lane: Lane,
    [place, terms, message]: [&[u8]; ELEMENTS],
) -> Result<StoredDelivery, Malformed> {
    let index = read_place(place)?;
    let (size, terms) = terms.split_first_chunk::<4>().ok_or(WRONG)?;
    let mut terms = Reader::new(summed(terms, &[])?);
    let before = match lane {
        Lane::Live => 0,
        Lane::Replayed => terms.u64()?,
    };
    let message = match message.is_empty() {
        true => None,
        false => {
            let publication = read_publication(unseal(message)?)?;
            if self::size(&publication) != u32::from_be_bytes(*size) {
                return Err(Malformed("a message has not the size that is noted"));
            }
            let message = Arc::new(Message::new(&publication));
            Some(StoredMessage::new(message, &read_terms(terms.rest())?))
        }
    };
    if message.is_none() && *size != [0; 4] {
        return Err(Malformed("a place without a message has a size"));
    }
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

/// What scripts rely on: byte 8 is 1 while the replay lasts, and [how far it has come](cursor_bytes) follows.
pub(super) fn subscription_bytes(subscription: &SubscriptionRecord<'_>) -> Vec<u8> {
    let options = [options_byte(subscription.options)];
    let identifier = subscription.identifier.to_be_bytes();
    let checksum = sum(&[subscription.filter.as_bytes(), &options, &identifier]);
    [&checksum[..], &options, &identifier, &[u8::from(subscription.replays)]].concat()
}

/// The topic to which a replay has come.
pub(super) fn cursor_bytes(topic: &str) -> Vec<u8> {
    [&sum(&[topic.as_bytes()])[..], topic.as_bytes()].concat()
}

pub(super) fn read_subscription(filter: &str, bytes: &[u8]) -> Result<StoredSubscription, Malformed> {
    let (fixed, rest) = bytes.split_first_chunk::<7>().ok_or(WRONG)?;
    let mut reader = Reader::new(summed(fixed, &[filter.as_bytes()])?);
    let replay = match rest {
        [0] => None,
        [IS_REPLAYED] => Some(Box::default()),
        [IS_REPLAYED, cursor @ ..] => Some(text(summed(cursor, &[])?)?.into()),
        _ => return Err(Malformed("a subscription has an unknown state")),
    };
    Ok(StoredSubscription {
        filter: filter.into(),
        options: read_options(reader.u8()?)?,
        identifier: reader.u32()?,
        replay,
    })
}

/// Bytes of what is the value of a received Packet Identifier if its message has been published.
pub(super) const RECEIVED: usize = 2;

/// The value of a received Packet Identifier, beside its name.
pub(super) fn received_bytes(packet_id: u16) -> [u8; RECEIVED] {
    sum(&[&packet_id.to_be_bytes()])
}

/// The value is the message, or a checksum if that has been published.
pub(super) fn read_received(packet_id: &[u8], bytes: &[u8]) -> Result<u16, Malformed> {
    let packet_id = read_place(packet_id)?;
    let packet_id = u16::try_from(packet_id).map_err(|_| Malformed("a Packet Identifier out of range"))?;
    match *bytes == received_bytes(packet_id) || read_message(bytes).is_ok() {
        true => Ok(packet_id),
        false => Err(WRONG),
    }
}

/// The checksum of a client's identifier, and that of the fields which [`Op::Session`](crate::store::Op) sets.
pub(super) fn record_sums(client_id: &[u8], fields: [u64; 4]) -> ([u8; 2], [u8; 2]) {
    (
        sum(&[client_id]),
        sum(&fields
            .each_ref()
            .map(|field| field.to_be_bytes())
            .each_ref()
            .map(|field| &field[..])),
    )
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
    seal(bytes)
}

pub(super) fn read_will(uid: Uid, bytes: &[u8]) -> Result<StoredWill, Malformed> {
    let mut reader = Reader::new(unseal(bytes)?);
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

const OF_WILL: u8 = 1;
const OF_MESSAGE: u8 = 2;
const JOB_HEAD: usize = 19;

/// What is before a message, or a will if nobody has published it as a session: whose job it is, and who has published it.
pub(super) fn job_head(of: Incarnation, origin: Option<Uid>) -> [u8; JOB_HEAD] {
    let mut head = [0; JOB_HEAD];
    head[2..10].copy_from_slice(&of.to_be_bytes());
    head[10] = if origin.is_some() { OF_MESSAGE } else { OF_WILL };
    head[11..].copy_from_slice(&origin.unwrap_or(0).to_be_bytes());
    let checksum = sum(&[&head[2..]]);
    head[..2].copy_from_slice(&checksum);
    head
}

pub(super) fn read_job(bucket: u8, mid: Mid, bytes: &[u8]) -> Result<Job, Malformed> {
    let (head, rest) = bytes.split_first_chunk::<JOB_HEAD>().ok_or(WRONG)?;
    let mut head = Reader::new(summed(head, &[])?);
    let (of, kind, origin) = (head.u64()?, head.u8()?, head.u64()?);
    let (will, message) = match kind {
        OF_WILL => (Some(read_will(0, rest)?), None),
        OF_MESSAGE => (None, Some(read_message(rest)?)),
        _ => return Err(Malformed("a job of an unknown kind")),
    };
    Ok(Job {
        mid,
        of,
        bucket,
        will,
        origin,
        message,
        choices: Vec::new(),
    })
}
