//! A record of the log, as far as it can be made ready before its turn comes: on any thread, and without the state.

use chrono::{DateTime, Utc};
use engram_storage::{Lsn, WalEntryType};

use crate::{
    Confidence, StoreError,
    payload::{self, Config, Record, StoreRecord},
    state::{check, check_config, check_space},
    words::Tokens,
};

/// Decoded, checked, and its text split into words.
pub(crate) enum Prepared {
    Store { record: StoreRecord, when: DateTime<Utc>, confidence: Confidence, words: Tokens },
    Forget { id: String },
    Config,
}

impl Prepared {
    /// # Errors
    /// [`StoreError::Record`] for a record that only another build can read, or that is of a store of another form.
    pub(crate) fn of(
        lsn: Lsn,
        entry_type: WalEntryType,
        payload: &[u8],
        config: Config,
    ) -> Result<Self, StoreError> {
        let record =
            payload::decode(entry_type, payload).map_err(|reason| StoreError::Record { lsn, reason })?;
        Ok(match record {
            Record::Store(record) => {
                let (when, confidence) = check(lsn, &record, config)?;
                let words = Tokens::of(&record.content);
                Self::Store { record, when, confidence, words }
            }
            Record::Forget { space, id } => {
                check_space(lsn, &space)?;
                Self::Forget { id }
            }
            Record::Config(other) => {
                check_config(lsn, other, config)?;
                Self::Config
            }
        })
    }
}
