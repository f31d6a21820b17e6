//! Who is alive, and what is due.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Node;
use crate::guard::Guard;
use crate::home::call::NodeState;
use crate::home::{Answer, Call, Entry};
use crate::ids::{Home, Inc, Time};
use crate::world::LEASE;

/// How many clients one sweep of a home deals with.
const SWEPT: usize = 4;

/// A node's counter, and since when it has not changed.
type Seen = BTreeMap<Inc, (u64, Time)>;

impl Node {
    pub(super) async fn beat(self: Rc<Self>) {
        loop {
            let sent = self.world.now();
            let applied = self.applied();
            match self.beat_call(Call::Beat { applied }).await {
                Answer::Beat { present: true } => self.last_beat.set(sent),
                _ => return self.fence(),
            }
            self.world.sleep(LEASE / 3).await;
        }
    }

    /// Declares nodes dead that have been silent for a lease in which Redis answered, by this node's own clock.
    pub(super) async fn watch(self: Rc<Self>) {
        let mut seen = Seen::new();
        let mut last_answer = self.world.now();
        loop {
            let sent = self.world.now();
            let answer = self.beat_call(Call::Nodes).await;
            let now = self.world.now();
            // An old answer says nothing of now: this node may have been stopped while it waited.
            let is_old = now > sent + LEASE / 2 && self.has(Guard::OwnReads);
            if is_old || (now > last_answer + LEASE / 2 && self.has(Guard::OwnReads)) {
                seen.clear();
            }
            last_answer = now;
            if let Answer::Nodes { nodes, recoverers, .. } = answer {
                if !is_old {
                    self.look(&mut seen, &nodes);
                }
                self.recover_mine(&recoverers);
            }
            self.world.sleep(LEASE / 5).await;
        }
    }

    fn look(&self, seen: &mut Seen, nodes: &[NodeState]) {
        let now = self.world.now();
        seen.retain(|inc, _| nodes.iter().any(|node| node.inc == *inc));
        for NodeState { inc, counter, .. } in nodes.iter().copied().filter(|node| node.inc != self.inc.get()) {
            let (last, since) = *seen.entry(inc).or_insert((counter, now));
            if last != counter {
                seen.insert(inc, (counter, now));
            } else if now >= since + LEASE {
                drop(self.post(Home::Global, Call::Dead { inc, counter }));
                // Not again before the answer is there.
                seen.insert(inc, (counter, now));
            }
        }
    }

    fn recover_mine(self: &Rc<Self>, recoverers: &[(Inc, Inc)]) {
        for (dead, _) in recoverers.iter().filter(|(_, by)| *by == self.inc.get()) {
            if self.recovering.borrow_mut().insert(*dead) {
                self.spawn(Rc::clone(self).recover(*dead));
            }
        }
    }

    /// Deals with what is due in the homes that are this node's to sweep.
    pub(super) async fn sweep(self: Rc<Self>) {
        loop {
            self.world.doze(LEASE / 6, LEASE / 4).await;
            for (home, at) in Home::buckets().zip(0..) {
                let is_mine = {
                    let mirror = self.mirror.borrow();
                    mirror.nodes.iter().nth(at % mirror.nodes.len().max(1)) == Some(&self.inc.get())
                };
                if is_mine {
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
