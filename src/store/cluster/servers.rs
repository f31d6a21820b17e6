//! The servers where a node has found all that it has written.

use std::collections::BTreeSet;
use std::fmt;

/// Servers, by their run ids: a server that begins anew has another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Servers(BTreeSet<Box<str>>);

impl Servers {
    /// Reads what [`Display`](fmt::Display) has written.
    pub(crate) fn parse(text: &str) -> Servers {
        Servers(text.split(',').filter(|id| !id.is_empty()).map(Box::from).collect())
    }

    pub(crate) fn insert(&mut self, run_id: &str) {
        self.0.insert(run_id.into());
    }

    pub(crate) fn has(&self, run_id: &str) -> bool {
        self.0.contains(run_id)
    }

    /// Nothing is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, id) in self.0.iter().enumerate() {
            f.write_str(if at > 0 { "," } else { "" })?;
            f.write_str(id)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut servers = Servers::parse("");
        assert!(servers.is_empty());
        assert_eq!(servers.to_string(), "");
        servers.insert("b2");
        servers.insert("a1");
        assert_eq!(servers.to_string(), "a1,b2");
        assert_eq!(Servers::parse("a1,b2"), servers);
        assert!(servers.has("b2") && !servers.has("b"));
    }
}
