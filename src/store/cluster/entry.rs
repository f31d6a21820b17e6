//! Entries of the log, which every node applies in the same order.

use super::Incarnation;
use crate::message::Publication;
use crate::store::Uid;
use crate::store::op::{SubscriptionRecord, options_byte, publication, put_publication, read_options};
use crate::wire::{Malformed, Reader, put_binary};

/// For which messages a node is in a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum RouteKind {
    /// For all: it has a session of which nothing is kept, or which wants QoS 0.
    All = 0,
    /// For those of QoS 0: others are put into the queues of sessions that are kept.
    OnlyQos0 = 1,
}

/// One entry. What is in it twice changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    Join(Incarnation),
    Dead(Incarnation),
    /// A session that is kept has subscribed. The filter may be one of a Shared Subscription.
    Subscribe {
        uid: Uid,
        client_id: &'a str,
        subscription: SubscriptionRecord<'a>,
    },
    Unsubscribe {
        uid: Uid,
        filter: &'a str,
    },
    /// A session that was kept has ended.
    End {
        uid: Uid,
    },
    /// The client of a session that has Shared Subscriptions is connected to this node: of the members of a group, those that are
    /// connected come first.
    Present {
        uid: Uid,
        node: Incarnation,
    },
    /// It is not any more.
    Away {
        uid: Uid,
    },
    /// A node wants messages of this filter, or of this Shared Subscription, in its inbox.
    Route {
        node: Incarnation,
        filter: &'a str,
        kind: RouteKind,
    },
    Unroute {
        node: Incarnation,
        filter: &'a str,
    },
    Retain {
        message: Publication<'a>,
    },
    RetainClear {
        topic: &'a str,
    },
}

const JOIN: u8 = 1;
const DEAD: u8 = 2;
const SUBSCRIBE: u8 = 3;
const UNSUBSCRIBE: u8 = 4;
const END: u8 = 5;
const ROUTE: u8 = 6;
const UNROUTE: u8 = 7;
const RETAIN: u8 = 8;
const RETAIN_CLEAR: u8 = 9;
const PRESENT: u8 = 10;
const AWAY: u8 = 11;

impl<'a> Entry<'a> {
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let head = |to: &mut Vec<u8>, code: u8, number: u64| {
            to.push(code);
            to.extend_from_slice(&number.to_be_bytes());
        };
        match *self {
            Entry::Join(node) => head(to, JOIN, node),
            Entry::Dead(node) => head(to, DEAD, node),
            Entry::Subscribe {
                uid,
                client_id,
                ref subscription,
            } => {
                head(to, SUBSCRIBE, uid);
                to.push(options_byte(subscription.options));
                to.extend_from_slice(&subscription.identifier.to_be_bytes());
                put_binary(to, subscription.filter.as_bytes());
                put_binary(to, client_id.as_bytes());
            }
            Entry::Unsubscribe { uid, filter } => {
                head(to, UNSUBSCRIBE, uid);
                put_binary(to, filter.as_bytes());
            }
            Entry::End { uid } => head(to, END, uid),
            Entry::Present { uid, node } => {
                head(to, PRESENT, uid);
                to.extend_from_slice(&node.to_be_bytes());
            }
            Entry::Away { uid } => head(to, AWAY, uid),
            Entry::Route { node, filter, kind } => {
                head(to, ROUTE, node);
                to.push(kind as u8);
                put_binary(to, filter.as_bytes());
            }
            Entry::Unroute { node, filter } => {
                head(to, UNROUTE, node);
                put_binary(to, filter.as_bytes());
            }
            Entry::Retain { ref message } => {
                head(to, RETAIN, 0);
                put_publication(to, message);
            }
            Entry::RetainClear { topic } => {
                head(to, RETAIN_CLEAR, 0);
                put_binary(to, topic.as_bytes());
            }
        }
    }

    pub(crate) fn read(from: &mut Reader<'a>) -> Result<Entry<'a>, Malformed> {
        let code = from.u8()?;
        let number = from.u64()?;
        Ok(match code {
            JOIN => Entry::Join(number),
            DEAD => Entry::Dead(number),
            SUBSCRIBE => Entry::Subscribe {
                uid: number,
                subscription: SubscriptionRecord {
                    options: read_options(from.u8()?)?,
                    identifier: from.u32()?,
                    filter: from.string()?,
                    replays: false,
                },
                client_id: from.string()?,
            },
            UNSUBSCRIBE => Entry::Unsubscribe {
                uid: number,
                filter: from.string()?,
            },
            END => Entry::End { uid: number },
            PRESENT => Entry::Present {
                uid: number,
                node: from.u64()?,
            },
            AWAY => Entry::Away { uid: number },
            ROUTE => Entry::Route {
                node: number,
                kind: match from.u8()? {
                    0 => RouteKind::All,
                    1 => RouteKind::OnlyQos0,
                    _ => return Err(Malformed("unknown kind of route")),
                },
                filter: from.string()?,
            },
            UNROUTE => Entry::Unroute {
                node: number,
                filter: from.string()?,
            },
            RETAIN => Entry::Retain {
                message: publication(from)?,
            },
            RETAIN_CLEAR => Entry::RetainClear { topic: from.string()? },
            _ => return Err(Malformed("unknown entry of the log")),
        })
    }
}
