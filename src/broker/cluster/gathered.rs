//! Questions to the store that many connections ask at a time: those that wait while the store answers are asked together.
//!
//! So thousands of clients that connect at once take one thread, and one round trip for hundreds of them.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::AGAIN;
use crate::store::StoreError;
use crate::store::cluster::Shared;

/// Answers all questions, in their order.
type Answer<Q, A> = fn(&dyn Shared, &[Q]) -> Result<Vec<A>, StoreError>;

/// Questions of one kind.
pub(super) struct Gathered<Q, A> {
    store: Arc<dyn Shared>,
    answer: Answer<Q, A>,
    state: Mutex<State<Q, A>>,
}

struct State<Q, A> {
    waiting: Vec<Asked<Q, A>>,
    /// Somebody takes what is there to the store.
    is_asking: bool,
}

struct Asked<Q, A> {
    question: Q,
    answered: oneshot::Sender<Result<A, StoreError>>,
}

/// Questions that are asked together: the store answers them one behind the other.
const MOST: usize = 500;

impl<Q: Clone + Send + Sync + 'static, A: Send + 'static> Gathered<Q, A> {
    pub(super) fn new(store: &Arc<dyn Shared>, answer: Answer<Q, A>) -> Arc<Gathered<Q, A>> {
        Arc::new(Gathered {
            store: Arc::clone(store),
            answer,
            state: Mutex::new(State {
                waiting: Vec::new(),
                is_asking: false,
            }),
        })
    }

    /// Asks until the store can be reached.
    ///
    /// # Errors
    /// What the store has said to this question, when it was asked alone.
    pub(super) async fn ask(self: &Arc<Gathered<Q, A>>, question: Q) -> Result<A, StoreError> {
        let (answered, answer) = oneshot::channel();
        let begins = {
            let mut state = self.state.lock();
            state.waiting.push(Asked { question, answered });
            !std::mem::replace(&mut state.is_asking, true)
        };
        if begins {
            tokio::spawn(Arc::clone(self).ask_all());
        }
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Unavailable("the store is not asked any more".to_owned())),
        }
    }

    /// Until nobody asks anything.
    async fn ask_all(self: Arc<Gathered<Q, A>>) {
        while let Some(asked) = self.take() {
            self.ask_together(asked).await;
        }
    }

    fn take(&self) -> Option<Vec<Asked<Q, A>>> {
        let mut state = self.state.lock();
        let count = state.waiting.len().min(MOST);
        state.is_asking = count > 0;
        (count > 0).then(|| state.waiting.drain(..count).collect())
    }

    async fn ask_together(&self, asked: Vec<Asked<Q, A>>) {
        let questions: Arc<[Q]> = asked.iter().map(|asked| asked.question.clone()).collect();
        match self.ask_until_reached(questions).await {
            Ok(answers) => {
                for (asked, answer) in asked.into_iter().zip(answers) {
                    // Who is gone needs no answer.
                    let _ = asked.answered.send(Ok(answer));
                }
            }
            Err(error) if asked.len() == 1 => {
                for asked in asked {
                    let _ = asked.answered.send(Err(error.clone()));
                }
            }
            // What is damaged costs nobody else anything.
            Err(_) => {
                for asked in asked {
                    Box::pin(self.ask_together(vec![asked])).await;
                }
            }
        }
    }

    async fn ask_until_reached(&self, questions: Arc<[Q]>) -> Result<Vec<A>, StoreError> {
        loop {
            let (store, answer, own) = (Arc::clone(&self.store), self.answer, Arc::clone(&questions));
            let asked = tokio::task::spawn_blocking(move || answer(&*store, &own)).await;
            match asked {
                Ok(Err(error @ StoreError::Unavailable(_))) => {
                    tracing::debug!(%error, "what clients wait for can't be read: that is tried again");
                }
                Ok(answers) => return answers,
                Err(error) => return Err(StoreError::Unavailable(format!("the store was not asked: {error}"))),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
