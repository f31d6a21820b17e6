//! `broker healthcheck`: which brokers are healthy, and how it finds the one to ask.

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

use common::certificates::path;
use common::*;

/// With these arguments and variables, and no others.
fn check(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BROKER_")) {
        command.env_remove(name);
    }
    let command = command
        .arg("healthcheck")
        .args(arguments)
        .envs(variables.iter().copied());
    command.output().expect("the program runs")
}

#[track_caller]
fn healthy(arguments: &[&str], variables: &[(&str, &str)], what: &str) {
    let output = check(arguments, variables);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        (said.as_str(), output.stderr.is_empty()),
        (format!("{what} answers\n").as_str(), true)
    );
}

/// It ends with 1, and one line says why.
#[track_caller]
fn unhealthy(arguments: &[&str], variables: &[(&str, &str)], reason: &str) {
    let output = check(arguments, variables);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        said.contains(reason) && said.lines().count() == 1 && output.stdout.is_empty(),
        "{said}"
    );
}

/// What a container has in its environment is enough.
#[test]
fn the_environment_says_where() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("mqtt.sock").display().to_string();
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
        &socket,
        "--http-port",
        "0",
        "--ws-path",
        "/other",
    ]);
    let port = |scheme: &str| broker.addr_of(scheme).port().to_string();
    let (mqtt, mqtts, ws, wss, http) = (port("mqtt"), port("mqtts"), port("ws"), port("wss"), port("http"));
    let tls = [
        ("BROKER_NO_TCP", "true"),
        ("BROKER_TLS_CERT", &cert),
        ("BROKER_TLS_KEY", &key),
    ];
    healthy(&[], &[("BROKER_PORT", &mqtt)], &format!("mqtt://127.0.0.1:{mqtt}"));
    let host = ("BROKER_HOST", "0.0.0.0");
    healthy(
        &[],
        &[("BROKER_PORT", &mqtt), host],
        &format!("mqtt://127.0.0.1:{mqtt}"),
    );
    healthy(
        &[],
        &[
            ("BROKER_NO_TCP", "true"),
            ("BROKER_WS_PORT", &ws),
            ("BROKER_WS_PATH", "/other"),
        ],
        &format!("ws://127.0.0.1:{ws}/other"),
    );
    healthy(
        &[],
        &[&tls[..], &[("BROKER_TLS_PORT", &mqtts)]].concat(),
        &format!("mqtts://127.0.0.1:{mqtts}"),
    );
    healthy(
        &[],
        &[
            &tls[..],
            &[
                ("BROKER_TLS_PORT", "off"),
                ("BROKER_WSS_PORT", &wss),
                ("BROKER_WS_PATH", "/other"),
            ],
        ]
        .concat(),
        &format!("wss://127.0.0.1:{wss}/other"),
    );
    let by_socket = [("BROKER_NO_TCP", "true"), ("BROKER_UNIX_SOCKET", socket.as_str())];
    healthy(&[], &by_socket, &format!("mqtt+unix://{socket}"));
    healthy(
        &["--http"],
        &[("BROKER_HTTP_PORT", &http)],
        &format!("http://127.0.0.1:{http}/readyz"),
    );
    // Behind a proxy alone: only HTTP can be asked.
    let proxied = [
        ("BROKER_PROXY_PROTOCOL", "tcp"),
        ("BROKER_TRUSTED_PROXIES", "10.0.0.0/8"),
        ("BROKER_PORT", &mqtt),
    ];
    healthy(
        &[],
        &[&proxied[..], &[("BROKER_HTTP_PORT", &http)]].concat(),
        &format!("http://127.0.0.1:{http}/readyz"),
    );
    unhealthy(&[], &proxied, "no listener that could be asked");
    unhealthy(&["--http"], &[("BROKER_PORT", &mqtt)], "BROKER_HTTP_PORT");
    let wrong = check(&[], &[("BROKER_PORT", "1883x")]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("1883x"), "{wrong:?}");
    // The form that Kubernetes gives it stands for the default.
    let kubernetes = check(
        &[],
        &[("BROKER_PORT", "tcp://10.0.0.1:1883"), ("BROKER_HOST", "127.0.0.9")],
    );
    assert!(
        String::from_utf8_lossy(&kubernetes.stderr).contains("mqtt://127.0.0.9:1883"),
        "{kubernetes:?}"
    );
}

#[test]
fn the_configuration_file_says_where() {
    let broker = Broker::start_on(&[]);
    let port = broker.addr_of("mqtt").port();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("host = \"127.0.0.1\"\nport = {port}\n")).expect("written");
    let name = file.path().display().to_string();
    healthy(&[], &[("BROKER_CONFIG", &name)], &format!("mqtt://127.0.0.1:{port}"));
    let table = format!("[[listener]]\nhost = \"127.0.0.1\"\nport = {port}\n");
    std::fs::write(file.path(), table).expect("written");
    healthy(&[], &[("BROKER_CONFIG", &name)], &format!("mqtt://127.0.0.1:{port}"));
    std::fs::write(file.path(), "prot = 1\n").expect("written");
    unhealthy(&[], &[("BROKER_CONFIG", &name)], "there is no setting \"prot\"");
}

#[test]
fn arguments_say_where() {
    let broker = Broker::start_on(&["--ws-port", "0", "--http-port", "0"]);
    let (mqtt, ws, http) = (broker.addr_of("mqtt"), broker.addr_of("ws"), broker.addr_of("http"));
    // What the environment says of another broker does not matter.
    let other = [("BROKER_PORT", "1"), ("BROKER_HTTP_PORT", "1")];
    healthy(&["--port", &mqtt.port().to_string()], &other, &format!("mqtt://{mqtt}"));
    let by_host = ["--host", "localhost", "--port", &mqtt.port().to_string()];
    healthy(&by_host, &[], &format!("mqtt://localhost:{}", mqtt.port()));
    healthy(&[&format!("ws://{ws}")], &[], &format!("ws://{ws}/mqtt"));
    healthy(
        &[&format!("--http=http://{http}")],
        &[],
        &format!("http://{http}/readyz"),
    );
    healthy(
        &[&format!("--http=http://{http}/healthz")],
        &[],
        &format!("http://{http}/healthz"),
    );
    unhealthy(&[&format!("--http=http://{http}/nothing")], &[], "the answer is 404");
    unhealthy(&[&format!("--http=https://{http}/")], &[], "http://");
    unhealthy(&["ftp://localhost"], &[], "ftp");
    assert_eq!(check(&["mqtt://localhost", "--port", "1"], &[]).status.code(), Some(2));
}

/// A broker that refuses, or wants to see a certificate, lives.
#[test]
fn a_refusal_is_an_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let users = directory.path().join("users");
    std::fs::write(&users, "").expect("written");
    let (cert, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
    let broker = Broker::start_on(&[
        "--password-file",
        &users.display().to_string(),
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
        "--tls-port",
        "0",
        "--tls-ca",
        &ca,
        "--max-connections",
        "1",
    ]);
    for scheme in ["mqtt", "mqtts"] {
        let url = format!("{scheme}://{}", broker.addr_of(scheme));
        healthy(&[&url], &[], &url);
    }
}

/// Nobody, somebody else, and one that says nothing.
#[test]
fn what_is_not_healthy() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("bound").port().to_string();
    let http = format!("--http=http://127.0.0.1:{port}");
    for arguments in [
        &["--port", &port][..],
        &[&format!("mqtts://127.0.0.1:{port}")],
        &[&http],
    ] {
        unhealthy(
            &[arguments, &["--timeout", "0.2"]].concat(),
            &[],
            "no answer within 0.2 seconds",
        );
    }
    let thread = std::thread::spawn(move || {
        // The three before have gone, and are still to be accepted.
        for _ in 0..6 {
            let (mut socket, _) = listener.accept().expect("a client");
            let _ = socket.read(&mut [0; 1024]);
            let _ = socket.write_all(b"SSH-2.0-x\r\n\r\n");
        }
    });
    unhealthy(&["--port", &port], &[], "127.0.0.1");
    unhealthy(&[&format!("ws://127.0.0.1:{port}")], &[], "no WebSocket there");
    unhealthy(&[&http], &[], "does not speak HTTP");
    thread.join().expect("no panic");
    unhealthy(&["--port", &port], &[], "Connection refused");
    unhealthy(&["--host", "no-such-host.invalid"], &[], "no-such-host.invalid");
    unhealthy(&["mqtt+unix:///no/such/socket"], &[], "/no/such/socket");
}
