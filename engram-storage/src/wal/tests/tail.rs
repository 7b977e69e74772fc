//! The end of a log that nobody stopped: what is torn, what is copied, and what only looks like either.

use super::*;

/// Segments that hold whole logs, so that a test knows where its records are.
fn large() -> WalOptions {
    WalOptions { segment_bytes: 64 << 20, ..small(FsyncMode::None) }
}

/// From the end of a short record to the end of its sector, which the next group begins.
const REST: u64 = (SECTOR_LEN - 2 * HEADER_LEN) as u64;

fn kill(disk: &SimDisk, wal: WalWriter) {
    disk.power_off();
    drop(wal);
    disk.restart();
}

fn change(disk: &SimDisk, segment: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let name = format!("wal-{segment:020}.log");
    let mut bytes = disk.read(&name).unwrap();
    change(&mut bytes);
    disk.plant(&name, bytes);
}

fn records(disk: &SimDisk) -> Vec<WalRecord> {
    WalReader::open(Arc::new(disk.clone())).iter().map(Result::unwrap).collect()
}

/// A log of records of these lengths that no sync has covered: the first alone, the others as one group.
fn unsynced(lengths: &[usize]) -> SimDisk {
    let disk = SimDisk::new(1);
    let (wal, _) = open(&disk, large()).unwrap();
    let mut entries = (b'a'..).zip(lengths).map(|(byte, &len)| entry(vec![byte; len]));
    let first = entries.next().unwrap();
    write_as_groups(&wal, first, entries.collect());
    kill(&disk, wal);
    disk
}

#[test]
fn a_copied_tail_is_what_it_was_and_proven() {
    for lengths in [&[3][..], &[3, 700, 64], &[5, 600_000, 700_000, 800_000]] {
        let disk = unsynced(lengths);
        let before = records(&disk);
        let (wal, report) = open(&disk, large()).unwrap();
        assert_eq!(report.copied_records, lengths.len() as u64);
        kill(&disk, wal);
        let copies = records(&disk);
        assert_eq!(copies.len(), before.len());
        for (copy, original) in copies.iter().zip(&before) {
            assert_eq!((copy.lsn(), &copy.payload), (original.lsn(), &original.payload));
            assert_eq!(copy.header.time_us, original.header.time_us);
            assert_eq!(copy.segment.get(), 2);
        }
        for pair in copies.windows(2) {
            assert_eq!(pair[1].header.previous_crc, pair[0].header.header_crc);
        }
        let used =
            SECTOR_LEN + lengths.iter().map(|len| HEADER_LEN + len.next_multiple_of(64)).sum::<usize>();
        let used = (used + HEADER_LEN).next_multiple_of(SECTOR_LEN); // with its seal
        let bytes = disk.read(&copies[0].segment.file_name()).unwrap();
        assert_eq!(bytes.len(), used.max(SEGMENT_BYTES_MIN.try_into().unwrap()));
        let (_, report) = open(&disk, large()).unwrap();
        assert_eq!((report.copied_records, report.torn_bytes), (0, 0), "{lengths:?}");
    }
}

#[test]
fn the_last_copy_cannot_go_missing_unnoticed() {
    let disk = unsynced(&[3, 3, 3]);
    let (wal, _) = open(&disk, large()).unwrap();
    kill(&disk, wal);
    let last = records(&disk)[2].offset;
    change(&disk, 2, |bytes| bytes[usize::try_from(last).unwrap() + HEADER_LEN] ^= 1);
    let found = recover(&disk, RecoveryMode::SkipCorrupt).unwrap();
    assert_eq!((found.payloads.len(), found.report.lost_records, found.report.last_lsn.get()), (2, 1, 3));
}

#[test]
fn a_segment_names_the_last_record_before_it() {
    let disk = unsynced(&[3, 3, 3]);
    let crc = |disk: &SimDisk, lsn: usize| records(disk)[lsn - 1].header.header_crc;
    let previous_crc = |disk: &SimDisk, segment: u64| {
        let bytes = disk.read(&format!("wal-{segment:020}.log")).unwrap();
        segment::SegmentHeader::decode(&bytes[..SECTOR_LEN]).unwrap().previous_crc
    };
    let (wal, _) = open(&disk, large()).unwrap();
    kill(&disk, wal);
    // Nothing was proven before the copies.
    assert_eq!(previous_crc(&disk, 2), 0);
    let (wal, _) = open(&disk, large()).unwrap();
    assert_eq!(previous_crc(&disk, 3), crc(&disk, 3));
    drop(wal);
}

#[test]
fn a_file_that_ends_anywhere_is_torn_by_what_is_there() {
    for cut in [1, 30, 63, 64, 65, 70] {
        let disk = log_of(3, false);
        change(&disk, 1, |bytes| bytes.truncate(3 * SECTOR_LEN + cut));
        let refused = recover(&copy_of(&disk), RecoveryMode::Strict).map(|found| found.report).unwrap_err();
        assert!(matches!(refused, StorageError::RecoveryRefused { .. }), "{refused}");
        let report = recover(&disk, RecoveryMode::TornTail).unwrap().report;
        assert_eq!((report.records, report.torn_bytes), (2, REST + cut as u64), "{report}");
    }
    for zeros in [1, 30, 65, 512 + 1, 512 + 70] {
        let disk = log_of(3, false);
        change(&disk, 1, |bytes| bytes.resize(4 * SECTOR_LEN + zeros, 0));
        let report = recover(&copy_of(&disk), RecoveryMode::Strict).unwrap().report;
        assert_eq!((report.records, report.torn_bytes), (3, 0), "{report}");
        change(&disk, 1, |bytes| *bytes.last_mut().unwrap() = 1);
        let report = recover(&disk, RecoveryMode::TornTail).unwrap().report;
        assert_eq!((report.records, report.torn_bytes), (3, REST + zeros as u64), "{report}");
    }
}

#[test]
fn a_torn_header_is_torn_up_to_where_its_record_ended() {
    let disk = log_of(3, false);
    change(&disk, 1, |bytes| bytes[3 * SECTOR_LEN + 3] ^= 1);
    let report = recover(&disk, RecoveryMode::TornTail).unwrap().report;
    assert_eq!(report.torn_bytes, REST + 2 * HEADER_LEN as u64, "{report}");
}

#[test]
fn a_group_whose_first_sector_is_missing_is_torn_as_a_whole() {
    let disk = unsynced(&[3, 448, 448, 448]);
    change(&disk, 1, |bytes| bytes[2 * SECTOR_LEN..3 * SECTOR_LEN].fill(0));
    let report = recover(&disk, RecoveryMode::TornTail).unwrap().report;
    assert_eq!((report.records, report.torn_bytes), (1, 3 * SECTOR_LEN as u64), "{report}");
}

#[test]
fn a_flipped_padding_bit_in_the_last_group_loses_nothing() {
    for record in 0..3 {
        let disk = unsynced(&[3, 3, 3]);
        let at = usize::try_from(records(&disk)[record].offset).unwrap() + HEADER_LEN + 20;
        change(&disk, 1, |bytes| bytes[at] ^= 1);
        let plan = WalReader::open(Arc::new(disk.clone())).plan_recovery(RecoveryMode::SkipCorrupt).unwrap();
        for start in 0..2 {
            let found = recover(&disk, RecoveryMode::SkipCorrupt).unwrap();
            assert_eq!(found.payloads.len(), 3, "record {record}, start {start}: {}", found.report);
            assert_eq!((found.report.lost_records, found.report.torn_bytes), (0, 0), "{}", found.report);
            if start == 0 {
                assert_eq!(found.report.quarantined, plan.report.quarantined);
            }
        }
    }
}

#[test]
fn a_damaged_header_of_a_segment_that_was_only_begun_loses_nothing() {
    let disk = log_of(3, true);
    let (wal, _) = open(&disk, large()).unwrap();
    kill(&disk, wal);
    change(&disk, 3, |bytes| bytes[100] ^= 1);
    let found = recover(&disk, RecoveryMode::TornTail).unwrap();
    assert_eq!((found.payloads.len(), found.report.lost_records), (3, 0));
    assert_eq!(found.report.damaged_ranges, 1);
}

#[test]
fn a_large_wiped_record_hides_nothing_behind_it() {
    for len in [900_000, (1 << 20) - 64, 1 << 20, 2_100_000, 4_000_000] {
        let disk = SimDisk::new(1);
        let (wal, _) = open(&disk, large()).unwrap();
        write_as_groups(&wal, entry("before"), vec![entry(vec![7; len]), entry("behind")]);
        drop(wal);
        change(&disk, 1, |bytes| bytes[2 * SECTOR_LEN..][..HEADER_LEN + len].fill(0));
        let found = recover(&disk, RecoveryMode::SkipCorrupt).unwrap();
        assert_eq!(found.payloads.keys().copied().collect::<Vec<_>>(), [1, 3], "{len}: {}", found.report);
        assert_eq!((found.report.lost_records, found.report.damage[0].offset), (1, 1024), "{len}");
    }
}

#[test]
fn what_lies_behind_the_end_of_a_segment_is_no_part_of_its_damage() {
    let disk = log_of(3, true);
    change(&disk, 1, |bytes| {
        bytes[3 * SECTOR_LEN..4 * SECTOR_LEN].fill(0); // the last record
        bytes.resize(7 * SECTOR_LEN, 0);
        bytes[6 * SECTOR_LEN] = 1; // what a refused group could have left
    });
    let found = WalReader::open(Arc::new(disk.clone())).inspect().unwrap();
    let [damage] = &found.damage[..] else { panic!("{found:?}") };
    assert_eq!((damage.damage.offset, damage.damage.end), (1536, 2048));
    let repaired = WalRepair::new(Arc::new(disk)).and_then(WalRepair::run).unwrap();
    assert!(repaired.is_sound() && repaired.declared_lost == 1, "{repaired:?}");
}
