//! One round with a cluster: as with one broker, but that clients find other nodes by themselves while things go wrong,
//! and that nothing is expected of what happens until all nodes serve again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::blow::{Blow, Deed, Timeline};
use super::doctor::Doctor;
use super::fleet::{Fleet, Setup};
use super::knock::knock;
use super::vitals;
use crate::aof::Cut;
use crate::cast;
use crate::event::World as What;
use crate::roaming::Roaming;
use crate::stage::{Report, Stage};

struct Round {
    stage: Stage,
    fleet: Fleet,
    setup: Setup,
    program: PathBuf,
    last_look: Instant,
    /// When a client goes elsewhere without a need, and publishers get more to send.
    next_move: Instant,
    next_load: Instant,
    /// Messages that may still be sent while things go wrong.
    budget: usize,
    /// How many events there were when Redis had written so much; nothing where it is to lose nothing.
    written: Option<Vec<(usize, u64)>>,
    /// Clients keep from what all nodes are told.
    is_hushed: bool,
    /// No blow of this round ends a process, or has others take it for dead.
    spares_processes: bool,
}

/// What publishers send in all while things go wrong: less than a queue may hold.
const MOST: usize = 9000;
/// Each gets so many messages at a time, so often.
const PORTION: usize = 10;
const PORTIONS: Duration = Duration::from_millis(40);
/// Until nodes have forgotten who was connected: a session that has nobody since then outlives that Redis loses writes.
const AWHILE: Duration = Duration::from_secs(12);
/// Longest time until all that Redis has lost is in order.
const ORDER: Duration = Duration::from_secs(60);
/// How often the processes are looked after.
const LOOK: Duration = Duration::from_millis(100);
/// Clients that go from one node to another without a need begin so.
const MOVERS: [&str; 9] = ["on-", "vol-", "lag-", "g-", "h-", "churn-", "p", "w-lost-3", "w-lost-4"];

/// Runs a round in an empty directory.
pub fn run(setup: Setup, program: &Path, dir: &Path, blows: &[Blow], seed: u64) -> Result<Report, String> {
    let mut stage = Stage::new(seed);
    cast::volatile_members(&mut stage.world);
    cast::roamers_with_wills(&mut stage.world);
    stage.world.log.world(What::Cluster);
    stage
        .world
        .log
        .note(format!("the round began at {:?}", std::time::SystemTime::now()));
    let fleet = Fleet::start(program, dir, setup)?;
    stage.world.gates = fleet.gates();
    stage.world.roaming = Some(Roaming::new(setup.lease, stage.random.branch()));
    stage.world.idle = Duration::from_secs(4) + setup.lease * 4;
    stage.doors = fleet.doors();
    stage.load = (300, 2500);
    stage.wills = Duration::from_millis(3500) + setup.lease * 2;
    let now = Instant::now();
    let mut round = Round {
        stage,
        fleet,
        setup,
        program: program.to_owned(),
        last_look: now,
        next_move: now,
        next_load: now,
        budget: MOST,
        written: blows.contains(&Blow::Lose).then(Vec::new),
        is_hushed: false,
        spares_processes: blows.iter().all(|blow| blow.spares_processes()),
    };
    round.play(blows)?;
    Ok(round.stage.judge())
}

impl Round {
    fn play(&mut self, blows: &[Blow]) -> Result<(), String> {
        self.wait_for_all()?;
        let incarnations = vitals::incarnations(&self.fleet)?;
        let deaths = vitals::count_deaths(&self.fleet);
        self.stage.gather();
        if self.written.is_some() && self.stage.random.percent(30) {
            self.stage.world.run_for(AWHILE);
        }
        self.stage.watch_ghosts();
        self.stage.load();
        self.stage.report.outstanding = self.stage.world.outstanding();
        let start = Instant::now();
        let deeds = self.timeline(blows);
        self.suffer(deeds)?;
        match self.written.is_some() {
            true => self.wait_for_order(deaths)?,
            false => self.wait_for_all()?,
        }
        self.stage.report.restart = start.elapsed();
        self.stage.publish(0);
        self.stage.resume();
        self.stage.finish();
        self.stage.lay_ghosts();
        self.stage.world.log.world(What::End);
        let mut found = Vec::new();
        if blows.iter().all(|blow| blow.spares_all()) {
            found.extend(vitals::begun_again(&self.fleet, &incarnations)?);
        }
        if self.spares_processes {
            found.extend(vitals::deaths(&self.fleet));
        }
        self.stage.report.violations.extend(found);
        self.see_the_doctor()?;
        let panic = self.fleet.nodes.iter().find_map(|node| node.broker.panic());
        panic.map_or(Ok(()), Err)
    }

    /// What is in Redis is in order while the nodes are there, and when all have ended or were killed.
    fn see_the_doctor(&mut self) -> Result<(), String> {
        let doctor = Doctor::new(&self.program, &self.fleet.redis);
        let mut found = doctor.when_all_is_done(self.setup.nodes)?;
        let (signal, when) = match self.stage.random.percent(50) {
            true => (Signal::KILL, "after all were killed"),
            false => (Signal::TERM, "after all have ended"),
        };
        self.stage.world.log.note(format!("{signal:?} to all"));
        for node in &mut self.fleet.nodes {
            node.broker.signal(signal);
        }
        for node in &mut self.fleet.nodes {
            node.broker.wait();
        }
        found.extend(doctor.finds(when)?);
        self.stage.report.violations.extend(found);
        Ok(())
    }

    /// All deeds of the blows, each of which hits another node if there are enough.
    fn timeline(&mut self, blows: &[Blow]) -> Timeline {
        let random = &mut self.stage.random;
        let first = random.index(self.setup.nodes);
        let mut deeds = Timeline::new();
        for (number, blow) in blows.iter().enumerate() {
            let node = (first + number) % self.setup.nodes;
            let start = self.setup.lease.mul_f64(0.8 * number as f64 * random.share());
            let own = blow.deeds(node, self.setup.nodes, self.setup.lease, random);
            deeds.extend(own.into_iter().map(|(time, deed)| (start + time, deed)));
        }
        deeds.sort_by_key(|(time, _)| *time);
        deeds
    }

    /// Does all this while the clients go on, and lets two leases pass.
    fn suffer(&mut self, mut deeds: Timeline) -> Result<(), String> {
        let loses = self.written.is_some();
        let clients = &mut self.stage.world.clients;
        clients.iter_mut().for_each(|client| client.doubts = loses);
        self.written.iter_mut().for_each(Vec::clear);
        self.note_written();
        let start = Instant::now();
        while !deeds.is_empty() {
            match self.next_deed(&deeds, start.elapsed()) {
                Some(at) => self.act(deeds.remove(at).1)?,
                None => self.go_on()?,
            }
        }
        let end = Instant::now() + self.setup.lease * 2;
        while Instant::now() < end {
            self.go_on()?;
        }
        Ok(())
    }

    /// The first deed that can be done now. A node is started behind what ends it, whenever that comes.
    fn next_deed(&mut self, deeds: &Timeline, now: Duration) -> Option<usize> {
        (0..deeds.len()).find(|at| {
            let (time, deed) = deeds[*at];
            let before = deeds[..*at].iter().map(|(_, before)| *before);
            let is_early = matches!(deed, Deed::Start(node) if before.into_iter().any(|before| before.ends(node)));
            time <= now && !is_early && self.is_time_for(deed)
        })
    }

    /// A turn of the clients while things go wrong.
    fn go_on(&mut self) -> Result<(), String> {
        let now = Instant::now();
        if now >= self.next_load {
            self.next_load = now + PORTIONS;
            self.budget = self.budget.saturating_sub(self.stage.publish(PORTION.min(self.budget)));
        }
        if now >= self.next_move && !self.is_hushed {
            self.next_move = now + Duration::from_millis(self.stage.random.between(10, 120));
            self.move_someone();
        }
        if self.last_look.elapsed() > LOOK {
            self.look_after()?;
        }
        self.note_written();
        self.stage.world.turn(Duration::from_millis(1));
        Ok(())
    }

    /// What has been answered until now is in what Redis has written until now.
    fn note_written(&mut self) {
        if let Some(written) = &mut self.written {
            written.push((self.stage.world.log.events.len(), self.fleet.redis.written()));
        }
    }

    fn move_someone(&mut self) {
        let movers = self.stage.world.all(&MOVERS);
        let at = movers[self.stage.random.index(movers.len())];
        let leaves_open = self.stage.random.percent(60);
        if self.stage.world.clients[at].accepted && self.stage.world.clients[at].wanted {
            self.stage.world.move_on(at, leaves_open);
        }
    }

    /// Starts again what has ended by itself, as a node does that was declared dead.
    fn look_after(&mut self) -> Result<(), String> {
        self.last_look = Instant::now();
        for (at, status) in self.fleet.revive()? {
            let text = format!("node {} has ended with {status}", at + 1);
            if self.spares_processes {
                self.stage.report.violations.push(vitals::violation(text.clone()));
            }
            self.stage.world.log.note(text);
            self.stage.world.log.world(What::Kill);
        }
        Ok(())
    }

    fn is_time_for(&mut self, deed: Deed) -> bool {
        match deed {
            Deed::TermNext(at) => self.fleet.nodes[at].is_ending || self.fleet.is_complete(),
            Deed::Start(at) if self.fleet.nodes[at].is_ending => {
                let broker = &mut self.fleet.nodes[at].broker;
                broker.status().is_some() || !broker.is_there()
            }
            _ => true,
        }
    }

    fn act(&mut self, deed: Deed) -> Result<(), String> {
        self.stage.world.log.note(format!("{deed:?}, nodes counted from 0"));
        let world = match deed {
            Deed::Kill(_) => Some(What::Kill),
            Deed::Stop(_) => Some(What::Stop),
            Deed::Continue(_) => Some(What::Cont),
            Deed::Term(_) | Deed::TermNext(_) => Some(What::Term),
            Deed::Order(..) => Some(What::Apart),
            Deed::KillStore | Deed::LoseStore => Some(What::StoreKill),
            Deed::StartStore => Some(What::StoreReady),
            Deed::Start(_) | Deed::Hush => None,
        };
        world.into_iter().for_each(|world| self.stage.world.log.world(world));
        self.perform(deed)
    }

    fn perform(&mut self, deed: Deed) -> Result<(), String> {
        match deed {
            Deed::Kill(at) => self.fleet.nodes[at].kill(),
            Deed::Stop(at) => {
                self.fleet.nodes[at].broker.signal(Signal::STOP);
                self.fleet.nodes[at].is_stopped = true;
            }
            Deed::Continue(at) => {
                self.fleet.nodes[at].broker.signal(Signal::CONT);
                self.fleet.nodes[at].is_stopped = false;
            }
            Deed::Term(at) | Deed::TermNext(at) => {
                self.fleet.nodes[at].broker.signal(Signal::TERM);
                self.fleet.nodes[at].is_ending = true;
            }
            Deed::Start(at) if self.fleet.nodes[at].is_ending => {
                self.fleet.nodes[at].broker.wait();
                self.fleet.nodes[at].start()?;
            }
            Deed::Start(_) => {}
            Deed::Order(at, order) => self.fleet.nodes[at].proxy.order(order),
            Deed::KillStore => self.fleet.redis.kill(),
            Deed::Hush => self.hush(true),
            Deed::LoseStore => {
                self.hush(false);
                self.lose_writes()?;
            }
            Deed::StartStore => self.fleet.redis.launch()?,
        }
        Ok(())
    }

    fn hush(&mut self, is_hushed: bool) {
        self.is_hushed = is_hushed;
        self.stage.hush(is_hushed);
    }

    /// Redis has written more than it has from now on.
    fn lose_writes(&mut self) -> Result<(), String> {
        let written = self.written.replace(Vec::new()).unwrap_or_default();
        let sizes: Vec<_> = written.iter().map(|(_, size)| *size).collect();
        let cut = self.fleet.redis.kill_and_lose(&sizes, &mut self.stage.random)?;
        let Some(Cut { end, lost, of_log }) = cut else {
            self.stage.world.log.note("nothing is lost".into());
            return Ok(());
        };
        let text = format!("{lost} commands are lost, of which {of_log} have added to the log");
        self.stage.world.log.note(text);
        let kept = written.iter().rfind(|(_, size)| *size <= end);
        let (place, _) = kept.ok_or("more is lost than was seen")?;
        self.stage.world.log.insert(*place, What::Loses);
        Ok(())
    }

    /// Until all is in order that Redis has lost. A node that has not heard of it yet may accept a client while another one puts
    /// things in order, but none that was asked after that one has accepted.
    fn wait_for_order(&mut self, deaths: usize) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let before = vitals::incarnations(&self.fleet);
            self.knock_at_all()?;
            self.knock_at_all()?;
            let is_stable = before.is_ok_and(|before| vitals::incarnations(&self.fleet).is_ok_and(|now| now == before));
            if is_stable {
                break;
            }
            if start.elapsed() > ORDER {
                return Err("nodes begin again and again".into());
            }
        }
        if vitals::count_deaths(&self.fleet) > deaths {
            self.stage.world.log.world(What::Dead);
        }
        self.all_are_there();
        Ok(())
    }

    fn wait_for_all(&mut self) -> Result<(), String> {
        self.knock_at_all()?;
        self.all_are_there();
        Ok(())
    }

    fn all_are_there(&mut self) {
        self.stage.world.turn(Duration::ZERO);
        self.stage.world.log.world(What::Ready);
    }

    /// Until each node has accepted a client, which none does that is no longer one of the cluster.
    fn knock_at_all(&mut self) -> Result<(), String> {
        let knocks: Vec<_> = self.fleet.doors().into_iter().map(knock).collect();
        while !knocks.iter().all(|knock| knock.is_finished()) {
            self.go_on()?;
        }
        for (at, knock) in knocks.into_iter().enumerate() {
            if !knock.join().unwrap_or(false) {
                return Err(format!("node {} accepts no client", at + 1));
            }
        }
        Ok(())
    }
}
