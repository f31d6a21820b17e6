//! Topic Aliases (section 3.3.2.3.4): they live and die with one network connection [MQTT-3.3.2-7].

use std::collections::HashMap;
use std::sync::Arc;

use crate::reason::ReasonCode;

/// Aliases that the client has set. The map is there when there is one: most clients have none.
#[derive(Debug, Default)]
pub(crate) struct AliasesIn {
    maximum: u16,
    topics: Option<Box<HashMap<u16, Arc<str>, foldhash::fast::RandomState>>>,
}

impl AliasesIn {
    pub(crate) fn new(maximum: u16) -> AliasesIn {
        AliasesIn {
            maximum,
            ..AliasesIn::default()
        }
    }

    /// Remembers the topic for later, if there is one, and otherwise recalls it.
    ///
    /// # Errors
    /// 0x94 if the alias is above the Topic Alias Maximum [MQTT-3.3.2-9], 0x82 if it has not been set.
    pub(crate) fn resolve(&mut self, alias: u16, topic: &str) -> Result<Arc<str>, ReasonCode> {
        if alias == 0 || alias > self.maximum {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        let topics = self.topics.get_or_insert_default();
        if topic.is_empty() {
            return topics.get(&alias).cloned().ok_or(ReasonCode::ProtocolError);
        }
        match topics.get(&alias) {
            Some(known) if **known == *topic => Ok(Arc::clone(known)),
            _ => {
                let topic: Arc<str> = topic.into();
                topics.insert(alias, Arc::clone(&topic));
                Ok(topic)
            }
        }
    }
}

/// Aliases that the broker has set: the first topics get one, and keep it.
#[derive(Debug, Default)]
pub(crate) struct AliasesOut {
    maximum: u16,
    aliases: Option<Box<HashMap<Arc<str>, u16, foldhash::fast::RandomState>>>,
}

/// How to name a topic in a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// The Topic Name alone.
    Plain,
    /// The Topic Name and an alias for it, to be remembered once the PUBLISH is written.
    Introduce(u16),
    /// The alias alone.
    Alias(u16),
}

impl AliasesOut {
    /// At most what the client accepts [MQTT-3.3.2-11].
    pub(crate) fn new(maximum: u16) -> AliasesOut {
        AliasesOut {
            maximum,
            ..AliasesOut::default()
        }
    }

    /// Whether the client allows any.
    pub(crate) fn are_used(&self) -> bool {
        self.maximum > 0
    }

    pub(crate) fn naming(&self, topic: &str) -> Naming {
        if self.maximum == 0 {
            return Naming::Plain;
        }
        let aliases = self.aliases.as_ref();
        let used = aliases.map_or(0, |aliases| aliases.len());
        match aliases.and_then(|aliases| aliases.get(topic)) {
            Some(alias) => Naming::Alias(*alias),
            None if used < usize::from(self.maximum) => Naming::Introduce(used as u16 + 1),
            None => Naming::Plain,
        }
    }

    /// The PUBLISH that introduces the alias has been written.
    pub(crate) fn introduced(&mut self, topic: Arc<str>, alias: u16) {
        self.aliases.get_or_insert_default().insert(topic, alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_set_used_and_replaced() {
        let mut aliases = AliasesIn::new(2);
        assert_eq!(aliases.resolve(1, ""), Err(ReasonCode::ProtocolError));
        assert_eq!(aliases.resolve(1, "a").as_deref(), Ok("a"));
        assert_eq!(aliases.resolve(1, "").as_deref(), Ok("a"));
        assert_eq!(aliases.resolve(1, "b").as_deref(), Ok("b"));
        assert_eq!(aliases.resolve(1, "").as_deref(), Ok("b"));
        assert_eq!(aliases.resolve(3, "c"), Err(ReasonCode::TopicAliasInvalid));
        assert_eq!(aliases.resolve(0, "c"), Err(ReasonCode::TopicAliasInvalid));
    }

    #[test]
    fn the_first_topics_get_the_outgoing_aliases() {
        let mut aliases = AliasesOut::new(1);
        assert_eq!(aliases.naming("a"), Naming::Introduce(1));
        aliases.introduced("a".into(), 1);
        assert_eq!(aliases.naming("a"), Naming::Alias(1));
        assert_eq!(aliases.naming("b"), Naming::Plain);
        assert_eq!(AliasesOut::new(0).naming("a"), Naming::Plain);
    }
}
