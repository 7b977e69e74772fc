//! The next segment, made ready ahead.

use std::{io, path::Path};

use super::*;
use crate::disk::{DiskFile, DiskLock};

/// A disk on which no spare can be made.
#[derive(Debug)]
struct NoSpares(SimDisk);

impl Disk for NoSpares {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn lock(&self) -> io::Result<DiskLock> {
        self.0.lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        if name == segment::SPARE_NAME { Err(io::ErrorKind::StorageFull.into()) } else { self.0.create(name) }
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.0.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn link(&self, name: &str, second: &str) -> io::Result<()> {
        self.0.link(name, second)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }
}

fn options() -> WalOptions {
    WalOptions { segment_bytes: SEGMENT_BYTES_MIN, ..WalOptions::default() }
}

#[test]
fn a_spare_is_as_long_as_it_was_wanted() {
    for bytes in [1, 64 << 10, 1 << 20, (1 << 20) + 1, 3 << 20, (3 << 20) + 5] {
        let disk = SimDisk::new(1);
        let spare = spare::Spare::start(Arc::new(disk.clone())).unwrap();
        assert!(spare.take(u64::MAX).is_none() && !spare.is_ready());
        spare.want(bytes);
        while !spare.is_ready() {
            std::thread::yield_now();
        }
        let filled = spare.take(u64::MAX).unwrap();
        assert_eq!((filled.bytes, filled.file.size().unwrap()), (bytes, bytes));
        assert!(!spare.is_ready() && spare.take(u64::MAX).is_none());
        // The second is dropped before it is used.
        disk.destroy(segment::SPARE_NAME);
        spare.want(bytes);
        while !spare.is_ready() {
            std::thread::yield_now();
        }
        drop(spare);
        assert_eq!(disk.file_names(), [""; 0]);
    }
}

#[test]
fn a_spare_that_is_too_long_gives_way_to_a_shorter_one() {
    let disk = SimDisk::new(2);
    let spare = spare::Spare::start(Arc::new(disk.clone())).unwrap();
    let ready = |bytes| {
        spare.want(bytes);
        while !spare.is_ready() {
            std::thread::yield_now();
        }
    };
    ready(3 << 20);
    assert!(spare.take(1 << 20).is_none() && spare.is_ready());
    ready(64 << 10);
    assert_eq!(spare.take(1 << 20).unwrap().bytes, 64 << 10);
    assert_eq!(disk.read(segment::SPARE_NAME).unwrap().len(), 64 << 10);
}

#[test]
fn a_segment_grows_to_twice_its_size_while_the_next_is_not_ready() {
    let disk = SimDisk::new(1);
    let metrics = Arc::new(StorageMetrics::new());
    let (wal, _) =
        WalWriter::open(Arc::new(NoSpares(disk.clone())), options(), Arc::clone(&metrics)).unwrap();
    while metrics.snapshot().rotations == 0 {
        wal.write(entry(vec![1; 400])).unwrap();
    }
    let first = disk.read(&SegmentId::FIRST.file_name()).unwrap();
    assert_eq!(first.len() as u64, 2 * SEGMENT_BYTES_MIN);
    wal.shutdown().unwrap();
    assert_eq!(
        payloads(&disk).len(),
        256 - 1 + 1,
        "each of a sector, after the header, and the one that did not fit"
    );
}

#[test]
fn a_spare_is_made_ready_and_becomes_the_next_segment() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(&disk, options()).unwrap();
    let mut rotated = 0;
    for segment in 2..=3 {
        // Made ready by another thread, in time: it hangs where none is ever made.
        while disk.read(segment::SPARE_NAME).is_none_or(|spare| (spare.len() as u64) < SEGMENT_BYTES_MIN) {
            std::thread::yield_now();
        }
        let name = format!("wal-{segment:020}.log");
        while disk.read(&name).is_none() {
            wal.write(entry(vec![1; 400])).unwrap();
        }
        rotated += u64::from(disk.read(&name).unwrap().len() as u64 >= SEGMENT_BYTES_MIN);
    }
    assert_eq!(rotated, 2, "filled before it was written to");
}
