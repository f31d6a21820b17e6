//! Who is alive, and what is due.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Node;
use crate::guard::Guard;
use crate::home::call::{NodeState, Servers};
use crate::home::{Answer, Call, Entry};
use crate::ids::{Home, Inc, Time};
use crate::net::shard_of;
use crate::world::LEASE;

/// How many clients one sweep of a home deals with.
const SWEPT: usize = 4;

/// A node's counter, and since when it has not changed.
type Seen = BTreeMap<Inc, (u64, Time)>;

impl Node {
    pub(super) async fn beat(self: Rc<Self>) {
        loop {
            let sent = self.world.now();
            let (applied, servers) = (self.applied(), self.servers());
            match self.beat_call(Call::Beat { applied, servers }).await {
                Answer::Beat {
                    present: true,
                    generation,
                } if !self.is_over(generation) => self.last_beat.set(sent),
                Answer::Beat { generation, .. } => {
                    self.memory.borrow_mut().is_over |= self.is_over(generation);
                    return self.fence();
                }
                _ => return self.fence(),
            }
            self.world.sleep(LEASE / 3).await;
        }
    }

    /// Whether this incarnation ends with its generation.
    pub(super) fn is_over(&self, generation: Inc) -> bool {
        generation >= self.inc.get() && self.has(Guard::GenerationEnds)
    }

    /// Declares nodes dead that have been silent for a lease in which Redis answered, by this node's own clock.
    pub(super) async fn watch(self: Rc<Self>) {
        let mut seen = Seen::new();
        let mut last_answer = self.world.now();
        let mut server = self.watched_server();
        loop {
            let sent = self.world.now();
            let answer = self.beat_call(Call::Nodes).await;
            let now = self.world.now();
            // An old answer says nothing of now: this node may have been stopped while it waited.
            let is_old = now > sent + LEASE / 2 && self.has(Guard::OwnReads);
            if is_old || (now > last_answer + LEASE / 2 && self.has(Guard::OwnReads)) {
                seen.clear();
            }
            // Counters that have gone back come to the same numbers again.
            if server != self.watched_server() && self.has(Guard::CountersOfServer) {
                server = self.watched_server();
                seen.clear();
            }
            last_answer = now;
            if let Answer::Nodes { nodes, recoverers, .. } = answer {
                if !is_old && !self.is_leaving() {
                    self.look(&mut seen, &nodes);
                }
                if self.may_recover.get() {
                    self.recover_mine(&recoverers);
                }
            }
            self.world.sleep(LEASE / 5).await;
        }
    }

    fn look(self: &Rc<Self>, seen: &mut Seen, nodes: &[NodeState]) {
        let now = self.world.now();
        seen.retain(|inc, _| nodes.iter().any(|node| node.inc == *inc));
        for node in nodes.iter().filter(|node| node.inc != self.inc.get()) {
            let (inc, counter) = (node.inc, node.counter);
            let (last, since) = *seen.entry(inc).or_insert((counter, now));
            if last != counter {
                seen.insert(inc, (counter, now));
            } else if now >= since + LEASE {
                self.declare_dead(node);
                // Not again before the answer is there.
                seen.insert(inc, (counter, now));
            }
        }
    }

    fn declare_dead(self: &Rc<Self>, node: &NodeState) {
        let (inc, counter, lost) = (node.inc, node.counter, self.homes_without(&node.servers));
        self.deaths.set(self.deaths.get() + 1);
        let answer = self.post(Home::Global, Call::Dead { inc, counter, lost });
        let node = Rc::clone(self);
        self.spawn(async move {
            answer.next().await;
            node.deaths.set(node.deaths.get() - 1);
            node.changed.all();
        });
    }

    /// Homes on servers that a node has not found whole.
    fn homes_without(&self, servers: &Servers) -> Vec<Home> {
        let is_other = |shard: &u8| {
            servers
                .get(shard)
                .is_some_and(|server| self.servers().get(shard) != Some(server))
        };
        let homes = std::iter::once(Home::Global).chain(Home::buckets());
        let lost = homes.filter(|home| is_other(&shard_of(*home)) && self.has(Guard::LastOfDead));
        lost.collect()
    }

    pub(super) fn recover_mine(self: &Rc<Self>, recoverers: &[(Inc, Inc)]) {
        for (dead, _) in recoverers.iter().filter(|(_, by)| *by == self.inc.get()) {
            if self.recovering.borrow_mut().insert(*dead) {
                self.spawn(Rc::clone(self).recover(*dead));
            }
        }
    }

    /// Deals with what is due in the homes that are this node's to sweep.
    pub(super) async fn sweep(self: Rc<Self>) {
        while !self.is_leaving() {
            self.world.doze(LEASE / 6, LEASE / 4).await;
            for (home, at) in Home::buckets().zip(0..) {
                let is_mine = {
                    let mirror = self.mirror.borrow();
                    mirror.nodes.iter().nth(at % mirror.nodes.len().max(1)) == Some(&self.inc.get())
                };
                if is_mine && !self.is_leaving() {
                    self.sweep_home(home).await;
                }
            }
        }
    }

    async fn sweep_home(self: &Rc<Self>, home: Home) {
        let mids: Vec<_> = (0..SWEPT).map(|_| self.new_mid()).collect();
        if let Answer::Swept(ended) = self.call(home, Call::Sweep { mids: mids.clone() }).await
            && !ended.is_empty()
        {
            drop(self.post(Home::Global, Call::Log(ended.into_iter().map(Entry::End).collect())));
        }
        self.run_jobs(home, &mids).await;
    }
}
