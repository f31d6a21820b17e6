//! Clients of the whole cluster: those that are connected to each node, and behind them sessions whose clients are away.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use super::questions::{Question, read_page, read_state, read_subscriptions};
use crate::broker::core::Core;
use crate::broker::inspect::{
    BadCursor, ClientPage, ClientQuery, ClientState, ClusterError, NodeRef, SubscriptionPage, SubscriptionState,
};
use crate::store::StoreError;
use crate::store::cluster::{AwaySession, Incarnation};
use crate::wire::Malformed;

/// Clients that another node is asked for at a time.
const OF_A_NODE: usize = 200;
/// Looks into Redis for one page: few of very many sessions may be wanted.
const LOOKS: usize = 64;
/// How often a client is looked for whose session changes hands meanwhile.
const TRIES: usize = 5;
/// Before it is looked for again.
const PAUSE: Duration = Duration::from_millis(100);

/// How far a list has got.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The clients of this node, or the first one behind it, from this cursor of its own on.
    Node {
        node: Incarnation,
        cursor: Option<String>,
    },
    /// Sessions of clients that are away: the bucket, the cursor in it, and the last session of what is found there.
    Away {
        bucket: u8,
        cursor: u64,
        after: u64,
    },
    End,
}

const FIRST: Place = Place::Node { node: 0, cursor: None };
const AWAY: Place = Place::Away {
    bucket: 0,
    cursor: 0,
    after: 0,
};

impl Place {
    fn parse(text: &str) -> Result<Place, BadCursor> {
        let (kind, rest) = text.split_once('.').ok_or(BadCursor)?;
        let mut parts = rest.splitn(if kind == "n" { 2 } else { 3 }, '.');
        let mut next = || parts.next().ok_or(BadCursor);
        let place = match kind {
            "n" => Place::Node {
                node: number(next()?)?,
                cursor: Some(next()?).filter(|cursor| !cursor.is_empty()).map(str::to_owned),
            },
            "a" => Place::Away {
                bucket: number(next()?)?,
                cursor: number(next()?)?,
                after: number(next()?)?,
            },
            _ => return Err(BadCursor),
        };
        Ok(place)
    }

    fn cursor(&self) -> Option<String> {
        (*self != Place::End).then(|| self.to_string())
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, BadCursor> {
    text.parse().map_err(|_| BadCursor)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Node { node, cursor } => write!(f, "n.{node}.{}", cursor.as_deref().unwrap_or_default()),
            Place::Away { bucket, cursor, after } => write!(f, "a.{bucket}.{cursor}.{after}"),
            Place::End => Ok(()),
        }
    }
}

impl Core {
    /// The next clients of all nodes behind the cursor, at most `limit`.
    pub(crate) async fn list_everywhere(
        &self,
        cluster: &Cluster,
        query: &ClientQuery,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<ClientPage, ClusterError> {
        let limit = limit.clamp(1, 10_000);
        let mut place = cursor.map_or(Ok(FIRST), Place::parse)?;
        let mut clients = Vec::new();
        let mut looks = 0;
        while clients.len() < limit && looks < LOOKS {
            let room = limit - clients.len();
            place = match place {
                Place::Node { node, cursor } if query.connected != Some(false) => {
                    self.list_node(cluster, query, (node, cursor), room, &mut clients)
                        .await?
                }
                Place::Node { .. } => AWAY,
                Place::Away { bucket, cursor, after } if query.may_be_away() => {
                    looks += 1;
                    cluster
                        .list_away(query, (bucket, cursor, after), limit, &mut clients)
                        .await?
                }
                Place::Away { .. } | Place::End => Place::End,
            };
            if place == Place::End {
                break;
            }
        }
        Ok(ClientPage {
            clients,
            next: place.cursor(),
        })
    }

    /// Adds clients of one node; where to go on.
    async fn list_node(
        &self,
        cluster: &Cluster,
        query: &ClientQuery,
        (from, cursor): (Incarnation, Option<String>),
        room: usize,
        into: &mut Vec<ClientState>,
    ) -> Result<Place, ClusterError> {
        let Some(node) = cluster.mirror.living_from(from) else {
            return Ok(AWAY);
        };
        let cursor = cursor.filter(|_| node == from);
        let page = match node == cluster.incarnation {
            true => self.list_clients(query, cursor.as_deref(), room).await?,
            false => cluster.ask_page(node, query, cursor, room.min(OF_A_NODE)).await?,
        };
        into.extend(page.clients);
        Ok(match page.next {
            Some(next) => Place::Node {
                node,
                cursor: Some(next),
            },
            None => Place::Node {
                node: node + 1,
                cursor: None,
            },
        })
    }

    /// This client, to whichever node it is connected, or if it has a session.
    pub(crate) async fn find_everywhere(
        &self,
        cluster: &Cluster,
        client_id: &str,
    ) -> Result<Option<ClientState>, ClusterError> {
        for _ in 0..TRIES {
            if let Some(state) = self.client(client_id) {
                return Ok(Some(state));
            }
            match cluster.whereabouts(client_id).await? {
                Whereabouts::Nowhere => return Ok(None),
                Whereabouts::Away(session) => return Ok(Some(cluster.state_of(&session))),
                Whereabouts::At(node, _) => {
                    let answer = cluster.ask_node(node, &Question::Client(client_id.into())).await?;
                    let state = read_state(&answer.body).map_err(|error| not_understood(node, error))?;
                    if let Some(mut state) = state {
                        state.node = Some(NodeRef {
                            node,
                            name: answer.name,
                        });
                        return Ok(Some(state));
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(ClusterError::Busy)
    }

    /// The same of its subscriptions. `None` if it has no session, or its connection does not answer.
    pub(crate) async fn subscriptions_everywhere(
        &self,
        cluster: &Cluster,
        client_id: &str,
        skip: usize,
        limit: usize,
    ) -> Result<Option<SubscriptionPage>, ClusterError> {
        if self.client(client_id).is_some() {
            return Ok(self.subscriptions_of(client_id, skip, limit).await);
        }
        match cluster.whereabouts(client_id).await? {
            Whereabouts::Nowhere => Ok(None),
            Whereabouts::Away(session) => cluster.stored_subscriptions(session.uid, skip, limit).await,
            Whereabouts::At(node, _) => {
                let question = Question::Subscriptions {
                    client_id: client_id.into(),
                    skip: skip as u64,
                    limit: limit as u32,
                };
                let answer = cluster.ask_node(node, &question).await?;
                read_subscriptions(&answer.body).map_err(|error| not_understood(node, error))
            }
        }
    }
}

/// Where a client is.
pub(super) enum Whereabouts {
    /// Connected to this node, by the connection with this number.
    At(Incarnation, u64),
    /// Not connected, or to a node that is dead.
    Away(AwaySession),
    Nowhere,
}

impl Cluster {
    pub(super) async fn whereabouts(&self, client_id: &str) -> Result<Whereabouts, ClusterError> {
        let client_id = client_id.to_owned();
        let read = move |store: &dyn crate::store::cluster::Shared| {
            let record = store.client(&client_id)?;
            let session = record.uid.map_or(Ok(None), |uid| store.glance(uid))?;
            Ok((record.owner, session))
        };
        let (owner, session) = self.ask_soon(read).await?;
        let owner = owner.filter(|owner| self.mirror.lives(owner.incarnation));
        Ok(match (owner, session) {
            (Some(owner), _) => Whereabouts::At(owner.incarnation, owner.number),
            (None, Some(session)) => Whereabouts::Away(session),
            (None, None) => Whereabouts::Nowhere,
        })
    }

    async fn ask_page(
        &self,
        node: Incarnation,
        query: &ClientQuery,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<ClientPage, ClusterError> {
        let question = Question::Clients {
            query: query.clone(),
            cursor,
            limit: limit as u32,
        };
        let answer = match self.ask_node(node, &question).await {
            // It has died meanwhile: its clients are elsewhere.
            Err(ClusterError::Silent(_)) if !self.mirror.lives(node) => {
                return Ok(ClientPage {
                    clients: Vec::new(),
                    next: None,
                });
            }
            answer => answer?,
        };
        let page = read_page(&answer.body).map_err(|error| not_understood(node, error))?;
        let mut page = page.ok_or(BadCursor)?;
        for client in &mut page.clients {
            client.node = Some(NodeRef {
                node,
                name: Arc::clone(&answer.name),
            });
        }
        Ok(page)
    }

    /// Adds sessions of a bucket whose clients are away; where to go on.
    async fn list_away(
        &self,
        query: &ClientQuery,
        (bucket, cursor, after): (u8, u64, u64),
        limit: usize,
        into: &mut Vec<ClientState>,
    ) -> Result<Place, ClusterError> {
        let (sessions, next) = self.ask_soon(move |store| store.some_sessions(bucket, cursor)).await?;
        let is_away = |session: &AwaySession| session.owner.is_none_or(|owner| !self.mirror.lives(owner));
        let mut last = after;
        for session in sessions
            .iter()
            .filter(|session| session.uid > after && is_away(session))
        {
            let state = self.state_of(session);
            if query.is_met_by_all(&state) && into.len() >= limit {
                return Ok(Place::Away {
                    bucket,
                    cursor,
                    after: last,
                });
            }
            into.extend(Some(state).filter(|state| query.is_met_by_all(state)));
            last = session.uid;
        }
        Ok(match (next, bucket.checked_add(1)) {
            (0, None) => Place::End,
            (0, Some(bucket)) => Place::Away {
                bucket,
                cursor: 0,
                after: 0,
            },
            (cursor, _) => Place::Away {
                bucket,
                cursor,
                after: 0,
            },
        })
    }

    async fn stored_subscriptions(
        &self,
        uid: u64,
        skip: usize,
        limit: usize,
    ) -> Result<Option<SubscriptionPage>, ClusterError> {
        let Some(mut stored) = self.ask_soon(move |store| store.session(uid)).await? else {
            return Ok(None);
        };
        stored
            .subscriptions
            .sort_unstable_by(|one, other| one.filter.cmp(&other.filter));
        let end = skip.saturating_add(limit);
        let next = (stored.subscriptions.len() > end).then_some(end);
        let some = stored.subscriptions.into_iter().skip(skip).take(limit);
        let subscriptions = some.filter_map(|stored| {
            Some(SubscriptionState {
                filter: crate::topic::TopicFilter::parse(&stored.filter).ok()?,
                options: stored.options,
                identifier: Some(stored.identifier).filter(|identifier| *identifier > 0),
            })
        });
        Ok(Some(SubscriptionPage {
            subscriptions: subscriptions.collect(),
            next,
        }))
    }

    fn state_of(&self, session: &AwaySession) -> ClientState {
        ClientState {
            client_id: Arc::from(&*session.client_id),
            connected: false,
            info: None,
            node: None,
            subscriptions: self.mirror.subscriptions_of(session.uid),
            queued_messages: session.messages as usize,
            queued_bytes: session.bytes as usize,
            inflight_messages: 0,
            expires_at: session.ends_at,
        }
    }
}

pub(super) fn not_understood(node: Incarnation, error: Malformed) -> ClusterError {
    ClusterError::Store(StoreError::Unavailable(format!(
        "what node {node} of the cluster answers is not understood, as its version is another one perhaps: {}",
        error.0
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was() {
        let node = |node, cursor: Option<&str>| Place::Node {
            node,
            cursor: cursor.map(str::to_owned),
        };
        let away = |bucket, cursor, after| Place::Away { bucket, cursor, after };
        for place in [FIRST, AWAY, node(7, Some("3:a.b:c")), away(255, u64::MAX, 1 << 40)] {
            assert_eq!(Place::parse(&place.to_string()), Ok(place));
        }
        assert_eq!(Place::End.cursor(), None);
        for text in [
            "",
            "n",
            "n.1",
            "n.x.",
            "a.1.2",
            "a.256.0.0",
            "a.1.2.3.4",
            "b.1.2.3",
            "3:alice",
        ] {
            assert_eq!(Place::parse(text), Err(BadCursor), "{text}");
        }
    }
}
