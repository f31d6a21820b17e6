//! The floor: what relaying costs when nothing is parsed.
//!
//! A single-threaded relay that answers CONNECT and SUBSCRIBE, pairs publisher `…-p7` of `broker bench p2p` with its
//! subscriber `…-s7`, and from then on copies bytes from the one to the other: one `recv` and one `send` for each
//! batch, and a look at neither. No broker can cost less on this machine with these system calls, so the distance
//! from here is what a broker's own work costs. It is right for QoS 0, MQTT 3.1.1 and one filter in a SUBSCRIBE.
//!
//! It prints its address, as the broker does, and runs until it is ended.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// Bytes of a batch, at most.
const BATCH: usize = 64 * 1024;
const LISTENER: Token = Token(usize::MAX);

fn main() -> io::Result<()> {
    let mut relay = Relay::new()?;
    println!("listening on mqtt://{}", relay.listener.local_addr()?);
    let mut events = Events::with_capacity(1024);
    loop {
        match relay.poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                relay.accept()?;
                continue;
            }
            let id = event.token().0;
            if event.is_writable() {
                relay.write(id);
            }
            if event.is_readable() {
                relay.read(id);
            }
        }
    }
}

struct Relay {
    poll: Poll,
    listener: TcpListener,
    /// By token. None is used twice, so that an event is never for another client than it was.
    clients: Vec<Option<Client>>,
    /// Subscribers by Client Identifier.
    subscribers: HashMap<String, usize>,
    batch: Box<[u8]>,
}

struct Client {
    stream: TcpStream,
    /// What has come of a packet, before there is a partner.
    input: Vec<u8>,
    /// What the socket has not taken yet.
    output: Vec<u8>,
    /// Where a publisher's bytes go, or a subscriber's come from.
    partner: Option<usize>,
    is_publisher: bool,
}

impl Relay {
    fn new() -> io::Result<Relay> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Relay {
            poll,
            listener,
            clients: Vec::new(),
            subscribers: HashMap::new(),
            batch: vec![0; BATCH].into(),
        })
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.clients.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, token, interest)?;
            self.clients.push(Some(Client {
                stream,
                input: Vec::new(),
                output: Vec::new(),
                partner: None,
                is_publisher: false,
            }));
        }
    }

    /// Reads until the socket is empty, or the partner's is full.
    fn read(&mut self, id: usize) {
        while let Some(client) = &mut self.clients[id] {
            let partner = client.partner.filter(|_| client.is_publisher);
            if partner.is_some_and(|partner| self.is_full(partner)) {
                return; // Goes on in `write`.
            }
            let Some(client) = &mut self.clients[id] else { return };
            let size = match client.stream.read(&mut self.batch) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => return self.close(id),
                Ok(size) => size,
            };
            match partner {
                Some(partner) => self.send_batch(partner, size),
                None => self.greet(id, size),
            }
            // What comes later is another event: one `recv` tells enough.
            if size < BATCH {
                return;
            }
        }
    }

    fn is_full(&self, id: usize) -> bool {
        self.clients[id]
            .as_ref()
            .is_some_and(|client| !client.output.is_empty())
    }

    fn send_batch(&mut self, id: usize, size: usize) {
        if let Some(client) = &mut self.clients[id]
            && client.send(&self.batch[..size]).is_err()
        {
            self.close(id);
        }
    }

    /// The socket takes bytes again.
    fn write(&mut self, id: usize) {
        let Some(client) = &mut self.clients[id] else { return };
        if client.output.is_empty() {
            return;
        }
        let output = std::mem::take(&mut client.output);
        if client.send(&output).is_err() {
            return self.close(id);
        }
        if let Some(publisher) = client.partner.filter(|_| !client.is_publisher) {
            self.read(publisher);
        }
    }

    /// Answers the packets with which a client begins.
    fn greet(&mut self, id: usize, size: usize) {
        let Some(client) = &mut self.clients[id] else { return };
        client.input.extend_from_slice(&self.batch[..size]);
        let mut input = std::mem::take(&mut client.input);
        while let Some((first_byte, header, end)) = whole_packet(&input) {
            let body = &input[header..end];
            let answer = match first_byte >> 4 {
                1 => self.connect(id, body),
                8 if body.len() > 2 => Some(vec![0x90, 3, body[0], body[1], 0]),
                _ => None,
            };
            let client = self.clients[id].as_mut();
            let answered = answer.zip(client).map(|(answer, client)| client.send(&answer));
            if !matches!(answered, Some(Ok(()))) {
                return self.close(id);
            }
            input.drain(..end);
        }
        if let Some(client) = &mut self.clients[id] {
            client.input = input;
        }
    }

    /// Finds out who the client is. A publisher whose subscriber is not there gets no answer.
    fn connect(&mut self, id: usize, body: &[u8]) -> Option<Vec<u8>> {
        // Protocol name, level, flags and Keep Alive of MQTT 3.1.1 are 10 bytes.
        let size = u16::from_be_bytes([*body.get(10)?, *body.get(11)?]);
        let name = std::str::from_utf8(body.get(12..12 + usize::from(size))?).ok()?;
        let (beginning, role) = name.rsplit_once('-')?;
        if let Some(number) = role.strip_prefix('p') {
            let partner = *self.subscribers.get(&format!("{beginning}-s{number}"))?;
            self.clients[partner].as_mut()?.partner = Some(id);
            let client = self.clients[id].as_mut()?;
            (client.partner, client.is_publisher) = (Some(partner), true);
        } else {
            self.subscribers.insert(name.to_owned(), id);
        }
        Some(vec![0x20, 2, 0, 0])
    }

    /// A client is gone, and its partner has nothing to do any more.
    fn close(&mut self, id: usize) {
        let partner = self.clients[id].take().and_then(|client| client.partner);
        if let Some(partner) = partner {
            self.clients[partner] = None;
        }
        self.subscribers
            .retain(|_, subscriber| self.clients[*subscriber].is_some());
    }
}

impl Client {
    /// Sends what the socket takes, and keeps the rest.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = match self.stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            sent => sent?,
        };
        self.output.extend_from_slice(&bytes[sent..]);
        Ok(())
    }
}

/// First byte, start of the body and end of the packet at the start of these bytes, if it is complete.
fn whole_packet(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (mut length, mut header) = (0, 1);
    loop {
        let byte = *bytes.get(header)?;
        length |= usize::from(byte & 0x7F) << (7 * (header - 1));
        header += 1;
        if byte < 0x80 || header > 4 {
            break;
        }
    }
    let end = header + length;
    (bytes.len() >= end).then(|| (bytes[0], header, end))
}
