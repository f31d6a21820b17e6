//! Whether a node serves: it is asked, by a client of whom the log knows nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::link::Link;
use crate::packet::{self, Packet, Version};

/// Longest time for all tries.
const PATIENCE: Duration = Duration::from_secs(40);
/// Longest time for one.
const TRY: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(20);

/// Waits in a thread until the node has accepted a client; whether it has.
pub fn knock(addr: SocketAddr) -> JoinHandle<bool> {
    std::thread::spawn(move || {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if is_accepted(addr) {
                return true;
            }
            std::thread::sleep(PAUSE);
        }
        false
    })
}

fn is_accepted(addr: SocketAddr) -> bool {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("knock-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let Ok(mut link) = Link::open(addr, Version::V5) else {
        return false;
    };
    link.send(&packet::Connect::v5(&name).clean(true).into());
    let start = Instant::now();
    while start.elapsed() < TRY {
        link.flush();
        let (packets, ended) = link.read();
        if let Some(Packet::Connack(connack)) = packets.first() {
            link.send(&packet::Disconnect::new(0).into());
            link.flush();
            return connack.code == 0;
        }
        if ended {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}
