//! What recovery makes of damage.

use super::*;

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
fn so_much_damage_is_tolerated_and_no_more() {
    for (total, lost, starts) in
        [(40, 8, true), (40, 9, false), (8, 4, true), (8, 5, false), (1000, 10, true), (1000, 11, false)]
    {
        let disk = SimDisk::new(1);
        let (wal, _) =
            open(&disk, WalOptions { segment_bytes: 1 << 20, ..small(FsyncMode::PerBatch) }).unwrap();
        write_numbered(&wal, 0..total);
        drop(wal);
        let name = SegmentId::FIRST.file_name();
        let mut bytes = disk.read(&name).unwrap();
        bytes[SECTOR_LEN..(1 + lost) * SECTOR_LEN].fill(0);
        disk.plant(&name, bytes);
        match recover(&disk, RecoveryMode::SkipCorrupt) {
            Ok(found) => assert!(starts && found.report.lost_records == lost as u64, "{lost} of {total}"),
            Err(error) => assert!(!starts, "{lost} of {total}: {error}"),
        }
    }
}

#[test]
fn a_log_that_cannot_be_read_is_never_taken_for_an_empty_one() {
    let disk = log_of(3, true);
    for name in disk.file_names() {
        let mut bytes = disk.read(&name).unwrap();
        bytes[..SECTOR_LEN].fill(0xaa);
        disk.plant(&name, bytes);
    }
    let segments = disk.file_names().len() as u64;
    let error = recover(&disk, RecoveryMode::SkipCorrupt).map(|found| found.report).unwrap_err();
    let StorageError::RecoveryRefused { report, .. } = error else { panic!("{error}") };
    assert_eq!(report.segments, segments);
}

#[test]
fn a_newest_segment_that_is_wiped_stops_the_opening() {
    let disk = log_of(3, true);
    let name = SegmentId::FIRST.next().file_name();
    disk.plant(&name, vec![0; disk.read(&name).unwrap().len()]);
    let error = recover(&disk, RecoveryMode::SkipCorrupt).map(|found| found.report).unwrap_err();
    let StorageError::RecoveryRefused { report, reason } = error else { panic!("{error}") };
    assert!(report.segments == 2 && reason.contains(&name), "{reason}");
}

#[test]
fn missing_swapped_foreign_and_wiped_segments_are_never_silent() {
    let original = log_of(30, true);
    let names = original.file_names();
    let contents: BTreeMap<u64, Vec<u8>> = recover(&original, RecoveryMode::Strict).unwrap().payloads;
    let foreign = log_of(30, true);
    let copy = || {
        let disk = SimDisk::new(2);
        for name in &names {
            disk.plant(name, original.read(name).unwrap());
        }
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
        for handle in handles {
            handle.wait().unwrap();
        }
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
                    let hits_header = bit / 8 < SECTOR_LEN;
                    assert!(missing <= u64::from(!hits_header), "{name} bit {bit} cost {missing} records");
                    if silent { harmless += 1 } else { reported += 1 }
                }
            }
        }
    }
    println!("{flips} flips: {refused} refused, {reported} reported, {harmless} harmless");
    assert!(reported > harmless && flips > 10_000);
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
fn a_number_that_no_log_reaches_is_damage_whatever_its_checksum_says() {
    let name = SegmentId::FIRST.file_name();
    // The record's own number, the promise in it; the segment's first number, the end of the one before.
    let fields = [(SECTOR_LEN, 8, 64), (SECTOR_LEN, 16, 64), (0, 32, SECTOR_LEN), (0, 40, SECTOR_LEN)];
    for (block, field, len) in fields {
        let disk = log_of(3, false);
        let mut bytes = disk.read(&name).unwrap();
        bytes[block + field..block + field + 8].fill(0xff);
        let crc = crc32c::crc32c(&bytes[block..block + len - 4]);
        bytes[block + len - 4..block + len].copy_from_slice(&crc.to_le_bytes());
        disk.plant(&name, bytes);
        match recover(&disk, RecoveryMode::SkipCorrupt) {
            Ok(found) => {
                assert_eq!((found.payloads.len(), found.report.lost_records), (2, 1), "field {field}");
            }
            // Without the only header nobody knows which log it is.
            Err(error) => {
                assert!(block == 0 && matches!(error, StorageError::RecoveryRefused { .. }), "{error}");
            }
        }
    }
}
