//! The connection of a client: bytes in and out, never waiting.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use crate::packet::{Packet, Version};
use crate::wire;

pub struct Link {
    stream: TcpStream,
    version: Version,
    input: Vec<u8>,
    output: Vec<u8>,
    /// The other side takes nothing any more; it may have left something to read.
    deaf: bool,
}

/// What is read at a time, so that no client keeps the others waiting.
const PART: usize = 64 * 1024;

impl Link {
    pub fn open(addr: SocketAddr, version: Version) -> std::io::Result<Link> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Link {
            stream,
            version,
            input: Vec::new(),
            output: Vec::new(),
            deaf: false,
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub fn send(&mut self, packet: &Packet) {
        if !self.deaf {
            self.output.extend(packet.encode(self.version));
        }
    }

    pub fn wants_to_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// Writes what the socket takes.
    pub fn flush(&mut self) {
        let mut written = 0;
        while written < self.output.len() && !self.deaf {
            match self.stream.write(&self.output[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.deaf = true,
            }
        }
        if self.deaf {
            self.output.clear();
        } else {
            self.output.drain(..written);
        }
    }

    /// Reads what is there: the packets, and whether the connection has ended behind them.
    ///
    /// # Panics
    /// If the broker has sent something malformed.
    pub fn read(&mut self) -> (Vec<Packet>, bool) {
        let mut buffer = [0; PART];
        let ended = match self.stream.read(&mut buffer) {
            Ok(0) => true,
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                false
            }
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        let mut packets = Vec::new();
        let mut at = 0;
        while let Some((first, body, length)) = wire::split(&self.input[at..]) {
            packets.push(Packet::decode(self.version, first, body));
            at += length;
        }
        self.input.drain(..at);
        (packets, ended)
    }
}
