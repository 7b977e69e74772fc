//! Files that have not come into being: under another name until all of them is durable.

use std::sync::Arc;

use super::{segment, snapshot};
use crate::{
    StorageError, StorageResult,
    disk::{Disk, DiskFile},
    planted::{Defect, planted},
};

const TEMPORARY: &str = ".tmp";

/// Whether a file is one that a crash left half made, free to be removed by the next writer.
pub(super) fn is_temporary(name: &str) -> bool {
    (name.starts_with(segment::PREFIX) || name.starts_with(snapshot::PREFIX)) && name.ends_with(TEMPORARY)
}

/// A new file that has no name yet that recovery would look at. Dropped before it gets one, it is removed.
#[derive(Debug)]
pub(super) struct Unnamed {
    disk: Arc<dyn Disk>,
    temporary: String,
    file: Option<Box<dyn DiskFile>>,
}

impl Unnamed {
    /// Makes an empty file that is to be called `name`.
    pub(super) fn create(disk: &Arc<dyn Disk>, name: &str) -> StorageResult<Self> {
        let temporary = name.to_owned() + TEMPORARY;
        match disk.create(&temporary) {
            Ok(file) => Ok(Self::from_file(disk, &temporary, file)),
            Err(e) => Err(StorageError::write("create", disk.path().join(&temporary), e)),
        }
    }

    /// As [`create`](Self::create), in place of what an earlier try has left.
    pub(super) fn create_anew(disk: &Arc<dyn Disk>, name: &str) -> StorageResult<Self> {
        drop(disk.remove(&(name.to_owned() + TEMPORARY)));
        Self::create(disk, name)
    }

    /// Takes over a file that was made ready under another name.
    pub(super) fn from_file(disk: &Arc<dyn Disk>, temporary: &str, file: Box<dyn DiskFile>) -> Self {
        Self { disk: Arc::clone(disk), temporary: temporary.to_owned(), file: Some(file) }
    }

    /// The name that it has until then.
    pub(super) fn temporary(&self) -> &str {
        &self.temporary
    }

    /// Writes `bytes` at `offset`. What fails here leaves nothing that counts.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> StorageResult<()> {
        self.attempt("write", |file| file.write_all_at(bytes, offset))
    }

    /// Makes what was written durable, unless this defect is planted.
    pub(super) fn sync_unless(&self, defect: Defect) -> StorageResult<()> {
        if planted(defect) { Ok(()) } else { self.attempt("sync", |file| file.sync()) }
    }

    /// Gives the file its name, and makes that durable unless this defect is planted. All that was written must be
    /// durable by now.
    pub(super) fn name(mut self, name: &str, defect: Defect) -> StorageResult<Box<dyn DiskFile>> {
        self.attempt("rename", |_| self.disk.rename(&self.temporary, name))?;
        // From here on the name may be durable or not: only success is an answer.
        let file = self.file.take().ok_or(StorageError::Closed)?;
        if !planted(defect) {
            let io = |e| StorageError::io("sync the directory", self.disk.path(), e);
            self.disk.sync_dir().map_err(io)?;
        }
        Ok(file)
    }

    fn attempt(
        &self,
        operation: &'static str,
        action: impl FnOnce(&dyn DiskFile) -> std::io::Result<()>,
    ) -> StorageResult<()> {
        let Some(file) = &self.file else { return Err(StorageError::Closed) };
        action(&**file).map_err(|e| StorageError::write(operation, self.disk.path().join(&self.temporary), e))
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Best effort, to give a full disk its space back: a leftover counts for nothing, and the next writer
            // removes it.
            drop(self.disk.remove(&self.temporary));
        }
    }
}
