//! The directory of a test: taken only when nobody else has something in it, and left as it was.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process,
};

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

use super::emergency::unmount_when_free;
use crate::exit::{Exit, Failure};

/// The image of a file system, and where it is mounted.
pub(super) const IMAGE: &str = "disk.img";
pub(super) const MOUNT_POINT: &str = "mnt";

/// Where the stores are, in the directory whose power is cut.
const STORES: &str = "data";

/// Says that all of this is a crash test's, and whose.
const MARKER: &str = "engram-crashtest";

/// What was lost, and the logs of the servers that had it. A later test does not take it away.
const EVIDENCE: &str = "evidence";

/// Made by mkfs in the root of a new file system.
const LOST_AND_FOUND: &str = "lost+found";

/// A directory that is ours. What was made in it is removed when it is dropped, unless it is to be kept.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    is_new: bool,
    pub(super) is_kept: bool,
}

impl Directory {
    /// Takes the directory, and removes what an earlier test that was cut short has left in it.
    pub(super) fn take(path: &Path) -> Result<Self, Failure> {
        let path = std::path::absolute(path).map_err(|e| bad(path, &e))?;
        let is_new = match fs::create_dir(&path) {
            Ok(()) => true,
            Err(_) if path.is_dir() => false,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(bad(&path, &"its parent is missing"));
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(bad(&path, &"it is not a directory"));
            }
            Err(e) => return Err(bad(&path, &e)),
        };
        if !is_new {
            check_is_ours(&path)?;
            remove_ours(&path).map_err(|e| bad(&path, &e))?;
        }
        let directory = Self { path, is_new, is_kept: false };
        directory.mark().map_err(|e| bad(&directory.path, &e))?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file of evidence; the directory is kept from now on.
    pub(super) fn keep(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.is_kept = true;
        let evidence = self.evidence();
        fs::create_dir_all(&evidence)?;
        fs::write(evidence.join(name), text)
    }

    pub(super) fn evidence(&self) -> PathBuf {
        self.path.join(EVIDENCE)
    }

    /// The name of the directory outlasts a power cut, and so does the mark.
    fn mark(&self) -> io::Result<()> {
        let mut marker = File::create_new(self.path.join(MARKER))?;
        let pid = process::id();
        writeln!(
            marker,
            "{pid}\nThe process above, `engram crashtest`, has made what is in this directory."
        )?;
        marker.sync_all()?;
        for directory in [Some(self.path.as_path()), self.path.parent()].into_iter().flatten() {
            sync(directory);
        }
        Ok(())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // What cannot be removed now, the next test removes.
        if remove_ours(&self.path).is_ok() && self.is_new {
            fs::remove_dir(&self.path).ok();
        }
    }
}

/// Stores in the directory whose power is cut, one after the other: a log only grows. Each has a name of its own: one
/// that was removed may come back with the power.
#[derive(Debug)]
pub(super) struct Stores {
    directory: PathBuf,
    number: u64,
}

impl Stores {
    /// In `directory`; the first one is there.
    pub(super) fn make(directory: &Path) -> io::Result<Self> {
        let stores = directory.join(STORES);
        fs::create_dir(&stores)?;
        sync(directory);
        Ok(Self { directory: stores, number: 1 })
    }

    /// The data directory of the present one.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.directory.join(self.number.to_string())
    }

    /// Removes the present one and goes on to the next.
    pub(super) fn next(&mut self) -> io::Result<()> {
        fs::remove_dir_all(self.data_dir())?;
        sync(&self.directory);
        self.number += 1;
        Ok(())
    }

    /// The bytes of the present one's files.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        let mut directories = vec![self.data_dir()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                    Ok(metadata) => bytes += metadata.len(),
                    // The server renames files meanwhile.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(bytes)
    }
}

/// Best effort: there are file systems that cannot sync a directory.
fn sync(directory: &Path) {
    drop(File::open(directory).and_then(|directory| directory.sync_all()));
}

fn check_is_ours(path: &Path) -> Result<(), Failure> {
    let entries = fs::read_dir(path).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<BTreeSet<_>>>()
    });
    let mut entries = entries.map_err(|e| bad(path, &e))?;
    entries.remove(LOST_AND_FOUND);
    let is_marked = entries.remove(MARKER);
    if is_marked && entries.contains(EVIDENCE) {
        return Err(bad(path, &"it holds the evidence of an earlier test that has found a loss")
            .help("look at it, then move it away or remove it, or choose another directory"));
    }
    let ours = if is_marked { &[STORES, IMAGE, MOUNT_POINT][..] } else { &[] };
    if let Some(other) = entries.iter().find(|name| !ours.contains(&name.as_str())) {
        return Err(bad(path, &format!("it holds {other:?}, which no crash test has made"))
            .help("choose a directory that is empty or missing: nothing else is touched"));
    }
    if is_marked && let Some(pid) = running(&path.join(MARKER)) {
        let message = format!("{} is in use by another crash test, process {pid}", path.display());
        return Err(Failure::new(Exit::Locked, message)
            .help("wait for it, or choose another directory; if that process is none, remove this one"));
    }
    if let Some(server) = server_left(path) {
        let message =
            format!("a server of an earlier crash test is still running in {}: {server}", path.display());
        return Err(Failure::new(Exit::Locked, message).help("end it first"));
    }
    Ok(())
}

/// The server that a test has left when it was killed itself, if there is one: it still has its log's lock.
fn server_left(path: &Path) -> Option<String> {
    let stores = [path.join(STORES), path.join(MOUNT_POINT).join(STORES)];
    let mut stores = stores.iter().filter_map(|stores| fs::read_dir(stores).ok()).flatten().flatten();
    stores.find_map(|store| {
        let log = store.path().join("wal");
        let is_locked = matches!(File::open(&log).ok()?.try_lock(), Err(TryLockError::WouldBlock));
        let holder = || fs::read_to_string(log.join("LOCK")).unwrap_or_default();
        is_locked.then(|| format!("process {}", holder().trim()))
    })
}

/// The process that a marker names, if there is one now. No file is locked: the disk under test may be unmounted.
fn running(marker: &Path) -> Option<i32> {
    let text = fs::read_to_string(marker).ok()?;
    let pid: i32 = text.lines().next()?.parse().ok()?;
    let is_other = u32::try_from(pid).is_ok_and(|pid| pid != process::id());
    let is_there = match test_kill_process(Pid::from_raw(pid)?) {
        Ok(()) | Err(Errno::PERM) => true,
        Err(_) => false,
    };
    (is_other && is_there).then_some(pid)
}

/// Removes what a test makes; the marker last.
fn remove_ours(path: &Path) -> io::Result<()> {
    let mount_point = path.join(MOUNT_POINT);
    if fs::remove_dir(&mount_point).is_err_and(|e| e.kind() != io::ErrorKind::NotFound) {
        // A test that was killed has left it mounted.
        unmount_when_free(&mount_point);
        fs::remove_dir(&mount_point)?;
    }
    let ignore_missing = |removed: io::Result<()>| match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    ignore_missing(fs::remove_dir_all(path.join(STORES)))?;
    ignore_missing(fs::remove_file(path.join(IMAGE)))?;
    ignore_missing(fs::remove_file(path.join(MARKER)))
}

fn bad(path: &Path, reason: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::BadDirectory, format!("cannot test in {}: {reason}", path.display()))
}
