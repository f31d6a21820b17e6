//! Numbers that are never used twice in a cluster.

use std::fmt;

use crate::store::Uid;

/// One run of a node.
pub(crate) type Incarnation = u64;

/// A connection of an incarnation, as the owner of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token {
    pub(crate) incarnation: Incarnation,
    pub(crate) number: u64,
}

/// The identity of a message that must have effect once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Mid {
    pub(crate) incarnation: Incarnation,
    pub(crate) number: u64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.number)
    }
}

impl fmt::Display for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.number)
    }
}

fn parse(text: &str) -> Option<(u64, u64)> {
    let (one, other) = text.split_once('.')?;
    Some((one.parse().ok()?, other.parse().ok()?))
}

impl Token {
    pub(crate) fn parse(text: &str) -> Option<Token> {
        parse(text).map(|(incarnation, number)| Token { incarnation, number })
    }
}

impl Mid {
    pub(crate) fn parse(text: &str) -> Option<Mid> {
        parse(text).map(|(incarnation, number)| Mid { incarnation, number })
    }
}

/// Starts of brokers in a cluster, for ever: a session is named by one of them.
pub(crate) const INCARNATIONS: Incarnation = 1 << 23;

/// The name of a session that is kept: it says which bucket has it. `number` counts the sessions that an incarnation has made.
pub(crate) fn new_uid(incarnation: Incarnation, number: u32, client_id: &str) -> Uid {
    debug_assert!(incarnation < INCARNATIONS);
    incarnation << 40 | u64::from(number) << 8 | u64::from(bucket_of_client(client_id))
}

pub(crate) fn bucket_of_uid(uid: Uid) -> u8 {
    uid as u8
}

/// The FNV-1a hash of the Client Identifier, its four bytes xored.
pub(crate) fn bucket_of_client(client_id: &str) -> u8 {
    let hash = client_id.bytes().fold(0x811C_9DC5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.to_be_bytes().into_iter().fold(0, |sum, byte| sum ^ byte)
}

const INBOX: Uid = 1 << 63;

/// The inbox of a node, as the recipient of a message.
pub(crate) fn inbox_of(node: Incarnation) -> Uid {
    INBOX | node
}

/// Whose inbox this recipient is, if it is one.
pub(crate) fn node_of_inbox(uid: Uid) -> Option<Incarnation> {
    (uid & INBOX != 0).then_some(uid & !INBOX)
}

pub(crate) fn bucket_of_inbox(node: Incarnation) -> u8 {
    node as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_where_to_look() {
        let uid = new_uid(7, 9, "");
        assert_eq!((bucket_of_uid(uid), bucket_of_client("")), (0xC5, 0xC5));
        assert_eq!(node_of_inbox(uid), None);
        assert_eq!(node_of_inbox(inbox_of(7)), Some(7));
        let mid = Mid {
            incarnation: 3,
            number: 4,
        };
        assert_eq!(Mid::parse(&mid.to_string()), Some(mid));
        assert_eq!(Token::parse("3"), None);
    }
}
