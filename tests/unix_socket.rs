//! Unix domain sockets, and other choices of where the broker listens.

mod common;
use common::*;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A directory for a socket; and the path of the socket.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("mqtt.sock");
    (directory, path)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn start(path: &Path, more: &[&str]) -> Broker {
    let broker = Broker::start_on(&[&["-v", "--unix-socket", text(path)], more].concat());
    broker.expect_announced(&format!("mqtt+unix://{}", text(path)));
    broker
}

/// Clients of a Unix socket and of TCP exchange messages; the log says where they come from.
#[test]
fn beside_tcp() {
    let (_directory, path) = place();
    let broker = start(&path, &[]);
    for version in Version::ALL {
        let mut local = broker.connect_on(Stream::unix(&path), Connect::new(version, "local"));
        broker.expect_log("connected client=\"local\" peer=a Unix socket");
        let mut remote = broker.connect(Connect::new(version, "remote"));
        local.subscribe("to/local", 2);
        remote.subscribe("to/remote", 2);
        remote.publish("to/local", "x", 2);
        local.expect_message("to/local", "x");
        local.publish("to/remote", vec![b'x'; 300_000], 2);
        remote.expect_message("to/remote", vec![b'x'; 300_000]);
        local.disconnect();
    }
}

/// With `--no-tcp` there is nothing else. SIGTERM: clients are told 0x8B, and the file goes with the broker.
#[test]
fn instead_of_tcp() {
    let (_directory, path) = place();
    let broker = start(&path, &["--no-tcp"]);
    assert_eq!(broker.announcements().len(), 1);
    let mut client = broker.connect_on(Stream::unix(&path), Connect::v5("client"));
    broker.signal("TERM");
    client.expect_disconnect(code::SERVER_SHUTTING_DOWN);
    assert_eq!(broker.wait().code(), Some(0));
    assert!(!path.exists(), "the file is left behind");
}

/// The file of a broker that was killed is replaced.
#[test]
fn a_stale_file_is_replaced() {
    let (_directory, path) = place();
    drop(start(&path, &[]));
    assert!(path.exists(), "a broker that is killed can't remove it");
    let broker = start(&path, &[]);
    broker.connect_on(Stream::unix(&path), Connect::v5("client")).ping();
}

/// Neither the socket of a broker that runs is taken, nor a file that is none; nor is it removed.
#[test]
fn what_is_not_replaced() {
    let (directory, path) = place();
    let broker = start(&path, &[]);
    let file = directory.path().join("file");
    std::fs::write(&file, "kept").expect("written");
    let link = directory.path().join("link");
    symlink(&file, &link).expect("a link");
    let missing = directory.path().join("missing/mqtt.sock");
    for (taken, reason) in [
        (&path, "in use"),
        (&file, "in use"),
        (&link, "in use"),
        (&missing, "No such file"),
    ] {
        let (code, said) = Broker::cannot_start(&["--unix-socket", text(taken)]);
        assert_eq!(code, Some(1), "{said}");
        let expected = format!("broker: can't listen on {}: ", text(taken));
        assert!(said.contains(&expected) && said.contains(reason), "{said}");
    }
    assert_eq!(std::fs::read(&file).expect("still there"), b"kept");
    broker.connect_on(Stream::unix(&path), Connect::v5("client")).ping();
}

/// A client of a Unix socket that says nothing is cut, as any other; one that vanishes has its will published.
#[test]
fn bad_clients() {
    let (_directory, path) = place();
    let broker = start(&path, &["--connect-timeout", "1"]);
    let mut bystander = Bystander::new(&broker);
    let mut silent = Client::on(Stream::unix(&path), Version::V5);
    let mut other = Client::on(Stream::unix(&path), Version::V5);
    other.send_bytes(b"GET / HTTP/1.1\r\n\r\n");
    other.expect_closed();
    broker.expect_log("HTTP on a port without WebSocket");
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("will", 0);
    let connect = Connect::v311("mortal").will(Will::new("will", "gone"));
    broker.connect_on(Stream::unix(&path), connect).kill();
    watcher.expect_message("will", "gone");
    silent.expect_closed();
    bystander.is_served();
}

/// Several ports of each kind are all listened on, and lead to one broker.
#[test]
fn several_ports() {
    let (cert, key) = (certificates::path("server.pem"), certificates::path("server.key"));
    let tls = [
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
        "--tls-port",
        "0,0",
        "--wss-port",
        "0,0",
    ];
    let broker = Broker::start_on(&[&["--port", "0,0", "--ws-port", "0,0"], &tls[..]].concat());
    let transports = [
        Transport::Tcp,
        Transport::Tls,
        Transport::WebSocket,
        Transport::SecureWebSocket,
    ];
    let mut subscriber = broker.v5("subscriber");
    subscriber.subscribe("t", 0);
    for transport in transports {
        let addrs = broker.addrs_of(transport.scheme(), 2);
        assert_ne!(addrs[0], addrs[1]);
        for addr in addrs {
            let mut client = broker.connect_on(transport.connect(addr), Connect::v5("client"));
            client.publish("t", transport.scheme(), 1);
            subscriber.expect_message("t", transport.scheme());
            client.disconnect();
        }
    }
}

/// `--no-tcp` and `--tls-port off` leave only what else is asked for. With nothing at all the broker does not start.
#[test]
fn nothing_but_what_is_asked_for() {
    let (cert, key) = (certificates::path("server.pem"), certificates::path("server.key"));
    let tls = ["--no-tcp", "--tls-cert", &cert, "--tls-key", &key, "--tls-port", "off"];
    let broker = Broker::start_on(&[&tls[..], &["--wss-port", "0"]].concat());
    let stream = Transport::SecureWebSocket.connect(broker.addr_of("wss"));
    broker.connect_on(stream, Connect::v5("client")).ping();
    assert_eq!(broker.announcements().len(), 1);
    for options in [&["--no-tcp"][..], &tls] {
        let (code, said) = Broker::cannot_start(options);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("nothing to listen on"), "{said}");
    }
}

/// A port that is taken stops the start, with a message that names it; a wrong command line has exit code 2.
#[test]
fn what_stops_the_start() {
    let broker = Broker::start_on(&["--ws-port", "0"]);
    let taken = broker.addr_of("ws");
    let (code, said) = Broker::cannot_start(&["--ws-port", &taken.port().to_string()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!("can't listen on {taken}: the port is in use")),
        "{said}"
    );
    let wrong = [
        ["--tls-cert", "cert.pem"],
        ["--tls-ca", "ca.pem"],
        ["--wss-port", "0"],
        ["--proxy-protocol", "tcp"],
        ["--trusted-proxies", "10.0.0.0/33"],
        ["--ws-path", "mqtt"],
    ];
    for options in wrong {
        let (code, said) = Broker::cannot_start(&options);
        assert_eq!(code, Some(2), "{options:?}: {said}");
    }
}
