//! What was seen from outside, and whether it keeps the promises. Nothing here knows how nodes work.

mod groups;
mod promises;
mod story;
mod wills;

use crate::ids::{Cid, Filter, Group, Inc, Message, Time, Token, Topic, Uid, Will};

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
    /// It has left, and there is nothing to recover.
    NodeLeft {
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
    /// What Redis executes from here on in some homes is lost at the next failover.
    LosesFrom,
    /// It is that of all homes of a shard; whether heartbeats are among them.
    FailedOver {
        since: Time,
        loses_beats: bool,
    },
    /// A node was killed: what it remembers is gone.
    Killed,
    /// A node has put in order what a failover had lost, and serves.
    Settled,
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
    /// Redis has been told to retain this.
    Retains {
        id: u32,
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
    /// The node knows that the connection is over, or ends it because it leaves.
    ConnEnd {
        conn: u64,
        is_left: bool,
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
        filter: Filter,
    },
    UnsubSent {
        cid: Cid,
        filter: Filter,
    },
    Suback {
        cid: Cid,
        conn: u64,
        filter: Filter,
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
        /// It is for this group.
        group: Option<Group>,
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
