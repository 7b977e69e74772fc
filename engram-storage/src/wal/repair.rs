//! Makes a damaged log sound again, when an operator says that what is lost is lost.
//!
//! A start skips what is damaged, and says so each time. A repair writes down that it is lost: each damaged segment is
//! copied, with a *gap* record over each damaged range that names the numbers that are gone, and the copy takes the
//! segment's name. What stood there keeps a name in `quarantine/`. Each segment changes at one moment, by a rename, so
//! a repair that is interrupted has repaired some of them, and is run again.

mod plan;

use std::sync::Arc;

use self::plan::{Action, Planner, Step};
use super::{
    Inspection, SegmentId, SnapshotWriter, layout::Layout, recovery::QUARANTINE, segment, snapshot::Point,
    unnamed::Unnamed, walk::Segment,
};
use crate::{
    StorageError, StorageResult,
    disk::{Disk, DiskLock},
};

const COPY_BYTES: usize = 1 << 20;

/// A damaged log, with what it takes to make it sound. Holds the directory's lock.
#[derive(Debug)]
pub struct WalRepair {
    disk: Arc<dyn Disk>,
    inspection: Inspection,
    steps: Vec<Step>,
    log_id: u64,
    lock: Lock,
}

struct Lock(#[expect(dead_code, reason = "held, not used")] DiskLock);

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lock")
    }
}

/// What is done to one segment, or to a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairStep {
    /// The name of its file.
    pub file: String,
    /// The name that its damaged bytes keep; none when the file is missing.
    pub kept: Option<String>,
    /// How many records are declared lost by it.
    pub declared_lost: u64,
}

impl WalRepair {
    /// Looks at the log on `disk` and works out what it takes. Changes nothing.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when a server has the log open; as [`inspect`](super::WalReader::inspect);
    /// [`StorageError::Unrepairable`].
    pub fn new(disk: Arc<dyn Disk>) -> StorageResult<Self> {
        let lock = Lock(super::writer::lock(&*disk)?);
        let inspection = Inspection::of(&disk, None)?;
        let layout = Layout::read(&*disk)?;
        let steps = Planner::new(&*disk, &layout, &inspection).steps()?;
        Ok(Self { disk, inspection, steps, log_id: layout.log_id, lock })
    }

    /// What is in the log before the repair.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// What will be done, in this order; nothing when the log is sound.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &RepairStep> {
        self.steps.iter().map(|step| &step.public)
    }

    /// Does it. Returns what the log looks like then; all of it is on stable storage.
    ///
    /// # Errors
    /// [`StorageError::Io`], [`StorageError::DiskFull`]: the steps before were done, and the log is as good as before or
    /// better; repair it again when the cause is gone.
    pub fn run(self) -> StorageResult<Inspection> {
        for step in &self.steps {
            if let Some(kept) = &step.public.kept {
                let io = |e| StorageError::write("keep a second name of", self.disk.path().join(kept), e);
                self.disk.link(&step.public.file, kept).map_err(io)?;
            }
            self.act(&step.action, &step.public)?;
        }
        let after = Inspection::of(&self.disk, None)?;
        drop(self.lock);
        Ok(after)
    }

    fn act(&self, action: &Action, step: &RepairStep) -> StorageResult<()> {
        match action {
            Action::Copy { source, header, gaps } => {
                let unnamed = self.begin(header.id)?;
                self.copy(source, &unnamed)?;
                for gap in gaps {
                    unnamed.write(&gap.bytes(self.log_id, header.id), gap.start)?;
                }
                segment::publish(unnamed, header).map(drop)
            }
            Action::Make { header, gap } => {
                let unnamed = self.begin(header.id)?;
                if let Some(gap) = gap {
                    unnamed.write(&gap.bytes(self.log_id, header.id), gap.start)?;
                }
                segment::publish(unnamed, header).map(drop)
            }
            Action::Remove => {
                let removed = self.disk.remove(&step.file).and_then(|()| self.disk.sync_dir());
                removed.map_err(|e| StorageError::io("remove", self.disk.path().join(&step.file), e))
            }
            Action::Rewrite(snapshot) => {
                let point = Point::of(snapshot, self.log_id);
                let mut writer = SnapshotWriter::create(Arc::clone(&self.disk), point)?;
                writer.copy(&*self.disk, snapshot, |_| Ok(()))?;
                writer.publish().map(drop)
            }
        }
    }

    fn begin(&self, id: SegmentId) -> StorageResult<Unnamed> {
        Unnamed::create_anew(&self.disk, &id.file_name())
    }

    fn copy(&self, source: &Segment, unnamed: &Unnamed) -> StorageResult<()> {
        let read = |e| StorageError::io("read", self.disk.path().join(source.id.file_name()), e);
        let mut buffer = vec![0; COPY_BYTES];
        let mut at = 0;
        loop {
            let len = source.file.read_full_at(&mut buffer, at).map_err(read)?;
            if len == 0 {
                return Ok(());
            }
            unnamed.write(&buffer[..len], at)?;
            at += len as u64;
        }
    }
}
