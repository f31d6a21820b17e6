//! Listeners with settings of their own, and settings that change while the broker runs.

mod common;
use common::*;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const NOT_AUTHORIZED: u8 = 0x87;
const ADMINISTRATIVE_ACTION: u8 = 0x98;

/// A directory with a configuration file.
struct Files(TempDir);

impl Files {
    fn new(config: &str) -> Files {
        let files = Files(tempfile::tempdir().expect("a directory"));
        files.write("broker.toml", config);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The text names files of this directory by `DIR/`.
    fn write(&self, name: &str, text: &str) {
        let directory = self.0.path().to_str().expect("UTF-8");
        fs::write(self.path(name), text.replace("DIR", directory)).expect("written");
    }

    fn add_user(&self, user: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
        command
            .args(["passwd", "add", "--stdin"])
            .arg(self.path("users"))
            .arg(user);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("it runs");
        let mut input = child.stdin.take().expect("piped");
        std::io::Write::write_all(&mut input, b"secret").expect("written");
        drop(input);
        assert!(child.wait().expect("it ends").success());
    }

    /// A named pipe, which nobody writes to.
    fn pipe(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let made = Command::new("mkfifo").arg(&path).status().expect("it runs");
        assert!(made.success());
        path
    }

    fn broker(&self) -> Broker {
        Broker::start_on(&["--config", self.path("broker.toml").to_str().expect("UTF-8")])
    }
}

/// SIGHUP, until the log has this.
fn hang_up(broker: &Broker, until: &str) {
    broker.signal("HUP");
    broker.expect_log(until);
}

/// The end to write to of a pipe, when somebody reads from it.
fn open_to_write(pipe: PathBuf) -> fs::File {
    let (opened, file) = std::sync::mpsc::channel();
    std::thread::spawn(move || opened.send(fs::OpenOptions::new().write(true).open(pipe)));
    let file = file.recv_timeout(DEADLINE).expect("somebody reads");
    file.expect("opened")
}

fn connect(addr: SocketAddr, connect: Connect) -> (Client, Connack) {
    let mut client = Client::open(addr, Version::V5);
    client.send(connect);
    let connack = client.recv_connack();
    (client, connack)
}

/// A listener has what its table says, and the rest from the broker.
#[test]
fn listeners_have_settings_of_their_own() {
    let files = Files::new(
        "password-file = \"DIR/users\"\nmax-qos = 1\nmax-packet-size = 9000\n
        [[listener]]\nname = \"inside\"\nport = 0\nanonymous = true\nmax-qos = 2\nacl-file = \"DIR/acl\"\n
        [[listener]]\nport = 0\nhost = \"localhost\"\nmax-packet-size = \"1K\"\n",
    );
    files.add_user("ann");
    files.write("acl", "topic read public/#\nuser ann\ntopic readwrite #\n");
    let broker = files.broker();
    let addrs = broker.addrs_of("mqtt", 3);
    let user = || Connect::v5("ann").credentials("ann", "secret");
    for (addr, qos, size) in [
        (addrs[0], Some(1), 9000),
        (addrs[1], None, 9000),
        (addrs[2], Some(1), 1024),
    ] {
        let (_client, connack) = connect(addr, user());
        assert_eq!(connack.code, 0);
        assert_eq!(
            (connack.props.maximum_qos(), connack.props.maximum_packet_size()),
            (qos, Some(size))
        );
    }
    assert_eq!(connect(addrs[0], Connect::v5("c")).1.code, NOT_AUTHORIZED);
    assert_eq!(connect(addrs[2], Connect::v5("c")).1.code, NOT_AUTHORIZED);
    let (mut guest, connack) = connect(addrs[1], Connect::v5("c"));
    assert_eq!(connack.code, 0);
    // The access list is the listener's: the same topic is open to who comes by another.
    guest.send(Publish::new("public/a", "x").qos(1, 1));
    assert_eq!(guest.recv_puback().reason, NOT_AUTHORIZED);
    let (mut ann, _) = connect(addrs[0], user());
    ann.publish("public/a", "x", 1);
}

/// Without `port`, the listeners of the tables are all there is.
#[test]
fn tables_take_the_place_of_the_default_port() {
    let files = Files::new("[[listener]]\ntransport = \"ws\"\nhost = \"127.0.0.1\"\nport = 0\n");
    let path = files.path("broker.toml");
    let broker = Broker::start_on(&["--no-tcp", "--config", path.to_str().expect("UTF-8")]);
    broker.addr_of("ws");
    let shown = Command::new(env!("CARGO_BIN_EXE_broker"))
        .args(["config", "show"])
        .arg(&path)
        .output()
        .expect("it runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("listener ws:0"), "{shown}");
}

/// New listeners open, others close with their clients: what a listener has left behind does not get the rights of others.
/// Those that are as they were keep theirs. A connection keeps the limits that its CONNACK has told; who connects from now on
/// gets the new ones.
#[test]
fn listeners_come_and_go() {
    let table = |name: &str| format!("[[listener]]\nname = \"{name}\"\nhost = \"127.0.0.1\"\nport = 0\n");
    let files = Files::new(&table("first"));
    let broker = files.broker();
    let addrs = broker.addrs_of("mqtt", 2);
    let (mut stays, _) = connect(addrs[0], Connect::v5("stays"));
    let (mut goes, _) = connect(addrs[1], Connect::v5("goes"));
    let other = format!(
        "max-qos = 1\n[[listener]]\nname = \"second\"\ntransport = \"ws\"\nhost = \"127.0.0.1\"\nport = 0\n{}",
        "max-qos = 0\n"
    );
    files.write("broker.toml", &other);
    hang_up(&broker, "reloaded");
    goes.expect_disconnect(ADMINISTRATIVE_ACTION);
    eventually("the listener is closed", || TcpStream::connect(addrs[1]).is_err());
    // What it was told in its CONNACK holds: QoS 2.
    stays.publish("a", "x", 2);
    let (_client, connack) = connect(addrs[0], Connect::v5("new"));
    assert_eq!(connack.props.maximum_qos(), Some(1));
    broker.addr_of("ws");
    assert!(broker.terminate().success());
}

/// Who came by a listener that is no more, or by another one in its place, does not get the rights of those that are there
/// now; its will is judged by the rights that it had [MQTT-3.1.2-8].
#[test]
fn rights_do_not_grow_with_a_listener() {
    let rules = "password-file = \"DIR/users\"\nacl-file = \"DIR/acl\"\n";
    let files = Files::new(&format!("{rules}unix-socket = \"DIR/socket\"\n"));
    files.add_user("bob");
    files.write("acl", "user bob\ntopic readwrite bob/#\n");
    let broker = files.broker();
    let bob = || Connect::v5("bob").credentials("bob", "secret");
    let connect = || {
        let mut client = Client::on(Stream::unix(&files.path("socket")), Version::V5);
        client.send(bob().will(Will::new("bob/will", "gone")));
        assert_eq!(client.recv_connack().code, 0);
        client
    };
    let mut client = connect();
    let mut watcher = broker.connect(Connect::v5("watcher").credentials("bob", "secret"));
    watcher.subscribe("bob/will", 1);
    // The rules go with the socket into a table, and the rest is open.
    let table = "[[listener]]\nname = \"inside\"\ntransport = \"unix\"\npath = \"DIR/socket\"\n";
    files.write("broker.toml", &format!("{table}{rules}"));
    hang_up(&broker, "reloaded");
    client.expect_disconnect(ADMINISTRATIVE_ACTION);
    watcher.expect_message("bob/will", "gone");
    let mut back = connect();
    back.send(Publish::new("secret", "x").qos(1, 1));
    assert_eq!(back.recv_puback().reason, NOT_AUTHORIZED);
    // And out again.
    files.write("broker.toml", "");
    hang_up(&broker, "reloaded");
    back.expect_disconnect(ADMINISTRATIVE_ACTION);
    watcher.expect_message("bob/will", "gone");
}

/// All of it or nothing: what is wrong in one place keeps everything else from coming into force.
#[test]
fn a_faulty_file_changes_nothing() {
    let good = "password-file = \"DIR/users\"\nacl-file = \"DIR/acl\"\nmax-qos = 1\n";
    let files = Files::new(good);
    files.add_user("ann");
    files.write("acl", "user ann\ntopic readwrite #\n");
    let broker = files.broker();
    let user = || Connect::v5("c").credentials("ann", "secret");
    let mut ann = broker.connect(user());
    files.write("acl", "user ann\ntopic read #\n");
    for (faulty, reason) in [
        ("max-qos = 2\nanonymous = true\nmax-qoss = 2\n", "max-qoss"),
        ("anonymous = true\npassword-file = \"DIR/none\"\n", "No such file"),
        (
            "anonymous = true\n[[listener]]\nport = 0\nacl-file = \"DIR/none\"\n",
            "No such file",
        ),
        (
            "anonymous = true\n[[listener]]\ntransport = \"tls\"\nport = 0\n",
            "tls-cert",
        ),
        (
            "anonymous = true\n[[listener]]\nhost = \"192.0.2.1\"\nport = 0\n",
            "does not have that address",
        ),
        ("anonymous = tr", "line 1"),
    ] {
        files.write("broker.toml", faulty);
        hang_up(&broker, "not reloaded");
        assert!(broker.log().contains(reason), "{reason}: {}", broker.log());
        ann.publish("a", "x", 1);
        broker.expect_refused(Connect::v5("d"), NOT_AUTHORIZED);
        assert_eq!(broker.connect(user()).connack.props.maximum_qos(), Some(1));
        ann = broker.connect(user());
    }
    files.write("broker.toml", good);
    hang_up(&broker, "certificates reloaded");
    ann.send(Publish::new("a", "x").qos(1, 9));
    assert_eq!(ann.recv_puback().reason, NOT_AUTHORIZED);
}

/// A reload whose files hang holds up neither the clients nor the end of the broker.
#[test]
fn a_reload_that_hangs_is_not_waited_for() {
    let files = Files::new("max-qos = 1\n");
    let broker = files.broker();
    let mut client = broker.v5("c");
    let pipe = files.pipe("key.pem");
    let certificate = certificates::path("server.pem");
    files.write(
        "broker.toml",
        &format!("tls-port = 0\ntls-cert = \"{certificate}\"\ntls-key = \"DIR/key.pem\"\n"),
    );
    broker.signal("HUP");
    let _held = open_to_write(pipe);
    client.ping();
    assert!(broker.terminate().success());
}

/// A configuration that is no file, or too large to be one, is not waited for, and changes nothing.
#[test]
fn a_configuration_is_a_file() {
    let files = Files::new("max-qos = 1\n");
    let broker = files.broker();
    let path = files.path("broker.toml");
    let file = fs::File::create(&path).expect("created");
    file.set_len(64 * 1024 * 1024 + 1).expect("sparse");
    hang_up(&broker, "larger than 67108864 bytes");
    fs::remove_file(&path).expect("removed");
    files.pipe("broker.toml");
    hang_up(&broker, "broker.toml: it is no file");
    assert_eq!(broker.v5("c").connack.props.maximum_qos(), Some(1));
    assert!(broker.terminate().success());
    let (code, said) = Broker::cannot_start(&["--config", path.to_str().expect("UTF-8")]);
    assert!(code != Some(0) && said.contains("it is no file"), "{code:?}: {said}");
}

/// What can't change while the broker runs is said.
#[test]
fn a_restart_is_asked_for() {
    let files = Files::new("threads = 1\n");
    let config = files.path("broker.toml");
    let broker = Broker::start_as_told(&["--config", config.to_str().expect("UTF-8")]);
    files.write("broker.toml", "threads = 2\n");
    hang_up(&broker, "needs a restart for that setting=\"threads\"");
    files.write("broker.toml", "threads = 2\ndata-dir = \"data\"\n");
    hang_up(&broker, "needs a restart for that setting=\"data-dir\"");
}

/// Clients with messages on their way notice nothing of reloads, right ones, wrong ones and half-written ones; the one
/// user that is removed is disconnected. Every message arrives once.
#[test]
fn reloads_under_load() {
    let good = "password-file = \"DIR/users\"\nanonymous = true\nacl-file = \"DIR/acl\"\n";
    let files = Files::new(good);
    files.add_user("gone");
    files.write("acl", "topic readwrite #\n");
    let broker = files.broker();
    let mut gone = broker.connect(Connect::v5("gone").credentials("gone", "secret"));
    let seconds: f64 = std::env::var("RELOAD_SECONDS").map_or(4.0, |seconds| seconds.parse().expect("a number"));
    let clients: usize = std::env::var("RELOAD_CLIENTS").map_or(200, |clients| clients.parse().expect("a number"));
    let load = Command::new(env!("CARGO_BIN_EXE_broker"))
        .args([
            "bench", "p2p", "--qos", "1", "--json", "--window", "2", "--rate", "5000",
        ])
        .args([
            "--pairs",
            &(clients / 2).to_string(),
            "--duration",
            &seconds.to_string(),
        ])
        .args(["--port", &broker.addr().port().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let begin = Instant::now();
    let mut reloads = 0;
    while begin.elapsed() < Duration::from_secs_f64(seconds) {
        let changed = ["topic readwrite #\n", "topic read $SYS/#\ntopic readwrite #\n"][reloads % 2];
        match reloads % 4 {
            0 | 1 => files.write("acl", changed),
            2 => files.write("acl", "topic readwrite #\ntopi"),
            _ => files.write("broker.toml", "anonymous = "),
        }
        broker.signal("HUP");
        reloads += 1;
        // The pace of the signals, which nothing announces.
        std::thread::sleep(Duration::from_millis(100));
        files.write("broker.toml", good);
    }
    files.write("acl", "topic readwrite #\n");
    files.write("users", "");
    broker.signal("HUP");
    gone.expect_disconnect(NOT_AUTHORIZED);
    let output = load.wait_with_output().expect("it ends");
    let figures = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}{figures}");
    for none in ["messages_lost", "messages_duplicated", "messages_out_of_order"] {
        assert!(figures.contains(&format!("\"{none}\":0")), "{figures}");
    }
    let log = broker.log();
    let (done, refused) = (
        log.matches("INFO settings").count(),
        log.matches("not reloaded").count(),
    );
    println!("{reloads} signals: {done} reloads, {refused} refused");
    assert!(done > 0 && refused > 0, "{log}");
}
