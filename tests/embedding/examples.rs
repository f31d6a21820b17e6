//! The programs in `examples/`, each with clients that do what its comments promise.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::common::*;

#[path = "../../examples/embedded.rs"]
mod embedded;
#[path = "../../examples/events.rs"]
mod events;
#[path = "../../examples/hooks.rs"]
mod hooks;

/// An example that runs on a free port.
struct Example {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
    runtime: Runtime,
}

impl Example {
    /// Starts it with a listener and what tells it to stop.
    fn start<F>(run: impl FnOnce(TcpListener, oneshot::Receiver<()>) -> F) -> Example
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let running = Some(runtime.spawn(run(listener, stopped)));
        Example {
            addr,
            stop: Some(stop),
            running,
            runtime,
        }
    }

    fn connect(&self, connect: Connect) -> Client {
        let mut client = Client::open(self.addr, connect.version);
        client.name = connect.client_id.clone();
        client.send(connect);
        client.connack = client.recv_connack();
        client
    }

    /// Stops it and waits for its end.
    fn stop(mut self) {
        drop(self.stop.take());
        let running = self.running.take().expect("stopped once");
        let outcome = self
            .runtime
            .block_on(async { tokio::time::timeout(DEADLINE, running).await });
        outcome.expect("ends in time").expect("ends well");
    }
}

/// What the program publishes and subscribes to reaches clients and comes from them.
#[test]
fn embedded_example() {
    let example = Example::start(|listener, stop| async {
        embedded::run(listener, async { drop(stop.await) })
            .await
            .expect("no error");
    });
    let mut client = example.connect(Connect::v5("client"));
    client.subscribe("fahrenheit/#", 1);
    client.publish("celsius/kitchen", "20", 1);
    client.expect_message("fahrenheit/kitchen", "68.0");
    client.publish("celsius/kitchen", [0xFF, 0xFE], 1);
    client.publish("celsius/oven", "200", 1);
    client.expect_message("fahrenheit/oven", "392.0");
    client.subscribe("status", 1);
    assert!(client.expect_message("status", "ready").retain);
    example.stop();
    client.expect_disconnect(code::SERVER_SHUTTING_DOWN);
}

/// Its users, and its topics.
#[test]
fn hooks_example() {
    let example = Example::start(|listener, stop| async {
        hooks::run(listener, async { drop(stop.await) })
            .await
            .expect("no error");
    });
    let connect =
        |name: &str, password: &str| example.connect(Connect::v5(name).username(name).password(password.as_bytes()));
    assert_eq!(connect("ann", "banana").connack.code, code::BAD_USER_NAME_OR_PASSWORD);
    assert_eq!(
        example.connect(Connect::v5("nobody")).connack.code,
        code::NOT_AUTHORIZED
    );
    let (mut ann, mut bob) = (connect("ann", "apple"), connect("bob", "banana"));
    let mut admin = connect("admin", "secret");
    ann.subscribe("~/#", 1);
    ann.subscribe("news/#", 1);
    assert_eq!(ann.try_subscribe("home/bob/#", 1), code::NOT_AUTHORIZED);
    assert_eq!(ann.try_subscribe("#", 1), code::NOT_AUTHORIZED);
    bob.send(Publish::new("home/ann/door", "open").qos(1, 1));
    assert_eq!(bob.recv_puback().reason, code::NOT_AUTHORIZED);
    bob.send(Publish::new("news/today", "fake").qos(1, 2));
    assert_eq!(bob.recv_puback().reason, code::NOT_AUTHORIZED);
    admin.publish("home/ann/door", "closed", 1);
    ann.expect_message("home/ann/door", "closed");
    admin.publish("news/today", "hello", 1);
    ann.expect_message("news/today", "hello");
    bob.subscribe("~/note", 1);
    bob.send(Publish::new("~/note", "mine").qos(1, 3));
    let mut seen = [bob.recv(), bob.recv()];
    seen.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
    assert!(
        matches!(&seen[1], Packet::Publish(note) if note.topic == "home/bob/note"),
        "{seen:?}"
    );
    example.stop();
}

/// What it prints.
#[test]
fn events_example() {
    let (sender, lines) = mpsc::channel();
    let example = Example::start(|listener, stop| async {
        let print = move |line| drop(sender.send(line));
        events::run(listener, async { drop(stop.await) }, print)
            .await
            .expect("no error");
    });
    let mut client = example.connect(Connect::v5("ann"));
    client.subscribe("t", 1);
    client.publish("t", "four", 1);
    client.message();
    client.ping();
    client.unsubscribe("t");
    client.disconnect();
    example.stop();
    let lines: Vec<String> = lines.iter().collect();
    assert!(lines[0].starts_with("ann connected from 127.0.0.1:"), "{lines:?}");
    let expected = [
        "ann is ready",
        "ann subscribed to t",
        "ann published 4 bytes to t",
        "ann acknowledged t",
        "ann pings",
        "ann unsubscribed from t",
        "ann disconnected: Success (0x00)",
        "closed",
    ];
    assert_eq!(lines[1..], expected);
}
