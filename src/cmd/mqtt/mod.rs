//! What `broker pub`, `broker sub` and `broker healthcheck` have in common: a client on one task.

mod client;
mod options;
mod properties;
mod stop;
mod stream;
mod target;
mod tls;

use std::fmt;
use std::future::Future;
use std::process::ExitCode;

pub(crate) use client::{Client, Hello};
pub(crate) use options::{ConnectOptions, qos, seconds};
pub(crate) use properties::PacketProperties;
pub(crate) use stop::{Stop, Stopped};
use stream::open;
pub(crate) use target::{Place, Target, Url};
pub(crate) use tls::{Trust, config as tls_config};

use crate::properties::Properties;
use crate::reason::ReasonCode;

/// Why a command ends without success.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// For standard error; empty if all has been said.
    pub(crate) text: String,
    /// It may pass: another connection may work.
    pub(crate) passes: bool,
    /// The broker has refused the connection with a CONNACK.
    pub(crate) refused: bool,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Failure {
        Failure {
            code: 1,
            text: text.into(),
            passes: false,
            refused: false,
        }
    }

    /// One that may pass.
    fn passing(text: impl Into<String>) -> Failure {
        Failure {
            passes: true,
            ..Failure::new(text)
        }
    }

    /// With the broker that it is about.
    fn at(self, target: &Target) -> Failure {
        Failure {
            text: format!("{target}: {}", self.text),
            ..self
        }
    }

    /// The time that was given is over.
    pub(crate) fn timeout() -> Failure {
        Failure {
            code: TIMEOUT,
            ..Failure::new("timed out")
        }
    }
}

/// The exit code when the time is over; Mosquitto's clients have the same.
const TIMEOUT: u8 = 27;

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure::new(text)
    }
}

/// Runs a command on this thread. What is wrong goes to standard error, unless nothing is to be said.
pub(crate) fn run(command: impl Future<Output = Result<(), Failure>>, quiet: bool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(command);
            // Whoever reads standard output may never go on.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Failure::new(format!("can't start: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !quiet && !failure.text.is_empty() {
                eprintln!("broker: {}", failure.text);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// A Reason Code, or a Connect Return code of MQTT 3, in words; with the broker's own if it has given any.
pub(crate) struct Refusal<'a> {
    pub(crate) code: u8,
    pub(crate) properties: Properties<'a>,
}

impl Refusal<'_> {
    /// Whether another attempt may be more welcome.
    fn passes(&self) -> bool {
        let reason = ReasonCode::from_u8(self.code);
        let passes = matches!(
            reason,
            Some(
                ReasonCode::ServerUnavailable
                    | ReasonCode::ServerBusy
                    | ReasonCode::ServerShuttingDown
                    | ReasonCode::KeepAliveTimeout
                    | ReasonCode::ConnectionRateExceeded
            )
        );
        self.code == 3 || passes
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, ReasonCode::from_u8(self.code)) {
            (1, _) => f.write_str("unacceptable protocol version (1)")?,
            (2, _) => f.write_str("identifier rejected (2)")?,
            (3, _) => f.write_str("server unavailable (3)")?,
            (4, _) => f.write_str("bad user name or password (4)")?,
            (5, _) => f.write_str("not authorized (5)")?,
            (_, Some(reason)) => write!(f, "{reason}")?,
            (code, None) => write!(f, "unknown reason 0x{code:02X}")?,
        }
        match self.properties.reason_string() {
            // Quoted, since what a broker says is not to steer a terminal.
            Some(text) => write!(f, ": {text:?}"),
            None => Ok(()),
        }
    }
}
