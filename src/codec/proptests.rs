//! Properties of the codec as a whole, on packets made by chance.

use super::decode::{self, ConnectError};
use super::encode::{PublishFrame, publish, publish_size};
use super::frame::{MAX_PACKET_SIZE, parse};
use super::testing::client;
use super::{DecodeError, reasons};
use crate::packet::{
    Ack, Auth, Connect, ConnectProperties, Disconnect, Packet, Publish, QoS, RetainHandling, Subscribe,
};
use crate::packet::{SubscribeFilters, SubscriptionOptions, Unsubscribe, UnsubscribeFilters, Version, Will};
use crate::properties::{Properties, Property, PropertyId};
use crate::reason::ReasonCode;
use crate::wire::{put_binary, put_varint};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

/// A property that owns its value: a number, or one or two strings.
#[derive(Clone, Debug)]
struct OwnedProperty {
    id: PropertyId,
    number: u32,
    texts: (String, String),
}

impl OwnedProperty {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.id as u8);
        match self.id as u8 {
            0x01 | 0x17 | 0x19 => out.push(self.number as u8 & 1),
            0x21..=0x23 => out.extend(self.two_bytes().to_be_bytes()),
            0x02 | 0x11 | 0x18 | 0x27 => out.extend(self.four_bytes().to_be_bytes()),
            0x0B => put_varint(out, self.varint()),
            0x26 => {
                put_binary(out, self.texts.0.as_bytes());
                put_binary(out, self.texts.1.as_bytes());
            }
            0x03 | 0x08 | 0x09 | 0x15 | 0x16 | 0x1C | 0x1F => put_binary(out, self.texts.0.as_bytes()),
            id => panic!("no client sends {id:#04X}"),
        }
    }

    fn two_bytes(&self) -> u16 {
        (self.number as u16).max(1)
    }

    fn four_bytes(&self) -> u32 {
        self.number.max(1)
    }

    fn varint(&self) -> u32 {
        (self.number & 0x0FFF_FFFF).max(1)
    }
}

/// The properties of a packet, and what is expected to be found among them.
#[derive(Clone, Debug, Default)]
struct Block(Vec<OwnedProperty>);

impl Block {
    fn raw(&self) -> Vec<u8> {
        let mut raw = Vec::new();
        self.0.iter().for_each(|property| property.write(&mut raw));
        raw
    }

    fn find(&self, id: PropertyId) -> Option<&OwnedProperty> {
        self.0.iter().find(|property| property.id == id)
    }

    fn two_bytes(&self, id: PropertyId) -> Option<u16> {
        self.find(id).map(OwnedProperty::two_bytes)
    }

    fn four_bytes(&self, id: PropertyId) -> Option<u32> {
        self.find(id).map(OwnedProperty::four_bytes)
    }

    fn flag(&self, id: PropertyId) -> Option<bool> {
        self.find(id).map(|property| property.number & 1 == 1)
    }

    fn text(&self, id: PropertyId) -> Option<&str> {
        self.find(id).map(|property| property.texts.0.as_str())
    }
}

/// No wildcards and not empty, so that it can be a topic too.
fn text() -> impl Strategy<Value = String> {
    let long = Just("x".repeat(65_535));
    prop_oneof![20 => "[a-z/]{1,20}", 20 => "[^\u{0}+#]{1,40}", 1 => long]
}

fn property(id: PropertyId) -> impl Strategy<Value = OwnedProperty> {
    (any::<u32>(), text(), text()).prop_map(move |(number, first, second)| OwnedProperty {
        id,
        number,
        texts: (first, second),
    })
}

/// Some of these properties, each once, and User Properties, in any order.
fn block(ids: &'static [PropertyId]) -> impl Strategy<Value = Block> {
    subsequence(ids, 0..=ids.len())
        .prop_flat_map(|ids| {
            let once: Vec<_> = ids.into_iter().map(property).collect();
            (once, vec(property(PropertyId::UserProperty), 0..3))
        })
        .prop_flat_map(|(once, user)| Just([once, user].concat()).prop_shuffle())
        .prop_map(Block)
}

fn version() -> impl Strategy<Value = Version> {
    select(vec![Version::V31, Version::V311, Version::V5])
}

fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn options() -> impl Strategy<Value = SubscriptionOptions> {
    let handling = vec![
        RetainHandling::SendAlways,
        RetainHandling::SendIfNew,
        RetainHandling::SendNever,
    ];
    (qos(), any::<bool>(), any::<bool>(), select(handling)).prop_map(
        |(qos, no_local, retain_as_published, retain_handling)| SubscriptionOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        },
    )
}

fn reason(valid: fn(ReasonCode) -> bool) -> impl Strategy<Value = ReasonCode> {
    select(
        ReasonCode::ALL
            .iter()
            .copied()
            .filter(|&reason| valid(reason))
            .collect::<Vec<_>>(),
    )
}

/// A valid packet of a client as bytes, checked to decode to what it was made from.
fn client_packet(version: Version) -> BoxedStrategy<Vec<u8>> {
    let mut packets = vec![
        publish_packet(version).boxed(),
        ack_packet(version, reasons::in_puback, |ack| {
            [Packet::Puback(ack), Packet::Pubrec(ack)]
        })
        .boxed(),
        ack_packet(version, reasons::in_pubrel, |ack| {
            [Packet::Pubrel(ack), Packet::Pubcomp(ack)]
        })
        .boxed(),
        subscribe_packet(version).boxed(),
        unsubscribe_packet(version).boxed(),
        disconnect_packet(version).boxed(),
        Just(vec![0xC0, 0]).boxed(),
    ];
    if version.is_v5() {
        packets.push(auth_packet().boxed());
    }
    proptest::strategy::Union::new(packets).boxed()
}

/// The bytes of a packet, after a check that they decode to it.
#[track_caller]
fn round_trip(version: Version, packet: Packet<'_>) -> Vec<u8> {
    let bytes = client::packet(version, &packet);
    let frame = parse(&bytes, MAX_PACKET_SIZE).expect("a frame").expect("a whole frame");
    assert_eq!(frame.size, bytes.len());
    assert_eq!(decode::packet(version, &frame), Ok(packet));
    bytes
}

fn publish_packet(version: Version) -> impl Strategy<Value = Vec<u8>> {
    const IDS: &[PropertyId] = &[
        PropertyId::PayloadFormatIndicator,
        PropertyId::MessageExpiryInterval,
        PropertyId::ContentType,
        PropertyId::ResponseTopic,
        PropertyId::CorrelationData,
        PropertyId::TopicAlias,
    ];
    let flags = (qos(), any::<bool>(), any::<bool>());
    let content = (text(), 1..=u16::MAX, block(IDS), vec(any::<u8>(), 0..300));
    (flags, content).prop_map(move |((qos, dup, retain), (topic, packet_id, block, payload))| {
        let block = if version.is_v5() { block } else { Block::default() };
        let raw = block.raw();
        let publish = Publish {
            dup: dup && qos != QoS::AtMostOnce,
            qos,
            retain,
            topic: &topic,
            packet_id: if qos == QoS::AtMostOnce { 0 } else { packet_id },
            message_expiry_interval: block.four_bytes(PropertyId::MessageExpiryInterval),
            topic_alias: block.two_bytes(PropertyId::TopicAlias),
            properties: Properties::from_checked(&raw),
            payload: &payload,
        };
        forwarding_keeps_the_message(version, &publish);
        round_trip(version, Packet::Publish(publish))
    })
}

/// What the broker writes for a message decodes to that message.
fn forwarding_keeps_the_message(version: Version, publish: &Publish<'_>) {
    let forwardable = publish.properties.forwardable();
    let frame = PublishFrame {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic,
        packet_id: publish.packet_id,
        topic_alias: publish.topic_alias,
        message_expiry_interval: publish.message_expiry_interval,
        subscription_identifiers: &[],
        properties: &forwardable,
        payload: publish.payload,
    };
    let mut out = Vec::new();
    assert!(self::publish(&mut out, version, &frame));
    assert_eq!(out.len(), publish_size(version, &frame));
    let received = parse(&out, MAX_PACKET_SIZE).expect("a frame").expect("a whole frame");
    let Ok(Packet::Publish(received)) = decode::packet(version, &received) else {
        panic!("not a PUBLISH")
    };
    assert_eq!(
        Publish {
            properties: publish.properties,
            ..received
        },
        *publish
    );
    assert_eq!(received.properties.forwardable(), forwardable);
    let unaltered = |property: &Property<'_>| property.id().is_forwardable();
    assert!(
        received
            .properties
            .iter()
            .filter(unaltered)
            .eq(publish.properties.iter().filter(unaltered))
    );
}

fn ack_packet(
    version: Version,
    valid: fn(ReasonCode) -> bool,
    kinds: fn(Ack<'_>) -> [Packet<'_>; 2],
) -> impl Strategy<Value = Vec<u8>> {
    let fields = (1..=u16::MAX, reason(valid), block(&[PropertyId::ReasonString]));
    (fields, any::<bool>()).prop_map(move |((packet_id, reason, block), which)| {
        let raw = block.raw();
        let ack = match version {
            Version::V5 => Ack {
                packet_id,
                reason,
                properties: Properties::from_checked(&raw),
            },
            _ => Ack {
                packet_id,
                reason: ReasonCode::Success,
                properties: Properties::EMPTY,
            },
        };
        round_trip(version, kinds(ack)[usize::from(which)])
    })
}

fn subscribe_packet(version: Version) -> impl Strategy<Value = Vec<u8>> {
    let fields = (
        1..=u16::MAX,
        block(&[PropertyId::SubscriptionIdentifier]),
        vec((text(), options()), 1..5),
    );
    fields.prop_map(move |(packet_id, block, filters)| {
        let block = if version.is_v5() { block } else { Block::default() };
        let mut payload = Vec::new();
        for (filter, mut options) in filters {
            if !version.is_v5() {
                options = SubscriptionOptions {
                    qos: options.qos,
                    ..SubscriptionOptions::default()
                };
            }
            put_binary(&mut payload, filter.as_bytes());
            payload.push(client::options_byte(options));
        }
        let raw = block.raw();
        let subscribe = Subscribe {
            packet_id,
            subscription_identifier: block
                .find(PropertyId::SubscriptionIdentifier)
                .map(OwnedProperty::varint),
            properties: Properties::from_checked(&raw),
            filters: SubscribeFilters { rest: &payload },
        };
        round_trip(version, Packet::Subscribe(subscribe))
    })
}

fn unsubscribe_packet(version: Version) -> impl Strategy<Value = Vec<u8>> {
    (1..=u16::MAX, block(&[]), vec(text(), 1..5)).prop_map(move |(packet_id, block, filters)| {
        let block = if version.is_v5() { block } else { Block::default() };
        let mut payload = Vec::new();
        filters
            .iter()
            .for_each(|filter| put_binary(&mut payload, filter.as_bytes()));
        let raw = block.raw();
        let unsubscribe = Unsubscribe {
            packet_id,
            properties: Properties::from_checked(&raw),
            filters: UnsubscribeFilters { rest: &payload },
        };
        round_trip(version, Packet::Unsubscribe(unsubscribe))
    })
}

fn disconnect_packet(version: Version) -> impl Strategy<Value = Vec<u8>> {
    const IDS: &[PropertyId] = &[
        PropertyId::SessionExpiryInterval,
        PropertyId::ReasonString,
        PropertyId::ServerReference,
    ];
    (reason(reasons::in_client_disconnect), block(IDS)).prop_map(move |(reason, block)| {
        let (reason, block) = if version.is_v5() {
            (reason, block)
        } else {
            (ReasonCode::Success, Block::default())
        };
        let raw = block.raw();
        let disconnect = Disconnect {
            reason,
            session_expiry_interval: block.four_bytes(PropertyId::SessionExpiryInterval),
            properties: Properties::from_checked(&raw),
        };
        round_trip(version, Packet::Disconnect(disconnect))
    })
}

fn auth_packet() -> impl Strategy<Value = Vec<u8>> {
    const IDS: &[PropertyId] = &[PropertyId::AuthenticationData, PropertyId::ReasonString];
    (
        reason(reasons::in_client_auth),
        property(PropertyId::AuthenticationMethod),
        block(IDS),
    )
        .prop_map(|(reason, method, mut block)| {
            block.0.push(method);
            let raw = block.raw();
            let auth = Auth {
                reason,
                method: block.text(PropertyId::AuthenticationMethod),
                data: block.text(PropertyId::AuthenticationData).map(str::as_bytes),
                properties: Properties::from_checked(&raw),
            };
            round_trip(Version::V5, Packet::Auth(auth))
        })
}

/// A valid CONNECT as bytes, checked to decode to what it was made from.
fn connect_packet() -> impl Strategy<Value = Vec<u8>> {
    const IDS: &[PropertyId] = &[
        PropertyId::SessionExpiryInterval,
        PropertyId::ReceiveMaximum,
        PropertyId::MaximumPacketSize,
        PropertyId::TopicAliasMaximum,
        PropertyId::RequestResponseInformation,
        PropertyId::RequestProblemInformation,
        PropertyId::AuthenticationMethod,
    ];
    const WILL_IDS: &[PropertyId] = &[
        PropertyId::WillDelayInterval,
        PropertyId::PayloadFormatIndicator,
        PropertyId::MessageExpiryInterval,
        PropertyId::ContentType,
        PropertyId::ResponseTopic,
        PropertyId::CorrelationData,
    ];
    let will = (qos(), any::<bool>(), text(), vec(any::<u8>(), 0..100), block(WILL_IDS));
    let credentials = (
        proptest::option::of(text()),
        proptest::option::of(vec(any::<u8>(), 0..100)),
    );
    let fields = (any::<bool>(), any::<u16>(), text(), block(IDS));
    (version(), fields, proptest::option::of(will), credentials).prop_map(
        |(version, (clean_start, keep_alive, client_id, block), will, (username, password))| {
            let password = password.filter(|_| version.is_v5() || username.is_some());
            let block = if version.is_v5() { block } else { Block::default() };
            let raw = block.raw();
            let will_block = will
                .as_ref()
                .filter(|_| version.is_v5())
                .map_or(Block::default(), |will| will.4.clone());
            let will_raw = will_block.raw();
            let connect = Connect {
                version,
                clean_start,
                keep_alive,
                client_id: &client_id,
                will: will.as_ref().map(|(qos, retain, topic, payload, _)| Will {
                    qos: *qos,
                    retain: *retain,
                    topic,
                    payload,
                    delay_interval: will_block.four_bytes(PropertyId::WillDelayInterval).unwrap_or(0),
                    message_expiry_interval: will_block.four_bytes(PropertyId::MessageExpiryInterval),
                    properties: Properties::from_checked(&will_raw),
                }),
                username: username.as_deref(),
                password: password.as_deref(),
                properties: connect_properties(&block, &raw),
            };
            let bytes = client::connect(&connect);
            let frame = parse(&bytes, MAX_PACKET_SIZE).expect("a frame").expect("a whole frame");
            assert_eq!(decode::connect(&frame), Ok(connect));
            bytes
        },
    )
}

fn connect_properties<'a>(block: &'a Block, raw: &'a [u8]) -> ConnectProperties<'a> {
    ConnectProperties {
        session_expiry_interval: block.four_bytes(PropertyId::SessionExpiryInterval).unwrap_or(0),
        receive_maximum: block.two_bytes(PropertyId::ReceiveMaximum).unwrap_or(65_535),
        maximum_packet_size: block.four_bytes(PropertyId::MaximumPacketSize),
        topic_alias_maximum: block.two_bytes(PropertyId::TopicAliasMaximum).unwrap_or(0),
        request_response_information: block.flag(PropertyId::RequestResponseInformation).unwrap_or(false),
        request_problem_information: block.flag(PropertyId::RequestProblemInformation).unwrap_or(true),
        authentication_method: block.text(PropertyId::AuthenticationMethod),
        authentication_data: None,
        all: Properties::from_checked(raw),
    }
}

/// Reads a stream as a connection does: as many packets as are complete, after each piece that arrives. Packets are
/// compared as text, because they borrow from a buffer that goes away.
fn read_in_pieces(version: Version, pieces: &[&[u8]]) -> (Vec<String>, Option<DecodeError>) {
    let (mut buffer, mut packets) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let result = parse(&buffer, MAX_PACKET_SIZE).and_then(|frame| {
                frame
                    .map(|frame| Ok((format!("{:?}", decode::packet(version, &frame)?), frame.size)))
                    .transpose()
            });
            match result {
                Ok(Some((packet, size))) => {
                    packets.push(packet);
                    buffer.drain(..size);
                }
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

/// Looks at all that a decoded packet offers.
fn walk(packet: &Packet<'_>) {
    let properties = match packet {
        Packet::Connect | Packet::Pingreq => Properties::EMPTY,
        Packet::Publish(publish) => publish.properties,
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => ack.properties,
        Packet::Subscribe(subscribe) => {
            assert_ne!(subscribe.filters.count(), 0);
            subscribe.properties
        }
        Packet::Unsubscribe(unsubscribe) => {
            assert_ne!(unsubscribe.filters.count(), 0);
            unsubscribe.properties
        }
        Packet::Disconnect(disconnect) => disconnect.properties,
        Packet::Auth(auth) => auth.properties,
    };
    walk_properties(properties);
}

fn walk_properties(properties: Properties<'_>) {
    assert!(properties.user_properties().count() <= properties.iter().count());
    assert_eq!(properties.is_empty(), properties.iter().next().is_none());
    assert!(properties.forwardable().len() <= properties.raw().len());
    assert!(
        properties
            .reason_string()
            .is_none_or(|text| text.len() < properties.raw().len())
    );
}

/// Decodes these bytes in every way there is.
fn decode_everything(bytes: &[u8]) {
    let Ok(Some(frame)) = parse(bytes, MAX_PACKET_SIZE) else {
        return;
    };
    for version in [Version::V31, Version::V311, Version::V5] {
        if let Ok(packet) = decode::packet(version, &frame) {
            walk(&packet);
        }
    }
    match decode::connect(&frame) {
        Ok(connect) => {
            walk_properties(connect.properties.all);
            connect.will.inspect(|will| walk_properties(will.properties));
        }
        Err(ConnectError::Close(detail) | ConnectError::Refuse { detail, .. }) => assert!(!detail.is_empty()),
    }
}

fn cut(stream: &[u8], cuts: Vec<Index>) -> Vec<&[u8]> {
    let mut at: Vec<usize> = cuts.into_iter().map(|cut| cut.index(stream.len() + 1)).collect();
    at.extend([0, stream.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn packets_decode_to_what_they_were_made_from(_ in version().prop_flat_map(client_packet)) {}

    #[test]
    fn connects_decode_to_what_they_were_made_from(_ in connect_packet()) {}

    #[test]
    fn a_stream_reads_alike_however_it_is_cut(
        (version, packets) in version().prop_flat_map(|version| (Just(version), vec(client_packet(version), 1..6))),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let stream = packets.concat();
        let whole = read_in_pieces(version, &[&stream]);
        prop_assert_eq!(whole.0.len(), packets.len());
        prop_assert_eq!(&whole, &read_in_pieces(version, &cut(&stream, cuts)));
    }

    #[test]
    fn a_broken_stream_fails_alike_however_it_is_cut(
        version in version(),
        stream in vec(any::<u8>(), 0..200),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        prop_assert_eq!(read_in_pieces(version, &[&stream]), read_in_pieces(version, &cut(&stream, cuts)));
    }

    #[test]
    fn random_bytes_do_no_harm(first_byte: u8, body in vec(any::<u8>(), 0..128)) {
        decode_everything(&[&[first_byte, body.len() as u8], &body[..]].concat());
        decode_everything(&body);
    }

    #[test]
    fn changed_packets_do_no_harm(
        mut bytes in prop_oneof![version().prop_flat_map(client_packet), connect_packet().boxed()],
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        decode_everything(&bytes);
    }

    #[test]
    fn shortened_packets_do_no_harm(
        bytes in prop_oneof![version().prop_flat_map(client_packet), connect_packet().boxed()],
        end in any::<Index>(),
    ) {
        let frame = parse(&bytes, MAX_PACKET_SIZE).expect("a frame").expect("a whole frame");
        let mut short = vec![frame.first_byte];
        let end = end.index(frame.body.len() + 1);
        put_varint(&mut short, end as u32);
        short.extend_from_slice(&frame.body[..end]);
        decode_everything(&short);
    }
}
