//! Looking at a broker that runs: its clients, subscriptions and retained messages.
//!
//! Everything is done in parts that hold a lock for a short time only, and lets other tasks run between them.

mod clients;
mod cluster;
mod node;
mod retained;
mod subscriptions;

pub use clients::{BadCursor, ClientPage, ClientQuery, ClientState};
pub use cluster::{ClusterError, ClusterNode, ClusterState, Disconnected, NodeRef, Recovery};
pub use node::NodeState;
pub use retained::RetainedPage;
pub use subscriptions::{Subscriber, SubscriberPage, SubscriptionPage, SubscriptionState};
