//! Who may connect, and who may publish and subscribe to what, as files say.

mod common;
use common::*;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const NOT_AUTHORIZED: u8 = 0x87;

/// A directory with a password file and an access list.
struct Files(TempDir);

impl Files {
    fn new(acl: &str) -> Files {
        let files = Files(tempfile::tempdir().expect("a directory"));
        files.write("acl", acl);
        for user in ["ann", "bob"] {
            assert!(files.passwd("add", user, &format!("{user}'s")).status.success());
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    /// `broker passwd`, with a password on standard input.
    fn passwd(&self, action: &str, user: &str, password: &str) -> Output {
        passwd(action, &self.path("users"), user, Some(password))
    }

    fn broker(&self, options: &[&str]) -> Broker {
        let (users, acl) = (self.path("users"), self.path("acl"));
        let files = ["--password-file", text(&users), "--acl-file", text(&acl)];
        Broker::start(&[&files[..], options].concat())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn passwd(action: &str, file: &Path, user: &str, password: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    command.args(["passwd", action, text(file), user]);
    if password.is_some() {
        command.arg("--stdin");
    }
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().expect("started");
    let mut stdin = child.stdin.take().expect("piped");
    // It may have ended already.
    let _ = writeln!(stdin, "{}", password.unwrap_or_default());
    drop(stdin);
    child.wait_with_output().expect("ended")
}

/// A client with the password that its user has in these tests.
fn user(version: Version, name: &str) -> Connect {
    Connect::new(version, &format!("{name}-1")).credentials(name, &format!("{name}'s"))
}

fn reload(broker: &Broker, reloads: usize) {
    broker.signal("HUP");
    eventually("the reload is logged", || {
        broker.log().matches("reloaded").count() == reloads
    });
}

/// Right, wrong and no password, unknown users: an MQTT 5.0 client is told 0x86, or 0x87 without a name, an MQTT 3 client
/// 4 or 5 [MQTT-3.1.4-2] [MQTT3-3.1.4-2] [MQTT3-3.2.2-5].
#[test]
fn who_may_connect() {
    let files = Files::new("topic readwrite #");
    let broker = files.broker(&[]);
    for version in Version::ALL {
        let (wrong, nobody) = if version.is_v5() {
            (0x86, NOT_AUTHORIZED)
        } else {
            (4, 5)
        };
        broker.connect(user(version, "ann")).disconnect();
        let connect = Connect::new(version, "c");
        broker.expect_refused(connect.clone().credentials("ann", "bob's"), wrong);
        broker.expect_refused(connect.clone().credentials("ann", ""), wrong);
        broker.expect_refused(connect.clone().credentials("carl", "ann's"), wrong);
        broker.expect_refused(connect, nobody);
        // What was right once is so again, and does not make another right.
        broker.connect(user(version, "ann")).disconnect();
        broker.connect(user(version, "bob")).disconnect();
    }
    let open = files.broker(&["--anonymous", "on"]);
    open.v5("c").disconnect();
    open.expect_refused(Connect::v5("c").credentials("ann", "x"), 0x86);
}

/// A denied message reaches nobody, an MQTT 5.0 client is told 0x87, an MQTT 3 client nothing, or its connection is closed
/// [MQTT3-3.3.5-2].
#[test]
fn who_may_publish() {
    let files = Files::new("user ann\ntopic write house/#\ntopic deny house/safe\nuser bob\ntopic read #\n");
    let broker = files.broker(&[]);
    let mut watcher = broker.connect(user(Version::V5, "bob"));
    watcher.subscribe("#", 2);
    for version in Version::ALL {
        let mut ann = broker.connect(user(version, "ann"));
        for qos in 0..=2 {
            ann.publish("house/lamp", "allowed", qos);
            watcher.expect_message("house/lamp", "allowed");
        }
        for topic in ["house/safe", "garden"] {
            ann.send(Publish::new(topic, "denied").qos(1, 7));
            let code = ann.recv_puback().reason;
            assert_eq!(code, if version.is_v5() { NOT_AUTHORIZED } else { 0 }, "{topic}");
            ann.send(Publish::new(topic, "denied").retain());
        }
        ann.publish("house/last", "sentinel", 1);
        watcher.expect_message("house/last", "sentinel");
    }
    let strict = files.broker(&["--denied-publish", "close"]);
    let mut ann = strict.connect(user(Version::V311, "ann"));
    ann.send(Publish::new("garden", "denied"));
    ann.expect_closed();
}

/// The will of a client may go where the client may publish.
#[test]
fn wills_obey() {
    let files = Files::new("user ann\ntopic write house/#\nuser bob\ntopic read #\n");
    let broker = files.broker(&[]);
    let mut watcher = broker.connect(user(Version::V5, "bob"));
    watcher.subscribe("#", 0);
    for topic in ["garden", "house/ann"] {
        broker
            .connect(user(Version::V5, "ann").will(Will::new(topic, "gone")))
            .kill();
    }
    watcher.expect_message("house/ann", "gone");
}

/// A subscription to more than may be read brings what may be read: live, retained, of a resumed session, and by a Shared
/// Subscription.
#[test]
fn what_is_wider_is_filtered() {
    let files = Files::new("user ann\ntopic write #\nuser bob\ntopic read hello/+\n");
    let broker = files.broker(&[]);
    let mut ann = broker.connect(user(Version::V5, "ann"));
    for version in Version::ALL {
        for topic in ["secret", "hello/retained", "hello/a/b"] {
            ann.publish_packet(Publish::new(topic, "kept").retain());
        }
        ann.ping();
        let session = Connect::persistent(version, "bob-1").credentials("bob", "bob's");
        let mut bob = broker.connect(session.clone());
        assert_eq!(bob.try_subscribe("#", 1), 1);
        bob.expect_message("hello/retained", "kept");
        for qos in 0..=1 {
            ann.publish("secret", "live", qos);
            ann.publish("hello/live", "live", qos);
            bob.expect_message("hello/live", "live");
        }
        bob.kill();
        ann.publish("secret", "queued", 1);
        ann.publish("hello/queued", "queued", 1);
        let mut bob = broker.connect(session);
        bob.expect_message("hello/queued", "queued");
        bob.unsubscribe("#");
        assert_eq!(bob.try_subscribe("$share/g/#", 0), 0);
        ann.publish("secret", "shared", 0);
        ann.publish("hello/shared", "shared", 0);
        bob.expect_message("hello/shared", "shared");
        bob.unsubscribe("$share/g/#");
        bob.disconnect();
        // The next version has a session of its own.
        broker.connect(user(version, "bob")).disconnect();
    }
}

/// With `deny` it is refused: 0x87, or 0x80 for MQTT 3.1.1 [MQTT-3.9.3-2].
#[test]
fn what_is_wider_is_refused() {
    let files = Files::new("user bob\ntopic read hello/+\npattern read to/%u/%c/#\n");
    let broker = files.broker(&["--acl-subscribe", "deny"]);
    for (version, code) in [(Version::V5, NOT_AUTHORIZED), (Version::V311, 0x80)] {
        let mut bob = broker.connect(user(version, "bob"));
        for filter in ["hello/+", "hello/a", "to/bob/bob-1/#"] {
            assert_eq!(bob.try_subscribe(filter, 0), 0, "{filter}");
        }
        for filter in [
            "hello/#",
            "#",
            "+/a",
            "to/ann/bob-1/#",
            "to/+/bob-1/#",
            "$share/g/#",
            "$SYS/#",
        ] {
            assert_eq!(bob.try_subscribe(filter, 0), code, "{filter}");
        }
    }
}

/// A reload takes rights away from clients that are connected, and disconnects users who are no more; what makes no sense
/// changes nothing.
#[test]
fn rights_can_be_taken_away() {
    let files = Files::new("user ann\ntopic readwrite #\nuser bob\ntopic readwrite #\n");
    let broker = files.broker(&["--acl-subscribe", "deny"]);
    let mut ann = broker.connect(user(Version::V5, "ann"));
    let mut bob = broker.connect(user(Version::V5, "bob"));
    ann.subscribe("a", 0);
    ann.subscribe("b", 0);
    files.write("acl", "user ann\nnonsense");
    reload(&broker, 1);
    assert!(broker.log().contains("line 2"), "{}", broker.log());
    bob.publish("a", "still", 1);
    ann.expect_message("a", "still");
    files.write("acl", "user ann\ntopic read b\nuser bob\ntopic write #\n");
    reload(&broker, 2);
    ann.ping();
    bob.publish("a", "not any more", 1);
    bob.publish("b", "sentinel", 1);
    ann.expect_message("b", "sentinel");
    ann.send(Publish::new("b", "").qos(1, 1));
    assert_eq!(ann.recv_puback().reason, NOT_AUTHORIZED);
    assert!(passwd("remove", &files.path("users"), "bob", None).status.success());
    reload(&broker, 3);
    bob.expect_disconnect(NOT_AUTHORIZED);
    broker.expect_refused(user(Version::V5, "bob"), 0x86);
    ann.ping();
}

/// Nothing is opened up by an error: the broker does not start.
#[test]
fn files_that_make_no_sense_stop_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    fs::write(path("binary"), [0xFF, 0xFE, 0]).expect("written");
    fs::write(path("users"), "ann:secret\n").expect("written");
    fs::write(path("acl"), "topic read a/#/b\n").expect("written");
    for (option, name, reason) in [
        ("--password-file", "users", "line 1: unknown kind of hash"),
        ("--password-file", "binary", "UTF-8"),
        ("--password-file", "missing", "No such file"),
        ("--password-file", ".", "no file"),
        ("--acl-file", "acl", "line 1: "),
        ("--acl-file", "binary", "UTF-8"),
        ("--acl-file", "missing", "No such file"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
        let output = command
            .args(["--host", "127.0.0.1", "--port", "0", option, text(&path(name))])
            .output();
        let output = output.expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{option} {name}: {errors}");
        assert!(
            errors.contains(reason) && errors.contains(text(&path(name))),
            "{option} {name}: {errors}"
        );
    }
}

#[test]
fn the_password_file_is_kept_by_a_command() {
    let files = Files::new("");
    let users = files.path("users");
    let code = |output: Output| output.status.code();
    assert_eq!(code(files.passwd("check", "ann", "ann's")), Some(0));
    assert_eq!(code(files.passwd("check", "ann", "bob's")), Some(1));
    assert_eq!(code(files.passwd("check", "carl", "ann's")), Some(1));
    assert_eq!(code(files.passwd("add", "ann", "new")), Some(0));
    assert_eq!(code(files.passwd("check", "ann", "new")), Some(0));
    assert_eq!(code(files.passwd("add", "a:b", "x")), Some(1));
    assert_eq!(code(files.passwd("add", "carl", "")), Some(1));
    assert_eq!(
        code(passwd("add", &users, "carl", None)),
        Some(1),
        "a password is not read from a pipe unasked"
    );
    assert_eq!(code(passwd("remove", &users, "carl", None)), Some(1));
    assert_eq!(code(passwd("remove", &users, "bob", None)), Some(0));
    let list = Command::new(env!("CARGO_BIN_EXE_broker"))
        .args(["passwd", "list", text(&users)])
        .output();
    assert_eq!(String::from_utf8_lossy(&list.expect("it runs").stdout), "ann\n");
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(&users).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    files.write("users", "ann:damaged\n");
    assert_eq!(code(files.passwd("add", "bob", "x")), Some(1));
    assert_eq!(
        fs::read_to_string(&users).expect("there"),
        "ann:damaged\n",
        "what is not understood is not touched"
    );
}

/// A file that mosquitto_passwd has made is read as it is, and goes on with users of our own.
#[test]
fn files_of_mosquitto_are_read_as_they_are() {
    let files = Files::new("topic #\nuser mo\ntopic #\n");
    let users = files.path("users");
    for kind in ["sha512", "sha512-pbkdf2"] {
        let made = Command::new("mosquitto_passwd")
            .args(["-H", kind, "-b", text(&users), "mo", "squitto"])
            .output()
            .expect("mosquitto_passwd is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let broker = files.broker(&[]);
        broker
            .connect(Connect::v5("c").credentials("mo", "squitto"))
            .disconnect();
        broker.expect_refused(Connect::v5("c").credentials("mo", "squitt"), 0x86);
        broker.connect(user(Version::V311, "ann")).disconnect();
    }
}

/// Options that would be without effect stop the start.
#[test]
fn options_without_effect_are_refused() {
    for (options, reason) in [
        (
            &["--tls-username", "cn"][..],
            "--tls-username needs client certificates",
        ),
        (
            &[
                "--tls-username",
                "san",
                "--proxy-protocol",
                "tcp",
                "--trusted-proxies",
                "::1",
            ],
            "--tls-username san needs --tls-ca",
        ),
        (
            &["--proxy-protocol", "ws", "--trusted-proxies", "::1"],
            "--proxy-protocol is for a listener that is not there (--ws-port)",
        ),
        (&["--port", "1999,1999"], "port 1999 is given twice: --port, --port"),
        (
            &["--port", "1999", "--ws-port", "1999"],
            "port 1999 is given twice: --port, --ws-port",
        ),
    ] {
        let (code, said) = Broker::cannot_start(options);
        assert_eq!(code, Some(1), "{options:?}: {said}");
        assert!(said.contains(reason), "{options:?}: {said}");
    }
}

/// Where certificates name users, a name that is only claimed is none: anybody could claim it. Over TCP, which is where
/// it is easiest.
#[test]
fn the_name_in_a_certificate_can_not_be_claimed() {
    let files = Files::new("user ann\ntopic readwrite #\n");
    let acl = files.path("acl");
    let file = certificates::path;
    let tls = [
        "--tls-cert",
        &file("server.pem"),
        "--tls-key",
        &file("server.key"),
        "--tls-ca",
        &file("ca.pem"),
    ];
    let names = ["--tls-port", "0", "--tls-username", "cn", "--acl-file", text(&acl)];
    let options = [&tls[..], &names].concat();
    for version in Version::ALL {
        let claim = Connect::new(version, "c").credentials("ann", "ann's");
        let strict = Broker::start_on(&[&options[..], &["--anonymous", "off"]].concat());
        strict.expect_refused(claim.clone(), if version.is_v5() { NOT_AUTHORIZED } else { 5 });
        let broker = Broker::start_on(&options);
        let mut nobody = broker.connect(claim.clone());
        nobody.subscribe("a", 0);
        nobody.send(Publish::new("a", "denied"));
        nobody.assert_silent_until_ping();
        // With a password that is checked the name is proven.
        let users = files.path("users");
        let checked = Broker::start_on(&[&options[..], &["--password-file", text(&users)]].concat());
        checked.connect(claim).publish("a", "x", 1);
    }
}

/// Nobody takes over the session of another user: identifiers are bound to the user name.
#[test]
fn client_identifiers_belong_to_their_users() {
    let files = Files::new("topic readwrite #\n");
    let broker = files.broker(&["--client-id-prefix", "%u-"]);
    let ann = |version| Connect::new(version, "ann-1").credentials("ann", "ann's");
    broker.connect(ann(Version::V5)).disconnect();
    for (version, reason) in [(Version::V5, 0x85), (Version::V311, 0x02)] {
        broker.expect_refused(Connect::new(version, "ann-1").credentials("bob", "bob's"), reason);
        broker.expect_refused(Connect::new(version, "").credentials("bob", "bob's"), reason);
    }
    // Who does not know the password learns nothing of the rule.
    broker.expect_refused(Connect::v5("ann-1").credentials("bob", "ann's"), 0x86);
    let broker = files.broker(&["--client-id-is-username"]);
    broker
        .connect(Connect::v5("bob").credentials("bob", "bob's"))
        .disconnect();
    broker.expect_refused(Connect::v5("ann").credentials("bob", "bob's"), 0x85);
}

/// Rights that are no more hold for what is in flight as well: who resumes a session gets none of it again that it may not
/// read.
#[test]
fn what_is_in_flight_is_checked_again() {
    let files = Files::new("user ann\ntopic readwrite #\nuser bob\ntopic readwrite bob/#\n");
    let broker = files.broker(&[]);
    let session = |user: &str| {
        Connect::v5("device")
            .credentials(user, &format!("{user}'s"))
            .clean(false)
            .prop(Prop::SessionExpiry(1000))
    };
    let mut ann = broker.connect(session("ann"));
    ann.subscribe("#", 1);
    let mut publisher = broker.connect(user(Version::V5, "ann"));
    for topic in ["secret/1", "bob/1", "secret/2"] {
        publisher.publish(topic, "x", 1);
        ann.recv_publish();
    }
    ann.kill();
    let mut bob = broker.connect(session("bob"));
    assert!(bob.connack.session_present);
    bob.expect_message("bob/1", "x");
    bob.subscribe("bob/2", 1);
    publisher.publish("bob/2", "sentinel", 1);
    bob.expect_message("bob/2", "sentinel");
}
