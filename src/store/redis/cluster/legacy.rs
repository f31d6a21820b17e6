//! What the incarnations before of this process have left, and what this one leaves.

use super::ClusterStore;
use super::generation::{self, raise};
use crate::store::StoreError;
use crate::store::cluster::{Homes, Serving};
use crate::store::legacy::Legacy;
use crate::store::redis::attempt::{Failed, highest_fenced, last_calls};
use crate::store::redis::keys::Keys;
use crate::store::redis::link::Link;

/// Looks which homes have lost what they had confirmed to these. If there are any, all that there is is over. What does not matter
/// any more is left out.
pub(super) fn examine(
    link: &mut Link,
    keys: &Keys,
    serving: &Serving,
    legacies: Vec<Legacy>,
) -> Result<Vec<Legacy>, (StoreError, Vec<Legacy>)> {
    let mut matters = Vec::new();
    let mut rest = legacies.into_iter();
    while let Some(mut legacy) = rest.next() {
        match look_for_losses(link, keys, serving, &mut legacy) {
            Ok(lost) if lost.is_empty() && !legacy.is_over => {}
            Ok(_) => matters.push(legacy),
            Err(error) => {
                matters.push(legacy);
                matters.extend(rest);
                return Err((error, matters));
            }
        }
    }
    Ok(matters)
}

fn look_for_losses(link: &mut Link, keys: &Keys, serving: &Serving, legacy: &mut Legacy) -> Result<Homes, StoreError> {
    let changed = serving.changed_since(&legacy.serving);
    let mut lost = legacy.missing;
    let found = last_calls(link, keys, legacy.incarnation).map_err(Failed::into_error)?;
    let fenced = highest_fenced(link, keys).map_err(Failed::into_error)?;
    // Others may have been removed behind it that were forgotten like it.
    let is_over = generation::current(link, keys)? >= legacy.incarnation;
    legacy.kept.resize(found.len(), None);
    for ((home, last), (_, top)) in found.into_iter().zip(fenced) {
        let confirmed = legacy.confirmed.get(home.index()).copied().unwrap_or_default();
        let is_lost = match last {
            Some(last) => last < confirmed,
            // It was declared dead, which is noted; or it has been forgotten with the rest.
            None => home.is_in(changed) && (is_over || top.is_none_or(|top| top < legacy.incarnation)),
        };
        if is_lost {
            home.insert_into(&mut lost);
            let known = &mut legacy.kept[home.index()];
            *known = Some(last.or(*known).unwrap_or_default());
        }
    }
    if !lost.is_empty() {
        tracing::warn!(
            node = legacy.incarnation,
            homes = %lost,
            "Redis at {} has lost writes that it had confirmed: all nodes of the cluster begin anew, and put in order what is there",
            link.address()
        );
        raise(link, keys, legacy.incarnation, lost)?;
    }
    Ok(lost)
}

impl ClusterStore {
    /// See [`Shared::hand_over`](crate::store::cluster::Shared::hand_over).
    pub(super) fn leave(&self, clients: Vec<Box<str>>) {
        let unsettled = std::mem::take(&mut *self.inherited.lock());
        self.legacies.add(unsettled);
        let Some(memory) = self.memory.lock().take() else {
            return;
        };
        if !self.life.has_failed() {
            return;
        }
        let mut legacy = Legacy {
            incarnation: self.incarnation,
            serving: self.serving.lock().clone(),
            confirmed: self.writer.lock().calls_made().to_vec(),
            missing: self.life.missing(),
            is_over: self.life.is_raised(),
            clients,
            ..Legacy::default()
        };
        memory.leave_to(&mut legacy);
        self.legacies.add([legacy]);
    }
}
