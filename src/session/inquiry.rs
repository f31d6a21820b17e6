//! Questions about a session that only its owner can answer.

use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;

use super::state::{Subscription, Subscriptions};
use crate::message::Message;
use crate::topic::TopicFilter;

/// Asks the owner of a session. That the sender is dropped is an answer, too: the owner has gone.
#[derive(Debug)]
pub(crate) enum Inquiry {
    /// For some of the subscriptions.
    Subscriptions {
        range: Range,
        answer: oneshot::Sender<Excerpt>,
    },
    /// For what is in flight of a session that a cluster keeps.
    InFlight { answer: mpsc::SyncSender<InFlight> },
}

/// What has been sent from the queue of a session, and is not known to be finished.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) key: u64,
    /// By their places.
    pub(crate) sent: Vec<(u64, Sent)>,
}

/// A message, and the Shared Subscription that chose the client; without one if that has been released.
pub(crate) type Sent = Option<(Arc<Message>, Option<TopicFilter>)>;

/// Which of the subscriptions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// So many are passed over.
    pub(crate) skip: usize,
    pub(crate) limit: usize,
}

/// Some of the subscriptions.
#[derive(Debug)]
pub(crate) struct Excerpt {
    pub(crate) subscriptions: Vec<(TopicFilter, Subscription)>,
    /// Whether there are more behind them.
    pub(crate) more: bool,
}

/// Questions that may wait for one owner; further ones are not asked.
pub(crate) const MOST_INQUIRIES: usize = 16;

impl Excerpt {
    /// Nothing is sorted or compared, so that it takes little time from a session with very many subscriptions.
    pub(crate) fn of(all: &Subscriptions, range: Range) -> Excerpt {
        let chosen = all.iter().skip(range.skip).take(range.limit);
        Excerpt {
            subscriptions: chosen
                .map(|(filter, subscription)| (filter.clone(), *subscription))
                .collect(),
            more: range.skip.saturating_add(range.limit) < all.len(),
        }
    }
}
