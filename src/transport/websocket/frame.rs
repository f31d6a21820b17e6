//! WebSocket frames (RFC 6455, section 5) without input or output: decoded in place, as they arrive. The load generator
//! uses the other side of them.

use std::fmt;

/// Why a peer's frames are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameError {
    /// The status code of the Close frame.
    pub(crate) code: u16,
    pub(crate) detail: &'static str,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocket: {}", self.detail)
    }
}

impl std::error::Error for FrameError {}

/// Normal closure.
pub(crate) const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
const TOO_BIG: u16 = 1009;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Bytes of the largest frame: the largest packet that MQTT has. The payload is not collected, so that this bounds only
/// what a peer may announce.
const LARGEST_FRAME: u64 = 268_435_460;
/// Bytes of the payload of a control frame (section 5.5).
const LARGEST_CONTROL: usize = 125;
/// Bytes of a header, mask included.
const LARGEST_HEADER: usize = 14;

/// The payload of a control frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Control(Vec<u8>);

/// What a peer's frames are taken apart with. Small, since an idle connection owns one.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    header: [u8; LARGEST_HEADER],
    header_size: u8,
    /// Of the frame whose payload is being read.
    opcode: u8,
    mask: [u8; 4],
    /// Bytes of the payload that are still to come.
    remaining: u64,
    /// Whether a message continues in the next data frame.
    fragmented: bool,
    in_payload: bool,
    /// The peer is a server, whose frames have no mask (section 5.1).
    unmasked: bool,
    /// The control frame being read.
    control: Option<Box<Control>>,
    /// The payload of the last Ping that has not been answered.
    ping: Option<Box<Control>>,
    closed: bool,
}

impl Decoder {
    /// For the frames of a server.
    #[cfg(feature = "cli")]
    pub(crate) fn of_server() -> Decoder {
        Decoder {
            unmasked: true,
            ..Decoder::default()
        }
    }

    /// Takes frames apart; their payload is moved to the front of `bytes`. How many bytes that is.
    pub(crate) fn decode(&mut self, bytes: &mut [u8]) -> Result<usize, FrameError> {
        let (mut from, mut to) = (0, 0);
        while from < bytes.len() && !self.closed {
            if !self.in_payload {
                from += self.take_header(&bytes[from..])?;
                continue;
            }
            let size = self.remaining.min((bytes.len() - from) as u64) as usize;
            if self.opcode < CLOSE {
                bytes.copy_within(from..from + size, to);
                if !self.unmasked {
                    unmask(&mut bytes[to..to + size], &mut self.mask);
                }
                to += size;
            } else {
                let payload = &mut bytes[from..from + size];
                unmask(payload, &mut self.mask);
                self.control.get_or_insert_default().0.extend_from_slice(payload);
            }
            from += size;
            self.remaining -= size as u64;
            if self.remaining == 0 {
                self.end_frame();
            }
        }
        Ok(to)
    }

    /// Whether the peer has sent a Close frame: nothing follows it.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The last Ping that has not been answered: it is enough to answer that one (section 5.5.3).
    pub(crate) fn take_ping(&mut self) -> Option<Box<Control>> {
        self.ping.take()
    }

    /// Takes bytes of a header; how many.
    fn take_header(&mut self, bytes: &[u8]) -> Result<usize, FrameError> {
        let mut taken = 0;
        while taken < bytes.len() {
            let size = usize::from(self.header_size);
            self.header[size] = bytes[taken];
            self.header_size += 1;
            taken += 1;
            if size == 1 {
                self.check_start()?;
            }
            if size > 0 && size + 1 == self.length_end() + self.mask_size() {
                self.begin_frame()?;
                break;
            }
        }
        Ok(taken)
    }

    /// Checks the first two bytes, before more is waited for.
    fn check_start(&self) -> Result<(), FrameError> {
        let [first, second, ..] = self.header;
        let (last, opcode) = (first & 0x80 != 0, first & 0x0F);
        let error = |code, detail| Err(FrameError { code, detail });
        if first & 0x70 != 0 {
            return error(PROTOCOL_ERROR, "a reserved bit is set");
        }
        if (second & 0x80 == 0) != self.unmasked {
            return error(PROTOCOL_ERROR, "a frame is not masked as it should be");
        }
        match opcode {
            // [MQTT-6.0.0-1] [MQTT3-6.0.0-1]
            TEXT => error(UNSUPPORTED_DATA, "a text frame, where MQTT needs binary ones"),
            BINARY if self.fragmented => error(PROTOCOL_ERROR, "a message begins within another"),
            CONTINUATION if !self.fragmented => error(PROTOCOL_ERROR, "a continuation of no message"),
            CLOSE | PING | PONG if !last => error(PROTOCOL_ERROR, "a fragmented control frame"),
            CLOSE | PING | PONG if usize::from(second & 0x7F) > LARGEST_CONTROL => {
                error(PROTOCOL_ERROR, "a control frame of more than 125 bytes")
            }
            CONTINUATION | BINARY | CLOSE | PING | PONG => Ok(()),
            _ => error(PROTOCOL_ERROR, "an unknown kind of frame"),
        }
    }

    /// Where the length in the header ends.
    fn length_end(&self) -> usize {
        match self.header[1] & 0x7F {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    fn mask_size(&self) -> usize {
        if self.unmasked { 0 } else { 4 }
    }

    fn begin_frame(&mut self) -> Result<(), FrameError> {
        let header = &self.header;
        let mask = self.length_end();
        self.remaining = header[2..mask]
            .iter()
            .fold(None, |size: Option<u64>, byte| {
                Some(size.unwrap_or(0) << 8 | u64::from(*byte))
            })
            .unwrap_or(u64::from(header[1] & 0x7F));
        self.header_size = 0;
        if self.remaining > LARGEST_FRAME {
            return Err(FrameError {
                code: TOO_BIG,
                detail: "a frame larger than any packet",
            });
        }
        if !self.unmasked {
            self.mask.copy_from_slice(&header[mask..mask + 4]);
        }
        self.opcode = header[0] & 0x0F;
        if self.opcode < CLOSE {
            self.fragmented = header[0] & 0x80 == 0;
        }
        self.in_payload = true;
        if self.remaining == 0 {
            self.end_frame();
        }
        Ok(())
    }

    fn end_frame(&mut self) {
        self.in_payload = false;
        match self.opcode {
            PING => self.ping = Some(self.control.take().unwrap_or_default()),
            CLOSE => self.closed = true,
            _ => {}
        }
        self.control = None;
    }
}

/// Removes the mask, which begins with the first byte; afterwards it begins with the byte behind the last.
fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let mut value = [0; 8];
        value.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(value) ^ wide).to_ne_bytes());
    }
    let rest = words.into_remainder();
    rest.iter_mut()
        .enumerate()
        .for_each(|(index, byte)| *byte ^= mask[index % 4]);
    mask.rotate_left(rest.len() % 4);
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Header {
    bytes: [u8; LARGEST_HEADER],
    from: u8,
    to: u8,
}

impl Header {
    /// Of a binary frame of the broker's with so many bytes of payload [MQTT-6.0.0-1]: it has no mask (section 5.1).
    pub(crate) fn binary(size: usize) -> Header {
        let mut header = Header::default();
        header.bytes[0] = 0x80 | BINARY;
        match u16::try_from(size) {
            Ok(size @ 0..=125) => {
                header.bytes[1] = size as u8;
                header.to = 2;
            }
            Ok(size) => {
                header.bytes[1] = 126;
                header.bytes[2..4].copy_from_slice(&size.to_be_bytes());
                header.to = 4;
            }
            Err(_) => {
                header.bytes[1] = 127;
                header.bytes[2..10].copy_from_slice(&(size as u64).to_be_bytes());
                header.to = 10;
            }
        }
        header
    }

    /// Of a client's binary frame, with a mask that changes nothing.
    #[cfg(feature = "cli")]
    pub(crate) fn masked(size: usize) -> Header {
        let mut header = Header::binary(size);
        header.bytes[1] |= 0x80;
        header.to += 4;
        header
    }

    /// What of it has not been sent.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[usize::from(self.from)..usize::from(self.to)]
    }

    /// So many bytes have been sent, of the header and what follows; how many of these are not the header's.
    pub(crate) fn sent(&mut self, size: usize) -> usize {
        let own = size.min(self.unsent().len());
        self.from += own as u8;
        size - own
    }
}

/// A Pong frame.
pub(crate) fn pong(ping: &Control) -> Vec<u8> {
    // A control frame's payload has at most 125 bytes.
    [&[0x80 | PONG, ping.0.len() as u8], &ping.0[..]].concat()
}

/// A Close frame.
pub(crate) fn close(code: u16) -> Vec<u8> {
    let [high, low] = code.to_be_bytes();
    vec![0x80 | CLOSE, 2, high, low]
}

/// The same control frame with a mask that changes nothing.
pub(crate) fn masked(mut frame: Vec<u8>) -> Vec<u8> {
    frame[1] |= 0x80;
    frame.splice(2..2, [0; 4]);
    frame
}

#[cfg(test)]
mod tests;
