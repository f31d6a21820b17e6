//! CONNECT (section 3.1), which is also where the protocol version is found out.

use super::{at_end, check_flags, packet_type, properties, publish};
use crate::codec::DecodeError;
use crate::codec::frame::Frame;
use crate::packet::{Connect, ConnectProperties, QoS, Version, Will};
use crate::properties::{Properties, Property};
use crate::reason::ReasonCode;
use crate::wire::{Malformed, Reader};

/// Why a connection cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// Close the Network Connection without a word [MQTT3-3.1.4-1].
    Close(&'static str),
    /// Send a CONNACK in the format of this version, then close.
    Refuse {
        /// The version that the client asked for, or the nearest to it.
        version: Version,
        /// What the CONNACK says.
        reason: ReasonCode,
        /// The fault in words, for the log.
        detail: &'static str,
    },
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConnectError::Close(detail) => f.write_str(detail),
            ConnectError::Refuse { reason, detail, .. } => write!(f, "{reason}: {detail}"),
        }
    }
}

impl std::error::Error for ConnectError {}

/// The first packet of a connection, which must be a CONNECT [MQTT-3.1.0-1] [MQTT3-3.1.0-1].
///
/// # Errors
/// What cannot be understood as MQTT of any version is closed in silence, as is what MQTT 3 does not allow; an
/// MQTT 5.0 client and one that asks for another version of MQTT are told.
pub fn connect<'a>(frame: &Frame<'a>) -> Result<Connect<'a>, ConnectError> {
    if frame.first_byte >> 4 != packet_type::CONNECT {
        return Err(ConnectError::Close("first packet is not CONNECT"));
    }
    let mut reader = Reader::new(frame.body);
    let version = version(&mut reader)?;
    read(version, frame.first_byte, &mut reader).map_err(|error| match version {
        Version::V5 => ConnectError::Refuse {
            version,
            reason: error.reason,
            detail: error.detail,
        },
        Version::V31 | Version::V311 => ConnectError::Close(error.detail),
    })
}

/// Protocol Name and Protocol Version (sections 3.1.2.1 and 3.1.2.2).
fn version(reader: &mut Reader<'_>) -> Result<Version, ConnectError> {
    let cut_short = |Malformed(detail)| ConnectError::Close(detail);
    let name = reader.binary().map_err(cut_short)?;
    let level = reader.u8().map_err(cut_short)?;
    match (name, level) {
        (b"MQTT", 5) => Ok(Version::V5),
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQIsdp", 3) => Ok(Version::V31),
        // Some brokers set the highest bit of the level when they connect as a bridge, and try again without it after
        // the return code of MQTT 3.
        (b"MQTT", 6..=0x7F | 0x85..) => Err(unsupported(Version::V5)),
        (b"MQTT" | b"MQIsdp", _) => Err(unsupported(Version::V311)),
        // [MQTT-3.1.2-1] [MQTT3-3.1.2-1]
        _ => Err(ConnectError::Close("unknown protocol name")),
    }
}

/// [MQTT-3.1.2-2] [MQTT3-3.1.2-2]
fn unsupported(version: Version) -> ConnectError {
    let reason = ReasonCode::UnsupportedProtocolVersion;
    ConnectError::Refuse {
        version,
        reason,
        detail: "unsupported protocol version",
    }
}

/// Everything after the Protocol Version.
fn read<'a>(version: Version, first_byte: u8, reader: &mut Reader<'a>) -> Result<Connect<'a>, DecodeError> {
    check_flags(version, first_byte)?;
    let flags = Flags::read(version, reader.u8()?)?;
    let keep_alive = reader.u16()?;
    let properties = if version.is_v5() {
        connect_properties(reader)?
    } else {
        ConnectProperties::default()
    };
    // The order of the payload is fixed [MQTT-3.1.3-1] [MQTT3-3.1.3-1], and starts with the Client Identifier
    // [MQTT-3.1.3-3] [MQTT3-3.1.3-3], a UTF-8 Encoded String [MQTT-3.1.3-4] [MQTT3-3.1.3-4].
    let client_id = reader.string()?;
    let will = flags.will.map(|will| will.read_will(version, reader)).transpose()?;
    let username = flags.username && !left_out(version, reader);
    // A UTF-8 Encoded String [MQTT-3.1.3-12] [MQTT3-3.1.3-11].
    let username = username.then(|| reader.string()).transpose()?;
    let password = flags.password && !left_out(version, reader);
    let password = password.then(|| reader.binary()).transpose()?;
    at_end(reader)?;
    Ok(Connect {
        version,
        clean_start: flags.clean_start,
        keep_alive,
        client_id,
        will,
        username,
        password,
        properties,
    })
}

/// In MQTT 3.1 the Remaining Length takes precedence over the User Name and Password flags: "Server implementations
/// must allow for the possibility that the User Name flag is set, but the User Name string is missing." Later versions
/// want the fields [MQTT-3.1.2-17] [MQTT-3.1.2-19] [MQTT3-3.1.2-19] [MQTT3-3.1.2-21].
fn left_out(version: Version, reader: &Reader<'_>) -> bool {
    version == Version::V31 && reader.is_empty()
}

/// Connect Flags (section 3.1.2.3).
struct Flags {
    clean_start: bool,
    will: Option<WillFlags>,
    username: bool,
    password: bool,
}

struct WillFlags {
    qos: QoS,
    retain: bool,
}

impl Flags {
    fn read(version: Version, flags: u8) -> Result<Flags, DecodeError> {
        // [MQTT-3.1.2-3] [MQTT3-3.1.2-3]; MQTT 3.1 does not say what the bit must be.
        if flags & 1 != 0 && version != Version::V31 {
            return Err(DecodeError::malformed("reserved Connect Flag is set"));
        }
        let (username, password) = (flags & 0x80 != 0, flags & 0x40 != 0);
        // [MQTT3-3.1.2-22]; MQTT 5.0 allows it.
        if password && !username && !version.is_v5() {
            return Err(DecodeError::malformed("Password without User Name"));
        }
        Ok(Flags {
            clean_start: flags & 0b10 != 0,
            will: WillFlags::read(version, flags)?,
            username,
            password,
        })
    }
}

impl WillFlags {
    fn read(version: Version, flags: u8) -> Result<Option<WillFlags>, DecodeError> {
        if flags & 0b100 == 0 {
            // [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT3-3.1.2-13] [MQTT3-3.1.2-15]; MQTT 3.1 disregards the bits.
            if flags & 0b11_1000 != 0 && version != Version::V31 {
                return Err(DecodeError::malformed("Will QoS or Will Retain without Will Flag"));
            }
            return Ok(None);
        }
        // [MQTT-3.1.2-12] [MQTT3-3.1.2-14]
        let qos = QoS::from_u8((flags >> 3) & 0b11).ok_or(DecodeError::malformed("Will QoS is 3"))?;
        Ok(Some(WillFlags {
            qos,
            retain: flags & 0b10_0000 != 0,
        }))
    }

    /// Will Properties, Will Topic and Will Payload, all of which must be there [MQTT-3.1.2-9] [MQTT3-3.1.2-9].
    fn read_will<'a>(&self, version: Version, reader: &mut Reader<'a>) -> Result<Will<'a>, DecodeError> {
        let mut delay_interval = 0;
        let mut message_expiry_interval = None;
        let mut properties = Properties::EMPTY;
        if version.is_v5() {
            properties = properties::block(reader, properties::WILL, |property| match property {
                Property::WillDelayInterval(seconds) => delay_interval = seconds,
                Property::MessageExpiryInterval(seconds) => message_expiry_interval = Some(seconds),
                _ => {}
            })?;
        }
        Ok(Will {
            qos: self.qos,
            retain: self.retain,
            topic: will_topic(reader)?,
            payload: reader.binary()?,
            delay_interval,
            message_expiry_interval,
            properties,
        })
    }
}

/// A UTF-8 Encoded String [MQTT-3.1.3-11] [MQTT3-3.1.3-10] that is a Topic Name, as the message is published under it
/// [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT3-4.7.1-1] [MQTT3-4.7.3-1].
fn will_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    match publish::topic_name(reader.binary()?)? {
        "" => Err(DecodeError::new(ReasonCode::TopicNameInvalid, "Will Topic is empty")),
        topic => Ok(topic),
    }
}

fn connect_properties<'a>(reader: &mut Reader<'a>) -> Result<ConnectProperties<'a>, DecodeError> {
    let mut found = ConnectProperties::default();
    found.all = properties::block(reader, properties::CONNECT, |property| match property {
        Property::SessionExpiryInterval(seconds) => found.session_expiry_interval = seconds,
        Property::ReceiveMaximum(maximum) => found.receive_maximum = maximum,
        Property::MaximumPacketSize(size) => found.maximum_packet_size = Some(size),
        Property::TopicAliasMaximum(maximum) => found.topic_alias_maximum = maximum,
        Property::RequestResponseInformation(value) => found.request_response_information = value == 1,
        Property::RequestProblemInformation(value) => found.request_problem_information = value == 1,
        Property::AuthenticationMethod(method) => found.authentication_method = Some(method),
        Property::AuthenticationData(data) => found.authentication_data = Some(data),
        _ => {}
    })?;
    // Section 3.1.2.11.10.
    if found.authentication_data.is_some() && found.authentication_method.is_none() {
        return Err(DecodeError::protocol(
            "Authentication Data without Authentication Method",
        ));
    }
    Ok(found)
}
