//! `broker store`: what a broker has left is looked at and moved, and the next broker goes on with it.

mod common;
use common::*;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// With the names of files that begin with `@` in this directory.
    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("it runs")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
        command.arg("store");
        for argument in arguments {
            match argument.strip_prefix('@') {
                Some(name) => command.arg(self.path(name)),
                None => command.arg(argument),
            };
        }
        command
    }

    fn broker(&self, name: &str) -> Broker {
        Broker::start(&["--data-dir", self.path(name).to_str().expect("UTF-8")])
    }
}

#[track_caller]
fn says(output: &Output, code: i32, text: &str) {
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(text), "{said}");
}

/// Leaves a retained message, a session with messages, one of which is half through, and a will. The identifier of a message
/// that was not released.
fn fill(broker: &Broker) -> u16 {
    broker.offline_session(Version::V5, "away", "a/#", 2);
    let mut publisher = broker.connect(Connect::persistent(Version::V5, "publisher"));
    publisher.publish_packet(Publish::new("r", "kept").qos(1, 1).retain());
    publisher.publish_numbers("a/b", 0..5, 2);
    let id = publisher.next_id();
    publisher.send(Publish::new("a/half", "half").qos(2, id));
    publisher.recv_pubrec();
    let connect = Connect::persistent(Version::V5, "away").prop(Prop::ReceiveMaximum(1));
    let mut away = broker.resume(connect);
    let first = away.recv_publish();
    away.send(Packet::Pubrec(Ack::new(first.id)));
    away.recv_pubrel();
    let will = Will::new("will", "gone").qos(1).retain();
    // It is connected until the broker is killed.
    std::mem::forget(broker.connect(Connect::v5("mortal").will(will)));
    away.kill();
    id
}

/// All of it is there, in order and once.
fn expect_all(broker: &Broker) {
    let mut publisher = broker.resume(Connect::persistent(Version::V5, "publisher"));
    let mut away = broker.resume(Connect::persistent(Version::V5, "away"));
    let released = away.recv_pubrel();
    away.send(Packet::Pubcomp(Ack::new(released.id)));
    let texts: Vec<_> = away.take(5).iter().map(|message| message.text().to_owned()).collect();
    assert_eq!(texts, ["1", "2", "3", "4", "half"]);
    publisher.ping();
    let mut other = broker.v5("other");
    other.subscribe("r", 1);
    other.expect_message("r", "kept");
    other.subscribe("will", 1);
    other.expect_message("will", "gone");
}

#[test]
fn what_a_broker_has_left_is_moved() {
    let files = Files::new();
    let broker = files.broker("data");
    fill(&broker);
    drop(broker);
    says(
        &files.run(&["check", "@data"]),
        0,
        "clean: 2 sessions with 1 subscriptions and 6 messages",
    );
    let stats = files.run(&["stats", "@data", "--json"]);
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).expect("JSON");
    assert_eq!(
        (&stats["sessions"], &stats["retained"], &stats["received"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert!(stats["database_bytes"].as_u64() > Some(0));
    says(&files.run(&["stats", "@data"]), 0, "largest queue bytes");
    says(
        &files.run(&["export", "@data", "-o", "@file"]),
        0,
        "exported 2 sessions",
    );
    says(&files.run(&["export", "@data", "-o", "@file"]), 1, "exists");
    says(&files.run(&["import", "@file", "@other"]), 0, "imported 2 sessions");
    says(&files.run(&["import", "@file", "@other"]), 1, "--replace");
    says(&files.run(&["check", "@other"]), 0, "clean");
    let again = files.run(&["export", "@other"]);
    let sorted = |bytes: &[u8]| {
        let mut lines: Vec<_> = String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let file = std::fs::read(files.path("file")).expect("read");
    assert_eq!(sorted(&again.stdout), sorted(&file));
    expect_all(&files.broker("other"));
    expect_all(&files.broker("data"));
}

/// A store in Redis, and how the tools are told where it is.
struct InRedis {
    place: common::persistence::Place,
}

impl InRedis {
    fn new() -> InRedis {
        InRedis {
            place: common::persistence::in_redis(),
        }
    }

    fn node(&self) -> Broker {
        let options = self.place.options.iter().map(String::as_str);
        let options: Vec<_> = options.chain(["--cluster-lease", "1"]).collect();
        Broker::start_as_told(&options)
    }

    fn tool(&self, files: &Files, arguments: &[&str]) -> Output {
        let options: Vec<_> = self.place.options.iter().map(String::as_str).collect();
        files.run(&[arguments, &options].concat())
    }
}

/// From the disk to Redis: it is as if a node had died with all who were connected.
#[test]
fn a_store_is_moved_to_redis() {
    let (files, redis) = (Files::new(), InRedis::new());
    let broker = files.broker("data");
    let id = fill(&broker);
    drop(broker);
    let tool = |arguments: &[&str]| redis.tool(&files, arguments);
    says(
        &files.run(&["export", "@data", "-o", "@file"]),
        0,
        "exported 2 sessions",
    );
    says(&tool(&["import", "@file"]), 0, "imported 2 sessions");
    says(&tool(&["import", "@file"]), 1, "--replace");
    says(&tool(&["import", "@file", "--replace"]), 0, "imported 2 sessions");
    says(&tool(&["doctor"]), 0, "no faults");
    says(&tool(&["check"]), 0, "clean: 2 sessions, 6 messages");
    says(&tool(&["stats"]), 0, "sessions");
    says(&tool(&["export", "-o", "@back"]), 0, "exported 2 sessions");
    says(&files.run(&["import", "@back", "@other"]), 0, "imported 2 sessions");
    let node = redis.node();
    says(&tool(&["import", "@file", "--replace"]), 1, "at work");
    says(&tool(&["export"]), 1, "at work");
    expect_all(&node);
    expect_no_repetition(&node, id);
    says(&tool(&["doctor"]), 0, "no faults");
    let other = files.broker("other");
    expect_all(&other);
    expect_no_repetition(&other, id);
    says(&files.run(&["doctor", "@other"]), 2, "--redis URL");
}

/// From Redis to the disk. What a client has not released is published then.
#[test]
fn a_store_is_moved_from_redis() {
    let (files, redis) = (Files::new(), InRedis::new());
    let node = redis.node();
    let id = fill(&node);
    drop(node);
    let tool = |arguments: &[&str]| redis.tool(&files, arguments);
    says(&tool(&["doctor"]), 0, "no faults");
    says(&tool(&["export", "-o", "@file"]), 0, "exported 2 sessions");
    says(&files.run(&["import", "@file", "@data"]), 0, "imported 2 sessions");
    says(&files.run(&["check", "@data"]), 0, "clean");
    let broker = files.broker("data");
    expect_all(&broker);
    expect_no_repetition(&broker, id);
}

/// A message that was accepted, and not released, is not published again when it is sent again, and is released.
fn expect_no_repetition(broker: &Broker, id: u16) {
    let mut publisher = broker.resume(Connect::persistent(Version::V5, "publisher"));
    let mut away = broker.resume(Connect::persistent(Version::V5, "away"));
    let again = Publish::new("a/half", "half").qos(2, id).dup();
    publisher.send(again);
    publisher.recv_pubrec();
    publisher.send(Packet::Pubrel(Ack::new(id)));
    assert_eq!(publisher.recv_pubcomp().reason, code::SUCCESS);
    publisher.publish("a/b", "sentinel", 1);
    away.expect_message("a/b", "sentinel");
    publisher.send(Packet::Pubrel(Ack::new(id)));
    assert_ne!(publisher.recv_pubcomp().reason, code::SUCCESS, "it has been released");
}

/// A broker goes on with its store in Redis while others look at it.
#[test]
fn looking_into_redis_disturbs_no_broker() {
    let (files, place) = (Files::new(), common::persistence::in_redis());
    let options: Vec<&str> = place.options.iter().map(String::as_str).collect();
    let broker = Broker::start(&options);
    broker.offline_session(Version::V5, "away", "a", 1);
    let mut publisher = broker.v5("publisher");
    publisher.publish("a", "1", 1);
    for (command, says_so) in [
        ("check", "clean: 1 sessions"),
        ("doctor", "no faults"),
        ("stats", "sessions"),
    ] {
        says(&files.run(&[&[command][..], &options].concat()), 0, says_so);
    }
    says(&files.run(&[&["export"][..], &options].concat()), 1, "at work");
    publisher.publish("a", "2", 1);
    let texts: Vec<_> = broker.resume(Connect::persistent(Version::V5, "away")).take(2);
    assert_eq!(texts.iter().map(Publish::text).collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn an_import_can_replace_what_is_there() {
    let files = Files::new();
    let broker = files.broker("data");
    fill(&broker);
    drop(broker);
    says(&files.run(&["export", "@data", "-o", "@file"]), 0, "exported");
    let broker = files.broker("other");
    broker.offline_session(Version::V5, "stranger", "#", 1);
    drop(broker);
    says(&files.run(&["import", "@file", "@other", "--replace"]), 0, "imported");
    expect_all(&files.broker("other"));
}

/// A file that is cut short changes nothing, and makes no store.
#[test]
fn a_file_that_is_cut_short_is_refused() {
    let files = Files::new();
    let broker = files.broker("data");
    fill(&broker);
    drop(broker);
    let export = files.run(&["export", "@data"]).stdout;
    for length in [0, 10, export.len() / 2, export.len() - 1] {
        std::fs::write(files.path("file"), &export[..length]).expect("written");
        says(&files.run(&["import", "@file", "@other"]), 1, "cut short");
        assert!(!files.path("other").exists());
    }
    says(&files.run(&["import", "@data", "@other"]), 1, "");
}

/// The store of a broker that runs is its own.
#[test]
fn a_broker_that_runs_is_not_disturbed() {
    let files = Files::new();
    let broker = files.broker("data");
    says(&files.run(&["check", "@data"]), 2, "in use");
    for command in [
        &["stats", "@data"][..],
        &["export", "@data"],
        &["export", "@data", "-o", "@file"],
    ] {
        says(&files.run(command), 1, "in use");
    }
    assert!(!files.path("file").exists());
    let (code, said) = Broker::cannot_start(&["--data-dir", files.path("data").to_str().expect("UTF-8")]);
    assert!(code == Some(1) && said.contains("in use"), "{code:?}: {said}");
    broker.assert_serves();
}

/// Without a place it is that of the environment; one that is not there is not made.
#[test]
fn the_place_is_that_of_the_environment() {
    let files = Files::new();
    drop(files.broker("data"));
    let with = |name: &str, variable: &str| {
        let mut command = files.command(&["check"]);
        command.env(variable, files.path(name)).output().expect("it runs")
    };
    says(&with("data", "BROKER_DATA_DIR"), 0, "clean: 0 sessions");
    says(
        &with("missing", "BROKER_DATA_DIR"),
        2,
        "missing is not the data directory of a broker",
    );
    assert!(!Path::new(&files.path("missing")).exists());
    says(&files.run(&["check"]), 2, "--redis URL");
    says(
        &files.run(&["check", "@data", "--redis", "redis://127.0.0.1:1"]),
        2,
        "cannot be used with",
    );
}

/// Whatever is changed in the files: it is noticed, by an exit code, or does not matter.
#[test]
fn damage_is_reported() {
    let files = Files::new();
    let broker = files.broker("data");
    fill(&broker);
    drop(broker);
    let whole: Vec<_> = std::fs::read_dir(files.path("data"))
        .expect("read")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| (entry.file_name(), std::fs::read(entry.path()).expect("read")))
        .collect();
    let put = |changed: &std::ffi::OsStr, at: usize| {
        let copy = files.path("copy");
        let _ = std::fs::remove_dir_all(&copy);
        std::fs::create_dir(&copy).expect("made");
        for (name, bytes) in &whole {
            let mut bytes = bytes.clone();
            if name == changed {
                bytes[at] ^= 0x55;
            }
            std::fs::write(copy.join(name), bytes).expect("written");
        }
    };
    put("none".as_ref(), 0);
    let clean = files.run(&["export", "@copy"]).stdout;
    assert!(!clean.is_empty());
    let mut noticed = 0;
    for (name, bytes) in whole.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        for step in 0..10 {
            let at = (bytes.len() - 1) * step / 9;
            put(name, at);
            let checked = files.run(&["check", "@copy"]);
            match checked.status.code() {
                Some(0) => assert_eq!(files.run(&["export", "@copy"]).stdout, clean, "{name:?}: {at}"),
                Some(1 | 2) => noticed += 1,
                other => panic!("{name:?}: {at}: {other:?}"),
            }
        }
    }
    assert!(noticed > 0);
}

/// A broker in Redis goes on while it is looked at.
#[test]
fn a_store_in_redis_is_looked_at_while_a_broker_has_it() {
    let files = Files::new();
    let place = common::persistence::in_redis();
    let options: Vec<_> = place.options.iter().map(String::as_str).collect();
    let look = |action: &str| files.run(&[&[action], &options[..]].concat());
    says(&look("doctor"), 2, "nothing of a broker");
    says(&look("check"), 2, "nothing of a broker");
    says(&look("stats"), 1, "nothing of a broker");
    let export = [&["export", "-o", "@none.jsonl"], &options[..]].concat();
    says(&files.run(&export), 1, "nothing of a broker");
    assert!(!files.path("none.jsonl").exists());
    let broker = Broker::start(&options);
    fill(&broker);
    says(&look("doctor"), 0, "no faults");
    says(&look("check"), 0, "clean");
    says(&look("stats"), 0, "");
    let mut publisher = broker.connect(Connect::v5("another"));
    publisher.publish_packet(Publish::new("a/b", "still").qos(1, 1));
    says(&look("doctor"), 0, "retained messages: 1");
    says(&files.run(&["doctor", "@none"]), 2, "--redis URL");
}
