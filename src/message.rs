//! Application Messages: as they arrive (borrowed), as they wait (shared), and as a program makes them (owned).

use crate::packet::{QoS, Will};
use crate::properties::{Properties, PropertiesBuilder};
use crate::time::{Clock, Millis};
use crate::topic::{self, TopicError};

/// An Application Message on its way through the broker, borrowed from wherever it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Publication<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    /// Forwardable properties only, raw.
    pub(crate) properties: &'a [u8],
    pub(crate) expires_at: Option<Millis>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

/// An Application Message that the broker keeps: immutable, and shared by all who wait for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Topic Name, forwardable properties, payload.
    bytes: Bytes,
    properties_len: u32,
    topic_len: u16,
    qos: QoS,
    retain: bool,
    expires_at: Option<Millis>,
}

/// Short messages are within the [`Message`]: then it takes one allocation.
#[derive(Debug, PartialEq, Eq)]
enum Bytes {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

/// Bytes of a topic of some levels and of a payload of the size of a sensor's.
const SHORT: usize = 110;

impl Message {
    pub(crate) fn new(publication: &Publication<'_>) -> Message {
        let topic = publication.topic.as_bytes();
        Message {
            bytes: Bytes::new([topic, publication.properties, publication.payload]),
            // A packet, and so its properties, is shorter than 256 MiB.
            properties_len: publication.properties.len() as u32,
            // So is a valid Topic Name shorter than 64 KiB [MQTT-4.7.3-3].
            topic_len: topic.len() as u16,
            qos: publication.qos,
            retain: publication.retain,
            expires_at: publication.expires_at,
        }
    }

    /// The Topic Name.
    #[must_use]
    pub fn topic(&self) -> &str {
        std::str::from_utf8(&self.bytes()[..self.topic_len as usize]).unwrap_or_default()
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.bytes()[self.topic_len as usize + self.properties_len as usize..]
    }

    /// The properties that are forwarded: Payload Format Indicator, Content Type, Response Topic, Correlation Data
    /// and User Properties, in the publisher's order.
    #[must_use]
    pub fn properties(&self) -> Properties<'_> {
        Properties::from_checked(self.raw_properties())
    }

    /// The QoS at which it was published.
    #[must_use]
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// The RETAIN flag with which it was published.
    #[must_use]
    pub fn retain(&self) -> bool {
        self.retain
    }

    /// When the Message Expiry Interval ends.
    #[must_use]
    pub fn expires_at(&self) -> Option<Millis> {
        self.expires_at
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Short(len, bytes) => &bytes[..*len as usize],
            Bytes::Long(bytes) => bytes,
        }
    }

    pub(crate) fn raw_properties(&self) -> &[u8] {
        &self.bytes()[self.topic_len as usize..][..self.properties_len as usize]
    }

    pub(crate) fn is_expired(&self, now: Millis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Asks the clock only if the message can expire: few can, and time is not for free.
    #[inline]
    pub(crate) fn has_expired(&self, clock: &Clock) -> bool {
        self.expires_at.is_some_and(|at| at <= clock.now())
    }

    /// The Message Expiry Interval to send now, in seconds: what was received less the time spent here, the begun
    /// second not counted as spent [MQTT-3.3.2-6].
    pub(crate) fn remaining_expiry(&self, clock: &Clock) -> Option<u32> {
        let left = self.expires_at?.since(clock.now()).as_millis().div_ceil(1000);
        Some(u32::try_from(left).unwrap_or(u32::MAX))
    }

    /// Bytes that it takes in memory, by which queues are bounded.
    pub(crate) fn size(&self) -> usize {
        let outside = match &self.bytes {
            Bytes::Short(..) => 0,
            Bytes::Long(bytes) => bytes.len(),
        };
        size_of::<Message>() + outside
    }

    pub(crate) fn as_publication(&self) -> Publication<'_> {
        Publication {
            topic: self.topic(),
            payload: self.payload(),
            properties: self.raw_properties(),
            expires_at: self.expires_at,
            qos: self.qos,
            retain: self.retain,
        }
    }
}

impl Bytes {
    fn new(parts: [&[u8]; 3]) -> Bytes {
        let total = parts.iter().map(|part| part.len()).sum();
        if total > SHORT {
            let mut bytes = Vec::with_capacity(total);
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            return Bytes::Long(bytes.into_boxed_slice());
        }
        let mut bytes = [0; SHORT];
        let mut end = 0;
        for part in parts {
            bytes[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        Bytes::Short(end as u8, bytes)
    }
}

/// A message that a program publishes, or with which a hook replaces a client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    expiry: Option<Expiry>,
    properties: Vec<u8>,
}

/// When a message that is not yet published expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    /// So many seconds after its publication.
    In(u32),
    /// At this time, because it was published before.
    At(Millis),
}

impl NewMessage {
    /// A QoS 0 message that is not retained.
    ///
    /// # Errors
    /// If `topic` is no valid Topic Name (section 4.7).
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Result<NewMessage, TopicError> {
        let topic = topic.into();
        topic::validate_name(topic.as_bytes())?;
        Ok(NewMessage {
            topic,
            payload: payload.into(),
            qos: QoS::AtMostOnce,
            retain: false,
            expiry: None,
            properties: Vec::new(),
        })
    }

    /// Sends it to another topic.
    ///
    /// # Errors
    /// If `topic` is no valid Topic Name (section 4.7).
    pub fn topic(mut self, topic: impl Into<String>) -> Result<NewMessage, TopicError> {
        let topic = topic.into();
        topic::validate_name(topic.as_bytes())?;
        self.topic = topic;
        Ok(self)
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> NewMessage {
        self.payload = payload.into();
        self
    }

    /// Sets the QoS.
    #[must_use]
    pub fn qos(mut self, qos: QoS) -> NewMessage {
        self.qos = qos;
        self
    }

    /// Sets the RETAIN flag; an empty payload then clears the retained message of the topic.
    #[must_use]
    pub fn retain(mut self, retain: bool) -> NewMessage {
        self.retain = retain;
        self
    }

    /// Sets the Message Expiry Interval, in seconds.
    #[must_use]
    pub fn expiry(mut self, seconds: u32) -> NewMessage {
        self.expiry = Some(Expiry::In(seconds));
        self
    }

    /// Sets the properties that the receivers get.
    #[must_use]
    pub fn properties(mut self, properties: PropertiesBuilder) -> NewMessage {
        self.properties = properties.into_raw();
        self
    }

    pub(crate) fn from_will(will: &Will<'_>) -> NewMessage {
        NewMessage {
            topic: will.topic.into(),
            payload: will.payload.into(),
            qos: will.qos,
            retain: will.retain,
            expiry: will.message_expiry_interval.map(Expiry::In),
            properties: will.properties.forwardable().into_owned(),
        }
    }

    /// A will that was stored: it expires so many seconds after its publication.
    pub(crate) fn of_will(message: &Message, expires_in: Option<u32>) -> NewMessage {
        NewMessage {
            expiry: expires_in.map(Expiry::In),
            ..NewMessage::from_publication(&message.as_publication())
        }
    }

    /// What [`of_will`](NewMessage::of_will) is made of.
    pub(crate) fn as_will(&self) -> (Publication<'_>, Option<u32>) {
        let expires_in = match self.expiry {
            Some(Expiry::In(seconds)) => Some(seconds),
            Some(Expiry::At(_)) | None => None,
        };
        let publication = Publication {
            topic: &self.topic,
            payload: &self.payload,
            properties: &self.properties,
            expires_at: None,
            qos: self.qos,
            retain: self.retain,
        };
        (publication, expires_in)
    }

    pub(crate) fn from_publication(publication: &Publication<'_>) -> NewMessage {
        NewMessage {
            topic: publication.topic.into(),
            payload: publication.payload.into(),
            qos: publication.qos,
            retain: publication.retain,
            expiry: publication.expires_at.map(Expiry::At),
            properties: publication.properties.into(),
        }
    }

    pub(crate) fn as_publication(&self, now: Millis) -> Publication<'_> {
        Publication {
            topic: &self.topic,
            payload: &self.payload,
            properties: &self.properties,
            expires_at: self.expiry.map(|expiry| match expiry {
                Expiry::In(seconds) => now.plus_seconds(seconds),
                Expiry::At(time) => time,
            }),
            qos: self.qos,
            retain: self.retain,
        }
    }
}

/// A copy with QoS, RETAIN flag, expiry and properties, to be changed and published anew.
impl From<&Message> for NewMessage {
    fn from(message: &Message) -> NewMessage {
        NewMessage::from_publication(&message.as_publication())
    }
}
