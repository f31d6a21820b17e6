//! What scripts are asked and answer.

use std::collections::BTreeMap;

use crate::ids::{Cid, Filter, Group, Home, Inc, Index, Message, Mid, Pid, Time, Token, Topic, Uid, Will};

/// Whose queue a message is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    Session(Cid, Uid),
    /// That of a node, for its sessions of which nothing is kept.
    Inbox(Inc),
}

/// Whose queue, and for which group: a session may get a message for itself and for groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub to: To,
    pub group: Option<Group>,
}

impl From<To> for Target {
    fn from(to: To) -> Target {
        Target { to, group: None }
    }
}

/// A message for one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    pub target: Target,
    pub message: Message,
    /// If it must have effect once, whoever sends it again: its identity, and the incarnation whose job it is.
    pub once: Option<(Mid, Inc)>,
}

/// A change of a session by its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A client of which nothing is kept gets a queue with this name for what it is given by groups.
    Subscribe(Filter, Option<Uid>),
    Unsubscribe(Filter),
    Received(Pid, Message),
    Released(Index),
    Done(Index),
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// DISCONNECT: no will.
    Clean,
    /// The will is due, after its delay.
    Lost,
    /// The node leaves: the client may come back, and then there is no will.
    Left,
}

/// A message that is to be published once, by an incarnation or by whoever recovers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub mid: Mid,
    pub message: Message,
    /// Which member of each group gets it.
    pub choices: BTreeMap<Group, (Cid, Uid)>,
    pub of: Inc,
}

/// The queue of a session that has ended: what groups have given it goes to other members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    pub mid: Mid,
    pub uid: Uid,
    pub messages: Vec<(Group, Message)>,
    pub of: Inc,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Join(Inc),
    Dead(Inc),
    Sub(Cid, Uid, Filter),
    Unsub(Uid, Filter),
    End(Uid),
    Route(Inc, Topic),
    Unroute(Inc, Topic),
    Retain(Message),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    // Buckets.
    Enter,
    Fence(Inc),
    Depart,
    EndSession {
        cid: Cid,
        mid: Mid,
        generation: Inc,
    },
    Number(Inc),
    Writers,
    Claim {
        cid: Cid,
        token: Token,
    },
    Open(Open),
    Changes(Vec<(Cid, Token, Change)>),
    Begin {
        cid: Cid,
        token: Token,
        pid: Pid,
        mid: Mid,
    },
    Append(Vec<Append>),
    Choose {
        mid: Mid,
        group: Group,
        member: (Cid, Uid),
    },
    Finish(Mid),
    FinishRest(Mid),
    Release {
        cid: Cid,
        token: Token,
        how: How,
        mid: Mid,
    },
    Sweep {
        mids: Vec<Mid>,
    },
    Free {
        of: Inc,
        cid: Cid,
        mid: Mid,
        is_older: bool,
        ends: bool,
    },
    Owner(Cid),
    Session(Cid),
    Queue {
        uid: Uid,
        from: Index,
    },
    JobsOf(Inc),
    RestsOf(Inc),
    Known(Vec<(Target, Option<Mid>)>),
    Look(Uid),
    OwnedBy(Inc),
    Wanted(Inc),
    Subscriptions,
    Take {
        above: u64,
    },
    Destroy(Inc),
    Forget(Mid),
    ForgetOf(Inc),
    // The global home.
    Join,
    Beat {
        applied: u64,
        servers: Servers,
    },
    Nodes,
    Dead {
        inc: Inc,
        counter: u64,
        lost: Vec<Home>,
    },
    Bye,
    Raise {
        over: Inc,
        lost: Vec<Home>,
    },
    Retire(Inc),
    TakeOver(Inc),
    Recovered(Inc),
    Log(Vec<Entry>),
    /// Retained messages; of one that must have effect once, its identity, and whose job it is.
    Retain(Vec<(Message, Option<(Mid, Inc)>)>),
    Position,
    ReadLog {
        from: u64,
    },
    Snapshot,
}

/// What the connection that owns a client begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub cid: Cid,
    pub token: Token,
    /// Clean Start.
    pub clean: bool,
    /// Of a session that is made; `None` for one that ends with its connection.
    pub uid: Option<Uid>,
    pub expiry: Time,
    pub will: Option<Will>,
    /// If a will of the session that ends here is to be published.
    pub mid: Mid,
}

/// One message in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    pub message: Message,
    pub group: Option<Group>,
    pub released: bool,
}

/// What became of a message for a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    At(Index),
    /// It has been put there before, or may have been.
    Before,
    /// The queue is not there any more.
    Gone,
}

/// A message is in a queue, at this place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    pub cid: Cid,
    pub uid: Uid,
    pub at: Index,
    pub queued: Queued,
}

/// The servers of all shards.
pub type Servers = BTreeMap<u8, u32>;

/// What is known of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    pub inc: Inc,
    pub counter: u64,
    pub applied: u64,
    /// Where nothing of its writes was lost.
    pub servers: Servers,
}

/// What a node that joins reads of the global home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub position: u64,
    pub nodes: Vec<Inc>,
    pub routes: Vec<(Inc, Topic)>,
    pub retained: Vec<Message>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was done already; what it answered then is not known any more.
    Done,
    Fenced,
    Gap(u64),
    /// Redis refused it, and did nothing: memory is full, or it has forgotten the script.
    Refused,
    Ok,
    /// Not for this token.
    NotOwner,
    /// Something is left.
    NotYet,
    Granted,
    Waits,
    Opened {
        uid: Option<Uid>,
        ended: Option<Uid>,
    },
    /// For each change, whether it was made.
    Changed(Vec<bool>),
    /// Nothing if it has begun already, or was never received.
    Begun(Option<Job>),
    Appended(Vec<Put>),
    /// The connection is over, and a session with it.
    Left {
        ended: Option<Uid>,
    },
    Swept(Vec<Uid>),
    Owner {
        owner: Option<Token>,
        next: Option<Token>,
        /// A will of the client has begun to be published.
        has_wills: bool,
    },
    Session {
        uid: Option<Uid>,
        subs: Vec<Filter>,
    },
    /// And the place of the next one.
    Queue(Vec<(Index, Queued)>, Index),
    Jobs(Vec<Job>),
    Rests(Vec<Rest>),
    /// A queue and its next place, if the session is there.
    Found(Option<(BTreeMap<Index, Queued>, Index)>),
    /// For each, whether the message was put there or the queue is still there.
    Known(Vec<bool>),
    Cids(Vec<Cid>),
    Subscriptions(Vec<(Cid, Uid, Filter)>),
    Joined {
        inc: Inc,
        generation: Inc,
    },
    Beat {
        present: bool,
        generation: Inc,
    },
    Number(Option<u64>),
    Incs(Vec<Inc>),
    Nodes {
        nodes: Vec<NodeState>,
        recoverers: Vec<(Inc, Inc)>,
        lost: Vec<Home>,
        position: u64,
    },
    Position {
        position: u64,
        generation: Inc,
    },
    Log {
        position: u64,
        entries: Vec<(u64, Entry)>,
    },
    /// What was asked for is not in the log any more.
    Trimmed,
    Snapshot(Snapshot),
    Taken(Vec<(u64, Message)>),
}
