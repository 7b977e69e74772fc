//! Damage that meets something else: an idle segment, a torn group, a full disk, another recovery.

use super::*;

/// Segments that hold whole logs, so that a test knows where its records are.
fn large() -> WalOptions {
    WalOptions { segment_bytes: 1 << 20, ..small(FsyncMode::PerBatch) }
}

fn name(segment: usize) -> String {
    format!("wal-{segment:020}.log")
}

fn flip(disk: &SimDisk, segment: usize, offset: usize) {
    let mut bytes = disk.read(&name(segment)).unwrap();
    bytes[offset] ^= 1;
    disk.plant(&name(segment), bytes);
}

fn kill(disk: &SimDisk, wal: WalWriter) {
    disk.power_off();
    drop(wal);
    disk.restart();
}

#[test]
fn a_damaged_header_of_an_idle_segment_loses_nothing() {
    for starts in 0..3 {
        for segment in 1..=starts + 2 {
            let disk = SimDisk::new(1);
            let (wal, _) = open(&disk, large()).unwrap();
            write_numbered(&wal, 0..20);
            drop(wal);
            for _ in 0..=starts {
                drop(open(&disk, large()).unwrap());
            }
            flip(&disk, segment, 100);
            for _ in 0..2 {
                let found = recover(&disk, RecoveryMode::TornTail).unwrap();
                assert_eq!((found.payloads.len(), found.report.lost_records), (20, 0), "segment {segment}");
                assert!(found.report.damaged_ranges > 0);
            }
        }
    }
}

#[test]
fn a_flipped_padding_bit_beside_a_torn_group_loses_nothing() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(&disk, large()).unwrap();
    write_numbered(&wal, 0..10);
    write_as_groups(&wal, entry("record 10"), vec![entry(vec![b'u'; 448]); 3]);
    kill(&disk, wal);
    // The power cut took the first sector of the last group, and a bit of the padding before it is flipped.
    let mut bytes = disk.read(&name(1)).unwrap();
    bytes[12 * SECTOR_LEN..13 * SECTOR_LEN].fill(0);
    bytes[11 * SECTOR_LEN + 120] ^= 1;
    disk.plant(&name(1), bytes);
    for _ in 0..3 {
        let found = recover(&disk, RecoveryMode::TornTail).unwrap();
        assert_eq!((found.payloads.len(), found.report.lost_records), (11, 0), "{}", found.report);
    }
}

#[test]
fn a_damaged_record_beside_a_large_torn_group_is_one_lost_record() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(&disk, large()).unwrap();
    write_numbered(&wal, 0..30);
    write_as_groups(&wal, entry("record 30"), vec![entry(vec![b'u'; 448]); 50]);
    kill(&disk, wal);
    let mut bytes = disk.read(&name(1)).unwrap();
    // Record 31, which the promise of those behind it covers, and all of those but the last.
    bytes[31 * SECTOR_LEN..81 * SECTOR_LEN].fill(0);
    disk.plant(&name(1), bytes);
    let found = recover(&disk, RecoveryMode::SkipCorrupt).unwrap();
    assert_eq!((found.payloads.len(), found.report.lost_records), (30, 1), "{}", found.report);
    assert_eq!(found.report.last_lsn.get(), 31);
}

#[test]
fn a_second_recovery_finds_what_the_first_did() {
    let sim = SimDisk::new(1);
    let disk = FaultyDisk::new(Arc::new(sim.clone()));
    let options = WalOptions { segment_bytes: 24 * SECTOR_LEN as u64, ..small(FsyncMode::PerBatch) };
    let (wal, _) = WalWriter::open(Arc::new(disk.clone()), options, Arc::default()).unwrap();
    write_numbered(&wal, 0..20);
    write_as_groups(&wal, entry("record 20"), vec![entry("record 21"), entry("record 22")]);
    write_numbered(&wal, 23..24);
    while sim.read(&name(2)).is_none() {
        // The segment is begun, and the first record in it refused.
        disk.fail_nth(Operation::Write, 2, Fault::InputOutput);
        wal.write(entry("refused")).unwrap_err();
    }
    drop(wal);
    flip(&sim, 2, 100); // its header
    flip(&sim, 1, 22 * SECTOR_LEN + 70); // a record whose promise stands in the last group alone
    let first = recover(&sim, RecoveryMode::SkipCorrupt).unwrap();
    let second = recover(&sim, RecoveryMode::SkipCorrupt).unwrap();
    assert_eq!(first.payloads, second.payloads);
    assert_eq!((first.report.lost_records, second.report.lost_records), (1, 1));
}

#[test]
fn a_segment_that_is_restored_fits_again() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(&disk, large()).unwrap();
    write_numbered(&wal, 0..20);
    drop(wal);
    let backup = disk.read(&name(1)).unwrap();
    flip(&disk, 1, 20 * SECTOR_LEN + 70);
    let (wal, report) = open(&disk, large()).unwrap();
    assert_eq!(report.lost_records, 1);
    write_numbered(&wal, 20..25);
    drop(wal);
    disk.plant(&name(1), backup);
    let found = recover(&disk, RecoveryMode::TornTail).unwrap();
    assert_eq!((found.payloads.len(), found.report.lost_records), (25, 0), "{}", found.report);
}

#[test]
fn another_logs_segment_is_never_taken_for_ours() {
    let make = |what: &str, records: u32| {
        let disk = SimDisk::new(1);
        let (wal, _) = open(&disk, large()).unwrap();
        (0..records).for_each(|n| drop(wal.write(entry(format!("{what} {n}"))).map(drop)));
        drop(wal);
        drop(open(&disk, large()).unwrap());
        disk
    };
    let (ours, theirs) = (make("ours", 20), make("theirs", 5));
    let with_theirs = |segment| {
        let disk = copy_of(&ours);
        disk.plant(&name(segment), theirs.read(&name(segment)).unwrap());
        recover(&disk, RecoveryMode::SkipCorrupt)
    };
    let refused = with_theirs(1).map(|found| found.report.records).unwrap_err();
    assert!(matches!(refused, StorageError::RecoveryRefused { .. }), "{refused}");
    // The second was begun by the stop, and holds no record.
    let found = with_theirs(2).unwrap();
    assert_eq!((found.payloads.len(), found.report.lost_records, found.report.damaged_ranges), (20, 0, 2));
    assert!(found.payloads.values().all(|payload| payload.starts_with(b"ours")));
}

#[test]
fn a_wiped_header_over_wiped_records_stops_the_opening() {
    let disk = SimDisk::new(1);
    drop(open(&disk, large()).unwrap());
    let (wal, _) = open(&disk, large()).unwrap();
    write_numbered(&wal, 0..20);
    drop(wal);
    let mut bytes = disk.read(&name(2)).unwrap();
    bytes[100..].fill(0);
    disk.plant(&name(2), bytes);
    let error = recover(&disk, RecoveryMode::SkipCorrupt).map(|found| found.report).unwrap_err();
    let StorageError::RecoveryRefused { report, .. } = error else { panic!("{error}") };
    assert_eq!(report.segments, 3);
}

#[test]
fn what_was_refused_stays_away_where_no_segment_can_be_made() {
    let mut refusals = 0;
    for room in (1024..8192).step_by(128) {
        let disk = SimDisk::new(room);
        let (wal, _) = open(&disk, large()).unwrap();
        disk.set_faults(crate::disk::SimFaults { capacity_bytes: 65_536 + room, ..Default::default() });
        (0..120).for_each(|_| drop(wal.write(entry(vec![b'a'; 440])).map(drop)));
        let others = (0..30).map(|n| entry(format!("refused {n}").repeat(40))).collect();
        let outcomes = write_as_groups(&wal, entry("last"), others);
        let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        kill(&disk, wal);
        disk.set_faults(crate::disk::SimFaults::default());
        assert_eq!(payloads(&disk).len(), 121 + 30 - refused, "room {room}");
        refusals += refused;
        let clean = recover(&disk, RecoveryMode::Strict).map(|found| found.report.torn_bytes);
        assert_eq!(clean.unwrap(), 0, "what a seal cut off was not torn");
    }
    assert!(refusals > 500, "{refusals}");
}

#[test]
fn numbers_out_of_this_world_are_none_of_ours() {
    let disk = log_of(5, true);
    disk.plant(&format!("wal-{}.log", u64::MAX), vec![7; 1024]);
    assert_eq!(recover(&disk, RecoveryMode::Strict).unwrap().payloads.len(), 5);
    let (wal, _) = open(&disk, small(FsyncMode::Timer(Duration::MAX))).unwrap();
    wal.write(entry("an interval without an end")).unwrap();
}

#[test]
fn a_log_is_locked_whatever_becomes_of_the_lock_file() {
    let directory = tempfile::tempdir().unwrap();
    let open = || WalWriter::new(directory.path(), FsyncMode::PerBatch, Arc::default());
    let wal = open().unwrap();
    let holder = || match open() {
        Err(StorageError::Locked { holder, .. }) => holder,
        other => panic!("{other:?}"),
    };
    assert_eq!(holder(), Some(std::process::id().to_string()));
    std::fs::remove_file(directory.path().join("LOCK")).unwrap();
    assert_eq!(holder(), None);
    drop(wal);
    open().unwrap();
}

#[test]
fn a_misdirected_copy_of_an_older_record_is_damage() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(&disk, large()).unwrap();
    write_numbered(&wal, 0..6);
    drop(wal);
    let mut bytes = disk.read(&name(1)).unwrap();
    // Record 2 where record 4 was.
    bytes.copy_within(2 * SECTOR_LEN..3 * SECTOR_LEN, 4 * SECTOR_LEN);
    disk.plant(&name(1), bytes);
    let mut replayed = Vec::new();
    let (_, report) = WalWriter::recover(Arc::new(disk), large(), Arc::default(), |header, _| {
        replayed.push(header.lsn.get());
        Ok::<_, StorageError>(())
    })
    .unwrap();
    assert_eq!((replayed, report.lost_records), (vec![1, 2, 3, 5, 6], 1));
}
