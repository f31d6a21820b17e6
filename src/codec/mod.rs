//! Bytes to packets and back.
//!
//! [`frame`] finds the packets in a stream of bytes, [`decode`] reads those that a client sends, [`encode`] writes those
//! that the broker sends. Every rule that can be judged from the bytes of one packet is enforced while decoding;
//! rules that need the state of a session are for the handlers.

pub mod decode;
pub mod encode;
pub mod frame;
#[cfg(test)]
mod proptests;
mod reasons;
#[cfg(test)]
pub(crate) mod testing;

use crate::reason::ReasonCode;
use crate::wire::Malformed;
use std::fmt;

/// A packet that the specification does not allow. The connection must be closed [MQTT-4.13.1-1] [MQTT3-4.8.0-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What an MQTT 5.0 client is told; 0x81 (Malformed Packet) and 0x82 (Protocol Error) as section 4.13 separates
    /// them, or a more specific code.
    pub reason: ReasonCode,
    /// The fault in words, for the log.
    pub detail: &'static str,
}

impl DecodeError {
    pub(crate) const fn new(reason: ReasonCode, detail: &'static str) -> Self {
        DecodeError { reason, detail }
    }

    /// The bytes cannot be parsed.
    pub(crate) const fn malformed(detail: &'static str) -> Self {
        Self::new(ReasonCode::MalformedPacket, detail)
    }

    /// The bytes can be parsed, but say what the protocol does not allow.
    pub(crate) const fn protocol(detail: &'static str) -> Self {
        Self::new(ReasonCode::ProtocolError, detail)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for DecodeError {}

impl From<Malformed> for DecodeError {
    #[inline]
    fn from(Malformed(detail): Malformed) -> Self {
        Self::malformed(detail)
    }
}
