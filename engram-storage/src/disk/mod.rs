//! The disk seam: everything that the log asks of a file system.
//!
//! A [`Disk`] is one directory; names are plain file names in it. [`RealDisk`] is the operating system's,
//! [`SimDisk`] forgets what was not synced when its power is cut, [`FaultyDisk`] makes the n-th operation of a
//! kind fail. They are public, so that programs that embed the log can put the same faults under their own tests.
//!
//! ```
//! use std::sync::Arc;
//! use engram_storage::{WalEntry, WalEntryType, WalOptions, WalWriter, disk::SimDisk};
//!
//! # fn main() -> Result<(), engram_storage::StorageError> {
//! let disk = SimDisk::new(7);
//! let (wal, _) = WalWriter::open(Arc::new(disk.clone()), WalOptions::default(), Arc::default())?;
//! wal.write(WalEntry { entry_type: WalEntryType::MemoryStore, payload: b"kept".to_vec() })?;
//! disk.power_off(); // from here on each operation fails
//! drop(wal);
//! disk.crash(42); // of what was not synced, seed 42 decides what is left
//! let (_, report) = WalWriter::open(Arc::new(disk), WalOptions::default(), Arc::default())?;
//! assert_eq!(report.records, 1);
//! # Ok(()) }
//! ```

mod faulty;
pub(crate) mod random;
mod real;
mod sim;
#[cfg(test)]
mod tests;

use std::{any::Any, fmt::Debug, io, path::Path};

pub use faulty::{Fault, FaultyDisk, Operation};
pub use real::RealDisk;
pub use sim::{SimDisk, SimFaults};

/// Held for as long as the directory is this process's own; dropping it lets go.
pub type DiskLock = Box<dyn Any + Send + Sync>;

/// One directory. All calls block until the operating system has answered.
pub trait Disk: Debug + Send + Sync {
    /// The directory, for messages.
    fn path(&self) -> &Path;

    /// Takes the directory for this process alone.
    ///
    /// # Errors
    /// `WouldBlock` when another holder has it; the message is the holder's process id, where known.
    fn lock(&self) -> io::Result<DiskLock>;

    /// The names of the files in the directory, in any order, without those in subdirectories.
    ///
    /// # Errors
    /// As the operating system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file. Its name survives a power loss after [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    /// `AlreadyExists` when there is such a file.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, replacing what had it. Survives a power loss after `sync_dir`.
    ///
    /// # Errors
    /// `NotFound` when there is no such file.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Gives a file a second name, `subdirectory/name`, in a subdirectory that is made when missing, and makes that
    /// name durable. Does nothing when the second name exists.
    ///
    /// # Errors
    /// As the operating system says.
    fn link(&self, name: &str, second: &str) -> io::Result<()>;

    /// Removes a name. Survives a power loss after `sync_dir`.
    ///
    /// # Errors
    /// `NotFound` when there is no such file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all changes of names before it survive a power loss.
    ///
    /// # Errors
    /// As the operating system says. A failure is final: what it covered is in doubt.
    fn sync_dir(&self) -> io::Result<()>;
}

/// One file of a [`Disk`]. Offsets and lengths are in bytes.
pub trait DiskFile: Debug + Send + Sync {
    /// The file's length.
    ///
    /// # Errors
    /// As the operating system says.
    fn size(&self) -> io::Result<u64>;

    /// Reads up to `buf.len()` bytes at `offset`; 0 at and after the end of the file.
    ///
    /// # Errors
    /// As the operating system says.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes up to `buf.len()` bytes at `offset`, growing the file as needed; may write fewer. What was written
    /// survives the process at once and a power loss after [`sync`](Self::sync).
    ///
    /// # Errors
    /// As the operating system says; some of the bytes may have been written.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes the file's bytes and length survive a power loss (`fdatasync`). Not its name: see [`Disk::sync_dir`].
    ///
    /// # Errors
    /// As the operating system says. A failure is final: the kernel may have dropped the pages, a later success
    /// proves nothing.
    fn sync(&self) -> io::Result<()>;

    /// Writes all of `buf` at `offset`, going on after short and interrupted writes.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at); `WriteZero` when the disk takes nothing.
    fn write_all_at(&self, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.write_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => (buf, offset) = (&buf[n..], offset + n as u64),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Fills `buf` from `offset` on, going on after short and interrupted reads; fewer bytes only at the end of
    /// the file.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    fn read_full_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }
}
