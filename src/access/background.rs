//! Work that takes long and may wait: hashing passwords.

use tokio::sync::oneshot;

/// Does the work on a thread of its own, which gives way to those that carry messages. A thread costs a thousandth of what
/// a password does, and ends with its low priority.
///
/// `None` if there is no thread to be had.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name("password".to_owned());
    let spawned = thread.spawn(move || {
        give_way();
        // Who has asked may have gone.
        let _ = done.send(work());
    });
    spawned.ok()?;
    result.await.ok()
}

/// On Linux the priority is that of the thread; elsewhere it would be that of the whole broker.
#[cfg(target_os = "linux")]
fn give_way() {
    let _ = rustix::process::setpriority_process(None, LOWER);
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}

/// A tenth of the share of the others where all cores are busy: passwords go on being checked there, too.
#[cfg(target_os = "linux")]
const LOWER: i32 = 10;

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn it_gives_way_alone() {
        let nice = || rustix::process::getpriority_process(None).expect("told");
        let before = nice();
        assert_eq!(super::run(nice).await, Some(super::LOWER));
        assert_eq!(nice(), before);
        let panicked: Option<()> = super::run(|| panic!("of the test")).await;
        assert_eq!(panicked, None);
    }
}
