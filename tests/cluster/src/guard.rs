//! The checks and orders of the protocol, each of which can be left out.

macro_rules! guards {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One check, or one thing that is waited for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Guard {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Guard {
            pub const ALL: &[Guard] = &[$(Guard::$name,)+];
        }
    };
}

guards! {
    /// A call of an incarnation that is not in `hw` does nothing.
    Fenced,
    /// A call whose number was done already does nothing.
    Duplicate,
    /// A call whose number is too high does nothing.
    Gap,
    /// An incarnation that was removed from a home can't enter it any more.
    EnterOnce,
    /// Changes of a session are its owner's.
    Token,
    /// A message is put into the queue of the session that it was matched with.
    AppendUid,
    /// A message with an identity is put into a queue once.
    MidKnown,
    /// That is known for each queue, not for each home.
    MidPerQueue,
    /// A client is handed on to an incarnation that may write only.
    NextIsAlive,
    /// A node is declared dead if its counter is the one that was seen.
    DeadCounter,
    /// Who resumes a session keeps its delayed will from being published.
    ResumeDropsWill,
    /// Who waits for a client does not claim it again: one that came later would lose it.
    ClaimOnce,
    /// A client is served when the node has delivered what was in its inbox: the client's messages from elsewhere.
    InboxBeforeOpen,
    /// A client is released when all calls with its messages have been answered.
    ReleaseAfterWorks,
    /// So it is when the log has what it has unsubscribed.
    LogBeforeRelease,
    /// SUBACK waits for the record of the session.
    SubackAfterRecord,
    /// SUBACK waits for the log.
    SubackAfterLog,
    /// SUBACK waits until the own mirror has the subscription.
    OwnMirror,
    /// An acknowledgement waits until the mirror has all that was in the log when the message came.
    Position,
    /// What is not acknowledged goes to a new subscription before anything later does.
    AdditionsFirst,
    /// An acknowledgement waits until all queues have the message.
    AckAfterAppend,
    /// PUBREC waits for the record of the message.
    PubrecAfterRecord,
    /// PUBREL waits for the record of PUBREC.
    PubrelAfterReleased,
    /// Messages are sent while nobody can have declared this node dead.
    LeaseBeforeSend,
    /// Silence counts only while the own reads are answered, and soon.
    OwnReads,
    /// Nothing is recovered before the dead node is out of all buckets.
    FenceFirst,
    /// Messages that a dead node had begun are finished before its clients are free.
    JobsBeforeFree,
    /// They keep their identity.
    SameMid,
    /// Jobs that a call has made are looked for once, and no others.
    JobsOfCall,
    /// Homes forget the identity of a message when its job is gone.
    ForgetAfterFinish,
}

/// Those that are on.
#[derive(Clone, Copy, Debug)]
pub struct Guards {
    off: Option<Guard>,
}

impl Guards {
    pub fn all() -> Guards {
        Guards { off: None }
    }

    pub fn without(guard: Guard) -> Guards {
        Guards { off: Some(guard) }
    }

    pub fn has(&self, guard: Guard) -> bool {
        self.off != Some(guard)
    }
}
