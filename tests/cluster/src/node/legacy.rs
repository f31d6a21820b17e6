//! What is left of an incarnation that ended because Redis lost writes, and how the next one puts things in order before it
//! serves anybody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::Node;
use super::publish::Scope;
use super::serve::Conn;
use super::witness::Witness;
use crate::check::Event;
use crate::guard::Guard;
use crate::home::{Answer, Append, Call, Put, To};
use crate::ids::{Cid, Home, Inc, Qos, Time};
use crate::net::shard_of;
use crate::world::LEASE;

/// How long a node remembers what Redis has confirmed; a failover must not lose more.
const KEPT: Time = LEASE;

/// What Redis has confirmed, and for whom.
#[derive(Clone, Default)]
pub(super) struct Memory {
    /// The number of the last call to each home that was answered.
    confirmed: BTreeMap<Home, u64>,
    appended: VecDeque<(Time, Home, u64, Vec<Append>)>,
    /// Clients that had a connection here.
    touched: VecDeque<(Time, Cid, Option<Witness>)>,
    /// Homes that lack what was read there.
    pub(super) missing: BTreeSet<Home>,
    /// Shards where a server answers that is not the one before.
    pub(super) new_servers: BTreeSet<u8>,
    /// Its generation has ended.
    pub(super) is_over: bool,
}

/// An incarnation that is over.
pub(super) struct Legacy {
    pub(super) inc: Inc,
    pub(super) memory: Memory,
    /// Those that had a connection at the end.
    pub(super) connected: Vec<Cid>,
    /// What each home that has lost writes still has.
    lost: BTreeMap<Home, u64>,
}

impl Legacy {
    /// Nothing if no server was changed.
    pub(super) fn of(node: &Node) -> Option<Legacy> {
        let memory = node.memory.borrow().clone();
        let matters = memory.is_over || !memory.missing.is_empty() || !memory.new_servers.is_empty();
        (matters && node.inc.get() > 0).then(|| Legacy {
            inc: node.inc.get(),
            memory,
            connected: node.conns.borrow().iter().map(|conn| conn.cid).collect(),
            lost: BTreeMap::new(),
        })
    }
}

impl Memory {
    pub(super) fn confirm(&mut self, now: Time, home: Home, number: u64, call: &Call) {
        self.confirmed.insert(home, number);
        if let Call::Append(items) = call {
            self.appended.push_back((now, home, number, items.clone()));
        }
        while self.appended.front().is_some_and(|(at, ..)| at + KEPT < now) {
            self.appended.pop_front();
        }
    }

    pub(super) fn touch(&mut self, now: Time, conn: &Conn) {
        self.touched.push_back((now, conn.cid, Witness::of(conn, false)));
        while self.touched.front().is_some_and(|(at, ..)| at + KEPT < now) {
            self.touched.pop_front();
        }
    }

    pub(super) fn witnesses(&self) -> Vec<Witness> {
        let witnesses = self.touched.iter().map(|(_, _, witness)| witness.clone());
        witnesses.flatten().collect()
    }

    pub(super) fn confirmed(&self, home: Home) -> u64 {
        self.confirmed.get(&home).copied().unwrap_or(0)
    }
}

impl Node {
    /// Which of these homes lack what they have confirmed to an incarnation, and what they have.
    pub(super) async fn lost_writes(&self, inc: Inc, memory: &Memory, homes: &[Home]) -> BTreeMap<Home, u64> {
        let mut lost = BTreeMap::new();
        for home in homes.iter().copied() {
            let Answer::Number(number) = self.read(home, Call::Number(inc)).await else {
                continue;
            };
            // Who is not there was given up, or was forgotten with the rest.
            let is_lost = match number {
                Some(number) => number < memory.confirmed(home),
                None => memory.new_servers.contains(&shard_of(home)),
            };
            if is_lost {
                lost.insert(home, number.unwrap_or(0));
            } else if memory.missing.contains(&home) {
                lost.insert(home, u64::MAX);
            }
        }
        lost
    }

    /// Which homes have lost writes of incarnations before; if there are any, their generation is over.
    pub(super) async fn examine(&self) {
        let homes: Vec<_> = std::iter::once(Home::Global).chain(Home::buckets()).collect();
        let mut legacies = self.legacies.take();
        for legacy in &mut legacies {
            legacy.lost = self.lost_writes(legacy.inc, &legacy.memory, &homes).await;
            if !legacy.lost.is_empty() {
                let (over, lost) = (legacy.inc, legacy.lost.keys().copied().collect());
                self.beat_call(Call::Raise { over, lost }).await;
            }
        }
        self.legacies.replace(legacies);
    }

    /// Until nothing of an older generation is left that could do anything. Sessions that may have lost something end: their
    /// clients are told so.
    pub(super) async fn settle(self: &Rc<Self>) {
        let over: Vec<_> = self.legacies.borrow().iter().map(|legacy| legacy.inc).collect();
        for inc in &over {
            self.call(Home::Global, Call::Retire(*inc)).await;
        }
        let has_older = self.until_no_older().await;
        if self.generation.get() > 0 && self.has(Guard::AdoptOrphans) {
            self.adopt_orphans().await;
        }
        self.end_sessions().await;
        self.may_recover.set(true);
        self.until_recovered().await;
        if self.has(Guard::AppendAgain) {
            self.append_again().await;
        }
        if !self.legacies.take().is_empty() || has_older {
            self.world.note(Event::Settled);
        }
    }

    /// Of all that had a connection here, where writes were lost, whoever lost them: others have sent to clients what is not
    /// in their queues now.
    async fn end_sessions(self: &Rc<Self>) {
        let mut clients = BTreeSet::new();
        for legacy in self.legacies.borrow().iter() {
            clients.extend(legacy.memory.touched.iter().map(|(_, cid, _)| *cid));
            clients.extend(legacy.connected.iter().copied());
        }
        for cid in clients {
            let home = Home::of_client(cid);
            if self.lost.borrow().contains(&home) && self.has(Guard::TouchedEnd) {
                let (generation, mid) = (self.generation.get(), self.new_mid());
                let ended = self.call(home, Call::EndSession { cid, mid, generation }).await;
                self.log_end(&ended);
                self.run_jobs(home, &[mid]).await;
            }
        }
    }

    /// Whether there was anything.
    async fn until_no_older(&self) -> bool {
        let mut has_older = false;
        while self.has(Guard::SettleFirst) {
            let answer = self.read(Home::Global, Call::Nodes).await;
            if let Answer::Nodes {
                nodes,
                recoverers,
                lost,
                ..
            } = answer
            {
                let is_older = |inc: Inc| inc <= self.generation.get();
                has_older |= recoverers.iter().any(|(dead, _)| is_older(*dead));
                if !nodes.iter().any(|node| is_older(node.inc)) {
                    *self.lost.borrow_mut() = lost.into_iter().collect();
                    return has_older;
                }
                has_older = true;
            }
            self.world.poll().await;
        }
        has_older
    }

    async fn until_recovered(self: &Rc<Self>) {
        while self.has(Guard::SettleFirst) {
            if let Answer::Nodes { recoverers, .. } = self.read(Home::Global, Call::Nodes).await {
                self.recover_mine(&recoverers);
                if recoverers.iter().all(|(dead, _)| *dead > self.generation.get()) {
                    return;
                }
            }
            self.world.poll().await;
        }
    }

    /// Incarnations that may write to a bucket, and that nobody knows any more.
    async fn adopt_orphans(self: &Rc<Self>) {
        let mut writers = BTreeSet::new();
        for home in Home::buckets() {
            if let Answer::Incs(incs) = self.read(home, Call::Writers).await {
                writers.extend(incs);
            }
        }
        if let Answer::Nodes { recoverers, .. } = self.read(Home::Global, Call::Nodes).await {
            writers.extend(recoverers.iter().map(|(_, by)| *by));
        }
        for inc in writers.into_iter().filter(|inc| *inc <= self.generation.get()) {
            self.call(Home::Global, Call::Retire(inc)).await;
        }
    }

    /// What publishers have been told is kept, and is not.
    async fn append_again(self: &Rc<Self>) {
        let mut again = Vec::new();
        for legacy in self.legacies.borrow().iter() {
            let is_lost = |home: &Home, number: &u64| legacy.lost.get(home).is_some_and(|kept| number > kept);
            let appended = legacy.memory.appended.iter();
            let lost = appended.filter(|(_, home, number, _)| is_lost(home, number));
            again.extend(lost.map(|(_, home, _, items)| (*home, of_sessions(items))));
        }
        for (home, items) in again {
            if let Answer::Appended(puts) = self.call(home, Call::Append(items.clone())).await {
                self.give_what_is_gone(&items, &puts);
            }
        }
    }

    /// Of members whose sessions have ended meanwhile.
    fn give_what_is_gone(self: &Rc<Self>, items: &[Append], puts: &[Put]) {
        for (item, put) in items.iter().zip(puts) {
            if let (Some(group), Put::Gone, To::Session(_, uid)) = (item.target.group, put, item.target.to)
                && item.message.qos == Qos::One
            {
                let pending = self.accept_for(item.message, Scope::Group(group, uid));
                drop(self.kept_later(&pending));
            }
        }
    }
}

fn of_sessions(items: &[Append]) -> Vec<Append> {
    let of_sessions = items.iter().filter(|item| matches!(item.target.to, To::Session(..)));
    let again = of_sessions.map(|item| Append {
        once: None,
        ..item.clone()
    });
    again.collect()
}
