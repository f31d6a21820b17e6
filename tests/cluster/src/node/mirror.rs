//! What all nodes know: the log, folded.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::Node;
use crate::guard::Guard;
use crate::home::call::Snapshot;
use crate::home::{Answer, Call, Entry, To};
use crate::ids::{Cid, Filter, Group, Home, Inc, Message, Topic, Uid};

#[derive(Debug, Default)]
pub(super) struct Mirror {
    pub(super) position: u64,
    /// The entry at this position, if it was read.
    pub(super) last: Option<Entry>,
    pub(super) nodes: BTreeSet<Inc>,
    subs: BTreeMap<Filter, BTreeMap<Uid, Cid>>,
    routes: BTreeMap<Topic, BTreeSet<Inc>>,
    pub(super) retained: BTreeMap<Topic, Message>,
}

impl Mirror {
    pub(super) fn load(&mut self, snapshot: &Snapshot) {
        self.position = snapshot.position;
        self.nodes = snapshot.nodes.iter().copied().collect();
        for (inc, topic) in &snapshot.routes {
            self.routes.entry(*topic).or_default().insert(*inc);
        }
        self.retained = snapshot
            .retained
            .iter()
            .map(|message| (message.topic, *message))
            .collect();
    }

    pub(super) fn add(&mut self, subs: &[(Cid, Uid, Filter)]) {
        for (cid, uid, filter) in subs {
            self.subs.entry(*filter).or_default().insert(*uid, *cid);
        }
    }

    fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Join(inc) => drop(self.nodes.insert(*inc)),
            Entry::Dead(inc) => {
                self.nodes.remove(inc);
                for nodes in self.routes.values_mut() {
                    nodes.remove(inc);
                }
            }
            Entry::Sub(cid, uid, filter) => self.add(&[(*cid, *uid, *filter)]),
            Entry::Unsub(uid, filter) => {
                if let Some(subs) = self.subs.get_mut(filter) {
                    subs.remove(uid);
                }
                self.subs.retain(|_, subs| !subs.is_empty());
            }
            Entry::End(uid) => {
                for subs in self.subs.values_mut() {
                    subs.remove(uid);
                }
                self.subs.retain(|_, subs| !subs.is_empty());
            }
            Entry::Route(inc, topic) => drop(self.routes.entry(*topic).or_default().insert(*inc)),
            Entry::Unroute(inc, topic) => {
                if let Some(nodes) = self.routes.get_mut(topic) {
                    nodes.remove(inc);
                }
            }
            Entry::Retain(message) => drop(self.retained.insert(message.topic, *message)),
        }
    }

    /// Where a message of this topic goes.
    pub(super) fn targets(&self, topic: Topic) -> Vec<To> {
        let sessions = self.subs.get(&topic.into()).into_iter().flatten();
        let sessions = sessions.map(|(uid, cid)| To::Session(*cid, *uid));
        let nodes = self.routes.get(&topic).into_iter().flatten().map(|inc| To::Inbox(*inc));
        sessions.chain(nodes).collect()
    }

    /// The groups that get a message of this topic.
    pub(super) fn groups(&self, topic: Topic) -> Vec<Group> {
        let of_topic = self.subs.keys().filter(|filter| filter.topic == topic);
        of_topic.filter_map(|filter| filter.group).collect()
    }

    pub(super) fn members(&self, topic: Topic, group: Group) -> Vec<(Cid, Uid)> {
        let members = self.subs.get(&Filter::shared(group, topic)).into_iter().flatten();
        members.map(|(uid, cid)| (*cid, *uid)).collect()
    }
}

impl Node {
    pub(super) async fn follow_log(self: Rc<Self>) {
        loop {
            let from = self.mirror.borrow().position + 1;
            match self.read(Home::Global, Call::ReadLog { from }).await {
                Answer::Log { entries, .. } if entries.is_empty() => self.world.poll().await,
                Answer::Log { entries, .. } => entries.iter().for_each(|(at, entry)| self.on_entry(*at, entry)),
                // It is behind what all others have applied: they do not count it any more.
                _ => return self.fence(),
            }
        }
    }

    fn on_entry(self: &Rc<Self>, at: u64, entry: &Entry) {
        {
            let mut mirror = self.mirror.borrow_mut();
            mirror.apply(entry);
            mirror.position = at;
            mirror.last = Some(entry.clone());
        }
        match *entry {
            Entry::Sub(cid, uid, filter) => match filter.group {
                Some(group) => self.match_group_again(filter.topic, group),
                None => self.on_addition(filter.topic, To::Session(cid, uid)),
            },
            Entry::Route(inc, topic) => self.on_addition(topic, To::Inbox(inc)),
            Entry::Dead(inc) if inc == self.inc.get() => self.fence(),
            _ => {}
        }
        self.changed.all();
    }

    /// Messages that are not acknowledged go to the new subscription first, in their order.
    fn on_addition(self: &Rc<Self>, topic: Topic, target: To) {
        if self.has(Guard::AdditionsFirst) {
            return self.match_again(topic, target);
        }
        let node = Rc::clone(self);
        self.spawn(async move {
            node.world.sleep(4).await;
            node.match_again(topic, target);
        });
    }

    pub(super) fn inbox(&self) -> Home {
        Home::of_inbox(self.inc.get())
    }
}
