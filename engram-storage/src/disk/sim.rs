//! A disk in memory that forgets what was not synced.
//!
//! It keeps two images of each file: what reads see (the page cache) and what a power cut leaves (the platter),
//! with the set of sectors in which they differ; and two directories, with the changes of names between them. A
//! crash keeps any subset of the unsynced sectors and of the unsynced names, so writes are lost, torn and
//! reordered, files have any length between the old and the new, and space that was grown into reads as zeros or
//! as garbage. A failed sync marks its sectors clean without writing them, as kernels do.

#![expect(clippy::cast_possible_truncation, reason = "lengths of files in memory, and random bytes")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::{Arc, PoisonError},
};

use super::{Disk, DiskFile, DiskLock, random::Random};
use crate::{
    sync::{Mutex, MutexGuard},
    wal::SECTOR_LEN,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Faults that strike at random, each once in so many operations; 0 is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimFaults {
    /// A write that takes only a part of its bytes.
    pub short_write_one_in: u64,
    /// A write that finds the disk full, after taking a part of its bytes.
    pub disk_full_one_in: u64,
    /// A sync that fails and drops what it should have written.
    pub sync_fails_one_in: u64,
    /// Whether a sector that was being written when the power went may read as garbage.
    pub garbage_sectors: bool,
    /// A write of which a bit is another one on the disk, and nothing says so.
    pub flips_write_one_in: u64,
    /// The most bytes that all files together may have; 0 is no limit.
    pub capacity_bytes: u64,
}

/// A simulated disk. Clones share the disk, as processes share a machine.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    operations: u64,
    power: Power,
    faults: SimFaults,
    random: Random,
    locked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// This many operations succeed; the next one is cut in the middle.
    OffAfter(u64),
    Off,
}

#[derive(Debug, Default)]
struct Inode {
    cache: Vec<u8>,
    platter: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Add(String, usize),
    Remove(String),
    /// Of this very file: a change that was lost before it does not make it another one's.
    Rename {
        from: String,
        to: String,
        inode: usize,
    },
}

impl SimDisk {
    /// An empty disk whose faults follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            operations: 0,
            power: Power::On,
            faults: SimFaults::default(),
            random: Random::new(seed),
            locked: false,
        })))
    }

    /// From now on faults strike with these odds.
    pub fn set_faults(&self, faults: SimFaults) {
        self.state().faults = faults;
    }

    /// How many operations the disk was asked for since it was made.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The power goes now: each operation fails until [`crash`](Self::crash) or [`restart`](Self::restart).
    pub fn power_off(&self) {
        self.state().power = Power::Off;
    }

    /// The power goes in the middle of the operation after the next `operations`: a write leaves a part of its
    /// bytes, in the cache only.
    pub fn power_off_after(&self, operations: u64) {
        self.state().power = Power::OffAfter(operations);
    }

    /// The machine comes back after a power cut: what was synced is there, and of the rest what `seed` decides.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state();
        let mut random = Random::new(seed);
        let garbage = state.faults.garbage_sectors;
        for inode in &mut state.inodes {
            inode.lose_power(&mut random, garbage);
        }
        let changes = std::mem::take(&mut state.name_changes);
        let prefix = random.below(changes.len() as u64 + 1) as usize;
        let in_order = random.one_in(2);
        let mut names = state.durable_names.clone();
        for (i, change) in changes.iter().enumerate() {
            if if in_order { i < prefix } else { random.one_in(2) } {
                change.apply(&mut names);
            }
        }
        state.names.clone_from(&names);
        state.durable_names = names;
        state.power = Power::On;
        state.locked = false;
    }

    /// The process comes back after a crash of its own: the machine went on, nothing that was written is lost.
    pub fn restart(&self) {
        let mut state = self.state();
        state.power = Power::On;
        state.locked = false;
    }

    /// The page cache lets go of everything clean: reads see the platter where nothing waits to be synced. After a
    /// failed sync this is how its bytes vanish.
    pub fn drop_caches(&self) {
        for inode in &mut self.state().inodes {
            let mut cache = inode.platter.clone();
            cache.resize(inode.cache.len(), 0);
            for &sector in &inode.dirty {
                let range = sector_range(sector, inode.cache.len());
                cache[range.clone()].copy_from_slice(&inode.cache[range]);
            }
            inode.cache = cache;
        }
    }

    /// The names of all files, those in subdirectories included.
    pub fn file_names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// The bytes of a file as reads see them, or nothing when there is no such file.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).map(|&i| state.inodes[i].cache.clone())
    }

    /// What the harshest power cut would leave now: the files whose names were made durable, with the bytes that were
    /// synced. Unlike a crash it changes nothing.
    pub fn durable_files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let platter = |(name, &inode): (&String, &usize)| (name.clone(), state.inodes[inode].platter.clone());
        state.durable_names.iter().map(platter).collect()
    }

    /// Puts a file there as if it had always been, or changes one behind the log's back (bit rot, a foreign file).
    pub fn plant(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        state.inodes.push(Inode { cache: bytes.clone(), platter: bytes, dirty: BTreeSet::new() });
        let inode = state.inodes.len() - 1;
        state.names.insert(name.to_owned(), inode);
        state.durable_names.insert(name.to_owned(), inode);
    }

    /// Takes a file away as if it had never been.
    pub fn destroy(&self, name: &str) {
        let mut state = self.state();
        state.names.remove(name);
        state.durable_names.remove(name);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is consistent between statements: a panicking test thread must not hide what it found.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operate(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.operate()?;
        Ok(state)
    }
}

impl State {
    /// The way of each operation: counted, and refused when the power is off.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        self.power = match self.power {
            Power::On => Power::On,
            Power::OffAfter(n) if n > 0 => Power::OffAfter(n - 1),
            Power::OffAfter(_) | Power::Off => Power::Off,
        };
        if self.power == Power::Off { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn room(&self) -> usize {
        if self.faults.capacity_bytes == 0 {
            return usize::MAX;
        }
        let used: u64 = self.names.values().map(|&i| self.inodes[i].cache.len() as u64).sum();
        self.faults.capacity_bytes.saturating_sub(used) as usize
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Add(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename { from, to, inode } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
        }
    }
}

impl Inode {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR_LEN..=(end - 1) / SECTOR_LEN);
    }

    fn sync(&mut self) {
        self.platter.resize(self.cache.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let range = sector_range(sector, self.cache.len());
            self.platter[range.clone()].copy_from_slice(&self.cache[range]);
        }
    }

    fn lose_power(&mut self, random: &mut Random, garbage: bool) {
        let (synced, written) = (self.platter.len(), self.cache.len());
        let grown = written.saturating_sub(synced) as u64;
        let len = match random.below(3) {
            0 => synced,
            1 => synced + random.below(grown + 1) as usize,
            _ => written.max(synced),
        };
        self.platter.resize(len, 0);
        if random.one_in(4) {
            self.platter[synced..].iter_mut().for_each(|byte| *byte = random.next() as u8);
        }
        let keep_one_in = [1, 2, 2, 2, 8, u64::MAX][random.below(6) as usize];
        for sector in std::mem::take(&mut self.dirty) {
            let range = sector_range(sector, len.min(written));
            if range.is_empty() || !random.one_in(keep_one_in) {
                continue;
            }
            self.platter[range.clone()].copy_from_slice(&self.cache[range.clone()]);
            if garbage && random.one_in(4) {
                self.platter[range].iter_mut().for_each(|byte| *byte = random.next() as u8);
            }
        }
        self.cache.clone_from(&self.platter);
    }
}

/// The bytes of a sector in a file of `len` bytes.
fn sector_range(sector: usize, len: usize) -> std::ops::Range<usize> {
    (sector * SECTOR_LEN).min(len)..((sector + 1) * SECTOR_LEN).min(len)
}

impl Disk for SimDisk {
    fn path(&self) -> &Path {
        Path::new("/simulated")
    }

    fn lock(&self) -> io::Result<DiskLock> {
        let mut state = self.operate()?;
        if state.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked = true;
        Ok(Box::new(SimLock(self.clone())))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.operate()?.names.keys().filter(|name| !name.contains('/')).cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.operate()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.inodes.push(Inode::default());
        let inode = state.inodes.len() - 1;
        state.change_name(NameChange::Add(name.to_owned(), inode));
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.operate()?.inode(name)?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.operate()?;
        let inode = state.inode(from)?;
        state.change_name(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    fn link(&self, name: &str, second: &str) -> io::Result<()> {
        let mut state = self.operate()?;
        let inode = state.inode(name)?;
        state.names.entry(second.to_owned()).or_insert(inode);
        state.durable_names.entry(second.to_owned()).or_insert(inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.operate()?;
        state.inode(name)?;
        state.change_name(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.operate()?;
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }
}

/// Held by one log at a time, also within one process.
struct SimLock(SimDisk);

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.operate()?.inodes[self.inode].cache.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.operate()?;
        let cache = &state.inodes[self.inode].cache;
        let start = (offset as usize).min(cache.len());
        let n = buf.len().min(cache.len() - start);
        buf[..n].copy_from_slice(&cache[start..start + n]);
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let cut_now = state.power == Power::OffAfter(0);
        let powered = state.operate();
        if powered.is_err() && !cut_now {
            return powered.map(|()| 0);
        }
        let faults = state.faults;
        let overwritten = state.inodes[self.inode].cache.len().saturating_sub(offset as usize);
        let room = state.room().saturating_add(overwritten);
        let full = room < buf.len() || state.random.one_in(faults.disk_full_one_in);
        let short = !full && !cut_now && state.random.one_in(faults.short_write_one_in);
        let taken = match (short, full || cut_now) {
            (true, _) => 1 + state.random.below(buf.len() as u64) as usize,
            (false, true) => state.random.below(buf.len() as u64 + 1) as usize,
            (false, false) => buf.len(),
        };
        let taken = taken.min(buf.len()).min(room);
        if taken > 0 && state.random.one_in(faults.flips_write_one_in) {
            let mut flipped = buf[..taken].to_vec();
            let bit = state.random.below(taken as u64 * 8) as usize;
            flipped[bit / 8] ^= 1 << (bit % 8);
            state.inodes[self.inode].write(&flipped, offset as usize);
        } else {
            state.inodes[self.inode].write(&buf[..taken], offset as usize);
        }
        powered?;
        if full { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(taken) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.operate()?;
        let one_in = state.faults.sync_fails_one_in;
        if state.random.one_in(one_in) {
            state.inodes[self.inode].dirty.clear();
            return Err(io::Error::from_raw_os_error(EIO));
        }
        state.inodes[self.inode].sync();
        Ok(())
    }
}
