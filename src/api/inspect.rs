//! Looking at a broker that runs, and intervening.

use std::sync::Arc;

use super::Broker;
use crate::broker::TraceTargets;
use crate::broker::inspect::{
    BadCursor, ClientPage, ClientQuery, ClientState, ClusterError, ClusterState, Disconnected, NodeState, RetainedPage,
    SubscriberPage, SubscriptionPage,
};
use crate::message::Message;
use crate::reason::ReasonCode;
use crate::topic::TopicFilter;

impl Broker {
    /// The broker as a whole, in figures. Walks over all sessions, and lets others run meanwhile.
    pub async fn state(&self) -> NodeState {
        self.core.state().await
    }

    /// Clients that are connected or have a session, at most `limit` of them (1 to 10,000) behind the cursor, which is
    /// [`ClientPage::next`] of the page before. Those that are there all the time are listed exactly once.
    ///
    /// # Errors
    /// If the cursor is from elsewhere.
    pub async fn clients(
        &self,
        query: &ClientQuery,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<ClientPage, BadCursor> {
        self.core.list_clients(query, cursor, limit).await
    }

    /// This client, if it is connected or has a session.
    #[must_use]
    pub fn client(&self, client_id: &str) -> Option<ClientState> {
        self.core.client(client_id)
    }

    /// Ends the session of a client, and its connection with 0x98 if it is connected; whether there was one. A will is
    /// published. The connection closes a moment after this returns.
    pub fn end_session(&self, client_id: &str) -> bool {
        self.core.end_session(client_id, ReasonCode::AdministrativeAction)
    }

    /// The cluster of which this broker is a node; `None` if it is none.
    ///
    /// # Errors
    /// If the store can't be asked.
    pub async fn cluster(&self) -> Option<Result<ClusterState, ClusterError>> {
        let cluster = self.core.cluster.as_ref()?;
        Some(self.core.cluster_state(cluster).await.map_err(ClusterError::from))
    }

    /// [`Broker::clients`] of all nodes of the cluster, and of sessions whose clients are away. A client that moves, comes or goes
    /// while pages are asked for may be there twice, or not at all.
    ///
    /// # Errors
    /// If the cursor is from elsewhere, or a node or the store does not answer.
    pub async fn clients_everywhere(
        &self,
        query: &ClientQuery,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<ClientPage, ClusterError> {
        match &self.core.cluster {
            Some(cluster) => self.core.list_everywhere(cluster, query, cursor, limit).await,
            None => Ok(self.core.list_clients(query, cursor, limit).await?),
        }
    }

    /// [`Broker::client`], to whichever node of the cluster it is connected.
    ///
    /// # Errors
    /// If its node or the store does not answer.
    pub async fn client_everywhere(&self, client_id: &str) -> Result<Option<ClientState>, ClusterError> {
        match &self.core.cluster {
            Some(cluster) => self.core.find_everywhere(cluster, client_id).await,
            None => Ok(self.core.client(client_id)),
        }
    }

    /// Closes the connection of a client with 0x98, to whichever node of the cluster it is connected; on request ends its session,
    /// also if it is not connected. The connection closes a moment after this returns.
    ///
    /// # Errors
    /// If its node or the store does not answer.
    pub async fn disconnect_everywhere(
        &self,
        client_id: &str,
        ends_session: bool,
    ) -> Result<Disconnected, ClusterError> {
        if let Some(cluster) = &self.core.cluster {
            return self.core.kick_everywhere(cluster, client_id, ends_session).await;
        }
        let found = match ends_session {
            true => self.end_session(client_id),
            false => self.disconnect(client_id, ReasonCode::AdministrativeAction),
        };
        Ok(match (found, self.core.client(client_id)) {
            (true, _) => Disconnected::Done,
            (false, Some(_)) => Disconnected::IsAway,
            (false, None) => Disconnected::IsUnknown,
        })
    }

    /// [`Broker::subscriptions_of`], to whichever node of the cluster the client is connected.
    ///
    /// # Errors
    /// If its node or the store does not answer.
    pub async fn subscriptions_everywhere(
        &self,
        client_id: &str,
        skip: usize,
        limit: usize,
    ) -> Result<Option<SubscriptionPage>, ClusterError> {
        match &self.core.cluster {
            Some(cluster) => {
                let asked = self.core.subscriptions_everywhere(cluster, client_id, skip, limit);
                asked.await
            }
            None => Ok(self.core.subscriptions_of(client_id, skip, limit).await),
        }
    }

    /// Subscriptions of a client, at most `limit`, without the first `skip`, which is [`SubscriptionPage::next`] of the
    /// page before. `None` if it has no session, or its connection does not answer, because it waits for a hook.
    pub async fn subscriptions_of(&self, client_id: &str, skip: usize, limit: usize) -> Option<SubscriptionPage> {
        self.core.subscriptions_of(client_id, skip, limit).await
    }

    /// Who subscribes to just this Topic Filter: at most `limit` of them, behind `after`, which is
    /// [`SubscriberPage::next`] of the page before, and 0 at first.
    #[must_use]
    pub fn subscribers(&self, filter: &TopicFilter, after: u64, limit: usize) -> SubscriberPage {
        self.core.subscribers(filter, after, limit)
    }

    /// The retained message of a topic.
    #[must_use]
    pub fn retained(&self, topic: &str) -> Option<Arc<Message>> {
        self.core.router.retained.get(topic, self.core.clock.now())
    }

    /// Retained messages that match a filter, at most `limit` of them, from the topic `from` on, which is
    /// [`RetainedPage::next`] of the page before, and empty at first.
    pub async fn retained_matching(&self, filter: &TopicFilter, from: &str, limit: usize) -> RetainedPage {
        self.core.list_retained(filter, from, limit).await
    }

    /// Removes the retained messages that match a filter; how many. Nobody is sent anything.
    pub async fn clear_retained(&self, filter: &TopicFilter) -> usize {
        self.core.clear_retained(filter).await
    }

    /// Logs each packet of these clients from now on, and of no others, at the target `mqtt_broker::trace` and level INFO:
    /// kinds, topics and sizes, never payloads or passwords. Clients that nobody traces pay nothing for it.
    ///
    /// If the future is dropped, some clients that are connected may not have noticed; those that connect will.
    pub async fn set_traced(&self, targets: TraceTargets) {
        self.core.trace(targets).await;
    }

    /// The clients that are traced.
    #[must_use]
    pub fn traced(&self) -> TraceTargets {
        self.core.trace.targets()
    }
}
