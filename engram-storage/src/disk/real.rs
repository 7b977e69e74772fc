//! The operating system's directory.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{Disk, DiskFile, DiskLock};

const LOCK_NAME: &str = "LOCK";

/// A directory of the operating system, with positioned reads and writes and `fdatasync`.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
}

impl RealDisk {
    /// Opens `directory`, making it when it is missing and its parent is there. The parent is never made: a
    /// missing parent is more often a file system that is not mounted than a wish for a new, empty store.
    ///
    /// # Errors
    /// `NotFound` when the parent is missing, `NotADirectory` when something else has the name.
    pub fn create(directory: impl AsRef<Path>) -> io::Result<Self> {
        let directory = std::path::absolute(directory)?;
        let parent = directory.parent().unwrap_or(Path::new("/"));
        match fs::create_dir(&directory) {
            Ok(()) => sync_directory(parent)?,
            Err(_) if directory.is_dir() => {
                // Whoever made it may not have made its name durable. Where that is not ours to do, it is no reason
                // not to start.
                if let Err(error) = sync_directory(parent) {
                    tracing::warn!(%error, parent = %parent.display(), "cannot sync the parent of the log's directory");
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let reason = format!("its parent {} does not exist; make it, or mount it", parent.display());
                return Err(io::Error::new(e.kind(), reason));
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory"));
            }
            Err(e) => return Err(e),
        }
        Self::open(directory)
    }

    /// Opens `directory`, which must exist.
    ///
    /// # Errors
    /// `NotFound` or `NotADirectory`.
    pub fn open(directory: impl AsRef<Path>) -> io::Result<Self> {
        let directory = std::path::absolute(directory)?;
        if !fs::metadata(&directory)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { directory })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Unlocks when it is dropped. To close the file is not enough: while another thread starts a process, that process
/// has a copy of the file until it runs its program, and the lock would be held for as long.
pub(super) struct LockedDirectory(pub(super) File);

impl Drop for LockedDirectory {
    fn drop(&mut self) {
        // Where it fails, closing the file is what is left, and that follows.
        drop(self.0.unlock());
    }
}

impl Disk for RealDisk {
    fn path(&self) -> &Path {
        &self.directory
    }

    fn lock(&self) -> io::Result<DiskLock> {
        // The directory itself is locked: unlike a file in it, it cannot be removed or be out of reach for one of two
        // users who can both write. The file only says who holds the lock.
        let directory = File::open(&self.directory)?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // A courtesy of the message: without it the answer stays the same.
                let holder = fs::read_to_string(self.at(LOCK_NAME)).unwrap_or_default();
                return Err(io::Error::new(io::ErrorKind::WouldBlock, holder.trim().to_owned()));
            }
            Err(TryLockError::Error(e)) => return Err(e),
        }
        // As above: a full or read-only disk must not keep the lock from being held.
        drop(fs::write(self.at(LOCK_NAME), std::process::id().to_string()));
        Ok(Box::new(LockedDirectory(directory)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.at(name))?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(File::open(self.at(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn link(&self, name: &str, second: &str) -> io::Result<()> {
        let second = self.at(second);
        let directory = second.parent().unwrap_or(&self.directory);
        match fs::create_dir(directory) {
            Ok(()) => self.sync_dir()?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        match fs::hard_link(self.at(name), &second) {
            Ok(()) => sync_directory(directory),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.at(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_directory(&self.directory)
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
