//! From a snapshot alone to a log.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Point, Snapshot, SnapshotHeader, SnapshotReport, SnapshotStep, SnapshotWalk, SnapshotWriter, read_header,
};
use crate::{
    StorageError, StorageResult,
    disk::{Disk, RealDisk},
    wal::{
        SECTOR_LEN, WalEntry,
        committer::now_us,
        recovery::random_log_id,
        segment::{SegmentHeader, Unnamed},
        writer,
    },
};

/// A snapshot that was read whole, to be made a log of.
#[derive(Debug)]
pub struct SnapshotRestore {
    source: Arc<dyn Disk>,
    path: PathBuf,
    snapshot: Snapshot,
}

impl SnapshotRestore {
    /// Reads the snapshot in `file`, which may have any name, and changes nothing.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when it is not whole; [`StorageError::NoSnapshot`], [`StorageError::UnsupportedFormat`],
    /// [`StorageError::Io`].
    pub fn open(file: impl AsRef<Path>) -> StorageResult<Self> {
        let path = file.as_ref();
        let no_snapshot =
            |reason: &str| StorageError::NoSnapshot { path: path.to_path_buf(), reason: reason.to_owned() };
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| no_snapshot("expected the name of a file"))?.to_owned();
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let source = RealDisk::open(directory).map_err(|e| StorageError::io("open", directory, e))?;
        Self::on(Arc::new(source), name)
    }

    /// As [`open`](Self::open), the file `name` of a disk.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn on(source: Arc<dyn Disk>, name: String) -> StorageResult<Self> {
        let path = source.path().join(&name);
        let file = source.open(&name).map_err(|e| StorageError::io("open", &path, e))?;
        let Some(header) = read_header(&*file, &path)? else {
            let reason = "neither its beginning nor its end is that of a snapshot".to_owned();
            return Err(StorageError::NoSnapshot { path, reason });
        };
        let snapshot = Snapshot { name, file: Arc::from(file), header };
        if let Some(damage) = SnapshotWalk::new(&*source, &snapshot).first_damage()? {
            return Err(damage.error(&*source));
        }
        Ok(Self { source, path, snapshot })
    }

    /// The snapshot's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many records it has.
    pub fn records(&self) -> u64 {
        self.snapshot.header.records
    }

    /// Makes a log of it on `disk`, where there must be none. It is another log than the one that the snapshot was taken
    /// of, and can never be mixed up with it. A crash leaves nothing that a server would start on.
    ///
    /// # Errors
    /// [`StorageError::BadDirectory`] when there is a log already; [`StorageError::DiskFull`], [`StorageError::Io`].
    pub fn run(self, disk: &Arc<dyn Disk>) -> StorageResult<SnapshotReport> {
        let _lock = writer::lock(&**disk)?;
        let names = disk.list().map_err(|e| StorageError::io("list", disk.path(), e))?;
        if let Some(name) =
            names.iter().find(|name| name.starts_with("wal-") || name.starts_with("snapshot-"))
        {
            let reason = format!("there is {name} in it: restore into a directory that is new");
            return Err(StorageError::BadDirectory { path: disk.path().to_path_buf(), reason });
        }
        let SnapshotHeader { lsn, segment, .. } = self.snapshot.header;
        let point = Point { log_id: random_log_id(), lsn, segment };
        // The snapshot's name comes last: without it the segment is one of which the beginning is missing.
        Unnamed::create(disk, segment)?.publish(&SegmentHeader {
            log_id: point.log_id,
            id: segment,
            first_lsn: lsn.next(),
            previous_end: SECTOR_LEN as u64,
            previous_crc: 0,
            time_us: now_us(),
        })?;
        let mut writer = SnapshotWriter::create(Arc::clone(disk), point)?;
        let mut walk = SnapshotWalk::new(&*self.source, &self.snapshot);
        while let Some(step) = walk.next()? {
            match step {
                SnapshotStep::Record(header) => {
                    let (entry_type, payload) = (header.entry_type, walk.payload().to_vec());
                    writer.append(header.lsn, &WalEntry { entry_type, payload })?;
                }
                SnapshotStep::Damage(damage) => return Err(damage.error(&*self.source)),
            }
        }
        writer.publish()
    }
}
