//! A thread for what must be done in time, however much the threads for everything else have to do.

use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::sync::oneshot;

use crate::store::StoreError;

type Task = Box<dyn FnOnce() + Send>;

/// See the module. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct OwnThread(SyncSender<Task>);

impl OwnThread {
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(name: &str) -> Result<OwnThread, StoreError> {
        // Who asks waits for the answer, so one place is enough.
        let (sender, tasks) = sync_channel::<Task>(1);
        let thread = std::thread::Builder::new().name(name.to_owned());
        let started = thread.spawn(move || tasks.into_iter().for_each(|task| task()));
        let failed = |error| StoreError::Unavailable(format!("no thread for the {name}: {error}"));
        started.map(|_| OwnThread(sender)).map_err(failed)
    }

    /// Does this on the thread. To be called by one task at a time.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, result) = oneshot::channel();
        let task: Task = Box::new(move || drop(done.send(task())));
        let sent = self.0.try_send(task);
        let failed = || StoreError::Unavailable("the thread of its own does nothing any more".to_owned());
        sent.map_err(|_| failed())?;
        result.await.map_err(|_| failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_does_one_thing_after_the_other() {
        let thread = OwnThread::start("test").expect("a thread");
        for number in 0..100 {
            let name = || std::thread::current().name().map(str::to_owned);
            assert_eq!(
                thread.run(move || (number, name())).await,
                Ok((number, Some("test".to_owned())))
            );
        }
    }
}
