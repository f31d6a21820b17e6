//! What nodes know of each other beside the log: for whoever looks after them, no node rests on it.

use std::time::Duration;

use super::Incarnation;
use crate::store::Uid;
use crate::time::Millis;
use crate::wire::{Malformed, Reader, put_binary};

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) name: Box<str>,
    pub(crate) version: Box<str>,
    /// Where its HTTP listener is.
    pub(crate) http: Option<Box<str>>,
    pub(crate) since: Option<Millis>,
    /// It says so often that it lives that others may take it for dead who have not heard it for this time.
    pub(crate) lease: Option<Duration>,
    /// What it counts, in an order that later versions only add to.
    pub(crate) figures: Vec<u64>,
}

/// The cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overview {
    /// Each node that lives, and up to where it had applied the log at its last heartbeat.
    pub(crate) nodes: Vec<(Incarnation, u64)>,
    /// Who is dead, and who recovers it.
    pub(crate) recoverers: Vec<(Incarnation, Incarnation)>,
    pub(crate) about: Vec<(Incarnation, About)>,
    /// Of the last entry of the log.
    pub(crate) position: u64,
    /// Entries of the log that are kept, since not all have applied them, or not long ago.
    pub(crate) log_entries: u64,
    /// Filters that nodes want messages of.
    pub(crate) routes: u64,
    /// Retained messages.
    pub(crate) retained: u64,
}

/// A session, as whoever does not own it may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AwaySession {
    pub(crate) uid: Uid,
    pub(crate) client_id: Box<str>,
    /// The node to which its client is connected.
    pub(crate) owner: Option<Incarnation>,
    /// When it ends, if it does.
    pub(crate) ends_at: Option<Millis>,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl About {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut to = vec![FORM];
        put_binary(&mut to, self.name.as_bytes());
        put_binary(&mut to, self.version.as_bytes());
        put_binary(&mut to, self.http.as_deref().unwrap_or_default().as_bytes());
        to.extend_from_slice(&self.since.map_or(0, Millis::as_unix).to_be_bytes());
        let lease = self.lease.map_or(0, |lease| lease.as_millis() as u64);
        to.extend_from_slice(&lease.to_be_bytes());
        for figure in &self.figures {
            to.extend_from_slice(&figure.to_be_bytes());
        }
        to
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<About, Malformed> {
        let from = &mut Reader::new(bytes);
        if from.u8()? != FORM {
            return Err(Malformed("what a node says of itself has an unknown form"));
        }
        let mut about = About {
            name: from.string()?.into(),
            version: from.string()?.into(),
            http: Some(from.string()?).filter(|url| !url.is_empty()).map(Box::from),
            since: Some(from.u64()?).filter(|since| *since > 0).map(Millis::from_unix),
            lease: Some(from.u64()?).filter(|lease| *lease > 0).map(Duration::from_millis),
            figures: Vec::new(),
        };
        while !from.is_empty() {
            about.figures.push(from.u64()?);
        }
        Ok(about)
    }
}

const FORM: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_is_read_as_it_was() {
        let silent = About::default();
        assert_eq!(About::read(&silent.write()), Ok(silent));
        let about = About {
            name: "n\u{e9}".into(),
            version: "1".into(),
            http: Some("http://h:1".into()),
            since: Some(Millis::from_unix(5)),
            lease: Some(Duration::from_millis(1500)),
            figures: vec![1, u64::MAX],
        };
        let bytes = about.write();
        assert_eq!(About::read(&bytes), Ok(about));
        assert!(About::read(&bytes[..bytes.len() - 1]).is_err());
        assert!(About::read(&[1]).is_err());
    }
}
