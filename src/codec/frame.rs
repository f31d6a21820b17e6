//! Finding whole packets in a stream of bytes (section 2.1).

use super::DecodeError;
use crate::reason::ReasonCode;
use crate::wire::{MAX_VARINT, varint};

/// The size of the largest packet that the protocol allows, its fixed header included.
pub const MAX_PACKET_SIZE: u32 = MAX_VARINT + 5;

/// One whole packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Packet type and flags.
    pub first_byte: u8,
    /// Everything after the fixed header.
    pub body: &'a [u8],
    /// Bytes of the whole packet, the fixed header included.
    pub size: usize,
}

/// The packet at the start of `buf`, or `None` if it is not complete.
///
/// A packet that cannot become valid is refused at the first byte that shows it, so that nobody buffers its rest.
///
/// # Errors
/// * Malformed Packet: the packet type is 0 (forbidden), or the Remaining Length has more bytes than it needs
///   [MQTT-1.5.5-1] or more than four.
/// * Packet too large: the packet has more than `max_packet_size` bytes.
#[inline]
pub fn parse(buf: &[u8], max_packet_size: u32) -> Result<Option<Frame<'_>>, DecodeError> {
    let Some((&first_byte, rest)) = buf.split_first() else {
        return Ok(None);
    };
    if first_byte < 0x10 {
        return Err(DecodeError::malformed("packet type 0 is forbidden"));
    }
    let Some((remaining_length, header_length)) = varint(rest)? else {
        return Ok(None);
    };
    // At most MAX_PACKET_SIZE, so that the sum fits.
    let size = remaining_length + header_length as u32 + 1;
    if size > max_packet_size {
        return Err(DecodeError::new(
            ReasonCode::PacketTooLarge,
            "packet is larger than the maximum packet size",
        ));
    }
    let body = rest.get(header_length..size as usize - 1);
    Ok(body.map(|body| Frame {
        first_byte,
        body,
        size: size as usize,
    }))
}
