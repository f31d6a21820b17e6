//! Stands between a node and its server, and cuts a connection at any byte.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

/// See the module.
pub(super) struct CuttingProxy {
    port: u16,
    cut: Arc<Mutex<Option<Cut>>>,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    ToServer,
    ToNode,
}

/// So many bytes more go this way; then the connection is cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    way: Way,
    after: usize,
}

impl CuttingProxy {
    pub(super) fn start(server: u16) -> CuttingProxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let cut = Arc::new(Mutex::new(None));
        let own = Arc::clone(&cut);
        // It ends with the tests: nothing connects to it any more.
        std::thread::spawn(move || {
            for node in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(("127.0.0.1", server)).expect("the server is there");
                let (from_node, from_server) = (node.try_clone().expect("cloned"), server.try_clone().expect("cloned"));
                let (one, other) = (Arc::clone(&own), Arc::clone(&own));
                std::thread::spawn(move || pass_on(from_node, server, Way::ToServer, &one));
                std::thread::spawn(move || pass_on(from_server, node, Way::ToNode, &other));
            }
        });
        CuttingProxy { port, cut }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn cut_after(&self, way: Way, bytes: usize) {
        *self.cut.lock() = Some(Cut { way, after: bytes });
    }

    /// Whether there was as much to cut; it is not cut any more.
    pub(super) fn has_cut(&self) -> bool {
        self.cut.lock().take().is_none()
    }
}

/// Until one side closes, or it is cut. What was cut off is never sent, what was sent before may be worked on still.
fn pass_on(mut from: TcpStream, mut to: TcpStream, way: Way, cut: &Mutex<Option<Cut>>) {
    let mut buffer = vec![0; 1024 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let (length, is_cut) = allowed(length, way, cut);
        if to.write_all(&buffer[..length]).is_err() || is_cut {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

fn allowed(length: usize, way: Way, cut: &Mutex<Option<Cut>>) -> (usize, bool) {
    let mut planned = cut.lock();
    match &mut *planned {
        Some(cut) if cut.way == way && cut.after < length => {
            let after = cut.after;
            *planned = None;
            (after, true)
        }
        Some(cut) if cut.way == way => {
            cut.after -= length;
            (length, false)
        }
        _ => (length, false),
    }
}
