//! TLS: who is let in, and certificates that are replaced while the broker runs. What MQTT does over it is the matter of
//! the other files, which run over every transport (`tests/over`).

mod common;
use common::*;
use std::io;
use std::sync::Arc;
use std::time::Instant;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};

const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];

/// Copies of certificates that a test may change, and their broker's options.
struct Files(tempfile::TempDir);

impl Files {
    /// `server.pem` and `server.key`, as `cert` and `key`.
    fn new() -> Files {
        let files = Files(tempfile::tempdir().expect("a directory"));
        files.copy("server.pem", "cert");
        files.copy("server.key", "key");
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("a path in UTF-8").to_owned()
    }

    fn copy(&self, from: &str, to: &str) {
        std::fs::copy(certificates::path(from), self.path(to)).expect("copied");
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).expect("written");
    }

    /// Replaces a file so that neither its size nor its time tells.
    fn replace_unseen(&self, from: &str, to: &str) {
        let before = std::fs::metadata(self.path(to)).expect("a file");
        let mut text = std::fs::read(certificates::path(from)).expect("a file");
        let size = usize::try_from(before.len()).expect("a small file");
        assert!(text.len() <= size + 1, "{from} does not fit over {to}");
        text.resize(size, b'\n');
        self.write(to, text);
        let file = std::fs::File::options()
            .append(true)
            .open(self.path(to))
            .expect("a file");
        file.set_modified(before.modified().expect("a time")).expect("set");
    }

    fn start(&self, more: &[&str]) -> Broker {
        start_with(&self.path("cert"), &self.path("key"), more)
    }
}

fn start(more: &[&str]) -> Broker {
    start_with(
        &certificates::path("server.pem"),
        &certificates::path("server.key"),
        more,
    )
}

fn start_with(cert: &str, key: &str, more: &[&str]) -> Broker {
    let options = ["-v", "--tls-port", "0", "--tls-cert", cert, "--tls-key", key];
    Broker::start_on(&[&options, more].concat())
}

fn open(broker: &Broker, config: &Arc<ClientConfig>) -> io::Result<Stream> {
    Stream::tcp(broker.addr_of("mqtts")).tls(config)
}

fn connect(broker: &Broker, config: &Arc<ClientConfig>, client_id: &str) -> Client {
    let stream = open(broker, config).expect("a handshake");
    let mut client = broker.connect_on(stream, Connect::v5(client_id));
    // What TLS sends behind its handshake has come then.
    client.ping();
    client
}

/// Expects that the handshake fails. In TLS 1.3 the client is told after its own part.
fn expect_refused(broker: &Broker, config: &Arc<ClientConfig>, why: &str) {
    let refused = match open(broker, config) {
        Ok(mut stream) => stream.read(&mut [0; 16], DEADLINE).is_err(),
        Err(_) => true,
    };
    assert!(refused, "not refused by an alert: {why}");
    broker.expect_log(why);
}

fn leaf(client: &mut Client) -> CertificateDer<'static> {
    let chain = client
        .stream()
        .secured()
        .peer_certificates()
        .expect("a server with a certificate");
    chain[0].clone()
}

/// What the broker says until it closes, as bytes.
fn read_to_end(mut stream: Stream) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut buffer, DEADLINE) {
        all.extend_from_slice(&buffer[..count]);
    }
    all
}

/// TLS 1.2 and 1.3 are spoken, and the broker ends them in order.
#[test]
fn both_versions() {
    let broker = start(&[]);
    for versions in VERSIONS {
        let mut client = connect(&broker, &certificates::client(None, versions), "client");
        assert_eq!(client.stream().secured().protocol_version(), Some(versions[0].version));
        client.disconnect();
        assert!(client.stream().has_ended_in_order(), "no close_notify");
    }
}

/// A client of TLS 1.1 is told that its version is not supported.
#[test]
fn older_versions_are_refused() {
    let broker = start(&[]);
    let mut bystander = Bystander::new(&broker);
    // Two ciphers, and the algorithms of a signature.
    let extensions = [0, 8, 0, 0x0D, 0, 4, 0, 2, 4, 3];
    let body = [
        &[3, 2][..],
        &[7; 32],
        &[0, 0, 4, 0xC0, 0x13, 0, 0x2F, 1, 0],
        &extensions,
    ]
    .concat();
    let size = body.len() as u8;
    let hello = [&[0x16, 3, 1, 0, size + 4, 1, 0, 0, size][..], &body].concat();
    let mut stream = Stream::tcp(broker.addr_of("mqtts"));
    stream.write_all(&hello).expect("open");
    // A fatal alert: protocol_version.
    assert_eq!(read_to_end(stream), [0x15, 3, 3, 0, 2, 2, 70]);
    broker.expect_log("connection refused");
    bystander.is_served();
}

/// A client of plain MQTT on the TLS port is cut, and the log says what it may be.
#[test]
fn plain_mqtt_on_the_tls_port() {
    let broker = start(&[]);
    let mut bystander = Bystander::new(&broker);
    for version in Version::ALL {
        let mut stream = Stream::tcp(broker.addr_of("mqtts"));
        stream
            .write_all(&Packet::from(Connect::new(version, "plain")).encode(version))
            .expect("open");
        let answer = read_to_end(stream);
        assert!(
            answer.first().is_none_or(|byte| *byte == 0x15),
            "not an alert: {answer:02x?}"
        );
        broker.expect_log("the client does not speak TLS, but perhaps plain MQTT");
        bystander.is_served();
    }
}

/// A client of TLS on the plain port is cut, and the log says so.
#[test]
fn tls_on_the_plain_port() {
    let broker = start(&[]);
    let mut bystander = Bystander::new(&broker);
    let handshake = Stream::tcp(broker.addr()).tls(&certificates::any_client());
    assert!(handshake.is_err(), "a handshake with plain MQTT");
    broker.expect_log("TLS on a port without TLS");
    bystander.is_served();
}

/// A client that does not go on with its handshake is cut after the time for its CONNECT.
#[test]
fn handshakes_that_never_end() {
    let (cert, key) = (certificates::path("server.pem"), certificates::path("server.key"));
    let tls = [
        "-v",
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
        "--tls-port",
        "0",
        "--wss-port",
        "0",
    ];
    let broker = Broker::start_on(&[&tls[..], &["--connect-timeout", "1"]].concat());
    let mut bystander = Bystander::new(&broker);
    for scheme in ["mqtts", "wss"] {
        for beginning in [&[][..], &[0x16], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]] {
            let start = Instant::now();
            let mut stream = Stream::tcp(broker.addr_of(scheme));
            stream.write_all(beginning).expect("open");
            bystander.is_served();
            assert!(read_to_end(stream).is_empty());
            assert_elapsed(start, 0.9, 8.0);
            broker.expect_log("its handshake took too long");
        }
    }
    // Nor may a client stop behind its handshake.
    let start = Instant::now();
    let mut silent = Client::on(
        open(&broker, &certificates::any_client()).expect("a handshake"),
        Version::V5,
    );
    silent.expect_closed();
    assert_elapsed(start, 0.9, 8.0);
    bystander.is_served();
}

/// The time until the CONNECT begins with the connection: a handshake does not prolong it.
#[test]
fn a_slow_handshake_leaves_less_time() {
    let broker = start(&["--connect-timeout", "3"]);
    let start = Instant::now();
    let stream = Stream::tcp(broker.addr_of("mqtts"));
    broker.let_time_pass();
    let stream = stream.tls(&certificates::any_client()).expect("a handshake");
    Client::on(stream, Version::V5).expect_closed();
    assert_elapsed(start, 2.9, 4.4);
}

/// With `--tls-ca` a client needs a certificate that is valid now, not revoked, and of this authority.
#[test]
fn required_certificates() {
    let (ca, crl) = (certificates::path("ca.pem"), certificates::path("crl.pem"));
    let broker = start(&["--tls-ca", &ca, "--tls-crl", &crl]);
    let mut bystander = Bystander::new(&broker);
    for versions in VERSIONS {
        let refused = [
            (None, "the client has no certificate"),
            (
                Some("expired"),
                "the client's certificate is refused: certificate expired",
            ),
            (Some("self-signed"), "the client's certificate is refused: "),
            (Some("other"), "the client's certificate is refused: "),
            (Some("revoked"), "the client's certificate is refused: Revoked"),
        ];
        for (name, why) in refused {
            expect_refused(&broker, &certificates::client(name, versions), why);
            bystander.is_served();
        }
        connect(&broker, &certificates::client(Some("client"), versions), "client").disconnect();
    }
}

/// `--tls-client-auth optional` lets clients in that have no certificate, and none whose certificate is not valid;
/// `none` asks for none.
#[test]
fn optional_certificates() {
    let ca = certificates::path("ca.pem");
    let broker = start(&["--tls-ca", &ca, "--tls-client-auth", "optional"]);
    let unasked = start(&["--tls-ca", &ca, "--tls-client-auth", "none"]);
    for versions in VERSIONS {
        for name in [None, Some("client")] {
            connect(&broker, &certificates::client(name, versions), "client").disconnect();
        }
        let expired = certificates::client(Some("expired"), versions);
        expect_refused(&broker, &expired, "the client's certificate is refused");
        connect(&unasked, &expired, "client").disconnect();
    }
}

/// WebSocket clients within TLS need the same certificates.
#[test]
fn required_certificates_for_websocket() {
    let ca = certificates::path("ca.pem");
    let broker = start(&["--tls-ca", &ca, "--wss-port", "0"]);
    let open = |certificate| {
        let config = certificates::client(certificate, &[&TLS13]);
        let stream = Stream::tcp(broker.addr_of("wss")).tls(&config)?;
        stream.websocket("/mqtt")
    };
    for refused in [None, Some("other")] {
        assert!(open(refused).is_err(), "{refused:?}");
        broker.expect_log("connection refused");
    }
    let stream = open(Some("client")).expect("a connection");
    broker.connect_on(stream, Connect::v5("client")).ping();
}

/// With `--tls-username` a certificate must have the name that it asks for. (What becomes of the name is seen by hooks:
/// `tests/embedding/listeners.rs`.)
#[test]
fn certificates_without_a_name() {
    let ca = certificates::path("ca.pem");
    let nameless = certificates::client(Some("nameless"), &[&TLS13]);
    let by_common_name = start(&["--tls-ca", &ca, "--tls-username", "cn"]);
    connect(&by_common_name, &nameless, "client").disconnect();
    let by_alternative_name = start(&["--tls-ca", &ca, "--tls-username", "san"]);
    let mut stream = open(&by_alternative_name, &nameless).expect("a handshake");
    assert!(matches!(stream.read(&mut [0; 16], DEADLINE), Ok(0) | Err(_)), "served");
    by_alternative_name.expect_log("the client's certificate has no name for its user");
    let client = certificates::client(Some("client"), &[&TLS13]);
    connect(&by_alternative_name, &client, "client").disconnect();
}

/// A client that offers `mqtt` by ALPN is answered so; one that offers something else is served as well.
#[test]
fn protocol_names() {
    let broker = start(&[]);
    for (offered, chosen) in [
        (vec!["h2", "mqtt"], Some("mqtt")),
        (vec!["x-amzn-mqtt-ca"], None),
        (vec![], None),
    ] {
        let mut config = ClientConfig::clone(&certificates::any_client());
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut client = connect(&broker, &Arc::new(config), "client");
        assert_eq!(
            client.stream().secured().alpn_protocol(),
            chosen.map(str::as_bytes),
            "{offered:?}"
        );
    }
}

/// A client that comes back resumes its session of TLS. After a reload it does not, and is asked again who it is: a
/// certificate that was revoked meanwhile is refused.
#[test]
fn resumption_ends_with_a_reload() {
    for versions in VERSIONS {
        let files = Files::new();
        files.copy("empty-crl.pem", "crl");
        let (ca, crl) = (certificates::path("ca.pem"), files.path("crl"));
        let broker = files.start(&["--tls-ca", &ca, "--tls-crl", &crl]);
        let [good, revoked] = ["client", "revoked"].map(|name| certificates::client(Some(name), versions));
        for config in [&good, &revoked] {
            for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let mut client = connect(&broker, config, "client");
                assert_eq!(
                    client.stream().secured().handshake_kind(),
                    Some(expected),
                    "{versions:?}"
                );
            }
        }
        files.copy("crl.pem", "crl");
        broker.signal("HUP");
        broker.expect_log("certificates reloaded");
        expect_refused(&broker, &revoked, "certificate is refused: Revoked");
        let mut client = connect(&broker, &good, "client");
        assert_eq!(client.stream().secured().handshake_kind(), Some(HandshakeKind::Full));
    }
}

/// SIGHUP reads the files again although nothing tells that they have changed: new connections get the new certificate,
/// and connections that are open go on.
#[test]
fn reload_by_signal() {
    let files = Files::new();
    // Room for any other certificate.
    for name in ["cert", "key"] {
        let text = std::fs::read(files.path(name)).expect("a file");
        files.write(name, [text, vec![b'\n'; 100]].concat());
    }
    let broker = files.start(&[]);
    let client = certificates::any_client();
    let mut old = connect(&broker, &client, "old");
    assert_eq!(leaf(&mut old), certificates::read("server.pem")[0]);
    old.subscribe("t", 1);
    files.replace_unseen("server2.pem", "cert");
    files.replace_unseen("server2.key", "key");
    broker.signal("HUP");
    broker.expect_log("certificates reloaded");
    let mut new = connect(&broker, &client, "new");
    assert_eq!(leaf(&mut new), certificates::read("server2.pem")[0]);
    new.publish("t", "x", 1);
    old.expect_message("t", "x");
}

/// Files that change are read again without a signal: new connections get the new certificate.
#[test]
fn reload_by_change() {
    let files = Files::new();
    let broker = files.start(&[]);
    let mut old = connect(&broker, &certificates::any_client(), "old");
    files.copy("server2.key", "key");
    files.copy("server2.pem", "cert");
    broker.expect_log("certificates reloaded");
    let mut new = connect(&broker, &certificates::any_client(), "new");
    assert_eq!(leaf(&mut new), certificates::read("server2.pem")[0]);
    old.ping();
}

/// Files that can't be used leave the old ones in service, and the log says which and why.
#[test]
fn a_reload_that_fails() {
    let files = Files::new();
    let broker = files.start(&[]);
    let server = certificates::read("server.pem");
    let mut old = connect(&broker, &certificates::any_client(), "old");
    let faults: [(&dyn Fn(), &str); 3] = [
        (
            &|| files.copy("server2.key", "key"),
            "key: the key does not belong to the certificate in ",
        ),
        (
            &|| files.write("cert", "garbage"),
            "cert: there is no certificate in it",
        ),
        (
            &|| std::fs::remove_file(files.path("cert")).expect("removed"),
            "cert: No such file",
        ),
    ];
    for (fault, why) in faults {
        fault();
        broker.signal("HUP");
        broker.expect_log("ERROR");
        broker.expect_log("the old ones stay in service");
        broker.expect_log(why);
        let mut new = connect(&broker, &certificates::any_client(), "new");
        assert_eq!(leaf(&mut new), server[0]);
        old.ping();
    }
    files.copy("server2.pem", "cert");
    broker.signal("HUP");
    broker.expect_log("certificates reloaded");
}

/// A certificate or key that can't be used stops the start with exit code 1, and a message that names the file and what
/// is wrong with it.
#[test]
fn files_that_stop_the_start() {
    let files = Files::new();
    let pem = |kind: &str| format!("-----BEGIN {kind}-----\nMAAA\n-----END {kind}-----\n");
    files.write("empty", "");
    files.write("encrypted", pem("ENCRYPTED PRIVATE KEY"));
    files.write(
        "pkcs1",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMAAA\n-----END RSA PRIVATE KEY-----\n",
    );
    files.write("bad certificate", pem("CERTIFICATE"));
    files.write("bad key", pem("PRIVATE KEY"));
    files.write("bad list", pem("X509 CRL"));
    files.write("cut", "-----BEGIN CERTIFICATE-----\nMAAA\n");
    for (name, from) in [("other key", "server2.key"), ("ca", "ca.pem")] {
        files.copy(from, name);
    }
    std::fs::create_dir(files.path("directory")).expect("a directory");
    let cases = [
        ("--tls-cert", "missing", "No such file"),
        ("--tls-cert", "directory", "Is a directory"),
        ("--tls-cert", "empty", "there is no certificate in it"),
        ("--tls-cert", "key", "there is no certificate in it"),
        ("--tls-cert", "cut", "no valid PEM"),
        ("--tls-cert", "bad certificate", "no valid certificate"),
        ("--tls-key", "missing", "No such file"),
        ("--tls-key", "cert", "there is no private key in it"),
        ("--tls-key", "encrypted", "the key is encrypted"),
        ("--tls-key", "pkcs1", "the key is encrypted"),
        ("--tls-key", "bad key", ""),
        (
            "--tls-key",
            "other key",
            "the key does not belong to the certificate in ",
        ),
        ("--tls-ca", "missing", "No such file"),
        ("--tls-ca", "bad certificate", "not the certificate of an authority"),
        ("--tls-crl", "missing", "No such file"),
        ("--tls-crl", "ca", "there is no revocation list in it"),
        ("--tls-crl", "bad list", ""),
    ];
    for (option, file, reason) in cases {
        let usual = [("--tls-cert", "cert"), ("--tls-key", "key"), ("--tls-ca", "ca")];
        let usual = usual.into_iter().filter(|(name, _)| *name != option);
        let options = usual.chain([(option, file)]);
        let options: Vec<String> = options
            .flat_map(|(name, file)| [name.to_owned(), files.path(file)])
            .collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let (code, said) = Broker::cannot_start(&[&options[..], &["--tls-port", "0"]].concat());
        assert_eq!(code, Some(1), "{option} {file}: {said}");
        let expected = format!("broker: {}: {reason}", files.path(file));
        assert!(said.contains(&expected), "{option} {file}: {said}");
        assert!(said.lines().count() == 1, "{option} {file}: {said}");
    }
}

/// SIGTERM: a client is told 0x8B within TLS, whose end follows in order; a handshake that is under way does not hold up
/// the end.
#[test]
fn the_end_of_the_broker() {
    let broker = start(&[]);
    let mut client = connect(&broker, &certificates::any_client(), "client");
    let _halfway = Stream::tcp(broker.addr_of("mqtts"));
    let start = Instant::now();
    broker.signal("TERM");
    client.expect_disconnect(code::SERVER_SHUTTING_DOWN);
    assert!(client.stream().has_ended_in_order(), "no close_notify");
    assert_eq!(broker.wait().code(), Some(0));
    assert_elapsed(start, 0.0, 4.0);
}
