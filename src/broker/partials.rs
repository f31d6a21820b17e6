//! Bytes of packets that have not arrived as a whole, of all connections: they are held before anybody can say what they
//! are for, and arrive faster than the process can be looked at.

use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module.
#[derive(Debug)]
pub(crate) struct Partials {
    bytes: AtomicUsize,
    room: AtomicUsize,
}

impl Default for Partials {
    fn default() -> Self {
        Partials {
            bytes: AtomicUsize::new(0),
            room: AtomicUsize::new(usize::MAX),
        }
    }
}

impl Partials {
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How much there is room for, without a bound if there is none.
    pub(super) fn set_room(&self, room: Option<usize>) {
        self.room.store(room.unwrap_or(usize::MAX), Ordering::Relaxed);
    }
}

/// Bytes that are not worth counting: a connection takes as much itself.
const SMALL: usize = 1024;
/// Bytes that a client may hold whatever the others hold.
const OF_A_CLIENT: u32 = 64 * 1024;
const OF_A_STRANGER: u32 = SMALL as u32;

impl Partials {
    /// One connection holds so much now; `counted` is what it remembers of that.
    pub(crate) fn count(&self, counted: &mut u32, bytes: usize) {
        let bytes = if bytes < SMALL { 0 } else { bytes };
        // The largest packet has 256 MiB.
        let now = u32::try_from(bytes).unwrap_or(u32::MAX);
        if now != *counted {
            self.bytes.fetch_add(now as usize, Ordering::Relaxed);
            self.bytes.fetch_sub(*counted as usize, Ordering::Relaxed);
            *counted = now;
        }
    }

    /// Whether there is room for more of the packet of a connection. One that has not been accepted as a client gets half
    /// of the room, and none for itself.
    pub(crate) fn may_grow(&self, counted: u32, is_client: bool) -> bool {
        let (own, share) = if is_client {
            (OF_A_CLIENT, 1)
        } else {
            (OF_A_STRANGER, 2)
        };
        counted <= own || self.bytes() <= self.room.load(Ordering::Relaxed) / share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_get_half_of_the_room() {
        let partials = Partials::default();
        let (mut one, mut other) = (0, 0);
        partials.count(&mut one, 10_000_000);
        assert!(partials.may_grow(one, false));
        partials.set_room(Some(1_000_000));
        partials.count(&mut one, 400_000);
        assert!(partials.may_grow(one, false));
        partials.count(&mut other, 200_000);
        assert!(!partials.may_grow(one, false) && !partials.may_grow(other, false));
        assert!(partials.may_grow(other, true));
        partials.count(&mut other, 700_000);
        assert!(!partials.may_grow(other, true));
        partials.count(&mut one, 64 * 1024);
        partials.count(&mut other, 1_000_000);
        assert!(partials.may_grow(one, true) && !partials.may_grow(one, false));
        partials.count(&mut one, SMALL - 1);
        assert!(partials.may_grow(one, false));
        partials.count(&mut other, 0);
        assert_eq!(partials.bytes(), 0);
    }
}
