//! All clients, and the loop that runs them in one thread.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client::Client;
use crate::event::Name;
use crate::log::Log;

pub struct World {
    pub clients: Vec<Client>,
    pub log: Log,
    pub addr: SocketAddr,
    /// Nothing new is sent, only answers.
    pub frozen: bool,
    /// Wills of connections that were lost.
    pub lost_wills: Vec<(Name, u32)>,
}

/// When nothing happens for so long, what is waited for does not come.
const IDLE: Duration = Duration::from_secs(3);
/// Longest time to wait for one thing.
const LONGEST: Duration = Duration::from_secs(30);

impl World {
    pub fn new() -> World {
        World {
            clients: Vec::new(),
            log: Log::new(),
            addr: ([127, 0, 0, 1], 0).into(),
            frozen: false,
            lost_wills: Vec::new(),
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
        self.clients[at].link.is_some() || self.clients[at].connect(self.addr, &mut self.log).is_ok()
    }

    pub fn cut(&mut self, at: usize) {
        self.note_will(at);
        self.clients[at].cut(&mut self.log);
    }

    pub fn disconnect(&mut self, at: usize, code: u8, expiry: Option<u32>) {
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
            if last.0.elapsed() > IDLE || start.elapsed() > LONGEST {
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
        for client in self.clients.iter_mut().filter(|_| !self.frozen) {
            client.act(&mut self.log);
        }
        self.flush();
        for at in self.readable(wait) {
            let lost = self.clients[at].accepted;
            if !self.clients[at].receive(&mut self.log) && lost {
                self.note_will(at);
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        let links = self.clients.iter_mut().filter_map(|client| client.link.as_mut());
        links.for_each(crate::link::Link::flush);
    }

    fn readable(&self, wait: Duration) -> Vec<usize> {
        let mut indexes = Vec::new();
        let mut fds = Vec::new();
        for (at, client) in self.clients.iter().enumerate() {
            if let Some(link) = &client.link {
                let write = if link.wants_to_write() {
                    PollFlags::OUT
                } else {
                    PollFlags::empty()
                };
                indexes.push(at);
                fds.push(PollFd::from_borrowed_fd(link.fd(), PollFlags::IN | write));
            }
        }
        let timeout = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        if poll(&mut fds, Some(&timeout)).is_err() {
            return Vec::new();
        }
        let ready = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let pairs = indexes.into_iter().zip(&fds);
        pairs
            .filter(|(_, fd)| fd.revents().intersects(ready))
            .map(|(at, _)| at)
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
