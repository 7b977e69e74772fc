//! A record of the log, as far as it can be made ready before its turn comes: on any thread, and without the state.

use chrono::{DateTime, Utc};
use engram_storage::{Lsn, WalEntryType};

use crate::{
    Confidence, StoreError,
    payload::{self, Config, EmbedRecord, ForgetRecord, ReceiptRecord, Record, SpaceRecord, StoreRecord},
    state::check,
    words::Tokens,
};

/// Decoded, checked, and its text split into words.
pub(crate) enum Prepared {
    Store {
        record: StoreRecord,
        when: DateTime<Utc>,
        confidence: Confidence,
        words: Tokens,
    },
    Forget(ForgetRecord),
    Embed(EmbedRecord),
    Receipt(ReceiptRecord),
    Space(SpaceRecord),
    DropSpace {
        space: String,
    },
    Config(Config),
    /// A vector of a form that the store had before.
    Former,
}

impl Prepared {
    /// # Errors
    /// [`StoreError::Record`] for a record that only another build can read, or that is of a store of another form than
    /// it has at this place of the log.
    pub(crate) fn of(
        lsn: Lsn,
        entry_type: WalEntryType,
        payload: &[u8],
        config: &Config,
    ) -> Result<Self, StoreError> {
        let unreadable = |reason| StoreError::Record { lsn, reason };
        Ok(match payload::decode(entry_type, payload).map_err(unreadable)? {
            Record::Store(mut record) => {
                record.vector.take_if(|vector| config.is_former_form_of(vector));
                let (when, confidence) = check(lsn, &record, config)?;
                let words = Tokens::of(&record.content);
                Self::Store { record, when, confidence, words }
            }
            Record::Forget(record) => Self::Forget(record),
            Record::Embed(record) => {
                if config.is_former_form_of(&record.vector) {
                    return Ok(Self::Former);
                }
                let checked = record.vector.check(config.dimension, config.precision);
                checked.map_err(|e| unreadable(e.to_string()))?;
                Self::Embed(record)
            }
            Record::Receipt(record) => Self::Receipt(record),
            Record::Space(record) => Self::Space(record),
            Record::DropSpace { space } => Self::DropSpace { space },
            Record::Config(config) => Self::Config(config),
        })
    }
}
