//! One round: clients gather, publish at full load, something is done to the broker, they resume, and the log is checked.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::broker::{Backend, Broker};
use crate::cast;
use crate::check::{self, Violation};
use crate::client::Settings;
use crate::event::{Event, World as What};
use crate::fault::Fault;
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

struct Round {
    world: World,
    broker: Broker,
    random: Random,
    report: Report,
    probes: usize,
    /// The broker has been killed.
    has_struck: bool,
}

/// Those who connect before the load, and again after a restart.
const ALWAYS: [&str; 16] = [
    "new-", "clean-", "on-", "off-", "late-", "vol-", "lag-", "watch-", "replay-", "g-", "h-", "churn-", "w-back",
    "w-ended", "w-lost-3", "w-lost-4",
];
/// Those of them who come back only at the end.
const LATE: [&str; 3] = ["late-", "watch-2", "off-1"];
/// Who must have been connected for so long before the fault that what they have done is done.
const SETTLED: Duration = Duration::from_millis(450);
/// Wills that are due must come within this time.
const WILLS: Duration = Duration::from_millis(3500);

/// Runs a round in an empty directory.
pub fn run(backend: Backend, program: &Path, dir: &Path, fault: Fault, seed: u64) -> Result<Report, String> {
    let mut round = Round {
        world: World::new(),
        broker: Broker::new(backend, program, dir)?,
        random: Random::new(seed),
        report: Report::default(),
        probes: 0,
        has_struck: false,
    };
    cast::gather(&mut round.world, &mut round.random);
    round.play(fault)?;
    let mut report = round.report;
    report.acked = round.world.log.acked;
    report.delivered = round.world.log.delivered;
    report.events = round.world.log.events;
    report.violations = check::check(&report.events);
    Ok(report)
}

impl Round {
    fn play(&mut self, fault: Fault) -> Result<(), String> {
        self.broker.spawn()?;
        self.serve()?;
        self.gather();
        self.load();
        self.strike(fault)?;
        if fault == Fault::KillTwice {
            self.publish(usize::MAX);
            let target = self.world.log.acked + self.random.between(0, 1500) as usize;
            self.world.until(|world| world.log.acked >= target);
            self.kill_soon("killed-again");
            self.publish(0);
            self.restart()?;
        }
        self.finish();
        self.world.log.world(What::End);
        match self.broker.status() {
            Some(status) => Err(format!("the broker has ended with {status}")),
            None => Ok(()),
        }
    }

    fn serve(&mut self) -> Result<(), String> {
        self.world.addr = self.broker.listening()?;
        self.world.log.world(What::Ready);
        Ok(())
    }

    /// Everybody comes; those who are away when the fault begins leave.
    fn gather(&mut self) {
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

    /// Has the publishers send so many more messages each.
    fn publish(&mut self, budget: usize) {
        for at in self.world.all(&["p"]) {
            if let Some(publisher) = self.world.clients[at].publisher.as_mut().filter(|one| !one.in_turn) {
                publisher.budget = budget;
            }
        }
    }

    /// Full load, until it is time for the fault.
    fn load(&mut self) {
        let start = Instant::now();
        self.publish(usize::MAX);
        let target = self.world.log.acked + self.random.between(400, 6000) as usize;
        let half = self.world.log.acked + (target - self.world.log.acked) / 2;
        self.world.until(|world| world.log.acked >= half);
        self.disturb();
        // What was acknowledged so far will be from long before the fault.
        self.publish(0);
        self.world.run_for(SETTLED.saturating_sub(start.elapsed()));
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

    fn strike(&mut self, fault: Fault) -> Result<(), String> {
        self.report.outstanding = self.world.outstanding();
        match fault {
            Fault::Kill | Fault::KillTwice => self.kill_soon("killed"),
            Fault::KillStarting => {
                self.kill_soon("killed");
                self.broker.spawn()?;
                self.kill(15_000, "killed-again");
            }
            Fault::StopKill => {
                self.stop();
                self.kill(0, "killed");
            }
            Fault::Stop => {
                self.stop();
                self.world.log.world(What::Cont);
                self.broker.signal(Signal::CONT);
            }
            Fault::Term => self.terminate(),
            Fault::StoreKill => {
                self.kill_store();
                let pause = Duration::from_millis(self.random.between(0, 200));
                self.world.run_for(pause);
                self.start_store()?;
            }
            Fault::BothKill => {
                let store_first = self.random.percent(50);
                if store_first {
                    self.kill_store();
                    let pause = Duration::from_micros(self.random.between(0, 5000));
                    self.world.run_for(pause);
                }
                self.kill_soon("killed");
                if !store_first {
                    self.kill_store();
                }
                self.start_store()?;
            }
            Fault::Cut => (0..self.world.clients.len()).for_each(|at| self.world.cut(at)),
        }
        self.publish(0);
        match fault {
            Fault::Stop | Fault::StoreKill | Fault::Cut => {
                self.resume();
                Ok(())
            }
            _ => self.restart(),
        }
    }

    /// Kills the broker within the time of a commit, or of a few.
    fn kill_soon(&mut self, copy: &str) {
        let within = if self.random.percent(50) { 3000 } else { 40_000 };
        self.kill(within, copy);
    }

    /// Kills the broker at some time within so many microseconds, whatever the clients are at.
    fn kill(&mut self, within: u64, copy: &str) {
        let time = Duration::from_micros(self.random.between(0, within));
        self.world.log.killer = Some(self.broker.kill_in(time));
        while self.world.log.is_killer_awaited() {
            if !self.has_struck {
                self.report.outstanding = self.world.outstanding();
            }
            self.world.turn(Duration::from_millis(1));
        }
        self.has_struck = true;
        self.broker.wait();
        let abandoned = self.world.abandoned();
        self.world.drain();
        self.report.unanswered = self.world.outstanding() + self.world.abandoned() - abandoned;
        self.broker.copy_data(copy);
    }

    fn stop(&mut self) {
        self.world.log.world(What::Stop);
        self.broker.signal(Signal::STOP);
        let pause = Duration::from_millis(self.random.between(1, 200));
        self.world.run_for(pause);
    }

    fn terminate(&mut self) {
        // A broker that takes its time must not get more than the queues of those who are away may hold.
        self.publish(1000);
        self.world.log.world(What::Term);
        self.broker.signal(Signal::TERM);
        let start = Instant::now();
        while self.broker.status().is_none() && start.elapsed() < Duration::from_secs(20) {
            self.world.turn(Duration::from_millis(1));
        }
        self.broker.wait();
        self.world.drain();
    }

    fn kill_store(&mut self) {
        self.world.log.world(What::StoreKill);
        self.broker.kill_store();
    }

    fn start_store(&mut self) -> Result<(), String> {
        self.broker.start_store()?;
        self.world.log.world(What::StoreReady);
        Ok(())
    }

    fn restart(&mut self) -> Result<(), String> {
        let start = Instant::now();
        self.broker.spawn()?;
        self.serve()?;
        self.report.restart = start.elapsed();
        self.probe();
        self.resume();
        Ok(())
    }

    /// Looks at the retained messages, while nobody publishes.
    fn probe(&mut self) {
        self.probes += 1;
        let at = self.world.add(cast::probe(self.probes, self.random.branch()));
        self.world.connect(at);
        self.world.until(|world| world.clients[at].is_settled());
        self.world.clients[at].want("load/#", 1);
        self.world.clients[at].want("clear/#", 1);
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
    fn resume(&mut self) {
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
    fn finish(&mut self) {
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
        self.probe();
    }

    /// Waits until publishers and subscribers have their answers.
    fn settle(&mut self) {
        for at in self.world.all(&["churn-"]) {
            if let Some(churn) = &mut self.world.clients[at].churn {
                churn.paused = true;
            }
        }
        self.world.until(|world| {
            let present = world.clients.iter().filter(|client| client.link.is_some());
            let spent = |client: &crate::client::Client| client.publisher.as_ref().is_none_or(|one| one.budget == 0);
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
        let start = Instant::now();
        self.world.until(|world| {
            let has_all = |at: &usize| due.iter().all(|(label, _)| world.clients[*at].marks.contains(label));
            watchers.iter().all(has_all) || start.elapsed() > WILLS
        });
    }
}
