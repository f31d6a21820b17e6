//! Which server has which homes.

use super::{Homes, Servers};
#[cfg(any(feature = "cli", test))]
use crate::wire::{Malformed, Reader};

/// Servers by their run ids, each with its homes. A server that does not tell its own is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Serving(Vec<(Box<str>, Homes)>);

impl Serving {
    pub(crate) fn insert(&mut self, run_id: &str, homes: Homes) {
        self.0.push((run_id.into(), homes));
    }

    pub(crate) fn servers(&self) -> Servers {
        let mut servers = Servers::default();
        self.0.iter().for_each(|(run_id, _)| servers.insert(run_id));
        servers
    }

    /// The homes whose servers are none of these.
    pub(crate) fn without(&self, servers: &Servers) -> Homes {
        let others = self.0.iter().filter(|(run_id, _)| !servers.has(run_id));
        others.fold(Homes::default(), |all, (_, homes)| all.union(*homes))
    }

    /// The homes that had another server then; none, if it is not known who had any.
    pub(crate) fn changed_since(&self, before: &Serving) -> Homes {
        match before.0.is_empty() {
            true => Homes::default(),
            false => self.without(&before.servers()),
        }
    }

    #[cfg(any(feature = "cli", test))]
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&(self.0.len() as u32).to_be_bytes());
        for (run_id, homes) in &self.0 {
            crate::wire::put_binary(to, run_id.as_bytes());
            homes.write(to);
        }
    }

    #[cfg(any(feature = "cli", test))]
    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Serving, Malformed> {
        let servers = (0..from.u32()?).map(|_| Ok((from.string()?.into(), Homes::read(from)?)));
        servers.collect::<Result<_, _>>().map(Serving)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_lost_with_their_servers() {
        let homes = |buckets: &[u8]| {
            let mut homes = Homes::default();
            buckets.iter().for_each(|bucket| homes.insert_bucket(*bucket));
            homes
        };
        let mut before = Serving::default();
        before.insert("a", homes(&[1]));
        before.insert("b", homes(&[2, 3]));
        let mut now = Serving::default();
        now.insert("c", homes(&[1, 2]));
        now.insert("b", homes(&[3]));
        assert_eq!(now.changed_since(&before), homes(&[1, 2]));
        assert_eq!(before.changed_since(&before), Homes::default());
        assert_eq!(now.changed_since(&Serving::default()), Homes::default());
        assert_eq!(now.without(&before.servers()), homes(&[1, 2]));
        assert_eq!(now.servers(), Servers::parse("b,c"));
    }
}
