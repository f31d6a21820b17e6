//! What comes from other brokers: a `mosquitto.conf`, and the `credentials.json` of aedes-cli.
//!
//! A Mosquitto is started with a file, then a broker with what the file has become, and both are asked the same.

mod common;
use common::*;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;
use tokio_rustls::rustls::version::TLS12;

const BROKER: &str = env!("CARGO_BIN_EXE_broker");

/// A directory with the files of a Mosquitto.
struct Files(TempDir);

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Files {
    /// Three users, each with the own name and `'s` as the password.
    fn new() -> Files {
        let files = Files(tempfile::tempdir().expect("a directory"));
        for user in ["root", "ann", "bob"] {
            let path = files.path("users");
            let mut command = Command::new("mosquitto_passwd");
            command.args(if path.exists() { &["-b"][..] } else { &["-c", "-b"] });
            let status = command.arg(path).args([user, &format!("{user}'s")]).status();
            assert!(status.expect("mosquitto_passwd is installed").success());
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes it, with the path of the directory in the place of `DIR`.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let directory = self.0.path().to_str().expect("UTF-8");
        fs::write(self.path(name), text.replace("DIR", directory)).expect("written");
        self.path(name)
    }

    fn import(&self) -> String {
        let _ = fs::remove_file(self.path("broker.toml"));
        let (conf, toml) = (self.path("mosquitto.conf"), self.path("broker.toml"));
        let output = run(&["config", "import", text(&conf), "-o", text(&toml)]);
        assert!(output.status.success(), "{}", errors(&output));
        let check = run(&["config", "check", text(&toml)]);
        let new = fs::read_to_string(&toml).expect("there");
        assert!(check.status.success(), "{}\n{new}", errors(&check));
        errors(&output)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn run(arguments: &[&str]) -> Output {
    Command::new(BROKER).args(arguments).output().expect("it runs")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts it, with what it says in a file.
fn spawn(program: &str, arguments: &[&str], log: &Path) -> std::io::Result<Process> {
    let mut command = Command::new(program);
    let command = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(fs::File::create(log)?).spawn().map(Process)
}

/// Where it listens that is asked.
#[derive(Clone)]
enum At {
    Tcp(SocketAddr),
    Tls(SocketAddr, Option<&'static str>),
    WebSocket(SocketAddr),
    Unix(PathBuf),
}

impl At {
    fn is_open(&self) -> bool {
        match self {
            At::Tcp(addr) | At::Tls(addr, _) | At::WebSocket(addr) => TcpStream::connect(addr).is_ok(),
            At::Unix(path) => UnixStream::connect(path).is_ok(),
        }
    }

    fn open(&self) -> std::io::Result<Stream> {
        match self {
            At::Tcp(addr) => Ok(Stream::tcp(*addr)),
            At::Tls(addr, certificate) => Stream::tcp(*addr).tls(&certificates::client(*certificate, &[&TLS12])),
            At::WebSocket(addr) => Stream::tcp(*addr).websocket("/mqtt"),
            At::Unix(path) => Ok(Stream::unix(path)),
        }
    }

    /// None if it is refused.
    fn connect(&self, connect: Connect) -> Option<Client> {
        let mut client = Client::on(self.open().ok()?, connect.version);
        client.send(connect);
        match client.recv_or_closed() {
            Some(Packet::Connack(connack)) if connack.code == 0 => Some(client),
            _ => None,
        }
    }
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    listeners.iter().map(port).collect()
}

/// What a client may do, as lines.
fn asked(at: &At) -> Vec<String> {
    let mut seen = Vec::new();
    let users = [
        None,
        Some(("ann", "ann's")),
        Some(("ann", "wrong")),
        Some(("eve", "x")),
        Some(("bob", "bob's")),
    ];
    for version in [Version::V311, Version::V5] {
        for user in users {
            let mut connect = Connect::new(version, "c-1").keep_alive(30);
            if let Some((name, password)) = user {
                connect = connect.credentials(name, password);
            }
            let Some(mut client) = at.connect(connect) else {
                seen.push(format!("{version:?} {user:?} refused"));
                continue;
            };
            seen.push(format!("{version:?} {user:?} accepted"));
            if let Some(watcher) = at.connect(Connect::v5("watcher").credentials("root", "root's")) {
                seen.extend(
                    exchanged(&mut client, watcher)
                        .into_iter()
                        .map(|line| format!("{version:?} {user:?} {line}")),
                );
            }
            client.disconnect();
        }
    }
    seen
}

const TOPICS: [&str; 9] = [
    "public/a",
    "house/lamp",
    "house/safe/code",
    "status/ann/c-1",
    "status/bob/c-1",
    "hello/a",
    "hello/a/b",
    "other",
    "a b/c",
];

/// What reaches the watcher of the client's messages, and the client of the watcher's.
fn exchanged(client: &mut Client, mut watcher: Client) -> Vec<String> {
    let mut seen = Vec::new();
    watcher.subscribe("#", 0);
    for topic in TOPICS {
        let id = client.next_id();
        client.send(Publish::new(topic, "from client").qos(1, id));
        // Mosquitto tells MQTT 5.0 clients as well; what arrives is what counts.
        client.recv_puback();
    }
    watcher.send(Publish::new("done", ""));
    seen.extend(
        until_done(&mut watcher)
            .into_iter()
            .map(|topic| format!("publishes {topic}")),
    );
    watcher.unsubscribe("#");
    for filter in ["#", "house/#", "hello/+"] {
        client.subscribe(filter, 0);
        if filter != "#" {
            client.subscribe("done", 0);
        }
        for topic in TOPICS {
            watcher.send(Publish::new(topic, "from watcher"));
        }
        watcher.send(Publish::new("done", ""));
        seen.extend(
            until_done(client)
                .into_iter()
                .map(|topic| format!("{filter} receives {topic}")),
        );
        client.unsubscribe(filter);
        client.unsubscribe("done");
    }
    watcher.disconnect();
    seen
}

fn until_done(client: &mut Client) -> Vec<String> {
    let mut topics = Vec::new();
    loop {
        match client.recv() {
            Packet::Publish(publish) if publish.topic == "done" => return topics,
            Packet::Publish(publish) => topics.push(publish.topic),
            _ => {}
        }
    }
}

/// Starts a Mosquitto with the file, then a broker with what it has become, and compares what both say there. `PORT0`,
/// `PORT1` and so on stand for free ports. Returns what was listed as not translated.
fn compare(files: &Files, conf: &str, places: impl Fn(&[u16]) -> Vec<At>) -> String {
    let (ports, mosquitto) = start_mosquitto(files, conf, &places);
    let places = places(&ports);
    let expected: Vec<_> = places.iter().map(asked).collect();
    drop(mosquitto);
    let listed = files.import();
    let toml = files.path("broker.toml");
    let _broker = spawn(BROKER, &["--config", text(&toml)], &files.path("log")).expect("it starts");
    eventually("the broker listens", || places.iter().all(At::is_open));
    for (place, expected) in places.iter().zip(expected) {
        let found = asked(place);
        assert_eq!(found, expected, "\n{}", fs::read_to_string(&toml).expect("there"));
        assert!(
            expected.iter().any(|line| line.ends_with("accepted")),
            "nobody is let in: {expected:?}"
        );
    }
    listed
}

fn start_mosquitto(files: &Files, conf: &str, places: &impl Fn(&[u16]) -> Vec<At>) -> (Vec<u16>, Process) {
    // Another process may take a port in the meantime.
    for _ in 0..5 {
        let ports = free_ports(2);
        let numbered = ports.iter().enumerate();
        let conf = numbered.fold(conf.to_owned(), |conf, (number, port)| {
            conf.replace(&format!("PORT{number}"), &port.to_string())
        });
        // It would change to another user, who can't read the files.
        let path = files.write("mosquitto.conf", &format!("user root\n{conf}"));
        let program = ["/usr/sbin/mosquitto", "mosquitto"]
            .into_iter()
            .find(|program| Path::new(program).exists());
        let mut process = spawn(program.unwrap_or("mosquitto"), &["-c", text(&path)], &files.path("log"))
            .expect("mosquitto is installed");
        let places = places(&ports);
        let mut has_ended = false;
        eventually("Mosquitto listens or ends", || {
            has_ended = process.0.try_wait().expect("waited").is_some();
            has_ended || places.iter().all(At::is_open)
        });
        if !has_ended {
            return (ports, process);
        }
    }
    let log = fs::read_to_string(files.path("log")).unwrap_or_default();
    panic!("Mosquitto does not start with:\n{conf}\n{log}");
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

const ACL: &str = "
topic read public/#
topic write hello/+

user ann
topic readwrite house/#
topic deny house/safe/#
topic read hello/+
topic readwrite a b/c

user bob
topic write house/+
topic read other

user root
topic readwrite #

pattern readwrite done
pattern write status/%u/%c
";

/// Passwords and an access list, with and without anonymous clients.
#[test]
fn users_and_an_access_list() {
    let files = Files::new();
    files.write("acl", ACL);
    for anonymous in ["", "allow_anonymous true\n"] {
        let conf = format!("listener PORT0 127.0.0.1\npassword_file DIR/users\nacl_file DIR/acl\n{anonymous}");
        let listed = compare(&files, &conf, |ports| vec![At::Tcp(local(ports[0]))]);
        assert!(listed.contains("line 1: user is not needed"), "{listed}");
    }
}

/// No file at all but a port: everybody may do everything, if it says so.
#[test]
fn an_open_port() {
    let files = Files::new();
    let conf = "allow_anonymous true\nport PORT0\nbind_address 127.0.0.1\nmax_qos 1\n";
    compare(&files, conf, |ports| vec![At::Tcp(local(ports[0]))]);
}

/// Certificates that are user names, and such that are not.
#[test]
fn certificates_of_clients() {
    let files = Files::new();
    let acl = format!("{ACL}\nuser client\ntopic read house/#\ntopic write other\n");
    files.write("acl", &acl);
    let (ca, server, key) = (
        certificates::path("ca.pem"),
        certificates::path("server.pem"),
        certificates::path("server.key"),
    );
    for names in [
        "use_identity_as_username true\nacl_file DIR/acl",
        "password_file DIR/users\nacl_file DIR/acl",
    ] {
        let conf = format!(
            "listener PORT0 127.0.0.1\ncafile {ca}\ncertfile {server}\nkeyfile {key}\nrequire_certificate true\n{names}\n"
        );
        compare(&files, &conf, |ports| vec![At::Tls(local(ports[0]), Some("client"))]);
    }
    // Asked for none, a client without one is let in.
    let conf =
        format!("listener PORT0 127.0.0.1\ncafile {ca}\ncertfile {server}\nkeyfile {key}\npassword_file DIR/users\n");
    compare(&files, &conf, |ports| vec![At::Tls(local(ports[0]), None)]);
}

/// A Unix domain socket.
#[test]
fn a_unix_socket() {
    let files = Files::new();
    let socket = files.path("socket");
    let conf = "listener 0 DIR/socket\npassword_file DIR/users\n";
    compare(&files, conf, |_| vec![At::Unix(socket.clone())]);
}

/// Listeners that share their files, one of them for WebSocket; and such that have their own.
#[test]
fn several_listeners() {
    let files = Files::new();
    files.write("acl", ACL);
    files.write(
        "other",
        "topic readwrite #\nuser bob\ntopic readwrite #\nuser root\ntopic readwrite #\npattern readwrite done\n",
    );
    let conf = "listener PORT0 127.0.0.1\nlistener PORT1 127.0.0.1\nsocket_domain ipv4\nprotocol websockets\n\
                password_file DIR/users\nacl_file DIR/acl\n";
    let listed = compare(&files, conf, |ports| {
        vec![At::Tcp(local(ports[0])), At::WebSocket(local(ports[1]))]
    });
    assert!(listed.contains("/mqtt"), "{listed}");
    let conf = "per_listener_settings true\nlistener PORT0 127.0.0.1\nallow_anonymous true\nacl_file DIR/other\n\
                listener PORT1 127.0.0.1\npassword_file DIR/users\nacl_file DIR/acl\n";
    compare(&files, conf, |ports| {
        ports.iter().map(|port| At::Tcp(local(*port))).collect()
    });
}

/// A listener where certificates are names beside one where passwords are asked for.
#[test]
fn certificates_beside_passwords() {
    let files = Files::new();
    let acl = format!("{ACL}\nuser client\ntopic read house/#\ntopic write other\n");
    files.write("acl", &acl);
    let (ca, server, key) = (
        certificates::path("ca.pem"),
        certificates::path("server.pem"),
        certificates::path("server.key"),
    );
    let conf = format!(
        "password_file DIR/users\nacl_file DIR/acl\nlistener PORT0 127.0.0.1\nlistener PORT1 127.0.0.1\n\
         cafile {ca}\ncertfile {server}\nkeyfile {key}\nrequire_certificate true\nuse_identity_as_username true\n"
    );
    compare(&files, &conf, |ports| {
        vec![At::Tcp(local(ports[0])), At::Tls(local(ports[1]), Some("client"))]
    });
}

/// Which identifiers a client may have.
#[test]
fn client_identifiers() {
    let files = Files::new();
    for prefix in ["c-", "watch"] {
        let conf = format!(
            "listener PORT0 127.0.0.1\nallow_anonymous true\nclientid_prefixes {prefix}\nallow_zero_length_clientid false\n"
        );
        let (ports, mosquitto) = start_mosquitto(&files, &conf, &|ports| vec![At::Tcp(local(ports[0]))]);
        let ask = || {
            let at = At::Tcp(local(ports[0]));
            ["c-1", "watcher", "d", ""].map(|id| at.connect(Connect::v5(id)).is_some())
        };
        let expected = ask();
        drop(mosquitto);
        files.import();
        let _broker = spawn(
            BROKER,
            &["--config", text(&files.path("broker.toml"))],
            &files.path("log"),
        )
        .expect("it starts");
        eventually("the broker listens", || At::Tcp(local(ports[0])).is_open());
        assert_eq!(ask(), expected, "{prefix}");
    }
}

/// Nothing is opened up: where Mosquitto lets nobody in, or by what there is not here, no port is opened.
#[test]
fn what_guards_a_listener_is_not_forgotten() {
    let files = Files::new();
    for (conf, reason) in [
        ("listener 1883\n", "nobody may connect to it"),
        ("listener 1883\nallow_anonymous false\n", "nobody may connect to it"),
        (
            "listener 1883\nallow_anonymous true\nplugin /lib/dynsec.so\n",
            "the plugin of",
        ),
        (
            "listener 1883\nallow_anonymous true\nmount_point a/\n",
            "mount_point has no counterpart",
        ),
        (
            "listener 8883\nallow_anonymous true\ncertfile a\nkeyfile b\ncapath c\nrequire_certificate true\n",
            "capath has no counterpart",
        ),
        (
            "listener 8883\nallow_anonymous true\npsk_hint a\npsk_file b\n",
            "psk_hint has no counterpart",
        ),
        (
            "listener 8883\nallow_anonymous true\ncertfile a\nkeyfile b\ncafile c\nrequire_certificate true\nuse_subject_as_username true\n",
            "use_subject_as_username",
        ),
        ("allow_anonymous false\n", "nobody may connect to it"),
    ] {
        let path = files.write("mosquitto.conf", conf);
        let output = run(&["config", "import", text(&path)]);
        assert!(
            output.status.success() && errors(&output).contains(reason),
            "{conf}: {}",
            errors(&output)
        );
        files.write("broker.toml", &String::from_utf8(output.stdout).expect("UTF-8"));
        let started = run(&["--config", text(&files.path("broker.toml"))]);
        assert_eq!(started.status.code(), Some(1), "{conf}");
        assert!(
            errors(&started).contains("nothing to listen on"),
            "{conf}: {}",
            errors(&started)
        );
    }
}

/// What makes no sense is one line with the place, and no file is written; one that is there stays.
#[test]
fn files_that_make_no_sense() {
    let files = Files::new();
    fs::create_dir(files.path("conf.d")).expect("made");
    files.write("conf.d/b.conf", "listener x\n");
    for (conf, reason) in [
        (
            &b"prot 1883\n"[..],
            "line 1: Mosquitto has no setting \"prot\"; is it \"port\" that is meant?",
        ),
        (b"#\nlistener\n", "line 2: listener: "),
        (
            b"listener 1883\nmax_qos 3\n",
            "line 2: max_qos: 3 is not between 0 and 2",
        ),
        (b"#\n\xFF\n", "line 2: it is not UTF-8"),
        (b"port 1883\0\n", "line 1: it has a NUL character"),
        (
            b"include_dir /no/such/directory\n",
            "line 1: /no/such/directory: No such file",
        ),
        (
            b"include_dir DIR/conf.d\n",
            "b.conf: line 1: listener: \"x\" is not a whole number",
        ),
    ] {
        match std::str::from_utf8(conf) {
            Ok(conf) => files.write("mosquitto.conf", conf),
            Err(_) => fs::write(files.path("mosquitto.conf"), conf)
                .map(|()| files.path("mosquitto.conf"))
                .expect("written"),
        };
        let (conf, toml) = (files.path("mosquitto.conf"), files.path("new.toml"));
        let output = run(&["config", "import", text(&conf), "-o", text(&toml)]);
        let said = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(reason) && said.lines().count() == 1 && !toml.exists(),
            "{said}"
        );
    }
    files.write("mosquitto.conf", "port 1883\n");
    let (conf, toml) = (files.path("mosquitto.conf"), files.write("new.toml", "mine"));
    let output = run(&["config", "import", text(&conf), "-o", text(&toml)]);
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    assert_eq!(fs::read_to_string(toml).expect("there"), "mine");
}

/// Users of aedes-cli connect with their passwords, and may do what their patterns allow.
#[test]
fn users_of_aedes_cli() {
    let files = Files(tempfile::tempdir().expect("a directory"));
    let credentials = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cmd/aedes/credentials.json");
    let (users, acl) = (files.path("users"), files.path("acl.toml"));
    let refused = run(&["passwd", "import", text(&credentials), text(&users)]);
    assert!(
        errors(&refused).contains("\"bob\" may not do everything") && !users.exists(),
        "{}",
        errors(&refused)
    );
    let import = [
        "passwd",
        "import",
        text(&credentials),
        text(&users),
        "--acl",
        text(&acl),
    ];
    let imported = run(&import);
    assert!(imported.status.success(), "{}", errors(&imported));
    assert_eq!(run(&import).status.code(), Some(1), "nothing is overwritten");
    let broker = Broker::start(&["--password-file", text(&users), "--acl-file", text(&acl)]);
    broker.expect_refused(Connect::v5("c"), 0x87);
    broker.expect_refused(Connect::v5("c").credentials("ann", "hunter2"), 0x86);
    let mut ann = broker.connect(Connect::v5("a").credentials("ann", "s3cret pässword"));
    let mut bob = broker.connect(Connect::v311("b").credentials("bob", "hunter2"));
    assert_eq!(bob.try_subscribe("#", 0), 0x80);
    bob.subscribe("hello/#", 0);
    ann.subscribe("#", 0);
    bob.publish("hello/a/b", "not allowed", 1);
    bob.publish("hello/a", "allowed", 1);
    ann.expect_message("hello/a", "allowed");
    bob.expect_message("hello/a", "allowed");
}

/// What an access list says of a client, asked on the command line.
#[test]
fn access_lists_can_be_asked() {
    let files = Files(tempfile::tempdir().expect("a directory"));
    let acl = files.write(
        "rules.toml",
        "[[rule]]\nusers = [\"ann\"]\npublish = [\"a/%u\"]\nclient-ids = [\"c\"]\n",
    );
    let ask = |arguments: &[&str]| {
        let output = run(&[&["acl", "check", text(&acl)], arguments].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &errors(&output);
        (output.status.code(), said)
    };
    let (code, said) = ask(&["--user", "ann", "--client-id", "c", "publish", "a/ann"]);
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "allowed by line 3: publish = [\"a/%u\"]\n")
    );
    let (code, said) = ask(&["--user", "ann", "publish", "a/ann"]);
    assert_eq!((code, said.as_str()), (Some(1), "broker: denied: no line allows it\n"));
    files.write("rules.toml", "[[rule]]\nusers = [\"ann\"]\npublsh = []\n");
    let (code, said) = ask(&["subscribe", "a"]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("rules.toml: line 3: there is no setting \"publsh\"; is it \"publish\" that you mean?"),
        "{said}"
    );
}
