//! A record of the log, as far as it can be made ready before its turn comes: on any thread, and without the state.

use std::sync::Arc;

use chrono::DateTime;
use engram_storage::{Lsn, WalEntryType};

use crate::{
    Memory, StoreError,
    payload::{self, Config, EmbedRecord, ForgetRecord, ReceiptRecord, Record, SpaceRecord, Terms},
    state::check,
    vector::StoredVector,
    words::Tokens,
};

/// Decoded, checked, and its text split into words.
pub(crate) enum Prepared {
    Store {
        space: String,
        memory: Arc<Memory>,
        vector: Option<StoredVector>,
        words: Tokens,
        terms: Terms,
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
    /// Makes use of the memory of what was applied.
    ///
    /// # Errors
    /// [`StoreError::Record`] for a record that only another build can read, or that is of a store of another form than
    /// it has at this place of the log.
    pub(crate) fn of(
        lsn: Lsn,
        entry_type: WalEntryType,
        payload: &[u8],
        config: &Config,
        applied: Option<Self>,
    ) -> Result<Self, StoreError> {
        let unreadable = |reason| StoreError::Record { lsn, reason };
        Ok(match payload::decode(entry_type, payload).map_err(unreadable)? {
            Record::Store(mut record) => {
                record.vector.take_if(|vector| config.is_former_form_of(vector));
                let (when, confidence) = check(lsn, &record, config)?;
                let used =
                    if let Some(Self::Store { words, .. }) = applied { words } else { Tokens::default() };
                let words = Tokens::of_in(&record.content, used);
                let memory = Memory {
                    id: record.id.into(),
                    lsn,
                    when,
                    content: record.content.into_boxed_str(),
                    confidence,
                    metadata: record.metadata,
                    expires_at: record.expires_us.and_then(DateTime::from_timestamp_micros),
                    has_embedding: record.vector.is_some(),
                };
                let (space, vector, terms) = (record.space, record.vector, record.terms);
                Self::Store { space, memory: Arc::new(memory), vector, words, terms }
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
