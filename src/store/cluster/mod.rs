//! What brokers that form a cluster keep together, and tell each other.
//!
//! The protocol, and why it is as it is, is in `tests/cluster/PROTOCOL.md`. Here is what of it the broker sees: changes
//! ([`ClusterOp`]) go by the journal like all others, what is read is asked for by [`Shared`], and what other brokers have
//! done comes by [`Follower`].

#![cfg_attr(
    not(feature = "redis"),
    allow(dead_code, unused_imports, reason = "there is no store that brokers could share")
)]

mod about;
mod entry;
mod homes;
mod ids;
mod op;
mod servers;
mod serving;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

pub(crate) use about::{About, AwaySession, Overview};
pub(crate) use entry::{Entry, RouteKind};
pub(crate) use homes::Homes;
pub(crate) use ids::{
    INCARNATIONS, Incarnation, Mid, Token, bucket_of_client, bucket_of_inbox, bucket_of_uid, inbox_of, new_uid,
    node_of_inbox,
};
pub(crate) use op::{ClusterOp, How, Once, Open, Publishing, Will, write_publish};
pub(crate) use servers::Servers;
pub(crate) use serving::Serving;

use super::{Store, StoreError, StoredMessage, StoredSession, Uid};
use crate::message::{Message, Publication};
use crate::packet::QoS;
use crate::time::Millis;

/// A store that several brokers have open at a time.
pub(crate) trait Shared: Store {
    /// That of this process, never used again.
    fn incarnation(&self) -> Incarnation;

    /// The time that all nodes go by, and when it was that time here.
    fn time(&self) -> (Millis, Instant);

    /// Begins to tell the follower what others do, from threads of the store, each kind of event one after the other. What was there
    /// when this process joined is read before, by [`snapshot`](Shared::snapshot), [`Store::sessions`] and [`Store::retained`].
    ///
    /// # Errors
    /// If the system gives no thread.
    fn follow_log(&self, follower: Arc<dyn Follower>) -> Result<(), StoreError>;

    /// The nodes and routes that there were at the position from which the log is followed.
    fn snapshot(&self) -> Result<Snapshot, StoreError>;

    /// Who owns each of these clients, and what is kept of it.
    fn clients(&self, client_ids: &[Arc<str>]) -> Result<Vec<ClientRecord>, StoreError>;

    /// Each of these sessions; `None` if it is not there (any more).
    fn these(&self, uids: &[Uid]) -> Result<Vec<Option<StoredSession>>, StoreError>;

    /// The place that each of these sessions gives next; 0 also if it is not there.
    fn next_places(&self, uids: &[Uid]) -> Result<Vec<u64>, StoreError>;

    /// One of [`clients`](Shared::clients).
    fn client(&self, client_id: &str) -> Result<ClientRecord, StoreError> {
        let records = self.clients(&[client_id.into()])?;
        Ok(records.into_iter().next().unwrap_or_default())
    }

    /// One of [`these`](Shared::these).
    fn session(&self, uid: Uid) -> Result<Option<StoredSession>, StoreError> {
        Ok(self.these(&[uid])?.into_iter().next().flatten())
    }

    /// The messages that are to be published once with these identities, of those that are there.
    fn jobs(&self, mids: &[(u8, Mid)]) -> Result<Vec<Job>, StoreError>;

    /// All that this incarnation has to publish once.
    fn jobs_of(&self, of: Incarnation) -> Result<Vec<Job>, StoreError>;

    /// All that sessions have left which this incarnation has to give to others. The messages are in the
    /// [queue](Store::queue) of the session: those of QoS 1 with a Shared Subscription.
    fn rests_of(&self, of: Incarnation) -> Result<Vec<Rest>, StoreError>;

    /// The Client Identifiers that this incarnation owns.
    fn owned_by(&self, of: Incarnation) -> Result<Vec<Box<str>>, StoreError>;

    /// How many clients of a bucket have a will or a session that is due, at most so many.
    fn due(&self, buckets: &[u8], most: usize) -> Result<Vec<(u8, usize)>, StoreError>;

    /// The nodes, and whom each recovers.
    fn members(&self) -> Result<Members, StoreError>;

    /// Raises this node's counter, if it is a member still, over a connection of its own. Says that the log was applied up to the
    /// position that the follower has reached, and drops what all have applied. Blocks; when it was sent is what counts.
    fn beat(&self) -> Result<bool, StoreError>;

    /// Gives up all buckets, if in none of them anything is this node's; else none: those where something is left. When it has
    /// given them up, nothing may be written to them any more. Blocks; may be repeated.
    ///
    /// # Errors
    /// Also if a batch has not been kept.
    fn depart(&self) -> Result<Vec<u8>, StoreError>;

    /// This node, which has given up all buckets, is none any more, and this store is over. Blocks; may be repeated.
    ///
    /// # Errors
    /// Also if a batch has not been kept.
    fn bye(&self) -> Result<(), StoreError>;

    /// Says what the others may know of this node, if it is a member still. How many entries of the log have not been applied here.
    fn announce(&self, about: &About) -> Result<u64, StoreError>;

    /// The cluster as it is.
    fn overview(&self) -> Result<Overview, StoreError>;

    /// How many sessions are kept, on all nodes and of clients that are away.
    fn count_sessions(&self) -> Result<u64, StoreError>;

    /// Some of the sessions of a bucket, and where to go on; 0 at the end. What is there all the time is found at least once.
    fn some_sessions(&self, bucket: u8, cursor: u64) -> Result<(Vec<AwaySession>, u64), StoreError>;

    /// What there is of one session, but its messages.
    fn glance(&self, uid: Uid) -> Result<Option<AwaySession>, StoreError>;

    /// Tells the owner of each client that somebody waits for it, which may get lost.
    fn want(&self, wanted: &[(Token, Arc<str>)]) -> Result<(), StoreError>;

    /// Says something to another node, which may get lost.
    fn say(&self, to: Incarnation, words: &[u8]) -> Result<(), StoreError>;

    /// Waits until the follower has been told all messages that are in the inbox of this node now. Blocks.
    fn empty_inbox(&self) -> Result<(), StoreError>;

    /// The generation of this incarnation is newer than this: those up to it are over, as Redis has lost writes of one of them.
    fn generation(&self) -> Incarnation;

    /// All that may write to a bucket, or may have left something there.
    fn writers(&self) -> Result<Vec<Incarnation>, StoreError>;

    /// The homes of which it is not known whether they have all that a node has written which had found it on these servers.
    fn homes_without(&self, servers: &Servers) -> Homes;

    /// What incarnations before of this process have left that is to be dealt with.
    fn inherited(&self) -> Inherited;

    /// Puts into queues again what they had put there, and Redis has lost. Blocks.
    ///
    /// # Errors
    /// If nothing was done, or this node is over.
    fn append_again(&self) -> Result<Again, StoreError>;

    /// What has been inherited has been dealt with.
    fn has_settled(&self);

    /// Leaves what is known to the next incarnation of this process, if Redis may have lost some of it. These clients were connected
    /// lately. To be called when the store takes no changes any more.
    fn hand_over(&self, clients: Vec<Box<str>>);

    /// Nothing that this node does has effect any more.
    fn is_over(&self) -> bool;

    /// This node can't go on, and is dead by its own doing: it begins anew, as another one.
    fn end(&self, why: &str);

    /// Whether there should be another batch soon, if only an empty one: something remains to be tidied up.
    fn owes(&self) -> bool;

    /// All that the follower has been told of so far has been answered up to this moment: the last contact.
    fn last_contact(&self) -> Option<Instant>;
}

/// Is told what others do. Called by threads of the store: it must not block, nor call the store.
pub(crate) trait Follower: Send + Sync + fmt::Debug {
    /// Applies an entry of the log to what messages are matched against; the number of the journal's batch that was open *after*
    /// that: messages of later batches have been matched with it.
    fn apply(&self, entry: &Entry<'_>) -> u64;

    /// Messages for sessions on this node of which nothing is kept, and QoS 0 for all. `share` is the Shared Subscription
    /// that has chosen this node; without it, the message is for all other subscriptions.
    fn inbox(&self, messages: &mut dyn Iterator<Item = InboxMessage<'_>>);

    /// Messages have been put into the queue of a session, at this place and those behind it; `None` of which only that is
    /// known. Places of a session may come in any order, and more than once.
    fn arrived(&self, uid: Uid, place: u64, messages: &mut dyn Iterator<Item = Option<StoredMessage>>);

    /// Somewhere, events may have been lost: it should look what is in the queues of all sessions here, and who waits for something should look.
    fn look(&self);

    /// Of these sessions it is not known what was put into their queues.
    fn look_into(&self, uid: Uid);

    /// Somebody else has claimed this client from this owner, which is of this node, and may be gone by now.
    fn wanted(&self, client_id: &str, from: Token);

    /// This node may now have the client, for which it has waited.
    fn granted(&self, client_id: &str);

    /// A session has ended: a message was to be put into its queue, or a change of this node has ended it.
    fn gone(&self, uid: Uid);

    /// A queue was full: a message was not put into it, or another one has given way.
    fn full(&self, uid: Uid);

    /// A member of this Shared Subscription for a message, but none of these, who can't take it. It must not be told of it, as
    /// it may not have it in the end.
    fn choose(&self, share: &str, message: &Publication<'_>, without: &[Uid]) -> Option<Member>;

    /// What changes of this node have left it to do, each told once: jobs, by their buckets, and what sessions have left.
    fn to_do(&self, jobs: &[(u8, Mid)], rests: &[Rest]);

    /// What is known here of the queues of sessions that are owned here. It may take a moment.
    fn witnesses(&self) -> Vec<Witness>;

    /// Another node has said something to this one.
    fn said(&self, words: &[u8]);
}

/// What a node knows of the queue of a session that it owns, and that nobody else changes but by putting something behind it.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    pub(crate) uid: Uid,
    /// The place that is given next, as far as that is known: it is not lower.
    pub(crate) next: u64,
    /// What was sent, and is not known to be finished, by its places.
    pub(crate) sent: Vec<(u64, Sent)>,
}

/// A message, and the Shared Subscription that has given it; without one if that has been released.
pub(crate) type Sent = Option<(Arc<Message>, Option<Box<str>>)>;

/// Of incarnations that are over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inherited {
    pub(crate) nodes: Vec<Incarnation>,
    /// Those who were connected to them lately.
    pub(crate) clients: Vec<Box<str>>,
}

/// What has come of messages that were to be put into queues again.
#[derive(Debug, Default)]
pub(crate) struct Again {
    pub(crate) made: u64,
    /// Their queues have no room.
    pub(crate) full: u64,
    /// Their sessions have ended, as those have that may have lost some.
    pub(crate) gone: u64,
    /// Those of Shared Subscriptions whose members are gone.
    pub(crate) for_others: Vec<StoredMessage>,
    /// Of those that were put there lately, how many nobody has remembered.
    pub(crate) forgotten: u64,
}

/// How a message goes to a member of a Shared Subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) uid: Uid,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// 4 bytes each, big-endian.
    pub(crate) subscription_ids: Vec<u8>,
}

/// A message of an inbox.
pub(crate) struct InboxMessage<'a> {
    pub(crate) message: Publication<'a>,
    pub(crate) share: Option<&'a str>,
    /// The session of its publisher, for No Local, if that may be on the same node.
    pub(crate) origin: Option<Uid>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) nodes: Vec<Incarnation>,
    pub(crate) routes: Vec<(Incarnation, Box<str>, RouteKind)>,
}

/// What there may be of things that all nodes count alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Messages in the queue of a session that are not in flight, and the bytes of topics, properties and payloads of all.
    pub(crate) queue_messages: u64,
    pub(crate) queue_bytes: u64,
    /// Whether the oldest messages that have not been sent give way to new ones; else the new ones are dropped.
    pub(crate) drops_oldest: bool,
    /// Topics with a retained message.
    pub(crate) retained_messages: u64,
}

/// `{b}:c:CID`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientRecord {
    pub(crate) owner: Option<Token>,
    pub(crate) next: Option<Token>,
    /// The owner that has begun: one that was the next had asked too early.
    pub(crate) opened: Option<Token>,
    /// The session, if one is kept.
    pub(crate) uid: Option<Uid>,
    /// Wills of its connections before have begun to be published.
    pub(crate) has_wills: bool,
}

/// A message that has begun, and must have effect once.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) mid: Mid,
    pub(crate) of: Incarnation,
    /// The bucket that has it.
    pub(crate) bucket: u8,
    /// Of a will: who the client was, as in [`read_client`](super::read_client), and the message as it was announced.
    pub(crate) will: Option<super::StoredWill>,
    /// Of a QoS 2 message: the session that has published it, for No Local.
    pub(crate) origin: Uid,
    pub(crate) message: Option<Message>,
    /// Shared Subscriptions, and the member that each has chosen, which perhaps has the message: nobody else may be given it. Known if it
    /// was asked for what a node has left.
    pub(crate) choices: Vec<(Box<str>, Uid)>,
}

/// The queue of a session that has ended: what Shared Subscriptions have put there is for other members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) mid: Mid,
    pub(crate) uid: Uid,
    pub(crate) of: Incarnation,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// Each with its counter.
    pub(crate) nodes: Vec<(Incarnation, u64)>,
    /// Who is dead, and who recovers it.
    pub(crate) recoverers: Vec<(Incarnation, Incarnation)>,
    /// Where each node that has said so has found all that it has written.
    pub(crate) servers: Vec<(Incarnation, Servers)>,
    /// Incarnations up to this one are over; 0 if none is.
    pub(crate) generation: Incarnation,
    /// Homes that have lost writes of incarnations that are over.
    pub(crate) lost: Homes,
    /// The last entry of the log.
    pub(crate) position: u64,
    /// Counts up with each server that was asked: heartbeats that were seen on one say nothing of another.
    pub(crate) epoch: u64,
    /// The time of Redis.
    pub(crate) now: Option<Millis>,
}
