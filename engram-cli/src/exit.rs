//! How the process ends: its exit codes, and what it says last.

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
};

use engram_core::{StorageError, StoreError};

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
    /// The log is damaged beyond what may be skipped, or another version wrote it.
    Damaged = 65,
    /// The address to listen on cannot be had.
    CannotListen = 69,
    /// The data directory cannot be made or used.
    BadDirectory = 73,
    /// The log failed while it was in use.
    LogFailed = 74,
    /// Another process has the data directory: try again when it is gone.
    Locked = 75,
    /// A setting is wrong, or is not the one that the store was made with.
    Setting = 78,
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

    /// With what to do about it.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Says it on stderr, and gives its exit code.
    pub(crate) fn report(&self) -> Exit {
        let help = self.help.as_ref().map(|help| format!("help: {help}\n")).unwrap_or_default();
        // Whoever closed stderr does not want to know; the exit code still tells.
        drop(write!(io::stderr(), "error: {}\n{help}", self.message));
        self.exit
    }

    #[cfg(test)]
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
        StorageError::UnsupportedFormat { .. } => (Exit::Damaged, None),
        StorageError::Corrupt { .. } | StorageError::RecoveryRefused { .. } => (
            Exit::Damaged,
            Some(
                "nothing was changed. Copy the data directory before anything else; then restore a backup, or start \
                 with a more tolerant --recovery",
            ),
        ),
        StorageError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => (
            Exit::BadDirectory,
            Some("run as the user that owns the data directory, or give this one access"),
        ),
        StorageError::DiskFull { .. } => (Exit::LogFailed, Some("free some space and start again")),
        _ => (
            Exit::LogFailed,
            Some("start again to recover from what is on disk; the system's log may say more"),
        ),
    }
}

/// Prints clap's answer: help and version as asked for, or what is wrong with the command line.
pub(crate) fn of_clap(answer: &clap::Error) -> Exit {
    // Nobody may be reading; that is no failure of ours.
    drop(answer.print());
    if answer.use_stderr() { Exit::Usage } else { Exit::Ok }
}
