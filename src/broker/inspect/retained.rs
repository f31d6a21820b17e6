//! Retained messages.

use std::sync::Arc;

use crate::broker::cluster::Cluster;
use crate::broker::core::{Core, RouteScratch};
use crate::message::Message;
use crate::store::cluster::{ClusterOp, Entry};
use crate::store::{Op, Pen};
use crate::topic::TopicFilter;

/// Some of the retained messages.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetainedPage {
    /// The messages, in the order of their topics.
    pub messages: Vec<Arc<Message>>,
    /// The topic at which the list goes on; `None` at its end. There may be one although there are fewer messages than
    /// were asked for.
    pub next: Option<Arc<str>>,
}

/// Topics that are looked at while the lock is held.
const TOPICS_AT_A_TIME: usize = 64;
/// In a cluster: topics that go with one batch.
const CLEARED_AT_A_TIME: usize = 500;
/// Locks of one page: a filter that few of very many topics match gets its matches in several.
const STEPS: usize = 16 * 1024;

impl Core {
    /// The retained messages that match, at most `limit`, from this topic on.
    pub(crate) async fn list_retained(&self, filter: &TopicFilter, from: &str, limit: usize) -> RetainedPage {
        let mut messages = Vec::new();
        let mut next = Some(Arc::from(from));
        for _ in 0..STEPS {
            let Some(here) = next.as_ref().filter(|_| messages.len() < limit) else {
                break;
            };
            let budget = TOPICS_AT_A_TIME.min(limit - messages.len());
            let now = self.clock.now();
            next = self
                .router
                .retained
                .some_matching(filter.filter(), here, budget, now, &mut messages);
            tokio::task::yield_now().await;
        }
        RetainedPage { messages, next }
    }

    /// Removes the retained messages that match; how many.
    pub(crate) async fn clear_retained(&self, filter: &TopicFilter) -> usize {
        if let Some(cluster) = &self.cluster {
            return self.clear_everywhere(cluster, filter).await;
        }
        let mut cleared = 0;
        let mut next: Option<Arc<str>> = Some(Arc::default());
        while let Some(here) = next {
            let mut pen = Pen::default();
            let retained = &self.router.retained;
            let (count, then) = retained.clear_matching(filter.filter(), &here, TOPICS_AT_A_TIME, &mut pen);
            drop(pen);
            cleared += count;
            next = then;
            tokio::task::yield_now().await;
        }
        cleared
    }

    /// In a cluster it is the log that clears them, on all nodes. What this broker tells of itself is its own.
    async fn clear_everywhere(&self, cluster: &Cluster, filter: &TopicFilter) -> usize {
        let mut cleared = 0;
        let mut next = Some(Arc::from(""));
        while let Some(here) = next {
            let mut messages = Vec::new();
            let (now, retained) = (self.clock.now(), &self.router.retained);
            next = retained.some_matching(filter.filter(), &here, CLEARED_AT_A_TIME, now, &mut messages);
            cleared += messages.len();
            let mut scratch = RouteScratch::default();
            for message in &messages {
                let topic = message.topic();
                if topic.starts_with("$SYS/") {
                    retained.clear(topic, &mut Pen::default());
                } else {
                    let clear = ClusterOp::Log(Entry::RetainClear { topic });
                    scratch.pen().write(&cluster.journal, &Op::Cluster(clear));
                }
            }
            let receipt = scratch.pen().receipt();
            drop(scratch);
            if let Some(receipt) = receipt {
                receipt.kept().await;
            }
        }
        cleared
    }
}
