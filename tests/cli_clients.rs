//! `broker pub` and `broker sub` against this broker; `tests/clients/tools` has them beside Mosquitto.

mod common;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::certificates::path;
use common::*;

/// The program with these arguments, without the variables of the caller.
fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BROKER_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    tool(arguments).output().expect("the program runs")
}

/// Runs it with this on standard input.
fn run_with(input: &[u8], arguments: &[&str]) -> Output {
    let mut command = tool(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    child.stdin.take().expect("piped").write_all(input).expect("it reads");
    child.wait_with_output().expect("it ends")
}

#[track_caller]
fn assert_success(output: &Output) {
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

/// It ends with this exit code, and says this in one line.
#[track_caller]
fn assert_fails(output: &Output, code: i32, reason: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(reason) && said.lines().count() == 1, "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn url(scheme: &str, addr: SocketAddr) -> String {
    format!("{scheme}://{addr}")
}

/// A `broker sub` that runs, and has subscribed. Its first message is a retained one of a topic of its own.
struct Sub {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Sub {
    fn start(broker: &Broker, arguments: &[&str]) -> Sub {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let ready = format!("ready/{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let url = url("mqtt", broker.addr_of("mqtt"));
        assert_success(&run(&["pub", "-L", &url, "-t", &ready, "-m", "ready", "-r", "-q", "1"]));
        // The limit of time ends it where a test goes wrong.
        let mut command = tool(&["sub", "-W", "30", "-L", &url, "-t", &ready]);
        let mut child = command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut sub = Sub {
            output: BufReader::new(child.stdout.take().expect("piped")),
            child,
        };
        let first = sub.line();
        assert!(first.contains("ready"), "{first:?}: {}", sub.errors());
        sub
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("is UTF-8");
        line.trim_end_matches('\n').to_owned()
    }

    /// What is left on standard output.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.output.read_to_end(&mut rest).expect("readable");
        rest
    }

    fn errors(&mut self) -> String {
        let mut errors = String::new();
        let _ = self.child.kill();
        let pipe = self.child.stderr.take();
        pipe.map(|mut pipe| pipe.read_to_string(&mut errors));
        errors
    }

    fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.child.id().to_string()])
            .status();
        assert!(status.expect("sh runs").success());
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Sub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every byte, in an order that no text has.
fn binary() -> Vec<u8> {
    (0..100_000_u32)
        .map(|number| (number * 7 + number / 256) as u8)
        .collect()
}

/// A payload arrives as it is, in every version, with every QoS, over every transport.
#[test]
fn payloads_arrive_as_they_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("mqtt.sock");
    let file = directory.path().join("payload");
    std::fs::write(&file, binary()).expect("written");
    let (cert, key) = (path("server.pem"), path("server.key"));
    let broker = Broker::start_on(&[
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
        "--tls-port",
        "0",
        "--ws-port",
        "0",
        "--wss-port",
        "0",
        "--unix-socket",
        &socket.display().to_string(),
    ]);
    let tcp = |scheme: &str| url(scheme, broker.addr_of(scheme));
    let urls = [
        tcp("mqtt"),
        tcp("mqtts"),
        tcp("ws"),
        tcp("wss"),
        format!("mqtt+unix://{}", socket.display()),
    ];
    for url in &urls {
        let ca = path("ca.pem");
        let trust: &[&str] = if url.contains("s://1") && !url.starts_with("ws:") {
            &["--cafile", &ca]
        } else {
            &[]
        };
        for (version, qos) in [
            ("31", "1"),
            ("311", "0"),
            ("311", "2"),
            ("5", "0"),
            ("5", "1"),
            ("5", "2"),
        ] {
            let session = format!("{version}{qos}");
            let subscribed = [
                &[
                    "sub", "-L", url, "-V", version, "-q", qos, "-c", "-i", &session, "-t", "a/+",
                ],
                trust,
            ]
            .concat();
            assert_success(&run(&[&subscribed[..], &["-E"]].concat()));
            let file = file.display().to_string();
            let retain = if qos == "0" { "-r" } else { "--repeat=1" };
            let publish = [
                "pub", "-L", url, "-V", version, "-q", qos, "-t", "a/b", "-f", &file, retain,
            ];
            assert_success(&run(&[&publish[..], trust].concat()));
            let output = run(&[&subscribed[..], &["-C", "1", "-N", "-W", "30"]].concat());
            assert_success(&output);
            assert!(
                output.stdout == binary(),
                "{url} {version} {qos}: {} bytes",
                output.stdout.len()
            );
        }
    }
}

#[test]
fn messages_from_everywhere() {
    let broker = Broker::start_on(&[]);
    let url = url("mqtt", broker.addr_of("mqtt"));
    let mut sub = Sub::start(&broker, &["-t", "m/#", "-F", "%t %x %r", "-q", "2"]);
    let publish = ["pub", "-L", &url, "-q", "2", "-t"];
    let with = |rest: &[&str]| run(&[&publish[..], rest].concat());
    assert_success(&with(&["m/text", "-m", "-5"]));
    assert_success(&with(&["m/null", "-n"]));
    assert_success(&with(&[
        "m/repeat",
        "-m",
        "r",
        "--repeat",
        "2",
        "--repeat-delay",
        "0.01",
    ]));
    assert_success(&run_with(b"a\n\xFFb\n", &[&publish[..], &["m/all", "-s"]].concat()));
    assert_success(&run_with(
        b"1\n\n\xFF\nlast",
        &[&publish[..], &["m/line", "-l"]].concat(),
    ));
    let mut not_utf8 = tool(&[&publish[..], &["m/bytes", "-m"]].concat());
    assert_success(
        &not_utf8
            .arg(OsStr::from_bytes(b"\xFE"))
            .output()
            .expect("the program runs"),
    );
    let mut topic_of_url = tool(&["pub", "-L", &format!("{url}/m/url%20x"), "-m", "u"]);
    assert_success(&topic_of_url.output().expect("the program runs"));
    for expected in [
        "m/text 2d35 0",
        "m/null  0",
        "m/repeat 72 0",
        "m/repeat 72 0",
        "m/all 610aff620a 0",
        "m/line 31 0",
        "m/line  0",
        "m/line ff 0",
        "m/line 6c617374 0",
        "m/bytes fe 0",
        "m/url x 75 0",
    ] {
        assert_eq!(sub.line(), expected);
    }
}

/// More than the window, the output and the pipe hold: each line arrives once, in order.
#[test]
fn many_lines_arrive_in_order() {
    const COUNT: usize = 20_000;
    let broker = Broker::start_on(&[]);
    let url = url("mqtt", broker.addr_of("mqtt"));
    for qos in ["0", "1", "2"] {
        let count = (COUNT + 1).to_string();
        let mut sub = Sub::start(&broker, &["-t", "lines", "-q", qos, "-C", &count]);
        let lines: String = (0..COUNT).map(|number| format!("line {number}\n")).collect();
        assert_success(&run_with(
            lines.as_bytes(),
            &["pub", "-L", &url, "-t", "lines", "-l", "-q", qos],
        ));
        assert!(sub.rest() == lines.as_bytes(), "QoS {qos}");
        assert_eq!(sub.code(), Some(0));
    }
}

/// A line that takes long to come goes out when it comes, and the connection lives meanwhile.
#[test]
fn lines_go_out_when_they_come() {
    let broker = Broker::start_on(&[]);
    let url = url("mqtt", broker.addr_of("mqtt"));
    let mut sub = Sub::start(&broker, &["-t", "slow"]);
    let mut command = tool(&["pub", "-L", &url, "-t", "slow", "-l", "-k", "1", "-q", "1"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program runs");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(b"first\n").expect("it reads");
    assert_eq!(sub.line(), "first");
    // Twice as long as the broker waits for a client with this keep alive.
    broker.let_time_pass();
    broker.let_time_pass();
    input.write_all(b"second").expect("it reads");
    drop(input);
    assert_eq!(sub.line(), "second");
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn formats_and_filters() {
    let broker = Broker::start_on(&[]);
    let url = url("mqtt", broker.addr_of("mqtt"));
    let publish = |arguments: &[&str]| assert_success(&run(&[&["pub", "-L", &url][..], arguments].concat()));
    let mut verbose = Sub::start(&broker, &["-t", "f/#", "-v", "-T", "f/hidden/#"]);
    let properties = [
        "-D",
        "publish",
        "user-property",
        "n",
        "v",
        "-D",
        "publish",
        "content-type",
        "text/plain",
    ];
    let mut json = Sub::start(&broker, &["-t", "f/#", "-F", "%j", "-q", "1", "-V", "5"]);
    publish(&["-t", "f/hidden/x", "-m", "no"]);
    publish(&[&["-t", "f/a", "-m", "say \"hi\"", "-q", "1"][..], &properties].concat());
    publish(&["-t", "f/b", "-n"]);
    assert_eq!(
        (verbose.line(), verbose.line()),
        ("f/a say \"hi\"".into(), "f/b (null)".into())
    );
    assert!(json.line().contains("\"topic\":\"f/hidden/x\""));
    let line = json.line();
    assert!(
        line.ends_with(
            "\"topic\":\"f/a\",\"qos\":1,\"retain\":0,\"payloadlen\":8,\"mid\":2,\"properties\":{\"user-properties\":\
             {\"n\":\"v\"},\"content-type\":\"text/plain\"},\"payload\":\"say \\\"hi\\\"\"}"
        ),
        "{line}"
    );
}

#[test]
fn retained_messages() {
    let broker = Broker::start_on(&[]);
    let url = url("mqtt", broker.addr_of("mqtt"));
    for topic in ["r/1", "r/2"] {
        assert_success(&run(&["pub", "-L", &url, "-t", topic, "-m", "old", "-r"]));
    }
    let mut only = Sub::start(&broker, &["-t", "r/#", "--retained-only", "-v"]);
    let mut without = Sub::start(&broker, &["-t", "r/#", "-v", "-C", "4"]);
    assert_eq!([only.line(), only.line()], ["r/1 old", "r/2 old"]);
    assert_eq!([without.line(), without.line()], ["r/1 old", "r/2 old"]);
    assert_success(&run(&["pub", "-L", &url, "-t", "r/3", "-m", "new"]));
    assert_eq!((only.rest(), only.code()), (vec![], Some(0)));
    assert_eq!((without.line(), without.code()), ("r/3 new".into(), Some(0)));
    let fresh = ["sub", "-L", &url, "-t", "r/#", "-R", "-W", "0.5"];
    assert_fails(&run(&fresh), 27, "timed out");
    let never = [
        "sub",
        "-L",
        &url,
        "-t",
        "r/#",
        "-V",
        "5",
        "--retain-handling",
        "never",
        "-W",
        "0.5",
    ];
    assert_fails(&run(&never), 27, "timed out");
}

/// What is printed is acknowledged, and nothing else: the rest stays in the session.
#[test]
fn a_session_goes_on_where_it_was_left() {
    let broker = Broker::start_on(&[]);
    let url = url("mqtt", broker.addr_of("mqtt"));
    for qos in ["1", "2"] {
        let sub = |rest: &[&str]| {
            let output = run(&[&["sub", "-L", &url, "-i", "s", "-c", "-q", qos, "-t", "s/#"], rest].concat());
            assert_success(&output);
            text(&output.stdout)
        };
        assert_eq!(sub(&["-E"]), "");
        assert_success(&run_with(
            b"1\n2\n3\n4\n",
            &["pub", "-L", &url, "-t", "s/x", "-l", "-q", qos],
        ));
        assert_eq!(sub(&["-C", "1"]), "1\n");
        assert_eq!(sub(&["-C", "2"]), "2\n3\n");
        assert_eq!(sub(&["-C", "1", "-U", "s/#"]), "4\n");
    }
}

/// A message of QoS 2 that comes twice is printed once, and acknowledged twice.
#[test]
fn a_repeated_message_is_printed_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("bound").port().to_string();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        let mut buffer = [0; 1024];
        assert!(socket.read(&mut buffer).expect("a CONNECT") > 0);
        socket.write_all(&[0x20, 2, 0, 0]).expect("taken");
        assert!(socket.read(&mut buffer).expect("a SUBSCRIBE") > 0);
        let publish = |first| [first, 6, 0, 1, b't', 0, 7, b'a'];
        let suback = [0x90, 3, 0, 1, 2];
        socket
            .write_all(&[&suback[..], &publish(0x34), &publish(0x3C)].concat())
            .expect("taken");
        let mut acknowledged = [0; 8];
        socket.read_exact(&mut acknowledged).expect("two PUBREC");
        assert_eq!(acknowledged, [0x50, 2, 0, 7, 0x50, 2, 0, 7]);
        // Released, the identifier may stand for another message.
        socket
            .write_all(&[&[0x62, 2, 0, 7][..], &publish(0x34)].concat())
            .expect("taken");
        socket.read_exact(&mut acknowledged).expect("PUBCOMP and PUBREC");
        assert_eq!(acknowledged, [0x70, 2, 0, 7, 0x50, 2, 0, 7]);
        socket.write_all(&[0x30, 4, 0, 1, b't', b'e']).expect("taken");
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).expect("the end");
        assert_eq!(rest, [0xE0, 0]);
    });
    let output = run(&[
        "sub",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-t",
        "t",
        "-q",
        "2",
        "-C",
        "3",
        "-W",
        "30",
    ]);
    assert_success(&output);
    assert_eq!(text(&output.stdout), "a\na\ne\n");
    server.join().expect("no panic");
}

/// The connection is made again, and a subscription that the broker has forgotten.
#[test]
fn the_subscriber_connects_again() {
    let broker = Broker::start_on(&[]);
    let addr = broker.addr_of("mqtt");
    let mut again = Sub::start(&broker, &["-t", "x"]);
    let mut not_again = Sub::start(&broker, &["-t", "x", "--no-reconnect"]);
    assert!(broker.terminate().success());
    assert_eq!((not_again.code(), not_again.rest()), (Some(1), vec![]));
    let broker = Broker::start_on(&["--port", &addr.port().to_string()]);
    assert_success(&run(&[
        "pub",
        "-L",
        &url("mqtt", broker.addr_of("mqtt")),
        "-t",
        "x",
        "-m",
        "ready again",
        "-r",
    ]));
    assert_eq!(again.line(), "ready again");
    again.signal("TERM");
    assert_eq!((again.code(), again.rest()), (Some(0), vec![]));
    assert!(again.errors().contains("connecting again"));
}

/// SIGINT and SIGTERM end it in order; the will is published, as mosquitto_sub has it.
#[test]
fn a_signal_ends_it() {
    let broker = Broker::start_on(&[]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("will", 1);
    for name in ["INT", "TERM"] {
        let will = ["--will-topic", "will", "--will-payload", name, "--will-qos", "1"];
        let mut sub = Sub::start(&broker, &[&["-t", "x", "-V", "5"][..], &will].concat());
        sub.signal(name);
        assert_eq!(sub.code(), Some(0));
        assert_eq!(watcher.message().text(), name);
    }
}

/// A reader that has stopped to read does not keep it from ending.
#[test]
fn a_signal_ends_it_although_nobody_reads() {
    let broker = Broker::start_on(&[]);
    let url = url("mqtt", broker.addr_of("mqtt"));
    let mut sub = Sub::start(&broker, &["-t", "much", "-q", "1"]);
    // Far more than a pipe holds; what is not acknowledged has not been written.
    assert_success(&run(&[
        "pub",
        "-L",
        &url,
        "-t",
        "much",
        "-m",
        &"x".repeat(1000),
        "-q",
        "1",
        "--repeat",
        "1000",
    ]));
    sub.signal("TERM");
    assert_eq!(sub.code(), Some(0));
}

/// Nobody reads any more: it ends without a word, as in `broker sub … | head`.
#[test]
fn a_closed_output_ends_it() {
    let broker = Broker::start_on(&[]);
    let url = url("mqtt", broker.addr_of("mqtt"));
    let mut sub = Sub::start(&broker, &["-t", "x"]);
    // The end of another pipe takes the place of that of its own, which is closed.
    let (pipe, _) = std::io::pipe().expect("a pipe");
    sub.output = BufReader::new(std::os::fd::OwnedFd::from(pipe).into());
    assert_success(&run(&["pub", "-L", &url, "-t", "x", "-m", "x"]));
    let mut errors = String::new();
    let pipe = sub.child.stderr.as_mut().expect("piped");
    pipe.read_to_string(&mut errors).expect("readable");
    assert_eq!((sub.code(), errors.as_str()), (Some(0), ""));
}

#[test]
fn who_is_there_and_who_is_not() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .expect("bound")
        .local_addr()
        .expect("bound")
        .port();
    let publish = ["pub", "-t", "x", "-m", "x", "-q", "1", "-W", "20"];
    for (rest, reason) in [
        (&["-h", "no-such-host.invalid"][..], "no-such-host.invalid"),
        (&["-h", "127.0.0.1", "-p", &closed.to_string()], "Connection refused"),
        (&["--unix", "/no/such/socket"], "/no/such/socket"),
    ] {
        assert_fails(&run(&[&publish[..], rest].concat()), 1, reason);
        assert_fails(&run(&[&["sub", "-t", "x", "-W", "20"], rest].concat()), 1, reason);
    }
    // It accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = silent.local_addr().expect("bound").port().to_string();
    for arguments in [&["pub", "-t", "x", "-m", "x"][..], &["sub", "-t", "x"]] {
        let output = run(&[arguments, &["-h", "127.0.0.1", "-p", &port, "-W", "0.2"]].concat());
        assert_fails(&output, 27, "timed out");
    }
    // What answers is no broker.
    let answering = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = answering.local_addr().expect("bound").port().to_string();
    let thread = std::thread::spawn(move || {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\0\0", b""] {
            let (mut socket, _) = answering.accept().expect("a client");
            assert!(socket.read(&mut [0; 1024]).expect("a CONNECT") > 0);
            socket.write_all(answer).expect("taken");
        }
    });
    for reason in ["broker", "no MQTT", "closed the connection"] {
        let output = run(&[&publish[..], &["-h", "127.0.0.1", "-p", &port]].concat());
        assert_fails(&output, 1, reason);
    }
    thread.join().expect("no panic");
}

/// The exit code is the code of the CONNACK.
#[test]
fn passwords() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("there");
        path.display().to_string()
    };
    let (users, password) = (
        directory.path().join("users").display().to_string(),
        file("password", "s3cret\r\nmore"),
    );
    assert_success(&run_with(b"s3cret", &["passwd", "add", &users, "ann", "--stdin"]));
    let broker = Broker::start_on(&["--password-file", &users]);
    let addr = broker.addr_of("mqtt");
    let plain = url("mqtt", addr);
    let publish = ["pub", "-t", "x", "-m", "x", "-q", "1"];
    for rest in [
        &["-L", &plain, "-u", "ann", "-P", "s3cret"][..],
        &["-L", &plain, "-u", "ann", "--password-file", &password],
        &["-L", &format!("mqtt://ann:s3cret@{addr}")],
    ] {
        assert_success(&run(&[&publish[..], rest].concat()));
    }
    let mut by_environment = tool(&[&publish[..], &["-L", &plain, "-u", "ann"]].concat());
    assert_success(
        &by_environment
            .env("BROKER_PASSWORD", "s3cret")
            .output()
            .expect("the program runs"),
    );
    let wrong = [&publish[..], &["-L", &plain, "-u", "ann", "-P", "wrong"]].concat();
    assert_fails(&run(&wrong), 4, "bad user name or password (4)");
    assert_fails(
        &run(&[&wrong[..], &["-V", "5"]].concat()),
        0x86,
        "Bad User Name or Password (0x86)",
    );
    let nobody = ["sub", "-t", "x", "-L", &plain, "-V", "5"];
    assert_fails(&run(&nobody), 0x87, "Not authorized (0x87)");
    let quiet = run(&[&nobody[..], &["--quiet"]].concat());
    assert_eq!((quiet.status.code(), text(&quiet.stderr)), (Some(0x87), String::new()));
}

/// Those of the broker, and by the broker those of the client. With `--insecure` the authority is checked all the same.
#[test]
fn certificates_are_checked() {
    let (cert, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
    let (client, client_key) = (path("client.pem"), path("client.key"));
    let broker = Broker::start_on(&[
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
        "--tls-port",
        "0",
        "--wss-port",
        "0",
        "--tls-ca",
        &ca,
    ]);
    let (mqtts, wss) = (broker.addr_of("mqtts"), broker.addr_of("wss"));
    let other = path("other-ca.pem");
    for url in [url("mqtts", mqtts), url("wss", wss)] {
        let with = |rest: &[&str]| run(&[&["pub", "-t", "x", "-m", "x", "-q", "1", "-L", &url], rest].concat());
        assert_success(&with(&["--cafile", &ca, "--cert", &client, "--key", &client_key]));
        assert_fails(&with(&["--cafile", &ca]), 1, "CertificateRequired");
        assert_fails(
            &with(&["--cafile", &other, "--cert", &client, "--key", &client_key]),
            1,
            "certificate",
        );
        assert_fails(&with(&["--cafile", "/no/such.pem"]), 1, "/no/such.pem");
        assert_fails(&with(&["--cafile", &key]), 1, "no certificate");
        let wrong_key = with(&["--cafile", &ca, "--cert", &client, "--key", &key]);
        assert_fails(&wrong_key, 1, "server.key");
    }
    // 127.0.0.2 is not in the certificate.
    let broker = Broker::start_on(&[
        "--host",
        "127.0.0.2",
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
        "--tls-port",
        "0",
    ]);
    let url = url("mqtts", broker.addr_of("mqtts"));
    let publish = ["pub", "-t", "x", "-m", "x", "-q", "1", "-L", &url, "--cafile"];
    assert_fails(&run(&[&publish[..], &[&ca]].concat()), 1, "not valid for name");
    assert_success(&run(&[&publish[..], &[&ca, "--insecure"]].concat()));
    // The authority is checked all the same.
    assert_fails(
        &run(&[&publish[..], &[&other, "--insecure"]].concat()),
        1,
        "certificate",
    );
}

/// A message that the broker does not take is not lost in silence, whatever its QoS.
#[test]
fn what_the_broker_does_not_take() {
    let directory = tempfile::tempdir().expect("a directory");
    let acl = directory.path().join("acl");
    std::fs::write(&acl, "topic readwrite open/#\n").expect("written");
    let acl = acl.display().to_string();
    let broker = Broker::start_on(&[
        "--max-packet-size",
        "1000",
        "--max-qos",
        "1",
        "--retain",
        "off",
        "--acl-file",
        &acl,
        "--acl-subscribe",
        "deny",
    ]);
    let url = url("mqtt", broker.addr_of("mqtt"));
    let huge = "x".repeat(1000);
    let with = |rest: &[&str]| run(&[&["pub", "-L", &url], rest].concat());
    let too_large = ["-t", "open/x", "-m", &huge];
    assert_fails(&with(&[&too_large[..], &["-V", "5"]].concat()), 1, "at most 1000");
    for qos in ["0", "1"] {
        let output = with(&[&too_large[..], &["-q", qos]].concat());
        assert_eq!(output.status.code(), Some(1), "QoS {qos}: {output:?}");
    }
    let v5 = ["-t", "open/x", "-m", "x", "-V", "5"];
    assert_fails(&with(&[&v5[..], &["-q", "2"]].concat()), 1, "up to QoS 1");
    assert_fails(&with(&[&v5[..], &["-r"]].concat()), 1, "retained");
    assert_fails(
        &with(&["-t", "closed/x", "-m", "x", "-V", "5", "-q", "1"]),
        1,
        "Not authorized (0x87)",
    );
    assert_success(&with(&["-t", "open/x", "-m", "x", "-V", "5", "-q", "1"]));
    for version in ["311", "5"] {
        let sub = run(&["sub", "-L", &url, "-V", version, "-t", "closed/#", "-W", "30"]);
        assert_eq!(sub.status.code(), Some(1), "{sub:?}");
        assert!(text(&sub.stderr).contains("\"closed/#\""), "{sub:?}");
    }
    let both = run(&["sub", "-L", &url, "-V", "5", "-t", "closed/#", "-t", "open/#", "-E"]);
    assert_eq!(both.status.code(), Some(1), "{both:?}");
    assert!(broker.terminate().success());
}

#[test]
fn wrong_command_lines() {
    for (arguments, code, reason) in [
        ("pub -t x", 2, "--message"),
        ("pub -t x -m x -n", 2, "cannot be used"),
        ("pub -t x -m x -q 3", 2, "must be 0, 1 or 2"),
        ("pub -t x -m x -W -1", 2, "-1"),
        ("sub -t x -C 0", 2, "0"),
        ("sub -t x -L mqtt://h -h h", 2, "cannot be used"),
        ("sub -t x --cert c", 2, "--key"),
        ("pub -m x", 1, "-t"),
        ("pub -t a/# -m x", 1, "a/#"),
        ("pub -t x -f /no/such/file", 1, "/no/such/file"),
        ("pub -t x -m x -L http://h", 1, "http"),
        ("pub -t x -m x -P x", 1, "user name"),
        ("pub -t x -m x -u x --password-file /no/such", 1, "/no/such"),
        ("pub -t x -m x -c", 1, "-i"),
        ("pub -t x -m x -V 311 -x 5", 1, "MQTT 5.0"),
        ("pub -t x -m x -D publish topic-alias x", 1, "topic-alias"),
        ("pub -t x -m x --will-topic a/#", 1, "--will-topic"),
        ("pub -t x -m x --insecure", 1, "--insecure"),
        ("sub", 1, "-t"),
        ("sub -t a/b#", 1, "a/b#"),
        ("sub -t x -F %J", 1, "%J"),
        ("sub -t x --retain-as-published", 1, "MQTT 5.0"),
    ] {
        let output = run(&arguments.split(' ').collect::<Vec<_>>());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {said}");
        assert!(said.contains(reason) && output.stdout.is_empty(), "{arguments}: {said}");
    }
}

/// Every shell that is named gets its completions, and every command a page.
#[test]
fn completions_and_pages() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert_success(&output);
        assert!(text(&output.stdout).contains("retained-only"), "{shell}");
    }
    let page = run(&["man"]);
    assert_success(&page);
    assert!(text(&page.stdout).contains(".TH broker 1") && text(&page.stdout).contains("max\\-packet\\-size"));
    let directory = tempfile::tempdir().expect("a directory");
    let to = directory.path().join("man1");
    let mut pages = tool(&["man", "--dir", &to.display().to_string()]);
    let output = pages.env("BROKER_MAX_QOS", "1").output().expect("the program runs");
    assert_success(&output);
    for name in [
        "broker",
        "broker-pub",
        "broker-sub",
        "broker-healthcheck",
        "broker-bench-p2p",
    ] {
        let page = std::fs::read_to_string(to.join(format!("{name}.1"))).expect("a page");
        assert!(
            page.contains(".SH NAME") && !page.contains("BROKER_MAX_QOS=1"),
            "{name}"
        );
    }
    assert_fails(&run(&["man", "--dir", "/proc/nowhere"]), 1, "/proc/nowhere");
}
