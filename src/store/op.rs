//! The changes that a [`Store`](super::Store) keeps: their meaning, and their bytes in a [`Batch`](super::Batch).
//!
//! The bytes are those of the journal on disk, too: they must stay readable, or the version of the format must change.

use super::cluster::ClusterOp;
use crate::message::Publication;
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::time::Millis;
use crate::wire::{Malformed, Reader, put_binary};

/// Distinguishes sessions, also those of the same client one after the other; never used twice in a store.
pub(crate) type Uid = u64;

/// A queue of a session. Each counts its messages from 0, in the order of sending; Packet Identifiers follow from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Messages as they come.
    Live = 0,
    /// Retained messages that new subscriptions are sent.
    Replayed = 1,
}

/// One change. What refers to a session that is not there has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op<'a> {
    /// The session begins, or its record is replaced. Nothing else of it changes.
    Session(SessionRecord<'a>),
    /// The session ends, with its subscriptions, queues and identifiers. Its will is left.
    SessionEnd { uid: Uid },
    /// The subscription begins, or is replaced.
    Subscribe {
        uid: Uid,
        subscription: SubscriptionRecord<'a>,
    },
    /// The subscription ends.
    Unsubscribe { uid: Uid, filter: &'a str },
    /// A message is put into queues of the live lane. It is left out where a [`Floor`](Op::Floor) is above its place.
    Message {
        message: Publication<'a>,
        recipients: Recipients<'a>,
    },
    /// A retained message is put into the lane of replays, and the subscription's replay has come to its topic.
    Replayed {
        uid: Uid,
        index: u64,
        /// The place in the live lane before which it was sent.
        before: u64,
        filter: &'a str,
        terms: TermsRecord<'a>,
        message: Publication<'a>,
    },
    /// All retained messages of the subscription have been put into the lane, or sent.
    ReplayEnd { uid: Uid, filter: &'a str },
    /// PUBREC: the message is not needed any more, its place is. It is made if it is not there.
    Released { uid: Uid, lane: Lane, index: u64 },
    /// The message is finished.
    Done { uid: Uid, lane: Lane, index: u64 },
    /// All messages of the live lane below this place are finished, also those that are put there later.
    Floor { uid: Uid, index: u64 },
    /// A QoS 2 message with this Packet Identifier has been accepted from the client.
    Received { uid: Uid, packet_id: u16 },
    /// PUBREL: the Packet Identifier is free again.
    ReceivedEnd { uid: Uid, packet_id: u16 },
    /// The message is the retained one of its topic.
    Retain { message: Publication<'a> },
    /// The topic has no retained message.
    RetainClear { topic: &'a str },
    /// The client's will, whether its session is kept or not, until [`WillEnd`](Op::WillEnd).
    Will {
        uid: Uid,
        /// Will Delay Interval, in seconds.
        delay_interval: u32,
        /// Message Expiry Interval, in seconds from its publication.
        expires_in: Option<u32>,
        message: Publication<'a>,
        /// Whose it is: see `store/client.rs`.
        client: &'a [u8],
    },
    /// The will has been published, or is not wanted any more.
    WillEnd { uid: Uid },
    /// Of brokers that form a cluster; to all other stores it is nothing.
    Cluster(ClusterOp<'a>),
}

/// What is kept of a session beside its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionRecord<'a> {
    pub(crate) uid: Uid,
    pub(crate) client_id: &'a str,
    /// Seconds; 0 ends it with its connection.
    pub(crate) expiry_interval: u32,
    /// Since when the client is away; `None` while it is connected.
    pub(crate) away_since: Option<Millis>,
    /// All messages of the live lane below this place were sent.
    pub(crate) unsent: u64,
    /// Of the messages that are not finished, so many, the first ones, may have been sent as well.
    pub(crate) window: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubscriptionRecord<'a> {
    pub(crate) filter: &'a str,
    pub(crate) options: SubscriptionOptions,
    /// Subscription Identifier; 0 is none.
    pub(crate) identifier: u32,
    /// Retained messages remain to be sent.
    pub(crate) replays: bool,
}

/// How a message goes to one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TermsRecord<'a> {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Subscription Identifiers, 4 bytes each, big-endian.
    pub(crate) subscription_ids: &'a [u8],
    /// The Shared Subscription that chose the client, as a Topic Filter.
    pub(crate) share: Option<&'a str>,
}

impl TermsRecord<'_> {
    pub(crate) fn subscription_ids(&self) -> impl Iterator<Item = u32> {
        let (ids, _) = self.subscription_ids.as_chunks::<4>();
        ids.iter().map(|id| u32::from_be_bytes(*id))
    }
}

/// One queue that a message is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recipient<'a> {
    pub(crate) uid: Uid,
    pub(crate) index: u64,
    pub(crate) terms: TermsRecord<'a>,
}

/// All queues that a message is put into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recipients<'a> {
    count: u32,
    /// Checked when the op was read.
    bytes: &'a [u8],
}

impl<'a> Recipients<'a> {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    /// How many, and their bytes.
    pub(crate) fn parts(&self) -> (u32, &'a [u8]) {
        (self.count, self.bytes)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Recipient<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || recipient(&mut reader).ok())
    }
}

const SESSION: u8 = 1;
const SESSION_END: u8 = 2;
const SUBSCRIBE: u8 = 3;
const UNSUBSCRIBE: u8 = 4;
const MESSAGE: u8 = 5;
const REPLAYED: u8 = 6;
const REPLAY_END: u8 = 7;
const RELEASED: u8 = 8;
const DONE: u8 = 9;
const FLOOR: u8 = 10;
const RECEIVED: u8 = 11;
const RECEIVED_END: u8 = 12;
const RETAIN: u8 = 13;
const RETAIN_CLEAR: u8 = 14;
const WILL: u8 = 15;
const WILL_END: u8 = 16;
pub(crate) const CLUSTER: u8 = 64;

impl<'a> Op<'a> {
    /// Reads one from the front of a batch.
    pub(super) fn read(from: &mut Reader<'a>) -> Result<Op<'a>, Malformed> {
        let code = from.u8()?;
        if matches!(code, RETAIN | RETAIN_CLEAR | CLUSTER) {
            return Ok(match code {
                CLUSTER => Op::Cluster(ClusterOp::read(from)?),
                RETAIN => Op::Retain {
                    message: publication(from)?,
                },
                _ => Op::RetainClear { topic: from.string()? },
            });
        }
        let uid = from.u64()?;
        Ok(match code {
            SESSION => Op::Session(session(uid, from)?),
            SESSION_END => Op::SessionEnd { uid },
            SUBSCRIBE => Op::Subscribe {
                uid,
                subscription: subscription(from)?,
            },
            UNSUBSCRIBE => Op::Unsubscribe {
                uid,
                filter: from.string()?,
            },
            // It has the number of recipients where others have their session.
            MESSAGE => message(uid, from)?,
            REPLAYED => Op::Replayed {
                uid,
                index: from.u64()?,
                before: from.u64()?,
                filter: from.string()?,
                terms: terms(from)?,
                message: publication(from)?,
            },
            REPLAY_END => Op::ReplayEnd {
                uid,
                filter: from.string()?,
            },
            RELEASED => Op::Released {
                uid,
                lane: lane(from)?,
                index: from.u64()?,
            },
            DONE => Op::Done {
                uid,
                lane: lane(from)?,
                index: from.u64()?,
            },
            FLOOR => Op::Floor {
                uid,
                index: from.u64()?,
            },
            RECEIVED => Op::Received {
                uid,
                packet_id: from.u16()?,
            },
            RECEIVED_END => Op::ReceivedEnd {
                uid,
                packet_id: from.u16()?,
            },
            WILL => will(uid, from)?,
            WILL_END => Op::WillEnd { uid },
            _ => return Err(Malformed("unknown change")),
        })
    }

    /// Appends it to a batch.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        match *self {
            Op::Session(ref record) => {
                head(to, SESSION, record.uid);
                put_u32(to, record.expiry_interval);
                put_u16(to, record.window);
                put_millis(to, record.away_since);
                put_u64(to, record.unsent);
                put_binary(to, record.client_id.as_bytes());
            }
            Op::SessionEnd { uid } => head(to, SESSION_END, uid),
            Op::Subscribe { uid, ref subscription } => {
                head(to, SUBSCRIBE, uid);
                to.push(options_byte(subscription.options));
                to.push(u8::from(subscription.replays));
                put_u32(to, subscription.identifier);
                put_binary(to, subscription.filter.as_bytes());
            }
            Op::Unsubscribe { uid, filter } => {
                head(to, UNSUBSCRIBE, uid);
                put_binary(to, filter.as_bytes());
            }
            Op::Message {
                ref message,
                ref recipients,
            } => {
                write_message(to, recipients.count, recipients.bytes, message);
            }
            Op::Replayed {
                uid,
                index,
                before,
                filter,
                ref terms,
                ref message,
            } => {
                head(to, REPLAYED, uid);
                put_u64(to, index);
                put_u64(to, before);
                put_binary(to, filter.as_bytes());
                put_terms(to, terms);
                put_publication(to, message);
            }
            Op::ReplayEnd { uid, filter } => {
                head(to, REPLAY_END, uid);
                put_binary(to, filter.as_bytes());
            }
            Op::Released { uid, lane, index } => place(to, RELEASED, uid, lane, index),
            Op::Done { uid, lane, index } => place(to, DONE, uid, lane, index),
            Op::Floor { uid, index } => {
                head(to, FLOOR, uid);
                put_u64(to, index);
            }
            Op::Received { uid, packet_id } => {
                head(to, RECEIVED, uid);
                put_u16(to, packet_id);
            }
            Op::ReceivedEnd { uid, packet_id } => {
                head(to, RECEIVED_END, uid);
                put_u16(to, packet_id);
            }
            Op::Retain { ref message } => {
                to.push(RETAIN);
                put_publication(to, message);
            }
            Op::RetainClear { topic } => {
                to.push(RETAIN_CLEAR);
                put_binary(to, topic.as_bytes());
            }
            Op::Will {
                uid,
                delay_interval,
                expires_in,
                ref message,
                client,
            } => {
                head(to, WILL, uid);
                put_u32(to, delay_interval);
                to.push(u8::from(expires_in.is_some()));
                put_u32(to, expires_in.unwrap_or_default());
                put_publication(to, message);
                put_u32(to, client.len() as u32);
                to.extend_from_slice(client);
            }
            Op::WillEnd { uid } => head(to, WILL_END, uid),
            Op::Cluster(ref op) => {
                to.push(CLUSTER);
                op.write(to);
            }
        }
    }
}

/// Appends an [`Op::Message`] whose recipients have been collected with [`write_recipient`].
pub(crate) fn write_message(to: &mut Vec<u8>, count: u32, recipients: &[u8], message: &Publication<'_>) {
    head(to, MESSAGE, u64::from(count));
    put_u32(to, recipients.len() as u32);
    to.extend_from_slice(recipients);
    put_publication(to, message);
}

/// Appends one recipient of a message.
pub(crate) fn write_recipient(to: &mut Vec<u8>, recipient: &Recipient<'_>) {
    to.reserve(size_of::<Uid>() + size_of::<u64>() + 1);
    put_u64(to, recipient.uid);
    put_u64(to, recipient.index);
    put_terms(to, &recipient.terms);
}

fn head(to: &mut Vec<u8>, code: u8, uid: u64) {
    to.push(code);
    put_u64(to, uid);
}

fn place(to: &mut Vec<u8>, code: u8, uid: Uid, lane: Lane, index: u64) {
    head(to, code, uid);
    to.push(lane as u8);
    put_u64(to, index);
}

fn put_u16(to: &mut Vec<u8>, value: u16) {
    to.extend_from_slice(&value.to_be_bytes());
}

fn put_u32(to: &mut Vec<u8>, value: u32) {
    to.extend_from_slice(&value.to_be_bytes());
}

fn put_u64(to: &mut Vec<u8>, value: u64) {
    to.extend_from_slice(&value.to_be_bytes());
}

/// No moment is 0.
fn put_millis(to: &mut Vec<u8>, at: Option<Millis>) {
    put_u64(to, at.map_or(0, |at| at.as_unix().max(1)));
}

fn millis(from: &mut Reader<'_>) -> Result<Option<Millis>, Malformed> {
    Ok(match from.u64()? {
        0 => None,
        at => Some(Millis::from_unix(at)),
    })
}

const QOS: u8 = 0b11;
const RETAINED: u8 = 1 << 2;
const HAS_IDS: u8 = 1 << 3;
const HAS_SHARE: u8 = 1 << 4;

/// Appends how a message goes to a subscriber, as [`read_terms`] reads it.
pub(crate) fn put_terms(to: &mut Vec<u8>, terms: &TermsRecord<'_>) {
    let ids = terms.subscription_ids;
    to.push(terms_flags(terms));
    if !ids.is_empty() {
        put_u32(to, ids.len() as u32);
        to.extend_from_slice(ids);
    }
    if let Some(share) = terms.share {
        put_binary(to, share.as_bytes());
    }
}

fn terms_flags(terms: &TermsRecord<'_>) -> u8 {
    terms.qos as u8
        | if terms.retain { RETAINED } else { 0 }
        | if terms.subscription_ids.is_empty() { 0 } else { HAS_IDS }
        | if terms.share.is_some() { HAS_SHARE } else { 0 }
}

/// What [`put_terms`] appends, if that is one byte.
pub(crate) fn short_terms(terms: &TermsRecord<'_>) -> Option<u8> {
    let is_short = terms.subscription_ids.is_empty() && terms.share.is_none();
    is_short.then(|| terms_flags(terms))
}

fn terms<'a>(from: &mut Reader<'a>) -> Result<TermsRecord<'a>, Malformed> {
    let flags = from.u8()?;
    let subscription_ids = match flags & HAS_IDS {
        0 => &[][..],
        _ => {
            let length = from.u32()? as usize;
            from.bytes(length)?
        }
    };
    Ok(TermsRecord {
        qos: qos(flags & QOS)?,
        retain: flags & RETAINED != 0,
        subscription_ids,
        share: match flags & HAS_SHARE {
            0 => None,
            _ => Some(from.string()?),
        },
    })
}

/// What [`put_terms`] has written, if there is nothing behind it.
pub(crate) fn read_terms(bytes: &[u8]) -> Result<TermsRecord<'_>, Malformed> {
    all(bytes, terms)
}

/// Appends a message, as [`read_publication`] reads it.
pub(crate) fn put_publication(to: &mut Vec<u8>, message: &Publication<'_>) {
    to.push(message.qos as u8 | if message.retain { RETAINED } else { 0 });
    put_millis(to, message.expires_at);
    put_binary(to, message.topic.as_bytes());
    put_u32(to, message.properties.len() as u32);
    to.extend_from_slice(message.properties);
    put_u32(to, message.payload.len() as u32);
    to.extend_from_slice(message.payload);
}

pub(crate) fn publication<'a>(from: &mut Reader<'a>) -> Result<Publication<'a>, Malformed> {
    let flags = from.u8()?;
    let expires_at = millis(from)?;
    let topic = from.string()?;
    let properties = sized(from)?;
    let payload = sized(from)?;
    Ok(Publication {
        topic,
        payload,
        properties,
        expires_at,
        qos: qos(flags & QOS)?,
        retain: flags & RETAINED != 0,
    })
}

/// What [`put_publication`] has written, if there is nothing behind it.
pub(crate) fn read_publication(bytes: &[u8]) -> Result<Publication<'_>, Malformed> {
    all(bytes, publication)
}

fn all<'a, T>(bytes: &'a [u8], read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>) -> Result<T, Malformed> {
    let mut reader = Reader::new(bytes);
    let read = read(&mut reader)?;
    match reader.is_empty() {
        true => Ok(read),
        false => Err(Malformed("bytes behind the end")),
    }
}

fn sized<'a>(from: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let length = from.u32()? as usize;
    from.bytes(length)
}

fn qos(value: u8) -> Result<QoS, Malformed> {
    QoS::from_u8(value).ok_or(Malformed("QoS 3"))
}

fn lane(from: &mut Reader<'_>) -> Result<Lane, Malformed> {
    match from.u8()? {
        0 => Ok(Lane::Live),
        1 => Ok(Lane::Replayed),
        _ => Err(Malformed("unknown lane")),
    }
}

fn session<'a>(uid: Uid, from: &mut Reader<'a>) -> Result<SessionRecord<'a>, Malformed> {
    Ok(SessionRecord {
        uid,
        expiry_interval: from.u32()?,
        window: from.u16()?,
        away_since: millis(from)?,
        unsent: from.u64()?,
        client_id: from.string()?,
    })
}

fn subscription<'a>(from: &mut Reader<'a>) -> Result<SubscriptionRecord<'a>, Malformed> {
    Ok(SubscriptionRecord {
        options: read_options(from.u8()?)?,
        replays: from.u8()? != 0,
        identifier: from.u32()?,
        filter: from.string()?,
    })
}

/// As in SUBSCRIBE (section 3.8.3.1).
pub(crate) fn options_byte(options: SubscriptionOptions) -> u8 {
    options.qos as u8
        | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | (options.retain_handling as u8) << 4
}

/// What [`options_byte`] has made.
pub(crate) fn read_options(byte: u8) -> Result<SubscriptionOptions, Malformed> {
    Ok(SubscriptionOptions {
        qos: qos(byte & QOS)?,
        no_local: byte & 1 << 2 != 0,
        retain_as_published: byte & 1 << 3 != 0,
        retain_handling: match byte >> 4 {
            0 => RetainHandling::SendAlways,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::SendNever,
            _ => return Err(Malformed("unknown Retain Handling")),
        },
    })
}

fn message<'a>(count: u64, from: &mut Reader<'a>) -> Result<Op<'a>, Malformed> {
    Ok(Op::Message {
        recipients: read_recipients(count as u32, from)?,
        message: publication(from)?,
    })
}

/// Reads so many recipients, with their length before them.
pub(crate) fn read_recipients<'a>(count: u32, from: &mut Reader<'a>) -> Result<Recipients<'a>, Malformed> {
    let bytes = sized(from)?;
    let mut reader = Reader::new(bytes);
    for _ in 0..count {
        recipient(&mut reader)?;
    }
    match reader.is_empty() {
        true => Ok(Recipients { count, bytes }),
        false => Err(Malformed("more recipients than were announced")),
    }
}

fn recipient<'a>(from: &mut Reader<'a>) -> Result<Recipient<'a>, Malformed> {
    Ok(Recipient {
        uid: from.u64()?,
        index: from.u64()?,
        terms: terms(from)?,
    })
}

fn will<'a>(uid: Uid, from: &mut Reader<'a>) -> Result<Op<'a>, Malformed> {
    let delay_interval = from.u32()?;
    let has_expiry = from.u8()? != 0;
    let expiry = from.u32()?;
    Ok(Op::Will {
        uid,
        delay_interval,
        expires_in: has_expiry.then_some(expiry),
        message: publication(from)?,
        client: sized(from)?,
    })
}

#[cfg(test)]
#[path = "op_tests.rs"]
mod tests;
