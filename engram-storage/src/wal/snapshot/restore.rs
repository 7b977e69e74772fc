//! From a snapshot alone to a log.

use std::{path::Path, sync::Arc};

use super::{PREFIX, Point, Snapshot, SnapshotReport, SnapshotWalk, SnapshotWriter, read_header};
use crate::{
    StorageError, StorageResult,
    disk::{Disk, RealDisk},
    planted::{Defect, planted},
    wal::{
        SECTOR_LEN,
        committer::now_us,
        recovery::random_log_id,
        segment::{self, SegmentHeader},
        unnamed::Unnamed,
        writer,
    },
};

/// A snapshot that was read whole, to be made a log of.
#[derive(Debug)]
pub struct SnapshotRestore {
    source: Arc<dyn Disk>,
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
        if let Some(damage) = SnapshotWalk::new(&*source, &snapshot).first_damage()?
            && !planted(Defect::RestoredInPart)
        {
            return Err(damage.error(&*source));
        }
        Ok(Self { source, snapshot })
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
            names.iter().find(|name| name.starts_with(segment::PREFIX) || name.starts_with(PREFIX))
        {
            let reason = format!("there is {name} in it: restore into a directory that is new");
            return Err(StorageError::BadDirectory { path: disk.path().to_path_buf(), reason });
        }
        let point = Point::of(&self.snapshot, random_log_id());
        // The snapshot's name comes last: without it the segment is one of which the beginning is missing.
        let unnamed = Unnamed::create(disk, &point.segment.file_name())?;
        segment::publish(
            unnamed,
            &SegmentHeader {
                log_id: point.log_id,
                id: point.segment,
                first_lsn: point.lsn.next(),
                previous_end: SECTOR_LEN as u64,
                previous_crc: 0,
                time_us: now_us(),
            },
        )?;
        let mut writer = SnapshotWriter::create(Arc::clone(disk), point)?;
        writer.copy(&*self.source, &self.snapshot, |damage| {
            if planted(Defect::RestoredInPart) { Ok(()) } else { Err(damage.error(&*self.source)) }
        })?;
        writer.publish()
    }
}
