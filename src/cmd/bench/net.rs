//! Many sockets on one thread, with as little work for each message as there can be: a load generator that costs more
//! than the broker measures itself.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use super::socket::{Layers, Socket};
use crate::client::{Inbound, parse};
use crate::codec::frame;
use crate::packet::Version;

/// What is done with the packets that arrive.
pub(super) trait Handler {
    /// Packets follow that were read together.
    fn batch(&mut self) {}

    /// A packet has arrived at connection `id`. What is appended to `output` is sent to it.
    ///
    /// # Errors
    /// Ends the run.
    fn packet(&mut self, id: usize, packet: Inbound<'_>, output: &mut Vec<u8>) -> Result<(), String>;
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    output: Output,
    /// The beginning of a packet whose rest has not arrived.
    partial: Vec<u8>,
    connected: bool,
    /// The socket takes nothing for now, and will be heard of.
    blocked: bool,
    /// Nothing is read from it.
    frozen: bool,
    /// In `Net::dirty`.
    dirty: bool,
    /// The broker sends nothing more; what it has sent may not have been read.
    ended: bool,
}

/// What is to be sent.
#[derive(Debug, Default)]
struct Output {
    bytes: Vec<u8>,
    /// So many of `bytes` have been sent: at most half of them.
    written: usize,
}

impl Output {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// So much of the rest has been sent. What is moved is never more than what was sent since the last move.
    fn advance(&mut self, count: usize) {
        self.written += count;
        if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }
}

/// The connections.
#[derive(Debug)]
pub(super) struct Net {
    poll: Poll,
    events: Events,
    connections: Vec<Option<Connection>>,
    /// Those with output to be written at the end of the round.
    dirty: Vec<usize>,
    /// Those that may have more to read.
    again: Vec<usize>,
    input: Vec<u8>,
    version: Version,
    layers: Layers,
}

const INPUT_SIZE: usize = 256 * 1024;

impl Net {
    pub(super) fn new(version: Version, layers: Layers) -> Result<Net, String> {
        Ok(Net {
            poll: Poll::new().map_err(text)?,
            events: Events::with_capacity(1024),
            connections: Vec::new(),
            dirty: Vec::new(),
            again: Vec::new(),
            input: vec![0; INPUT_SIZE],
            version,
            layers,
        })
    }

    /// Begins a connection; what it is to say first goes into [`Net::output`].
    pub(super) fn connect(&mut self, address: SocketAddr) -> Result<usize, String> {
        let mut socket = Socket::connect(address, &self.layers).map_err(text)?;
        let id = self.connections.len();
        let interests = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(socket.source(), Token(id), interests)
            .map_err(text)?;
        self.connections.push(Some(Connection {
            socket,
            output: Output::default(),
            partial: Vec::new(),
            connected: false,
            blocked: true,
            frozen: false,
            dirty: false,
            ended: false,
        }));
        Ok(id)
    }

    /// Where to append what is to be sent at the end of the round.
    pub(super) fn output(&mut self, id: usize) -> &mut Vec<u8> {
        static NOBODY: &str = "a connection that was closed is not written to";
        let connection = self.connections[id].as_mut().expect(NOBODY);
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(id);
        }
        &mut connection.output.bytes
    }

    /// Bytes that a connection has not been able to send.
    pub(super) fn unsent(&self, id: usize) -> usize {
        self.connections[id]
            .as_ref()
            .map_or(0, |connection| connection.output.rest().len())
    }

    /// Reads nothing more from this connection.
    pub(super) fn freeze(&mut self, id: usize) {
        if let Some(connection) = &mut self.connections[id] {
            connection.frozen = true;
        }
    }

    /// Sends what there is to send and closes the connection.
    pub(super) fn close(&mut self, id: usize) {
        let _ = self.write(id);
        self.connections[id] = None;
    }

    /// One round: waits for input, for at most `timeout`, handles it, and writes what that has brought about.
    pub(super) fn round(&mut self, timeout: Duration, handler: &mut impl Handler) -> Result<(), String> {
        self.write_all()?;
        let timeout = if self.again.is_empty() { timeout } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(text(error)),
            _ => {}
        }
        let mut ready = std::mem::take(&mut self.again);
        for event in &self.events {
            let id = event.token().0;
            let Some(Some(connection)) = self.connections.get_mut(id) else {
                continue;
            };
            if event.is_writable() && connection.blocked {
                connection.connected = true;
                connection.blocked = false;
                if !connection.dirty {
                    connection.dirty = true;
                    self.dirty.push(id);
                }
            }
            connection.ended |= event.is_read_closed();
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                ready.push(id);
            }
        }
        for id in ready {
            self.read(id, handler)?;
        }
        self.write_all()
    }

    fn read(&mut self, id: usize, handler: &mut impl Handler) -> Result<(), String> {
        let Some(connection) = self.connections[id].as_mut().filter(|connection| !connection.frozen) else {
            return Ok(());
        };
        let kept = connection.partial.len();
        if self.input.len() < kept + INPUT_SIZE {
            self.input.resize(kept + INPUT_SIZE, 0);
        }
        self.input[..kept].copy_from_slice(&connection.partial);
        connection.partial.clear();
        let read = match connection.socket.read(&mut self.input[kept..]) {
            Ok(0) => return Err(format!("the broker closed connection {id}")),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(format!("connection {id}: {error}")),
        };
        if connection.blocked && connection.connected && connection.socket.is_open() {
            // Writing may have waited for the answer to a handshake.
            connection.blocked = false;
        }
        // A full buffer hides how much there is: only a short read says "no more". The end is behind what is read, and
        // there is no further event for it.
        if connection.socket.has_more() || (connection.ended && read > 0) {
            self.again.push(id);
        }
        handler.batch();
        let end = kept + read;
        let mut start = 0;
        while let Some(frame) = frame::parse(&self.input[start..end], u32::MAX).map_err(|error| error.detail)? {
            start += frame.size;
            let packet = parse(self.version, &frame).map_err(|error| error.0)?;
            handler.packet(id, packet, &mut connection.output.bytes)?;
        }
        connection.partial.extend_from_slice(&self.input[start..end]);
        if !connection.output.bytes.is_empty() && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(id);
        }
        Ok(())
    }

    fn write_all(&mut self) -> Result<(), String> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            self.write(id)?;
        }
        self.dirty = dirty;
        Ok(())
    }

    fn write(&mut self, id: usize) -> Result<(), String> {
        let Some(connection) = &mut self.connections[id] else {
            return Ok(());
        };
        connection.dirty = false;
        if connection.blocked || !connection.connected {
            return Ok(());
        }
        connection
            .socket
            .flush()
            .map_err(|error| format!("connection {id}: {error}"))?;
        while !connection.output.rest().is_empty() {
            match connection.socket.write(connection.output.rest()) {
                Ok(written) => connection.output.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.blocked = true;
                    return Ok(());
                }
                Err(error) => return Err(format!("connection {id}: {error}")),
            }
        }
        // The socket will be heard of.
        connection.blocked = connection.socket.has_unsent();
        Ok(())
    }
}

fn text(error: io::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    const ROUND: Duration = Duration::from_millis(10);

    /// Counts packets.
    #[derive(Default)]
    struct Counter(usize);

    impl Handler for Counter {
        fn packet(&mut self, _: usize, _: Inbound<'_>, _: &mut Vec<u8>) -> Result<(), String> {
            self.0 += 1;
            Ok(())
        }
    }

    /// A connection, and the end of the broker.
    fn connected() -> (Net, usize, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let mut net = Net::new(Version::V311, Layers::default()).expect("there is a poll");
        let id = net.connect(listener.local_addr().expect("it is bound")).expect("begun");
        let (broker, _) = listener.accept().expect("the client connects");
        (net, id, broker)
    }

    #[test]
    fn what_was_sent_does_not_stay_before_what_was_not() {
        let mut output = Output::default();
        let mut sent = Vec::new();
        for number in 0..100_u8 {
            output.bytes.extend_from_slice(&[number; 1000]);
            // Never all of it.
            sent.extend_from_slice(&output.rest()[..output.rest().len() - 1]);
            output.advance(output.rest().len() - 1);
            assert_eq!((output.rest(), output.bytes.len()), (&[number][..], 1));
        }
        let expected: Vec<u8> = (0..100).flat_map(|number| [number; 1000]).collect();
        assert_eq!(sent, expected[..99_999]);
        output.bytes.extend_from_slice(&[7; 9]);
        output.advance(5);
        assert_eq!((output.rest().len(), output.bytes.len()), (5, 10));
        output.advance(5);
        assert_eq!(output.bytes.len(), 0);
    }

    #[test]
    fn the_end_behind_the_last_packet_is_noticed() {
        let (mut net, id, mut broker) = connected();
        broker.write_all(&[0xD0, 0]).expect("sent");
        drop(broker);
        let mut counter = Counter::default();
        // Both are there, and are told in one event.
        let end = (0..100).find_map(|_| net.round(ROUND, &mut counter).err());
        assert_eq!(end, Some(format!("the broker closed connection {id}")));
        assert_eq!(counter.0, 1);
    }
}
