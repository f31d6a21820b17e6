//! `{b}`: how messages get into queues, and what becomes of those that a session leaves behind.

use super::bucket::Bucket;
use super::call::{Answer, Append, Call, Hint, Job, Put, Queued, Rest, Target, To};
use crate::guard::{Guard, Guards};
use crate::ids::{Group, Inc, Index, Message, Mid, Qos, Uid};

impl Bucket {
    pub(super) fn append(&mut self, guards: &Guards, item: &Append) -> Put {
        let target = Target {
            to: self.to_now(guards, item.target.to),
            ..item.target
        };
        let key = item.once.map(|(mid, _)| (mid, once_key(guards, target)));
        let is_known = key.is_some_and(|key| self.once.contains_key(&key)) && guards.has(Guard::MidKnown);
        let is_there = self.has(target.to);
        if is_known {
            return match is_there || guards.has(Guard::KnownIsNotGone) {
                true => Put::Before,
                false => Put::Gone,
            };
        }
        let put = self.put(target, item.message);
        if let (Some(key), Some((_, of)), Put::At(_)) = (key, item.once, put) {
            self.once.insert(key, of);
        }
        put
    }

    /// What the owners of the queues are told of an append, each with its incarnation. One that has appended itself has the
    /// answer.
    pub fn hints(&self, by: Inc, call: &Call, answer: &Answer) -> Vec<(Inc, Hint)> {
        let (Call::Append(items), Answer::Appended(puts)) = (call, answer) else {
            return Vec::new();
        };
        let hint = |(item, put): (&Append, &Put)| {
            let hint = hint_of(item.target, item.message, *put)?;
            let owner = self.clients.get(&hint.cid)?.owner?;
            (owner.inc != by).then_some((owner.inc, hint))
        };
        items.iter().zip(puts).filter_map(hint).collect()
    }

    fn to_now(&self, guards: &Guards, to: To) -> To {
        if let To::Session(cid, _) = to
            && !guards.has(Guard::AppendUid)
            && let Some(now) = self.clients.get(&cid).and_then(|client| client.uid)
        {
            return To::Session(cid, now);
        }
        to
    }

    fn has(&self, to: To) -> bool {
        match to {
            To::Session(_, uid) => self.sessions.contains_key(&uid),
            To::Inbox(inc) => self.inboxes.contains_key(&inc),
        }
    }

    /// At the end; the place is given here, as many nodes append.
    fn put(&mut self, target: Target, message: Message) -> Put {
        match target.to {
            To::Session(_, uid) => {
                let Some(session) = self.sessions.get_mut(&uid) else {
                    return Put::Gone;
                };
                let at: Index = session.next;
                session.queue.insert(at, queued(target, message));
                session.next += 1;
                Put::At(at)
            }
            To::Inbox(inc) => {
                let Some(inbox) = self.inboxes.get_mut(&inc) else {
                    return Put::Gone;
                };
                inbox.last += 1;
                inbox.messages.insert(inbox.last, message);
                Put::At(inbox.last)
            }
        }
    }

    /// What an append came to whose answer was lost.
    pub(super) fn known(&self, guards: &Guards, items: &[(Target, Option<Mid>)]) -> Answer {
        let is_known = |(target, mid): &(Target, Option<Mid>)| match mid {
            Some(mid) => self.once.contains_key(&(*mid, once_key(guards, *target))),
            // Sessions do not come back: if it is there it was there.
            None => self.has(target.to),
        };
        Answer::Known(items.iter().map(is_known).collect())
    }

    /// What is in an inbox from this place on, which has been read, and shows that it is the same inbox; what is below has
    /// been read, too.
    pub(super) fn take(&mut self, inc: Inc, above: u64) -> Answer {
        let Some(inbox) = self.inboxes.get_mut(&inc) else {
            return Answer::Taken(Vec::new());
        };
        inbox.messages = inbox.messages.split_off(&above);
        Answer::Taken(inbox.messages.iter().map(|(at, message)| (*at, *message)).collect())
    }

    pub(super) fn add_job(&mut self, mid: Mid, message: Message, of: Inc) {
        let choices = Default::default();
        let job = Job {
            mid,
            message,
            choices,
            of,
        };
        self.jobs.insert(mid, job);
    }

    /// A session is over: what groups have given it, and it has not acknowledged, goes to other members.
    pub(super) fn end_session(&mut self, guards: &Guards, uid: Uid, mid: Mid, of: Inc) {
        let Some(session) = self.sessions.remove(&uid) else {
            return;
        };
        let goes_on = |queued: &Queued| queued.message.qos == Qos::One || !guards.has(Guard::MemberKeepsQos2);
        let of_group = |queued: &Queued| queued.group.map(|group: Group| (group, queued.message));
        let left = session.queue.values().filter(|queued| goes_on(queued));
        let messages: Vec<_> = left.filter_map(of_group).collect();
        if !messages.is_empty() && guards.has(Guard::RestGoesOn) {
            let rest = Rest { mid, uid, messages, of };
            self.rests.insert(mid, rest);
        }
    }
}

fn queued(target: Target, message: Message) -> Queued {
    Queued {
        message,
        group: target.group,
        released: false,
    }
}

/// What there is to tell of an append, if the queue is a session's.
pub fn hint_of(target: Target, message: Message, put: Put) -> Option<Hint> {
    let (To::Session(cid, uid), Put::At(at)) = (target.to, put) else {
        return None;
    };
    let queued = queued(target, message);
    Some(Hint { cid, uid, at, queued })
}

fn once_key(guards: &Guards, target: Target) -> Option<Target> {
    guards
        .has(Guard::MidPerQueue)
        .then_some(match guards.has(Guard::MidPerGroup) {
            true => target,
            false => target.to.into(),
        })
}
