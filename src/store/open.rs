//! From the settings to the store.

use std::sync::Arc;

#[cfg(feature = "redis")]
use super::RedisSettings;
#[cfg(feature = "redis")]
use super::cluster::{Limits, Shared};
use super::{Persistence, Store, StoreError};

/// Opens a store that no other process can open then. `None` in memory: there is nothing to keep.
pub(crate) fn open(persistence: &Persistence) -> Result<Option<Arc<dyn Store>>, StoreError> {
    match persistence {
        Persistence::Memory => Ok(None),
        Persistence::Disk(settings) => Ok(Some(Arc::new(super::disk::open(settings)?))),
        #[cfg(feature = "redis")]
        Persistence::Redis(_) => Err(StoreError::Refused(
            "a store in Redis is not opened by one broker alone".to_owned(),
        )),
        #[cfg(not(feature = "redis"))]
        Persistence::Redis(_) => Err(StoreError::Refused("this build has no store in Redis".to_owned())),
        #[cfg(feature = "faults")]
        Persistence::Faulty(inner, faults) => {
            let faults = faults.parse().map_err(StoreError::Refused)?;
            let store = open(inner)?.unwrap_or_else(|| Arc::<super::MemoryStore>::default());
            Ok(Some(super::faulty::wrap(store, faults)))
        }
    }
}

/// Opens the store that brokers share.
#[cfg(feature = "redis")]
pub(crate) fn open_shared(settings: &RedisSettings, limits: Limits) -> Result<Arc<dyn Shared>, StoreError> {
    Ok(Arc::new(super::redis::open(settings, limits)?))
}

/// Opens the store to look into it. A broker that has it open in Redis goes on; on disk there must be none.
#[cfg(feature = "cli")]
pub(crate) fn open_to_read(persistence: &Persistence) -> Result<Option<Arc<dyn Store>>, StoreError> {
    match persistence {
        #[cfg(feature = "redis")]
        Persistence::Redis(settings) => super::redis::open_to_read(settings).map(Some),
        _ => open(persistence),
    }
}
