//! An inspection of a log that is being written.

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::disk::{DiskFile, DiskLock};

/// A log that each look finds in another state; the last one stays.
#[derive(Debug)]
struct Changing {
    states: Vec<SimDisk>,
    lists: AtomicUsize,
}

impl Changing {
    fn now(&self) -> &SimDisk {
        // A look lists the directory twice: for temporary files, and for segments.
        let look = self.lists.load(Ordering::SeqCst).saturating_sub(1) / 2;
        &self.states[look.min(self.states.len() - 1)]
    }
}

impl Disk for Changing {
    fn path(&self) -> &Path {
        self.now().path()
    }

    fn lock(&self) -> io::Result<DiskLock> {
        self.now().lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.now().list()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.now().create(name)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.now().open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.now().rename(from, to)
    }

    fn link(&self, name: &str, second: &str) -> io::Result<()> {
        self.now().link(name, second)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.now().remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.now().sync_dir()
    }
}

/// A log whose record of this number is damaged, if it is any.
fn damaged(record: Option<usize>) -> SimDisk {
    let disk = log_of(6, true);
    if let Some(record) = record {
        let name = SegmentId::FIRST.file_name();
        let mut bytes = disk.read(&name).unwrap();
        bytes[record * SECTOR_LEN + HEADER_LEN] ^= 1;
        disk.plant(&name, bytes);
    }
    disk
}

#[test]
fn what_looks_damaged_is_looked_at_until_two_looks_agree() {
    for (looks, agreed) in [
        (&[None][..], None),
        (&[Some(1), None], None),
        (&[Some(1), Some(2), None], None),
        (&[Some(1), Some(2), Some(1), Some(2)], Some(2)),
        (&[Some(1), Some(1), None], Some(1)),
    ] {
        let states = looks.iter().map(|&record| damaged(record)).collect();
        let disk = Changing { states, lists: AtomicUsize::new(0) };
        let found = WalReader::open(Arc::new(disk)).inspect().unwrap();
        let damage: Vec<u64> = found.damage.iter().map(|found| found.damage.first_lsn.get()).collect();
        assert_eq!(damage, agreed.into_iter().collect::<Vec<_>>(), "{looks:?}");
        assert_eq!(found.is_sound(), agreed.is_none());
    }
}
