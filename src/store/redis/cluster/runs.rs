//! Messages for queues of a bucket: a run for each session, with all of them in one argument of a call.
//!
//! A call has thousands of messages, and each argument costs Redis more than a short message does. So does each string that a
//! script makes: what it gives to others as it is, is not written anew.

use std::collections::HashMap;

use crate::store::Uid;
use crate::store::redis::arguments::Arguments;
use crate::wire::{Malformed, Reader};

/// Bytes of terms and message of the longest one that goes so. What is longer goes with the call once, for however many queues.
pub(super) const LONGEST: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: Vec<(Uid, Messages)>,
    places: HashMap<Uid, usize, foldhash::fast::FixedState>,
}

/// Those of one session.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Which ones they are of those that the batch publishes.
    pub(super) published: Vec<usize>,
    /// For what they count.
    size: u32,
    /// See [`ENTRIES`].
    entries: Vec<u8>,
}

/// What entries begin with: they may be an event of their own.
pub(super) const ENTRIES: u8 = b'E';

impl Runs {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn has(&self, uid: Uid) -> bool {
        self.places.contains_key(&uid)
    }

    /// Puts a message behind those for the same session.
    pub(super) fn add(&mut self, uid: Uid, published: usize, terms: &[u8], message: &[u8]) {
        let place = *self.places.entry(uid).or_insert_with(|| {
            let entries = vec![ENTRIES];
            self.runs.push((
                uid,
                Messages {
                    entries,
                    ..Messages::default()
                },
            ));
            self.runs.len() - 1
        });
        let run = &mut self.runs[place].1;
        run.published.push(published);
        run.size += size_of_terms(terms);
        for part in [terms, message] {
            run.entries.extend_from_slice(&(part.len() as u32).to_be_bytes());
            run.entries.extend_from_slice(part);
        }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (Uid, &Messages)> {
        self.runs.iter().map(|(uid, run)| (*uid, run))
    }
}

impl Messages {
    /// Two arguments: what it is, and its entries.
    pub(super) fn push(&self, uid: Uid, to: &mut Arguments) {
        to.push(b"");
        to.extend(|head| {
            let uid = uid.to_string();
            head.push(uid.len() as u8);
            head.extend_from_slice(uid.as_bytes());
            head.extend_from_slice(&(self.published.len() as u32).to_be_bytes());
            head.extend_from_slice(&self.size.to_be_bytes());
        });
        to.push(&self.entries);
    }
}

/// The terms and the message of the next entry.
pub(super) fn entry<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    let mut part = || {
        let length = reader.u32()? as usize;
        reader.bytes(length)
    };
    Ok((part()?, part()?))
}

/// Scripts rely on it that terms begin with that.
fn size_of_terms(terms: &[u8]) -> u32 {
    terms.first_chunk().map_or(0, |size| u32::from_be_bytes(*size))
}
