//! Changes that brokers in a cluster write, beside those that all stores know.
//!
//! All changes of a client are written by the node that owns it, and before its [`Release`](ClusterOp::Release): so none comes
//! behind it, and what the next owner writes is behind all of them.

use super::{Entry, Homes, Incarnation, Mid, Token};
use crate::message::Publication;
use crate::store::Uid;
use crate::store::op::{Recipients, publication, put_publication, read_recipients};
use crate::time::Millis;
use crate::wire::{Malformed, Reader, put_binary};

/// One change. What refers to something that is not there has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClusterOp<'a> {
    /// A connection wants the client. It is its owner if nobody is, else the next one, in place of the one that was to be that.
    Claim { client_id: &'a str, token: Token },
    /// The owner begins.
    Open(Open<'a>),
    /// The same, with the claim: it may come when the CONNECT was given up long ago, and so has no effect if it would end a session, drop a
    /// will that waits, or change when the session ends.
    OpenEarly(Open<'a>),
    /// The owner ends: what it had is for the next one.
    Release {
        client_id: &'a str,
        token: Token,
        how: How,
        /// Session Expiry Interval; 0 ends the session.
        expiry_interval: u32,
        /// Of the job that its will becomes, if that is due now, and of what its session leaves, if that ends.
        mid: Mid,
    },
    /// A client of which nothing is kept gets a session that ends with its connection, as members of Shared Subscriptions need
    /// one. Nothing if it has one.
    Lend { client_id: &'a str, token: Token, uid: Uid },
    /// A QoS 2 message has been accepted from the client, unless one with this identifier is there.
    Received {
        uid: Uid,
        packet_id: u16,
        message: Publication<'a>,
    },
    /// PUBREL: the message becomes a job, to be published once. Nothing if it is not there.
    Begin { uid: Uid, packet_id: u16, mid: Mid },
    /// A message is put at the end of queues and inboxes; the places are for the store to give.
    Publish {
        message: Publication<'a>,
        publishing: Publishing<'a>,
        /// The `index` says nothing. One with `uid` 0 and a Shared Subscription says that a session here, of which nothing
        /// is kept, has been chosen.
        recipients: Recipients<'a>,
    },
    /// The job of this bucket has been done.
    Finish { bucket: u8, mid: Mid },
    /// What a session has left of Shared Subscriptions has been given to other members: its queue is not needed any more.
    FinishRest { uid: Uid, mid: Mid },
    /// Nobody will put the message into queues of this bucket again.
    Forget { bucket: u8, mid: Mid },
    /// An entry is put at the end of the log.
    Log(Entry<'a>),
    /// The same of a retained message of a job, unless it has been put there before.
    RetainOnce {
        mid: Mid,
        of: Incarnation,
        entry: Entry<'a>,
    },
    /// Nobody will put the message of the job into the log again.
    ForgetRetained { mid: Mid },
    /// The node may not write to this bucket any more.
    Fence { bucket: u8, node: Incarnation },
    /// A client that the node owned has lost its connection. If its will is due, it becomes a job of that node.
    Free {
        node: Incarnation,
        client_id: &'a str,
        mid: Mid,
        /// A node of a generation that is over has [left](How::Left): its clients are back soon.
        how: How,
        /// Its session ends, as nobody knows what was lost of it.
        ends: bool,
    },
    /// The session of a client ends that was connected when writes were lost, and its owner, if that is of this generation or an older
    /// one: as if the node had left. Nothing if the owner is newer.
    EndSession {
        client_id: &'a str,
        generation: Incarnation,
        /// In seconds, as in [`How::Left`].
        grace: u32,
        /// Of what the session leaves.
        mid: Mid,
    },
    /// The inbox of the node is removed.
    Destroy { node: Incarnation },
    /// What the node has put into queues of this bucket once is forgotten.
    ForgetOf { bucket: u8, node: Incarnation },
    /// What is due of clients of this bucket without owner is done: up to so many, from this number of identities on.
    Sweep { bucket: u8, first: Mid, most: u32 },
    /// The node is dead, if its counter is still this. What these homes have lost was the last that it wrote, perhaps: then all that there are
    /// are over.
    Dead {
        node: Incarnation,
        counter: u64,
        lost: Homes,
    },
    /// An incarnation is over, as its process says, or nobody knows it any more.
    Retire { node: Incarnation },
    /// The node is dead, and so this one recovers what that was to recover, and it.
    TakeOver { node: Incarnation },
    /// The node has been recovered.
    Recovered { node: Incarnation },
    /// The retained message of this topic which expires at this moment has expired.
    Expire { topic: &'a str, at: Millis },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) token: Token,
    /// The session that is there ends.
    pub(crate) clean: bool,
    /// The name of the session if one is made; 0 if none is to be kept.
    pub(crate) uid: Uid,
    /// Session Expiry Interval.
    pub(crate) expiry_interval: u32,
    /// Of the job that the will of a session which ends becomes, and of what that leaves.
    pub(crate) mid: Mid,
    pub(crate) will: Option<Will<'a>>,
}

/// See [`Op::Will`](crate::store::Op::Will).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Will<'a> {
    pub(crate) delay_interval: u32,
    pub(crate) expires_in: Option<u32>,
    pub(crate) message: Publication<'a>,
    pub(crate) client: &'a [u8],
}

/// How a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// There is no will.
    Clean,
    /// The will is due, after its delay.
    Lost,
    /// Its node leaves: the client may be back in so many seconds, and then there is no will.
    Left { grace: u32 },
}

/// How a message is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Publishing<'a> {
    /// The session of the publisher, or 0: of one that is kept.
    pub(crate) origin: Uid,
    pub(crate) once: Option<Once>,
    /// It is for this Shared Subscription alone.
    pub(crate) only: Option<&'a str>,
}

/// Of a message that must have effect once, whoever puts it into queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Once {
    pub(crate) mid: Mid,
    /// Whose job it is.
    pub(crate) of: Incarnation,
    /// The bucket that has the job.
    pub(crate) bucket: u8,
}

const CLAIM: u8 = 1;
const OPEN: u8 = 2;
const RELEASE: u8 = 3;
const RECEIVED: u8 = 4;
const BEGIN: u8 = 5;
const PUBLISH: u8 = 6;
const FINISH: u8 = 7;
const FORGET: u8 = 8;
const LOG: u8 = 9;
const FENCE: u8 = 10;
const FREE: u8 = 11;
const DESTROY: u8 = 12;
const FORGET_OF: u8 = 13;
const SWEEP: u8 = 14;
const DEAD: u8 = 15;
const TAKE_OVER: u8 = 16;
const RECOVERED: u8 = 17;
const LEND: u8 = 18;
const FINISH_REST: u8 = 19;
const EXPIRE: u8 = 20;
const RETAIN_ONCE: u8 = 21;
const FORGET_RETAINED: u8 = 22;
const OPEN_EARLY: u8 = 23;
const RETIRE: u8 = 24;
const END_SESSION: u8 = 25;

/// Appends a [`ClusterOp::Publish`], whose recipients have been collected with
/// [`write_recipient`](crate::store::write_recipient).
pub(crate) fn write_publish(
    to: &mut Vec<u8>,
    message: &Publication<'_>,
    publishing: &Publishing<'_>,
    (count, recipients): (u32, &[u8]),
) {
    to.push(PUBLISH);
    publishing.write(to);
    put_u32(to, count);
    put_u32(to, recipients.len() as u32);
    to.extend_from_slice(recipients);
    put_publication(to, message);
}

impl<'a> ClusterOp<'a> {
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        match *self {
            ClusterOp::Claim { client_id, token } => {
                to.push(CLAIM);
                put_token(to, token);
                put_binary(to, client_id.as_bytes());
            }
            ClusterOp::Open(ref open) => open.write(to, OPEN),
            ClusterOp::OpenEarly(ref open) => open.write(to, OPEN_EARLY),
            ClusterOp::Release {
                client_id,
                token,
                how,
                expiry_interval,
                mid,
            } => {
                to.push(RELEASE);
                put_token(to, token);
                put_mid(to, mid);
                how.write(to);
                put_u32(to, expiry_interval);
                put_binary(to, client_id.as_bytes());
            }
            ClusterOp::Lend { client_id, token, uid } => {
                numbers(to, LEND, &[uid]);
                put_token(to, token);
                put_binary(to, client_id.as_bytes());
            }
            ClusterOp::Received {
                uid,
                packet_id,
                ref message,
            } => {
                numbers(to, RECEIVED, &[uid, u64::from(packet_id)]);
                put_publication(to, message);
            }
            ClusterOp::Begin { uid, packet_id, mid } => {
                numbers(to, BEGIN, &[uid, u64::from(packet_id)]);
                put_mid(to, mid);
            }
            ClusterOp::Publish {
                ref message,
                ref publishing,
                ref recipients,
            } => write_publish(to, message, publishing, recipients.parts()),
            ClusterOp::Finish { bucket, mid } => of_bucket(to, FINISH, bucket, &[mid.incarnation, mid.number]),
            ClusterOp::Forget { bucket, mid } => of_bucket(to, FORGET, bucket, &[mid.incarnation, mid.number]),
            ClusterOp::FinishRest { uid, mid } => {
                numbers(to, FINISH_REST, &[uid]);
                put_mid(to, mid);
            }
            ClusterOp::Log(ref entry) => {
                to.push(LOG);
                entry.write(to);
            }
            ClusterOp::RetainOnce { mid, of, ref entry } => {
                numbers(to, RETAIN_ONCE, &[of]);
                put_mid(to, mid);
                entry.write(to);
            }
            ClusterOp::ForgetRetained { mid } => {
                to.push(FORGET_RETAINED);
                put_mid(to, mid);
            }
            ClusterOp::Fence { bucket, node } => of_bucket(to, FENCE, bucket, &[node]),
            ClusterOp::Free {
                node,
                client_id,
                mid,
                how,
                ends,
            } => {
                numbers(to, FREE, &[node, u64::from(ends)]);
                put_mid(to, mid);
                how.write(to);
                put_binary(to, client_id.as_bytes());
            }
            ClusterOp::EndSession {
                client_id,
                generation,
                grace,
                mid,
            } => {
                numbers(to, END_SESSION, &[generation, u64::from(grace)]);
                put_mid(to, mid);
                put_binary(to, client_id.as_bytes());
            }
            ClusterOp::Destroy { node } => numbers(to, DESTROY, &[node]),
            ClusterOp::ForgetOf { bucket, node } => of_bucket(to, FORGET_OF, bucket, &[node]),
            ClusterOp::Sweep { bucket, first, most } => {
                of_bucket(to, SWEEP, bucket, &[first.incarnation, first.number, u64::from(most)]);
            }
            ClusterOp::Dead { node, counter, lost } => {
                numbers(to, DEAD, &[node, counter]);
                lost.write(to);
            }
            ClusterOp::Retire { node } => numbers(to, RETIRE, &[node]),
            ClusterOp::TakeOver { node } => numbers(to, TAKE_OVER, &[node]),
            ClusterOp::Recovered { node } => numbers(to, RECOVERED, &[node]),
            ClusterOp::Expire { topic, at } => {
                numbers(to, EXPIRE, &[at.as_unix()]);
                put_binary(to, topic.as_bytes());
            }
        }
    }

    pub(crate) fn read(from: &mut Reader<'a>) -> Result<ClusterOp<'a>, Malformed> {
        Ok(match from.u8()? {
            CLAIM => ClusterOp::Claim {
                token: token(from)?,
                client_id: from.string()?,
            },
            OPEN => ClusterOp::Open(Open::read(from)?),
            OPEN_EARLY => ClusterOp::OpenEarly(Open::read(from)?),
            RELEASE => ClusterOp::Release {
                token: token(from)?,
                mid: mid(from)?,
                how: How::read(from)?,
                expiry_interval: from.u32()?,
                client_id: from.string()?,
            },
            LEND => ClusterOp::Lend {
                uid: from.u64()?,
                token: token(from)?,
                client_id: from.string()?,
            },
            RECEIVED => ClusterOp::Received {
                uid: from.u64()?,
                packet_id: from.u64()? as u16,
                message: publication(from)?,
            },
            BEGIN => ClusterOp::Begin {
                uid: from.u64()?,
                packet_id: from.u64()? as u16,
                mid: mid(from)?,
            },
            PUBLISH => publish(from)?,
            FINISH => ClusterOp::Finish {
                bucket: from.u8()?,
                mid: mid(from)?,
            },
            FORGET => ClusterOp::Forget {
                bucket: from.u8()?,
                mid: mid(from)?,
            },
            FINISH_REST => ClusterOp::FinishRest {
                uid: from.u64()?,
                mid: mid(from)?,
            },
            LOG => ClusterOp::Log(Entry::read(from)?),
            RETAIN_ONCE => ClusterOp::RetainOnce {
                of: from.u64()?,
                mid: mid(from)?,
                entry: Entry::read(from)?,
            },
            FORGET_RETAINED => ClusterOp::ForgetRetained { mid: mid(from)? },
            FENCE => ClusterOp::Fence {
                bucket: from.u8()?,
                node: from.u64()?,
            },
            FREE => ClusterOp::Free {
                node: from.u64()?,
                ends: from.u64()? != 0,
                mid: mid(from)?,
                how: How::read(from)?,
                client_id: from.string()?,
            },
            END_SESSION => ClusterOp::EndSession {
                generation: from.u64()?,
                grace: from.u64()? as u32,
                mid: mid(from)?,
                client_id: from.string()?,
            },
            DESTROY => ClusterOp::Destroy { node: from.u64()? },
            FORGET_OF => ClusterOp::ForgetOf {
                bucket: from.u8()?,
                node: from.u64()?,
            },
            SWEEP => ClusterOp::Sweep {
                bucket: from.u8()?,
                first: mid(from)?,
                most: from.u64()? as u32,
            },
            DEAD => ClusterOp::Dead {
                node: from.u64()?,
                counter: from.u64()?,
                lost: Homes::read(from)?,
            },
            RETIRE => ClusterOp::Retire { node: from.u64()? },
            TAKE_OVER => ClusterOp::TakeOver { node: from.u64()? },
            RECOVERED => ClusterOp::Recovered { node: from.u64()? },
            EXPIRE => ClusterOp::Expire {
                at: Millis::from_unix(from.u64()?),
                topic: from.string()?,
            },
            _ => return Err(Malformed("unknown change of a cluster")),
        })
    }
}

impl<'a> Open<'a> {
    fn write(&self, to: &mut Vec<u8>, kind: u8) {
        to.push(kind);
        put_token(to, self.token);
        put_mid(to, self.mid);
        put_u64(to, self.uid);
        put_u32(to, self.expiry_interval);
        to.push(u8::from(self.clean));
        put_binary(to, self.client_id.as_bytes());
        to.push(u8::from(self.will.is_some()));
        if let Some(will) = &self.will {
            put_u32(to, will.delay_interval);
            to.push(u8::from(will.expires_in.is_some()));
            put_u32(to, will.expires_in.unwrap_or_default());
            put_publication(to, &will.message);
            put_u32(to, will.client.len() as u32);
            to.extend_from_slice(will.client);
        }
    }

    fn read(from: &mut Reader<'a>) -> Result<Open<'a>, Malformed> {
        let (token, mid) = (token(from)?, mid(from)?);
        let (uid, expiry_interval, clean) = (from.u64()?, from.u32()?, from.u8()? != 0);
        let client_id = from.string()?;
        let will = match from.u8()? {
            0 => None,
            _ => Some(Will {
                delay_interval: from.u32()?,
                expires_in: {
                    let has_expiry = from.u8()? != 0;
                    let expiry = from.u32()?;
                    has_expiry.then_some(expiry)
                },
                message: publication(from)?,
                client: {
                    let length = from.u32()? as usize;
                    from.bytes(length)?
                },
            }),
        };
        Ok(Open {
            client_id,
            token,
            clean,
            uid,
            expiry_interval,
            mid,
            will,
        })
    }
}

const CLEAN: u8 = 0;
const LOST: u8 = 1;
const LEFT: u8 = 2;

impl How {
    fn write(self, to: &mut Vec<u8>) {
        match self {
            How::Clean => to.push(CLEAN),
            How::Lost => to.push(LOST),
            How::Left { grace } => {
                to.push(LEFT);
                put_u32(to, grace);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<How, Malformed> {
        Ok(match from.u8()? {
            CLEAN => How::Clean,
            LOST => How::Lost,
            LEFT => How::Left { grace: from.u32()? },
            _ => return Err(Malformed("unknown end of a connection")),
        })
    }
}

const HAS_ONCE: u8 = 1;
const HAS_ONLY: u8 = 2;

impl<'a> Publishing<'a> {
    fn write(&self, to: &mut Vec<u8>) {
        put_u64(to, self.origin);
        let has_once = if self.once.is_some() { HAS_ONCE } else { 0 };
        let has_only = if self.only.is_some() { HAS_ONLY } else { 0 };
        to.push(has_once | has_only);
        if let Some(Once { mid, of, bucket }) = self.once {
            put_mid(to, mid);
            put_u64(to, of);
            to.push(bucket);
        }
        if let Some(only) = self.only {
            put_binary(to, only.as_bytes());
        }
    }

    fn read(from: &mut Reader<'a>) -> Result<Publishing<'a>, Malformed> {
        let (origin, flags) = (from.u64()?, from.u8()?);
        let once = match flags & HAS_ONCE {
            0 => None,
            _ => Some(Once {
                mid: mid(from)?,
                of: from.u64()?,
                bucket: from.u8()?,
            }),
        };
        let only = match flags & HAS_ONLY {
            0 => None,
            _ => Some(from.string()?),
        };
        Ok(Publishing { origin, once, only })
    }
}

fn publish<'a>(from: &mut Reader<'a>) -> Result<ClusterOp<'a>, Malformed> {
    let publishing = Publishing::read(from)?;
    let count = from.u32()?;
    Ok(ClusterOp::Publish {
        publishing,
        recipients: read_recipients(count, from)?,
        message: publication(from)?,
    })
}

fn numbers(to: &mut Vec<u8>, code: u8, numbers: &[u64]) {
    to.push(code);
    numbers.iter().for_each(|number| put_u64(to, *number));
}

fn of_bucket(to: &mut Vec<u8>, code: u8, bucket: u8, numbers: &[u64]) {
    to.push(code);
    to.push(bucket);
    numbers.iter().for_each(|number| put_u64(to, *number));
}

fn put_u32(to: &mut Vec<u8>, value: u32) {
    to.extend_from_slice(&value.to_be_bytes());
}

fn put_u64(to: &mut Vec<u8>, value: u64) {
    to.extend_from_slice(&value.to_be_bytes());
}

fn put_mid(to: &mut Vec<u8>, mid: Mid) {
    put_u64(to, mid.incarnation);
    put_u64(to, mid.number);
}

fn put_token(to: &mut Vec<u8>, token: Token) {
    put_u64(to, token.incarnation);
    put_u64(to, token.number);
}

fn mid(from: &mut Reader<'_>) -> Result<Mid, Malformed> {
    Ok(Mid {
        incarnation: from.u64()?,
        number: from.u64()?,
    })
}

fn token(from: &mut Reader<'_>) -> Result<Token, Malformed> {
    Ok(Token {
        incarnation: from.u64()?,
        number: from.u64()?,
    })
}

#[cfg(test)]
#[path = "op_tests.rs"]
mod tests;
