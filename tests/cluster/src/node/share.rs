//! Messages for groups: each to one member, and to another one if that one's session is gone.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::Node;
use super::publish::{Entering, Pending, Scope};
use crate::exec::Mailbox;
use crate::guard::Guard;
use crate::home::{Answer, Call, Put, Rest, Target, To};
use crate::ids::{Cid, Group, Home, Inc, Topic, Uid};

/// What has become of a message for one group.
#[derive(Default)]
pub(super) struct Given {
    /// Nobody, if no member was there.
    to: Option<(Cid, Uid)>,
    /// Their queues are gone.
    gone: BTreeSet<Uid>,
}

impl Node {
    pub(super) fn give_to_groups(self: &Rc<Self>, pending: &Rc<Pending>) {
        let groups = self.mirror.borrow().groups(pending.message.topic);
        for group in groups.into_iter().filter(|group| pending.is_for(Some(*group))) {
            self.give(pending, group);
        }
    }

    /// To one member; whichever that is, a message that must have effect once remembers it first.
    fn give(self: &Rc<Self>, pending: &Rc<Pending>, group: Group) {
        let Some((cid, uid)) = self.choose(pending, group) else {
            return;
        };
        pending.open.set(pending.open.get() + 1);
        let target = Target {
            to: To::Session(cid, uid),
            group: Some(group),
        };
        let (node, pending) = (Rc::clone(self), Rc::clone(pending));
        let Some((home, mid)) = pending.job.filter(|_| self.has(Guard::ChoiceRecorded)) else {
            return node.enter(target, &pending);
        };
        let member = (cid, uid);
        self.spawn(async move {
            node.call(home, Call::Choose { mid, group, member }).await;
            node.enter(target, &pending);
            node.changed.all();
        });
    }

    fn choose(&self, pending: &Pending, group: Group) -> Option<(Cid, Uid)> {
        let mut given = pending.given.borrow_mut();
        let given = given.entry(group).or_default();
        let chosen = pending.chosen.get(&group).copied();
        let members = self.mirror.borrow().members(pending.message.topic, group);
        let is_there = |member: &(Cid, Uid)| !given.gone.contains(&member.1);
        let members: Vec<_> = members.into_iter().filter(is_there).collect();
        given.to = match chosen.filter(is_there) {
            Some(member) if self.has(Guard::ChoiceRecorded) => Some(member),
            _ if members.is_empty() => None,
            _ => Some(members[self.world.random.index(members.len())]),
        };
        given.to
    }

    /// A member's queue is gone, and the message was never in it.
    pub(super) fn give_again(self: &Rc<Self>, pending: &Rc<Pending>, group: Group, gone: Uid) {
        if let Some(given) = pending.given.borrow_mut().get_mut(&group) {
            given.to = None;
            given.gone.insert(gone);
        }
        if self.has(Guard::GoneGoesOn) {
            self.give(pending, group);
        }
    }

    /// A group has a new member: it gets what nobody got.
    pub(super) fn match_group_again(self: &Rc<Self>, topic: Topic, group: Group) {
        let pending = self.pending.borrow().clone();
        let of_topic = |pending: &&Rc<Pending>| pending.message.topic == topic && pending.is_for(Some(group));
        for pending in pending.iter().filter(of_topic) {
            let is_given = pending
                .given
                .borrow()
                .get(&group)
                .is_some_and(|given| given.to.is_some());
            let is_left = !is_given && self.has(Guard::NobodyYet);
            if is_left || (is_given && !self.has(Guard::GivenOnce)) {
                self.give(pending, group);
            }
        }
        self.changed.all();
    }

    /// The answer to an append was lost: what it said of groups is asked for.
    pub(super) async fn ask_for(self: Rc<Self>, home: Home, entered: Vec<Entering>) {
        let key = |(target, pending): &Entering| (*target, pending.once_for(*target).map(|(mid, _)| mid));
        let items = entered.iter().map(key).collect();
        if let Answer::Known(there) = self.read(home, Call::Known(items)).await {
            let put = |there: &bool| if *there { Put::Before } else { Put::Gone };
            let puts: Vec<_> = there.iter().map(put).collect();
            self.on_appended(&entered, &puts);
        }
    }

    /// Gives what is left of a session to other members.
    pub(super) async fn run_rest(self: Rc<Self>, home: Home, rest: Rest) {
        if !self.has(Guard::FinishAfterGiven) {
            self.call(home, Call::FinishRest(rest.mid)).await;
        }
        let given = rest.messages.iter().map(|(group, message)| {
            let pending = self.accept_for(*message, Scope::Group(*group, rest.uid));
            self.kept_later(&pending)
        });
        for given in given.collect::<Vec<_>>() {
            given.next().await;
        }
        self.call(home, Call::FinishRest(rest.mid)).await;
    }

    pub(super) fn kept_later(self: &Rc<Self>, pending: &Rc<Pending>) -> Mailbox<()> {
        let over = Mailbox::default();
        let (node, pending, signal) = (Rc::clone(self), Rc::clone(pending), over.clone());
        self.spawn(async move {
            node.kept(&pending).await;
            signal.push(());
        });
        over
    }

    pub(super) async fn rests_of(&self, home: Home, of: Inc) -> Vec<Rest> {
        match self.read(home, Call::RestsOf(of)).await {
            Answer::Rests(rests) => rests,
            _ => Vec::new(),
        }
    }
}

impl Given {
    /// Nobody has it yet, and this one is not to get it.
    pub(super) fn without(uid: Uid) -> Given {
        Given {
            to: None,
            gone: [uid].into(),
        }
    }
}
