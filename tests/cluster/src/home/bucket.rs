//! `{b}`: what belongs to clients.

use std::collections::{BTreeMap, BTreeSet};

use super::Hw;
use super::call::{Answer, Append, Call, Change, How, Job, Open, Queued, To};
use crate::guard::{Guard, Guards};
use crate::ids::{BUCKETS, Cid, Inc, Index, Message, Mid, Pid, Time, Token, Topic, Uid, Will};

#[derive(Clone, Debug, Default)]
pub struct Bucket {
    pub hw: Hw,
    /// `c:<cid>`.
    pub clients: BTreeMap<Cid, Client>,
    /// `s:<uid>`, `q:<uid>`.
    pub sessions: BTreeMap<Uid, Session>,
    /// `own:I`.
    pub owned: BTreeMap<Inc, BTreeSet<Cid>>,
    /// `jobs`.
    pub jobs: BTreeMap<Mid, Job>,
    /// `m2`: what has been put where, with the incarnation whose job it is.
    pub once: BTreeMap<(Mid, Option<To>), Inc>,
    /// `in:I` of the incarnations whose inboxes are here.
    pub inboxes: BTreeMap<Inc, Inbox>,
    number: u8,
}

/// What other nodes have for the sessions of one incarnation of which nothing is kept.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    messages: BTreeMap<u64, Message>,
    last: u64,
}

/// Who owns a Client Identifier, and what is to be done for it.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub owner: Option<Token>,
    pub next: Option<Token>,
    pub uid: Option<Uid>,
    pub will: Option<Will>,
    /// When its will and its session are due, while nobody owns it.
    pub will_at: Option<Time>,
    pub ends_at: Option<Time>,
}

#[derive(Clone, Debug, Default)]
pub struct Session {
    pub cid: Cid,
    pub expiry: Time,
    pub subs: BTreeSet<Topic>,
    pub queue: BTreeMap<Index, Queued>,
    pub next: Index,
    /// `in:<pid>`.
    pub received: BTreeMap<Pid, Message>,
}

impl Bucket {
    pub(super) fn new(number: u8) -> Bucket {
        Bucket {
            number,
            ..Bucket::default()
        }
    }

    pub(super) fn run(&mut self, guards: &Guards, now: Time, by: Inc, call: &Call) -> Answer {
        match call {
            Call::Enter => match self.hw.enter(guards, by) {
                true => {
                    if by % Inc::from(BUCKETS) == Inc::from(self.number) {
                        self.inboxes.entry(by).or_default();
                    }
                    Answer::Ok
                }
                false => Answer::Fenced,
            },
            Call::Fence(inc) => {
                self.hw.remove(*inc);
                Answer::Ok
            }
            Call::Claim { cid, token } => self.claim(*cid, *token),
            Call::Open(open) => self.open(guards, open),
            Call::Changes(changes) => {
                let done = changes
                    .iter()
                    .map(|(cid, token, change)| self.change(guards, *cid, *token, change));
                Answer::Changed(done.collect())
            }
            Call::Begin { cid, token, pid, mid } => self.begin(guards, (*cid, *token), *pid, *mid),
            Call::Append(items) => Answer::Appended(items.iter().map(|item| self.append(guards, item)).collect()),
            Call::Finish(mid) => {
                self.jobs.remove(mid);
                Answer::Ok
            }
            Call::Release { cid, token, how, mid } => self.release(guards, now, (*cid, *token), *how, *mid),
            Call::Sweep { mids } => self.sweep(now, by, mids),
            Call::Free { of, cid, mid } => self.free(guards, now, *of, *cid, *mid),
            Call::Take { above } => self.take(by, *above),
            Call::Destroy(inc) => {
                self.inboxes.remove(inc);
                Answer::Ok
            }
            Call::Forget(mid) => {
                self.once.retain(|(known, _), _| known != mid);
                Answer::Ok
            }
            Call::ForgetOf(inc) => {
                self.once.retain(|_, of| of != inc);
                Answer::Ok
            }
            read => self.read(read),
        }
    }

    fn read(&self, call: &Call) -> Answer {
        match call {
            Call::Owner(cid) => {
                let client = self.clients.get(cid);
                Answer::Owner {
                    owner: client.and_then(|client| client.owner),
                    next: client.and_then(|client| client.next),
                }
            }
            Call::Session(cid) => {
                let uid = self.clients.get(cid).and_then(|client| client.uid);
                let session = uid.and_then(|uid| self.sessions.get(&uid));
                let subs = session.map(|session| session.subs.iter().copied().collect());
                Answer::Session {
                    uid,
                    subs: subs.unwrap_or_default(),
                }
            }
            Call::Queue { uid, from } => {
                let queue = self.sessions.get(uid).map(|session| session.queue.range(from..));
                Answer::Queue(
                    queue
                        .into_iter()
                        .flatten()
                        .map(|(at, queued)| (*at, queued.clone()))
                        .collect(),
                )
            }
            Call::JobsOf(inc) => Answer::Jobs(self.jobs.values().filter(|job| job.of == *inc).cloned().collect()),
            Call::OwnedBy(inc) => Answer::Cids(self.owned.get(inc).into_iter().flatten().copied().collect()),
            Call::Wanted(inc) => {
                let cids = self.owned.get(inc).into_iter().flatten();
                let is_wanted = |cid: &&Cid| self.clients.get(cid).is_some_and(|client| client.next.is_some());
                Answer::Cids(cids.filter(is_wanted).copied().collect())
            }
            Call::Subscriptions => {
                let of = |(uid, session): (&Uid, &Session)| {
                    let (uid, cid) = (*uid, session.cid);
                    session
                        .subs
                        .iter()
                        .map(move |topic| (cid, uid, *topic))
                        .collect::<Vec<_>>()
                };
                Answer::Subscriptions(self.sessions.iter().flat_map(of).collect())
            }
            other => unreachable!("{other:?} is not for this home"),
        }
    }

    fn claim(&mut self, cid: Cid, token: Token) -> Answer {
        let client = self.clients.entry(cid).or_default();
        if client.owner.is_some() {
            client.next = Some(token);
            return Answer::Waits;
        }
        self.set_owner(cid, Some(token));
        Answer::Granted
    }

    /// The only place where ownership changes.
    fn set_owner(&mut self, cid: Cid, owner: Option<Token>) {
        let client = self.clients.entry(cid).or_default();
        if let Some(before) = client.owner
            && let Some(owned) = self.owned.get_mut(&before.inc)
        {
            owned.remove(&cid);
        }
        client.owner = owner;
        if let Some(token) = owner {
            self.owned.entry(token.inc).or_default().insert(cid);
        }
        self.owned.retain(|_, cids| !cids.is_empty());
    }

    fn is_owner(&self, guards: &Guards, cid: Cid, token: Token) -> bool {
        let owner = self.clients.get(&cid).and_then(|client| client.owner);
        owner == Some(token) || (!guards.has(Guard::Token) && owner.is_some())
    }

    fn open(&mut self, guards: &Guards, open: &Open) -> Answer {
        let Some(client) = self
            .clients
            .get_mut(&open.cid)
            .filter(|client| client.owner == Some(open.token))
        else {
            return Answer::NotOwner;
        };
        let resumes = !open.clean && open.uid.is_some() && client.uid.is_some();
        let ended = if resumes { None } else { client.uid.take() };
        client.ends_at = None;
        // The will of a connection before this one: of its session, if that goes on, nothing is to be published any more.
        let is_due = client.will_at.take().is_some();
        let before = client.will.take().filter(|_| is_due);
        if !guards.has(Guard::ResumeDropsWill) && resumes {
            client.will_at = before.map(|_| 0);
        }
        client.will = if client.will_at.is_some() { before } else { open.will };
        client.uid = client.uid.or(open.uid);
        let uid = client.uid;
        if let (false, Some(will)) = (resumes, before) {
            self.add_job(open.mid, will.message, open.token.inc);
        }
        if let Some(ended) = ended {
            self.sessions.remove(&ended);
        }
        if let Some(uid) = uid {
            let session = self.sessions.entry(uid).or_default();
            session.cid = open.cid;
            session.expiry = open.expiry;
        }
        Answer::Opened { uid, ended }
    }

    fn change(&mut self, guards: &Guards, cid: Cid, token: Token, change: &Change) -> bool {
        if !self.is_owner(guards, cid, token) {
            return false;
        }
        let uid = self.clients.get(&cid).and_then(|client| client.uid);
        let Some(session) = uid.and_then(|uid| self.sessions.get_mut(&uid)) else {
            return false;
        };
        match *change {
            Change::Subscribe(topic) => drop(session.subs.insert(topic)),
            Change::Unsubscribe(topic) => drop(session.subs.remove(&topic)),
            Change::Received(pid, message) => drop(session.received.entry(pid).or_insert(message)),
            Change::Released(index) => {
                if let Some(queued) = session.queue.get_mut(&index) {
                    queued.released = true;
                }
            }
            Change::Done(index) => drop(session.queue.remove(&index)),
        }
        true
    }

    fn begin(&mut self, guards: &Guards, (cid, token): (Cid, Token), pid: Pid, mid: Mid) -> Answer {
        if !self.is_owner(guards, cid, token) {
            return Answer::NotOwner;
        }
        let uid = self.clients.get(&cid).and_then(|client| client.uid);
        let session = uid.and_then(|uid| self.sessions.get_mut(&uid));
        let Some(message) = session.and_then(|session| session.received.remove(&pid)) else {
            return Answer::Begun(None);
        };
        self.add_job(mid, message, token.inc);
        Answer::Begun(Some(message))
    }

    fn add_job(&mut self, mid: Mid, message: Message, of: Inc) {
        self.jobs.insert(mid, Job { mid, message, of });
    }

    /// Whether the queue is there.
    fn append(&mut self, guards: &Guards, item: &Append) -> bool {
        let mut to = item.to;
        if let To::Session(cid, _) = to
            && !guards.has(Guard::AppendUid)
            && let Some(now) = self.clients.get(&cid).and_then(|client| client.uid)
        {
            to = To::Session(cid, now);
        }
        let is_there = match to {
            To::Session(_, uid) => self.sessions.contains_key(&uid),
            To::Inbox(inc) => self.inboxes.contains_key(&inc),
        };
        if !is_there || self.is_known(guards, item, to) {
            return is_there;
        }
        self.put(to, item);
        true
    }

    /// Whether it has been put there before; from now on it has.
    fn is_known(&mut self, guards: &Guards, item: &Append, to: To) -> bool {
        let Some((mid, of)) = item.once else { return false };
        let key = (mid, guards.has(Guard::MidPerQueue).then_some(to));
        self.once.insert(key, of).is_some() && guards.has(Guard::MidKnown)
    }

    fn put(&mut self, to: To, item: &Append) {
        let message = item.message;
        match to {
            To::Session(_, uid) => {
                if let Some(session) = self.sessions.get_mut(&uid) {
                    session.queue.insert(
                        session.next,
                        Queued {
                            message,
                            released: false,
                        },
                    );
                    session.next += 1;
                }
            }
            To::Inbox(inc) => {
                if let Some(inbox) = self.inboxes.get_mut(&inc) {
                    inbox.last += 1;
                    inbox.messages.insert(inbox.last, message);
                }
            }
        }
    }

    /// What is in an inbox above this place; what is below has been read.
    fn take(&mut self, inc: Inc, above: u64) -> Answer {
        let Some(inbox) = self.inboxes.get_mut(&inc) else {
            return Answer::Taken(Vec::new());
        };
        inbox.messages = inbox.messages.split_off(&(above + 1));
        Answer::Taken(inbox.messages.iter().map(|(at, message)| (*at, *message)).collect())
    }

    fn release(&mut self, guards: &Guards, now: Time, (cid, token): (Cid, Token), how: How, mid: Mid) -> Answer {
        if self.clients.get(&cid).and_then(|client| client.owner) != Some(token) {
            return Answer::NotOwner;
        }
        self.leave(guards, now, cid, (token.inc, how), mid)
    }

    /// The connection is over: its will is due, its session waits or ends, and the next one has it.
    fn leave(&mut self, guards: &Guards, now: Time, cid: Cid, (of, how): (Inc, How), mid: Mid) -> Answer {
        let Some(client) = self.clients.get_mut(&cid) else {
            return Answer::NotOwner;
        };
        let volatile = client.uid.is_none();
        let will = client.will.filter(|_| how == How::Lost);
        client.will = None;
        if let Some(will) = will {
            if volatile || will.delay == 0 {
                self.add_job(mid, will.message, of);
            } else {
                client.will = Some(will);
                client.will_at = Some(now + will.delay);
            }
        }
        let client = self.clients.entry(cid).or_default();
        if let Some(session) = client.uid.and_then(|uid| self.sessions.get(&uid)) {
            client.ends_at = Some(now + session.expiry);
        }
        let next = client.next.take();
        let next = next.filter(|next| self.hw.last.contains_key(&next.inc) || !guards.has(Guard::NextIsAlive));
        self.set_owner(cid, next);
        self.drop_if_empty(cid);
        Answer::Ok
    }

    fn drop_if_empty(&mut self, cid: Cid) {
        let client = self.clients.get(&cid);
        if client.is_some_and(|client| client.owner.is_none() && client.uid.is_none() && client.will.is_none()) {
            self.clients.remove(&cid);
        }
    }

    fn sweep(&mut self, now: Time, by: Inc, mids: &[Mid]) -> Answer {
        let mut mids = mids.iter();
        let mut ended = Vec::new();
        for cid in self.clients.keys().copied().collect::<Vec<_>>() {
            let Some(client) = self.clients.get_mut(&cid).filter(|client| client.owner.is_none()) else {
                continue;
            };
            let ends = client.ends_at.is_some_and(|at| at <= now);
            let is_due = ends || client.will_at.is_some_and(|at| at <= now);
            if !is_due {
                continue;
            }
            let Some(mid) = mids.next() else { break };
            client.will_at = None;
            let will = client.will.take();
            if ends {
                client.ends_at = None;
                ended.extend(client.uid.take());
            }
            if let Some(will) = will {
                self.add_job(*mid, will.message, by);
            }
            self.drop_if_empty(cid);
        }
        ended.iter().for_each(|uid| drop(self.sessions.remove(uid)));
        Answer::Swept(ended)
    }

    /// A client of a dead incarnation: as if its connection had been lost.
    fn free(&mut self, guards: &Guards, now: Time, of: Inc, cid: Cid, mid: Mid) -> Answer {
        let owner = self.clients.get(&cid).and_then(|client| client.owner);
        if owner.is_none_or(|owner| owner.inc != of) {
            return Answer::NotOwner;
        }
        self.leave(guards, now, cid, (of, How::Lost), mid)
    }
}
