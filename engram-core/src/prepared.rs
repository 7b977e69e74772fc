//! A record of the log, as far as it can be made ready before its turn comes: on any thread, and without the state.

use std::sync::Arc;

use chrono::DateTime;
use engram_storage::{Lsn, WalEntryType};

use crate::{
    Memory, StoreError,
    payload::{
        self, Config, EmbedRecord, ForgetRecord, LoggedVector, ReceiptRecord, Record, SpaceRecord, Terms,
    },
    state::check,
    words::Tokens,
};

/// Decoded, checked, and its text split into words.
pub(crate) enum Prepared {
    Store {
        space: String,
        memory: Arc<Memory>,
        vector: Option<LoggedVector>,
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
    /// Of a generation before.
    Former,
}

impl Prepared {
    /// The space and the id of the memory that it is about, if it counts on what is there.
    pub(crate) fn place(&self) -> Option<(&str, &str)> {
        match self {
            Self::Store { space, memory, .. } => Some((space, memory.id())),
            Self::Forget(record) => Some((&record.space, &record.id)),
            Self::Receipt(record) => Some((&record.space, &record.id)),
            _ => None,
        }
    }

    /// Of a record as the log has it.
    ///
    /// # Errors
    /// [`StoreError::Record`] for one that only another build can read; and as [`of_record`](Self::of_record).
    pub(crate) fn of(
        lsn: Lsn,
        entry_type: WalEntryType,
        payload: &[u8],
        config: &Config,
    ) -> Result<Self, StoreError> {
        let record = payload::decode(entry_type, payload);
        Self::of_record(lsn, record.map_err(|reason| StoreError::Record { lsn, reason })?, config, None)
    }

    /// Makes use of the memory of what was applied.
    ///
    /// # Errors
    /// [`StoreError::Record`] for a record of a store of another form than it has at this place of the log.
    pub(crate) fn of_record(
        lsn: Lsn,
        record: Record,
        config: &Config,
        applied: Option<Self>,
    ) -> Result<Self, StoreError> {
        let unreadable = |reason| StoreError::Record { lsn, reason };
        Ok(match record {
            Record::Store(mut record) => {
                let (when, confidence) = check(lsn, &mut record, config)?;
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
                let is_of_now = record.vector.is_of(config).map_err(unreadable)?;
                if is_of_now { Self::Embed(record) } else { Self::Former }
            }
            Record::Receipt(record) => Self::Receipt(record),
            Record::Space(record) => Self::Space(record),
            Record::DropSpace { space } => Self::DropSpace { space },
            // The second record of a change may be overtaken by the next change.
            Record::Config(of) if of.generation < config.generation => Self::Former,
            Record::Config(config) => Self::Config(config),
        })
    }
}
