//! What has come to a session by one connection after the other: a QoS 2 message once.

use std::collections::{HashMap, HashSet};

/// A message that a connection has been given.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub label: String,
    pub qos: u8,
    pub id: u16,
    pub dup: bool,
    /// PUBREL has come for it.
    pub is_released: bool,
}

/// What has come by connections that have ended, in the order in which they had the session.
#[derive(Default)]
pub struct Past(HashMap<String, Arrival>);

impl Past {
    pub fn has(&self, label: &str) -> bool {
        self.0.contains_key(label)
    }

    /// A connection that has ended.
    pub fn add(&mut self, arrivals: Vec<Arrival>) -> Result<(), String> {
        let checked = self.check(&arrivals);
        for arrival in arrivals {
            self.0.insert(arrival.label.clone(), arrival);
        }
        checked
    }

    /// Whether these may have come by the connection after the past ones: what has come before under the same Packet Identifier
    /// alone, with DUP, and only if it has not been released.
    pub fn check(&self, arrivals: &[Arrival]) -> Result<(), String> {
        let mut seen = HashSet::new();
        for arrival in arrivals.iter().filter(|one| one.qos == 2) {
            let Arrival { label, id, dup, .. } = arrival;
            if !seen.insert(label) {
                return Err(format!("{label} of QoS 2 has come twice by one connection"));
            }
            let repeats = |before: &Arrival| *dup && before.id == *id && !before.is_released;
            if let Some(before) = self.0.get(label).filter(|before| !repeats(before)) {
                return Err(format!("{label} of QoS 2 has come twice: {before:?}, {arrival:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(qos: u8, id: u16, dup: bool, is_released: bool) -> Arrival {
        Arrival {
            label: "m".into(),
            qos,
            id,
            dup,
            is_released,
        }
    }

    #[test]
    fn what_was_not_released_may_be_repeated() {
        let mut past = Past::default();
        assert!(!past.has("m"));
        assert_eq!(past.add(vec![arrival(2, 1, false, false)]), Ok(()));
        assert!(past.has("m"));
        assert_eq!(past.add(vec![arrival(2, 1, true, false)]), Ok(()));
        assert_eq!(past.check(&[arrival(2, 1, true, true)]), Ok(()));
    }

    #[test]
    fn qos_2_comes_once() {
        for (released, second) in [
            (false, arrival(2, 2, true, false)),
            (false, arrival(2, 1, false, false)),
            (true, arrival(2, 1, true, false)),
        ] {
            let mut past = Past::default();
            assert_eq!(past.add(vec![arrival(2, 1, false, released)]), Ok(()));
            assert!(past.check(std::slice::from_ref(&second)).is_err(), "{second:?}");
            assert!(past.add(vec![second]).is_err());
        }
        let twice = [arrival(2, 1, false, true), arrival(2, 2, false, false)];
        assert!(Past::default().check(&twice).is_err());
    }

    #[test]
    fn qos_1_may_come_again() {
        let mut past = Past::default();
        let twice = [arrival(1, 1, false, false), arrival(1, 2, false, false)];
        assert_eq!(past.add(twice.to_vec()), Ok(()));
        assert_eq!(past.check(&twice), Ok(()));
    }
}
