//! What counts as space on a full disk, and how a log stops on one.

use super::*;
use crate::disk::SimFaults;

/// A log whose disk refused a write, with so much room left in it.
fn refused_with_room(
    disk: &SimDisk,
    wrap: impl FnOnce(SimDisk) -> Arc<dyn Disk>,
    room: u64,
) -> (WalWriter, Arc<StorageMetrics>) {
    let metrics = Arc::new(StorageMetrics::new());
    let options = WalOptions { segment_bytes: 1 << 20, ..small(FsyncMode::PerBatch) };
    let (wal, _) = WalWriter::open(wrap(disk.clone()), options, Arc::clone(&metrics)).unwrap();
    wal.write(entry("first")).unwrap();
    let used: u64 = disk.file_names().iter().map(|name| disk.read(name).unwrap().len() as u64).sum();
    disk.set_faults(SimFaults { capacity_bytes: used + room, ..SimFaults::default() });
    assert!(wal.write(entry(vec![1; 100_000])).unwrap_err().is_disk_full());
    assert!(metrics.snapshot().disk_full);
    (wal, metrics)
}

#[test]
fn room_for_a_header_alone_is_no_space() {
    for room in [700, 5000] {
        let disk = SimDisk::new(1);
        let (wal, metrics) = refused_with_room(&disk, |disk| Arc::new(disk), room);
        assert_eq!(metrics.snapshot().rotations, 1, "a segment was begun");
        for _ in 0..3 {
            wal.sync().unwrap();
            assert!(metrics.snapshot().disk_full);
        }
        assert_eq!(metrics.snapshot().rotations, 1, "and no other");
    }
}

#[test]
fn a_record_that_fits_proves_that_there_is_space() {
    let disk = SimDisk::new(1);
    let (wal, metrics) = refused_with_room(&disk, |disk| Arc::new(disk), 8192);
    wal.write(entry("small")).unwrap();
    assert!(!metrics.snapshot().disk_full);
}

#[test]
fn a_disk_that_fails_while_it_is_asked_for_space_is_not_full() {
    let sim = SimDisk::new(1);
    let disk = FaultyDisk::new(Arc::new(sim.clone()));
    let (wal, _) = refused_with_room(&sim, |_| Arc::new(disk.clone()), 700);
    disk.fail_nth(Operation::Write, 1, Fault::InputOutput);
    assert!(matches!(wal.sync(), Err(StorageError::Poisoned { .. })));
}

#[test]
fn a_stop_is_clean_on_a_full_disk_and_fails_on_one_that_fails() {
    // The header of the last segment, and the seal in it.
    for nth in 1..=2 {
        for (fault, clean) in [(Fault::NoSpace, true), (Fault::InputOutput, false)] {
            let sim = SimDisk::new(1);
            let disk = FaultyDisk::new(Arc::new(sim.clone()));
            let (wal, _) =
                WalWriter::open(Arc::new(disk.clone()), small(FsyncMode::PerBatch), Arc::default()).unwrap();
            wal.write(entry("record 0")).unwrap();
            disk.fail_nth(Operation::Write, nth, fault);
            let stopped = wal.shutdown();
            assert_eq!(stopped.is_ok(), clean, "write {nth}: {stopped:?}");
            if let Err(error) = stopped {
                assert!(error.to_string().contains("wal-"), "{error}");
            }
            disk.heal();
            assert_eq!(payloads(&sim), numbered(0..1));
        }
    }
}
