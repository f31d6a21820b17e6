//! `{b}`: what belongs to clients.

use std::collections::{BTreeMap, BTreeSet};

use super::Hw;
use super::call::{Answer, Call, Change, How, Job, Open, Queued, Rest, Target};
use crate::guard::{Guard, Guards};
use crate::ids::{BUCKETS, Cid, Filter, Inc, Index, Message, Mid, Pid, Time, Token, Uid, Will};
use crate::world::GRACE;

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
    /// `rest`: queues of sessions that have ended.
    pub rests: BTreeMap<Mid, Rest>,
    /// `m2`: what has been put where, with the incarnation whose job it is.
    pub once: BTreeMap<(Mid, Option<Target>), Inc>,
    /// `in:I` of the incarnations whose inboxes are here.
    pub inboxes: BTreeMap<Inc, Inbox>,
    number: u8,
}

/// What other nodes have for the sessions of one incarnation of which nothing is kept.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    pub(super) messages: BTreeMap<u64, Message>,
    pub(super) last: u64,
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
    /// Its node has left: who comes back in time is there, and there is no will.
    pub is_left: bool,
    pub ends_at: Option<Time>,
    /// Its wills that have begun to be published.
    pub wills: BTreeSet<Mid>,
}

#[derive(Clone, Debug, Default)]
pub struct Session {
    pub cid: Cid,
    pub expiry: Time,
    /// Something was changed in it: its client knows that it was made.
    pub is_used: bool,
    pub subs: BTreeSet<Filter>,
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
                if self.hw.last.contains_key(inc) {
                    self.hw.fenced.insert(*inc);
                }
                self.hw.remove(*inc);
                Answer::Ok
            }
            Call::EndSession { cid, mid, generation } => {
                self.end_session_of(guards, now, *cid, (*mid, *generation, by))
            }
            Call::Depart => self.depart(guards, by),
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
            Call::Finish(mid) => self.finish(*mid),
            Call::Choose { mid, group, member } => {
                if let Some(job) = self.jobs.get_mut(mid) {
                    job.choices.insert(*group, *member);
                }
                Answer::Ok
            }
            Call::FinishRest(mid) => {
                self.rests.remove(mid);
                Answer::Ok
            }
            Call::Release { cid, token, how, mid } => self.release(guards, now, (*cid, *token), *how, *mid),
            Call::Sweep { mids } => self.sweep(guards, now, by, mids),
            Call::Free {
                of,
                cid,
                mid,
                is_older,
                ends,
            } => self.free(guards, now, (*of, *is_older, *ends), (*cid, *mid)),
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
                self.hw.fenced.remove(inc);
                Answer::Ok
            }
            Call::Known(items) => self.known(guards, items),
            read => self.read(read),
        }
    }

    /// An incarnation gives up this bucket, if nothing in it is its own. May be repeated.
    fn depart(&mut self, guards: &Guards, by: Inc) -> Answer {
        let has_jobs = self.jobs.values().any(|job| job.of == by) || self.rests.values().any(|rest| rest.of == by);
        let has_more = self.owned.contains_key(&by) || self.once.values().any(|of| *of == by);
        if (has_jobs || has_more) && self.hw.last.contains_key(&by) && guards.has(Guard::DepartWhenEmpty) {
            return Answer::NotYet;
        }
        self.hw.remove(by);
        self.inboxes.remove(&by);
        Answer::Ok
    }

    fn read(&self, call: &Call) -> Answer {
        match call {
            Call::Owner(cid) => {
                let client = self.clients.get(cid);
                Answer::Owner {
                    owner: client.and_then(|client| client.owner),
                    next: client.and_then(|client| client.next),
                    has_wills: client.is_some_and(|client| !client.wills.is_empty()),
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
                let Some(session) = self.sessions.get(uid) else {
                    return Answer::Queue(Vec::new(), *from);
                };
                let queue = session.queue.range(from..);
                let queue = queue.map(|(at, queued)| (*at, queued.clone()));
                Answer::Queue(queue.collect(), session.next)
            }
            Call::JobsOf(inc) => Answer::Jobs(self.jobs.values().filter(|job| job.of == *inc).cloned().collect()),
            Call::RestsOf(inc) => Answer::Rests(self.rests.values().filter(|rest| rest.of == *inc).cloned().collect()),
            Call::Look(uid) => {
                let session = self.sessions.get(uid);
                Answer::Found(session.map(|session| (session.queue.clone(), session.next)))
            }
            Call::Number(inc) => Answer::Number(self.hw.last.get(inc).copied()),
            Call::Writers => Answer::Incs(self.hw.last.keys().chain(&self.hw.fenced).copied().collect()),
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
                        .map(move |filter| (cid, uid, *filter))
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
        let is_back = std::mem::take(&mut client.is_left) && guards.has(Guard::BackDropsWill);
        if let (false, Some(will)) = (resumes || is_back, before) {
            self.add_will(open.cid, open.mid, will.message, open.token.inc);
        }
        if let Some(ended) = ended {
            self.end_session(guards, ended, open.mid, open.token.inc);
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
        if let Change::Subscribe(_, Some(made)) = *change {
            self.make_queue(cid, made);
        }
        let uid = self.clients.get(&cid).and_then(|client| client.uid);
        let Some(session) = uid.and_then(|uid| self.sessions.get_mut(&uid)) else {
            return false;
        };
        session.is_used = true;
        match *change {
            Change::Subscribe(filter, _) => drop(session.subs.insert(filter)),
            Change::Unsubscribe(filter) => drop(session.subs.remove(&filter)),
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

    /// For a client of which nothing is kept: a session that ends with its connection.
    fn make_queue(&mut self, cid: Cid, uid: Uid) {
        let client = self.clients.entry(cid).or_default();
        if client.uid.is_none() {
            client.uid = Some(uid);
            let session = self.sessions.entry(uid).or_default();
            session.cid = cid;
        }
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
        Answer::Begun(self.jobs.get(&mid).cloned())
    }

    fn release(&mut self, guards: &Guards, now: Time, (cid, token): (Cid, Token), how: How, mid: Mid) -> Answer {
        if self.clients.get(&cid).and_then(|client| client.owner) != Some(token) {
            return Answer::NotOwner;
        }
        self.leave(guards, now, cid, (token.inc, how, false), mid)
    }

    /// The connection is over: its will is due, its session waits or ends, and the next one has it.
    fn leave(&mut self, guards: &Guards, now: Time, cid: Cid, (of, how, ends): (Inc, How, bool), mid: Mid) -> Answer {
        let Some(client) = self.clients.get_mut(&cid) else {
            return Answer::NotOwner;
        };
        // Nobody has opened it since: what waits is of the connection before, and goes on waiting.
        let is_waiting = client.will_at.is_some() || client.ends_at.is_some();
        let session = client.uid.and_then(|uid| self.sessions.get(&uid));
        let expiry = session.map_or(0, |session| session.expiry);
        let is_unused = session.is_some_and(|session| !session.is_used) && guards.has(Guard::UnusedEnds);
        let volatile = ends || (!is_waiting && (expiry == 0 || is_unused));
        if !is_waiting {
            let is_left = how == How::Left && guards.has(Guard::LeaveDefersWills);
            let will = client.will.take().filter(|_| how != How::Clean);
            client.is_left = is_left;
            client.ends_at = client.uid.map(|_| now + expiry);
            match will {
                Some(will) if !is_left && (volatile || will.delay == 0) => self.add_will(cid, mid, will.message, of),
                Some(will) => {
                    let grace = if is_left { GRACE } else { 0 };
                    client.will = Some(will);
                    // A session that ends with its connection has no delay.
                    let delay = if volatile { 0 } else { will.delay };
                    client.will_at = Some(now + delay.max(grace));
                }
                None => {}
            }
        }
        let client = self.clients.entry(cid).or_default();
        let ended = if volatile { client.uid.take() } else { None };
        if ended.is_some() {
            client.ends_at = None;
        }
        let next = client.next.take();
        let next = next.filter(|next| self.hw.last.contains_key(&next.inc) || !guards.has(Guard::NextIsAlive));
        self.set_owner(cid, next);
        self.drop_if_empty(cid);
        if let Some(ended) = ended {
            self.end_session(guards, ended, mid, of);
        }
        Answer::Left { ended }
    }

    /// The will becomes a job. Until that is done, whoever gets the client waits.
    fn add_will(&mut self, cid: Cid, mid: Mid, message: Message, of: Inc) {
        self.add_job(mid, message, of);
        self.clients.entry(cid).or_default().wills.insert(mid);
    }

    fn finish(&mut self, mid: Mid) -> Answer {
        self.jobs.remove(&mid);
        let client = self.clients.iter_mut().find(|(_, client)| client.wills.contains(&mid));
        if let Some((cid, client)) = client {
            client.wills.remove(&mid);
            let cid = *cid;
            self.drop_if_empty(cid);
        }
        Answer::Ok
    }

    fn drop_if_empty(&mut self, cid: Cid) {
        let client = self.clients.get(&cid);
        let is_empty = |client: &Client| {
            let has_no_will = client.will.is_none() && client.wills.is_empty();
            client.owner.is_none() && client.uid.is_none() && has_no_will
        };
        if client.is_some_and(is_empty) {
            self.clients.remove(&cid);
        }
    }

    fn sweep(&mut self, guards: &Guards, now: Time, by: Inc, mids: &[Mid]) -> Answer {
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
                ended.extend(client.uid.take().map(|uid| (uid, *mid)));
            }
            if let Some(will) = will {
                self.add_will(cid, *mid, will.message, by);
            }
            self.drop_if_empty(cid);
        }
        ended
            .iter()
            .for_each(|(uid, mid)| self.end_session(guards, *uid, *mid, by));
        let ended = ended.into_iter().map(|(uid, _)| uid).collect();
        Answer::Swept(ended)
    }

    /// A client of a dead incarnation: as if its connection had been lost. If it is of an older generation, it comes back
    /// soon; and its session ends if nobody knows what was lost of it.
    fn free(
        &mut self,
        guards: &Guards,
        now: Time,
        (of, is_older, ends): (Inc, bool, bool),
        (cid, mid): (Cid, Mid),
    ) -> Answer {
        let owner = self.clients.get(&cid).and_then(|client| client.owner);
        if owner.is_none_or(|owner| owner.inc != of) {
            return Answer::NotOwner;
        }
        let how = if is_older { How::Left } else { How::Lost };
        self.leave(guards, now, cid, (of, how, ends), mid)
    }

    /// Of a client that was connected when writes were lost: what its session was is not known. Nothing if it has a
    /// connection of the new generation.
    fn end_session_of(
        &mut self,
        guards: &Guards,
        now: Time,
        cid: Cid,
        (mid, generation, by): (Mid, Inc, Inc),
    ) -> Answer {
        let Some(client) = self.clients.get_mut(&cid) else {
            return Answer::NotOwner;
        };
        if client.uid.is_some_and(|uid| uid.inc > generation) {
            return Answer::NotOwner;
        }
        match client.owner {
            Some(owner) if owner.inc > generation => Answer::NotOwner,
            Some(_) => self.leave(guards, now, cid, (by, How::Left, true), mid),
            None => {
                let ended = client.uid.take();
                client.ends_at = None;
                self.drop_if_empty(cid);
                if let Some(ended) = ended {
                    self.end_session(guards, ended, mid, by);
                }
                Answer::Left { ended }
            }
        }
    }
}
