//! Options that bound how much there may be in a second, and from one address.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;

use super::memory::{MemoryBound, memory_bound};
use super::values::{bytes, seconds_or_never};
use crate::Config;

const HEADING: &str = "Rates and shares";

#[derive(Debug, Args)]
pub(super) struct RateOptions {
    /// Connections of one address at a time; an IPv6 network of 64 bits counts as one [default: any]
    #[arg(long, env = "BROKER_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", help_heading = HEADING)]
    max_connections_per_address: Option<NonZeroU32>,
    /// New connections that each listener accepts in a second; further ones wait [default: any]
    #[arg(long, env = "BROKER_CONNECTION_RATE", value_name = "N", help_heading = HEADING)]
    connection_rate: Option<NonZeroU32>,
    /// Messages that a client may publish in a second; one that has more to say is held back [default: any]
    #[arg(long, env = "BROKER_MESSAGE_RATE", value_name = "N", help_heading = HEADING)]
    message_rate: Option<NonZeroU32>,
    /// Bytes that a client may send in a second; one that has more to say is held back. K, M and G are understood [default: any]
    #[arg(long, env = "BROKER_BYTE_RATE", value_name = "BYTES", value_parser = byte_rate, help_heading = HEADING)]
    byte_rate: Option<NonZeroU32>,
    /// Time for which a client may be held back without a pause before its connection is closed
    #[arg(
        long,
        env = "BROKER_MAX_THROTTLED",
        value_name = "SECONDS|never",
        value_parser = seconds_or_never,
        default_value = "never",
        help_heading = HEADING
    )]
    max_throttled: u32,
    /// Memory of the process; near it QoS 0 does not wait and new clients are refused. K, M and G are understood; auto is 85 %
    /// of a container's limit, if it has one
    #[arg(
        long,
        env = "BROKER_MAX_MEMORY",
        value_name = "BYTES|auto|off",
        value_parser = memory_bound,
        default_value = "auto",
        help_heading = HEADING
    )]
    max_memory: MemoryBound,
}

impl RateOptions {
    /// The bound of memory, from the limits of the system if need be.
    pub(super) fn max_memory(&self) -> Option<usize> {
        self.max_memory.bytes()
    }

    pub(super) fn set(&self, config: &mut Config) {
        config.max_connections_per_address = self.max_connections_per_address;
        config.connection_rate = self.connection_rate;
        config.message_rate = self.message_rate;
        config.byte_rate = self.byte_rate;
        let patience = Some(self.max_throttled).filter(|seconds| *seconds != u32::MAX);
        config.max_throttled = patience.map(|seconds| Duration::from_secs(seconds.into()));
    }
}

fn byte_rate(text: &str) -> Result<NonZeroU32, String> {
    let bytes = u32::try_from(bytes(text)?).map_err(|_| "must be below 4G".to_owned())?;
    NonZeroU32::new(bytes).ok_or_else(|| "must be at least 1".to_owned())
}
