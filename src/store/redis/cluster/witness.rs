//! What this node has read of others, and has acted on, may be lost before it was confirmed to who wrote it: then the places that
//! are known here are given to others. So a new server is asked for that, too.

use std::sync::Arc;

use parking_lot::Mutex;
use redis::Value;

use super::generation::{Found, Seen, look_places};
use super::recent::Recent;
use super::stream;
use crate::store::StoreError;
use crate::store::cluster::{Follower, Homes, Sent, Witness, bucket_of_uid};
use crate::store::redis::entry::message_sum;
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::reply::number;

/// Who is told what others do, once there is somebody.
pub(super) type Told = Arc<Mutex<Option<Arc<dyn Follower>>>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Witnesses {
    pub(super) recent: Arc<Recent>,
    pub(super) follower: Told,
    /// What has been sent may give way to what comes, until Redis knows that it was.
    pub(super) drops_oldest: bool,
}

impl Witnesses {
    /// Those of these homes that lack what was read there.
    pub(super) fn lost(&self, link: &mut Link, keys: &Keys, homes: Homes) -> Result<Homes, StoreError> {
        let mut lost = Homes::default();
        if homes.has_global() && !self.has_my_log(link, keys)? {
            lost.insert_global();
        }
        let follower = self.follower.lock().clone();
        let mut witnesses = follower.map_or_else(Vec::new, |follower| follower.witnesses());
        let has_acted = |witness: &Witness| witness.next > 0 || !witness.sent.is_empty();
        witnesses.retain(|witness| has_acted(witness) && homes.has_bucket(bucket_of_uid(witness.uid)));
        for some in witnesses.chunks(AT_A_TIME) {
            let wanted: Vec<_> = some
                .iter()
                .map(|witness| (witness.uid, witness.sent.iter().map(|(place, _)| *place).collect()))
                .collect();
            for (witness, found) in some.iter().zip(look_places(link, keys, &wanted)?) {
                if !fits(witness, found.as_ref(), self.drops_oldest) {
                    lost.insert_bucket(bucket_of_uid(witness.uid));
                }
            }
        }
        Ok(lost)
    }

    /// Whether the log goes on where the mirror of this node is.
    fn has_my_log(&self, link: &mut Link, keys: &Keys) -> Result<bool, StoreError> {
        let (applied, last) = self.recent.last();
        let id = stream::identifier(applied);
        let mut position = redis::cmd("HGET");
        position.arg(keys.of(Home::Global, "meta")).arg("pos");
        let mut entry = redis::cmd("XRANGE");
        entry.arg(keys.of(Home::Global, "log")).arg(&id).arg(&id);
        let mut replies = link.run(&[position, entry])?.into_iter();
        let mut next = || link.checked(replies.next().unwrap_or(Value::Nil));
        let position = match next()? {
            Value::Nil => 0,
            position => number(position)?,
        };
        let found = stream::items(next()?)?;
        // It is not there if all nodes had applied it.
        let is_same = match (&found[..], last) {
            ([(_, bytes)], Some(last)) => bytes[..] == last[..],
            _ => true,
        };
        Ok(position >= applied && is_same)
    }
}

/// Sessions that are asked for at a time.
const AT_A_TIME: usize = 500;

/// Whether a queue can be the one that was read.
fn fits(witness: &Witness, found: Option<&Found>, drops_oldest: bool) -> bool {
    let Some(found) = found else { return false };
    let is_there = |((place, sent), seen): (&(u64, Sent), &Option<Seen>)| {
        let Some(seen) = seen else {
            return drops_oldest && *place < found.next;
        };
        sent.as_ref()
            .is_none_or(|(message, share)| seen.share == *share && seen.sum == Some(message_sum(message)))
    };
    found.next >= witness.next && witness.sent.iter().zip(&found.places).all(is_there)
}
