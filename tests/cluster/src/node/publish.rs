//! From a message to the homes of those who get it, and to its acknowledgement.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::Node;
use crate::exec::Mailbox;
use crate::guard::Guard;
use crate::home::{Answer, Append, Call, Change, Entry, To};
use crate::ids::{Cid, Home, Inc, Message, Mid, Token, Topic};

/// A message on its way.
pub(super) struct Pending {
    message: Message,
    once: Option<(Mid, Inc)>,
    targets: RefCell<BTreeSet<To>>,
    /// Appends that have not been answered.
    open: Cell<usize>,
    /// The position of the log that the mirror must reach, once it is known.
    needs: Cell<Option<u64>>,
}

impl Pending {
    /// The homes that know it.
    pub(super) fn homes(&self) -> BTreeSet<Home> {
        self.targets.borrow().iter().map(|target| home_of(*target)).collect()
    }
}

/// A change, and where its answer goes.
type Changing = ((Cid, Token, Change), Mailbox<bool>);

/// What the next flush sends.
#[derive(Default)]
pub(super) struct Batch {
    appends: BTreeMap<Home, Vec<(To, Rc<Pending>)>>,
    changes: BTreeMap<Home, Vec<Changing>>,
    retained: Vec<Message>,
    accepted: Vec<Rc<Pending>>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.changes.is_empty() && self.accepted.is_empty()
    }
}

impl Node {
    /// Matches a message, and puts it into the next flush.
    pub(super) fn accept(self: &Rc<Self>, message: Message, once: Option<(Mid, Inc)>) -> Rc<Pending> {
        // RETAIN is for the copies that a new subscription is sent.
        let live = Message {
            retain: false,
            ..message
        };
        let pending = Rc::new(Pending {
            message: live,
            once,
            targets: RefCell::default(),
            open: Cell::default(),
            needs: Cell::default(),
        });
        for target in self.mirror.borrow().targets(message.topic) {
            self.add_target(&pending, target);
        }
        if once.is_none() {
            self.deliver_locally(live);
        }
        let mut batch = self.batch.borrow_mut();
        if message.retain {
            batch.retained.push(message);
        }
        batch.accepted.push(Rc::clone(&pending));
        self.pending.borrow_mut().push(Rc::clone(&pending));
        self.changed.all();
        pending
    }

    fn add_target(&self, pending: &Rc<Pending>, target: To) {
        // Those of this node have it already, unless it is one that may have been there before.
        let is_local = target == To::Inbox(self.inc.get()) && pending.once.is_none();
        if is_local || !pending.targets.borrow_mut().insert(target) {
            return;
        }
        pending.open.set(pending.open.get() + 1);
        let entry = (target, Rc::clone(pending));
        self.batch
            .borrow_mut()
            .appends
            .entry(home_of(target))
            .or_default()
            .push(entry);
    }

    pub(super) fn match_again(&self, topic: Topic, target: To) {
        let pending = self.pending.borrow().clone();
        for pending in pending.iter().filter(|pending| pending.message.topic == topic) {
            self.add_target(pending, target);
        }
        self.changed.all();
    }

    /// Until all that get it have it, and all do that subscribed before it was read.
    pub(super) async fn kept(&self, pending: &Rc<Pending>) {
        if self.has(Guard::AckAfterAppend) {
            let is_kept = || {
                let position = self.mirror.borrow().position;
                pending.open.get() == 0 && pending.needs.get().is_some_and(|needs| position >= needs)
            };
            self.changed.until(is_kept).await;
        }
        self.pending.borrow_mut().retain(|other| !Rc::ptr_eq(other, pending));
        self.changed.all();
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
        let retained = (!batch.retained.is_empty()).then(|| {
            let entries = batch.retained.into_iter().map(Entry::Retain).collect();
            self.post(Home::Global, Call::Log(entries))
        });
        let position = self.post_read(Home::Global, Call::Position);
        let node = Rc::clone(self);
        self.spawn(async move {
            // Redis may have refused the retained messages at first: then they are in the log behind that position.
            let logged = match retained {
                Some(answer) => answer.next().await,
                None => Answer::Ok,
            };
            let Answer::Position { mut position } = position.next().await else {
                return;
            };
            match logged {
                Answer::Position { position: logged } => position = position.max(logged),
                Answer::Done => {
                    if let Answer::Position { position: now } = node.read(Home::Global, Call::Position).await {
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

    fn flush_appends(self: &Rc<Self>, home: Home, appends: Vec<(To, Rc<Pending>)>) {
        let append = |(to, pending): &(To, Rc<Pending>)| {
            let (message, once) = (pending.message, pending.once);
            Append { to: *to, message, once }
        };
        let call = Call::Append(appends.iter().map(append).collect());
        let answer = self.post(home, call);
        let node = Rc::clone(self);
        self.spawn(async move {
            let answer = answer.next().await;
            node.on_appended(&appends, &answer);
        });
    }

    fn on_appended(self: &Rc<Self>, appends: &[(To, Rc<Pending>)], answer: &Answer) {
        appends
            .iter()
            .for_each(|(_, pending)| pending.open.set(pending.open.get() - 1));
        if let Answer::Appended(there) = answer {
            let gone = appends.iter().zip(there).filter(|(_, there)| !**there);
            let ends = gone.filter_map(|((target, _), _)| match target {
                To::Session(_, uid) => Some(Entry::End(*uid)),
                To::Inbox(_) => None,
            });
            let ends: BTreeMap<_, _> = ends.map(|end| (format!("{end:?}"), end)).collect();
            if !ends.is_empty() {
                drop(self.post(Home::Global, Call::Log(ends.into_values().collect())));
            }
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
