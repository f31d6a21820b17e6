//! How a node ends that is asked to: it gives up what it may write to, and then there is nothing to recover.

use super::scripts::{BYE, DEPART};
use super::writer::Writer;
use crate::store::StoreError;
use crate::store::cluster::Entry;
use crate::store::redis::keys::Home;
use crate::store::redis::reply::number;
use crate::store::redis::script::eval;

impl Writer {
    /// See [`Shared::depart`](crate::store::cluster::Shared::depart). Only when all have nothing left, the first one goes: a message
    /// of one may be for another.
    pub(super) fn depart(&mut self) -> Result<Vec<u8>, StoreError> {
        self.must_be_idle()?;
        let left = self.depart_from_all(false)?;
        if !left.is_empty() {
            return Ok(left);
        }
        self.has_departed = true;
        self.depart_from_all(true)
    }

    /// See [`Shared::bye`](crate::store::cluster::Shared::bye).
    pub(super) fn bye(&mut self) -> Result<(), StoreError> {
        self.must_be_idle()?;
        let (node, mut entry) = (self.incarnation(), Vec::new());
        Entry::Dead(node).write(&mut entry);
        let mut command = eval(BYE, &[&self.keys.of(Home::Global, "nodes")]);
        command.arg(node).arg(entry);
        self.with_link(|link| link.ask(command)).map(drop)
    }

    /// The buckets where something is left.
    fn depart_from_all(&mut self, gives_up: bool) -> Result<Vec<u8>, StoreError> {
        let node = self.incarnation();
        let commands: Vec<_> = Home::buckets()
            .map(|home| {
                let mut command = eval(DEPART, &[&self.keys.of(home, "hw")]);
                command.arg(node).arg(u8::from(gives_up));
                command
            })
            .collect();
        self.with_link(|link| {
            let mut left = Vec::new();
            for (bucket, reply) in (0..=u8::MAX).zip(link.run(&commands)?) {
                let is_free = number(link.checked(reply)?)? != 0;
                left.extend((!is_free).then_some(bucket));
            }
            Ok(left)
        })
    }
}
