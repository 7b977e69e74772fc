//! A disk whose n-th operation of a kind fails.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Disk, DiskFile, DiskLock};

/// The kinds of operation that can be made to fail, as the methods of [`Disk`] and [`DiskFile`] name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is named after its method")]
pub enum Operation {
    Lock,
    List,
    Create,
    Open,
    Rename,
    Link,
    Remove,
    SyncDir,
    Size,
    Read,
    Write,
    Sync,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`: the device failed.
    InputOutput,
    /// `ENOSPC`: no space left.
    NoSpace,
    /// `EROFS`: the file system went read-only.
    ReadOnly,
    /// A read or write moves half of its bytes and says so; other operations do not fail.
    Short,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    operation: Operation,
    from: u64,
    until: u64,
    fault: Fault,
}

#[derive(Debug, Default)]
struct Faults {
    counts: HashMap<Operation, u64>,
    plans: Vec<Plan>,
}

/// Wraps a disk and fails chosen operations of it. Clones share their faults and counts.
#[derive(Debug, Clone)]
pub struct FaultyDisk {
    inner: Arc<dyn Disk>,
    faults: Arc<Mutex<Faults>>,
}

impl FaultyDisk {
    /// A disk that behaves as `inner` until told otherwise.
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, faults: Arc::default() }
    }

    /// The `nth` operation of this kind from now on fails, the first being 1; those after it work again.
    pub fn fail_nth(&self, operation: Operation, nth: u64, fault: Fault) {
        self.plan(operation, nth, 1, fault);
    }

    /// The `nth` operation of this kind from now on and all after it fail, until [`heal`](Self::heal).
    pub fn fail_from(&self, operation: Operation, nth: u64, fault: Fault) {
        self.plan(operation, nth, u64::MAX, fault);
    }

    /// From now on everything works.
    pub fn heal(&self) {
        self.lock_faults().plans.clear();
    }

    /// How many operations of this kind were asked for.
    pub fn count(&self, operation: Operation) -> u64 {
        self.lock_faults().counts.get(&operation).copied().unwrap_or(0)
    }

    fn plan(&self, operation: Operation, nth: u64, times: u64, fault: Fault) {
        let mut faults = self.lock_faults();
        let from = faults.counts.get(&operation).copied().unwrap_or(0) + nth;
        faults.plans.push(Plan { operation, from, until: from.saturating_add(times), fault });
    }

    fn lock_faults(&self) -> std::sync::MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation and says how it fails: `Ok(true)` is a short one.
    fn strike(&self, operation: Operation) -> io::Result<bool> {
        let mut faults = self.lock_faults();
        let count = faults.counts.entry(operation).or_insert(0);
        *count += 1;
        let n = *count;
        let hit = faults.plans.iter().find(|p| p.operation == operation && (p.from..p.until).contains(&n));
        match hit.map(|plan| plan.fault) {
            None => Ok(false),
            Some(Fault::Short) => Ok(true),
            Some(Fault::InputOutput) => Err(io::Error::from_raw_os_error(5)),
            Some(Fault::NoSpace) => Err(io::Error::from_raw_os_error(28)),
            Some(Fault::ReadOnly) => Err(io::Error::from_raw_os_error(30)),
        }
    }

    fn file(&self, inner: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(FaultyFile { inner, disk: self.clone() })
    }
}

impl Disk for FaultyDisk {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn lock(&self) -> io::Result<DiskLock> {
        self.strike(Operation::Lock)?;
        self.inner.lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.strike(Operation::List)?;
        self.inner.list()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.strike(Operation::Create)?;
        Ok(self.file(self.inner.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.strike(Operation::Open)?;
        Ok(self.file(self.inner.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.strike(Operation::Rename)?;
        self.inner.rename(from, to)
    }

    fn link(&self, name: &str, second: &str) -> io::Result<()> {
        self.strike(Operation::Link)?;
        self.inner.link(name, second)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.strike(Operation::Remove)?;
        self.inner.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.strike(Operation::SyncDir)?;
        self.inner.sync_dir()
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Box<dyn DiskFile>,
    disk: FaultyDisk,
}

impl DiskFile for FaultyFile {
    fn size(&self) -> io::Result<u64> {
        self.disk.strike(Operation::Size)?;
        self.inner.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let short = self.disk.strike(Operation::Read)?;
        let len = if short { buf.len().div_ceil(2) } else { buf.len() };
        self.inner.read_at(&mut buf[..len], offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let short = self.disk.strike(Operation::Write)?;
        let len = if short { buf.len().div_ceil(2) } else { buf.len() };
        self.inner.write_at(&buf[..len], offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.strike(Operation::Sync)?;
        self.inner.sync()
    }
}
