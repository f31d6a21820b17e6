//! The processes of a cluster: nodes, each with a fault proxy before Redis, Redis, and HAProxy if it is wanted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::broker::Broker;
use crate::cluster::haproxy::Haproxy;
use crate::cluster::proxy::Proxy;
use crate::redis::{Redis, free_port_of};

/// How a cluster is set up.
#[derive(Clone, Copy)]
pub struct Setup {
    pub nodes: usize,
    pub lease: Duration,
    pub haproxy: bool,
}

pub struct Fleet {
    pub nodes: Vec<Node>,
    pub redis: Redis,
    /// Dropped before the nodes, so that it does not complain about them.
    haproxy: Option<Haproxy>,
}

pub struct Node {
    pub addr: SocketAddr,
    pub http: SocketAddr,
    pub broker: Broker,
    pub proxy: Proxy,
    /// It was asked to end.
    pub is_ending: bool,
    pub is_stopped: bool,
}

impl Fleet {
    /// Starts all, in this directory, and waits until the nodes listen.
    pub fn start(program: &Path, dir: &Path, setup: Setup) -> Result<Fleet, String> {
        let redis = Redis::start(&dir.join("redis"))?;
        let mut nodes = Vec::new();
        for number in 1..=setup.nodes {
            nodes.push(Node::new(number, program, dir, &redis, setup)?);
        }
        for node in &mut nodes {
            node.broker.spawn()?;
        }
        for node in &mut nodes {
            node.broker.listening()?;
        }
        let ways: Vec<_> = nodes.iter().map(|node| (node.addr, node.http)).collect();
        let haproxy = match setup.haproxy {
            true => Some(Haproxy::start(dir, &ways)?),
            false => None,
        };
        Ok(Fleet { nodes, redis, haproxy })
    }

    /// Where clients go.
    pub fn gates(&self) -> Vec<SocketAddr> {
        match &self.haproxy {
            Some(haproxy) => vec![haproxy.addr],
            None => self.doors(),
        }
    }

    /// Where each node listens.
    pub fn doors(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.addr).collect()
    }

    /// Starts again what has ended without being asked to; the numbers of these nodes.
    pub fn revive(&mut self) -> Result<Vec<(usize, String)>, String> {
        let mut revived = Vec::new();
        for (at, node) in self.nodes.iter_mut().enumerate() {
            if let Some(status) = node.broker.status().filter(|_| !node.is_ending) {
                node.broker.wait();
                node.start()?;
                revived.push((at, status.to_string()));
            }
        }
        Ok(revived)
    }

    /// Whether all run, and none is on its way to its end or its start.
    pub fn is_complete(&mut self) -> bool {
        self.nodes
            .iter_mut()
            .all(|node| !node.is_ending && !node.is_stopped && node.broker.addr().is_some())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.haproxy = None;
    }
}

impl Node {
    fn new(number: usize, program: &Path, dir: &Path, redis: &Redis, setup: Setup) -> Result<Node, String> {
        let proxy = Proxy::start(redis.addr()).map_err(|error| error.to_string())?;
        let host = own_address(number);
        let addr = SocketAddr::from((host, free_port_of(host)?));
        let http = SocketAddr::from((host, free_port_of(host)?));
        let options = options(addr, http, &proxy, setup);
        Ok(Node {
            addr,
            http,
            broker: Broker::node(program, &dir.join(format!("node-{number}")), options)?,
            proxy,
            is_ending: false,
            is_stopped: false,
        })
    }

    /// Starts it without waiting for it.
    pub fn start(&mut self) -> Result<(), String> {
        (self.is_ending, self.is_stopped) = (false, false);
        self.broker.spawn()
    }

    pub fn kill(&mut self) {
        self.broker.signal(Signal::KILL);
        self.broker.wait();
        self.is_ending = true;
    }
}

/// No client's own address, so that none takes the port of a node that is away.
fn own_address(number: usize) -> IpAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + high % 128, low, 10 + number as u8).into()
}

fn options(addr: SocketAddr, http: SocketAddr, proxy: &Proxy, setup: Setup) -> Vec<String> {
    let mut options: Vec<String> = [
        "--host",
        &addr.ip().to_string(),
        "--port",
        &addr.port().to_string(),
        "--http-host",
        &http.ip().to_string(),
        "--http-port",
        &http.port().to_string(),
        "--sys-interval",
        "0",
        "--drain-timeout",
        "1",
        "--redis",
        &format!("redis://{}", proxy.addr),
    ]
    .map(str::to_owned)
    .into();
    let lease = setup.lease.as_secs_f64().to_string();
    options.extend(["--cluster-lease", &lease, "--will-grace", "1"].map(str::to_owned));
    options
}
