//! What was seen from outside, and whether it keeps the promises. Nothing here knows how nodes work.

mod promises;
mod story;

use crate::ids::{Cid, Inc, Message, Time, Token, Topic, Uid, Will};

pub use promises::check;

/// Something that was seen. Their order is that of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    NodeStart {
        inc: Inc,
    },
    NodeEnd {
        inc: Inc,
    },
    /// Redis has counted a heartbeat.
    Beat {
        inc: Inc,
    },
    /// A node has been declared dead.
    Dead {
        inc: Inc,
    },
    RedisDown,
    RedisUp,
    /// Redis has seen the first claim of a connection.
    Claimed {
        token: Token,
    },
    /// Redis has given a connection its session; it may end before its CONNACK.
    Opened {
        cid: Cid,
        token: Token,
    },
    /// CONNACK was sent. The session has a name if it outlives the connection.
    Connack {
        cid: Cid,
        conn: u64,
        token: Token,
        present: bool,
        session: Option<Uid>,
        will: Option<Will>,
    },
    /// The node knows that the connection is over.
    ConnEnd {
        conn: u64,
    },
    /// The client has sent DISCONNECT.
    CleanEnd {
        conn: u64,
    },
    /// The client has gone away.
    Lost {
        conn: u64,
    },
    /// The client has sent this for the first time.
    Sent {
        cid: Cid,
        message: Message,
    },
    /// Its node has read a PUBLISH of QoS 1, or a PUBREL.
    Read {
        id: u32,
        conn: u64,
    },
    /// PUBACK or PUBCOMP was sent.
    Acked {
        id: u32,
        conn: u64,
    },
    SubSent {
        cid: Cid,
        conn: u64,
        topic: Topic,
    },
    UnsubSent {
        cid: Cid,
        topic: Topic,
    },
    Suback {
        cid: Cid,
        conn: u64,
        topic: Topic,
    },
    /// A node has written a message to a connection.
    Written {
        conn: u64,
    },
    /// The application of a client has got a message.
    Delivered {
        cid: Cid,
        conn: u64,
        message: Message,
    },
    /// At the end: the retained message of a topic, in Redis or (by its incarnation) on a node.
    Retained {
        on: Option<Inc>,
        topic: Topic,
        id: u32,
    },
    /// At the end: something is left that should not be.
    Left {
        what: String,
    },
}

/// When it was seen.
pub type Seen = (Time, Event);
