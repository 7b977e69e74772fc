//! What an operator asks of a log: `engram verify`, `wal`, `recover --report`, `repair`, `snapshot`, `restore` and `reembed`.
//!
//! The first three read a directory that a server may be running on, without its lock, and change nothing in it.
//! From the top down: a module a verb; [`inspection`] is what a look at a log found, for people and for programs;
//! [`output`] is where results go.

mod inspection;
pub(crate) mod output;
mod recover;
mod reembed;
mod repair;
mod restore;
mod snapshot;
mod stop;
mod verify;
mod wal;

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use engram_core::{
    MemoryStore, RecoveryMode, StorageError,
    storage::{RecoveryProgress, WalOptions, WalReader, disk::RealDisk},
};
use indicatif::ProgressBar;

pub(crate) use self::{
    output::Output, recover::RecoverArgs, reembed::ReembedArgs, repair::RepairArgs, restore::RestoreArgs,
    snapshot::SnapshotArgs, stop::StopArgs, verify::VerifyArgs, wal::WalVerb,
};
use crate::{
    config::LOG_DIRECTORY,
    exit::{Exit, Failure},
    progress,
};

pub(crate) use self::{
    recover::run as recover, reembed::run as reembed, repair::run as repair, restore::run as restore,
    snapshot::run as snapshot, stop::holder, stop::run as stop, verify::run as verify, wal::run as wal,
};

/// Where the store is.
#[derive(Debug, clap::Args)]
pub(crate) struct DataDir {
    /// The data directory, as of `engram start`
    #[arg(long, value_name = "DIR", default_value = "./data", env = "ENGRAM_DATA_DIR")]
    data_dir: PathBuf,
}

impl DataDir {
    /// The directory of the log, which must be there.
    fn log_directory(&self) -> Result<PathBuf, Failure> {
        let data_dir = std::path::absolute(&self.data_dir)
            .map_err(|e| Failure::new(Exit::BadDirectory, format!("{}: {e}", self.data_dir.display())))?;
        let log = data_dir.join(LOG_DIRECTORY);
        if log.is_dir() {
            return Ok(log);
        }
        if holds_segments(&data_dir) {
            // The log itself: so it is kept by a program that has the store in itself.
            return Ok(data_dir);
        }
        let message = format!("there is no log: {} is no directory", log.display());
        Err(Failure::new(Exit::BadDirectory, message)
            .help("name the directory that the server was started with: --data-dir, or ENGRAM_DATA_DIR"))
    }

    /// A reader of the log, which must have something in it, and how far it is.
    fn reader(&self) -> Result<(WalReader, ProgressBar), Failure> {
        let directory = self.log_directory()?;
        if !holds_segments(&directory) {
            let message = format!("there is no log in {}", directory.display());
            return Err(Failure::new(Exit::BadDirectory, message)
                .help("nothing was ever stored here, or the log's files are gone: look for them before you start a server"));
        }
        let bar = progress::bar(true, None, "{bar:30} {bytes} of {total_bytes}, {msg}, {eta} to go")
            .with_message("reading");
        let shown = bar.clone();
        let hook = move |RecoveryProgress { records, bytes_done, bytes_total }: RecoveryProgress| {
            shown.set_length(bytes_total);
            shown.set_position(bytes_done);
            shown.set_message(format!("{records} records"));
        };
        let reader = WalReader::new(directory).map_err(of_reading)?;
        Ok((reader.on_progress(Arc::new(hook)), bar))
    }
}

impl DataDir {
    /// The store itself, which no server may be running on.
    fn open_store(&self) -> Result<MemoryStore, Failure> {
        let (_, bar) = self.reader()?; // its words, when there is nothing
        bar.finish_and_clear();
        let directory = self.log_directory()?;
        let disk = RealDisk::open(&directory).map_err(|e| StorageError::bad_directory(&directory, &e));
        let disk = disk.map_err(of_reading)?;
        let store = MemoryStore::new(usize::MAX).with_log(Arc::new(disk), WalOptions::default());
        store.map_err(|error| Failure::of_opening(error, RecoveryMode::default()))
    }
}

/// Asks whoever sits there whether to `do_it`, in words; `--yes` "does it" without asking.
pub(crate) fn confirm(question: &str, do_it: &str, does_it: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let message = format!("nobody is there to ask whether to {do_it}; nothing was changed");
        return Err(Failure::new(Exit::Usage, message).help(format!("--yes {does_it} without asking")));
    }
    // Whoever closed stderr cannot be asked: the answer will be no.
    drop(write!(io::stderr(), "{question} [y/N] "));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|e| Failure::new(Exit::Failure, format!("no answer: {e}")))?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Exit::Failure, "the answer was no; nothing was changed"))
}

fn holds_segments(directory: &Path) -> bool {
    let has_extension = |name: &str, it: &str| Path::new(name).extension() == Some(it.as_ref());
    let is_segment = |name: &str| {
        (name.starts_with("wal-") && has_extension(name, "log"))
            || (name.starts_with("snapshot-") && has_extension(name, "snap"))
    };
    directory.read_dir().is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_segment))
    })
}

/// A log that could not be read, or not be repaired.
fn of_reading(error: StorageError) -> Failure {
    let message = error.to_string();
    match error {
        StorageError::RecoveryRefused { .. } | StorageError::Corrupt { .. } => {
            Failure::new(Exit::Damaged, message).help(
                "copy the data directory before anything else; bring the missing files back from a copy",
            )
        }
        StorageError::Io { source, .. } if source.kind() != io::ErrorKind::PermissionDenied => {
            Failure::new(Exit::LogFailed, message)
                .help("the disk cannot be read there: see the system's log, and copy what can still be read")
        }
        other => engram_core::StoreError::from(other).into(),
    }
}
