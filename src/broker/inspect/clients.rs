//! Clients and their sessions.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::NodeRef;
use crate::broker::core::Core;
use crate::broker::glob;
use crate::broker::registry::{SHARDS, Seen};
use crate::identity::ClientInfo;
use crate::session::Glance;
use crate::time::Millis;

/// Which clients to list: those that all of it is true of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientQuery {
    /// The Client Identifier; `*` stands for any characters, `?` for one.
    pub client_id: Option<String>,
    /// What the Client Identifier begins with.
    pub prefix: Option<String>,
    /// The User Name; clients that are away have none.
    pub username: Option<String>,
    /// The address; clients that are away have none.
    pub address: Option<IpAddr>,
    /// Whether it is connected.
    pub connected: Option<bool>,
}

/// A client, and its session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientState {
    /// Client Identifier.
    pub client_id: Arc<str>,
    /// Whether the client is connected.
    pub connected: bool,
    /// Who is connected; `None` of a client that is away, or whose CONNECT is just being answered.
    pub info: Option<Arc<ClientInfo>>,
    /// In a cluster, the node to which it is connected.
    pub node: Option<NodeRef>,
    /// Subscriptions of the session.
    pub subscriptions: usize,
    /// QoS 1 and 2 messages that wait to be sent.
    pub queued_messages: usize,
    /// Bytes of all messages that wait or are in flight.
    pub queued_bytes: usize,
    /// QoS 1 and 2 messages that were sent and have not been acknowledged.
    pub inflight_messages: usize,
    /// When the session of a client that is away ends; `None` is never.
    pub expires_at: Option<Millis>,
}

/// Some of the clients.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientPage {
    /// The clients, in no particular order.
    pub clients: Vec<ClientState>,
    /// Where the list goes on; `None` at its end.
    pub next: Option<String>,
}

/// A cursor that is not from an earlier page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCursor;

impl fmt::Display for BadCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cursor is not one of an earlier page")
    }
}

impl std::error::Error for BadCursor {}

/// Clients of one page.
const LARGEST_PAGE: usize = 10_000;
/// Clients that are looked at for one lock of their shard, when few of them may be wanted.
const AT_A_TIME: usize = 4096;
/// Clients that are compared before others have their turn.
const COMPARED_AT_A_TIME: usize = 64;

impl Core {
    /// The next clients behind the cursor, at most `limit`.
    pub(crate) async fn list_clients(
        &self,
        query: &ClientQuery,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<ClientPage, BadCursor> {
        let limit = limit.clamp(1, LARGEST_PAGE);
        let Place { mut shard, mut after } = cursor.map_or(Ok(Place::default()), Place::parse)?;
        let batch = if query.is_for_all() {
            limit + 1
        } else {
            limit.max(AT_A_TIME)
        };
        let mut clients = Vec::new();
        while shard < SHARDS {
            let found = self
                .registry
                .some_of_shard(shard, after.as_deref(), batch, |id| query.has_prefix(id));
            let is_last = found.len() < batch;
            for (number, seen) in found.into_iter().enumerate() {
                if number % COMPARED_AT_A_TIME == COMPARED_AT_A_TIME - 1 {
                    tokio::task::yield_now().await;
                }
                if clients.len() >= limit {
                    let next = Some(Place { shard, after }.to_string());
                    return Ok(ClientPage { clients, next });
                }
                after = Some((*seen.outbox.client_id).to_owned());
                let client = self.state_of(&seen);
                if query.is_met_by(&client) {
                    clients.push(client);
                }
            }
            if is_last {
                shard += 1;
                after = None;
            }
            tokio::task::yield_now().await;
        }
        Ok(ClientPage { clients, next: None })
    }

    /// This client, if it is connected or has a session.
    pub(crate) fn client(&self, client_id: &str) -> Option<ClientState> {
        self.registry.see(client_id).map(|seen| self.state_of(&seen))
    }

    fn state_of(&self, seen: &Seen) -> ClientState {
        ClientState {
            node: self.cluster.as_ref().map(|cluster| cluster.own_ref()),
            ..ClientState::of(seen)
        }
    }
}

/// How far a list has got.
#[derive(Default)]
struct Place {
    shard: usize,
    after: Option<String>,
}

impl Place {
    fn parse(text: &str) -> Result<Place, BadCursor> {
        let (shard, after) = text.split_once(':').ok_or(BadCursor)?;
        let shard = shard.parse().ok().filter(|shard| *shard < SHARDS).ok_or(BadCursor)?;
        Ok(Place {
            shard,
            after: Some(after.to_owned()),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.shard, self.after.as_deref().unwrap_or_default())
    }
}

impl ClientQuery {
    fn is_for_all(&self) -> bool {
        let ClientQuery {
            client_id,
            prefix,
            username,
            address,
            connected,
        } = self;
        [client_id, prefix, username].iter().all(|text| text.is_none()) && address.is_none() && connected.is_none()
    }

    /// Cheap enough to be asked while others wait.
    fn has_prefix(&self, client_id: &str) -> bool {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        client_id.starts_with(prefix)
    }

    /// Whether clients that are away may be among those that are looked for.
    pub(in crate::broker) fn may_be_away(&self) -> bool {
        self.connected != Some(true) && self.username.is_none() && self.address.is_none()
    }

    /// All of it, the prefix included.
    pub(in crate::broker) fn is_met_by_all(&self, client: &ClientState) -> bool {
        self.has_prefix(&client.client_id) && self.is_met_by(client)
    }

    fn is_met_by(&self, client: &ClientState) -> bool {
        let info = client.info.as_ref();
        let username = info.and_then(|info| info.username.as_deref());
        let address = info.and_then(|info| info.peer.address);
        let address = address.map(|address| address.ip().to_canonical());
        let pattern = self.client_id.as_ref();
        self.connected.is_none_or(|wanted| wanted == client.connected)
            && pattern.is_none_or(|pattern| glob::matches(pattern, &client.client_id))
            && (self.username.is_none() || self.username.as_deref() == username)
            && (self.address.is_none() || self.address.map(|ip| ip.to_canonical()) == address)
    }
}

impl ClientState {
    fn of(seen: &Seen) -> ClientState {
        let Glance {
            client,
            subscriptions,
            queued_messages,
            queued_bytes,
            inflight_messages,
        } = seen.outbox.glance();
        ClientState {
            client_id: Arc::clone(&seen.outbox.client_id),
            connected: seen.away.is_none(),
            info: client,
            node: None,
            subscriptions,
            queued_messages,
            queued_bytes,
            inflight_messages,
            expires_at: seen.away.and_then(|away| away.expires_at),
        }
    }
}
