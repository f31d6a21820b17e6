//! What this node knows of the queues of its sessions, for a server that has taken the place of another.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::broker::core::Core;
use crate::session::{InFlight, Inquiry};
use crate::store::Uid;
use crate::store::cluster::Witness;

/// How long owners are waited for: one that does not answer is no witness of what it has sent.
const PATIENCE: Duration = Duration::from_millis(500);

impl Core {
    /// Of all sessions that are owned here. Blocks for a moment.
    pub(super) fn witnesses(&self) -> Vec<Witness> {
        let outboxes = self.registry.online_outboxes();
        // With room for all: an owner never waits.
        let (answer, answers) = mpsc::sync_channel(outboxes.len());
        let mut witnesses: HashMap<Uid, Witness> = HashMap::new();
        for outbox in outboxes {
            let Some(next) = outbox.known_next() else { continue };
            let uid = outbox.key;
            let sent = Vec::new();
            witnesses.insert(uid, Witness { uid, next, sent });
            let _ = outbox.inquire(Inquiry::InFlight { answer: answer.clone() });
        }
        drop(answer);
        let deadline = Instant::now() + PATIENCE;
        // It ends when all have answered, or have gone.
        while let Ok(InFlight { key, sent }) = answers.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if let Some(witness) = witnesses.get_mut(&key) {
                let sent = sent.into_iter().map(|(place, message)| {
                    let message = message.map(|(message, share)| (message, share.map(|share| share.as_str().into())));
                    (place, message)
                });
                witness.sent = sent.collect();
            }
        }
        witnesses.into_values().collect()
    }
}
