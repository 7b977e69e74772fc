//! The index in a file, so that it need not be made anew after a restart. A cache: the log alone says what is stored, and
//! whatever is in doubt about this file, it is removed and the index made anew.
//!
//! A row is named by the log sequence number of what is in it, with a checksum of its vector: rows are filled in
//! another order at the next start. The format is in `docs/wal-format.md`.

mod adopt;
mod collect;
mod file;
mod format;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use engram_storage::{Lsn, disk::Disk};
use tracing::{debug, info, warn};

pub(super) use self::adopt::Adopted;
use self::format::Tag;
use super::VectorArena;
use super::arena::Rows;

/// Changes of the arena between two files, unless the store is closed.
const CHANGES_MIN: u64 = 65_536;

/// Where the index is kept, and how rows are named.
pub(crate) struct Checkpoints<T> {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) log_id: u64,
    /// The log sequence number of an item.
    pub(crate) name: fn(&T) -> u64,
}

impl<T: Clone + Send + Sync + 'static> VectorArena<T> {
    /// Leaves the index alone, but for the signs, until [`open_index`](Self::open_index): a log is being recovered.
    pub(crate) fn hold_index(&self) {
        self.rows().hold(true);
    }

    /// No longer leaves the index alone. It has no file.
    pub(crate) fn release_index(&self) {
        self.rows().hold(false);
        self.wake();
    }

    /// Takes the index from its file if it is of this log, up to `recovered` at most, and of these vectors; from now on
    /// keeps it there, unless there is nowhere to write to.
    pub(crate) fn open_index(&self, checkpoints: Checkpoints<T>, recovered: Lsn, is_read_only: bool) {
        self.rows().load(&checkpoints, recovered, is_read_only);
        if !is_read_only {
            self.rows().set_checkpoints(checkpoints);
        }
        self.rows().hold(false);
        self.wake();
    }

    /// Keeps the index where that of another arena was kept, in its place.
    pub(crate) fn keep_index_as(&self, former: &Self) {
        if let Some(Checkpoints { disk, log_id, name }) = former.rows().checkpoints() {
            let (disk, log_id, name) = (Arc::clone(disk), *log_id, *name);
            self.rows().set_checkpoints(Checkpoints { disk, log_id, name });
        }
    }

    /// Ends the work on the index and writes it to its file.
    pub(crate) fn close_index(&self) {
        self.stop();
        if let Some(checkpoints) = self.rows().checkpoints() {
            self.rows().save(checkpoints);
        }
    }
}

impl<T: Clone> Rows<T> {
    /// Writes the index to its file if there is one and as much has changed since the last time. Says whether it did.
    pub(super) fn save_after(&self, saved: Option<u64>, changes: u64) -> bool {
        let Some(checkpoints) = self.checkpoints() else { return false };
        let is_due = saved.is_none_or(|saved| changes.saturating_sub(saved) >= CHANGES_MIN);
        is_due && self.partition().is_some() && {
            self.save(checkpoints);
            true
        }
    }

    fn save(&self, checkpoints: &Checkpoints<T>) {
        let Some(index) = collect::collect(self, checkpoints.name) else { return };
        let bytes = format::encode(&self.tag(checkpoints.log_id), &index);
        match file::write(&*checkpoints.disk, &bytes) {
            Ok(()) => debug!(rows = index.rows.len(), bytes = bytes.len(), "wrote the index to its file"),
            Err(error) => {
                warn!(%error, "cannot write the index to its file: it is made anew at the next start");
            }
        }
    }

    fn load(&self, checkpoints: &Checkpoints<T>, recovered: Lsn, is_read_only: bool) {
        let read = match file::read(&*checkpoints.disk) {
            Ok(Some(bytes)) => format::decode(&bytes, &self.tag(checkpoints.log_id), recovered),
            Ok(None) => return,
            Err(error) => Err(format!("cannot read it: {error}")),
        };
        match read.and_then(|index| adopt::adopt(self, checkpoints.name, index)) {
            Ok(known) => info!(rows = known, "took the index from its file"),
            Err(reason) => {
                info!(reason, "the file of the index does not count: the index is made anew");
                // It would count again once the log has grown over it.
                if !is_read_only && let Err(error) = file::remove(&*checkpoints.disk) {
                    warn!(%error, "cannot remove the file of the index");
                }
            }
        }
    }

    fn tag(&self, log_id: u64) -> Tag {
        let (dimension, precision) = (self.dimension, self.precision);
        Tag { log_id, dimension, precision, mode: self.settings.mode, target: self.settings.recall_target }
    }
}
