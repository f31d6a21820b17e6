//! What a node leaves to the next one of its process when Redis has lost writes: what had been confirmed to it, and to whom it
//! mattered. See "When Redis loses writes" in `tests/cluster/PROTOCOL.md`.

#![cfg_attr(
    not(feature = "redis"),
    allow(dead_code, reason = "there is no store that brokers could share")
)]

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Uid;
use super::cluster::{Homes, Incarnation, Serving};
#[cfg(any(feature = "cli", test))]
use crate::wire::{Malformed, Reader};

/// Those that have not been dealt with. Clones are the same one: settings that are cloned for another broker have it, too.
#[derive(Clone, Default)]
pub(crate) struct Legacies(Arc<Mutex<Vec<Legacy>>>);

/// A node that is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Legacy {
    pub(crate) incarnation: Incarnation,
    /// The servers that had all that was confirmed.
    pub(crate) serving: Serving,
    /// How many calls each home has confirmed.
    pub(crate) confirmed: Vec<u64>,
    /// How many of them a home that has lost some still had, as far as that was looked for.
    pub(crate) kept: Vec<Option<u64>>,
    /// Homes that lack what was read there.
    pub(crate) missing: Homes,
    /// It has ended with its generation.
    pub(crate) is_over: bool,
    /// Those who were connected to it lately.
    pub(crate) clients: Vec<Box<str>>,
    pub(crate) messages: Vec<Vec<u8>>,
    pub(crate) appends: Vec<Append>,
    /// How many more of the last while it had no room to remember.
    pub(crate) forgotten: u64,
}

/// A message that was put into a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Append {
    pub(crate) uid: Uid,
    /// Of the call.
    pub(crate) number: u64,
    pub(crate) terms: Vec<u8>,
    /// Which one of the legacy's messages.
    pub(crate) message: u32,
}

/// What a text of legacies begins with: those of another version are not read.
#[cfg(any(feature = "cli", test))]
const HEAD: &[u8] = b"mqtt-broker legacies 1\n";

impl Legacies {
    pub(crate) fn add(&self, legacies: impl IntoIterator<Item = Legacy>) {
        self.0.lock().extend(legacies);
    }

    pub(crate) fn take(&self) -> Vec<Legacy> {
        std::mem::take(&mut self.0.lock())
    }

    #[cfg(feature = "cli")]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// For the same program, when it begins again.
    #[cfg(any(feature = "cli", test))]
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let legacies = self.0.lock();
        let mut bytes = HEAD.to_vec();
        put_u32(&mut bytes, legacies.len());
        legacies.iter().for_each(|legacy| legacy.write(&mut bytes));
        bytes
    }

    /// # Errors
    /// If it is not what another one has written.
    #[cfg(any(feature = "cli", test))]
    pub(crate) fn add_bytes(&self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.bytes(HEAD.len())? != HEAD {
            return Err(Malformed("it is of another version"));
        }
        let read: Result<Vec<_>, _> = (0..reader.u32()?).map(|_| Legacy::read(&mut reader)).collect();
        self.add(read?);
        Ok(())
    }
}

impl Legacy {
    #[cfg(any(feature = "cli", test))]
    fn write(&self, to: &mut Vec<u8>) {
        put_u64(to, self.incarnation);
        self.serving.write(to);
        put_u32(to, self.confirmed.len());
        self.confirmed.iter().for_each(|number| put_u64(to, *number));
        put_u32(to, self.kept.len());
        for number in &self.kept {
            to.push(u8::from(number.is_some()));
            put_u64(to, number.unwrap_or_default());
        }
        self.missing.write(to);
        to.push(u8::from(self.is_over));
        put_u32(to, self.clients.len());
        self.clients.iter().for_each(|client| put_bytes(to, client.as_bytes()));
        put_u32(to, self.messages.len());
        self.messages.iter().for_each(|message| put_bytes(to, message));
        put_u32(to, self.appends.len());
        for append in &self.appends {
            put_u64(to, append.uid);
            put_u64(to, append.number);
            put_bytes(to, &append.terms);
            put_u32(to, append.message as usize);
        }
        put_u64(to, self.forgotten);
    }

    #[cfg(any(feature = "cli", test))]
    fn read(from: &mut Reader<'_>) -> Result<Legacy, Malformed> {
        let legacy = Legacy {
            incarnation: from.u64()?,
            serving: Serving::read(from)?,
            confirmed: all(from, Reader::u64)?,
            kept: all(from, |from| Ok((from.u8()? != 0, from.u64()?)))?
                .into_iter()
                .map(|(is_known, number)| is_known.then_some(number))
                .collect(),
            missing: Homes::read(from)?,
            is_over: from.u8()? != 0,
            clients: all(from, |from| Ok(crate::wire::text(bytes(from)?)?.into()))?,
            messages: all(from, |from| Ok(bytes(from)?.to_vec()))?,
            appends: all(from, |from| {
                Ok(Append {
                    uid: from.u64()?,
                    number: from.u64()?,
                    terms: bytes(from)?.to_vec(),
                    message: from.u32()?,
                })
            })?,
            forgotten: from.u64()?,
        };
        let is_there = |append: &Append| (append.message as usize) < legacy.messages.len();
        match legacy.appends.iter().all(is_there) {
            true => Ok(legacy),
            false => Err(Malformed("a message is missing")),
        }
    }
}

#[cfg(any(feature = "cli", test))]
fn put_u32(to: &mut Vec<u8>, number: usize) {
    to.extend_from_slice(&(number as u32).to_be_bytes());
}

#[cfg(any(feature = "cli", test))]
fn put_u64(to: &mut Vec<u8>, number: u64) {
    to.extend_from_slice(&number.to_be_bytes());
}

#[cfg(any(feature = "cli", test))]
fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(to, bytes.len());
    to.extend_from_slice(bytes);
}

#[cfg(any(feature = "cli", test))]
fn bytes<'a>(from: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let length = from.u32()? as usize;
    from.bytes(length)
}

#[cfg(any(feature = "cli", test))]
fn all<'a, T>(
    from: &mut Reader<'a>,
    mut one: impl FnMut(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    (0..from.u32()?).map(|_| one(from)).collect()
}

/// Settings are the same whatever has been left.
impl PartialEq for Legacies {
    fn eq(&self, _: &Legacies) -> bool {
        true
    }
}

impl Eq for Legacies {}

impl fmt::Debug for Legacies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.0.lock().iter().map(|legacy| legacy.incarnation).collect();
        f.debug_tuple("Legacies").field(&nodes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_through_bytes() {
        let mut missing = Homes::default();
        missing.insert_bucket(7);
        let mut serving = Serving::default();
        serving.insert("abc", Homes::all());
        let legacy = Legacy {
            incarnation: 5,
            serving,
            confirmed: vec![1, 2, 3],
            kept: vec![None, Some(1), None],
            missing,
            is_over: true,
            clients: vec!["c".into()],
            messages: vec![b"one".to_vec()],
            appends: vec![Append {
                uid: 9,
                number: 2,
                terms: b"terms".to_vec(),
                message: 0,
            }],
            forgotten: 4,
        };
        let (one, other) = (Legacies::default(), Legacies::default());
        one.add([legacy.clone(), Legacy::default()]);
        let bytes = one.to_bytes();
        other.add_bytes(&bytes).expect("is read");
        assert_eq!(other.take(), [legacy, Legacy::default()]);
        for end in 0..bytes.len() {
            assert!(other.add_bytes(&bytes[..end]).is_err(), "{end}");
        }
        assert!(other.take().is_empty());
    }
}
