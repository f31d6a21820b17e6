//! Messages for Shared Subscriptions: each goes to one member, and to another one if that can't take it.
//!
//! The broker has chosen a member that it knows of. Whether its session is still there, and has room, only the script finds; and a
//! message may be acknowledged only when one has it, or when there is none.

use std::collections::BTreeMap;

use crate::store::Uid;

/// Those of a batch.
#[derive(Debug, Default)]
pub(super) struct Gifts {
    all: Vec<Gift>,
    /// Those of each message that the batch publishes.
    places: BTreeMap<usize, Vec<usize>>,
    open: usize,
}

/// What has become of a message for one Shared Subscription.
#[derive(Debug)]
struct Gift {
    share: Box<str>,
    /// Who has it, as far as that is known. Nobody, if no member could take it.
    to: Option<Uid>,
    /// Who could not take it.
    without: Vec<Uid>,
    /// How many of these have no room.
    full: usize,
    /// It is to be given to another member.
    is_open: bool,
}

/// Of a group whose members have no room, so many are asked: each takes a round trip.
const FULL_MEMBERS: usize = 3;

impl Gifts {
    /// A member is given the message: the name of the gift.
    pub(super) fn give(&mut self, number: usize, share: &str, to: Uid) -> usize {
        let gift = match self.find(number, share) {
            Some(gift) => gift,
            None => self.add(number, share),
        };
        self.all[gift].to = Some(to);
        self.close(gift);
        gift
    }

    /// Whether one who is added to the group is not to get the message: another one has it, or this one could not take it.
    pub(super) fn excludes(&self, number: usize, share: &str, uid: Uid) -> bool {
        let gift = self.find(number, share).map(|gift| &self.all[gift]);
        gift.is_some_and(|gift| gift.to.is_some() || gift.without.contains(&uid))
    }

    /// The session of the member is not there any more.
    pub(super) fn gone(&mut self, gift: usize, uid: Uid) {
        self.lose(gift, uid, 0);
    }

    /// The queue of the member has no room.
    pub(super) fn full(&mut self, gift: usize, uid: Uid) {
        self.lose(gift, uid, 1);
    }

    /// Nobody has it, and this was the last one that was asked.
    pub(super) fn was_last(&self, gift: usize, uid: Uid) -> bool {
        let gift = &self.all[gift];
        gift.to.is_none() && gift.without.last() == Some(&uid)
    }

    pub(super) fn has_open(&self) -> bool {
        self.open > 0
    }

    /// Gifts of this message that must be given to other members, each with its Shared Subscription and those who can't take it.
    pub(super) fn open_of(&self, number: usize) -> Vec<(usize, Box<str>, Vec<Uid>)> {
        let gifts = self.places.get(&number).into_iter().flatten();
        let open = gifts.filter(|gift| self.all[**gift].is_open);
        open.map(|gift| (*gift, self.all[*gift].share.clone(), self.all[*gift].without.clone()))
            .collect()
    }

    /// Nobody else can take it.
    pub(super) fn close(&mut self, gift: usize) {
        if std::mem::take(&mut self.all[gift].is_open) {
            self.open -= 1;
        }
    }

    fn lose(&mut self, gift: usize, uid: Uid, full: usize) {
        let gift = &mut self.all[gift];
        if gift.to != Some(uid) {
            return;
        }
        gift.to = None;
        gift.without.push(uid);
        gift.full += full;
        gift.is_open = gift.full < FULL_MEMBERS;
        self.open += usize::from(gift.is_open);
    }

    fn find(&self, number: usize, share: &str) -> Option<usize> {
        let mut gifts = self.places.get(&number)?.iter().copied();
        gifts.find(|gift| *self.all[*gift].share == *share)
    }

    fn add(&mut self, number: usize, share: &str) -> usize {
        self.all.push(Gift {
            share: share.into(),
            to: None,
            without: Vec::new(),
            full: 0,
            is_open: false,
        });
        let gift = self.all.len() - 1;
        self.places.entry(number).or_default().push(gift);
        gift
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_none_is_asked_until_one_takes_it() {
        let mut gifts = Gifts::default();
        let (one, other) = (gifts.give(0, "$share/g/a", 7), gifts.give(0, "$share/h/a", 7));
        assert!(gifts.excludes(0, "$share/g/a", 8) && !gifts.excludes(1, "$share/g/a", 8));
        assert!(!gifts.has_open());
        gifts.gone(one, 7);
        assert_eq!(gifts.open_of(0), [(one, "$share/g/a".into(), vec![7])]);
        assert!(gifts.excludes(0, "$share/g/a", 7) && !gifts.excludes(0, "$share/g/a", 8));
        assert_eq!(gifts.give(0, "$share/g/a", 8), one);
        // A late answer.
        gifts.gone(one, 7);
        assert!(!gifts.has_open() && gifts.excludes(0, "$share/g/a", 9));
        gifts.full(one, 8);
        gifts.give(0, "$share/g/a", 9);
        gifts.full(one, 9);
        assert!(gifts.has_open() && gifts.was_last(one, 9) && !gifts.was_last(one, 8));
        gifts.give(0, "$share/g/a", 10);
        gifts.full(one, 10);
        assert!(!gifts.has_open(), "three have no room");
        gifts.gone(other, 7);
        gifts.close(other);
        assert!(!gifts.has_open() && gifts.was_last(other, 7));
    }
}
