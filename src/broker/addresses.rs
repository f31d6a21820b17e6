//! How many connections each address has, where that is limited.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;

use crate::identity::party;

/// See the module. Addresses of one IPv6 network of 64 bits count as one: whoever has one of them has all.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<HashMap<IpAddr, usize>>);

impl Addresses {
    /// One more; how many there are now.
    pub(crate) fn enter(&self, address: IpAddr) -> usize {
        let mut counts = self.0.lock();
        let count = counts.entry(party(address)).or_default();
        *count += 1;
        *count
    }

    pub(crate) fn leave(&self, address: IpAddr) {
        let mut counts = self.0.lock();
        let address = party(address);
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_who_has_gone() {
        let addresses = Addresses::default();
        let [a, b, mapped] = ["2001:db8::1", "2001:db8::2", "::ffff:10.0.0.1"].map(|text| text.parse().expect("valid"));
        assert_eq!((addresses.enter(a), addresses.enter(b)), (1, 2));
        assert_eq!((addresses.enter(mapped), addresses.enter([10, 0, 0, 1].into())), (1, 2));
        for address in [a, b, mapped, mapped] {
            addresses.leave(address);
        }
        assert!(addresses.0.lock().is_empty());
    }
}
