use super::decode_connect as connect;
use super::*;
use crate::codec::decode::ConnectError;
use crate::packet::{Connect, ConnectProperties, QoS, Will};
use crate::properties::Properties;

fn with_connect<T>(notation: &str, f: impl FnOnce(Result<Connect<'_>, ConnectError>) -> T) -> T {
    let bytes = bytes(notation);
    f(connect(&frame(&bytes)))
}

/// The Reason Code that an MQTT 5.0 client is told, if it is refused.
pub(super) fn refusal(notation: &str) -> Result<(), ReasonCode> {
    with_connect(notation, |result| match result {
        Ok(_) => Ok(()),
        Err(ConnectError::Refuse {
            version: V5, reason, ..
        }) => Err(reason),
        Err(other) => panic!("{notation}: {other:?}"),
    })
}

#[track_caller]
fn closed(packets: &[&str]) {
    for packet in packets {
        with_connect(packet, |result| {
            assert!(matches!(result, Err(ConnectError::Close(_))), "{packet}: {result:?}")
        });
    }
}

#[track_caller]
fn refused_v5(reason: ReasonCode, packets: &[&str]) {
    for packet in packets {
        assert_eq!(refusal(packet), Err(reason), "{packet}");
    }
}

#[track_caller]
fn connected(notation: &str, expected: Connect<'_>) {
    with_connect(notation, |result| assert_eq!(result, Ok(expected), "{notation}"));
}

/// A string that no field of a CONNECT may have.
pub(super) fn strings(bad: &str) {
    closed(&[
        &format!("10 | s'MQTT' 04 02 0000 {bad}"),
        &format!("10 | s'MQTT' 04 06 0000 s'c' {bad} s'w'"),
        &format!("10 | s'MQTT' 04 82 0000 s'c' {bad}"),
        &format!("10 | s'MQIsdp' 03 82 0000 s'c' {bad}"),
    ]);
    refused_v5(
        MalformedPacket,
        &[
            &format!("10 | s'MQTT' 05 02 0000 {{}} {bad}"),
            &format!("10 | s'MQTT' 05 06 0000 {{}} s'c' {{}} {bad} s'w'"),
            &format!("10 | s'MQTT' 05 82 0000 {{}} s'c' {bad}"),
            &format!("10 | s'MQTT' 05 02 0000 {{15 {bad}}} s'c'"),
        ],
    );
}

const PLAIN: Connect<'_> = Connect {
    version: V311,
    clean_start: true,
    keep_alive: 60,
    client_id: "client",
    will: None,
    username: None,
    password: None,
    properties: ConnectProperties {
        session_expiry_interval: 0,
        receive_maximum: u16::MAX,
        maximum_packet_size: None,
        topic_alias_maximum: 0,
        request_response_information: false,
        request_problem_information: true,
        authentication_method: None,
        authentication_data: None,
        all: Properties::EMPTY,
    },
};

const WILL: Will<'_> = Will {
    qos: QoS::AtMostOnce,
    retain: false,
    topic: "will",
    payload: b"gone",
    delay_interval: 0,
    message_expiry_interval: None,
    properties: Properties::EMPTY,
};

#[test]
fn every_field_of_mqtt_3_is_read() {
    connected("10 | s'MQTT' 04 02 003C s'client'", PLAIN);
    connected("10 | s'MQIsdp' 03 02 003C s'client'", Connect { version: V31, ..PLAIN });
    connected(
        "10 | s'MQTT' 04 00 0000 s''",
        Connect {
            clean_start: false,
            keep_alive: 0,
            client_id: "",
            ..PLAIN
        },
    );
    let user = Connect {
        username: Some("user"),
        ..PLAIN
    };
    connected("10 | s'MQTT' 04 82 003C s'client' s'user'", user);
    connected(
        "10 | s'MQTT' 04 C2 003C s'client' s'user' 0002 00FF",
        Connect {
            password: Some(&[0, 0xFF]),
            ..user
        },
    );
    let everything = Connect {
        will: Some(Will {
            qos: QoS::ExactlyOnce,
            retain: true,
            ..WILL
        }),
        password: Some(b""),
        ..user
    };
    connected(
        "10 | s'MQTT' 04 F6 003C s'client' s'will' s'gone' s'user' s''",
        everything,
    );
}

#[test]
fn every_field_of_mqtt_5_is_read() {
    let all = "11 00000E10 21 0014 27 00001000 22 0005 19 01 17 00 15 s'SCRAM' 16 s'data' 26 s'n' s'v'";
    let block = bytes(all);
    let will_all = "18 0000000A 02 00000E10 01 01 26 s'n' s'v'";
    let will_block = bytes(will_all);
    let expected = Connect {
        version: V5,
        will: Some(Will {
            qos: QoS::AtLeastOnce,
            delay_interval: 10,
            message_expiry_interval: Some(3600),
            properties: Properties::from_checked(&will_block),
            ..WILL
        }),
        username: Some("user"),
        password: Some(b"pass"),
        properties: ConnectProperties {
            session_expiry_interval: 3600,
            receive_maximum: 20,
            maximum_packet_size: Some(4096),
            topic_alias_maximum: 5,
            request_response_information: true,
            request_problem_information: false,
            authentication_method: Some("SCRAM"),
            authentication_data: Some(b"data"),
            all: Properties::from_checked(&block),
        },
        ..PLAIN
    };
    let notation =
        format!("10 | s'MQTT' 05 CE 003C {{{all}}} s'client' {{{will_all}}} s'will' s'gone' s'user' s'pass'");
    connected(&notation, expected);
    connected("10 | s'MQTT' 05 02 003C {} s'client'", Connect { version: V5, ..PLAIN });
    // A password without a user name.
    let password = Connect {
        version: V5,
        password: Some(b"pass"),
        ..PLAIN
    };
    connected("10 | s'MQTT' 05 42 003C {} s'client' s'pass'", password);
}

#[test]
fn the_first_packet_is_connect() {
    closed(&[
        "30 | s'topic' 'payload'",
        "C0 |",
        "E0 |",
        "F0 | 18 {15 s'm'}",
        "20 | 0000",
    ]);
}

#[test]
fn names_and_levels() {
    let unsupported = |version| {
        let reason = ReasonCode::UnsupportedProtocolVersion;
        ConnectError::Refuse {
            version,
            reason,
            detail: "unsupported protocol version",
        }
    };
    for level in 0..=0xFF_u8 {
        for name in ["MQTT", "MQIsdp"] {
            // The rest may be anything: other versions may look quite different.
            let result = with_connect(&format!("10 | s'{name}' {level:02X}"), |result| result.map(drop));
            match (name, level) {
                ("MQTT", 4) | ("MQIsdp", 3) => assert!(matches!(result, Err(ConnectError::Close(_)))),
                ("MQTT", 5) => {
                    assert!(matches!(
                        result,
                        Err(ConnectError::Refuse {
                            version: V5,
                            reason: MalformedPacket,
                            ..
                        })
                    ))
                }
                ("MQTT", 6..=0x7F | 0x85..) => assert_eq!(result, Err(unsupported(V5))),
                _ => assert_eq!(result, Err(unsupported(V311)), "{name} {level}"),
            }
        }
    }
    closed(&[
        "10 | s'MQT' 04 02 000A s'p'",
        "10 | s'MQTTT' 04 02 000A s'p'",
        "10 | s'mqtt' 05 02 000A {} s'p'",
        "10 | s'' 04 02 000A s'p'",
        "10 |",
        "10 | 00",
        "10 | s'MQTT'",
        "10 | 0004 'MQ'",
    ]);
}

#[test]
fn fixed_header_flags() {
    for flags in 1..16 {
        closed(&[&format!("{:02X} | s'MQTT' 04 02 003C s'client'", 0x10 + flags)]);
        refused_v5(
            MalformedPacket,
            &[&format!("{:02X} | s'MQTT' 05 02 003C {{}} s'client'", 0x10 + flags)],
        );
        // Not used in MQTT 3.1.
        connected(
            &format!("{:02X} | s'MQIsdp' 03 02 003C s'client'", 0x10 + flags),
            Connect { version: V31, ..PLAIN },
        );
    }
}

#[test]
fn reserved_connect_flag() {
    closed(&["10 | s'MQTT' 04 03 003C s'client'"]);
    refused_v5(MalformedPacket, &["10 | s'MQTT' 05 03 003C {} s'client'"]);
    connected("10 | s'MQIsdp' 03 03 003C s'client'", Connect { version: V31, ..PLAIN });
}

#[test]
fn will_flags() {
    for flags in ["0A", "12", "1A", "22", "3A"] {
        closed(&[&format!("10 | s'MQTT' 04 {flags} 003C s'client'")]);
        refused_v5(
            MalformedPacket,
            &[&format!("10 | s'MQTT' 05 {flags} 003C {{}} s'client'")],
        );
        // Disregarded in MQTT 3.1.
        connected(
            &format!("10 | s'MQIsdp' 03 {flags} 003C s'client'"),
            Connect { version: V31, ..PLAIN },
        );
    }
    closed(&[
        "10 | s'MQTT' 04 1E 003C s'c' s'w' s'm'",
        "10 | s'MQIsdp' 03 1E 003C s'c' s'w' s'm'",
    ]);
    refused_v5(MalformedPacket, &["10 | s'MQTT' 05 1E 003C {} s'c' {} s'w' s'm'"]);
}

#[test]
fn a_will_is_whole_and_its_topic_is_a_topic_name() {
    closed(&[
        "10 | s'MQTT' 04 06 003C s'c'",
        "10 | s'MQTT' 04 06 003C s'c' s'w'",
        "10 | s'MQIsdp' 03 06 003C s'c'",
    ]);
    refused_v5(
        MalformedPacket,
        &[
            "10 | s'MQTT' 05 06 003C {} s'c'",
            "10 | s'MQTT' 05 06 003C {} s'c' {}",
            "10 | s'MQTT' 05 06 003C {} s'c' {} s'w'",
            "10 | s'MQTT' 05 06 003C {} s'c' 05 s'w' s'm'",
        ],
    );
    for topic in ["", "+", "a/#"] {
        closed(&[&format!("10 | s'MQTT' 04 06 003C s'c' s'{topic}' s'm'")]);
        closed(&[&format!("10 | s'MQIsdp' 03 06 003C s'c' s'{topic}' s'm'")]);
        let v5 = format!("10 | s'MQTT' 05 06 003C {{}} s'c' {{}} s'{topic}' s'm'");
        refused_v5(ReasonCode::TopicNameInvalid, &[&v5]);
    }
}

#[test]
fn user_name_and_password_follow_their_flags() {
    closed(&[
        "10 | s'MQTT' 04 82 003C s'c'",
        "10 | s'MQTT' 04 C2 003C s'c' s'u'",
        "10 | s'MQTT' 04 C2 003C s'c'",
        "10 | s'MQTT' 04 42 003C s'c' s'p'",
        "10 | s'MQIsdp' 03 42 003C s'c' s'p'",
        "10 | s'MQTT' 04 02 003C s'c' s'u'",
        "10 | s'MQTT' 04 82 003C s'c' s'u' s'p'",
        "10 | s'MQIsdp' 03 02 003C s'c' s'u'",
        "10 | s'MQTT' 04 82 003C s'c' 0002 'u'",
        "10 | s'MQTT' 04 02 003C",
        "10 | s'MQTT' 04 02 00",
        "10 | s'MQTT' 04",
    ]);
    refused_v5(
        MalformedPacket,
        &[
            "10 | s'MQTT' 05 82 003C {} s'c'",
            "10 | s'MQTT' 05 C2 003C {} s'c' s'u'",
            "10 | s'MQTT' 05 42 003C {} s'c'",
            "10 | s'MQTT' 05 02 003C {} s'c' s'u'",
            "10 | s'MQTT' 05 82 003C {} s'c' s'u' s'p'",
            "10 | s'MQTT' 05 02 003C {}",
            "10 | s'MQTT' 05 02 003C",
            "10 | s'MQTT' 05 02",
        ],
    );
}

/// Section 3.1 of MQTT 3.1 wants this allowed.
#[test]
fn mqtt_3_1_may_leave_out_user_name_and_password() {
    let plain = Connect { version: V31, ..PLAIN };
    connected("10 | s'MQIsdp' 03 82 003C s'client'", plain);
    connected("10 | s'MQIsdp' 03 C2 003C s'client'", plain);
    connected(
        "10 | s'MQIsdp' 03 C2 003C s'client' s'user'",
        Connect {
            username: Some("user"),
            ..plain
        },
    );
    closed(&[
        "10 | s'MQIsdp' 03 82 003C s'client' 00",
        "10 | s'MQIsdp' 03 C2 003C s'client' s'user' 00",
    ]);
}

#[test]
fn properties_of_connect_and_will_are_told_apart() {
    refused_v5(MalformedPacket, &["10 | s'MQTT' 05 02 003C {18 00000001} s'c'"]);
    refused_v5(
        MalformedPacket,
        &["10 | s'MQTT' 05 06 003C {} s'c' {11 00000001} s'w' s'm'"],
    );
    refused_v5(ProtocolError, &["10 | s'MQTT' 05 02 003C {16 s'data'} s'c'"]);
}

#[test]
fn errors_are_readable() {
    assert_eq!(
        ConnectError::Close("unknown protocol name").to_string(),
        "unknown protocol name"
    );
    let error = with_connect("10 | s'MQTT' 06", |result| result.map(drop).expect_err("refused"));
    assert_eq!(
        error.to_string(),
        "Unsupported Protocol Version (0x84): unsupported protocol version"
    );
}
