//! What must hold for any bytes whatever that a client sends.

use mqtt_broker::codec::decode::{self, ConnectError};
use mqtt_broker::codec::encode::{PublishFrame, publish, publish_size};
use mqtt_broker::codec::frame::{Frame, MAX_PACKET_SIZE, parse};
use mqtt_broker::packet::{Connect, Packet, Publish, QoS, Version};
use mqtt_broker::properties::Properties;
use mqtt_broker::reason::ReasonCode;

/// Panics if something does not hold.
pub(crate) fn check(stream: &[u8]) {
    check_framing(stream);
    for version in [Version::V31, Version::V311, Version::V5] {
        check_stream(version, stream);
    }
    if let Ok(Some(frame)) = parse(stream, MAX_PACKET_SIZE) {
        check_connect(&frame);
    }
}

/// The first packet is the same however little of it, or much after it, has arrived, and whatever its maximum size is.
fn check_framing(stream: &[u8]) {
    let whole = parse(stream, MAX_PACKET_SIZE);
    for end in 0..stream.len().min(16) {
        match (parse(&stream[..end], MAX_PACKET_SIZE), whole) {
            (Ok(None), _) => {}
            (part, whole) => assert_eq!(part, whole, "{end}"),
        }
    }
    if let Ok(Some(frame)) = whole {
        assert_eq!(parse(&stream[..frame.size - 1], MAX_PACKET_SIZE), Ok(None));
        assert_eq!(parse(&stream[..frame.size], frame.size as u32), Ok(Some(frame)));
        let too_large = parse(stream, frame.size as u32 - 1).map_err(|error| error.reason);
        assert_eq!(too_large, Err(ReasonCode::PacketTooLarge));
    }
}

fn check_stream(version: Version, mut stream: &[u8]) {
    while let Ok(Some(frame)) = parse(stream, MAX_PACKET_SIZE) {
        stream = &stream[frame.size..];
        match decode::packet(version, &frame) {
            Ok(packet) => check_packet(version, &packet),
            Err(error) => assert!(error.reason.is_error() && !error.detail.is_empty()),
        }
    }
}

fn check_packet(version: Version, packet: &Packet<'_>) {
    match packet {
        Packet::Connect | Packet::Pingreq => {}
        Packet::Publish(publish) => check_publish(version, publish),
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            assert!(ack.packet_id != 0 && (version.is_v5() || ack.reason == ReasonCode::Success));
            check_properties(version, ack.properties);
        }
        Packet::Subscribe(subscribe) => {
            assert!(subscribe.packet_id != 0 && subscribe.subscription_identifier != Some(0));
            assert_ne!(subscribe.filters.count(), 0);
            subscribe
                .filters
                .for_each(|(filter, _)| assert!(!filter.is_empty() && !filter.contains('\0')));
            check_properties(version, subscribe.properties);
        }
        Packet::Unsubscribe(unsubscribe) => {
            assert_ne!(unsubscribe.packet_id, 0);
            assert_ne!(unsubscribe.filters.count(), 0);
            unsubscribe
                .filters
                .for_each(|filter| assert!(!filter.is_empty() && !filter.contains('\0')));
            check_properties(version, unsubscribe.properties);
        }
        Packet::Disconnect(disconnect) => check_properties(version, disconnect.properties),
        Packet::Auth(auth) => {
            assert!(version.is_v5() && auth.method.is_some());
            check_properties(version, auth.properties);
        }
    }
}

/// A message that came in goes out again as it was, but for the order of its properties.
fn check_publish(version: Version, received: &Publish<'_>) {
    check_topic(received.topic);
    assert!(!received.topic.is_empty() || version.is_v5() && received.topic_alias.is_some());
    assert_eq!(received.packet_id == 0, received.qos == QoS::AtMostOnce);
    check_properties(version, received.properties);
    let forwardable = received.properties.forwardable();
    let frame = PublishFrame {
        dup: received.dup,
        qos: received.qos,
        retain: received.retain,
        topic: received.topic,
        packet_id: received.packet_id,
        topic_alias: received.topic_alias,
        message_expiry_interval: received.message_expiry_interval,
        subscription_identifiers: &[],
        properties: &forwardable,
        payload: received.payload,
    };
    let mut out = Vec::new();
    assert!(publish(&mut out, version, &frame));
    assert_eq!(out.len(), publish_size(version, &frame));
    let sent = parse(&out, MAX_PACKET_SIZE).map(|frame| frame.map(|frame| decode::packet(version, &frame)));
    let Ok(Some(Ok(Packet::Publish(sent)))) = sent else {
        panic!("{sent:?}")
    };
    assert_eq!(
        Publish {
            properties: received.properties,
            ..sent
        },
        *received
    );
    assert_eq!(sent.properties.forwardable(), forwardable);
}

fn check_connect(frame: &Frame<'_>) {
    match decode::connect(frame) {
        Ok(connect) => check_connected(&connect),
        Err(ConnectError::Close(detail)) => assert!(!detail.is_empty()),
        Err(ConnectError::Refuse {
            version,
            reason,
            detail,
        }) => {
            assert!(reason.is_error() && !detail.is_empty());
            assert!(
                version.is_v5() || reason.connect_return_code().is_some(),
                "an MQTT 3 client is told with a code"
            );
        }
    }
}

fn check_connected(connect: &Connect<'_>) {
    assert!(!connect.client_id.contains('\0'));
    assert!(connect.version.is_v5() || connect.password.is_none() || connect.username.is_some());
    let properties = &connect.properties;
    assert!(properties.receive_maximum != 0 && properties.maximum_packet_size != Some(0));
    assert!(properties.authentication_method.is_some() || properties.authentication_data.is_none());
    check_properties(connect.version, properties.all);
    if let Some(will) = &connect.will {
        check_topic(will.topic);
        assert!(!will.topic.is_empty());
        check_properties(connect.version, will.properties);
    }
}

fn check_topic(topic: &str) {
    assert!(!topic.contains(['\0', '+', '#']) && topic.len() <= 65_535);
}

/// A block that was accepted can be walked to its end.
fn check_properties(version: Version, properties: Properties<'_>) {
    assert!(version.is_v5() || properties.is_empty());
    let forwardable = properties
        .iter()
        .filter(|property| property.id().is_forwardable())
        .count();
    assert_eq!(properties.is_empty(), properties.iter().next().is_none());
    assert_eq!(forwardable == 0, properties.forwardable().is_empty());
    assert_eq!(
        properties.reason_string().is_some(),
        properties.iter().any(|property| property.id() as u8 == 0x1F)
    );
    assert!(properties.user_properties().count() <= properties.iter().count());
    let mut copy = Vec::new();
    properties.append_forwardable(&mut copy);
    assert_eq!(copy, &*properties.forwardable());
}
