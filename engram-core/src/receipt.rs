//! What a writer gets back.

use engram_storage::{Completion, Lsn};

use crate::StoreError;

/// A receipt to come: [`wait`](Completion::wait) for it, or `.await` it.
pub type ReceiptHandle = Completion<Receipt, StoreError>;

/// The acknowledgement of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The memory's id.
    pub id: String,
    /// The position in the log of the memory's record.
    pub lsn: Lsn,
    /// What the change did.
    pub outcome: Outcome,
    /// What the memory survives.
    pub durability: Durability,
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There was no such memory before.
    Created,
    /// It took the place of another one.
    Updated,
    /// The same memory was there already: nothing was written.
    Unchanged,
    /// The memory is gone.
    Deleted,
}

impl Outcome {
    /// As the log has it.
    pub(crate) const fn to_u8(self) -> u8 {
        match self {
            Self::Created => 1,
            Self::Updated => 2,
            Self::Unchanged => 3,
            Self::Deleted => 4,
        }
    }

    /// What no build has written is the least that can have happened.
    pub(crate) const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Created,
            2 => Self::Updated,
            4 => Self::Deleted,
            _ => Self::Unchanged,
        }
    }
}

/// What an acknowledged change survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Power loss: it is on stable storage.
    Synced,
    /// A process crash: it is in the operating system's page cache.
    Written,
    /// Nothing: there is no log, or it has failed and the store was told to go on without.
    Volatile,
}

impl From<engram_storage::Durability> for Durability {
    fn from(durability: engram_storage::Durability) -> Self {
        match durability {
            engram_storage::Durability::Synced => Self::Synced,
            engram_storage::Durability::Written => Self::Written,
        }
    }
}
