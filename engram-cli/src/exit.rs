//! How the process ends: its exit codes, and what it says last.

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
};

use engram_core::{RecoveryMode, StorageError, StoreError};

/// Why the process ends. The numbers are part of the interface: scripts and supervisors act on them, and where
/// `sysexits.h` has a meaning they keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// As asked.
    Ok = 0,
    /// For a reason that has no number of its own.
    Failure = 1,
    /// The command line made no sense.
    Usage = 2,
    /// The log is damaged beyond what may be skipped, or another version wrote it; or a crash test has found a loss.
    Damaged = 65,
    /// The address to listen on cannot be had.
    CannotListen = 69,
    /// The data directory cannot be made or used.
    BadDirectory = 73,
    /// The log failed while it was in use.
    LogFailed = 74,
    /// Another process has the data directory: try again when it is gone.
    Locked = 75,
    /// The server wants a key, or another one.
    NotAllowed = 77,
    /// A setting is wrong, or is not the one that the store was made with.
    Setting = 78,
    /// Ctrl-C, where it ends nothing but the waiting.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the process ends before it was asked to, and what its user can do.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    help: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), help: None }
    }

    /// A store that could not be opened under `mode`.
    pub(crate) fn of_opening(error: StoreError, mode: RecoveryMode) -> Self {
        let StoreError::Storage(cause) = &error else { return error.into() };
        match cause {
            StorageError::Corrupt { .. } | StorageError::RecoveryRefused { .. } => {
                Self::new(Exit::Damaged, error.to_string()).help(help_for_damage(mode))
            }
            // Nothing has failed while it was in use: a new store had no room to begin.
            StorageError::DiskFull { .. } => {
                Self::new(Exit::BadDirectory, error.to_string()).help("free some space and start again")
            }
            _ => error.into(),
        }
    }

    /// With more of what has happened.
    pub(crate) fn and(self, more: &str) -> Self {
        Self { message: self.message + more, ..self }
    }

    /// With what to do about it.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// What to do about it.
    pub(crate) fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Says it on stderr, and gives its exit code.
    pub(crate) fn report(&self) -> Exit {
        let help = self.help.as_ref().map(|help| format!("help: {help}\n")).unwrap_or_default();
        // Whoever closed stderr does not want to know; the exit code still tells.
        drop(write!(io::stderr(), "error: {}\n{help}", self.message));
        self.exit
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A store that could not be opened, or not be closed.
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let (exit, help) = match &error {
            StoreError::Storage(error) => of_storage(error),
            StoreError::Setting { .. } | StoreError::SettingMismatch { .. } => (Exit::Setting, None),
            StoreError::Record { .. } => (Exit::Damaged, None),
            _ => (Exit::Failure, None),
        };
        Self { exit, message: error.to_string(), help: help.map(str::to_owned) }
    }
}

fn of_storage(error: &StorageError) -> (Exit, Option<&'static str>) {
    match error {
        StorageError::Locked { .. } => (Exit::Locked, None),
        StorageError::BadDirectory { .. } => (Exit::BadDirectory, None),
        StorageError::UnsupportedFormat { .. }
        | StorageError::Corrupt { .. }
        | StorageError::RecoveryRefused { .. } => (Exit::Damaged, None),
        StorageError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => (
            Exit::BadDirectory,
            Some("run as the user that owns the data directory, or give this one access"),
        ),
        StorageError::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            (Exit::BadDirectory, Some("mount the file system for writing, or choose another --data-dir"))
        }
        StorageError::DiskFull { .. } => (Exit::LogFailed, Some("free some space and start again")),
        _ => (
            Exit::LogFailed,
            Some("start again to recover from what is on disk; the system's log may say more"),
        ),
    }
}

/// What to do when there is more damage than `mode` tolerates.
fn help_for_damage(mode: RecoveryMode) -> &'static str {
    match mode {
        RecoveryMode::Strict => {
            "nothing was changed. Copy the data directory before anything else; then try --recovery torn-tail, which \
             takes an end that was never acknowledged, or --recovery skip-corrupt, which skips damaged records"
        }
        RecoveryMode::TornTail => {
            "nothing was changed. Copy the data directory before anything else; then try --recovery skip-corrupt, \
             which skips damaged records and reports them"
        }
        RecoveryMode::SkipCorrupt => {
            "no mode of --recovery goes further, and nothing was changed. Restore a backup; or copy the data directory, and \
             then `engram repair` makes a log of the records that are whole: `engram verify` tells how many are lost. Where \
             these refuse, too, do with the file what the error says"
        }
    }
}

/// Prints clap's answer: help and version as asked for, or what is wrong with the command line.
pub(crate) fn of_clap(answer: &clap::Error) -> Exit {
    // Nobody may be reading; that is no failure of ours.
    drop(answer.print());
    if answer.use_stderr() { Exit::Usage } else { Exit::Ok }
}
