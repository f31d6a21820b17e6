//! Enhanced authentication (section 4.12) by SCRAM-SHA-256. The client here is written from RFC 5802 and RFC 7677.

mod common;
use common::*;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use aws_lc_rs::{digest, hmac};
use data_encoding::BASE64;
use tempfile::TempDir;

const METHOD: &str = "SCRAM-SHA-256";
const CONTINUE: u8 = 0x18;
const REAUTHENTICATE: u8 = 0x19;
const PROTOCOL_ERROR: u8 = 0x82;
const NOT_AUTHORIZED: u8 = 0x87;
const BAD_METHOD: u8 = 0x8C;
const RATE_EXCEEDED: u8 = 0x9F;

/// The side of the client.
struct Scram {
    user: String,
    password: String,
    nonce: String,
    server_first: String,
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, message).as_ref().to_vec()
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

impl Scram {
    fn new(user: &str, password: &str) -> Scram {
        Scram {
            user: user.into(),
            password: password.into(),
            nonce: "fyko+d2lbbFgONRv9qkxdawL".into(),
            server_first: String::new(),
        }
    }

    fn bare(&self) -> String {
        format!("n={},r={}", self.user, self.nonce)
    }

    fn first(&self) -> String {
        format!("n,,{}", self.bare())
    }

    fn value(&self, name: &str) -> String {
        let mut fields = self.server_first.split(',');
        let field = fields.find_map(|field| field.strip_prefix(name));
        field
            .unwrap_or_else(|| panic!("no {name} in {}", self.server_first))
            .to_owned()
    }

    /// `Hi(password, salt, i)`
    fn salted_password(&self) -> Vec<u8> {
        let salt = BASE64.decode(self.value("s=").as_bytes()).expect("base64");
        let iterations: u32 = self.value("i=").parse().expect("a number");
        assert!(iterations >= 4096, "RFC 7677 asks for 4096 at least");
        let password = self.password.as_bytes();
        let mut last = mac(password, &[&salt[..], &1_u32.to_be_bytes()].concat());
        let mut all = last.clone();
        for _ in 1..iterations {
            last = mac(password, &last);
            all = xor(&all, &last);
        }
        all
    }

    fn without_proof(&self) -> String {
        let nonce = self.value("r=");
        assert!(
            nonce.starts_with(&self.nonce) && nonce.len() > self.nonce.len(),
            "{nonce}"
        );
        format!("c=biws,r={nonce}")
    }

    fn auth_message(&self) -> String {
        format!("{},{},{}", self.bare(), self.server_first, self.without_proof())
    }

    /// Answers the first message of the server.
    fn last(&mut self, server_first: &str) -> String {
        self.server_first = server_first.to_owned();
        let client_key = mac(&self.salted_password(), b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let signature = mac(stored_key.as_ref(), self.auth_message().as_bytes());
        let proof = BASE64.encode(&xor(&client_key, &signature));
        format!("{},p={proof}", self.without_proof())
    }

    /// Whether the server knows the password, too.
    fn check(&self, server_last: &str) {
        let server_key = mac(&self.salted_password(), b"Server Key");
        let signature = mac(&server_key, self.auth_message().as_bytes());
        assert_eq!(server_last, format!("v={}", BASE64.encode(&signature)));
    }
}

fn data(props: &Props) -> String {
    String::from_utf8(props.auth_data().expect("Authentication Data")).expect("UTF-8")
}

fn connect(client_id: &str, data: &str) -> Connect {
    Connect::v5(client_id)
        .prop(Prop::AuthMethod(METHOD.into()))
        .prop(Prop::AuthData(data.into()))
}

fn auth(reason: u8, data: &str) -> Auth {
    Auth::new(reason)
        .prop(Prop::AuthMethod(METHOD.into()))
        .prop(Prop::AuthData(data.into()))
}

/// The next packet, which must be AUTH with this code and the method of the CONNECT; its data.
fn expect_auth(client: &mut Client, reason: u8) -> String {
    match client.recv() {
        Packet::Auth(auth) => {
            assert_eq!(auth.reason, reason, "{auth:?}");
            assert_eq!(auth.props.auth_method().as_deref(), Some(METHOD));
            assert_eq!(auth.props.0.len(), 2, "method and data only: {auth:?}");
            data(&auth.props)
        }
        other => panic!("AUTH {reason:#x} was expected: {other:?}"),
    }
}

/// Sends the CONNECT; the challenge of the broker.
fn begin(broker: &Broker, connect: Connect) -> (Client, String) {
    let mut client = broker.open(Version::V5);
    client.send(connect);
    let challenge = expect_auth(&mut client, CONTINUE);
    (client, challenge)
}

fn log_in(broker: &Broker, client_id: &str, scram: &mut Scram) -> Client {
    let (mut client, challenge) = begin(broker, connect(client_id, &scram.first()));
    client.send(auth(CONTINUE, &scram.last(&challenge)));
    client.connack = client.recv_connack();
    assert_eq!(client.connack.code, 0, "{:?}", client.connack);
    assert_eq!(client.connack.props.auth_method().as_deref(), Some(METHOD));
    scram.check(&data(&client.connack.props));
    client
}

struct Users(TempDir);

impl Users {
    /// "ann" may use SCRAM, "bob" has a password only.
    fn new() -> Users {
        let users = Users(tempfile::tempdir().expect("a directory"));
        users.add("ann", "pencil", &["--scram"]);
        users.add("bob", "pen", &[]);
        users
    }

    fn file(&self) -> String {
        self.0.path().join("users").to_str().expect("UTF-8").to_owned()
    }

    fn add(&self, user: &str, password: &str, options: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
        let command = command
            .args(["passwd", "add", &self.file(), user, "--stdin"])
            .args(options);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("started");
        writeln!(child.stdin.take().expect("piped"), "{password}").expect("written");
        assert!(child.wait().expect("ended").success());
    }

    fn broker(&self, options: &[&str]) -> Broker {
        Broker::start(&[&["--password-file", &self.file()], options].concat())
    }
}

/// The exchange of section 4.12: AUTH 0x18 [MQTT-4.12.0-2] [MQTT-4.12.0-3], the method in all packets [MQTT-4.12.0-5],
/// without a word that the client did not ask for [MQTT-3.15.2-3]. Both sides have proven that they know the password.
#[test]
fn a_user_logs_in() {
    let users = Users::new();
    let acl = users.0.path().join("acl");
    fs::write(&acl, "user ann\ntopic readwrite ann/#\n").expect("written");
    let broker = users.broker(&["--acl-file", acl.to_str().expect("UTF-8"), "--acl-subscribe", "deny"]);
    let mut client = log_in(&broker, "c", &mut Scram::new("ann", "pencil"));
    // She is ann from now on.
    client.subscribe("ann/a", 1);
    assert_eq!(client.try_subscribe("bob/a", 1), NOT_AUTHORIZED);
    client.publish("ann/a", "mine", 1);
    client.expect_message("ann/a", "mine");
    // With a name in the CONNECT, and by password.
    let mut scram = Scram::new("ann", "pencil");
    let named = connect("d", &scram.first()).username("ann");
    let (mut client, challenge) = begin(&broker, named);
    client.send(auth(CONTINUE, &scram.last(&challenge)));
    assert_eq!(client.recv_connack().code, 0);
    for version in Version::ALL {
        broker
            .connect(Connect::new(version, "e").credentials("ann", "pencil"))
            .disconnect();
        let wrong = if version.is_v5() { 0x86 } else { 4 };
        broker.expect_refused(Connect::new(version, "e").credentials("ann", "pen"), wrong);
    }
}

/// A wrong proof, whoever gives it, is refused with 0x87, and the connection closed [MQTT-4.12.0-4]. Who exists is not
/// told: the challenge of an unknown user looks like others, and stays the same.
#[test]
fn a_wrong_proof_is_refused() {
    let users = Users::new();
    let broker = users.broker(&[]);
    let mut salts = Vec::new();
    for (user, password) in [("ann", "pen"), ("bob", "pen"), ("carl", "pencil"), ("carl", "")] {
        let mut scram = Scram::new(user, password);
        let (mut client, challenge) = begin(&broker, connect("c", &scram.first()));
        client.send(auth(CONTINUE, &scram.last(&challenge)));
        assert_eq!(client.recv_connack().code, NOT_AUTHORIZED, "{user}");
        client.expect_closed();
        salts.push((scram.value("s="), scram.value("i=")));
    }
    assert_eq!(salts[2], salts[3]);
    assert!(salts[0] != salts[1] && salts[1] != salts[2]);
    assert!(
        salts
            .iter()
            .all(|(salt, iterations)| (salt.len(), iterations) == (salts[0].0.len(), &salts[0].1))
    );
    // Also by another broker with the same file.
    let again = users.broker(&[]);
    let mut scram = Scram::new("carl", "");
    scram.server_first = begin(&again, connect("c", &scram.first())).1;
    assert_eq!(scram.value("s="), salts[2].0);
}

/// Messages that are none of SCRAM's, names that are another's, and replays.
#[test]
fn other_messages_are_refused() {
    let users = Users::new();
    let broker = users.broker(&[]);
    let refused = |connect: Connect, code| {
        broker.expect_refused(connect, code);
    };
    for first in [
        "",
        "n,,n=ann",
        "p=tls-unique,,n=ann,r=x",
        "n,a=bob,n=ann,r=x",
        "n,,n=ann=,r=x",
        "\0",
    ] {
        refused(connect("c", first), NOT_AUTHORIZED);
    }
    let no_data = Connect::v5("c").prop(Prop::AuthMethod(METHOD.into()));
    refused(no_data, NOT_AUTHORIZED);
    let scram = Scram::new("ann", "pencil");
    refused(connect("c", &scram.first()).username("bob"), NOT_AUTHORIZED);
    // What was right once.
    let mut scram = Scram::new("ann", "pencil");
    let (mut client, challenge) = begin(&broker, connect("c", &scram.first()));
    let proof = scram.last(&challenge);
    client.send(auth(CONTINUE, &proof));
    assert_eq!(client.recv_connack().code, 0);
    let (mut client, _) = begin(&broker, connect("c", &scram.first()));
    client.send(auth(CONTINUE, &proof));
    assert_eq!(client.recv_connack().code, NOT_AUTHORIZED);
    client.expect_closed();
}

/// Other methods, and any where nobody can use it, are refused with 0x8C [MQTT-4.12.0-1].
#[test]
fn other_methods_are_refused() {
    let users = Users::new();
    let broker = users.broker(&[]);
    for method in ["SCRAM-SHA-1", "scram-sha-256", ""] {
        let connect = Connect::v5("c").prop(Prop::AuthMethod(method.into()));
        broker.expect_refused(connect.prop(Prop::AuthData(b"n,,n=ann,r=x".to_vec())), BAD_METHOD);
    }
    let open = Broker::start(&[]);
    open.expect_refused(connect("c", "n,,n=ann,r=x"), BAD_METHOD);
    fs::write(users.file(), "").expect("written");
    users.add("bob", "pen", &[]);
    users
        .broker(&[])
        .expect_refused(connect("c", "n,,n=bob,r=x"), BAD_METHOD);
}

/// Before its CONNACK a client sends nothing but AUTH and DISCONNECT [MQTT-3.1.2-30], and AUTH with 0x18 and the method of
/// its CONNECT [MQTT-4.12.0-3] [MQTT-4.12.0-5].
#[test]
fn only_the_answer_may_come_before_connack() {
    let users = Users::new();
    let broker = users.broker(&[]);
    let scram = Scram::new("ann", "pencil");
    let other_method = Auth::new(CONTINUE).prop(Prop::AuthMethod("other".into()));
    let packets = [
        Packet::from(Publish::new("a", "x")),
        Packet::from(Subscribe::new(1).filter("a", 0)),
        Packet::Pingreq,
        Packet::from(connect("c", &scram.first())),
        Packet::from(auth(REAUTHENTICATE, &scram.first())),
        Packet::from(other_method),
    ];
    for packet in packets {
        let (mut client, _) = begin(&broker, connect("c", &scram.first()));
        client.send(packet.clone());
        assert_eq!(client.recv_connack().code, PROTOCOL_ERROR, "{packet:?}");
        client.expect_closed();
        // Also when it does not wait for the challenge.
        let mut client = broker.open(Version::V5);
        let both = [
            Packet::from(connect("c", &scram.first())).encode(Version::V5),
            packet.encode(Version::V5),
        ]
        .concat();
        client.send_bytes(&both);
        expect_auth(&mut client, CONTINUE);
        assert_eq!(client.recv_connack().code, PROTOCOL_ERROR, "{packet:?}");
        client.expect_closed();
    }
    for bytes in [&b"\xF0\x02\x18\x00"[..], b"\xF0\x00", b"\xF1\x02\x18\x00"] {
        let (mut client, _) = begin(&broker, connect("c", &scram.first()));
        client.send_bytes(bytes);
        assert_eq!(client.recv_connack().code, 0x81, "{bytes:?}");
        client.expect_closed();
    }
    let (mut client, _) = begin(&broker, connect("c", &scram.first()));
    client.send(Disconnect::new(0));
    client.expect_closed();
    // More than an answer may have, and the end of the connection.
    let (mut client, _) = begin(&broker, connect("c", &scram.first()));
    client.send_bytes(b"\xF0\xFF\xFF\x03");
    client.expect_closed();
    let (client, _) = begin(&broker, connect("c", &scram.first()));
    client.kill();
    assert_serves(&broker);
}

fn assert_serves(broker: &Broker) {
    log_in(broker, "serves", &mut Scram::new("ann", "pencil")).disconnect();
}

/// The exchange is part of connecting: it has no more time.
#[test]
fn a_client_that_does_not_answer_is_closed() {
    let users = Users::new();
    let broker = users.broker(&["--connect-timeout", "0.5"]);
    let start = std::time::Instant::now();
    let (mut client, _) = begin(&broker, connect("c", &Scram::new("ann", "pencil").first()));
    client.expect_closed();
    assert_elapsed(start, 0.4, 5.0);
    assert_serves(&broker);
}

/// A shutdown does not wait for the answer.
#[test]
fn a_shutdown_does_not_wait_for_an_answer() {
    let users = Users::new();
    let broker = users.broker(&["--connect-timeout", "100"]);
    let (mut client, _) = begin(&broker, connect("c", &Scram::new("ann", "pencil").first()));
    let start = std::time::Instant::now();
    assert!(broker.terminate().success());
    assert_elapsed(start, 0.0, 8.0);
    client.expect_closed();
}

/// What comes behind the last AUTH in the same write is handled when the client has been accepted.
#[test]
fn packets_behind_the_answer_wait() {
    let users = Users::new();
    let broker = users.broker(&[]);
    let mut scram = Scram::new("ann", "pencil");
    let (mut client, challenge) = begin(&broker, connect("c", &scram.first()));
    let last = Packet::from(auth(CONTINUE, &scram.last(&challenge))).encode(Version::V5);
    // In two writes, with the end of the first packet in the second.
    let both = [last.clone(), Packet::Pingreq.encode(Version::V5)].concat();
    client.send_bytes(&both[..last.len() - 3]);
    client.send_bytes(&both[last.len() - 3..]);
    assert_eq!(client.recv_connack().code, 0);
    client.expect(Packet::Pingresp);
}

/// Re-authentication at any time, beside other packets [MQTT-4.12.1-1], and with nothing lost.
#[test]
fn a_connection_is_authenticated_anew() {
    let users = Users::new();
    let broker = users.broker(&[]);
    let mut client = log_in(&broker, "c", &mut Scram::new("ann", "pencil"));
    client.subscribe("a", 1);
    for _ in 0..3 {
        let mut scram = Scram::new("ann", "pencil");
        client.send(auth(REAUTHENTICATE, &scram.first()));
        let challenge = expect_auth(&mut client, CONTINUE);
        client.publish("a", "between", 1);
        client.expect_message("a", "between");
        client.send(auth(CONTINUE, &scram.last(&challenge)));
        scram.check(&expect_auth(&mut client, 0));
    }
    client.ping();
}

/// One that fails closes the connection with 0x87 [MQTT-4.12.1-2]; so does one about another user, or by another method.
#[test]
fn a_failed_re_authentication_closes() {
    let users = Users::new();
    users.add("dora", "pencil", &["--scram"]);
    let broker = users.broker(&[]);
    let connected = || log_in(&broker, "c", &mut Scram::new("ann", "pencil"));
    let mut client = connected();
    let mut scram = Scram::new("ann", "wrong");
    client.send(auth(REAUTHENTICATE, &scram.first()));
    let challenge = expect_auth(&mut client, CONTINUE);
    client.send(auth(CONTINUE, &scram.last(&challenge)));
    client.expect_disconnect(NOT_AUTHORIZED);
    let mut client = connected();
    client.send(auth(REAUTHENTICATE, &Scram::new("dora", "pencil").first()));
    client.expect_disconnect(NOT_AUTHORIZED);
    let mut client = connected();
    client.send(Auth::new(REAUTHENTICATE).prop(Prop::AuthMethod("other".into())));
    client.expect_disconnect(PROTOCOL_ERROR);
    // Out of order.
    let mut client = connected();
    client.send(auth(CONTINUE, "c=biws,r=x,p=x"));
    client.expect_disconnect(PROTOCOL_ERROR);
    let mut client = connected();
    client.send(auth(REAUTHENTICATE, &Scram::new("ann", "pencil").first()));
    expect_auth(&mut client, CONTINUE);
    client.send(auth(REAUTHENTICATE, &Scram::new("ann", "pencil").first()));
    client.expect_disconnect(PROTOCOL_ERROR);
    // Without a method in its CONNECT a client can't [MQTT-4.12.0-7].
    let mut client = broker.connect(Connect::v5("c").credentials("ann", "pencil"));
    assert_eq!(client.connack.props.auth_method(), None);
    client.send(auth(REAUTHENTICATE, &Scram::new("ann", "pencil").first()));
    client.expect_disconnect(PROTOCOL_ERROR);
}

/// A user whose verifier has gone, or is another, can't re-authenticate; who is no more in the file is disconnected.
#[test]
fn a_reload_is_heeded() {
    let users = Users::new();
    let broker = users.broker(&[]);
    let mut client = log_in(&broker, "c", &mut Scram::new("ann", "pencil"));
    users.add("ann", "changed", &["--scram"]);
    broker.signal("HUP");
    broker.expect_log("reloaded");
    let mut scram = Scram::new("ann", "changed");
    client.send(auth(REAUTHENTICATE, &scram.first()));
    let challenge = expect_auth(&mut client, CONTINUE);
    client.send(auth(CONTINUE, &scram.last(&challenge)));
    scram.check(&expect_auth(&mut client, 0));
    fs::write(users.file(), "").expect("written");
    users.add("bob", "pen", &[]);
    broker.signal("HUP");
    client.expect_disconnect(NOT_AUTHORIZED);
}

/// A user who is taken out of the file between the challenge and the proof does not stay.
#[test]
fn a_reload_within_the_exchange_is_heeded() {
    let users = Users::new();
    let broker = users.broker(&[]);
    let mut scram = Scram::new("ann", "pencil");
    let (mut client, challenge) = begin(&broker, connect("c", &scram.first()));
    fs::write(users.file(), "").expect("written");
    users.add("dora", "pencil", &["--scram"]);
    broker.signal("HUP");
    broker.expect_log("reloaded");
    client.send(auth(CONTINUE, &scram.last(&challenge)));
    assert_eq!(client.recv_connack().code, 0);
    client.expect_disconnect(NOT_AUTHORIZED);
}

/// An address that has failed too often waits.
#[test]
fn attempts_are_counted() {
    let users = Users::new();
    let broker = users.broker(&[]);
    let scram = Scram::new("ann", "pencil");
    let mut codes = Vec::new();
    for _ in 0..30 {
        let mut client = broker.open(Version::V5);
        client.send(connect("c", &scram.first()));
        let code = match client.recv() {
            Packet::Connack(connack) => connack.code,
            _ => {
                client.send(auth(CONTINUE, "c=biws,r=x,p=x"));
                client.recv_connack().code
            }
        };
        codes.push(code);
    }
    let refused = codes.iter().filter(|code| **code == RATE_EXCEEDED).count();
    assert!(
        refused > 0 && codes.iter().all(|code| [NOT_AUTHORIZED, RATE_EXCEEDED].contains(code)),
        "{codes:?}"
    );
}

/// A challenge that the client can't take is not sent [MQTT-3.1.2-24].
#[test]
fn a_small_maximum_packet_size_is_heeded() {
    let users = Users::new();
    let broker = users.broker(&[]);
    let mut client = broker.open(Version::V5);
    client.send(connect("c", &Scram::new("ann", "pencil").first()).prop(Prop::MaximumPacketSize(40)));
    client.expect_closed();
    assert_serves(&broker);
}
