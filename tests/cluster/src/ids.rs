//! The vocabulary: who and what things are.

use std::fmt;

/// Simulated time, in milliseconds.
pub type Time = u64;
/// An incarnation of a node, never used again.
pub type Inc = u32;
/// A Client Identifier.
pub type Cid = u8;
/// A Topic Name, and the Topic Filter that matches it.
pub type Topic = u8;
/// A ShareName.
pub type Group = u8;
/// A place in a session's queue.
pub type Index = u64;
/// A Packet Identifier of a client.
pub type Pid = u16;

/// A connection, as the owner of a Client Identifier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    pub inc: Inc,
    pub conn: u32,
}

/// A session; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid {
    pub inc: Inc,
    pub n: u32,
}

/// A message that must have effect once; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mid {
    pub inc: Inc,
    pub n: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    One,
    Two,
}

/// A message; `id` is what a checker knows it by, and no node looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    pub id: u32,
    pub topic: Topic,
    pub qos: Qos,
    pub retain: bool,
}

/// What is subscribed to: a topic, by a session of its own or as a member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter {
    pub topic: Topic,
    pub group: Option<Group>,
}

impl From<Topic> for Filter {
    fn from(topic: Topic) -> Filter {
        Filter { topic, group: None }
    }
}

impl Filter {
    pub fn shared(group: Group, topic: Topic) -> Filter {
        let group = Some(group);
        Filter { topic, group }
    }
}

/// What a client asks to be published when its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will {
    pub message: Message,
    pub delay: Time,
}

/// Keys with one hash tag: what one script can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Home {
    Global,
    Bucket(u8),
}

/// Buckets of the simulation.
pub const BUCKETS: u8 = 3;

impl Home {
    pub fn of_client(cid: Cid) -> Home {
        Home::Bucket(cid % BUCKETS)
    }

    /// Where the inbox of an incarnation is.
    pub fn of_inbox(inc: Inc) -> Home {
        Home::Bucket((inc % Inc::from(BUCKETS)) as u8)
    }

    pub fn buckets() -> impl Iterator<Item = Home> {
        (0..BUCKETS).map(Home::Bucket)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}.{}", self.inc, self.conn)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid{}.{}", self.inc, self.n)
    }
}

impl fmt::Debug for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mid{}.{}", self.inc, self.n)
    }
}
