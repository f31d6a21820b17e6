//! Properties of messages that a program, not a client, publishes.

use super::{Properties, PropertyId};
use crate::topic::check_name;
use crate::wire::put_binary;
use std::fmt;

/// A property that no packet may have, with the fault in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidProperty(&'static str);

impl fmt::Display for InvalidProperty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidProperty {}

/// Writes the properties of an Application Message; each at most once, but any number of User Properties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertiesBuilder {
    raw: Vec<u8>,
    seen: u64,
}

impl PropertiesBuilder {
    /// No properties.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether the payload is UTF-8 text.
    ///
    /// # Errors
    /// If it has been said before.
    pub fn payload_is_utf8(mut self, utf8: bool) -> Result<Self, InvalidProperty> {
        self.once(PropertyId::PayloadFormatIndicator)?;
        self.raw
            .extend_from_slice(&[PropertyId::PayloadFormatIndicator as u8, u8::from(utf8)]);
        Ok(self)
    }

    /// Content Type, for example a MIME type.
    ///
    /// # Errors
    /// If there is one already, or the text is no UTF-8 Encoded String (above 65,535 bytes, or with U+0000).
    pub fn content_type(mut self, text: &str) -> Result<Self, InvalidProperty> {
        self.once(PropertyId::ContentType)?;
        check_text(text)?;
        self.field(PropertyId::ContentType, text.as_bytes())
    }

    /// Topic Name for a response.
    ///
    /// # Errors
    /// If there is one already, or this is not a Topic Name [MQTT-3.3.2-14].
    pub fn response_topic(mut self, topic: &str) -> Result<Self, InvalidProperty> {
        self.once(PropertyId::ResponseTopic)?;
        check_name(topic).map_err(|error| InvalidProperty(error.as_str()))?;
        self.field(PropertyId::ResponseTopic, topic.as_bytes())
    }

    /// Correlation Data for a response.
    ///
    /// # Errors
    /// If there is some already, or it has more than 65,535 bytes.
    pub fn correlation_data(mut self, data: &[u8]) -> Result<Self, InvalidProperty> {
        self.once(PropertyId::CorrelationData)?;
        self.field(PropertyId::CorrelationData, data)
    }

    /// One more User Property.
    ///
    /// # Errors
    /// If name or value is no UTF-8 Encoded String (above 65,535 bytes, or with U+0000).
    pub fn user_property(mut self, name: &str, value: &str) -> Result<Self, InvalidProperty> {
        check_text(name)?;
        check_text(value)?;
        self.raw.push(PropertyId::UserProperty as u8);
        put_binary(&mut self.raw, name.as_bytes());
        put_binary(&mut self.raw, value.as_bytes());
        Ok(self)
    }

    /// The properties.
    #[must_use]
    pub fn properties(&self) -> Properties<'_> {
        Properties::from_checked(&self.raw)
    }

    /// The bytes of the property block, without its length.
    #[must_use]
    pub fn into_raw(self) -> Vec<u8> {
        self.raw
    }

    fn once(&mut self, id: PropertyId) -> Result<(), InvalidProperty> {
        let bit = 1 << id as u8;
        if self.seen & bit != 0 {
            return Err(InvalidProperty("property is there already"));
        }
        self.seen |= bit;
        Ok(())
    }

    fn field(mut self, id: PropertyId, bytes: &[u8]) -> Result<Self, InvalidProperty> {
        if bytes.len() > usize::from(u16::MAX) {
            return Err(InvalidProperty("more than 65,535 bytes"));
        }
        self.raw.push(id as u8);
        put_binary(&mut self.raw, bytes);
        Ok(self)
    }
}

fn check_text(text: &str) -> Result<(), InvalidProperty> {
    if text.len() > usize::from(u16::MAX) {
        return Err(InvalidProperty("more than 65,535 bytes"));
    }
    if text.contains('\0') {
        return Err(InvalidProperty("text contains U+0000"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::testing::bytes;

    #[test]
    fn properties_are_written_in_the_order_of_the_calls() -> Result<(), InvalidProperty> {
        let built = PropertiesBuilder::new()
            .user_property("n", "v")?
            .payload_is_utf8(true)?
            .content_type("text/plain")?
            .response_topic("a/b")?
            .correlation_data(b"data")?
            .user_property("n", "v")?;
        let expected = bytes("26 s'n' s'v' 01 01 03 s'text/plain' 08 s'a/b' 09 s'data' 26 s'n' s'v'");
        assert_eq!(built.properties().raw(), expected);
        assert_eq!(built.properties().forwardable(), expected);
        assert_eq!(built.into_raw(), expected);
        Ok(())
    }

    #[test]
    fn invalid_properties_are_refused() {
        let long = "x".repeat(65_536);
        let new = PropertiesBuilder::new;
        for text in ["a\0b", &long] {
            assert!(new().content_type(text).is_err());
            assert!(new().response_topic(text).is_err());
            assert!(new().user_property(text, "v").is_err());
            assert!(new().user_property("n", text).is_err());
        }
        assert!(new().correlation_data(long.as_bytes()).is_err());
        assert!(new().correlation_data(&long.as_bytes()[1..]).is_ok());
        for topic in ["", "+", "a/#"] {
            assert!(new().response_topic(topic).is_err());
        }
        assert!(
            new()
                .payload_is_utf8(true)
                .and_then(|b| b.payload_is_utf8(true))
                .is_err()
        );
        assert!(new().content_type("a").and_then(|b| b.content_type("a")).is_err());
        assert!(new().response_topic("a").and_then(|b| b.response_topic("a")).is_err());
        assert!(
            new()
                .correlation_data(b"a")
                .and_then(|b| b.correlation_data(b"a"))
                .is_err()
        );
    }
}
