//! The records of a store's log, read one by one, without making a store of them.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use engram_storage::{Lsn, WalEntryType, WalRecord};

use crate::{
    Confidence, Metadata, Precision, StoreError,
    payload::{self, Config, Record},
    state,
};

/// What a record of the log says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// A memory was stored, or another put in its place.
    Stored {
        /// Its id.
        id: String,
        /// When it happened.
        when: DateTime<Utc>,
        /// What happened.
        content: String,
        /// How sure it is.
        confidence: Confidence,
        /// What else is known.
        metadata: Metadata,
        /// How many numbers its embedding has, if it has one.
        dimension: Option<usize>,
    },
    /// A memory was forgotten.
    Forgotten {
        /// Its id.
        id: String,
    },
    /// The store was made.
    Configured {
        /// How many numbers each embedding has.
        dimension: usize,
        /// How they are kept.
        precision: Precision,
    },
}

impl Change {
    /// The id in a damaged record's payload, as far as one can still be read there. The damage may be in the id itself.
    pub fn id_in_remains(entry_type: WalEntryType, payload: &[u8]) -> Option<String> {
        payload::id_in_remains(entry_type, payload)
    }
}

/// Reads the records of a log in their order and holds each against what a start demands of it.
#[derive(Debug, Default)]
pub struct LogAudit {
    config: Option<Config>,
    live: HashSet<String>,
}

impl LogAudit {
    /// Of a log from its beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next record.
    ///
    /// # Errors
    /// [`StoreError::Record`] for one that a start could not read. The audit can go on after it.
    pub fn read(&mut self, record: &WalRecord) -> Result<Change, StoreError> {
        self.read_payload(record.lsn(), record.entry_type(), &record.payload)
    }

    /// The next record, as its parts: those of a snapshot come first.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_payload(
        &mut self,
        lsn: Lsn,
        entry_type: WalEntryType,
        payload: &[u8],
    ) -> Result<Change, StoreError> {
        let decoded =
            payload::decode(entry_type, payload).map_err(|reason| StoreError::Record { lsn, reason })?;
        self.config = self.config.or_else(|| Config::of_first(&decoded));
        match decoded {
            Record::Store(store) => {
                // Only a vector is held against it, and the first of them says what it is.
                let config = self.config.unwrap_or(Config { dimension: 0, precision: Precision::default() });
                let (when, confidence) = state::check(lsn, &store, config)?;
                self.live.insert(store.id.clone());
                Ok(Change::Stored {
                    id: store.id,
                    when,
                    content: store.content,
                    confidence,
                    metadata: store.metadata,
                    dimension: store.vector.map(|vector| vector.dimension()),
                })
            }
            Record::Forget { space, id } => {
                state::check_space(lsn, &space)?;
                self.live.remove(&id);
                Ok(Change::Forgotten { id })
            }
            Record::Config(config) => {
                state::check_config(lsn, config, self.config.unwrap_or(config))?;
                let Config { dimension, precision } = config;
                Ok(Change::Configured { dimension, precision })
            }
        }
    }

    /// How many memories there are after the records that were read.
    pub fn memories(&self) -> usize {
        self.live.len()
    }
}
