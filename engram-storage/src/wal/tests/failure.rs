//! What the log does when the disk fails.

use super::*;

#[test]
fn a_failed_sync_is_final_and_nobody_hangs() {
    for mode in [FsyncMode::PerWrite, FsyncMode::PerBatch] {
        for nth in 1..10 {
            let sim = SimDisk::new(1);
            let disk = FaultyDisk::new(Arc::new(sim.clone()));
            let failures = Arc::new(Mutex::new(0));
            let on_failure: options::FailureHook = {
                let failures = Arc::clone(&failures);
                Arc::new(move |_| *failures.lock().unwrap() += 1)
            };
            let metrics = Arc::new(StorageMetrics::new());
            let options = WalOptions { on_failure: Some(on_failure), ..small(mode) };
            let (wal, _) = WalWriter::open(Arc::new(disk.clone()), options, Arc::clone(&metrics)).unwrap();
            disk.fail_nth(Operation::Sync, nth, Fault::InputOutput);
            let acknowledged =
                numbered(0..40).into_iter().take_while(|p| wal.write(entry(p.as_str())).is_ok()).count();
            let syncs = disk.count(Operation::Sync);
            for n in 0..5 {
                let refused = wal.write(entry(format!("later {n}"))).unwrap_err();
                assert!(
                    matches!(refused, StorageError::Poisoned { .. }) && refused.ended_writing(),
                    "{refused}"
                );
            }
            assert!(matches!(wal.sync(), Err(StorageError::Poisoned { .. })));
            assert!(wal.shutdown().is_err());
            assert_eq!(disk.count(Operation::Sync), syncs, "no sync is tried after one that failed");
            assert_eq!(*failures.lock().unwrap(), 1);
            assert!(metrics.snapshot().poisoned);
            let found = payloads(&sim);
            assert!(found.len() >= acknowledged && found == numbered(0..found.len().try_into().unwrap()));
        }
    }
}

#[test]
fn a_full_disk_fails_its_batch_alone() {
    for nth in 1..30 {
        let sim = SimDisk::new(nth);
        let disk = FaultyDisk::new(Arc::new(sim.clone()));
        let (wal, _) =
            WalWriter::open(Arc::new(disk.clone()), small(FsyncMode::PerBatch), Arc::default()).unwrap();
        disk.fail_nth(Operation::Write, nth, Fault::NoSpace);
        let mut acknowledged = Vec::new();
        let mut refused = 0;
        for payload in numbered(0..40) {
            match wal.write(entry(payload.as_str())) {
                Ok(_) => acknowledged.push(payload),
                Err(error @ StorageError::DiskFull { .. }) => {
                    assert!(!error.ended_writing());
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(refused, 1, "write {nth}");
        disk.heal();
        drop(wal);
        assert_eq!(payloads(&sim), acknowledged, "write {nth}");
        sim.crash(nth);
        assert_eq!(payloads(&sim), acknowledged, "write {nth}, after a power loss");
    }
}

#[test]
fn what_a_full_disk_refused_does_not_come_back() {
    // The disk takes a part of a group of several records, and the process is killed right after.
    for room in (4096..12_000).step_by(64) {
        let disk = SimDisk::new(room);
        let (wal, _) =
            open(&disk, WalOptions { segment_bytes: 1 << 20, ..small(FsyncMode::PerBatch) }).unwrap();
        write_numbered(&wal, 0..3);
        let full = crate::disk::SimFaults { capacity_bytes: 65_536 + room, ..Default::default() };
        disk.set_faults(full);
        let mut acknowledged = 3;
        for n in 3..100 {
            match wal.write(entry(format!("record {n}").repeat(90))) {
                Ok(_) => acknowledged += 1,
                Err(error) => assert!(error.is_disk_full(), "{error}"),
            }
        }
        disk.set_faults(crate::disk::SimFaults::default());
        wal.write(entry("after")).unwrap();
        disk.power_off();
        drop(wal);
        disk.restart();
        let found = payloads(&disk);
        assert_eq!(found.len(), acknowledged + 1);
        assert_eq!(found.last().unwrap(), "after");
    }
}

#[test]
fn short_and_interrupted_writes_are_completed() {
    let sim = SimDisk::new(3);
    let disk = FaultyDisk::new(Arc::new(sim.clone()));
    let (wal, _) =
        WalWriter::open(Arc::new(disk.clone()), small(FsyncMode::PerBatch), Arc::default()).unwrap();
    disk.fail_from(Operation::Write, 1, Fault::Short);
    write_numbered(&wal, 0..30);
    wal.shutdown().unwrap();
    assert_eq!(payloads(&sim), numbered(0..30));
}

#[test]
fn a_payload_over_the_limit_is_refused_and_changes_nothing() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(&disk, WalOptions::default()).unwrap();
    let refused = wal.write(entry(vec![0; RECORD_LEN_MAX + 1])).unwrap_err();
    assert!(matches!(refused, StorageError::RecordTooLarge { .. }));
    wal.write(entry(vec![7; RECORD_LEN_MAX])).unwrap();
    wal.shutdown().unwrap();
    let records: Vec<_> = WalReader::open(Arc::new(disk)).iter().map(Result::unwrap).collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].payload, vec![7; RECORD_LEN_MAX]);
}

#[test]
fn a_panicking_completion_ends_the_log_and_nobody_hangs() {
    let (wal, _) = open(&SimDisk::new(1), small(FsyncMode::PerBatch)).unwrap();
    wal.submit_with(entry("x"), |_, _| panic!("a defect of the caller"));
    assert!(wal.write(entry("y")).is_err());
    assert!(wal.sync().is_err());
    assert!(matches!(wal.shutdown(), Err(StorageError::WriterPanicked)));
}

#[test]
fn the_unproven_tail_is_synced_before_it_is_shown() {
    // A sync fails after its group was written: the record can be read until the cache lets go of it.
    let sim = SimDisk::new(1);
    let (wal, _) = open(&sim, small(FsyncMode::PerBatch)).unwrap();
    wal.write(entry("record 0")).unwrap();
    sim.set_faults(crate::disk::SimFaults { sync_fails_one_in: 1, ..Default::default() });
    wal.write(entry("record 1")).unwrap_err();
    drop(wal);
    sim.set_faults(crate::disk::SimFaults::default());
    let (wal, report) = open(&sim, small(FsyncMode::PerBatch)).unwrap();
    assert_eq!((report.records, report.copied_records), (2, 1), "the phantom was shown");
    sim.power_off();
    drop(wal);
    sim.drop_caches();
    sim.crash(3);
    assert_eq!(payloads(&sim), numbered(0..2), "and so it stays");
}

#[test]
fn a_full_or_read_only_disk_is_opened_for_reading() {
    for fault in [Fault::NoSpace, Fault::ReadOnly] {
        let sim = log_of(5, false);
        let disk = FaultyDisk::new(Arc::new(sim.clone()));
        disk.fail_from(Operation::Create, 1, fault);
        let mut seen = 0;
        let (wal, report) =
            WalWriter::recover(Arc::new(disk), small(FsyncMode::PerBatch), Arc::default(), |_, _| {
                seen += 1;
                Ok::<_, StorageError>(())
            })
            .unwrap();
        assert_eq!(seen, 5);
        assert!(report.read_only.is_some() && !wal.takes_writes());
        let refused = wal.write(entry("x")).unwrap_err();
        assert!(matches!(refused, StorageError::ReadOnly { .. }) && refused.ended_writing(), "{refused}");
        drop(wal);
        assert_eq!(open(&sim, small(FsyncMode::PerBatch)).unwrap().1.records, 5);
    }
}

#[test]
fn what_was_refused_is_cut_off_at_once_where_there_is_room_for_a_segment() {
    let mut cut_off = 0;
    for seed in 0..400 {
        let disk = SimDisk::new(seed);
        let metrics = Arc::new(StorageMetrics::new());
        let options = WalOptions { segment_bytes: 1 << 20, ..small(FsyncMode::PerBatch) };
        let (wal, _) = WalWriter::open(Arc::new(disk.clone()), options, Arc::clone(&metrics)).unwrap();
        disk.set_faults(crate::disk::SimFaults { disk_full_one_in: 3, ..Default::default() });
        let mut acknowledged = Vec::new();
        // Up to the first refusal, after which the process is killed.
        for payload in numbered(0..20) {
            match wal.write(entry(payload.as_str())) {
                Ok(_) => acknowledged.push(payload),
                Err(error) => {
                    assert!(error.is_disk_full(), "{error}");
                    break;
                }
            }
        }
        let rotated = metrics.snapshot().rotations == 1;
        disk.power_off();
        drop(wal);
        disk.restart();
        let found = payloads(&disk);
        assert!(found.starts_with(&acknowledged), "seed {seed}");
        if rotated {
            assert_eq!(found, acknowledged, "seed {seed}");
            cut_off += 1;
        }
    }
    assert!(cut_off > 50, "{cut_off}");
}

#[test]
fn a_sync_finds_out_that_there_is_space_again() {
    let disk = SimDisk::new(1);
    let metrics = Arc::new(StorageMetrics::new());
    let options = WalOptions { segment_bytes: 1 << 20, ..small(FsyncMode::PerBatch) };
    let (wal, _) = WalWriter::open(Arc::new(disk.clone()), options, Arc::clone(&metrics)).unwrap();
    wal.write(entry("first")).unwrap();
    let used: u64 = disk.file_names().iter().map(|name| disk.read(name).unwrap().len() as u64).sum();
    disk.set_faults(crate::disk::SimFaults { capacity_bytes: used, ..Default::default() });
    let refused = wal.write(entry(vec![1; 100_000])).unwrap_err();
    assert!(refused.is_disk_full() && metrics.snapshot().disk_full);
    wal.sync().unwrap();
    assert!(metrics.snapshot().disk_full, "it still is");
    disk.set_faults(crate::disk::SimFaults::default());
    wal.sync().unwrap();
    assert!(!metrics.snapshot().disk_full);
    wal.write(entry("second")).unwrap();
    wal.shutdown().unwrap();
    assert_eq!(payloads(&disk), ["first", "second"]);
}

#[test]
fn a_first_start_that_can_make_nothing_is_an_error() {
    let disk = FaultyDisk::new(Arc::new(SimDisk::new(1)));
    disk.fail_from(Operation::Create, 1, Fault::NoSpace);
    let refused = WalWriter::open(Arc::new(disk), small(FsyncMode::PerBatch), Arc::default()).unwrap_err();
    assert!(refused.is_disk_full(), "{refused}");
}

#[test]
fn a_start_on_a_disk_that_fails_is_an_error_and_not_a_log_for_reading() {
    let disk = FaultyDisk::new(Arc::new(log_of(5, false)));
    disk.fail_from(Operation::Create, 1, Fault::InputOutput);
    let refused = WalWriter::open(Arc::new(disk), small(FsyncMode::PerBatch), Arc::default()).unwrap_err();
    assert!(matches!(refused, StorageError::Io { .. }), "{refused}");
}
