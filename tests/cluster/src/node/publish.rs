//! From a message to the homes of those who get it, and to its acknowledgement.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::Node;
use super::share::Given;
use crate::exec::Mailbox;
use crate::guard::Guard;
use crate::home::{Answer, Append, Call, Change, Entry, Job, Put, Target, To, hint_of};
use crate::ids::{Cid, Group, Home, Inc, Message, Mid, Qos, Token, Topic, Uid};

/// A message on its way.
pub(super) struct Pending {
    pub(super) message: Message,
    scope: Scope,
    /// Where it is a job, if it is one.
    pub(super) job: Option<(Home, Mid)>,
    /// Its identity, if it must have effect once: in all queues, or only in those that get it for a group.
    once: Option<(Mid, Inc)>,
    /// The members that its job has.
    pub(super) chosen: BTreeMap<Group, (Cid, Uid)>,
    targets: RefCell<BTreeSet<Target>>,
    pub(super) given: RefCell<BTreeMap<Group, Given>>,
    /// Appends that have not been answered.
    pub(super) open: Cell<usize>,
    /// It is to be retained.
    retains: bool,
    /// The position of the log that the mirror must reach, once it is known.
    needs: Cell<Option<u64>>,
}

impl Pending {
    /// The homes that know its identity.
    pub(super) fn homes_with_identity(&self) -> BTreeSet<Home> {
        let targets = self.targets.borrow();
        let with_it = targets.iter().filter(|target| self.once_for(**target).is_some());
        let log = (self.retains && self.job.is_some()).then_some(Home::Global);
        with_it.map(|target| home_of(target.to)).chain(log).collect()
    }

    /// Whether a group gets it, or all those that get it for themselves.
    pub(super) fn is_for(&self, group: Option<Group>) -> bool {
        match self.scope {
            Scope::All => true,
            Scope::Group(only, _) => group == Some(only),
        }
    }

    /// Its identity in this queue.
    pub(super) fn once_for(&self, target: Target) -> Option<(Mid, Inc)> {
        self.once.filter(|_| self.job.is_some() || target.group.is_some())
    }
}

/// Who gets a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    /// One group, of which this member's session has ended.
    Group(Group, Uid),
}

/// A message on its way to a queue.
pub(super) type Entering = (Target, Rc<Pending>);

/// A change, and where its answer goes.
type Changing = ((Cid, Token, Change), Mailbox<bool>);

/// What the next flush sends.
#[derive(Default)]
pub(super) struct Batch {
    appends: BTreeMap<Home, Vec<Entering>>,
    changes: BTreeMap<Home, Vec<Changing>>,
    retained: Vec<(Message, Option<(Mid, Inc)>)>,
    accepted: Vec<Rc<Pending>>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.changes.is_empty() && self.accepted.is_empty()
    }
}

impl Node {
    /// Matches a message, and puts it into the next flush.
    pub(super) fn accept(self: &Rc<Self>, message: Message) -> Rc<Pending> {
        self.accept_for(message, Scope::All)
    }

    pub(super) fn accept_for(self: &Rc<Self>, message: Message, scope: Scope) -> Rc<Pending> {
        let has_identity = message.qos == Qos::Two && self.has(Guard::SharedQos2HasMid);
        let given = match scope {
            Scope::Group(group, uid) => [(group, Given::without(uid))].into(),
            Scope::All => BTreeMap::new(),
        };
        self.put_on_way(Pending {
            message,
            scope,
            job: None,
            once: has_identity.then(|| (self.new_mid(), self.inc.get())),
            chosen: BTreeMap::new(),
            targets: RefCell::default(),
            given: RefCell::new(given),
            open: Cell::default(),
            retains: false,
            needs: Cell::default(),
        })
    }

    pub(super) fn accept_job(self: &Rc<Self>, home: Home, job: &Job) -> Rc<Pending> {
        self.put_on_way(Pending {
            message: job.message,
            scope: Scope::All,
            job: Some((home, job.mid)),
            once: Some((job.mid, job.of)),
            chosen: job.choices.clone(),
            targets: RefCell::default(),
            given: RefCell::default(),
            open: Cell::default(),
            retains: false,
            needs: Cell::default(),
        })
    }

    fn put_on_way(self: &Rc<Self>, mut pending: Pending) -> Rc<Pending> {
        let message = pending.message;
        // RETAIN is for the copies that a new subscription is sent.
        pending.retains = std::mem::take(&mut pending.message.retain);
        let pending = Rc::new(pending);
        if pending.is_for(None) {
            for target in self.mirror.borrow().targets(message.topic) {
                self.add_target(&pending, target);
            }
        }
        self.give_to_groups(&pending);
        if pending.job.is_none() && pending.is_for(None) {
            self.deliver_locally(pending.message);
        }
        let mut batch = self.batch.borrow_mut();
        if message.retain {
            batch
                .retained
                .push((message, pending.once.filter(|_| pending.job.is_some())));
        }
        batch.accepted.push(Rc::clone(&pending));
        self.pending.borrow_mut().push(Rc::clone(&pending));
        self.changed.all();
        pending
    }

    fn add_target(&self, pending: &Rc<Pending>, to: To) {
        // Those of this node have it already, unless it is one that may have been there before.
        let is_local = to == To::Inbox(self.inc.get()) && pending.job.is_none();
        if is_local || pending.targets.borrow().contains(&to.into()) {
            return;
        }
        pending.open.set(pending.open.get() + 1);
        self.enter(to.into(), pending);
    }

    /// Into the next flush; it is counted already.
    pub(super) fn enter(&self, target: Target, pending: &Rc<Pending>) {
        pending.targets.borrow_mut().insert(target);
        let mut batch = self.batch.borrow_mut();
        let appends = batch.appends.entry(home_of(target.to)).or_default();
        appends.push((target, Rc::clone(pending)));
    }

    pub(super) fn match_again(&self, topic: Topic, target: To) {
        let pending = self.pending.borrow().clone();
        let is_for = |pending: &&Rc<Pending>| pending.message.topic == topic && pending.is_for(None);
        for pending in pending.iter().filter(is_for) {
            self.add_target(pending, target);
        }
        self.changed.all();
    }

    /// Until all that get it have it, and all do that subscribed before it was read.
    pub(super) async fn kept(self: &Rc<Self>, pending: &Rc<Pending>) {
        if self.has(Guard::AckAfterAppend) {
            let is_kept = || {
                let position = self.mirror.borrow().position;
                pending.open.get() == 0 && pending.needs.get().is_some_and(|needs| position >= needs)
            };
            self.changed.until(is_kept).await;
        }
        self.pending.borrow_mut().retain(|other| !Rc::ptr_eq(other, pending));
        self.changed.all();
        if pending.job.is_none()
            && let Some((mid, _)) = pending.once
        {
            self.forget(mid, pending);
        }
    }

    /// A change of a session, with the next flush; the answer is whether it was made.
    pub(super) fn change(&self, cid: Cid, token: Token, change: Change) -> Mailbox<bool> {
        let answer = Mailbox::default();
        let entry = ((cid, token, change), answer.clone());
        self.batch
            .borrow_mut()
            .changes
            .entry(Home::of_client(cid))
            .or_default()
            .push(entry);
        self.changed.all();
        answer
    }

    pub(super) async fn flush_batches(self: Rc<Self>) {
        loop {
            self.changed.until(|| !self.batch.borrow().is_empty()).await;
            let flush = self.world.roughness.borrow().flush;
            self.world.doze(0, flush).await;
            let batch = self.batch.take();
            self.flush(batch);
        }
    }

    /// One call for each home that is touched, and behind the retained messages one look at the log.
    fn flush(self: &Rc<Self>, batch: Batch) {
        for (home, changes) in batch.changes {
            self.flush_changes(home, changes);
        }
        for (home, appends) in batch.appends {
            self.flush_appends(home, appends);
        }
        if batch.accepted.is_empty() {
            return;
        }
        let retained = (!batch.retained.is_empty()).then(|| self.post(Home::Global, Call::Retain(batch.retained)));
        let position = self.post_read(Home::Global, Call::Position);
        let node = Rc::clone(self);
        self.spawn(async move {
            // Redis may have refused the retained messages at first: then they are in the log behind that position.
            let logged = match retained {
                Some(answer) => answer.next().await,
                None => Answer::Ok,
            };
            let Answer::Position {
                mut position,
                generation,
            } = position.next().await
            else {
                return;
            };
            if node.is_over(generation) {
                node.memory.borrow_mut().is_over = true;
                return node.fence();
            }
            match logged {
                Answer::Position { position: logged, .. } => position = position.max(logged),
                Answer::Done => {
                    if let Answer::Position { position: now, .. } = node.read(Home::Global, Call::Position).await {
                        position = position.max(now);
                    }
                }
                _ => {}
            }
            node.on_position(&batch.accepted, position);
        });
    }

    fn on_position(&self, accepted: &[Rc<Pending>], position: u64) {
        // A node that is dead finds its own death before that position, and acknowledges nothing.
        let needs = if self.has(Guard::Position) { position } else { 0 };
        accepted.iter().for_each(|pending| pending.needs.set(Some(needs)));
        self.changed.all();
    }

    fn flush_changes(self: &Rc<Self>, home: Home, changes: Vec<Changing>) {
        let (changes, answers): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        let answer = self.post(home, Call::Changes(changes));
        self.spawn(async move {
            let made = match answer.next().await {
                Answer::Changed(made) => made,
                // It was done, if this client was the token's: if not, its connection is over, and nobody waits.
                _ => vec![true; answers.len()],
            };
            answers.iter().zip(made).for_each(|(answer, made)| answer.push(made));
        });
    }

    fn flush_appends(self: &Rc<Self>, home: Home, entering: Vec<Entering>) {
        let append = |(target, pending): &Entering| Append {
            target: *target,
            message: pending.message,
            once: pending.once_for(*target),
        };
        let answer = self.post(home, Call::Append(entering.iter().map(append).collect()));
        let node = Rc::clone(self);
        self.spawn(async move {
            match answer.next().await {
                Answer::Appended(puts) => node.on_appended(&entering, &puts),
                _ => node.on_lost_answer(home, entering),
            }
        });
    }

    fn on_lost_answer(self: &Rc<Self>, home: Home, entering: Vec<Entering>) {
        let asks = |(target, _): &Entering| target.group.is_some() && self.has(Guard::AskAfterDone);
        let (asked, rest): (Vec<_>, Vec<_>) = entering.into_iter().partition(asks);
        self.on_appended(&rest, &vec![Put::Before; rest.len()]);
        if !asked.is_empty() {
            self.spawn(Rc::clone(self).ask_for(home, asked));
        }
    }

    pub(super) fn on_appended(self: &Rc<Self>, entered: &[Entering], puts: &[Put]) {
        let mut ends = BTreeSet::new();
        for ((target, pending), put) in entered.iter().zip(puts) {
            if let Some(hint) = hint_of(*target, pending.message, *put) {
                self.on_hint(hint);
            }
            if let (Put::Gone, To::Session(_, uid)) = (*put, target.to) {
                ends.insert(uid);
                if let Some(group) = target.group {
                    self.give_again(pending, group, uid);
                }
            }
            pending.open.set(pending.open.get() - 1);
        }
        if !ends.is_empty() {
            let ends = ends.into_iter().map(Entry::End).collect();
            drop(self.post(Home::Global, Call::Log(ends)));
        }
        self.changed.all();
    }
}

fn home_of(to: To) -> Home {
    match to {
        To::Session(cid, _) => Home::of_client(cid),
        To::Inbox(inc) => Home::of_inbox(inc),
    }
}
