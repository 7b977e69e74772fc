//! Files: how many the process may have open, and whether one is another than it was.
//!
//! Connections are files, and so are the log's segments: where the former used up all there are, the next segment could not
//! be made, and the log would fail.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Tells a file from another one, and from itself after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    device: u64,
    inode: u64,
    len: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

impl Version {
    /// That of a file now.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|it| Self {
            device: it.dev(),
            inode: it.ino(),
            len: it.len(),
            modified_ns: (it.mtime(), it.mtime_nsec()),
            changed_ns: (it.ctime(), it.ctime_nsec()),
        })
    }
}

/// What is assumed where the limit cannot be told.
const OPEN_MAX_DEFAULT: u64 = 256;

/// Raises the limit as far as the process may, and gives it. Shells set it low for programs of another age.
pub(crate) fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
    limit.unwrap_or(OPEN_MAX_DEFAULT)
}
