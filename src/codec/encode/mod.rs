//! Writing the packets that the broker sends.
//!
//! Every function appends one whole packet to `out` and returns true, or appends nothing and returns false, because
//! the packet cannot be sent: it would be larger than `limit`, the Maximum Packet Size of the client [MQTT-3.1.2-24],
//! or larger than the protocol allows. Reason String and User Properties are left out where that makes it fit.
//!
//! `mqttbytes` writes the rare packets; nothing of it is visible outside of this module.

mod acks;
mod connack;
mod disconnect;
mod publish;
mod suback;
#[cfg(test)]
mod tests;

pub use acks::{AckKind, ack, pingresp};
pub use connack::{Connack, connack};
pub use disconnect::{auth, disconnect};
pub use publish::{PublishFrame, publish, publish_size};
pub use suback::{suback, unsuback};

use crate::codec::frame::MAX_PACKET_SIZE;
use crate::properties::PropertyId;
use crate::wire::{MAX_VARINT, put_binary, put_varint, varint_len};
use bytes::BytesMut;

/// Appends a packet that `mqttbytes` writes, if that is possible within the limit.
///
/// It writes to a buffer of its own first, because a writer that fails leaves half a packet behind.
fn append(
    out: &mut Vec<u8>,
    limit: Option<u32>,
    write: impl FnOnce(&mut BytesMut) -> Result<usize, mqttbytes::Error>,
) -> bool {
    let mut packet = BytesMut::new();
    let fits = write(&mut packet).is_ok() && packet.len() <= limit.unwrap_or(MAX_PACKET_SIZE) as usize;
    if fits {
        out.extend_from_slice(&packet);
    }
    fits
}

/// Appends a packet with this body, if that is possible within the limit.
fn append_body(out: &mut Vec<u8>, limit: Option<u32>, first_byte: u8, body: &[u8]) -> bool {
    let Ok(remaining_length) = u32::try_from(body.len()) else {
        return false;
    };
    if remaining_length > MAX_VARINT {
        return false;
    }
    let size = 1 + varint_len(remaining_length) + body.len();
    if size > limit.unwrap_or(MAX_PACKET_SIZE) as usize {
        return false;
    }
    out.reserve(size);
    out.push(first_byte);
    put_varint(out, remaining_length);
    out.extend_from_slice(body);
    true
}

/// Appends a property that is Binary Data or a UTF-8 Encoded String.
fn put_property(out: &mut Vec<u8>, id: PropertyId, value: &[u8]) {
    out.push(id as u8);
    put_binary(out, value);
}

/// A text as a packet can have it: with more than 65,535 bytes it would corrupt the stream, with U+0000 close the
/// connection.
fn sendable(text: Option<&str>) -> Option<&str> {
    text.filter(|text| text.len() <= usize::from(u16::MAX) && !text.contains('\0'))
}
