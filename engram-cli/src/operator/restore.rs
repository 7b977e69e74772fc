//! `engram restore`: a new data directory from a snapshot.

use std::{fs, io, path::PathBuf, sync::Arc};

use engram_core::{
    StorageError,
    storage::{
        SnapshotReport, SnapshotRestore,
        disk::{Disk, RealDisk},
    },
};
use serde::Serialize;

use super::output::{Output, size};
use crate::{
    config::LOG_DIRECTORY,
    count::count,
    exit::{Exit, Failure},
};

const EXAMPLES: &str = "\
Examples:
  engram restore backup.snap --data-dir ./restored
  engram start --data-dir ./restored

The snapshot is read whole and checked before anything is made, and is left as it is. What comes of it is a store of its
own: it has the memories with their LSNs, and another log id.

Exit codes:
  0   the store is there, on stable storage
  1   another failure
  2   wrong usage
  65  the snapshot is damaged, or no snapshot
  73  the new data directory is not empty, or cannot be made
  74  the disk cannot be read or written; remove what was begun, and restore again";

/// Flags of `engram restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RestoreArgs {
    /// The snapshot: a copy of one, or one in wal/ of another store
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The data directory to make; it must not exist, or be empty
    #[arg(long, value_name = "NEW")]
    data_dir: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    data_dir: String,
    lsn: u64,
    memories: u64,
    records: u64,
    bytes: u64,
    took_ms: f64,
}

pub(crate) fn run(args: &RestoreArgs) -> Result<(), Failure> {
    let restore = SnapshotRestore::open(&args.file).map_err(of_restore)?;
    let (data_dir, log) = make(&args.data_dir)?;
    let disk: Arc<dyn Disk> =
        Arc::new(RealDisk::create(&log).map_err(|e| of_restore(StorageError::bad_directory(&log, &e)))?);
    let SnapshotReport { lsn, memories, records, bytes, took, .. } =
        restore.run(&disk).map_err(of_restore)?;
    let mut output = Output::new();
    if args.json {
        let (version, data_dir) = (env!("CARGO_PKG_VERSION"), data_dir.display().to_string());
        let took_ms = took.as_secs_f64() * 1e3;
        output.json(&Report { version, data_dir, lsn: lsn.get(), memories, records, bytes, took_ms })?;
    } else {
        let memories = count(memories, "memory", "memories");
        output.line(&format!("{}: {memories} up to LSN {lsn}, {}", data_dir.display(), size(bytes)))?;
        output.line(&format!("start it with: engram start --data-dir {}", args.data_dir.display()))?;
    }
    output.end()
}

/// The new data directory, and the one of the log in it.
fn make(data_dir: &PathBuf) -> Result<(PathBuf, PathBuf), Failure> {
    let failed = |e: io::Error| {
        Failure::new(Exit::BadDirectory, format!("cannot make {}: {e}", data_dir.display()))
            .help("name a directory whose parent exists, on a disk with room for the store")
    };
    match fs::create_dir(data_dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            if fs::read_dir(data_dir).map_err(failed)?.next().is_some() {
                let message = format!("{} is not empty", data_dir.display());
                return Err(Failure::new(Exit::BadDirectory, message)
                    .help("restore into a directory that is new: no store is overwritten"));
            }
        }
        made => made.map_err(failed)?,
    }
    let data_dir = std::path::absolute(data_dir).map_err(failed)?;
    let log = data_dir.join(LOG_DIRECTORY);
    fs::create_dir(&log).map_err(failed)?;
    // The names of both directories are durable before what is in them counts.
    for directory in [Some(data_dir.as_path()), data_dir.parent()].into_iter().flatten() {
        fs::File::open(directory).and_then(|it| it.sync_all()).map_err(failed)?;
    }
    Ok((data_dir, log))
}

fn of_restore(error: StorageError) -> Failure {
    let message = error.to_string();
    match error {
        StorageError::Io { ref source, .. }
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) =>
        {
            Failure::new(Exit::Damaged, message).help(
                "name a snapshot: what `engram snapshot --copy-to` wrote, or a file in wal/ of another store",
            )
        }
        StorageError::NoSnapshot { .. } | StorageError::Corrupt { .. } => {
            Failure::new(Exit::Damaged, message).help("nothing was made; try another copy of the snapshot")
        }
        StorageError::DiskFull { .. } => Failure::new(Exit::LogFailed, message)
            .help("free some space, remove what was begun, and restore again"),
        other => engram_core::StoreError::from(other).into(),
    }
}
