//! The clients of a script: what they have sent, what they have received, and whether the one allows the other.
//!
//! A client cannot know which of its packets the broker has handled before a connection ended. In doubt a packet counts
//! as handled, which allows the broker more; so what is reported is a fault whatever the broker has handled.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use mqtt_broker::codec::decode::{self, ConnectError};
use mqtt_broker::codec::frame::{self, Frame};
use mqtt_broker::packet as broker;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

use super::packet::{Packet, Publish, Version};
use super::wire;

/// What the CONNECT asks for that binds the broker.
#[derive(Clone, Debug)]
struct Terms {
    version: Version,
    client_id: String,
    receive_maximum: usize,
    maximum_packet_size: usize,
    topic_alias_maximum: u16,
}

/// A QoS 1 or 2 message that the client has not acknowledged completely.
#[derive(Clone, Debug)]
struct Unacknowledged {
    qos: u8,
    payload: Vec<u8>,
    /// PUBREC was sent; PUBREL was received.
    received: bool,
    released: bool,
    /// Its PUBLISH came on this connection.
    here: bool,
}

type Messages = HashMap<u16, Unacknowledged>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// No CONNACK yet.
    Start,
    Connected,
    /// Nothing may follow a refusal or a DISCONNECT.
    Told,
}

/// The client's end of a connection.
pub(crate) struct Link {
    io: DuplexStream,
    serial: u64,
    /// What the pipe has not taken yet.
    to_send: Vec<u8>,
    /// What it has taken and is no whole packet yet; `None` when nothing can be made of it any more.
    sent: Option<Vec<u8>>,
    received: Vec<u8>,
    at_end: bool,
    half_closed: bool,
    terms: Option<Terms>,
    phase: Phase,
    session_present: bool,
    messages: Messages,
    /// Identifiers that the client has acknowledged without having read a message. Its PUBLISH may have been on its way
    /// then, and the broker rightly takes it for finished.
    acknowledged_unread: BTreeSet<u16>,
    /// Those of the session as the client knows it; forgotten unless the CONNACK says that the session is present.
    inherited: Messages,
    /// The connection that had the session when this one claimed it.
    claimed_from: Option<u64>,
    aliases: HashMap<u16, String>,
    /// Answers that the broker owes, by type of packet and Packet Identifier.
    due: HashMap<(u8, u16), u32>,
}

impl Link {
    pub(crate) fn new(io: DuplexStream) -> Link {
        Link {
            io,
            serial: 0,
            to_send: Vec::new(),
            sent: Some(Vec::new()),
            received: Vec::new(),
            at_end: false,
            half_closed: false,
            terms: None,
            phase: Phase::Start,
            session_present: false,
            messages: Messages::new(),
            acknowledged_unread: BTreeSet::new(),
            inherited: Messages::new(),
            claimed_from: None,
            aliases: HashMap::new(),
            due: HashMap::new(),
        }
    }

    fn key(&self) -> Option<&str> {
        let terms = self.terms.as_ref()?;
        Some(&*terms.client_id).filter(|id| !id.is_empty())
    }
}

/// All clients, and the sessions of those who have gone, by Client Identifier.
pub(crate) struct Clients {
    links: Vec<Option<Link>>,
    sessions: HashMap<String, Messages>,
    /// The last connection that has claimed the session of a Client Identifier.
    claimed: HashMap<String, u64>,
    serial: u64,
    max_inflight: usize,
    /// First bytes of what was received.
    pub(crate) seen: BTreeSet<u8>,
}

impl Clients {
    pub(crate) fn new(count: usize, max_inflight: u16) -> Clients {
        Clients {
            links: (0..count).map(|_| None).collect(),
            sessions: HashMap::new(),
            claimed: HashMap::new(),
            serial: 0,
            max_inflight: max_inflight.into(),
            seen: BTreeSet::new(),
        }
    }

    pub(crate) fn open(&mut self, client: usize, mut link: Link) {
        self.cut(client);
        self.serial += 1;
        link.serial = self.serial;
        self.links[client] = Some(link);
    }

    /// Closes a connection without reading what is left.
    pub(crate) fn cut(&mut self, client: usize) {
        let Some(link) = self.links[client].take() else { return };
        let Some(key) = link.key().map(str::to_owned) else {
            return;
        };
        if link.phase != Phase::Start && self.claimed.get(&key) == Some(&link.serial) {
            self.claimed.remove(&key);
            self.sessions.insert(key, link.messages);
        }
    }

    pub(crate) fn half_close(&mut self, client: usize) {
        if let Some(link) = &mut self.links[client] {
            link.half_closed = true;
            now(link.io.shutdown());
        }
    }

    /// The version of the connection; before it is known, MQTT 5.0.
    pub(crate) fn version(&self, client: usize) -> Version {
        let link = self.links[client].as_ref();
        link.and_then(|link| link.terms.as_ref())
            .map_or(Version::V5, |terms| terms.version)
    }

    pub(crate) fn send(&mut self, client: usize, bytes: &[u8]) {
        if let Some(link) = &mut self.links[client]
            && link.to_send.len() < 1 << 16
        {
            link.to_send.extend_from_slice(bytes);
            self.pump();
        }
    }

    /// Moves into the pipes what they take.
    pub(crate) fn pump(&mut self) {
        for client in 0..self.links.len() {
            self.pump_one(client);
        }
    }

    fn pump_one(&mut self, client: usize) {
        let Some(link) = &mut self.links[client] else { return };
        if link.to_send.is_empty() || link.half_closed {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(written)) = Pin::new(&mut link.io).poll_write(&mut cx, &link.to_send) else {
            return;
        };
        let written: Vec<u8> = link.to_send.drain(..written).collect();
        if let Some(sent) = &mut link.sent {
            sent.extend_from_slice(&written);
        }
        while self.watch(client) {}
    }

    /// Takes note of the next packet that was sent; whether there was one.
    fn watch(&mut self, client: usize) -> bool {
        let Some(link) = &mut self.links[client] else {
            return false;
        };
        let Some(sent) = link.sent.take() else { return false };
        let frame = match frame::parse(&sent, frame::MAX_PACKET_SIZE) {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                link.sent = Some(sent);
                return false;
            }
            Err(_) => return false,
        };
        link.sent = Some(sent[frame.size..].to_vec());
        if link.terms.is_some() {
            note_sent(link, frame.first_byte, frame.body);
        } else {
            link.terms = terms(&frame, self.max_inflight);
            if link.terms.is_none() {
                link.sent = None;
                return false;
            }
            self.claim(client);
        }
        true
    }

    /// A complete CONNECT has been sent: what is known of its session goes with it.
    fn claim(&mut self, client: usize) {
        let Some(link) = &mut self.links[client] else { return };
        let Some(key) = link.key().map(str::to_owned) else {
            return;
        };
        link.inherited = self.sessions.remove(&key).unwrap_or_default();
        link.claimed_from = self.claimed.insert(key, link.serial);
    }

    /// Reads what has arrived, up to so many bytes, and checks the whole packets.
    pub(crate) fn read(&mut self, client: usize, mut limit: usize) {
        while let Some(link) = &mut self.links[client] {
            let mut space = [0; 512];
            let room = space.len().min(limit);
            let mut buffer = ReadBuf::new(&mut space[..room]);
            let mut cx = Context::from_waker(Waker::noop());
            if link.at_end || room == 0 || Pin::new(&mut link.io).poll_read(&mut cx, &mut buffer).is_pending() {
                return;
            }
            let filled = buffer.filled();
            link.at_end = filled.is_empty();
            link.received.extend_from_slice(filled);
            limit -= filled.len();
            while let Some((packet, size)) = self.next_packet(client) {
                self.check(client, packet, size);
            }
        }
    }

    fn next_packet(&mut self, client: usize) -> Option<(Packet, usize)> {
        let link = self.links[client].as_mut()?;
        let (first, body, size) = wire::split(&link.received)?;
        let version = link.terms.as_ref().expect("nothing comes before the CONNECT").version;
        self.seen.insert(first);
        let packet = Packet::decode(version, first, body);
        link.received.drain(..size);
        Some((packet, size))
    }

    fn check(&mut self, client: usize, packet: Packet, size: usize) {
        if let Packet::Connack(connack) = &packet {
            self.inherit(client, connack.code == 0 && connack.session_present);
        }
        let Some(link) = &mut self.links[client] else { return };
        let terms = link.terms.clone().expect("checked when it was decoded");
        assert!(
            size <= terms.maximum_packet_size,
            "{size} bytes are above the Maximum Packet Size {}: {packet:?}",
            terms.maximum_packet_size
        );
        match (&packet, link.phase) {
            (Packet::Connack(connack), Phase::Start) => {
                link.session_present = connack.session_present;
                link.phase = if connack.code == 0 {
                    Phase::Connected
                } else {
                    Phase::Told
                };
            }
            (Packet::Connack(_), _) => panic!("a second CONNACK: {packet:?}"),
            (_, Phase::Connected) => {}
            (_, phase) => panic!("{phase:?}, and yet {packet:?}"),
        }
        match packet {
            Packet::Publish(publish) => check_publish(link, &terms, publish),
            Packet::Pubrel(ack) => {
                if let Some(message) = link.messages.get_mut(&ack.id) {
                    message.released = true;
                }
            }
            Packet::Puback(ack) => answered(link, 4, ack.id),
            Packet::Pubrec(ack) => answered(link, 5, ack.id),
            Packet::Pubcomp(ack) => answered(link, 7, ack.id),
            Packet::Suback(suback) => answered(link, 9, suback.id),
            Packet::Unsuback(unsuback) => answered(link, 11, unsuback.id),
            Packet::Pingresp => answered(link, 13, 0),
            Packet::Disconnect(_) => link.phase = Phase::Told,
            _ => {}
        }
    }

    /// What is unacknowledged on a connection whose session is resumed. If that was taken from a connection which is
    /// still there, it was closed before the CONNACK: what it was sent last is read first.
    fn inherit(&mut self, client: usize, resumed: bool) {
        let Some(link) = &mut self.links[client] else { return };
        let mut messages = std::mem::take(&mut link.inherited);
        if !resumed {
            return;
        }
        if let Some(serial) = link.claimed_from.take() {
            messages = self.messages_of(serial);
        }
        if let Some(link) = &mut self.links[client] {
            messages.values_mut().for_each(|message| message.here = false);
            link.messages = messages;
        }
    }

    fn messages_of(&mut self, serial: u64) -> Messages {
        let is_it = |link: &Option<Link>| link.as_ref().is_some_and(|link| link.serial == serial);
        let Some(place) = self.links.iter().position(is_it) else {
            return Messages::new();
        };
        self.read(place, usize::MAX);
        match &mut self.links[place] {
            Some(link) if link.at_end && link.phase != Phase::Start => std::mem::take(&mut link.messages),
            _ => Messages::new(),
        }
    }

    /// The answer that the client owes to one of its messages: 0 PUBACK, 1 PUBREC, 3 PUBCOMP, and the identifier.
    pub(crate) fn owed(&self, client: usize, choice: usize) -> Option<(u8, u16)> {
        let link = self.links[client].as_ref()?;
        let mut owed: Vec<_> = link
            .messages
            .iter()
            .filter(|(_, message)| message.here || message.released)
            .map(
                |(id, message)| match (message.qos, message.released, message.received) {
                    (1, ..) => (0, *id),
                    (_, true, _) => (3, *id),
                    (_, false, _) => (1, *id),
                },
            )
            .collect();
        owed.sort_unstable();
        (!owed.is_empty()).then(|| owed[choice % owed.len()])
    }
}

fn check_publish(link: &mut Link, terms: &Terms, publish: Publish) {
    check_alias(link, terms, &publish);
    if publish.qos == 0 {
        return;
    }
    assert!(
        !publish.dup || link.session_present || terms.version == Version::V31,
        "sent again to a new session: {publish:?}"
    );
    if let Some(known) = link.messages.get(&publish.id) {
        assert!(
            publish.dup,
            "the Packet Identifier is in use for {known:?}: {publish:?}"
        );
        assert!(!known.here, "sent twice on one connection: {publish:?}");
        assert!(!known.released, "sent again after PUBREL: {publish:?}");
        assert!(
            (known.qos, &known.payload) == (publish.qos, &publish.payload),
            "not what was sent before, {known:?}: {publish:?}"
        );
    }
    if link.acknowledged_unread.remove(&publish.id) {
        link.messages.remove(&publish.id);
        return;
    }
    let message = Unacknowledged {
        qos: publish.qos,
        payload: publish.payload,
        received: false,
        released: false,
        here: true,
    };
    link.messages.insert(publish.id, message);
    let inflight = link.messages.values().filter(|message| message.here).count();
    assert!(
        inflight <= terms.receive_maximum,
        "{inflight} in flight, Receive Maximum {}",
        terms.receive_maximum
    );
}

fn check_alias(link: &mut Link, terms: &Terms, publish: &Publish) {
    let Some(alias) = publish.props.topic_alias() else {
        return;
    };
    assert!(
        alias > 0 && alias <= terms.topic_alias_maximum,
        "Topic Alias {alias} of {}",
        terms.topic_alias_maximum
    );
    if publish.topic.is_empty() {
        assert!(
            link.aliases.contains_key(&alias),
            "an alias without a topic: {publish:?}"
        );
    } else {
        link.aliases.insert(alias, publish.topic.clone());
    }
}

fn answered(link: &mut Link, kind: u8, id: u16) {
    let due = link.due.get_mut(&(kind, id)).filter(|due| **due > 0);
    *due.unwrap_or_else(|| panic!("an answer of type {kind} to {id}, which was not asked")) -= 1;
}

/// Takes note of a packet that was sent, whether or not it is well-formed.
fn note_sent(link: &mut Link, first: u8, body: &[u8]) {
    let id_at = |at: usize| match body.get(at..at + 2) {
        Some(id) => u16::from_be_bytes([id[0], id[1]]),
        None => 0,
    };
    let id = id_at(0);
    let (answer, id) = match first >> 4 {
        3 => match first >> 1 & 3 {
            0 => return,
            1 => (4, id_at(2 + usize::from(id))),
            _ => (5, id_at(2 + usize::from(id))),
        },
        4 | 7 => return finished(link, id),
        5 => {
            if body.get(2).is_some_and(|reason| *reason >= 0x80) {
                finished(link, id);
            } else if let Some(message) = link.messages.get_mut(&id) {
                message.received = true;
            }
            return;
        }
        6 => (7, id),
        8 => (9, id),
        10 => (11, id),
        12 => (13, 0),
        _ => return,
    };
    *link.due.entry((answer, id)).or_default() += 1;
}

/// The client has sent the last of what it owes for the message of this identifier.
fn finished(link: &mut Link, id: u16) {
    let is_read = link
        .messages
        .get(&id)
        .is_some_and(|message| message.here || message.released);
    link.messages.remove(&id);
    if !is_read {
        link.acknowledged_unread.insert(id);
    }
}

/// What the broker must make of the first packet; `None` if it has to close without a word.
fn terms(first: &Frame<'_>, max_inflight: usize) -> Option<Terms> {
    let version = |version| match version {
        broker::Version::V31 => Version::V31,
        broker::Version::V311 => Version::V311,
        broker::Version::V5 => Version::V5,
    };
    match decode::connect(first) {
        Ok(connect) => Some(Terms {
            version: version(connect.version),
            client_id: connect.client_id.into(),
            receive_maximum: usize::from(connect.properties.receive_maximum).min(max_inflight),
            maximum_packet_size: connect
                .properties
                .maximum_packet_size
                .map_or(usize::MAX, |size| size as usize),
            topic_alias_maximum: connect.properties.topic_alias_maximum,
        }),
        Err(ConnectError::Refuse { version: spoken, .. }) => Some(Terms {
            version: version(spoken),
            client_id: String::new(),
            receive_maximum: 0,
            maximum_packet_size: usize::MAX,
            topic_alias_maximum: 0,
        }),
        Err(ConnectError::Close(_)) => None,
    }
}

/// Polls once.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
