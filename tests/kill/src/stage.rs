//! What clients do in a round, whatever they talk to: they gather, publish at full load, resume, and bring all to its end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::cast;
use crate::check::{self, Violation};
use crate::client::{Client, Settings};
use crate::event::Event;
use crate::publisher::Topic;
use crate::random::Random;
use crate::world::World;

/// What a round has come to.
#[derive(Default)]
pub struct Report {
    pub acked: usize,
    pub delivered: usize,
    /// Messages that were not acknowledged when the fault began.
    pub outstanding: usize,
    /// Those of them for which no acknowledgement was found in what the broker had sent.
    pub unanswered: usize,
    pub restart: Duration,
    pub violations: Vec<Violation>,
    pub events: Vec<Event>,
}

pub struct Stage {
    pub world: World,
    pub random: Random,
    pub report: Report,
    /// Where those go who look at the retained messages; if nowhere, one of them goes where all go.
    pub doors: Vec<SocketAddr>,
    /// How many messages are acknowledged before the fault, at least and at most.
    pub load: (u64, u64),
    /// Who must have been connected for so long before the fault that what they have done is done.
    pub settled: Duration,
    /// Wills that are due must come within this time.
    pub wills: Duration,
    probes: usize,
}

/// Those who connect before the load, and again after a restart.
const ALWAYS: [&str; 18] = [
    "new-", "clean-", "on-", "off-", "late-", "vol-", "lag-", "watch-", "replay-", "g-", "h-", "k-", "churn-",
    "w-back", "w-ended", "w-lost-3", "w-lost-4", "w-roam",
];
/// Those of them who come back only at the end.
const LATE: [&str; 3] = ["late-", "watch-2", "off-1"];
impl Stage {
    /// With the cast of this seed. Nobody is connected.
    pub fn new(seed: u64) -> Stage {
        let mut stage = Stage {
            world: World::new(),
            random: Random::new(seed),
            report: Report::default(),
            doors: Vec::new(),
            load: (400, 6000),
            settled: Duration::from_millis(450),
            wills: Duration::from_millis(3500),
            probes: 0,
        };
        cast::gather(&mut stage.world, &mut stage.random);
        stage
    }

    /// Checks what has happened.
    pub fn judge(self) -> Report {
        let mut report = self.report;
        report.acked = self.world.log.acked;
        report.delivered = self.world.log.delivered;
        report.events = self.world.log.events;
        report.violations.extend(check::check(&report.events));
        report
    }

    /// Everybody comes; those who are away when the fault begins leave.
    pub fn gather(&mut self) {
        // Who watches for wills is there before those who have one.
        let mut subscribers = self.world.all(&ALWAYS);
        subscribers.retain(|at| self.world.clients[*at].settings.will.is_none());
        self.come(&[subscribers, self.world.all(&["keeper"])].concat());
        self.come(&self.world.all(&["w-"]));
        self.leave("off-1", 0, None);
        self.leave("late-1", 0, None);
        self.leave("w-bye-1", 0, None);
        self.leave("w-bye-2", 0, None);
        self.leave("w-with-1", 4, None);
        self.leave("w-ended-1", 0, Some(0));
        self.leave("keeper", 0, None);
        for at in self.world.all(&["clean-"]) {
            self.world.cut(at);
            let version = self.world.clients[at].settings.version;
            self.world.clients[at].begin_anew(Settings::volatile(version));
            self.come(&[at]);
        }
        self.come(&self.world.all(&["p"]));
    }

    /// Connects these and waits until all that they ask for is answered.
    fn come(&mut self, who: &[usize]) {
        who.iter().for_each(|at| {
            self.world.connect(*at);
        });
        self.world
            .until(|world| who.iter().all(|at| world.clients[*at].is_settled()));
    }

    fn leave(&mut self, name: &str, code: u8, expiry: Option<u32>) {
        let at = self.world.named(name);
        self.world.disconnect(at, code, expiry);
        self.world.until(|world| world.clients[at].link.is_none());
    }

    /// Has the publishers send so many more messages each; how many all of them are given.
    pub fn publish(&mut self, budget: usize) -> usize {
        let mut given = 0_usize;
        for at in self.world.all(&["p"]) {
            if let Some(publisher) = self.world.clients[at].publisher.as_mut().filter(|one| !one.in_turn) {
                given = given.saturating_add(budget.saturating_sub(publisher.budget));
                publisher.budget = budget;
            }
        }
        given
    }

    /// Whether nobody does what all nodes of a cluster are told: to subscribe, to unsubscribe, and to publish what is retained.
    pub fn hush(&mut self, is_hushed: bool) {
        for client in &mut self.world.clients {
            if let Some(churn) = &mut client.churn {
                churn.paused = is_hushed;
            }
            let publisher = client.publisher.as_mut().filter(|publisher| !publisher.in_turn);
            publisher
                .into_iter()
                .for_each(|publisher| publisher.is_hushed = is_hushed);
        }
    }

    /// Has somebody look for what comes by connections that their clients have left.
    pub fn watch_ghosts(&mut self) {
        let at = self.world.named("watch-1");
        self.world.clients[at].want("ghost/#", 1);
        self.world.until(|world| world.clients[at].is_settled());
    }

    /// Waits until the broker has closed all connections that were left.
    pub fn lay_ghosts(&mut self) {
        self.world
            .until(|world| world.ghosts.iter().all(|ghost| ghost.link.is_none()));
    }

    /// Full load, until it is time for the fault.
    pub fn load(&mut self) {
        let start = Instant::now();
        self.publish(usize::MAX);
        let target = self.world.log.acked + self.random.between(self.load.0, self.load.1) as usize;
        let half = self.world.log.acked + (target - self.world.log.acked) / 2;
        self.world.until(|world| world.log.acked >= half);
        self.disturb();
        // What was acknowledged so far will be from long before the fault.
        self.publish(0);
        self.world.run_for(self.settled.saturating_sub(start.elapsed()));
        self.publish(usize::MAX);
        self.world.until(|world| world.log.acked >= target);
        let jitter = Duration::from_micros(self.random.between(0, 8000));
        self.world.run_for(jitter);
        for at in self.world.all(&["w-now"]) {
            self.world.cut(at);
        }
        for newcomer in cast::newcomers() {
            let at = self.world.add(newcomer);
            self.world.connect(at);
        }
    }

    /// Some come and go during the load.
    fn disturb(&mut self) {
        for name in ["off-2", "watch-2", "w-mid-1", "w-mid-2", "w-mid-3"] {
            let at = self.world.named(name);
            self.world.cut(at);
        }
        let again = self.world.named("on-3");
        self.world.cut(again);
        self.world.connect(again);
        for (name, qos) in [("replay-1", 2), ("replay-2", 1)] {
            let at = self.world.named(name);
            self.world.clients[at].want("old/#", qos);
        }
    }

    /// Looks at the retained messages, while nobody publishes, through this door if it has to be a certain one.
    pub fn probe(&mut self, door: Option<SocketAddr>) {
        self.probes += 1;
        let at = self.world.add(cast::probe(self.probes, self.random.branch()));
        self.world.clients[at].gate = door;
        self.world.connect(at);
        self.world.until(|world| world.clients[at].is_settled());
        self.world.clients[at].want("load/#", 1);
        self.world.clients[at].want("clear/#", 1);
        if door.is_some() {
            self.world.clients[at].want("will/#", 1);
        }
        self.world.until(|world| world.clients[at].is_settled());
        let publisher = self.world.clients[at]
            .publisher
            .as_mut()
            .expect("a probe publishes its mark");
        publisher.budget = 1;
        self.world.until(|world| !world.clients[at].marks.is_empty());
        self.world.clients[at].leave_all();
        self.world.until(|world| world.clients[at].is_settled());
        self.world.disconnect(at, 0, None);
        self.world.until(|world| world.clients[at].link.is_none());
    }

    /// Everybody comes back but those who are late.
    pub fn resume(&mut self) {
        for at in self.world.all(&["clean-"]) {
            let version = self.world.clients[at].settings.version;
            if !self.world.clients[at].is_persistent() {
                self.world.clients[at].begin_anew(Settings::persistent(version));
            }
        }
        let late = self.world.all(&LATE);
        for at in self.world.all(&[&ALWAYS[..], &["p"]].concat()) {
            if !late.contains(&at) && !self.world.clients[at].is_probe() {
                self.world.connect(at);
            }
        }
    }

    /// Everything is brought to its end and looked at.
    pub fn finish(&mut self) {
        let more = self.random.between(20, 80) as usize;
        self.publish(more);
        self.settle();
        for at in self.world.all(&LATE) {
            self.world.connect(at);
        }
        self.settle();
        self.speak("audit", self.churned());
        self.wills();
        self.speak("last", vec![Topic::new(cast::END, Some(2), false)]);
        let all = self.world.all(&ALWAYS);
        self.world.until(|world| {
            let present = all
                .iter()
                .map(|at| &world.clients[*at])
                .filter(|client| client.hears_the_end());
            present
                .into_iter()
                .all(|client| client.marks.iter().any(|label| label.starts_with("last")))
        });
        let delayed = self.world.named("w-delay-1");
        self.come(&[delayed]);
        if self.doors.is_empty() {
            return self.probe(None);
        }
        for door in self.doors.clone() {
            self.probe(Some(door));
        }
    }

    /// Waits until publishers and subscribers have their answers.
    fn settle(&mut self) {
        for at in self.world.all(&["churn-"]) {
            if let Some(churn) = &mut self.world.clients[at].churn {
                churn.paused = true;
            }
        }
        self.world.until(|world| {
            let present = world
                .clients
                .iter()
                .filter(|client| client.link.is_some() || client.wanted);
            let spent = |client: &Client| client.publisher.as_ref().is_none_or(|one| one.budget == 0);
            present.into_iter().all(|client| client.is_settled() && spent(client))
        });
    }

    /// The topics that were subscribed to during the load.
    fn churned(&self) -> Vec<Topic> {
        let filters = self.world.clients.iter().flat_map(|client| &client.filters);
        let names: BTreeSet<_> = filters.map(|filter| &filter.name).collect();
        let own = names
            .into_iter()
            .filter(|name| name.starts_with("churn/") || name.starts_with("new/"));
        own.map(|name| Topic::new(name, None, false)).collect()
    }

    /// Has somebody new publish to these topics.
    fn speak(&mut self, name: &str, topics: Vec<Topic>) {
        let at = self.world.add(cast::speaker(name, topics, self.random.branch()));
        self.world.connect(at);
        self.settle();
        self.world.disconnect(at, 0, None);
    }

    /// Waits for the wills that are due.
    fn wills(&mut self) {
        let due: Vec<_> = self
            .world
            .lost_wills
            .iter()
            .filter(|(_, delay)| *delay < 60)
            .cloned()
            .collect();
        let watchers = self.world.all(&["watch-"]);
        let (start, patience) = (Instant::now(), self.wills);
        self.world.until(|world| {
            let has_all = |at: &usize| due.iter().all(|(label, _)| world.clients[*at].marks.contains(label));
            watchers.iter().all(has_all) || start.elapsed() > patience
        });
    }
}
