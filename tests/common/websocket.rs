//! WebSocket frames (RFC 6455, section 5), written and read from the client's side.

use std::collections::VecDeque;

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
/// The bit of the last frame of a message.
pub const LAST: u8 = 0x80;

/// A frame of a client, which is masked: its first byte, with the reserved bits, and its payload.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut bytes = vec![first];
    match payload.len() {
        size @ 0..=125 => bytes.push(0x80 | size as u8),
        size @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(size as u16).to_be_bytes());
        }
        size => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Both directions of a connection.
#[derive(Default)]
pub struct Framing {
    /// What has been sent so far, which decides how the next bytes are cut.
    turn: usize,
    /// What has been received and not been taken apart.
    received: Vec<u8>,
    /// Bytes of the payload of the binary frame that is being received.
    remaining: usize,
    payload: VecDeque<u8>,
    sent_pings: usize,
    /// Pings that have been sent and not been answered.
    pings: Vec<Vec<u8>>,
    pongs: Vec<Vec<u8>>,
    close: Option<Option<u16>>,
}

impl Framing {
    /// Cuts the bytes into frames, in another way each time: a frame may hold several packets or a part of one, may be
    /// a message or a fragment, and pings may be among them [MQTT-6.0.0-2].
    pub fn encode(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.turn += 1;
        let (start, end) = bytes.split_at(bytes.len() / 2);
        let (first, rest) = bytes.split_at(bytes.len().min(1));
        match self.turn % 5 {
            0 => [self.ping(), frame(LAST | BINARY, start), frame(LAST | BINARY, end)].concat(),
            1 => frame(LAST | BINARY, bytes),
            2 => [frame(LAST | BINARY, first), frame(LAST | BINARY, rest)].concat(),
            3 => [
                frame(BINARY, start),
                self.ping(),
                frame(CONTINUATION, &[]),
                frame(LAST | CONTINUATION, end),
            ]
            .concat(),
            _ => [
                frame(BINARY, first),
                frame(CONTINUATION, rest),
                frame(LAST | CONTINUATION, &[]),
            ]
            .concat(),
        }
    }

    fn ping(&mut self) -> Vec<u8> {
        self.sent_pings += 1;
        let payload = format!("ping {}", self.sent_pings);
        self.ping_with(payload.as_bytes())
    }

    /// A Ping, whose Pong is checked.
    pub fn ping_with(&mut self, payload: &[u8]) -> Vec<u8> {
        self.pings.push(payload.to_vec());
        frame(LAST | PING, payload)
    }

    /// Takes bytes of the broker's.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        while self.take() {}
    }

    /// Takes a frame, or a part of one; whether there was one.
    fn take(&mut self) -> bool {
        if self.remaining > 0 {
            let size = self.remaining.min(self.received.len());
            self.payload.extend(self.received.drain(..size));
            self.remaining -= size;
            return size > 0;
        }
        let Some((header, size)) = header(&self.received) else {
            return false;
        };
        assert!(self.close.is_none(), "the broker sends a frame after its Close");
        let first = self.received[0];
        if first == LAST | BINARY {
            self.received.drain(..header);
            self.remaining = size;
            return true;
        }
        if self.received.len() < header + size {
            return false;
        }
        let payload = self.received.drain(..header + size).skip(header).collect();
        self.take_control(first, payload);
        true
    }

    fn take_control(&mut self, first: u8, payload: Vec<u8>) {
        assert!(payload.len() <= 125, "a control frame of {} bytes", payload.len());
        if first == LAST | PONG {
            let sent = self.pings.iter().position(|ping| *ping == payload);
            // One Pong may answer all Pings before.
            self.pings
                .drain(..=sent.unwrap_or_else(|| panic!("the Pong of no Ping: {payload:02x?}")));
            self.pongs.push(payload);
        } else {
            assert_eq!(first, LAST | CLOSE, "neither a binary frame nor Pong nor Close");
            self.close = Some(payload.first_chunk().map(|code| u16::from_be_bytes(*code)));
        }
    }

    /// Moves payload out.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        let size = buffer.len().min(self.payload.len());
        buffer
            .iter_mut()
            .zip(self.payload.drain(..size))
            .for_each(|(to, from)| *to = from);
        size
    }

    /// Whether the broker has sent a Close frame.
    pub fn is_closed(&self) -> bool {
        self.close.is_some()
    }

    /// The status code of the broker's Close frame.
    pub fn close_code(&self) -> Option<u16> {
        self.close.expect("a Close frame of the broker")
    }

    /// The payloads of the Pongs that have come.
    pub fn take_pongs(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.pongs)
    }
}

/// The size of a header, and of the payload that it announces; none while it is incomplete.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let second = *bytes.get(1)?;
    assert_eq!(second & 0x80, 0, "a frame of the broker is masked");
    match second {
        126 => Some((4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)))),
        127 => Some((10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize)),
        size => Some((2, usize::from(size))),
    }
}
