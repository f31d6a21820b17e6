//! rumqttc over MQTT 3.1.1 and 5.0 against the broker that the environment variable `BROKER_BIN` names.
//!
//! `rumqttc-scenarios scenario|bursts [--list] [--only TEXT]` prints `ok NAME` or `not ok NAME` for each case.

mod bursts;
mod client;
mod harness;
mod scenario;
mod v4;
mod v5;

use std::process::ExitCode;

use harness::Suite;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (suites, options) = match words.split_first() {
        Some((&"scenario", options)) => (scenario::suites(), options),
        Some((&"bursts", options)) => (bursts::suites(), options),
        _ => return usage(),
    };
    match options {
        ["--list"] => list(&suites),
        ["--only", text] => run(suites, text).await,
        [] => run(suites, "").await,
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: rumqttc-scenarios scenario|bursts [--list] [--only TEXT]");
    ExitCode::from(2)
}

fn list(suites: &[Suite]) -> ExitCode {
    for case in suites.iter().flat_map(|suite| &suite.cases) {
        println!("{}", case.name);
    }
    ExitCode::SUCCESS
}

/// Runs the suites. On SIGTERM the future is dropped, and with it a running broker is killed.
async fn run(suites: Vec<Suite>, only: &str) -> ExitCode {
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
    tokio::select! {
        failed = harness::run(suites, only) => ExitCode::from(u8::from(failed > 0)),
        _ = terminate.recv() => ExitCode::from(143),
    }
}
