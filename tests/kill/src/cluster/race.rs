//! Two connections ask for one Client Identifier at once, at two nodes, again and again: one of them must be left, and the
//! session whole.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::fleet::Fleet;
use super::knock::knock;
use crate::link::Link;
use crate::options::Options;
use crate::packet::{self, Packet, Prop, Version};
use crate::random::Random;

/// Longest time until one is left, and until all has come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest gap between the two, in microseconds.
const GAP: u64 = 50_000;
/// Messages that are published before, in and after each race.
const MESSAGES: usize = 4;
/// Identifiers that are raced for, in turns.
const RACERS: u64 = 7;
const PAUSE: Duration = Duration::from_micros(300);

/// Races so often; whether each was right.
pub fn run(options: &Options, times: u64) -> Result<bool, String> {
    let dir = options.keep.join(format!("race-{}", options.seed));
    let _ = std::fs::remove_dir_all(&dir);
    let fleet = Fleet::start(&options.program, &dir, options.setup)?;
    for door in fleet.doors() {
        knock(door).join().map_err(|_| "a node accepts no client")?;
    }
    let mut track = Track::new(&fleet, options.seed)?;
    let mut failed = 0_u64;
    for number in 1..=times {
        if let Err(error) = track.race(number) {
            println!("not ok race {number}: {error}");
            failed += 1;
        }
    }
    let word = if failed == 0 { "ok" } else { "not ok" };
    println!(
        "{word} {times} races with seed {}, {failed} wrong; {}",
        options.seed,
        track.tally()
    );
    Ok(failed == 0)
}

struct Track {
    gates: Vec<SocketAddr>,
    random: Random,
    publisher: Runner,
    published: usize,
    /// Of each identifier: the connection that was left, and its session.
    racers: Vec<Racer>,
    /// How often the first, and the second, was left.
    won: [usize; 2],
    longest: Duration,
}

struct Racer {
    name: String,
    holder: Option<Runner>,
    /// Labels of what has come, by whatever connection.
    seen: Vec<String>,
}

/// A connection, and what it has been given.
struct Runner {
    link: Option<Link>,
    accepted: Option<packet::Connack>,
    /// What was asked has been answered: SUBSCRIBE, or PINGREQ.
    answered: bool,
    labels: Vec<String>,
    open: Vec<u16>,
}

impl Track {
    fn new(fleet: &Fleet, seed: u64) -> Result<Track, String> {
        let gates = fleet.gates();
        let mut publisher = Runner::connect(gates[0], "starter", true)?;
        publisher.run_until(|runner| runner.accepted.is_some())?;
        let racer = |number| Racer {
            name: format!("racer-{number}"),
            holder: None,
            seen: Vec::new(),
        };
        let mut track = Track {
            gates,
            random: Random::new(seed),
            publisher,
            published: 0,
            racers: (0..RACERS).map(racer).collect(),
            won: [0, 0],
            longest: Duration::ZERO,
        };
        for at in 0..track.racers.len() {
            track.enlist(at)?;
        }
        Ok(track)
    }

    /// Makes the session of a racer, with its subscription.
    fn enlist(&mut self, at: usize) -> Result<(), String> {
        let racer = &mut self.racers[at];
        let mut holder = Runner::connect(self.gates[at % self.gates.len()], &racer.name, false)?;
        holder.run_until(|runner| runner.accepted.is_some())?;
        holder.send(
            packet::Subscribe::new(1)
                .filter(&format!("race/{}", racer.name), 2)
                .into(),
        );
        holder.run_until(|runner| runner.answered)?;
        racer.holder = Some(holder);
        Ok(())
    }

    fn race(&mut self, number: u64) -> Result<(), String> {
        let at = (number % RACERS) as usize;
        let name = self.racers[at].name.clone();
        // Half of the races begin with nobody, and half with somebody.
        if self.random.percent(50) {
            self.racers[at].dismiss();
        }
        let before = self.published;
        self.publish(&name);
        let mut runners = self.start(&name)?;
        self.publish(&name);
        let start = Instant::now();
        let left = self.finish(at, &mut runners, start)?;
        self.longest = self.longest.max(start.elapsed());
        self.won[left] += 1;
        self.publish(&name);
        self.collect(at, before)
    }

    /// Two connect, to two nodes, with a gap between them.
    fn start(&mut self, name: &str) -> Result<Vec<Runner>, String> {
        let first = self.random.index(self.gates.len());
        let second = (first + 1 + self.random.index(self.gates.len().max(2) - 1)) % self.gates.len();
        let gap = Duration::from_micros(self.random.between(0, GAP));
        let mut one = Runner::connect(self.gates[first], name, false)?;
        let start = Instant::now();
        while start.elapsed() < gap {
            one.turn();
            self.publisher.turn();
            std::thread::sleep(PAUSE);
        }
        Ok(vec![one, Runner::connect(self.gates[second], name, false)?])
    }

    /// Waits until one is left: which.
    fn finish(&mut self, at: usize, runners: &mut Vec<Runner>, start: Instant) -> Result<usize, String> {
        loop {
            runners.iter_mut().for_each(Runner::turn);
            if let Some(holder) = &mut self.racers[at].holder {
                holder.turn();
            }
            let open: Vec<usize> = (0..2).filter(|at| runners[*at].link.is_some()).collect();
            let holds = self.racers[at]
                .holder
                .as_ref()
                .is_some_and(|holder| holder.link.is_some());
            match open[..] {
                [] => return Err("nobody is left".into()),
                [one] if runners[one].accepted.is_some() && !holds => {
                    self.take(at, runners, one)?;
                    return Ok(one);
                }
                _ if start.elapsed() > PATIENCE => {
                    return Err(format!("{} are left, and the one before: {holds}", open.len()));
                }
                _ => std::thread::sleep(PAUSE),
            }
        }
    }

    /// The one that is left holds the session: it is there, and the connection answers.
    fn take(&mut self, at: usize, runners: &mut Vec<Runner>, one: usize) -> Result<(), String> {
        let racer = &mut self.racers[at];
        let mut holder = runners.swap_remove(one);
        racer.seen.extend(runners.drain(..).flat_map(|runner| runner.labels));
        racer
            .seen
            .extend(racer.holder.take().into_iter().flat_map(|runner| runner.labels));
        let connack = holder.accepted.as_ref().expect("it was accepted");
        let (code, present) = (connack.code, connack.session_present);
        holder.answered = false;
        holder.send(Packet::Pingreq);
        holder.run_until(|runner| runner.answered)?;
        racer.holder = Some(holder);
        match (code, present) {
            (0, true) => Ok(()),
            (0, false) => Err("the session is gone".into()),
            _ => Err(format!("CONNACK {code:#04x}")),
        }
    }

    /// All messages of this race have come, by whatever connection.
    fn collect(&mut self, at: usize, before: usize) -> Result<(), String> {
        let racer = &mut self.racers[at];
        let holder = racer.holder.as_mut().ok_or("nobody holds the session")?;
        let start = Instant::now();
        loop {
            holder.turn();
            self.publisher.turn();
            racer.seen.append(&mut holder.labels);
            let missing: Vec<String> = (before..self.published)
                .map(|number| format!("m-{number}"))
                .filter(|label| !racer.seen.contains(label))
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            if holder.link.is_none() {
                return Err("the last one left was closed later".into());
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("{} have not come", missing.join(", ")));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn publish(&mut self, name: &str) {
        for _ in 0..MESSAGES {
            let label = format!("m-{}", self.published);
            let id = 1 + (self.published % 60_000) as u16;
            let qos = 1 + (self.published % 2) as u8;
            self.published += 1;
            let packet = packet::Publish::new(&format!("race/{name}"), label).qos(qos, id);
            self.publisher.send(packet.into());
        }
        self.publisher.turn();
    }

    fn tally(&self) -> String {
        let [first, second] = self.won;
        format!(
            "the first was left {first} times, the second {second}; at most {:?} for a race",
            self.longest
        )
    }
}

impl Racer {
    /// Its connection ends with DISCONNECT.
    fn dismiss(&mut self) {
        if let Some(mut holder) = self.holder.take() {
            holder.send(packet::Disconnect::new(0).into());
            holder.turn();
            self.seen.append(&mut holder.labels);
        }
    }
}

impl Runner {
    fn connect(addr: SocketAddr, name: &str, clean: bool) -> Result<Runner, String> {
        let link = Link::open(addr, Version::V5).map_err(|error| error.to_string())?;
        let mut runner = Runner {
            link: Some(link),
            accepted: None,
            answered: false,
            labels: Vec::new(),
            open: Vec::new(),
        };
        let mut connect = packet::Connect::v5(name).clean(clean);
        if !clean {
            connect = connect.prop(Prop::SessionExpiry(3600));
        }
        runner.send(connect.into());
        runner.turn();
        Ok(runner)
    }

    fn send(&mut self, packet: Packet) {
        if let Some(link) = &mut self.link {
            link.send(&packet);
        }
    }

    /// Writes, reads and answers what there is.
    fn turn(&mut self) {
        let Some(link) = &mut self.link else {
            return;
        };
        link.flush();
        let (packets, ended) = link.read();
        packets.into_iter().for_each(|packet| self.handle(packet));
        match &mut self.link {
            Some(link) if !ended => link.flush(),
            _ => self.link = None,
        }
    }

    fn handle(&mut self, packet: Packet) {
        match packet {
            Packet::Connack(connack) => self.accepted = Some(connack),
            Packet::Suback(_) | Packet::Pingresp => self.answered = true,
            Packet::Pubrec(ack) => self.send(Packet::Pubrel(packet::Ack::new(ack.id))),
            Packet::Pubrel(ack) => {
                self.open.retain(|id| *id != ack.id);
                self.send(Packet::Pubcomp(packet::Ack::new(ack.id)));
            }
            Packet::Publish(publish) => self.message(&publish),
            _ => {}
        }
    }

    fn message(&mut self, publish: &packet::Publish) {
        let label = String::from_utf8_lossy(&publish.payload).into_owned();
        if publish.qos == 1 {
            self.send(Packet::Puback(packet::Ack::new(publish.id)));
            self.labels.push(label);
        } else {
            self.send(Packet::Pubrec(packet::Ack::new(publish.id)));
            if !self.open.contains(&publish.id) {
                self.open.push(publish.id);
                self.labels.push(label);
            }
        }
    }

    fn run_until(&mut self, condition: impl Fn(&Runner) -> bool) -> Result<(), String> {
        let start = Instant::now();
        while !condition(self) {
            if start.elapsed() > PATIENCE || self.link.is_none() {
                return Err("a connection has ended, or is not answered".into());
            }
            self.turn();
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}
