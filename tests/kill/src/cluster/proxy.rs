//! What lies between a node and Redis: it can hold back what either says, drop answers of commands that were executed,
//! deliver commands late, and cut and refuse connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A thread that carries bytes until this is dropped.
pub struct Proxy {
    pub addr: SocketAddr,
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Keeps back what the node says, what Redis says, or both.
    Hold { up: bool, down: bool },
    /// Takes back [`Order::Hold`], and delivers.
    Release,
    /// Drops what Redis says from now on; only [`Order::Cut`] ends that.
    Mute,
    /// Ends all connections, with what is on its way.
    Cut,
    /// Ends the connections of the node, and has Redis get what the node has said only after this time.
    Late(Duration),
    /// Ends all connections, and takes no new ones.
    Refuse,
    /// Takes connections again.
    Accept,
}

/// What is kept of a connection in each direction before no more is read.
const LIMIT: usize = 4 << 20;
/// How soon orders are obeyed.
const TICK: Duration = Duration::from_millis(3);

impl Proxy {
    /// One that leads to this Redis.
    pub fn start(redis: SocketAddr) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let (orders, receiver) = sync_channel(0);
        let carrier = Carrier {
            listener,
            redis,
            pairs: Vec::new(),
            hold: (false, false),
            mute: false,
            refuse: false,
        };
        let thread = std::thread::spawn(move || carrier.run(&receiver));
        Ok(Proxy {
            addr,
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Returns when the thread has taken it, and does nothing else before.
    pub fn order(&self, order: Order) {
        let orders = self.orders.as_ref().expect("it is taken only when this is dropped");
        orders.send(order).expect("the thread lives as long as this");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Carrier {
    listener: TcpListener,
    redis: SocketAddr,
    pairs: Vec<Pair>,
    /// Up, and down.
    hold: (bool, bool),
    mute: bool,
    refuse: bool,
}

/// A connection of the node and its other half.
struct Pair {
    up: Way,
    down: Way,
    /// The node is gone; what it has said is delivered then.
    late: Option<Instant>,
}

/// One direction: from a socket to the other, by way of a buffer.
struct Way {
    from: TcpStream,
    to: TcpStream,
    kept: Vec<u8>,
    ended: bool,
    closed: bool,
}

impl Carrier {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            match orders.try_recv() {
                Ok(order) => self.obey(order),
                Err(TryRecvError::Empty) => self.carry(),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Hold { up, down } => self.hold = (up, down),
            Order::Release => self.hold = (false, false),
            Order::Mute => self.mute = true,
            Order::Cut => {
                self.mute = false;
                self.pairs.retain(|pair| pair.late.is_some());
            }
            Order::Late(time) => self.pairs.iter_mut().for_each(|pair| pair.leave(time)),
            Order::Refuse => {
                self.refuse = true;
                self.pairs.retain(|pair| pair.late.is_some());
            }
            Order::Accept => self.refuse = false,
        }
    }

    fn carry(&mut self) {
        self.wait();
        while let Ok((node, _)) = self.listener.accept() {
            if !self.refuse
                && let Ok(pair) = Pair::new(node, self.redis)
            {
                self.pairs.push(pair);
            }
        }
        let ((up, down), mute) = (self.hold, self.mute);
        self.pairs.retain_mut(|pair| pair.carry(up, down, mute));
    }

    /// Waits until there is something to do, or a moment.
    fn wait(&self) {
        let mut fds = vec![PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN)];
        for pair in &self.pairs {
            for (way, held) in [
                (&pair.up, self.hold.0 || pair.late.is_some()),
                (&pair.down, self.hold.1),
            ] {
                if !way.ended && way.kept.len() < LIMIT {
                    fds.push(PollFd::from_borrowed_fd(way.from.as_fd(), PollFlags::IN));
                }
                if !held && !way.kept.is_empty() {
                    fds.push(PollFd::from_borrowed_fd(way.to.as_fd(), PollFlags::OUT));
                }
            }
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: TICK.as_nanos() as i64,
        };
        let _ = poll(&mut fds, Some(&timeout));
    }
}

impl Pair {
    fn new(node: TcpStream, redis: SocketAddr) -> std::io::Result<Pair> {
        let store = TcpStream::connect(redis)?;
        for stream in [&node, &store] {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
        }
        let (node_too, store_too) = (node.try_clone()?, store.try_clone()?);
        Ok(Pair {
            up: Way::new(node, store),
            down: Way::new(store_too, node_too),
            late: None,
        })
    }

    /// Takes what the node has said so far, and closes its connection.
    fn leave(&mut self, time: Duration) {
        if self.late.is_none() {
            self.up.take();
            self.up.ended = true;
            let _ = self.up.from.shutdown(Shutdown::Both);
            self.late = Some(Instant::now() + time);
        }
    }

    /// Whether it goes on.
    fn carry(&mut self, hold_up: bool, hold_down: bool, mute: bool) -> bool {
        self.up.take();
        self.down.take();
        let is_late = self.late.is_some();
        if mute || is_late {
            self.down.kept.clear();
        }
        let hold_up = self.late.map_or(hold_up, |time| Instant::now() < time);
        if !hold_up {
            self.up.give();
        }
        if !hold_down {
            self.down.give();
        }
        // Redis is to read all that it was sent; closed at once, it might not.
        !self.down.is_over() && (is_late || !self.up.is_over())
    }
}

impl Way {
    fn new(from: TcpStream, to: TcpStream) -> Way {
        Way {
            from,
            to,
            kept: Vec::new(),
            ended: false,
            closed: false,
        }
    }

    /// Reads what is there.
    fn take(&mut self) {
        let mut buffer = [0; 64 * 1024];
        while !self.ended && self.kept.len() < LIMIT {
            match self.from.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => self.kept.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.ended = true,
            }
        }
    }

    /// Writes what is kept; behind the last of it, the end.
    fn give(&mut self) {
        while !self.kept.is_empty() {
            match self.to.write(&self.kept) {
                Ok(count) => drop(self.kept.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.kept.clear(),
            }
        }
        if self.ended && !self.closed {
            self.closed = true;
            let _ = self.to.shutdown(Shutdown::Write);
        }
    }

    fn is_over(&self) -> bool {
        self.closed && self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy, one end of a connection through it, and the other.
    fn connected() -> (Proxy, TcpStream, TcpStream) {
        let redis = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let proxy = Proxy::start(redis.local_addr().expect("an address")).expect("a proxy");
        let node = TcpStream::connect(proxy.addr).expect("a connection");
        let (store, _) = redis.accept().expect("its other half");
        for stream in [&node, &store] {
            let patience = Some(Duration::from_secs(10));
            stream.set_read_timeout(patience).expect("a time");
        }
        (proxy, node, store)
    }

    fn said(stream: &mut TcpStream, length: usize) -> Vec<u8> {
        let mut buffer = vec![0; length];
        stream.read_exact(&mut buffer).expect("what was said");
        buffer
    }

    fn is_ended(stream: &mut TcpStream) -> bool {
        stream.read(&mut [0]).map_or(true, |count| count == 0)
    }

    #[test]
    fn it_carries_both_ways_and_ends() {
        let (_proxy, mut node, mut store) = connected();
        node.write_all(b"command").expect("open");
        assert_eq!(said(&mut store, 7), b"command");
        store.write_all(b"answer").expect("open");
        assert_eq!(said(&mut node, 6), b"answer");
        drop(store);
        assert!(is_ended(&mut node));
    }

    #[test]
    fn what_is_held_comes_when_it_is_released() {
        let (proxy, mut node, mut store) = connected();
        proxy.order(Order::Hold { up: true, down: false });
        node.write_all(b"held").expect("open");
        // It goes by the same proxy, behind what is held.
        store.write_all(b"not held").expect("open");
        assert_eq!(said(&mut node, 8), b"not held");
        store.set_nonblocking(true).expect("a socket");
        assert_eq!(store.read(&mut [0]).expect_err("nothing").kind(), ErrorKind::WouldBlock);
        store.set_nonblocking(false).expect("a socket");
        proxy.order(Order::Release);
        assert_eq!(said(&mut store, 4), b"held");
    }

    #[test]
    fn muted_it_drops_answers_and_delivers_commands() {
        let (proxy, mut node, mut store) = connected();
        proxy.order(Order::Mute);
        node.write_all(b"command").expect("open");
        assert_eq!(said(&mut store, 7), b"command");
        store.write_all(b"answer").expect("open");
        drop(store);
        assert!(is_ended(&mut node));
    }

    #[test]
    fn late_commands_come_when_their_connection_is_gone() {
        let (proxy, mut node, mut store) = connected();
        proxy.order(Order::Hold { up: true, down: false });
        node.write_all(b"late").expect("open");
        store.write_all(b"x").expect("open");
        assert_eq!(said(&mut node, 1), b"x");
        proxy.order(Order::Late(Duration::from_millis(50)));
        assert!(is_ended(&mut node));
        assert_eq!(said(&mut store, 4), b"late");
        assert!(is_ended(&mut store));
    }

    #[test]
    fn it_cuts_and_refuses() {
        let (proxy, mut node, mut store) = connected();
        proxy.order(Order::Refuse);
        assert!(is_ended(&mut node) && is_ended(&mut store));
        let mut refused = TcpStream::connect(proxy.addr).expect("a connection");
        refused.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
        assert!(is_ended(&mut refused));
    }
}
