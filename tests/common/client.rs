//! A client on a blocking connection: nothing happens that the test does not say.

use super::packet::{
    Ack, Connack, Connect, Disconnect, Packet, Props, Publish, Suback, Subscribe, Unsuback, Unsubscribe, Version, code,
};
use super::stream::Stream;
use super::{DEADLINE, wire};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// One connection to the broker. Acknowledges only when it is told to.
pub struct Client {
    pub version: Version,
    /// For messages of failing tests: the Client Identifier.
    pub name: String,
    /// The answer to the CONNECT, when [`Broker::connect`](super::Broker::connect) made this client.
    pub connack: Connack,
    /// Bytes of the packet that was received last, its fixed header included.
    pub last_size: usize,
    stream: Stream,
    received: Vec<u8>,
    /// Packets that came while [`Client::ack`] waited for another one; they are received next.
    set_aside: VecDeque<Packet>,
    last_id: u16,
}

impl Client {
    /// Opens a TCP connection and sends nothing.
    pub fn open(addr: SocketAddr, version: Version) -> Client {
        Client::on(Stream::tcp(addr), version)
    }

    /// A client on a connection on which no MQTT has been sent.
    pub fn on(stream: Stream, version: Version) -> Client {
        let connack = Connack {
            session_present: false,
            code: 0,
            props: Props::default(),
        };
        Client {
            version,
            name: "client".into(),
            connack,
            stream,
            last_size: 0,
            received: Vec::new(),
            set_aside: VecDeque::new(),
            last_id: 0,
        }
    }

    /// Connects, and expects to be accepted. The answer is kept in [`Client::connack`].
    pub fn accepted(mut self, connect: Connect) -> Client {
        self.name = connect.client_id.clone();
        self.send(connect);
        self.connack = self.recv_connack();
        assert_eq!(self.connack.code, 0, "{} is not accepted", self.name);
        self
    }

    /// The connection, for tests of what happens below MQTT.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    // ---- sending -------------------------------------------------------------------------------------------------

    /// Sends a packet.
    pub fn send(&mut self, packet: impl Into<Packet>) {
        let bytes = packet.into().encode(self.version);
        self.send_bytes(&bytes);
    }

    /// Sends any bytes.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes)
            .unwrap_or_else(|error| panic!("{} cannot send: {error}", self.name));
    }

    /// Sends any bytes; an error tells that the broker has closed or takes nothing.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// A Packet Identifier that this client has not used lately.
    pub fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    // ---- receiving -----------------------------------------------------------------------------------------------

    /// The next packet.
    pub fn recv(&mut self) -> Packet {
        self.recv_within(DEADLINE)
    }

    /// The next packet, which may take longer than usual.
    pub fn recv_within(&mut self, limit: Duration) -> Packet {
        match self.next_packet(limit) {
            Ok(Some(packet)) => packet,
            Ok(None) => panic!("{}: the broker has closed; a packet was expected", self.name),
            Err(error) => panic!("{}: no packet within {limit:?}: {error}", self.name),
        }
    }

    /// The next packet, or `None` when the broker has closed the connection.
    pub fn recv_or_closed(&mut self) -> Option<Packet> {
        self.next_packet(DEADLINE)
            .unwrap_or_else(|error| panic!("{}: neither packet nor end: {error}", self.name))
    }

    fn next_packet(&mut self, limit: Duration) -> std::io::Result<Option<Packet>> {
        match self.set_aside.pop_front() {
            Some(packet) => Ok(Some(packet)),
            None => self.read_packet(limit),
        }
    }

    fn read_packet(&mut self, limit: Duration) -> std::io::Result<Option<Packet>> {
        let start = Instant::now();
        loop {
            if let Some((first, body, size)) = wire::split(&self.received) {
                let packet = Packet::decode(self.version, first, body);
                self.received.drain(..size);
                self.last_size = size;
                return Ok(Some(packet));
            }
            let left = limit.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer, left) {
                Ok(0) => return self.end(),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A reset is an end as well: the broker had unread bytes of ours when it closed.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return self.end(),
                Err(error) => return Err(error),
            }
        }
    }

    fn end(&self) -> std::io::Result<Option<Packet>> {
        assert!(
            self.received.is_empty(),
            "{}: closed within a packet: {:02x?}",
            self.name,
            self.received
        );
        Ok(None)
    }

    /// Expects exactly this packet next.
    pub fn expect(&mut self, packet: impl Into<Packet>) {
        let received = self.recv();
        assert_eq!(received, packet.into(), "{}: not the expected packet", self.name);
    }

    /// Expects a CONNACK next.
    pub fn recv_connack(&mut self) -> Connack {
        match self.recv() {
            Packet::Connack(connack) => connack,
            other => panic!("{}: expected CONNACK, got {other:?}", self.name),
        }
    }

    /// Expects a PUBLISH next, and does not acknowledge it.
    pub fn recv_publish(&mut self) -> Publish {
        match self.recv() {
            Packet::Publish(publish) => publish,
            other => panic!("{}: expected PUBLISH, got {other:?}", self.name),
        }
    }

    /// Expects a PUBACK next.
    pub fn recv_puback(&mut self) -> Ack {
        match self.recv() {
            Packet::Puback(ack) => ack,
            other => panic!("{}: expected PUBACK, got {other:?}", self.name),
        }
    }

    /// Expects a PUBREC next.
    pub fn recv_pubrec(&mut self) -> Ack {
        match self.recv() {
            Packet::Pubrec(ack) => ack,
            other => panic!("{}: expected PUBREC, got {other:?}", self.name),
        }
    }

    /// Expects a PUBREL next.
    pub fn recv_pubrel(&mut self) -> Ack {
        match self.recv() {
            Packet::Pubrel(ack) => ack,
            other => panic!("{}: expected PUBREL, got {other:?}", self.name),
        }
    }

    /// Expects a PUBCOMP next.
    pub fn recv_pubcomp(&mut self) -> Ack {
        match self.recv() {
            Packet::Pubcomp(ack) => ack,
            other => panic!("{}: expected PUBCOMP, got {other:?}", self.name),
        }
    }

    /// Expects a SUBACK next.
    pub fn recv_suback(&mut self) -> Suback {
        match self.recv() {
            Packet::Suback(suback) => suback,
            other => panic!("{}: expected SUBACK, got {other:?}", self.name),
        }
    }

    /// Expects an UNSUBACK next.
    pub fn recv_unsuback(&mut self) -> Unsuback {
        match self.recv() {
            Packet::Unsuback(unsuback) => unsuback,
            other => panic!("{}: expected UNSUBACK, got {other:?}", self.name),
        }
    }

    /// Expects a DISCONNECT next, of any reason, and then the end of the connection.
    pub fn recv_disconnect(&mut self) -> Disconnect {
        match self.recv() {
            Packet::Disconnect(disconnect) => {
                self.expect_closed();
                disconnect
            }
            other => panic!("{}: expected DISCONNECT, got {other:?}", self.name),
        }
    }

    // ---- whole exchanges -----------------------------------------------------------------------------------------

    /// Subscribes with an options byte (at least the QoS); expects exactly the SUBACK, with the QoS granted.
    pub fn subscribe(&mut self, filter: &str, options: u8) {
        let granted = self.try_subscribe(filter, options);
        assert_eq!(
            granted,
            options & 3,
            "{}: {filter} is not granted as requested",
            self.name
        );
    }

    /// Subscribes and returns the code of the SUBACK, which must be the next packet.
    pub fn try_subscribe(&mut self, filter: &str, options: u8) -> u8 {
        let id = self.next_id();
        self.send(Subscribe::new(id).filter(filter, options));
        let suback = self.recv_suback();
        assert_eq!((suback.id, suback.codes.len()), (id, 1), "{}: {suback:?}", self.name);
        suback.codes[0]
    }

    /// Unsubscribes; expects the UNSUBACK next.
    pub fn unsubscribe(&mut self, filter: &str) -> Unsuback {
        let id = self.next_id();
        self.send(Unsubscribe::new(id).filter(filter));
        let unsuback = self.recv_unsuback();
        assert_eq!(unsuback.id, id, "{}: the UNSUBACK of another packet", self.name);
        unsuback
    }

    /// Publishes and goes through the whole handshake of its QoS. At QoS 0 nothing tells that the broker has it; use
    /// [`Client::ping`] when that matters.
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) {
        self.publish_packet(Publish::new(topic, payload).qos(qos, 0));
    }

    /// Publishes this packet, with the next free identifier when it has none, through the whole handshake; the acks
    /// must be the next packets and none may be an error.
    pub fn publish_packet(&mut self, mut publish: Publish) {
        if publish.qos > 0 && publish.id == 0 {
            publish.id = self.next_id();
        }
        let (qos, id) = (publish.qos, publish.id);
        self.send(publish);
        match qos {
            1 => self.check_ack(id, |client| client.recv_puback()),
            2 => {
                self.check_ack(id, |client| client.recv_pubrec());
                self.send(Packet::Pubrel(Ack::new(id)));
                self.check_ack(id, |client| client.recv_pubcomp());
            }
            _ => {}
        }
    }

    fn check_ack(&mut self, id: u16, recv: impl FnOnce(&mut Client) -> Ack) {
        let ack = recv(self);
        assert!(
            ack.id == id && ack.reason < 0x80,
            "{}: expected a good ack of {id}, got {ack:?}",
            self.name
        );
    }

    /// Expects a PUBLISH next and acknowledges it.
    pub fn message(&mut self) -> Publish {
        let publish = self.recv_publish();
        self.ack(&publish);
        publish
    }

    /// Acknowledges a PUBLISH: PUBACK, or PUBREC, PUBREL, PUBCOMP. Messages that come before the PUBREL are received
    /// afterwards.
    pub fn ack(&mut self, publish: &Publish) {
        match publish.qos {
            1 => self.send(Packet::Puback(Ack::new(publish.id))),
            2 => {
                self.send(Packet::Pubrec(Ack::new(publish.id)));
                self.await_pubrel(publish.id);
                self.send(Packet::Pubcomp(Ack::new(publish.id)));
            }
            _ => {}
        }
    }

    fn await_pubrel(&mut self, id: u16) {
        loop {
            match self.read_packet(DEADLINE) {
                Ok(Some(Packet::Pubrel(ack))) if ack == Ack::new(id) => return,
                Ok(Some(packet @ Packet::Publish(_))) => self.set_aside.push_back(packet),
                other => panic!("{}: expected PUBREL {id}, got {other:?}", self.name),
            }
        }
    }

    /// Expects this text as the payload of the next message, acknowledges it and returns it.
    pub fn expect_message(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> Publish {
        let message = self.message();
        let expected = (topic, payload.as_ref());
        assert_eq!(
            (message.topic.as_str(), message.payload.as_slice()),
            expected,
            "{}: {message:?}",
            self.name
        );
        message
    }

    /// PINGREQ, and PINGRESP as the very next packet: the broker has handled all that was sent before on this
    /// connection, and had nothing to answer.
    pub fn ping(&mut self) {
        self.send(Packet::Pingreq);
        self.expect(Packet::Pingresp);
    }

    /// PINGREQ, and PINGRESP after any number of messages, which are acknowledged.
    pub fn ping_among_messages(&mut self) {
        self.send(Packet::Pingreq);
        loop {
            match self.recv() {
                Packet::Pingresp => return,
                Packet::Publish(publish) => self.ack(&publish),
                other => panic!("{}: neither PINGRESP nor PUBLISH: {other:?}", self.name),
            }
        }
    }

    /// The same as [`Client::ping`], for tests that mean the silence.
    pub fn assert_silent_until_ping(&mut self) {
        self.ping();
    }

    /// Proves that nothing that `publisher` has sent so far is still to come to this client: sentinels of the same
    /// publisher, one at QoS 0 and one at QoS 1 (which may overtake each other), are the next messages. Costs a
    /// subscription of this client, and needs room in its Receive Maximum.
    pub fn assert_nothing_from(&mut self, publisher: &mut Client) {
        let topic = self.subscribe_to_sentinel();
        self.expect_sentinels(publisher, &topic);
    }

    /// As [`Client::assert_nothing_from`], for a publisher that is connected to another node. Costs a subscription of that, too: when it
    /// is there, its node has heard of the sentinel's, which is before it in the log. Else QoS 0 might not come.
    pub fn assert_nothing_from_elsewhere(&mut self, publisher: &mut Client) {
        let topic = self.subscribe_to_sentinel();
        publisher.subscribe("sentinel/publisher", 0);
        self.expect_sentinels(publisher, &topic);
    }

    fn expect_sentinels(&mut self, publisher: &mut Client, topic: &str) {
        // Acknowledgements sent so far are handled, so that a full queue has room for the sentinel.
        self.ping();
        publisher.publish(topic, "sentinel", 0);
        publisher.publish(topic, "sentinel", 1);
        let mut seen = [false; 3];
        // A shared subscription may bring copies of its own.
        while !(seen[0] && seen[1]) {
            let message = self.message();
            assert_eq!(
                message.topic, topic,
                "{}: only sentinels were expected: {message:?}",
                self.name
            );
            seen[usize::from(message.qos)] = true;
        }
    }

    /// As [`Client::assert_nothing_from`], for what this client has published itself.
    pub fn assert_nothing_from_itself(&mut self) {
        let topic = self.subscribe_to_sentinel();
        let id = self.next_id();
        self.send(Publish::new(&topic, "sentinel"));
        self.send(Publish::new(&topic, "sentinel").qos(1, id));
        for _ in 0..3 {
            match self.recv() {
                Packet::Puback(ack) if ack.id == id => {}
                Packet::Publish(message) if message.topic == topic => self.ack(&message),
                other => panic!("{}: nothing but sentinels was expected: {other:?}", self.name),
            }
        }
    }

    fn subscribe_to_sentinel(&mut self) -> String {
        let number = self.next_id();
        let topic = format!("sentinel/{}/{number}", self.name);
        self.subscribe(&topic, 1);
        topic
    }

    // ---- ends ----------------------------------------------------------------------------------------------------

    /// Expects the end of the connection, with no packet before.
    pub fn expect_closed(&mut self) {
        if let Some(packet) = self.recv_or_closed() {
            panic!("{}: expected the end of the connection, got {packet:?}", self.name);
        }
    }

    /// Expects DISCONNECT with this Reason Code and then the end (MQTT 5.0).
    pub fn expect_disconnect(&mut self, reason: u8) {
        let disconnect = self.recv_disconnect();
        assert_eq!(
            disconnect.reason, reason,
            "{}: {disconnect:?} instead of {reason:#04x}",
            self.name
        );
    }

    /// Expects to be cut for an error, as the version has it: DISCONNECT with this Reason Code in MQTT 5.0, without
    /// a word in MQTT 3.
    pub fn expect_cut(&mut self, reason: u8) {
        if self.version.is_v5() {
            self.expect_disconnect(reason)
        } else {
            self.expect_closed()
        }
    }

    /// DISCONNECT 0x00 and wait until the broker has closed: afterwards it has handled everything.
    pub fn disconnect(&mut self) {
        self.disconnect_with(Disconnect::new(code::SUCCESS));
    }

    /// The same with another DISCONNECT.
    pub fn disconnect_with(&mut self, disconnect: Disconnect) {
        self.send(disconnect);
        self.expect_closed();
    }

    /// Reads and forgets until the broker closes, which may cut a packet in two; returns the number of bytes.
    pub fn drain_until_closed(mut self) -> usize {
        let mut count = self.received.len();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.stream.read(&mut buffer, DEADLINE) {
                Ok(0) => return count,
                Ok(more) => count += more,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return count,
                Err(error) => panic!("{}: the broker does not close: {error}", self.name),
            }
        }
    }

    /// Closes the connection for writing, without a DISCONNECT.
    pub fn end_writing(&self) {
        self.stream.end_writing().expect("the connection is open");
    }

    /// Closes the connection without a DISCONNECT, as a network failure does, and waits until the broker has closed
    /// its side; packets that arrive in the meantime are lost.
    pub fn kill(mut self) {
        let _ = self.stream.end_writing();
        while self.recv_or_closed().is_some() {}
    }
}
