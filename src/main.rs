//! The `broker` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    mqtt_broker::cli::run(std::env::args_os())
}
