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

impl Frame<'_> {
    /// Whether it is a PUBLISH packet.
    #[must_use]
    pub fn is_publish(&self) -> bool {
        self.first_byte >> 4 == 3
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(buf: &[u8], max: u32) -> Option<ReasonCode> {
        parse(buf, max).err().map(|error| error.reason)
    }

    #[test]
    fn frames_end_where_their_length_says() {
        let buf = [0x32, 3, 1, 2, 3, 0xC0, 0];
        let frame = Frame {
            first_byte: 0x32,
            body: &[1, 2, 3],
            size: 5,
        };
        assert_eq!(parse(&buf, 100), Ok(Some(frame)));
        assert_eq!(
            parse(&buf[5..], 2),
            Ok(Some(Frame {
                first_byte: 0xC0,
                body: &[],
                size: 2
            }))
        );
        for end in 0..5 {
            assert_eq!(parse(&buf[..end], 100), Ok(None));
        }
    }

    #[test]
    fn long_remaining_lengths() {
        for remaining in [127_u32, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let mut buf = vec![0x30];
            crate::wire::put_varint(&mut buf, remaining);
            buf.resize(buf.len() + remaining as usize, 7);
            let size = buf.len();
            let frame = parse(&buf, size as u32).expect("valid").expect("whole");
            assert_eq!((frame.size, frame.body.len()), (size, remaining as usize));
            assert_eq!(parse(&buf[..size - 1], size as u32), Ok(None));
            assert_eq!(reason(&buf, size as u32 - 1), Some(ReasonCode::PacketTooLarge));
        }
    }

    #[test]
    fn too_large_is_seen_before_the_body() {
        assert_eq!(reason(&[0x30, 99], 100), Some(ReasonCode::PacketTooLarge));
        assert_eq!(parse(&[0x30, 98], 100), Ok(None));
        assert_eq!(
            reason(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], MAX_PACKET_SIZE - 1),
            Some(ReasonCode::PacketTooLarge)
        );
        assert_eq!(parse(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], MAX_PACKET_SIZE), Ok(None));
        assert_eq!(parse(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], u32::MAX), Ok(None));
        assert_eq!(reason(&[0xC0, 0], 1), Some(ReasonCode::PacketTooLarge));
    }

    #[test]
    fn malformed_headers_are_seen_at_once() {
        assert_eq!(reason(&[0x00], 100), Some(ReasonCode::MalformedPacket));
        assert_eq!(reason(&[0x0F, 0], 100), Some(ReasonCode::MalformedPacket));
        assert_eq!(
            reason(&[0x30, 0x80, 0x80, 0x80, 0x80], 100),
            Some(ReasonCode::MalformedPacket)
        );
        assert_eq!(reason(&[0x30, 0x80, 0x00], 100), Some(ReasonCode::MalformedPacket));
        assert_eq!(
            reason(&[0x30, 0x82, 0x80, 0x00], 100),
            Some(ReasonCode::MalformedPacket)
        );
        assert_eq!(parse(&[0x30, 0x80, 0x80, 0x80], u32::MAX), Ok(None));
    }
}
