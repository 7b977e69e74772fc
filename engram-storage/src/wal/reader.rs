//! Reading a log, without changing it and without its lock.

use std::{path::Path, sync::Arc};

use super::{
    Inspection, Lsn, ProgressHook, RecoveryMode, RecoveryPlan, SegmentId, WalOptions,
    layout::Layout,
    record::{WalEntryHeader, WalEntryType},
    recovery,
    snapshot::{SnapshotStep, SnapshotWalk},
    walk::{LogWalk, Step},
};
use crate::{
    StorageError, StorageResult,
    disk::{Disk, RealDisk},
};

/// A record as it is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalRecord {
    /// Its header.
    pub header: WalEntryHeader,
    /// The segment that it was read from.
    pub segment: SegmentId,
    /// Where in that segment's file it starts, in bytes.
    pub offset: u64,
    /// What the caller appended.
    pub payload: Vec<u8>,
}

impl WalRecord {
    /// Its place in the log.
    pub fn lsn(&self) -> Lsn {
        self.header.lsn
    }

    /// What it is about.
    pub fn entry_type(&self) -> WalEntryType {
        self.header.entry_type
    }
}

/// Reads the log in a directory, which a writer may have open at the same time.
#[derive(Clone)]
pub struct WalReader {
    disk: Arc<dyn Disk>,
    on_progress: Option<ProgressHook>,
}

impl WalReader {
    /// A reader of the log in `directory`.
    ///
    /// # Errors
    /// [`StorageError::BadDirectory`] when there is no such directory: no other is ever tried.
    pub fn new(directory: impl AsRef<Path>) -> StorageResult<Self> {
        let path = directory.as_ref();
        match RealDisk::open(path) {
            Ok(disk) => Ok(Self::open(Arc::new(disk))),
            Err(e) => Err(StorageError::bad_directory(path, &e)),
        }
    }

    /// A reader of the log on `disk`.
    pub fn open(disk: Arc<dyn Disk>) -> Self {
        Self { disk, on_progress: None }
    }

    /// With somebody who is told how far an inspection or a plan is.
    #[must_use]
    pub fn on_progress(self, hook: ProgressHook) -> Self {
        Self { on_progress: Some(hook), ..self }
    }

    /// Looks at all of the log: its segments, its damage, what is torn or missing. A server may be writing it: what looks
    /// damaged is looked at again.
    ///
    /// # Errors
    /// [`StorageError::Io`], [`StorageError::UnsupportedFormat`]; [`StorageError::RecoveryRefused`] when so much of it is
    /// unreadable that nothing can be said about the rest.
    pub fn inspect(&self) -> StorageResult<Inspection> {
        Inspection::of(&self.disk, self.on_progress.as_ref())
    }

    /// What opening the log for writing in this mode would find and do.
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect).
    pub fn plan_recovery(&self, mode: RecoveryMode) -> StorageResult<RecoveryPlan> {
        let on_progress = self.on_progress.clone();
        recovery::plan(&self.disk, &WalOptions { recovery: mode, on_progress, ..WalOptions::default() })
    }

    /// Shows each whole record of the snapshot that the log is read on, in its order; none without one.
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect), and what `visit` returns.
    pub fn for_each_in_snapshot<E: From<StorageError>>(
        &self,
        mut visit: impl FnMut(&WalEntryHeader, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let layout = Layout::read(&*self.disk)?;
        let Some(snapshot) = &layout.base.snapshot else { return Ok(()) };
        let mut walk = SnapshotWalk::new(&*self.disk, snapshot);
        while let Some(step) = walk.next()? {
            if let SnapshotStep::Record(header) = step {
                visit(&header, walk.payload())?;
            }
        }
        Ok(())
    }

    /// All records of the log in order, from where its snapshot ends, read as they are asked for. What a torn tail left is passed over; damage to what was
    /// acknowledged is an error in its place, after which the iterator goes on with the next whole record. After
    /// any other error it ends.
    pub fn iter(&self) -> WalIterator {
        let state = match Layout::read(&*self.disk) {
            Ok(layout) => {
                let walk = LogWalk::new(&self.disk, &layout);
                State::Walking { walk: Box::new(walk), last_lsn: layout.last_lsn }
            }
            Err(error) => State::Failed(error),
        };
        WalIterator { disk: Arc::clone(&self.disk), state }
    }
}

impl std::fmt::Debug for WalReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalReader").field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl IntoIterator for &WalReader {
    type Item = StorageResult<WalRecord>;
    type IntoIter = WalIterator;

    fn into_iter(self) -> WalIterator {
        self.iter()
    }
}

/// The records of a log, see [`WalReader::iter`]. Memory does not grow with the log.
#[derive(Debug)]
pub struct WalIterator {
    disk: Arc<dyn Disk>,
    state: State,
}

enum State {
    Walking { walk: Box<LogWalk>, last_lsn: Lsn },
    Failed(StorageError),
    Ended,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Walking { .. } => "Walking",
            Self::Failed(_) => "Failed",
            Self::Ended => "Ended",
        })
    }
}

impl Iterator for WalIterator {
    type Item = StorageResult<WalRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return None,
            State::Failed(error) => return Some(Err(error)),
            State::Walking { mut walk, last_lsn } => match walk.next(last_lsn) {
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
                Ok(Some(Step::Damage(damage))) => {
                    let path = self.disk.path().join(damage.segment.file_name());
                    self.state = State::Walking { walk, last_lsn };
                    Err(StorageError::Corrupt {
                        path,
                        offset: damage.offset,
                        first_lsn: damage.first_lsn,
                        last_lsn: damage.last_lsn,
                        reason: damage.reason,
                    })
                }
                Ok(Some(Step::Gap(..))) => {
                    self.state = State::Walking { walk, last_lsn };
                    return self.next();
                }
                Ok(Some(Step::Record(header))) => {
                    let (segment, offset) = walk.record_at().unwrap_or((SegmentId::FIRST, 0));
                    let record = WalRecord { header, segment, offset, payload: walk.payload().to_vec() };
                    self.state = State::Walking { walk, last_lsn };
                    Ok(record)
                }
            },
        };
        Some(step)
    }
}
