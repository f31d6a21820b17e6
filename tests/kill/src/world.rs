//! All clients, and the loop that runs them in one thread.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client::Client;
use crate::event::Name;
use crate::ghost::Ghost;
use crate::link::Link;
use crate::log::Log;
use crate::roaming::{Move, Roaming};

pub struct World {
    pub clients: Vec<Client>,
    pub log: Log,
    /// Where clients connect.
    pub gates: Vec<SocketAddr>,
    /// In a cluster: clients come back by themselves, to any gate.
    pub roaming: Option<Roaming>,
    pub ghosts: Vec<Ghost>,
    /// Nothing new is sent, only answers.
    pub frozen: bool,
    /// Wills of connections that were lost.
    pub lost_wills: Vec<(Name, u32)>,
    /// When nothing happens for so long, what is waited for does not come.
    pub idle: Duration,
}

/// Longest time to wait for one thing.
const LONGEST: Duration = Duration::from_secs(30);

/// Whose connection it is, by index.
#[derive(Clone, Copy)]
enum Who {
    Client(usize),
    Ghost(usize),
}

impl World {
    pub fn new() -> World {
        World {
            clients: Vec::new(),
            log: Log::new(),
            gates: Vec::new(),
            roaming: None,
            ghosts: Vec::new(),
            frozen: false,
            lost_wills: Vec::new(),
            idle: Duration::from_secs(3),
        }
    }

    pub fn add(&mut self, client: Client) -> usize {
        self.clients.push(client);
        self.clients.len() - 1
    }

    pub fn named(&self, name: &str) -> usize {
        let found = self.clients.iter().position(|client| &*client.name == name);
        found.unwrap_or_else(|| panic!("there is no client {name}"))
    }

    /// Those whose names begin with one of these.
    pub fn all(&self, prefixes: &[&str]) -> Vec<usize> {
        let fits = |at: &usize| prefixes.iter().any(|prefix| self.clients[*at].name.starts_with(prefix));
        (0..self.clients.len()).filter(fits).collect()
    }

    /// Connects a client; whether the broker is there.
    pub fn connect(&mut self, at: usize) -> bool {
        self.clients[at].wanted = crate::cast::comes_back(&self.clients[at].name);
        if self.clients[at].link.is_some() {
            return true;
        }
        let first = self.roaming.as_mut().map_or(0, |roaming| {
            roaming.tried(at);
            roaming.random.index(self.gates.len())
        });
        let own = self.clients[at].gate.into_iter().collect::<Vec<_>>();
        let gates = if own.is_empty() { &self.gates } else { &own };
        (0..gates.len()).any(|step| {
            let number = (first + step) % gates.len();
            let is_open = self.clients[at].connect(gates[number], &mut self.log).is_ok();
            if is_open && self.roaming.is_some() {
                let text = format!("{} has gone to gate {}", self.clients[at].name, number + 1);
                self.log.note(text);
            }
            is_open
        })
    }

    pub fn cut(&mut self, at: usize) {
        self.clients[at].wanted = false;
        self.drop_link(at);
    }

    fn drop_link(&mut self, at: usize) {
        // Whether the broker knows the will of a connection that it has not accepted is not known.
        if self.clients[at].accepted {
            self.note_will(at);
        }
        self.clients[at].cut(&mut self.log);
    }

    /// Has a client go to another connection. It leaves the one that it has open, if it was accepted on it, or closes it.
    pub fn move_on(&mut self, at: usize, leaves_open: bool) {
        if leaves_open && self.clients[at].accepted {
            self.note_will(at);
            if let Some((name, link, owed)) = self.clients[at].leave_behind(&mut self.log) {
                self.ghosts.push(Ghost::new(name, at, link, owed));
            }
        } else {
            self.drop_link(at);
        }
    }

    pub fn disconnect(&mut self, at: usize, code: u8, expiry: Option<u32>) {
        self.clients[at].wanted = false;
        if code != 0 {
            self.note_will(at);
        }
        self.clients[at].disconnect(&mut self.log, code, expiry);
    }

    /// Messages that wait for their acknowledgement.
    pub fn outstanding(&self) -> usize {
        self.clients.iter().map(|client| client.outgoing.len()).sum()
    }

    pub fn abandoned(&self) -> usize {
        self.clients.iter().map(|client| client.abandoned).sum()
    }

    /// Lets the clients run until the condition holds; `false` if it does not come.
    pub fn until(&mut self, mut condition: impl FnMut(&World) -> bool) -> bool {
        let start = Instant::now();
        let mut last = (Instant::now(), self.log.events.len());
        while !condition(self) {
            if last.0.elapsed() > self.idle || start.elapsed() > LONGEST {
                return false;
            }
            self.turn(Duration::from_millis(20));
            if self.log.events.len() != last.1 {
                last = (Instant::now(), self.log.events.len());
            }
        }
        true
    }

    pub fn run_for(&mut self, time: Duration) {
        let start = Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()) {
            self.turn(left.min(Duration::from_millis(20)));
        }
    }

    /// Reads what a broker that was killed has left, until all connections have ended.
    pub fn drain(&mut self) {
        self.frozen = true;
        self.until(|world| world.clients.iter().all(|client| client.link.is_none()));
        self.frozen = false;
    }

    /// Everything once: what the clients want to send, then what has come, waiting for that at most so long.
    pub fn turn(&mut self, wait: Duration) {
        if !self.frozen {
            self.roam();
            self.clients.iter_mut().for_each(|client| client.act(&mut self.log));
            self.haunt();
        }
        self.flush();
        for who in self.readable(wait) {
            match who {
                Who::Client(at) => {
                    let lost = self.clients[at].accepted;
                    if !self.clients[at].receive(&mut self.log) && lost {
                        self.note_will(at);
                    }
                }
                Who::Ghost(at) => self.ghosts[at].receive(&mut self.log),
            }
        }
        self.flush();
    }

    /// Has those come back who want to, and those leave who are given no answers.
    fn roam(&mut self) {
        let Some(mut roaming) = self.roaming.take() else {
            return;
        };
        let moves: Vec<Move> = (0..self.clients.len())
            .map(|at| roaming.next(at, &self.clients[at]))
            .collect();
        let leaves_open = roaming.random.percent(50);
        self.roaming = Some(roaming);
        for (at, next) in moves.into_iter().enumerate() {
            match next {
                Move::Stay => {}
                Move::Come => {
                    self.connect(at);
                }
                Move::Leave => self.move_on(at, leaves_open),
            }
        }
    }

    fn haunt(&mut self) {
        for ghost in &mut self.ghosts {
            ghost.has_lost |= self.clients[ghost.client].accepted;
            ghost.act(&mut self.log);
        }
    }

    fn flush(&mut self) {
        let clients = self.clients.iter_mut().filter_map(|client| client.link.as_mut());
        let ghosts = self.ghosts.iter_mut().filter_map(|ghost| ghost.link.as_mut());
        clients.chain(ghosts).for_each(Link::flush);
    }

    fn links(&self) -> impl Iterator<Item = (Who, &Link)> {
        let clients = self.clients.iter().enumerate();
        let clients = clients.filter_map(|(at, client)| Some((Who::Client(at), client.link.as_ref()?)));
        let ghosts = self.ghosts.iter().enumerate();
        clients.chain(ghosts.filter_map(|(at, ghost)| Some((Who::Ghost(at), ghost.link.as_ref()?))))
    }

    fn readable(&self, wait: Duration) -> Vec<Who> {
        let mut whose = Vec::new();
        let mut fds = Vec::new();
        for (who, link) in self.links() {
            let write = if link.wants_to_write() {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            whose.push(who);
            fds.push(PollFd::from_borrowed_fd(link.fd(), PollFlags::IN | write));
        }
        let timeout = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        if poll(&mut fds, Some(&timeout)).is_err() {
            return Vec::new();
        }
        let ready = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let pairs = whose.into_iter().zip(&fds);
        pairs
            .filter(|(_, fd)| fd.revents().intersects(ready))
            .map(|(who, _)| who)
            .collect()
    }

    /// The will of a connection that has ended is due.
    fn note_will(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if let (Some(label), Some(plan)) = (client.will.take(), &client.settings.will) {
            self.lost_wills.push((label, plan.delay));
        }
    }
}
