//! A store that is made anew and filled before it is one: until all is in it, the directory is that of a store which was
//! not finished, and whoever opens it begins with an empty one.

use std::sync::Arc;

use super::files::{Directory, Files};
use super::{DiskStore, Tuning, format};
use crate::store::{DiskSettings, Store, StoreError};

/// Puts a new store with what `fill` puts into it in place of what is in the directory.
///
/// # Errors
/// If it can't be used, another process has it, or `fill` has failed.
pub(crate) fn remake<T>(
    settings: &DiskSettings,
    fill: impl FnOnce(&dyn Store) -> Result<T, String>,
) -> Result<T, String> {
    let text = |error: StoreError| error.to_string();
    let files: Arc<dyn Files> = Arc::new(Directory::open(&settings.dir, settings.durability).map_err(text)?);
    if format::is_store(&*files).map_err(text)? {
        format::unfinish(&*files).map_err(text)?;
    }
    let store = DiskStore::open(Arc::clone(&files), Tuning::default()).map_err(text)?;
    format::unfinish(&*files).map_err(text)?;
    let filled = fill(&store)?;
    store.end_thread();
    let shared = &store.shared;
    shared.checkpoint().and_then(|()| shared.base.close()).map_err(text)?;
    format::finish(&*files).map_err(text)?;
    files.unlock();
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Publication;
    use crate::packet::QoS;
    use crate::store::{Batch, Op};

    fn retain(store: &dyn Store, number: u64, topic: &str) {
        let mut bytes = Vec::new();
        let message = Publication {
            topic,
            payload: b"x",
            properties: &[],
            expires_at: None,
            qos: QoS::AtMostOnce,
            retain: true,
        };
        Op::Retain { message }.write(&mut bytes);
        store.commit(&Batch { number, bytes: &bytes }).expect("committed");
    }

    fn topics(settings: &DiskSettings) -> Vec<String> {
        let store = super::super::open(settings).expect("opened");
        let mut topics = Vec::new();
        store
            .retained(&mut |message| topics.push(message.topic().to_owned()))
            .expect("read");
        store.close().expect("closed");
        topics
    }

    #[test]
    fn it_is_there_when_all_is_in_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = DiskSettings::new(directory.path().join("data"));
        remake(&settings, |store| {
            retain(store, 1, "first");
            Ok(())
        })
        .expect("made");
        assert_eq!(topics(&settings), ["first"]);
        let failed: Result<(), _> = remake(&settings, |store| {
            retain(store, 1, "second");
            Err("of the test".to_owned())
        });
        assert_eq!(failed, Err("of the test".to_owned()));
        assert!(DiskStore::check(&settings.dir).is_err());
        assert!(topics(&settings).is_empty());
        remake(&settings, |store| {
            retain(store, 1, "third");
            let again = remake(&settings, |_| Ok(())).expect_err("it is locked");
            assert!(again.contains("in use"), "{again}");
            Ok(())
        })
        .expect("made");
        assert_eq!(topics(&settings), ["third"]);
    }
}
