use super::*;
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};

#[test]
fn filters_and_options_come_in_their_order() {
    with_packet(
        V5,
        "82 | 1234 {0B 8001 26 s'n' s'v'} s'a/+' 2E s'$share/g/#' 11",
        |result| {
            let Ok(Packet::Subscribe(subscribe)) = result else {
                panic!("{result:?}")
            };
            assert_eq!(
                (subscribe.packet_id, subscribe.subscription_identifier),
                (0x1234, Some(128))
            );
            assert_eq!(subscribe.properties.user_properties().collect::<Vec<_>>(), [("n", "v")]);
            let all = SubscriptionOptions {
                qos: QoS::ExactlyOnce,
                no_local: true,
                retain_as_published: true,
                retain_handling: RetainHandling::SendNever,
            };
            let shared = SubscriptionOptions {
                qos: QoS::AtLeastOnce,
                retain_handling: RetainHandling::SendIfNew,
                ..SubscriptionOptions::default()
            };
            assert_eq!(
                subscribe.filters.collect::<Vec<_>>(),
                [("a/+", all), ("$share/g/#", shared)]
            );
        },
    );
    with_packet(V5, "A2 | 1234 {26 s'n' s'v'} s'a' s'b'", |result| {
        let Ok(Packet::Unsubscribe(unsubscribe)) = result else {
            panic!("{result:?}")
        };
        assert_eq!(unsubscribe.packet_id, 0x1234);
        assert_eq!(unsubscribe.filters.collect::<Vec<_>>(), ["a", "b"]);
    });
}

#[test]
fn mqtt_3_has_only_the_qos() {
    for options in 0..=0xFF {
        let notation = format!("82 | 0001 s'a' {options:02X}");
        match options {
            0..=2 => accepted(&[V31, V311], &[&notation]),
            3 => refused(&[V31, V311], ProtocolError, &[&notation]),
            _ => refused(&[V31, V311], MalformedPacket, &[&notation]),
        }
    }
}

#[test]
fn options_of_mqtt_5() {
    for options in 0..=0xFF_u8 {
        let notation = format!("82 | 0001 {{}} s'a' {options:02X}");
        match options {
            0x40.. => refused(&[V5], MalformedPacket, &[&notation]),
            0x30.. => refused(&[V5], ProtocolError, &[&notation]),
            _ if options & 3 == 3 => refused(&[V5], ProtocolError, &[&notation]),
            _ => accepted(&[V5], &[&notation]),
        }
    }
    refused(
        &[V5],
        ProtocolError,
        &["82 | 0001 {} s'$share/g/a' 04", "82 | 0001 {} s'$share/g' 05"],
    );
    accepted(
        &[V5],
        &[
            "82 | 0001 {} s'$share' 04",
            "82 | 0001 {} s'$shared/g/a' 04",
            "82 | 0001 {} s'$share/g/a' 08",
        ],
    );
}

#[test]
fn there_is_at_least_one_filter() {
    refused(&[V31, V311], ProtocolError, &["82 | 0001", "A2 | 0001"]);
    refused(&[V5], ProtocolError, &["82 | 0001 {}", "A2 | 0001 {}"]);
}

#[test]
fn fields_are_not_cut_short() {
    refused(
        &[V31, V311],
        MalformedPacket,
        &[
            "82 |",
            "82 | 00",
            "82 | 0001 00",
            "82 | 0001 s'a'",
            "82 | 0001 s'a' 00 00",
            "82 | 0001 s'a' 00 0002 'b'",
            "A2 |",
            "A2 | 0001 0002 'a'",
            "A2 | 0001 s'a' 00",
        ],
    );
    refused(
        &[V5],
        MalformedPacket,
        &["82 | 0001", "82 | 0001 {} s'a'", "A2 | 0001", "A2 | 0001 {} s'a' 00"],
    );
}

#[test]
fn a_filter_is_not_empty_and_an_identifier_not_0() {
    refused(
        &[V31, V311],
        MalformedPacket,
        &["82 | 0001 s'' 00", "82 | 0001 s'a' 00 s'' 00", "A2 | 0001 s''"],
    );
    refused(
        &[V5],
        MalformedPacket,
        &["82 | 0001 {} s'' 00", "A2 | 0001 {} s'a' s''"],
    );
    refused(&[V31, V311], ProtocolError, &["82 | 0000 s'a' 00", "A2 | 0000 s'a'"]);
    refused(&[V5], ProtocolError, &["82 | 0000 {} s'a' 00", "A2 | 0000 {} s'a'"]);
}
