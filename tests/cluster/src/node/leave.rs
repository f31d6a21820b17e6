//! How a node ends that is asked to: it hands its clients on, and then there is nothing to recover.

use std::rc::Rc;

use super::Node;
use crate::guard::Guard;
use crate::home::{Answer, Call, How};
use crate::ids::{Home, Inc};
use crate::net::{Kind, shard_of};

impl Node {
    /// As SIGTERM does.
    pub fn leave(self: &Rc<Self>) {
        if self.is_leaving.replace(true) {
            return;
        }
        self.world.trace(|| format!("I{} leaves", self.inc.get()));
        self.changed.all();
        let node = Rc::clone(self);
        self.spawn(async move {
            node.changed.until(|| node.is_ready() && node.entering.get() == 0).await;
            node.hand_clients_on().await;
            if node.has(Guard::ByeAfterRecoveries) {
                node.end_recoveries().await;
            }
            if node.has(Guard::DepartBeforeBye) {
                node.depart_everywhere().await;
                node.say_bye().await;
            } else {
                node.say_bye().await;
                node.depart_everywhere().await;
            }
            node.fence();
        });
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.get()
    }

    async fn hand_clients_on(self: &Rc<Self>) {
        let conns = self.conns.borrow().clone();
        for conn in conns {
            let node = Rc::clone(self);
            self.spawn(async move { node.end(&conn, How::Left).await });
        }
        self.changed.until(|| self.conns.borrow().is_empty()).await;
    }

    /// What this node has declared dead is recovered, and what dead recoverers had taken.
    async fn end_recoveries(self: &Rc<Self>) {
        loop {
            let is_idle = || self.deaths.get() == 0 && self.recovering.borrow().is_empty();
            self.changed.until(is_idle).await;
            let Answer::Nodes { recoverers, .. } = self.read(Home::Global, Call::Nodes).await else {
                continue;
            };
            if recoverers.iter().all(|(_, by)| *by != self.inc.get()) {
                return;
            }
            self.recover_mine(&recoverers);
        }
    }

    /// Gives up each bucket when nothing in it is this node's any more.
    async fn depart_everywhere(self: &Rc<Self>) {
        for home in Home::buckets() {
            loop {
                self.until_answered(home).await;
                if self.post_read(home, Call::Depart).next().await != Answer::NotYet {
                    break;
                }
                self.release_strays(home).await;
                self.world.poll().await;
            }
        }
    }

    /// All numbered calls have been answered: Redis may refuse one, and not what is sent behind it.
    async fn until_answered(&self, home: Home) {
        let link = &self.links[&(Kind::Write, shard_of(home))];
        while link.waits_for(home) {
            self.world.poll().await;
        }
    }

    /// Clients that this node got after it had stopped waiting for them.
    async fn release_strays(self: &Rc<Self>, home: Home) {
        let inc: Inc = self.inc.get();
        let Answer::Cids(cids) = self.read(home, Call::OwnedBy(inc)).await else {
            return;
        };
        for cid in cids {
            if let Answer::Owner { owner: Some(token), .. } = self.read(home, Call::Owner(cid)).await
                && token.inc == inc
            {
                self.release(cid, token, How::Left).await;
            }
        }
    }

    async fn say_bye(&self) {
        self.until_answered(Home::Global).await;
        self.post_read(Home::Global, Call::Bye).next().await;
    }
}
