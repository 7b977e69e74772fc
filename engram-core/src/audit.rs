//! The records of a store's log, read one by one, without making a store of them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use engram_storage::{Lsn, WalEntryType, WalRecord};

use crate::{
    Confidence, MemoryStore, Metadata, ModelIdentity, Precision, StoreError,
    payload::{self, Config, EmbedRecord, ForgetRecord, ReceiptRecord, Record, SpaceRecord},
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
    /// The store was made, or changed to embeddings of another form or model.
    Configured {
        /// How many numbers each embedding has.
        dimension: usize,
        /// How they are kept.
        precision: Precision,
        /// What they are from, where that was said.
        model: Option<ModelIdentity>,
    },
    /// A memory got its embedding.
    Embedded {
        /// Its id.
        id: String,
        /// Its version, which stays the same.
        of: Lsn,
    },
    /// A space was made, or got other properties.
    SpaceConfigured {
        /// Its name.
        space: String,
        /// The most memories that it takes, if it has a limit of its own.
        capacity: Option<u64>,
    },
    /// A space was dropped, with all in it.
    SpaceDropped {
        /// Its name.
        space: String,
    },
    /// A request was answered that its client may repeat.
    Answered {
        /// The id of the memory that it was about.
        id: String,
        /// What the request is called.
        key: String,
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
    /// Versions by space and id.
    live: HashMap<String, HashMap<String, Lsn>>,
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
        let unreadable = |reason| StoreError::Record { lsn, reason };
        let decoded = payload::decode(entry_type, payload).map_err(unreadable)?;
        let config = match &self.config {
            None => Config::of_first(&decoded),
            Some(config) => config.lost_before(&decoded),
        };
        self.config = config.or(self.config.take());
        match decoded {
            Record::Store(mut record) => {
                // Only a vector is held against it, and the first of them says what it is.
                let unknown =
                    Config { dimension: 0, precision: Precision::default(), model: None, generation: 0 };
                let (when, confidence) =
                    state::check(lsn, &mut record, self.config.as_ref().unwrap_or(&unknown))?;
                self.change(&record.space, &record.id, record.terms.expected, Some(lsn));
                Ok(Change::Stored {
                    id: record.id,
                    when,
                    content: record.content,
                    confidence,
                    metadata: record.metadata,
                    dimension: record.vector.map(|logged| logged.vector.dimension()),
                })
            }
            Record::Forget(ForgetRecord { space, id, terms }) => {
                self.change(&space, &id, terms.expected, None);
                Ok(Change::Forgotten { id })
            }
            Record::Config(config) => {
                let Config { dimension, precision, model, .. } = config.clone();
                if self.config.as_ref().is_none_or(|now| now.generation <= config.generation) {
                    self.config = Some(config);
                }
                Ok(Change::Configured { dimension, precision, model })
            }
            Record::Embed(EmbedRecord { id, of, vector, .. }) => {
                self.config.as_ref().map_or(Ok(true), |config| vector.is_of(config)).map_err(unreadable)?;
                Ok(Change::Embedded { id, of })
            }
            Record::Space(SpaceRecord { space, capacity }) => {
                self.live.entry(space.clone()).or_default();
                Ok(Change::SpaceConfigured { space, capacity })
            }
            Record::DropSpace { space } => {
                self.live.remove(&space);
                Ok(Change::SpaceDropped { space })
            }
            Record::Receipt(ReceiptRecord { id, request, .. }) => {
                Ok(Change::Answered { id, key: request.key })
            }
        }
    }

    /// What becomes of a memory, if there is its space and it has the version that is expected.
    fn change(&mut self, space: &str, id: &str, expected: Option<Lsn>, version: Option<Lsn>) {
        if space == MemoryStore::DEFAULT_SPACE && !self.live.contains_key(space) {
            self.live.insert(space.to_owned(), HashMap::new());
        }
        let Some(live) = self.live.get_mut(space) else { return };
        let actual = live.get(id).copied().unwrap_or(Lsn::ZERO);
        if expected.is_some_and(|expected| expected != actual) {
            return;
        }
        match version {
            Some(version) => drop(live.insert(id.to_owned(), version)),
            None => drop(live.remove(id)),
        }
    }

    /// How many memories there are after the records that were read.
    pub fn memories(&self) -> usize {
        self.live.values().map(HashMap::len).sum()
    }
}
