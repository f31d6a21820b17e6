//! The configuration file, with a broker that is started with it.

mod common;
use common::*;

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

fn directory(text: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("broker.toml");
    fs::write(&path, text).expect("written");
    let path = path.to_str().expect("UTF-8").to_owned();
    (directory, path)
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    command
        .args(arguments)
        .env("BROKER_MAX_INFLIGHT", "7")
        .output()
        .expect("it runs")
}

/// The file is in force, and what the command line says wins.
#[test]
fn a_broker_runs_with_it() {
    let (_directory, path) = directory("port = [0, 0]\nhost = \"127.0.0.1\"\nmax-qos = 1\nreceive-maximum = 9\n");
    let broker = Broker::start(&["--config", &path, "--receive-maximum", "8"]);
    let client = broker.v5("c");
    assert_eq!(client.connack.props.maximum_qos(), Some(1));
    assert_eq!(client.connack.props.receive_maximum(), Some(8));
}

/// A fault stops the start, with exit code 2, and is found by `check`, with 1.
#[test]
fn faults_are_found() {
    for (text, reason) in [
        (
            "prot = 1883\n",
            "line 1: there is no setting \"prot\"; is it \"port\" that you mean?",
        ),
        ("port = 1883\nmax-qos = 3\n", "line 2: invalid value"),
        ("port = \n", "line 1: "),
        ("tls-cert = \"a\"\n", "--tls-key"),
        (
            "port = 1883\nredis = \"redis://h\"\ndata-dir = \"d\"\n",
            "line 3: --data-dir is for a store on disk, --redis for one in Redis: give one of them",
        ),
        ("durability = \"os\"\n", "line 1: --durability is for a store on disk"),
    ] {
        let (_directory, path) = directory(text);
        for (arguments, code) in [(vec!["--config", &path], 2), (vec!["config", "check", &path], 1)] {
            let output = run(&arguments);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{text}: {errors}");
            assert!(errors.contains(reason) && errors.contains(&path), "{text}: {errors}");
        }
    }
    let (_directory, path) = directory("acl-file = \"/no/such/list\"\n");
    let output = run(&["config", "check", &path]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/list: No such file"));
}

/// `default` prints a file that says what is so anyway; `show` says where each setting comes from.
#[test]
fn it_can_be_looked_at() {
    let default = run(&["config", "default"]);
    let text = String::from_utf8(default.stdout).expect("UTF-8");
    let (_directory, path) = directory(&text);
    assert!(run(&["config", "check", &path]).status.success());
    // Tables have their own heading, and stand behind all settings.
    let settings = text.split("# ---- Listeners with").next().expect("a first part");
    let defaults = settings
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| {
            // What has no default shows what could be there, in capitals.
            line.split_once(" = ").is_some_and(|(_, value)| {
                !value.contains(|c: char| c.is_ascii_uppercase() || c == '|') || value == "\"1M\""
            }) && !line.starts_with(' ')
        });
    let (_directory, path) = directory(&defaults.map(|line| format!("{line}\n")).collect::<String>());
    let output = run(&["config", "check", &path]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = text.split("[[listener]]").last().expect("a table").replace("\n#", "\n");
    let table = format!(
        "[[listener]]\n{}",
        table.replace("acl-file", "#").replace("tls\"", "tcp\"")
    );
    let (_directory, path) = directory(&table);
    let output = run(&["config", "check", &path]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (_directory, path) = directory("port = 1999\nmax-inflight = 5\n");
    let shown = String::from_utf8(run(&["config", "show", &path]).stdout).expect("UTF-8");
    let words = |name: &str| {
        let line = shown
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .expect("it is there");
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(words("port"), ["port", "1999", "file"]);
    assert_eq!(words("max-inflight"), ["max-inflight", "7", "environment"]);
    assert_eq!(words("max-qos"), ["max-qos", "2", "default"]);
    let (_directory, path) = directory("auth-http-url = \"http://127.0.0.1:1/who?key=secret\"\n");
    let shown = String::from_utf8(run(&["config", "show", &path]).stdout).expect("UTF-8");
    assert!(
        shown.contains("http://127.0.0.1:1/who ") && !shown.contains("secret"),
        "{shown}"
    );
}

/// Passwords are in no output, wherever the URL comes from.
#[test]
fn the_password_of_redis_is_not_shown() {
    let url = "redis://ann:hunter2@127.0.0.1:1/0";
    let (_directory, path) = directory(&format!("redis = \"{url}\"\nredis-prefix = \"p\"\n"));
    let shown = String::from_utf8(run(&["config", "show", &path]).stdout).expect("UTF-8");
    assert!(shown.contains("redis://ann:***@127.0.0.1:1/0 "), "{shown}");
    let faults = [
        run(&["--config", &path, "--durability", "os"]),
        run(&["--redis", url, "--data-dir", "d"]),
        run(&["--redis", &format!("{url} x")]),
        run(&["--redis", url, "--host", "127.0.0.1", "--port", "0"]),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    let help = command
        .arg("--help")
        .env("BROKER_REDIS", url)
        .output()
        .expect("it runs");
    assert!(help.status.success());
    for output in faults.iter().chain([&help]) {
        let text = [&output.stdout[..], &output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(!text.contains("hunter2"), "{text}");
    }
    for fault in &faults {
        assert!(!fault.status.success());
    }
    let warned = String::from_utf8_lossy(&faults[3].stderr);
    assert!(warned.contains("--redis-password-file"), "{warned}");
}
