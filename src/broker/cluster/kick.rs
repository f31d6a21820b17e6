//! Disconnecting a client, to whichever node it is connected, and ending its session.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Cluster;
use super::claims::Wanted;
use super::everywhere::Whereabouts;
use super::questions::Question;
use crate::broker::core::Core;
use crate::broker::inspect::{ClusterError, Disconnected};
use crate::reason::ReasonCode;
use crate::store::StoreError;

/// How long the end of a session may take whose client must be had first.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a client is looked for that comes and goes meanwhile.
const TRIES: usize = 5;
/// Before it is looked for again.
const PAUSE: Duration = Duration::from_millis(100);

impl Core {
    /// Has the connection of a client closed with 0x98, and on request ends its session.
    pub(crate) async fn kick_everywhere(
        self: &Arc<Core>,
        cluster: &Arc<Cluster>,
        client_id: &str,
        ends_session: bool,
    ) -> Result<Disconnected, ClusterError> {
        for _ in 0..TRIES {
            if self.disconnect_here(client_id, ends_session) {
                return Ok(Disconnected::Done);
            }
            match cluster.whereabouts(client_id).await? {
                Whereabouts::Nowhere => return Ok(Disconnected::IsUnknown),
                Whereabouts::Away(_) if !ends_session => return Ok(Disconnected::IsAway),
                Whereabouts::Away(_) => {
                    if self.end_away(cluster, client_id).await? {
                        return Ok(Disconnected::Done);
                    }
                }
                Whereabouts::At(node, connection) => {
                    let question = Question::Kick {
                        client_id: client_id.into(),
                        connection,
                        ends_session,
                    };
                    let answer = cluster.ask_node(node, &question).await?;
                    if answer.body.first() == Some(&1) {
                        return Ok(Disconnected::Done);
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(ClusterError::Busy)
    }

    fn disconnect_here(self: &Arc<Core>, client_id: &str, ends_session: bool) -> bool {
        let reason = ReasonCode::AdministrativeAction;
        match ends_session {
            true => self.end_session(client_id, reason),
            false => self.disconnect(client_id, reason),
        }
    }

    /// Ends the session of a client that is away, as a connection with Clean Start does that leaves at once. `false` if another
    /// connection has come between.
    async fn end_away(self: &Arc<Core>, cluster: &Arc<Cluster>, client_id: &str) -> Result<bool, ClusterError> {
        if cluster.journal.is_failing() {
            let why = StoreError::Unavailable("the store takes no changes now".to_owned());
            return Err(ClusterError::Store(why));
        }
        let wanted = Wanted {
            client_id: client_id.into(),
            clean_start: true,
            expiry_interval: 0,
            will: None,
        };
        let claimed = timeout(PATIENCE, self.claim_in_cluster(cluster, wanted)).await;
        // With what was claimed, the client is free again.
        claimed.map(|claimed| claimed.is_some()).map_err(|_| ClusterError::Busy)
    }
}
