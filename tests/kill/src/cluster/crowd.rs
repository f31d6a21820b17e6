//! Thousands of clients with sessions lose their node at once: the others must serve them all, and outlive it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::fleet::Fleet;
use super::knock::knock;
use super::runner::Runner;
use super::vitals;
use crate::options::Options;
use crate::packet;

/// The node that is killed.
const VICTIM: usize = 0;
/// From the kill until each client has its session again and what was published for it, beside the leases in which the node is missed.
const BOUND: Duration = Duration::from_secs(10);
/// When a client comes again that was refused, or whose connection was closed.
const AGAIN: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(20);

/// Whether so many clients were served.
pub fn run(options: &Options, clients: usize) -> Result<bool, String> {
    let dir = options.keep.join(format!("crowd-{}", options.seed));
    let _ = std::fs::remove_dir_all(&dir);
    allow_files();
    let outcome = Crowd::gather(options, &dir, clients).and_then(|crowd| crowd.lose_its_node());
    match outcome {
        Ok(longest) => {
            println!("ok {clients} clients of a node that was killed were served by the others within {longest:?}");
            let _ = std::fs::remove_dir_all(&dir);
            Ok(true)
        }
        Err(error) => {
            println!(
                "not ok {clients} clients of a node that was killed: {error}; see {}",
                dir.display()
            );
            Ok(false)
        }
    }
}

struct Crowd {
    fleet: Fleet,
    members: Vec<Member>,
    /// The time in which all must be served.
    bound: Duration,
}

/// A client, with the connection that it has, or had.
struct Member {
    name: String,
    door: SocketAddr,
    runner: Option<Runner>,
    tried: Instant,
}

impl Crowd {
    /// All nodes are there, and all clients at the one that is to be killed, each with a session and a subscription to all.
    fn gather(options: &Options, dir: &Path, clients: usize) -> Result<Crowd, String> {
        let fleet = Fleet::start(&options.program, dir, options.setup)?;
        for door in fleet.doors() {
            knock(door).join().map_err(|_| "a node accepts no client")?;
        }
        let door = fleet.nodes[VICTIM].addr;
        let member = |number| Member::new(format!("crowd-{number}"), door);
        let mut crowd = Crowd {
            fleet,
            members: (0..clients).map(member).collect(),
            bound: BOUND + options.setup.lease * 2,
        };
        crowd.wait_for("their sessions", BOUND, Member::is_accepted)?;
        for runner in crowd.members.iter_mut().filter_map(|member| member.runner.as_mut()) {
            runner.send(packet::Subscribe::new(1).filter("crowd", 1).into());
        }
        crowd.wait_for("their SUBACKs", BOUND, |member| {
            member.runner.as_ref().is_some_and(|runner| runner.answered)
        })?;
        Ok(crowd)
    }

    /// The time in which all have been served by other nodes.
    fn lose_its_node(mut self) -> Result<Duration, String> {
        let before = vitals::incarnations(&self.fleet)?;
        let doors = self.fleet.doors();
        let others: Vec<_> = doors.iter().filter(|door| **door != doors[VICTIM]).collect();
        self.fleet.nodes[VICTIM].kill();
        let start = Instant::now();
        for (number, member) in self.members.iter_mut().enumerate() {
            (member.runner, member.door) = (None, *others[number % others.len()]);
        }
        self.wait_for("their sessions", self.bound, Member::is_resumed)?;
        self.publish(*others[0])?;
        let rest = self.bound.saturating_sub(start.elapsed());
        self.wait_for("the message", rest, |member| {
            member.runner.as_ref().is_some_and(|runner| runner.has("for all"))
        })?;
        let longest = start.elapsed();
        self.look_at_survivors(&before).map(|()| longest)
    }

    fn publish(&self, door: SocketAddr) -> Result<(), String> {
        let mut publisher = Runner::connect(door, "crier", true)?;
        publisher.run_until(|runner| runner.accepted.is_some())?;
        publisher.answered = false;
        publisher.send(packet::Publish::new("crowd", "for all").qos(1, 1).into());
        publisher.send(packet::Packet::Pingreq);
        publisher.run_until(|runner| runner.answered)
    }

    fn look_at_survivors(&self, before: &[u64]) -> Result<(), String> {
        for (at, node) in self.fleet.nodes.iter().enumerate().filter(|(at, _)| *at != VICTIM) {
            let now = vitals::incarnation(node.http)?;
            if now != before[at] {
                return Err(format!(
                    "node {} has begun again: it was {}, and is {now}",
                    at + 1,
                    before[at]
                ));
            }
        }
        Ok(())
    }

    /// Has everybody try until each has what is asked.
    fn wait_for(&mut self, what: &str, most: Duration, has: impl Fn(&Member) -> bool) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let mut missing = 0;
            for member in &mut self.members {
                if !has(member) {
                    member.go_on();
                    missing += usize::from(!has(member));
                }
            }
            match missing {
                0 => return Ok(()),
                _ if start.elapsed() > most => return Err(format!("{missing} have not got {what} after {most:?}")),
                _ => std::thread::sleep(PAUSE),
            }
        }
    }
}

impl Member {
    fn new(name: String, door: SocketAddr) -> Member {
        Member {
            name,
            door,
            runner: None,
            tried: Instant::now() - AGAIN,
        }
    }

    fn is_accepted(&self) -> bool {
        let connack = self.runner.as_ref().and_then(|runner| runner.accepted.as_ref());
        connack.is_some_and(|connack| connack.code == 0)
    }

    fn is_resumed(&self) -> bool {
        let connack = self.runner.as_ref().and_then(|runner| runner.accepted.as_ref());
        self.is_accepted() && connack.is_some_and(|connack| connack.session_present)
    }

    /// Hears what there is, or comes again.
    fn go_on(&mut self) {
        if let Some(runner) = self.runner.as_mut().filter(|runner| runner.link.is_some()) {
            return runner.turn();
        }
        if self.tried.elapsed() >= AGAIN {
            self.tried = Instant::now();
            self.runner = Runner::connect(self.door, &self.name, false).ok();
        }
    }
}

/// As many files as the system allows to this process.
fn allow_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Without them, connections fail, which is told.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}
