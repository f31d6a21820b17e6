//! What the database says has gone wrong, as the contract has it.

use std::io::{self, ErrorKind};

use super::StoreError;
use crate::wire::Malformed;

/// Something has gone wrong in the database.
#[derive(Debug)]
pub(super) struct Fault(pub(super) StoreError);

impl Fault {
    pub(super) fn damaged(what: impl Into<String>) -> Fault {
        Fault(StoreError::Damaged(what.into()))
    }

    fn of(error: redb::Error) -> Fault {
        Fault(match error {
            redb::Error::Io(error) => return error.into(),
            redb::Error::Corrupted(what) => StoreError::Damaged(what),
            redb::Error::UpgradeRequired(version) => StoreError::Refused(format!(
                "state.redb has the format {version} of its database, which this version of the broker does not read"
            )),
            error @ (redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableDoesNotExist(_)
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableIsNotMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }) => {
                StoreError::Damaged(format!("state.redb is another database: {error}"))
            }
            error => StoreError::Unavailable(format!("state.redb: {error}")),
        })
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> StoreError {
        fault.0
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault(error)
    }
}

impl From<Malformed> for Fault {
    fn from(error: Malformed) -> Fault {
        Fault::damaged(format!("a row of state.redb: {}", error.0))
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault(match error.kind() {
            ErrorKind::InvalidData => StoreError::Damaged(error.to_string()),
            _ => StoreError::Unavailable(format!("state.redb: {error}")),
        })
    }
}

macro_rules! of_redb {
    ($($kind:ident)*) => {
        $(impl From<redb::$kind> for Fault {
            fn from(error: redb::$kind) -> Fault {
                Fault::of(error.into())
            }
        })*
    };
}

of_redb!(DatabaseError TransactionError TableError StorageError CommitError SetDurabilityError);
