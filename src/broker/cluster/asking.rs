//! Asking another node, and answering.
//!
//! Questions and answers go by Redis, over the channels on which nodes wake each other. They may be lost: a question is asked again, and
//! answered again. A node that does not answer is not waited for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::Cluster;
use super::questions::{Question, write_page, write_state, write_subscriptions};
use crate::broker::core::Core;
use crate::broker::inspect::ClusterError;
use crate::broker::registry::Entry as Registered;
use crate::reason::ReasonCode;
use crate::session::Kick;
use crate::store::StoreError;
use crate::store::cluster::Incarnation;
use crate::wire::{Malformed, Reader, put_binary};

/// How long an answer is waited for before the question is asked again, and at last given up.
const PATIENCE: [Duration; 3] = [
    Duration::from_millis(1000),
    Duration::from_millis(1500),
    Duration::from_millis(2500),
];
/// Questions that are answered at a time; further ones are asked again.
const AT_A_TIME: usize = 16;
/// Bytes of the largest list in an answer: what is too long for Redis to hold back cuts the listener off.
const LARGEST_LIST: usize = 1024 * 1024;

const QUESTION: u8 = b'?';
const ANSWER: u8 = b'!';

/// Questions of this node that are not answered yet, and the room for those of others.
#[derive(Debug)]
pub(super) struct Asking {
    numbers: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    places: Arc<Semaphore>,
}

/// What another node has answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// What it is called.
    pub(super) name: Arc<str>,
    pub(super) body: Box<[u8]>,
}

impl Default for Asking {
    fn default() -> Asking {
        Asking {
            numbers: AtomicU64::new(0),
            waiting: Mutex::default(),
            places: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }
}

/// A question that is waited for.
struct Asked<'a> {
    asking: &'a Asking,
    number: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.asking.waiting.lock().remove(&self.number);
    }
}

impl Cluster {
    /// What another node answers.
    pub(super) async fn ask_node(&self, node: Incarnation, question: &Question) -> Result<Answer, ClusterError> {
        let (sender, mut answer) = oneshot::channel();
        let number = self.asking.numbers.fetch_add(1, Ordering::Relaxed);
        self.asking.waiting.lock().insert(number, sender);
        let asking = &self.asking;
        let _asked = Asked { asking, number };
        let words = self.words(QUESTION, number, &question.write());
        for patience in PATIENCE {
            if !self.mirror.lives(node) {
                break;
            }
            let words = words.clone();
            let exchange = async {
                self.ask(move |store| store.say(node, &words)).await?;
                Ok::<_, StoreError>((&mut answer).await)
            };
            if let Ok(answered) = timeout(patience, exchange).await
                && let Ok(answer) = answered?
            {
                return Ok(answer);
            }
        }
        Err(ClusterError::Silent(node))
    }

    /// From whom, which question it is about, and the rest.
    fn words(&self, kind: u8, number: u64, rest: &[u8]) -> Vec<u8> {
        let mut words = vec![kind];
        words.extend_from_slice(&self.incarnation.to_be_bytes());
        words.extend_from_slice(&number.to_be_bytes());
        words.extend_from_slice(rest);
        words
    }

    fn answered(&self, number: u64, answer: Answer) {
        let waiting = self.asking.waiting.lock().remove(&number);
        if let Some(waiting) = waiting {
            // Who has asked may have gone.
            let _ = waiting.send(answer);
        }
    }
}

impl Core {
    /// Another node has said something. Must not block.
    pub(super) fn hear(self: &Arc<Core>, cluster: &Arc<Cluster>, words: &[u8], runtime: &Handle) {
        if let Err(error) = self.understand(cluster, words, runtime) {
            tracing::debug!(error = error.0, "what another node says is not understood");
        }
    }

    fn understand(self: &Arc<Core>, cluster: &Arc<Cluster>, words: &[u8], runtime: &Handle) -> Result<(), Malformed> {
        let from = &mut Reader::new(words);
        let (kind, node, number) = (from.u8()?, from.u64()?, from.u64()?);
        if kind == ANSWER {
            let name = from.string()?.into();
            let body = from.rest().into();
            cluster.answered(number, Answer { name, body });
            return Ok(());
        }
        let question = Question::read(from.rest())?;
        let Ok(place) = Arc::clone(&cluster.asking.places).try_acquire_owned() else {
            return Ok(());
        };
        let (core, cluster) = (Arc::clone(self), Arc::clone(cluster));
        runtime.spawn(async move {
            let answer = core.answer(question).await;
            let words = cluster.words(ANSWER, number, &named(&cluster.name, &answer));
            if let Err(error) = cluster.ask(move |store| store.say(node, &words)).await {
                tracing::debug!(%error, "another node could not be answered");
            }
            drop(place);
        });
        Ok(())
    }

    async fn answer(self: &Arc<Core>, question: Question) -> Vec<u8> {
        let mut answer = Vec::new();
        match question {
            Question::Client(client_id) => write_state(&mut answer, self.client(&client_id).as_ref()),
            Question::Clients { query, cursor, limit } => {
                let mut limit = limit as usize;
                loop {
                    let page = self.list_clients(&query, cursor.as_deref(), limit).await;
                    write_page(&mut answer, page.as_ref().ok());
                    if answer.len() <= LARGEST_LIST || limit <= 1 {
                        break;
                    }
                    limit /= 2;
                    answer.clear();
                }
            }
            Question::Kick {
                client_id,
                connection,
                ends_session,
            } => answer.push(u8::from(self.kick_here(&client_id, connection, ends_session))),
            Question::Subscriptions { client_id, skip, limit } => {
                let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                let page = self.subscriptions_of(&client_id, skip, limit as usize).await;
                write_subscriptions(&mut answer, page.as_ref());
            }
        }
        answer
    }

    /// Has the connection of a client closed if it is still that with this number: whether that was so.
    pub(super) fn kick_here(&self, client_id: &str, connection: u64, ends_session: bool) -> bool {
        match self.registry.shard(client_id).get(client_id) {
            Some(Registered::Online {
                outbox,
                token: Some(token),
                ..
            }) if token.number == connection => {
                outbox.signal(|signals| {
                    signals.kick = Some(Kick {
                        connection,
                        reason: ReasonCode::AdministrativeAction,
                        ends_session,
                    });
                });
                true
            }
            _ => false,
        }
    }
}

fn named(name: &str, answer: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + name.len() + answer.len());
    put_binary(&mut bytes, name.as_bytes());
    bytes.extend_from_slice(answer);
    bytes
}
