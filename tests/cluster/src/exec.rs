//! Tasks of processes, run one after the other on one thread. A process can be stopped between any two steps, and killed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A process: a node or a client.
pub type Proc = u32;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// See the module.
#[derive(Default)]
pub struct Exec {
    tasks: RefCell<BTreeMap<u64, (Proc, Option<Task>)>>,
    ready: Arc<Ready>,
    paused: RefCell<BTreeMap<Proc, BTreeSet<u64>>>,
    next: Cell<u64>,
}

#[derive(Default)]
struct Ready(Mutex<VecDeque<u64>>);

impl Ready {
    fn push(&self, id: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(id);
    }

    fn pop(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

struct Alarm {
    id: u64,
    ready: Arc<Ready>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.id);
    }
}

impl Exec {
    pub fn spawn(&self, owner: Proc, task: impl Future<Output = ()> + 'static) {
        let id = self.next.get();
        self.next.set(id + 1);
        self.tasks.borrow_mut().insert(id, (owner, Some(Box::pin(task))));
        self.ready.push(id);
    }

    /// Runs until all tasks wait.
    pub fn run(&self) {
        while let Some(id) = self.ready.pop() {
            self.step(id);
        }
    }

    fn step(&self, id: u64) {
        let Some((owner, task)) = self
            .tasks
            .borrow_mut()
            .get_mut(&id)
            .map(|(owner, task)| (*owner, task.take()))
        else {
            return;
        };
        if let Some(waiting) = self.paused.borrow_mut().get_mut(&owner) {
            waiting.insert(id);
            self.put_back(id, task);
            return;
        }
        let Some(mut task) = task else { return };
        let waker = Waker::from(Arc::new(Alarm {
            id,
            ready: Arc::clone(&self.ready),
        }));
        match task.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => self.put_back(id, Some(task)),
            Poll::Ready(()) => drop(self.tasks.borrow_mut().remove(&id)),
        }
    }

    fn put_back(&self, id: u64, task: Option<Task>) {
        if let Some(entry) = self.tasks.borrow_mut().get_mut(&id) {
            entry.1 = task;
        }
    }

    pub fn pause(&self, owner: Proc) {
        self.paused.borrow_mut().entry(owner).or_default();
    }

    pub fn resume(&self, owner: Proc) {
        for id in self.paused.borrow_mut().remove(&owner).unwrap_or_default() {
            self.ready.push(id);
        }
    }

    /// Never in a step of the process itself.
    pub fn kill(&self, owner: Proc) {
        let tasks: Vec<_> = {
            let mut all = self.tasks.borrow_mut();
            let ids: Vec<_> = all
                .iter()
                .filter(|(_, (of, _))| *of == owner)
                .map(|(id, _)| *id)
                .collect();
            ids.into_iter().filter_map(|id| all.remove(&id)).collect()
        };
        drop(tasks);
        self.paused.borrow_mut().remove(&owner);
    }

    /// Ends everything: tasks hold what holds them.
    pub fn clear(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
    }
}

/// Wakes whoever waits for something to change.
#[derive(Default)]
pub struct Notify(RefCell<Vec<Waker>>);

impl Notify {
    pub fn all(&self) {
        self.0.take().into_iter().for_each(Waker::wake);
    }

    pub async fn until(&self, mut is_so: impl FnMut() -> bool) {
        poll_fn(|context| {
            if is_so() {
                return Poll::Ready(());
            }
            self.0.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A queue with one reader.
pub struct Mailbox<T>(Rc<Inner<T>>);

struct Inner<T> {
    items: RefCell<VecDeque<T>>,
    reader: RefCell<Option<Waker>>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox(Rc::clone(&self.0))
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Mailbox(Rc::new(Inner {
            items: RefCell::default(),
            reader: RefCell::default(),
        }))
    }
}

impl<T> Mailbox<T> {
    pub fn push(&self, item: T) {
        self.0.items.borrow_mut().push_back(item);
        if let Some(waker) = self.0.reader.borrow_mut().take() {
            waker.wake();
        }
    }

    pub async fn next(&self) -> T {
        poll_fn(|context| match self.0.items.borrow_mut().pop_front() {
            Some(item) => Poll::Ready(item),
            None => {
                *self.0.reader.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// Nothing if the other future ends first.
    pub async fn next_or(&self, other: impl Future<Output = ()>) -> Option<T> {
        let mut other = std::pin::pin!(other);
        poll_fn(|context| {
            if let Some(item) = self.0.items.borrow_mut().pop_front() {
                return Poll::Ready(Some(item));
            }
            *self.0.reader.borrow_mut() = Some(context.waker().clone());
            other.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}
