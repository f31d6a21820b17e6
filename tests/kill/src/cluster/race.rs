//! Two connections ask for one Client Identifier at once, at two nodes, again and again: one of them must be left, the one
//! that came last if that can be told, and the session whole.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::arrivals::Past;
use super::fleet::Fleet;
use super::knock::knock;
use super::runner::{PATIENCE, PAUSE, Runner};
use crate::options::Options;
use crate::packet::{self, Packet};
use crate::random::Random;

/// Longest gap between the two, in microseconds.
const GAP: u64 = 50_000;
/// Messages that are published before, in and after each race.
const MESSAGES: usize = 4;
/// Identifiers that are raced for, in turns.
const RACERS: u64 = 7;

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
    /// What has come by the connections before that of the holder.
    past: Past,
}

/// Two connections for one Client Identifier.
struct Race {
    runners: Vec<Runner>,
    /// The first had its CONNACK before the second sent its CONNECT, so the second must be left.
    is_decided: bool,
}

impl Track {
    fn new(fleet: &Fleet, seed: u64) -> Result<Track, String> {
        let gates = fleet.gates();
        let mut publisher = Runner::connect(gates[0], "starter", true)?;
        publisher.run_until(|runner| runner.accepted.is_some())?;
        let racer = |number| Racer {
            name: format!("racer-{number}"),
            holder: None,
            past: Past::default(),
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
            self.racers[at].dismiss()?;
        }
        let before = self.published;
        self.publish(&name);
        let mut race = self.start(&name)?;
        self.publish(&name);
        let start = Instant::now();
        let left = self.finish(at, &mut race.runners, start)?;
        self.longest = self.longest.max(start.elapsed());
        self.won[left] += 1;
        self.publish(&name);
        self.collect(at, before)?;
        judge(race.is_decided, left)
    }

    /// Two connect, to two nodes, with a gap between them.
    fn start(&mut self, name: &str) -> Result<Race, String> {
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
        let is_decided = one.accepted.is_some();
        let two = Runner::connect(self.gates[second], name, false)?;
        Ok(Race {
            runners: vec![one, two],
            is_decided,
        })
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
        // Whoever has lost was the last one before, or never had the session.
        for runner in racer.holder.take().into_iter().chain(runners.drain(..)) {
            racer.past.add(runner.arrivals)?;
        }
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
            let missing: Vec<String> = (before..self.published)
                .map(|number| format!("m-{number}"))
                .filter(|label| !racer.past.has(label) && !holder.has(label))
                .collect();
            if missing.is_empty() {
                return racer.past.check(&holder.arrivals);
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
    fn dismiss(&mut self) -> Result<(), String> {
        let Some(mut holder) = self.holder.take() else {
            return Ok(());
        };
        holder.send(packet::Disconnect::new(0).into());
        holder.turn();
        self.past.add(holder.arrivals)
    }
}

/// Whether the right one was left, 0 or 1.
fn judge(is_decided: bool, left: usize) -> Result<(), String> {
    match (is_decided, left) {
        (true, 0) => Err("the first was left, which had been accepted before the second came".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_when_the_other_has_been_accepted_is_left() {
        assert!(judge(true, 0).is_err());
        for (is_decided, left) in [(true, 1), (false, 0), (false, 1)] {
            assert_eq!(judge(is_decided, left), Ok(()));
        }
    }
}
