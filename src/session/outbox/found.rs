//! The part of a stored queue that an earlier process left.
//!
//! Which of its places are there, and which of those may have been sent, is known to the store alone. So what is to make
//! room of it is counted at once, and dropped when it has been read: by a task while the client is away, by the owner when
//! the client is there.
//!
//! ```text
//!   places:   tail.from ...      looked_to ...             end ...      known_from ...        next
//!             sent, or dropped   what an earlier process   dropped      of this process
//!                                left, with gaps
//! ```
//!
//! Invariants:
//! * Below `looked_to` there is nothing in the tail but what may have been sent, and that only before the client is back.
//! * Nothing is dropped that may have been sent.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::kept::Kept;
use super::{Link, Outbox};
use crate::store::{Journal, Lane, Page, Pen, StoredDelivery};

/// See the module.
#[derive(Debug)]
pub(super) struct Found {
    /// Where it ends.
    pub(super) end: u64,
    /// From here on all places are there, and have not been sent.
    pub(super) known_from: u64,
    /// How many messages of it count still.
    pub(super) count: usize,
    /// How many of the first that have not been sent are to be dropped.
    pub(super) owed: usize,
    looked_to: u64,
    /// As many places were there below `looked_to`.
    looked_at: usize,
    /// What is below this place has been sent, and so may have been the first ones up to the client's window.
    unsent: u64,
    window: usize,
    is_trimming: bool,
}

impl Found {
    pub(super) fn new(first: u64, end: u64, count: usize, unsent: u64, window: u16) -> Found {
        Found {
            end,
            known_from: end,
            count,
            owed: 0,
            looked_to: first,
            looked_at: 0,
            unsent,
            window: usize::from(window),
            is_trimming: false,
        }
    }

    /// Whether this place has been dropped. To be asked when all that may have been sent has left the tail.
    pub(super) fn is_gone(&self, place: u64) -> bool {
        place < self.looked_to || (self.end..self.known_from).contains(&place)
    }

    /// A place has left the tail; how many messages fewer that are which count.
    pub(super) fn pass(&mut self, place: u64) -> usize {
        if place >= self.end {
            return 1;
        }
        let count = self.count.min(1);
        self.count -= count;
        count
    }

    /// Whether this message is to be dropped, which is the first that has not been sent.
    pub(super) fn claims(&mut self, place: u64) -> bool {
        let claims = place < self.end && self.owed > 0;
        self.owed -= usize::from(claims);
        claims
    }

    /// The client is back, and all that may have been sent has left the tail.
    fn all_unsent(&mut self) {
        self.unsent = 0;
        self.window = 0;
    }

    /// Where to look for what is to be dropped, and how far.
    fn page(&self) -> Option<(u64, Page)> {
        let wanted = self.owed > 0 && self.looked_to < self.end;
        let page = Page {
            messages: (self.owed + self.window).min(MESSAGES),
            bytes: BYTES,
        };
        wanted.then_some((self.looked_to, page))
    }

    /// Looks at what was read; the places that are to be dropped.
    pub(super) fn look_at(&mut self, read: &[StoredDelivery], tail_from: u64) -> Vec<u64> {
        let mut dropped = Vec::new();
        let from = self.looked_to;
        for stored in read.iter().filter(|stored| stored.index >= from) {
            if self.owed == 0 || stored.index >= self.end {
                break;
            }
            let may_be_sent = stored.index < self.unsent || self.looked_at < self.window;
            if stored.message.is_some() && stored.index >= tail_from && !may_be_sent {
                self.owed -= 1;
                dropped.push(stored.index);
            }
            self.looked_at += 1;
            self.looked_to = stored.index + 1;
        }
        if read.last().is_none_or(|last| last.index >= self.end) && self.owed > 0 {
            // What is left may all have been sent, and so is not for the queue's limit to bound.
            self.looked_to = self.end;
            self.owed = 0;
        }
        dropped
    }
}

/// How much is read at a time.
const MESSAGES: usize = 512;
const BYTES: usize = 512 * 1024;

impl Kept {
    /// The client is back.
    pub(super) fn attached(&mut self) {
        if let Some(found) = &mut self.found {
            found.all_unsent();
        }
    }

    /// Goes on to what this process has put into the tail, if all before it has left; how many messages, that had been
    /// counted, were not there.
    pub(super) fn leave_found(&mut self) -> usize {
        let Some(tail) = &mut self.tail else { return 0 };
        match self.found.take_if(|found| tail.from >= found.end) {
            Some(found) => {
                tail.from = tail.from.max(found.known_from);
                found.count
            }
            None => 0,
        }
    }
}

impl Outbox {
    /// Has messages dropped that an earlier process left, if some have to be and nobody else does it.
    pub(super) fn begin_to_trim(self: &Arc<Outbox>, kept: &mut Kept) {
        let Some(found) = kept.found.as_mut().filter(|found| !found.is_trimming) else {
            return;
        };
        // Without a runtime the owner does it, or the next publisher has it done.
        if let (Some(_), Ok(runtime)) = (found.page(), Handle::try_current()) {
            found.is_trimming = true;
            let outbox = Arc::clone(self);
            runtime.spawn_blocking(move || while outbox.trim() {});
        }
    }

    /// Reads a part, and drops what is to be dropped of it; whether there is more to do. Blocks.
    fn trim(&self) -> bool {
        let Some((journal, from, most)) = self.page_to_trim() else {
            return false;
        };
        let read = journal.store().queue(self.key, Lane::Live, from, most);
        let read = read.inspect_err(|error| {
            let client = &*self.client_id;
            tracing::error!(client, %error, "messages that are to make room can't be read: that is tried again");
        });
        let mut pen = Pen::default();
        let mut inner = self.inner.lock();
        let is_away = matches!(inner.link, Link::Offline);
        let Some(kept) = &mut inner.kept else { return false };
        let (Some(found), Some(tail)) = (&mut kept.found, &kept.tail) else {
            return false;
        };
        let (Ok(read), true) = (read, is_away) else {
            found.is_trimming = false;
            return false;
        };
        let dropped = found.look_at(&read, tail.from);
        kept.dropped.extend(dropped);
        kept.settle_dropped(self.key, &mut pen);
        true
    }

    fn page_to_trim(&self) -> Option<(Arc<Journal>, u64, Page)> {
        let mut inner = self.inner.lock();
        let is_away = matches!(inner.link, Link::Offline);
        let kept = inner.kept.as_mut()?;
        let found = kept.found.as_mut()?;
        let page = found.page().filter(|_| is_away);
        found.is_trimming = page.is_some();
        page.map(|(from, most)| (Arc::clone(&kept.journal), from, most))
    }
}
