//! Control Packets as plain data, for both directions, with an encoder and a strict decoder.

use super::wire::{self, Reader};

/// Reason Codes (section 2.4) and, in [`code::v3`], Connect Return codes.
pub mod code {
    pub const SUCCESS: u8 = 0x00;
    pub const GRANTED_QOS_1: u8 = 0x01;
    pub const GRANTED_QOS_2: u8 = 0x02;
    pub const DISCONNECT_WITH_WILL: u8 = 0x04;
    pub const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
    pub const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;
    pub const CONTINUE_AUTHENTICATION: u8 = 0x18;
    pub const REAUTHENTICATE: u8 = 0x19;
    pub const UNSPECIFIED: u8 = 0x80;
    pub const MALFORMED: u8 = 0x81;
    pub const PROTOCOL_ERROR: u8 = 0x82;
    pub const IMPLEMENTATION_SPECIFIC: u8 = 0x83;
    pub const UNSUPPORTED_VERSION: u8 = 0x84;
    pub const CLIENT_ID_NOT_VALID: u8 = 0x85;
    pub const BAD_USER_NAME_OR_PASSWORD: u8 = 0x86;
    pub const NOT_AUTHORIZED: u8 = 0x87;
    pub const SERVER_UNAVAILABLE: u8 = 0x88;
    pub const SERVER_BUSY: u8 = 0x89;
    pub const SERVER_SHUTTING_DOWN: u8 = 0x8B;
    pub const BAD_AUTHENTICATION_METHOD: u8 = 0x8C;
    pub const KEEP_ALIVE_TIMEOUT: u8 = 0x8D;
    pub const SESSION_TAKEN_OVER: u8 = 0x8E;
    pub const TOPIC_FILTER_INVALID: u8 = 0x8F;
    pub const TOPIC_NAME_INVALID: u8 = 0x90;
    pub const PACKET_ID_IN_USE: u8 = 0x91;
    pub const PACKET_ID_NOT_FOUND: u8 = 0x92;
    pub const RECEIVE_MAXIMUM_EXCEEDED: u8 = 0x93;
    pub const TOPIC_ALIAS_INVALID: u8 = 0x94;
    pub const PACKET_TOO_LARGE: u8 = 0x95;
    pub const QUOTA_EXCEEDED: u8 = 0x97;
    pub const ADMINISTRATIVE_ACTION: u8 = 0x98;
    pub const PAYLOAD_FORMAT_INVALID: u8 = 0x99;
    pub const RETAIN_NOT_SUPPORTED: u8 = 0x9A;
    pub const QOS_NOT_SUPPORTED: u8 = 0x9B;
    pub const USE_ANOTHER_SERVER: u8 = 0x9C;
    pub const SERVER_MOVED: u8 = 0x9D;
    pub const CONNECTION_RATE_EXCEEDED: u8 = 0x9F;

    /// Connect Return codes of MQTT 3.1 and 3.1.1 (table 3.1), and the SUBACK failure code.
    pub mod v3 {
        pub const ACCEPTED: u8 = 0;
        pub const UNACCEPTABLE_PROTOCOL_VERSION: u8 = 1;
        pub const IDENTIFIER_REJECTED: u8 = 2;
        pub const SERVER_UNAVAILABLE: u8 = 3;
        pub const BAD_USER_NAME_OR_PASSWORD: u8 = 4;
        pub const NOT_AUTHORIZED: u8 = 5;
        pub const SUBACK_FAILURE: u8 = 0x80;
    }
}

/// The protocol versions that the broker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V31,
    V311,
    V5,
}

impl Version {
    /// For tests of what all versions share.
    pub const ALL: [Version; 3] = [Version::V31, Version::V311, Version::V5];
    /// For tests of what 3.1 and 3.1.1 share.
    pub const V3: [Version; 2] = [Version::V31, Version::V311];

    pub fn is_v5(self) -> bool {
        self == Version::V5
    }

    fn header(self) -> (&'static str, u8) {
        match self {
            Version::V31 => ("MQIsdp", 3),
            Version::V311 => ("MQTT", 4),
            Version::V5 => ("MQTT", 5),
        }
    }
}

/// Which packet a property stands in; [`Scope::Will`] is the will's part of a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Connect,
    Will,
    Connack,
    Publish,
    Ack,
    Subscribe,
    Suback,
    Unsubscribe,
    Unsuback,
    Disconnect,
    Auth,
}

/// A value as it stands in a property.
trait Value: Sized + Clone {
    fn put(&self, out: &mut Vec<u8>);
    fn take(reader: &mut Reader) -> Self;
}

/// A Variable Byte Integer as the value of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VarInt(pub u32);

macro_rules! value {
    ($type:ty, |$self:ident| $put:expr, |$reader:ident| $take:expr) => {
        impl Value for $type {
            fn put(&self, out: &mut Vec<u8>) {
                let $self = self;
                out.extend_from_slice(&$put);
            }
            fn take($reader: &mut Reader) -> Self {
                $take
            }
        }
    };
}

value!(u8, |v| [*v], |r| r.u8());
value!(u16, |v| v.to_be_bytes(), |r| r.u16());
value!(u32, |v| v.to_be_bytes(), |r| r.u32());
value!(VarInt, |v| wire::varint(v.0), |r| VarInt(r.varint()));
value!(String, |v| wire::string(v), |r| r.string());
value!(Vec<u8>, |v| wire::binary(v), |r| r.binary());
value!(
    (String, String),
    |v| [wire::string(&v.0), wire::string(&v.1)].concat(),
    |r| (r.string(), r.string())
);

macro_rules! properties {
    ($($id:literal $name:ident($type:ty) $getter:ident [$($scope:ident)*];)*) => {
        /// A property (section 2.2.2).
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Prop {
            $($name($type),)*
        }

        impl Prop {
            /// Its identifier.
            pub fn id(&self) -> u8 {
                match self { $(Prop::$name(_) => $id,)* }
            }

            fn allowed_in(&self, scope: Scope) -> bool {
                match self { $(Prop::$name(_) => [$(Scope::$scope),*].contains(&scope),)* }
            }

            fn put(&self, out: &mut Vec<u8>) {
                out.push(self.id());
                match self { $(Prop::$name(value) => value.put(out),)* }
            }

            fn take(reader: &mut Reader) -> Prop {
                match reader.varint() {
                    $($id => Prop::$name(<$type>::take(reader)),)*
                    other => panic!("the broker has sent an unknown property {other:#04x}"),
                }
            }
        }

        impl Props {
            $(
                /// The value of the (first) property of this kind.
                pub fn $getter(&self) -> Option<$type> {
                    self.0.iter().find_map(|prop| match prop {
                        Prop::$name(value) => Some(value.clone()),
                        _ => None,
                    })
                }
            )*
        }
    };
}

/// The properties of a packet, in the order in which they stand there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Props(pub Vec<Prop>);

properties! {
    0x01 PayloadFormat(u8) payload_format [Publish Will];
    0x02 MessageExpiry(u32) message_expiry [Publish Will];
    0x03 ContentType(String) content_type [Publish Will];
    0x08 ResponseTopic(String) response_topic [Publish Will];
    0x09 CorrelationData(Vec<u8>) correlation_data [Publish Will];
    0x0B SubscriptionId(VarInt) subscription_id [Publish Subscribe];
    0x11 SessionExpiry(u32) session_expiry [Connect Connack Disconnect];
    0x12 AssignedClientId(String) assigned_client_id [Connack];
    0x13 ServerKeepAlive(u16) server_keep_alive [Connack];
    0x15 AuthMethod(String) auth_method [Connect Connack Auth];
    0x16 AuthData(Vec<u8>) auth_data [Connect Connack Auth];
    0x17 RequestProblemInfo(u8) request_problem_info [Connect];
    0x18 WillDelay(u32) will_delay [Will];
    0x19 RequestResponseInfo(u8) request_response_info [Connect];
    0x1A ResponseInfo(String) response_info [Connack];
    0x1C ServerReference(String) server_reference [Connack Disconnect];
    0x1F ReasonString(String) reason_string [Connack Ack Suback Unsuback Disconnect Auth];
    0x21 ReceiveMaximum(u16) receive_maximum [Connect Connack];
    0x22 TopicAliasMaximum(u16) topic_alias_maximum [Connect Connack];
    0x23 TopicAlias(u16) topic_alias [Publish];
    0x24 MaximumQos(u8) maximum_qos [Connack];
    0x25 RetainAvailable(u8) retain_available [Connack];
    0x26 User((String, String)) first_user [
        Connect Will Connack Publish Ack Subscribe Suback Unsubscribe Unsuback Disconnect Auth
    ];
    0x27 MaximumPacketSize(u32) maximum_packet_size [Connect Connack];
    0x28 WildcardAvailable(u8) wildcard_available [Connack];
    0x29 SubscriptionIdAvailable(u8) subscription_id_available [Connack];
    0x2A SharedAvailable(u8) shared_available [Connack];
}

impl Prop {
    pub fn user(name: &str, value: &str) -> Prop {
        Prop::User((name.into(), value.into()))
    }

    pub fn subscription_id(id: u32) -> Prop {
        Prop::SubscriptionId(VarInt(id))
    }
}

impl Props {
    /// All User Properties, in order.
    pub fn users(&self) -> Vec<(&str, &str)> {
        let user = |prop| {
            if let &Prop::User((ref name, ref value)) = prop {
                Some((&**name, &**value))
            } else {
                None
            }
        };
        self.0.iter().filter_map(user).collect()
    }

    /// All Subscription Identifiers, ascending: their order has no meaning.
    pub fn subscription_ids(&self) -> Vec<u32> {
        let id = |prop: &Prop| {
            if let Prop::SubscriptionId(VarInt(id)) = prop {
                Some(*id)
            } else {
                None
            }
        };
        let mut ids: Vec<u32> = self.0.iter().filter_map(id).collect();
        ids.sort_unstable();
        ids
    }

    /// The block with its length in front.
    fn bytes(&self) -> Vec<u8> {
        let mut block = Vec::new();
        self.0.iter().for_each(|prop| prop.put(&mut block));
        [wire::varint(u32::try_from(block.len()).expect("fits")), block].concat()
    }

    /// Reads a block; panics when the broker uses a property out of its scope or twice.
    fn read(reader: &mut Reader, scope: Scope) -> Props {
        let length = reader.varint();
        let mut block = Reader {
            rest: reader.bytes(usize::try_from(length).expect("fits")),
        };
        let mut props = Vec::<Prop>::new();
        while !block.is_empty() {
            let prop = Prop::take(&mut block);
            assert!(prop.allowed_in(scope), "{prop:?} does not belong into {scope:?}");
            let repeatable = matches!(prop, Prop::User(_)) || (scope == Scope::Publish && prop.id() == 0x0B);
            assert!(
                repeatable || props.iter().all(|other| other.id() != prop.id()),
                "twice in {scope:?}: {prop:?}"
            );
            props.push(prop);
        }
        Props(props)
    }
}

/// A CONNECT; build it with [`Connect::new`] or [`Connect::v5`] and the methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub version: Version,
    pub client_id: String,
    pub clean: bool,
    pub keep_alive: u16,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    pub will: Option<Will>,
    pub props: Props,
}

impl Connect {
    /// Clean start, keep alive 60 seconds, nothing else.
    pub fn new(version: Version, client_id: &str) -> Connect {
        Connect {
            version,
            client_id: client_id.into(),
            clean: true,
            keep_alive: 60,
            username: None,
            password: None,
            will: None,
            props: Props::default(),
        }
    }

    pub fn v31(client_id: &str) -> Connect {
        Connect::new(Version::V31, client_id)
    }

    pub fn v311(client_id: &str) -> Connect {
        Connect::new(Version::V311, client_id)
    }

    pub fn v5(client_id: &str) -> Connect {
        Connect::new(Version::V5, client_id)
    }

    /// A session that outlives its connection and is resumed if it exists: Clean Session 0, or Clean Start 0 with a
    /// Session Expiry Interval of an hour.
    pub fn persistent(version: Version, client_id: &str) -> Connect {
        let connect = Connect::new(version, client_id).clean(false);
        if version.is_v5() { connect.expiry(3600) } else { connect }
    }

    pub fn clean(self, clean: bool) -> Connect {
        Connect { clean, ..self }
    }

    pub fn keep_alive(self, keep_alive: u16) -> Connect {
        Connect { keep_alive, ..self }
    }

    /// Session Expiry Interval, in seconds.
    pub fn expiry(self, seconds: u32) -> Connect {
        self.prop(Prop::SessionExpiry(seconds))
    }

    /// With User Name and Password.
    pub fn credentials(self, name: &str, password: &str) -> Connect {
        self.username(name).password(password.as_bytes())
    }

    pub fn username(self, name: &str) -> Connect {
        Connect {
            username: Some(name.into()),
            ..self
        }
    }

    pub fn password(self, password: &[u8]) -> Connect {
        Connect {
            password: Some(password.into()),
            ..self
        }
    }

    pub fn will(self, will: Will) -> Connect {
        Connect {
            will: Some(will),
            ..self
        }
    }

    pub fn prop(mut self, prop: Prop) -> Connect {
        self.props.0.push(prop);
        self
    }

    fn body(&self) -> Vec<u8> {
        let (name, level) = self.version.header();
        let flags = u8::from(self.clean) << 1
            | self.will.as_ref().map_or(0, Will::flags)
            | u8::from(self.password.is_some()) << 6
            | u8::from(self.username.is_some()) << 7;
        let mut body = [
            wire::string(name),
            vec![level, flags],
            self.keep_alive.to_be_bytes().to_vec(),
        ]
        .concat();
        if self.version.is_v5() {
            body.extend(self.props.bytes());
        }
        body.extend(wire::string(&self.client_id));
        if let Some(will) = &self.will {
            body.extend(will.bytes(self.version));
        }
        body.extend(self.username.iter().flat_map(|name| wire::string(name)));
        body.extend(self.password.iter().flat_map(|password| wire::binary(password)));
        body
    }
}

/// The will of a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub props: Props,
}

impl Will {
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Will {
        let payload = payload.as_ref().to_vec();
        Will {
            topic: topic.into(),
            payload,
            qos: 0,
            retain: false,
            props: Props::default(),
        }
    }

    pub fn qos(self, qos: u8) -> Will {
        Will { qos, ..self }
    }

    pub fn retain(self) -> Will {
        Will { retain: true, ..self }
    }

    /// Will Delay Interval, in seconds.
    pub fn delay(self, seconds: u32) -> Will {
        self.prop(Prop::WillDelay(seconds))
    }

    pub fn prop(mut self, prop: Prop) -> Will {
        self.props.0.push(prop);
        self
    }

    fn flags(&self) -> u8 {
        1 << 2 | self.qos << 3 | u8::from(self.retain) << 5
    }

    fn bytes(&self, version: Version) -> Vec<u8> {
        let props = if version.is_v5() {
            self.props.bytes()
        } else {
            Vec::new()
        };
        [props, wire::string(&self.topic), wire::binary(&self.payload)].concat()
    }
}

/// A CONNACK; `code` is a Reason Code or a Connect Return code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connack {
    pub session_present: bool,
    pub code: u8,
    pub props: Props,
}

/// A PUBLISH; the Packet Identifier is 0 at QoS 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    pub id: u16,
    pub props: Props,
    pub payload: Vec<u8>,
}

impl Publish {
    /// QoS 0, not retained.
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Publish {
        let payload = payload.as_ref().to_vec();
        Publish {
            dup: false,
            qos: 0,
            retain: false,
            topic: topic.into(),
            id: 0,
            props: Props::default(),
            payload,
        }
    }

    /// QoS 1 or 2 with this Packet Identifier; [`Client::publish_packet`](super::Client::publish_packet) replaces an
    /// identifier of 0 by the next free one.
    pub fn qos(self, qos: u8, id: u16) -> Publish {
        Publish { qos, id, ..self }
    }

    pub fn retain(self) -> Publish {
        Publish { retain: true, ..self }
    }

    pub fn dup(self) -> Publish {
        Publish { dup: true, ..self }
    }

    pub fn prop(mut self, prop: Prop) -> Publish {
        self.props.0.push(prop);
        self
    }

    /// The payload as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("a payload of text")
    }
}

/// The content of a PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    pub id: u16,
    pub reason: u8,
    pub props: Props,
}

impl Ack {
    pub fn new(id: u16) -> Ack {
        Ack::with(id, code::SUCCESS)
    }

    pub fn with(id: u16, reason: u8) -> Ack {
        Ack {
            id,
            reason,
            props: Props::default(),
        }
    }

    pub fn prop(mut self, prop: Prop) -> Ack {
        self.props.0.push(prop);
        self
    }
}

/// A SUBSCRIBE: Topic Filters, each with its options byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    pub id: u16,
    pub filters: Vec<(String, u8)>,
    pub props: Props,
}

impl Subscribe {
    /// Option bits, to be combined with the QoS: `1 | Subscribe::NO_LOCAL`.
    pub const NO_LOCAL: u8 = 0b100;
    pub const RETAIN_AS_PUBLISHED: u8 = 0b1000;
    pub const RETAIN_IF_NEW: u8 = 0b1_0000;
    pub const RETAIN_NEVER: u8 = 0b10_0000;

    pub fn new(id: u16) -> Subscribe {
        Subscribe {
            id,
            filters: Vec::new(),
            props: Props::default(),
        }
    }

    pub fn filter(mut self, filter: &str, options: u8) -> Subscribe {
        self.filters.push((filter.into(), options));
        self
    }

    pub fn prop(mut self, prop: Prop) -> Subscribe {
        self.props.0.push(prop);
        self
    }
}

/// A SUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suback {
    pub id: u16,
    pub codes: Vec<u8>,
    pub props: Props,
}

/// An UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    pub id: u16,
    pub filters: Vec<String>,
    pub props: Props,
}

impl Unsubscribe {
    pub fn new(id: u16) -> Unsubscribe {
        Unsubscribe {
            id,
            filters: Vec::new(),
            props: Props::default(),
        }
    }

    pub fn filter(mut self, filter: &str) -> Unsubscribe {
        self.filters.push(filter.into());
        self
    }

    pub fn prop(mut self, prop: Prop) -> Unsubscribe {
        self.props.0.push(prop);
        self
    }
}

/// An UNSUBACK; without codes in MQTT 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsuback {
    pub id: u16,
    pub codes: Vec<u8>,
    pub props: Props,
}

/// A DISCONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    pub reason: u8,
    pub props: Props,
}

impl Disconnect {
    pub fn new(reason: u8) -> Disconnect {
        Disconnect {
            reason,
            props: Props::default(),
        }
    }

    pub fn prop(mut self, prop: Prop) -> Disconnect {
        self.props.0.push(prop);
        self
    }
}

/// An AUTH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    pub reason: u8,
    pub props: Props,
}

impl Auth {
    pub fn new(reason: u8) -> Auth {
        Auth {
            reason,
            props: Props::default(),
        }
    }

    pub fn prop(mut self, prop: Prop) -> Auth {
        self.props.0.push(prop);
        self
    }
}

/// Any Control Packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connect(Connect),
    Connack(Connack),
    Publish(Publish),
    Puback(Ack),
    Pubrec(Ack),
    Pubrel(Ack),
    Pubcomp(Ack),
    Subscribe(Subscribe),
    Suback(Suback),
    Unsubscribe(Unsubscribe),
    Unsuback(Unsuback),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect),
    Auth(Auth),
}

macro_rules! into_packet {
    ($($type:ident)*) => {
        $(impl From<$type> for Packet {
            fn from(packet: $type) -> Packet {
                Packet::$type(packet)
            }
        })*
    };
}

into_packet!(Connect Connack Publish Subscribe Suback Unsubscribe Unsuback Disconnect Auth);

impl Packet {
    /// The bytes of a packet that a client sends.
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let v5 = version.is_v5();
        let props = |props: &Props| if v5 { props.bytes() } else { Vec::new() };
        let id = |id: &u16| id.to_be_bytes().to_vec();
        match self {
            Packet::Connect(connect) => wire::packet(0x10, &connect.body()),
            Packet::Publish(p) => {
                let first = 0x30 | u8::from(p.dup) << 3 | p.qos << 1 | u8::from(p.retain);
                let packet_id = if p.qos > 0 { id(&p.id) } else { Vec::new() };
                wire::packet(
                    first,
                    &[wire::string(&p.topic), packet_id, props(&p.props), p.payload.clone()].concat(),
                )
            }
            Packet::Puback(ack) => wire::packet(0x40, &encode_ack(ack, v5)),
            Packet::Pubrec(ack) => wire::packet(0x50, &encode_ack(ack, v5)),
            Packet::Pubrel(ack) => wire::packet(0x62, &encode_ack(ack, v5)),
            Packet::Pubcomp(ack) => wire::packet(0x70, &encode_ack(ack, v5)),
            Packet::Subscribe(s) => {
                let mut body = [id(&s.id), props(&s.props)].concat();
                s.filters
                    .iter()
                    .for_each(|(f, options)| body.extend([wire::string(f), vec![*options]].concat()));
                wire::packet(0x82, &body)
            }
            Packet::Unsubscribe(u) => {
                let mut body = [id(&u.id), props(&u.props)].concat();
                u.filters.iter().for_each(|filter| body.extend(wire::string(filter)));
                wire::packet(0xA2, &body)
            }
            Packet::Pingreq => vec![0xC0, 0],
            Packet::Disconnect(d) if v5 => wire::packet(0xE0, &encode_reason(d.reason, &d.props)),
            Packet::Disconnect(_) => vec![0xE0, 0],
            Packet::Auth(auth) => wire::packet(0xF0, &encode_reason(auth.reason, &auth.props)),
            other => panic!("a client does not send {other:?}"),
        }
    }

    /// Reads a packet that the broker has sent; panics when anything in it is not as the specification says.
    pub fn decode(version: Version, first: u8, body: &[u8]) -> Packet {
        let mut reader = Reader { rest: body };
        let packet = decode_body(version, first, &mut reader);
        assert!(
            reader.is_empty(),
            "{packet:?} is followed by {:02x?} in the same packet",
            reader.rest
        );
        packet
    }
}

fn encode_ack(ack: &Ack, v5: bool) -> Vec<u8> {
    let id = ack.id.to_be_bytes().to_vec();
    if v5 {
        [id, encode_reason(ack.reason, &ack.props)].concat()
    } else {
        id
    }
}

/// Reason Code and properties, with both left out where the specification allows it.
fn encode_reason(reason: u8, props: &Props) -> Vec<u8> {
    match (reason, props.0.is_empty()) {
        (code::SUCCESS, true) => Vec::new(),
        (reason, true) => vec![reason],
        (reason, false) => [vec![reason], props.bytes()].concat(),
    }
}

fn decode_body(version: Version, first: u8, reader: &mut Reader) -> Packet {
    let v5 = version.is_v5();
    if first >> 4 == 3 {
        return Packet::Publish(decode_publish(v5, first, reader));
    }
    let props = |reader: &mut Reader, scope| {
        if v5 {
            Props::read(reader, scope)
        } else {
            Props::default()
        }
    };
    match first {
        0x20 => Packet::Connack(decode_connack(version, reader)),
        0x40 => Packet::Puback(decode_ack(v5, reader)),
        0x50 => Packet::Pubrec(decode_ack(v5, reader)),
        0x62 => Packet::Pubrel(decode_ack(v5, reader)),
        0x70 => Packet::Pubcomp(decode_ack(v5, reader)),
        0x90 => {
            let (id, props) = (nonzero_id(reader), props(reader, Scope::Suback));
            let codes = rest(reader);
            assert!(!codes.is_empty(), "a SUBACK without codes");
            Packet::Suback(Suback { id, props, codes })
        }
        0xB0 => {
            let (id, props) = (nonzero_id(reader), props(reader, Scope::Unsuback));
            let codes = if v5 { rest(reader) } else { Vec::new() };
            Packet::Unsuback(Unsuback { id, props, codes })
        }
        0xD0 => Packet::Pingresp,
        0xE0 if v5 => {
            let (reason, props) = decode_reason(reader, Scope::Disconnect);
            assert!(
                props.session_expiry().is_none(),
                "a server must not send it [MQTT-3.14.2-2]"
            );
            Packet::Disconnect(Disconnect { reason, props })
        }
        0xF0 if v5 => {
            let (reason, props) = decode_reason(reader, Scope::Auth);
            Packet::Auth(Auth { reason, props })
        }
        _ => panic!("a server of {version:?} must not send a packet that begins with {first:#04x}"),
    }
}

fn decode_publish(v5: bool, first: u8, reader: &mut Reader) -> Publish {
    let (dup, qos, retain) = (first & 8 != 0, first >> 1 & 3, first & 1 != 0);
    assert!(qos < 3, "a PUBLISH with both QoS bits [MQTT-3.3.1-4]");
    assert!(!(dup && qos == 0), "DUP at QoS 0 [MQTT-3.3.1-2]");
    let topic = reader.string();
    let id = if qos > 0 { nonzero_id(reader) } else { 0 };
    let props = if v5 {
        Props::read(reader, Scope::Publish)
    } else {
        Props::default()
    };
    assert!(
        !topic.contains(['+', '#']),
        "a wildcard in a Topic Name [MQTT-3.3.2-2]: {topic}"
    );
    assert!(
        !topic.is_empty() || props.topic_alias().is_some(),
        "a PUBLISH without a Topic Name"
    );
    Publish {
        dup,
        qos,
        retain,
        topic,
        id,
        props,
        payload: rest(reader),
    }
}

fn decode_connack(version: Version, reader: &mut Reader) -> Connack {
    let flags = reader.u8();
    assert!(
        flags <= u8::from(version != Version::V31),
        "reserved bits in a CONNACK [MQTT-3.2.2-1]: {flags:#04x}"
    );
    let code = reader.u8();
    assert!(
        code == 0 || flags == 0,
        "Session Present with code {code:#04x} [MQTT-3.2.2-6]"
    );
    let props = if version.is_v5() {
        Props::read(reader, Scope::Connack)
    } else {
        Props::default()
    };
    Connack {
        session_present: flags == 1,
        code,
        props,
    }
}

fn decode_ack(v5: bool, reader: &mut Reader) -> Ack {
    let id = nonzero_id(reader);
    let (reason, props) = if v5 {
        decode_reason(reader, Scope::Ack)
    } else {
        (code::SUCCESS, Props::default())
    };
    Ack { id, reason, props }
}

fn decode_reason(reader: &mut Reader, scope: Scope) -> (u8, Props) {
    let reason = if reader.is_empty() { code::SUCCESS } else { reader.u8() };
    let props = if reader.is_empty() {
        Props::default()
    } else {
        Props::read(reader, scope)
    };
    (reason, props)
}

fn nonzero_id(reader: &mut Reader) -> u16 {
    let id = reader.u16();
    assert!(id != 0, "a Packet Identifier of 0 [MQTT-2.2.1-4]");
    id
}

fn rest(reader: &mut Reader) -> Vec<u8> {
    reader.bytes(reader.rest.len()).to_vec()
}
