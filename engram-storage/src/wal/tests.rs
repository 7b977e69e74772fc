//! What the log does, on a simulated disk.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use super::*;
use crate::{
    StorageError, StorageMetrics, StorageResult,
    disk::{Fault, FaultyDisk, Operation, SimDisk},
};

fn entry(payload: impl Into<Vec<u8>>) -> WalEntry {
    WalEntry { entry_type: WalEntryType::MemoryStore, payload: payload.into() }
}

/// Options whose disk operations happen on the writer thread alone, with segments of a few records.
fn small(fsync: FsyncMode) -> WalOptions {
    WalOptions { fsync, segment_bytes: 2048, preallocate: false, ..WalOptions::default() }
}

fn open(disk: &SimDisk, options: WalOptions) -> StorageResult<(WalWriter, RecoveryReport)> {
    WalWriter::open(Arc::new(disk.clone()), options, Arc::default())
}

fn payloads(disk: &SimDisk) -> Vec<String> {
    WalReader::open(Arc::new(disk.clone()))
        .iter()
        .map(|record| String::from_utf8(record.unwrap().payload).unwrap())
        .collect()
}

fn numbered(numbers: impl Iterator<Item = u32>) -> Vec<String> {
    numbers.map(|n| format!("record {n}")).collect()
}

fn write_numbered(wal: &WalWriter, numbers: impl Iterator<Item = u32>) {
    for payload in numbered(numbers) {
        wal.write(entry(payload)).unwrap();
    }
}

const MODES: [FsyncMode; 4] =
    [FsyncMode::PerWrite, FsyncMode::PerBatch, FsyncMode::Timer(Duration::from_millis(1)), FsyncMode::None];

#[test]
fn records_come_back_in_order_over_segments_and_restarts() {
    for mode in MODES {
        let disk = SimDisk::new(1);
        for start in 0..3 {
            let (wal, report) = open(&disk, small(mode)).unwrap();
            assert_eq!(report.records, start * 50);
            assert_eq!(report.clean, start > 0);
            let start = start as u32;
            write_numbered(&wal, start * 50..start * 50 + 50);
            wal.shutdown().unwrap();
        }
        assert_eq!(payloads(&disk), numbered(0..150), "{mode}");
        assert!(disk.file_names().len() > 6, "the log was rotated: {:?}", disk.file_names());
    }
}

#[test]
fn numbers_are_dense_and_go_on_after_a_restart() {
    let disk = SimDisk::new(1);
    let mut expected = Lsn::ZERO;
    for _ in 0..4 {
        let (wal, report) = open(&disk, small(FsyncMode::PerBatch)).unwrap();
        assert_eq!(report.last_lsn, expected);
        for _ in 0..7 {
            expected = expected.next();
            assert_eq!(wal.write(entry("x")).unwrap().lsn, expected);
        }
    }
}

#[test]
fn each_mode_acknowledges_what_it_promises() {
    for mode in MODES {
        let disk = SimDisk::new(1);
        let (wal, _) = open(&disk, WalOptions { fsync: mode, ..small(mode) }).unwrap();
        let commit = wal.write(entry("kept")).unwrap();
        assert_eq!(commit.durability == Durability::Synced, mode.syncs_before_acknowledging());
        disk.power_off();
        drop(wal);
        // A process crash keeps everything in every mode.
        disk.restart();
        assert_eq!(payloads(&disk), ["kept"], "{mode} after a process crash");
        if mode.syncs_before_acknowledging() {
            disk.crash(5);
            assert_eq!(payloads(&disk), ["kept"], "{mode} after a power loss");
        }
    }
}

#[test]
fn sync_makes_the_weak_modes_durable() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let (wal, _) = open(&disk, small(FsyncMode::None)).unwrap();
        write_numbered(&wal, 0..20);
        wal.sync().unwrap();
        disk.power_off();
        drop(wal);
        disk.crash(seed);
        assert_eq!(payloads(&disk), numbered(0..20));
    }
}

#[test]
fn the_timer_syncs_when_nothing_more_is_written() {
    let disk = SimDisk::new(1);
    let metrics = Arc::new(StorageMetrics::new());
    let options = WalOptions { fsync: FsyncMode::Timer(Duration::from_millis(2)), ..WalOptions::default() };
    let (wal, _) = WalWriter::open(Arc::new(disk), options, Arc::clone(&metrics)).unwrap();
    wal.write(entry("idle")).unwrap();
    // Not a wait of so long: it ends when the timer has struck, and hangs when it never does.
    while metrics.snapshot().durable_lag() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(metrics.snapshot().sync_latency_us.count(), 1);
}

#[test]
fn waiting_records_share_a_sync_per_batch_and_not_per_write() {
    for (mode, syncs) in [(FsyncMode::PerBatch, 2), (FsyncMode::PerWrite, 9)] {
        let metrics = Arc::new(StorageMetrics::new());
        let (wal, _) = WalWriter::open(Arc::new(SimDisk::new(1)), small(mode), Arc::clone(&metrics)).unwrap();
        // The writer thread is held in the completion of the first record until the others wait.
        let (release, held) = mpsc::channel::<()>();
        wal.submit_with(entry("first"), move |_, _| held.recv().unwrap());
        while metrics.snapshot().queue_depth > 0 {
            std::thread::yield_now();
        }
        let handles: Vec<_> = (0..8).map(|n| wal.submit(entry(format!("record {n}")))).collect();
        release.send(()).unwrap();
        let lsns: Vec<u64> = handles.into_iter().map(|handle| handle.wait().unwrap().lsn.get()).collect();
        assert_eq!(lsns, (2..=9).collect::<Vec<_>>());
        assert_eq!(metrics.snapshot().sync_latency_us.count(), syncs, "{mode}");
    }
}

#[test]
fn completions_run_in_the_order_of_the_log() {
    let (wal, _) = open(&SimDisk::new(1), small(FsyncMode::PerBatch)).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let order = Arc::clone(&order);
                    wal.submit_with(entry("x"), move |_, commit| {
                        order.lock().unwrap().push(commit.unwrap().lsn.get());
                    });
                }
            });
        }
    });
    wal.shutdown().unwrap();
    assert_eq!(*order.lock().unwrap(), (1..=400).collect::<Vec<_>>());
}

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
                assert!(matches!(refused, StorageError::Poisoned { .. }), "{refused}");
            }
            assert!(matches!(wal.sync(), Err(StorageError::Poisoned { .. })));
            assert!(wal.shutdown().is_err());
            assert_eq!(disk.count(Operation::Sync), syncs, "no sync is tried after one that failed");
            assert_eq!(*failures.lock().unwrap(), 1);
            assert!(metrics.snapshot().poisoned);
            let found = payloads(&sim);
            assert!(found.len() >= acknowledged && found == numbered(0..found.len() as u32));
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
                Err(StorageError::DiskFull { .. }) => refused += 1,
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
fn a_directory_is_open_once() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(&disk, WalOptions::default()).unwrap();
    assert!(matches!(open(&disk, WalOptions::default()), Err(StorageError::Locked { .. })));
    wal.shutdown().unwrap();
    open(&disk, WalOptions::default()).unwrap();
}

#[test]
fn writes_after_shutdown_are_refused() {
    let (wal, _) = open(&SimDisk::new(1), WalOptions::default()).unwrap();
    wal.shutdown().unwrap();
    wal.shutdown().unwrap();
    assert!(matches!(wal.write(entry("late")), Err(StorageError::Closed)));
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
fn a_completion_can_be_awaited() {
    let (wal, _) = open(&SimDisk::new(1), small(FsyncMode::PerBatch)).unwrap();
    let waker = std::task::Waker::noop();
    let mut future = std::pin::pin!(std::future::IntoFuture::into_future(wal.submit(entry("x"))));
    let mut context = std::task::Context::from_waker(waker);
    let commit = loop {
        match std::future::Future::poll(future.as_mut(), &mut context) {
            std::task::Poll::Ready(commit) => break commit.unwrap(),
            std::task::Poll::Pending => std::thread::yield_now(),
        }
    };
    assert_eq!(commit.lsn, Lsn::FIRST);
}

#[test]
fn spares_are_used_and_leave_nothing_behind() {
    let disk = SimDisk::new(1);
    let metrics = Arc::new(StorageMetrics::new());
    let options = WalOptions { segment_bytes: SEGMENT_BYTES_MIN, ..WalOptions::default() };
    let (wal, _) = WalWriter::open(Arc::new(disk.clone()), options, Arc::clone(&metrics)).unwrap();
    let mut n = 0;
    while metrics.snapshot().rotations < 3 {
        wal.write(entry(format!("record {n}"))).unwrap();
        n += 1;
    }
    wal.shutdown().unwrap();
    assert_eq!(payloads(&disk), numbered(0..n));
    let names = disk.file_names();
    assert!(names.iter().all(|name| SegmentId::from_file_name(name).is_some()), "{names:?}");
}

#[test]
fn unknown_and_temporary_files_do_not_matter() {
    let disk = SimDisk::new(1);
    for name in ["notes.txt", "wal-1.log", "wal-00000000000000000009.log.tmp", "wal-spare.tmp", "x.tmp"] {
        disk.plant(name, b"not a segment".to_vec());
    }
    let (wal, _) = open(&disk, small(FsyncMode::PerBatch)).unwrap();
    write_numbered(&wal, 0..20);
    drop(wal);
    assert_eq!(payloads(&disk), numbered(0..20));
    assert!(
        disk.read("notes.txt").is_some() && disk.read("wal-1.log").is_some() && disk.read("x.tmp").is_some()
    );
    assert!(disk.read("wal-00000000000000000009.log.tmp").is_none());
}

/// What recovery finds in a log of which `damage` was done.
struct Found {
    payloads: BTreeMap<u64, Vec<u8>>,
    report: RecoveryReport,
}

fn recover(disk: &SimDisk, mode: RecoveryMode) -> StorageResult<Found> {
    let mut payloads = BTreeMap::new();
    let options = WalOptions { recovery: mode, ..small(FsyncMode::PerBatch) };
    let (_, report) =
        WalWriter::recover(Arc::new(disk.clone()), options, Arc::default(), |header, payload| {
            payloads.insert(header.lsn.get(), payload.to_vec());
            Ok::<_, StorageError>(())
        })?;
    Ok(Found { payloads, report })
}

/// A log of `n` records, as a process leaves it that is killed or, when `clean`, stopped.
fn log_of(n: u32, clean: bool) -> SimDisk {
    let disk = SimDisk::new(1);
    let (wal, _) = open(&disk, small(FsyncMode::PerBatch)).unwrap();
    write_numbered(&wal, 0..n);
    if !clean {
        disk.power_off();
    }
    drop(wal);
    disk.restart();
    disk
}

#[test]
fn a_torn_tail_is_cut_off_and_reported_and_corruption_is_told_from_it() {
    // The only segment: header, then each record on a sector of its own, since each was a group.
    let name = SegmentId::FIRST.file_name();
    for record in 0..3_usize {
        let disk = log_of(3, false);
        let mut bytes = disk.read(&name).unwrap();
        bytes[(1 + record) * SECTOR_LEN + 70] ^= 1;
        disk.plant(&name, bytes);
        let found = recover(&disk, RecoveryMode::SkipCorrupt).unwrap();
        let last = record == 2;
        assert_eq!(found.report.lost_records, u64::from(!last), "record {record}: {}", found.report);
        assert_eq!(found.report.torn_bytes > 0, last);
        assert_eq!(found.payloads.len(), 2);
        assert_eq!(found.report.last_lsn.get(), if last { 2 } else { 3 });
        let quarantined = disk.read(&format!("quarantine/{name}")).is_some();
        assert_eq!((quarantined, found.report.quarantined.len()), (!last, usize::from(!last)));
    }
}

#[test]
fn each_mode_tolerates_what_it_says() {
    let name = SegmentId::FIRST.file_name();
    let damaged = |record: usize| {
        let disk = log_of(3, false);
        let mut bytes = disk.read(&name).unwrap();
        bytes[(1 + record) * SECTOR_LEN + 3] ^= 1;
        disk.plant(&name, bytes);
        disk
    };
    for (record, mode, starts) in [
        (2, RecoveryMode::Strict, false),
        (2, RecoveryMode::TornTail, true),
        (2, RecoveryMode::SkipCorrupt, true),
        (0, RecoveryMode::Strict, false),
        (0, RecoveryMode::TornTail, false),
        (0, RecoveryMode::SkipCorrupt, true),
    ] {
        let disk = damaged(record);
        let before = disk.file_names();
        let outcome = recover(&disk, mode);
        assert_eq!(outcome.is_ok(), starts, "record {record} in mode {mode}");
        if let Err(error) = outcome {
            assert!(matches!(error, StorageError::RecoveryRefused { .. }), "{error}");
            assert_eq!(disk.file_names(), before, "a refused recovery changes nothing");
        }
    }
    for mode in [RecoveryMode::Strict, RecoveryMode::TornTail, RecoveryMode::SkipCorrupt] {
        assert_eq!(recover(&log_of(30, true), mode).unwrap().payloads.len(), 30);
    }
}

#[test]
fn too_much_damage_stops_the_opening() {
    let disk = log_of(40, true);
    for name in disk.file_names().into_iter().skip(1).take(6) {
        let mut bytes = disk.read(&name).unwrap();
        bytes[SECTOR_LEN..].fill(0);
        disk.plant(&name, bytes);
    }
    let error = recover(&disk, RecoveryMode::SkipCorrupt).map(|found| found.report).unwrap_err();
    assert!(matches!(error, StorageError::RecoveryRefused { .. }), "{error}");
}

#[test]
fn a_log_that_cannot_be_read_is_never_taken_for_an_empty_one() {
    let disk = log_of(3, true);
    for name in disk.file_names() {
        let mut bytes = disk.read(&name).unwrap();
        bytes[..SECTOR_LEN].fill(0xaa);
        disk.plant(&name, bytes);
    }
    assert!(matches!(recover(&disk, RecoveryMode::SkipCorrupt), Err(StorageError::RecoveryRefused { .. })));
}

#[test]
fn another_format_version_is_refused_by_its_number() {
    let disk = log_of(3, true);
    let name = SegmentId::FIRST.file_name();
    let mut bytes = disk.read(&name).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..SECTOR_LEN - 4]);
    bytes[SECTOR_LEN - 4..SECTOR_LEN].copy_from_slice(&crc.to_le_bytes());
    disk.plant(&name, bytes);
    let error = recover(&disk, RecoveryMode::SkipCorrupt).map(|found| found.report).unwrap_err();
    assert!(matches!(error, StorageError::UnsupportedFormat { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn missing_swapped_foreign_and_wiped_segments_are_never_silent() {
    let original = log_of(30, true);
    let names = original.file_names();
    let contents: BTreeMap<u64, Vec<u8>> = recover(&original, RecoveryMode::Strict).unwrap().payloads;
    let foreign = log_of(30, true);
    let copy = || {
        let disk = SimDisk::new(2);
        names.iter().for_each(|name| disk.plant(name, original.read(name).unwrap()));
        disk
    };
    let mut cases: Vec<(String, SimDisk)> = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let missing = copy();
        missing.destroy(name);
        cases.push((format!("{name} missing"), missing));
        let wiped = copy();
        wiped.plant(name, vec![0; original.read(name).unwrap().len()]);
        cases.push((format!("{name} wiped"), wiped));
        let emptied = copy();
        emptied.plant(name, Vec::new());
        cases.push((format!("{name} empty"), emptied));
        let replaced = copy();
        replaced.plant(name, foreign.read(name).unwrap());
        cases.push((format!("{name} foreign"), replaced));
        let swapped = copy();
        let other = &names[(i + 1) % names.len()];
        swapped.plant(name, original.read(other).unwrap());
        swapped.plant(other, original.read(name).unwrap());
        cases.push((format!("{name} and {other} swapped"), swapped));
    }
    for (case, disk) in cases {
        let newest_is_gone = !disk.file_names().contains(names.last().unwrap());
        match recover(&disk, RecoveryMode::SkipCorrupt) {
            Err(StorageError::RecoveryRefused { .. }) => {}
            Err(other) => panic!("{case}: {other}"),
            Ok(found) => {
                for (lsn, payload) in &found.payloads {
                    assert_eq!(payload, &contents[lsn], "{case}: record {lsn}");
                }
                let missing = (contents.len() - found.payloads.len()) as u64;
                // Nothing in a log tells of a newest segment that was taken away whole.
                assert!(newest_is_gone || found.report.lost_records == missing, "{case}: {}", found.report);
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_detected_or_harmless() {
    let original = {
        let disk = SimDisk::new(1);
        let (wal, _) = open(&disk, small(FsyncMode::PerBatch)).unwrap();
        write_numbered(&wal, 0..5);
        // A group of several records, whose padding is inside the group.
        let handles: Vec<_> = (5..9).map(|n| wal.submit(entry(format!("record {n}")))).collect();
        handles.into_iter().for_each(|handle| assert!(handle.wait().is_ok()));
        drop(wal);
        let (wal, _) = open(&disk, small(FsyncMode::PerBatch)).unwrap();
        write_numbered(&wal, 9..11);
        drop(wal);
        disk
    };
    let contents = recover(&copy_of(&original), RecoveryMode::Strict).unwrap().payloads;
    assert_eq!(contents.len(), 11);
    let (mut flips, mut refused, mut reported, mut harmless) = (0, 0, 0, 0);
    for name in original.file_names() {
        let bytes = original.read(&name).unwrap();
        // The zeros made ahead are all alike: the first 1024 bits of them stand for all.
        let used = bytes.len() - bytes.iter().rev().take_while(|&&byte| byte == 0).count();
        for bit in 0..(used + 128).min(bytes.len()) * 8 {
            let disk = copy_of(&original);
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            disk.plant(&name, flipped);
            flips += 1;
            match recover(&disk, RecoveryMode::SkipCorrupt) {
                Err(_) => refused += 1,
                Ok(found) => {
                    for (lsn, payload) in &found.payloads {
                        assert_eq!(payload, &contents[lsn], "{name} bit {bit}: another payload");
                    }
                    let missing = (contents.len() - found.payloads.len()) as u64;
                    assert_eq!(found.report.lost_records, missing, "{name} bit {bit}: {}", found.report);
                    let silent = found.report.damaged_ranges == 0 && found.report.torn_bytes == 0;
                    assert!(missing == 0 || !silent, "{name} bit {bit}");
                    if silent { harmless += 1 } else { reported += 1 }
                }
            }
        }
    }
    println!("{flips} flips: {refused} refused, {reported} reported, {harmless} harmless");
    assert!(reported > harmless && flips > 10_000);
}

fn copy_of(disk: &SimDisk) -> SimDisk {
    let copy = SimDisk::new(2);
    disk.file_names().iter().for_each(|name| copy.plant(name, disk.read(name).unwrap()));
    copy
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
        assert!(report.read_only.is_some());
        let refused = wal.write(entry("x")).unwrap_err();
        assert!(matches!(refused, StorageError::ReadOnly { .. }), "{refused}");
        drop(wal);
        assert_eq!(open(&sim, small(FsyncMode::PerBatch)).unwrap().1.records, 5);
    }
}

#[test]
fn a_reader_sees_damage_in_its_place_and_goes_on() {
    let disk = log_of(3, true);
    let name = SegmentId::FIRST.file_name();
    let mut bytes = disk.read(&name).unwrap();
    bytes[2 * SECTOR_LEN + 64] ^= 0x80;
    disk.plant(&name, bytes);
    let outcomes: Vec<_> = WalReader::open(Arc::new(disk)).iter().map(|r| r.map(|r| r.lsn().get())).collect();
    assert!(matches!(&outcomes[..], [Ok(1), Err(StorageError::Corrupt { .. }), Ok(3)]), "{outcomes:?}");
}

#[test]
fn fsync_modes_are_written_as_they_are_read() {
    for mode in ["per-write", "per-batch", "timer=50ms", "none"] {
        assert_eq!(mode.parse::<FsyncMode>().unwrap().to_string(), mode);
    }
    assert_eq!("timer=2s".parse(), Ok(FsyncMode::Timer(Duration::from_secs(2))));
    for wrong in ["", "always", "timer", "timer=", "timer=0ms", "timer=-1ms", "timer=50", "timer=9999999999s"]
    {
        assert!(wrong.parse::<FsyncMode>().unwrap_err().contains("expected"), "{wrong}");
    }
}

#[test]
fn the_bytes_of_format_version_1_stay_what_they_are() {
    let place = record::Place {
        log_id: 0x1122_3344_5566_7788,
        segment: SegmentId::FIRST,
        lsn: Lsn::new(2),
        synced_lsn: Lsn::FIRST,
        time_us: 3,
        previous_crc: 4,
    };
    let mut bytes = Vec::new();
    record::encode(&mut bytes, &place, WalEntryType::MemoryStore, b"payload");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN_RECORD);
    let header = segment::SegmentHeader {
        log_id: 0x1122_3344_5566_7788,
        id: SegmentId::FIRST,
        first_lsn: Lsn::FIRST,
        previous_end: 5,
        previous_crc: 6,
        time_us: 7,
    };
    let sector = header.encode();
    let hex: String = sector.iter().map(|byte| format!("{byte:02x}")).collect();
    let (start, end) = GOLDEN_SEGMENT;
    assert!(
        hex.starts_with(start) && hex.ends_with(end) && hex[start.len()..1016].trim_matches('0').is_empty(),
        "{hex}"
    );
    assert_eq!(segment::SegmentHeader::decode(&sector), Ok(header));
}

const GOLDEN_RECORD: &str = "6552656301010000020000000000000001000000000000008877665544332211030000000000000007000000070000007069e3f40400000001000000a329d9777061796c6f6164000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
/// The fields and the checksum; all between is zero.
const GOLDEN_SEGMENT: (&str, &str) = (
    "454e47524d57414c01000000000000008877665544332211010000000000000001000000000000000500000000000000070000000000000006000000",
    "30643144",
);
