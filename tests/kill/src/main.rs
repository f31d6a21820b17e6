//! Kills the broker under load, again and again, and checks what its clients saw.
//!
//! `tests/kill/run --help` says how it is used.

mod aof;
mod broker;
mod cast;
mod check;
mod churn;
mod client;
mod cluster;
mod event;
mod fault;
mod ghost;
mod link;
mod log;
mod options;
#[allow(dead_code)]
#[path = "../../common/packet.rs"]
mod packet;
mod payload;
#[cfg(test)]
mod planted;
mod publisher;
mod random;
mod redis;
mod roaming;
mod round;
mod rounds;
mod stage;
#[allow(dead_code)]
#[path = "../../common/wire.rs"]
mod wire;
mod world;

use std::process::ExitCode;

use options::{Options, Task};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match Options::read(&arguments) {
        Ok(Task::Help) => {
            println!("{}", options::HELP);
            Ok(true)
        }
        Ok(Task::Check(file)) => rounds::check_file(&file),
        Ok(Task::Run(options)) => rounds::run(&options),
        Err(error) => {
            eprintln!("kill: {error}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kill: {error}");
            ExitCode::FAILURE
        }
    }
}
