//! What scripts are asked and answer.

use crate::ids::{Cid, Inc, Index, Message, Mid, Pid, Time, Token, Topic, Uid, Will};

/// Whose queue a message is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    Session(Cid, Uid),
    /// That of a node, for its sessions of which nothing is kept.
    Inbox(Inc),
}

/// A message for one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    pub to: To,
    pub message: Message,
    /// If it must have effect once, whoever sends it again: its identity, and the incarnation whose job it is.
    pub once: Option<(Mid, Inc)>,
}

/// A change of a session by its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Subscribe(Topic),
    Unsubscribe(Topic),
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
}

/// A message that is to be published once, by an incarnation or by whoever recovers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub mid: Mid,
    pub message: Message,
    pub of: Inc,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Join(Inc),
    Dead(Inc),
    Sub(Cid, Uid, Topic),
    Unsub(Uid, Topic),
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
    Claim { cid: Cid, token: Token },
    Open(Open),
    Changes(Vec<(Cid, Token, Change)>),
    Begin { cid: Cid, token: Token, pid: Pid, mid: Mid },
    Append(Vec<Append>),
    Finish(Mid),
    Release { cid: Cid, token: Token, how: How, mid: Mid },
    Sweep { mids: Vec<Mid> },
    Free { of: Inc, cid: Cid, mid: Mid },
    Owner(Cid),
    Session(Cid),
    Queue { uid: Uid, from: Index },
    JobsOf(Inc),
    OwnedBy(Inc),
    Wanted(Inc),
    Subscriptions,
    Take { above: u64 },
    Destroy(Inc),
    Forget(Mid),
    ForgetOf(Inc),
    // The global home.
    Join,
    Beat { applied: u64 },
    Nodes,
    Dead { inc: Inc, counter: u64 },
    TakeOver(Inc),
    Recovered(Inc),
    Log(Vec<Entry>),
    Position,
    ReadLog { from: u64 },
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
    pub released: bool,
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeState {
    pub inc: Inc,
    pub counter: u64,
    pub applied: u64,
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
    Granted,
    Waits,
    Opened {
        uid: Option<Uid>,
        ended: Option<Uid>,
    },
    /// For each change, whether it was made.
    Changed(Vec<bool>),
    /// Nothing if it has begun already, or was never received.
    Begun(Option<Message>),
    /// For each message, whether its session is there.
    Appended(Vec<bool>),
    Swept(Vec<Uid>),
    Owner {
        owner: Option<Token>,
        next: Option<Token>,
    },
    Session {
        uid: Option<Uid>,
        subs: Vec<Topic>,
    },
    Queue(Vec<(Index, Queued)>),
    Jobs(Vec<Job>),
    Cids(Vec<Cid>),
    Subscriptions(Vec<(Cid, Uid, Topic)>),
    Joined {
        inc: Inc,
    },
    Beat {
        present: bool,
    },
    Nodes {
        nodes: Vec<NodeState>,
        recoverers: Vec<(Inc, Inc)>,
        position: u64,
    },
    Position {
        position: u64,
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
