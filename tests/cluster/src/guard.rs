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
    /// It is retained once, too.
    RetainOnce,
    /// That is known for each queue, not for each home.
    MidPerQueue,
    /// That is known for each group, too, that has it in the same queue.
    MidPerGroup,
    /// What was put into a queue that is gone now is not given to another member.
    KnownIsNotGone,
    /// What groups gave to a session that ends goes to other members.
    RestGoesOn,
    /// QoS 2 does not.
    MemberKeepsQos2,
    /// That is over when the others have it.
    FinishAfterGiven,
    /// A message whose member is gone goes to another one.
    GoneGoesOn,
    /// Whether it is gone is asked for if the answer was lost.
    AskAfterDone,
    /// Of a message with an identity, the choice of its members is recorded first.
    ChoiceRecorded,
    /// A QoS 2 message for a group has an identity, whoever sends it.
    SharedQos2HasMid,
    /// A new member gets what is under way and nobody got.
    NobodyYet,
    /// It gets nothing that another member got.
    GivenOnce,
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
    /// So it is when the wills of its connections before have been published.
    WillBeforeConnack,
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
    /// A hint is followed if its place in the queue is the next one.
    NextPlace,
    /// It is for the session that the connection has.
    HintUid,
    /// Who has had no hint for a while looks at the queue.
    LookAgain,
    /// The wills of a node that leaves wait for their clients to come back.
    LeaveDefersWills,
    /// Who comes back keeps such a will from being published.
    BackDropsWill,
    /// A node that leaves waits until what it recovers is recovered.
    ByeAfterRecoveries,
    /// It leaves the buckets before it is no node any more.
    DepartBeforeBye,
    /// It leaves a bucket if nothing in it is its own.
    DepartWhenEmpty,
    /// A new server is asked whether it has what was confirmed, before anything else is sent to it.
    NewServerIsAsked,
    /// A session in which nothing was ever changed ends with its connection, whose client may not know of it.
    UnusedEnds,
    /// What was seen of heartbeats on the server before says nothing of a new one.
    CountersOfServer,
    /// A node that dies before it has asked a new server may have lost writes.
    LastOfDead,
    /// When writes were lost, all incarnations end.
    GenerationEnds,
    /// Nobody is served before nothing of an older generation is left.
    SettleFirst,
    /// Sessions of clients that were connected end if writes to their home were lost.
    TouchedEnd,
    /// Lost appends are made again.
    AppendAgain,
    /// Incarnations that a failover has made unknown are recovered.
    AdoptOrphans,
    /// A server that lacks the last writes does not give numbers of incarnations again.
    IncsGoOn,
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
