//! Every loss of whole segments, and what a repair makes of it.

use super::*;

/// What became of the segments of `original`, by name.
fn cases(original: &SimDisk) -> Vec<(String, SimDisk)> {
    let names = original.file_names();
    let foreign = log_of(30, true);
    let mut cases = Vec::new();
    let mut case = |what: String, change: &dyn Fn(&SimDisk)| {
        let disk = copy_of(original);
        change(&disk);
        cases.push((what, disk));
    };
    for (i, name) in names.iter().enumerate() {
        case(format!("{name} missing"), &|disk| disk.destroy(name));
        case(format!("{name} foreign"), &|disk| disk.plant(name, foreign.read(name).unwrap()));
        case(format!("{name} wiped"), &|disk| disk.plant(name, vec![0; original.read(name).unwrap().len()]));
        case(format!("{name} empty"), &|disk| disk.plant(name, Vec::new()));
        let Some(next) = names.get(i + 1) else { continue };
        case(format!("{name} and the next swapped"), &|disk| {
            disk.plant(name, original.read(next).unwrap());
            disk.plant(next, original.read(name).unwrap());
        });
        case(format!("{name} and the next missing"), &|disk| {
            disk.destroy(name);
            disk.destroy(next);
        });
        case(format!("{name} missing, the next one foreign"), &|disk| {
            disk.destroy(name);
            disk.plant(next, foreign.read(next).unwrap());
        });
        case(format!("{name} missing, the next one's header damaged"), &|disk| {
            disk.destroy(name);
            let mut bytes = original.read(next).unwrap();
            bytes[100] ^= 1;
            disk.plant(next, bytes);
        });
        case(format!("{name} missing, the next one's first record damaged"), &|disk| {
            disk.destroy(name);
            let mut bytes = original.read(next).unwrap();
            bytes[SECTOR_LEN + HEADER_LEN] ^= 1;
            disk.plant(next, bytes);
        });
        case(format!("{name} cut off behind its header, the next one's header damaged"), &|disk| {
            disk.plant(name, original.read(name).unwrap()[..SECTOR_LEN].to_vec());
            let mut bytes = original.read(next).unwrap();
            bytes[100] ^= 1;
            disk.plant(next, bytes);
        });
    }
    cases
}

#[test]
fn a_repair_closes_what_it_can_and_says_what_it_cannot() {
    let original = log_of(30, true);
    let contents = recover(&copy_of(&original), RecoveryMode::Strict).unwrap().payloads;
    let (mut repaired, mut refused) = (0, Vec::new());
    for (case, disk) in cases(&original) {
        let before = disk.file_names();
        let Ok(inspection) = WalReader::open(Arc::new(disk.clone())).inspect() else { continue };
        let repair = match WalRepair::new(Arc::new(disk.clone())) {
            Ok(repair) => repair,
            Err(error) => {
                assert!(matches!(error, StorageError::Unrepairable { .. }), "{case}: {error}");
                assert_eq!(disk.file_names(), before, "{case}: nothing was changed");
                refused.push(case);
                continue;
            }
        };
        assert_eq!(repair.inspection(), &inspection, "{case}");
        let declared: u64 = repair.steps().map(|step| step.declared_lost).sum();
        assert_eq!(declared, inspection.lost_records, "{case}: {:?}", repair.steps().collect::<Vec<_>>());
        let after = repair.run().unwrap();
        assert!(after.is_sound(), "{case}: {after:?}");
        assert_eq!(after.declared_lost, inspection.lost_records, "{case}");
        let found = recover(&disk, RecoveryMode::Strict).unwrap();
        assert_eq!(found.payloads.len() as u64, inspection.records, "{case}");
        assert!(found.payloads.iter().all(|(lsn, payload)| &contents[lsn] == payload), "{case}");
        repaired += 1;
    }
    // Where the bytes are gone that records were in, there is no room for a gap.
    let no_room = |case: &String| ["empty", "swapped", "cut off"].iter().any(|what| case.contains(what));
    assert!(refused.iter().all(no_room), "{refused:#?}");
    assert!(repaired > 2 * refused.len(), "{repaired} repaired, refused: {refused:#?}");
}

/// One segment: a record alone, and a group of these lengths; killed behind it when nothing else was done.
fn log_with_group(lengths: &[usize]) -> (SimDisk, Vec<u64>) {
    let disk = SimDisk::new(1);
    let options = WalOptions { segment_bytes: 1 << 20, ..small(FsyncMode::PerBatch) };
    let (wal, _) = open(&disk, options).unwrap();
    write_as_groups(&wal, entry("first"), lengths.iter().map(|&len| entry(vec![7; len])).collect());
    disk.power_off();
    drop(wal);
    disk.restart();
    let offsets =
        WalReader::open(Arc::new(disk.clone())).iter().map(|record| record.unwrap().offset).collect();
    (disk, offsets)
}

/// Changes the first segment, and repairs the log; what was lost by that, how many records are left, and how
/// many bytes are torn then.
fn repaired(disk: &SimDisk, change: impl FnOnce(&mut Vec<u8>)) -> StorageResult<(u64, u64, u64)> {
    let name = SegmentId::FIRST.file_name();
    let mut bytes = disk.read(&name).unwrap();
    change(&mut bytes);
    disk.plant(&name, bytes);
    let repair = WalRepair::new(Arc::new(disk.clone()))?;
    assert!(!repair.inspection().is_sound());
    let lost = repair.inspection().lost_records;
    let after = repair.run()?;
    assert!(after.is_sound() && after.declared_lost == lost, "{after:?}");
    let found = recover(disk, RecoveryMode::TornTail)?;
    assert_eq!(found.payloads.len() as u64, after.records, "{}", found.report);
    Ok((lost, after.records, after.torn_bytes))
}

#[test]
fn a_promised_record_that_is_missing_at_the_very_end_is_declared_lost() {
    let (disk, offsets) = log_with_group(&[448; 50]);
    let outcome = repaired(&disk, |bytes| {
        // The first record, which the promise of those behind it covers, and all of those but the last.
        bytes[SECTOR_LEN..usize::try_from(offsets[50]).unwrap()].fill(0);
    });
    let (lost, records, torn_bytes) = outcome.unwrap();
    assert_eq!((lost, records), (1, 0));
    assert!(torn_bytes > 448, "the last of those behind it, which nobody was promised, is as it was");
}

#[test]
fn a_flipped_padding_bit_is_mended_and_what_touches_it_stays() {
    for record in 0..3 {
        let (disk, offsets) = log_with_group(&[3, 3]);
        let at = usize::try_from(offsets[record]).unwrap() + HEADER_LEN + 20;
        assert_eq!(repaired(&disk, |bytes| bytes[at] ^= 1).unwrap(), (0, 3, 0), "record {record}");
    }
}

#[test]
fn a_gap_needs_room_for_a_header_and_no_more() {
    let disk_of_group = || {
        let disk = SimDisk::new(1);
        let options = WalOptions { segment_bytes: 1 << 20, ..small(FsyncMode::PerBatch) };
        let (wal, _) = open(&disk, options).unwrap();
        write_as_groups(&wal, entry("first"), vec![entry(""); 3]);
        drop(wal);
        disk
    };
    let middle = 1088..1152;
    assert_eq!(repaired(&disk_of_group(), |bytes| bytes[middle.clone()].fill(0xaa)).unwrap(), (1, 3, 0));
    // Taken out, so that those beside it touch.
    let refused = repaired(&disk_of_group(), |bytes| {
        bytes.copy_within(middle.end..middle.end + 64, middle.start);
        bytes[middle.end..].fill(0);
    });
    assert!(matches!(refused, Err(StorageError::Unrepairable { .. })), "{refused:?}");
}

/// Records 1 to 3 in the first segment, 4 to 6 and a seal in the third, and none in the fourth, which is missing; the fifth
/// says that it held none.
fn log_without_an_empty_segment() -> SimDisk {
    let sim = log_of(3, true);
    let disk = FaultyDisk::new(Arc::new(sim.clone()));
    let options = WalOptions { segment_bytes: 1 << 20, ..small(FsyncMode::PerBatch) };
    let (wal, _) = WalWriter::open(Arc::new(disk.clone()), options.clone(), Arc::default()).unwrap();
    write_numbered(&wal, 3..6);
    disk.fail_from(Operation::Create, 1, Fault::NoSpace);
    wal.shutdown().unwrap();
    for _ in 0..2 {
        let (wal, _) = open(&sim, options.clone()).unwrap();
        sim.power_off();
        drop(wal);
        sim.restart();
    }
    sim.destroy("wal-00000000000000000004.log");
    sim
}

#[test]
fn what_was_before_a_missing_segment_that_held_nothing_is_made_or_left_as_it_is() {
    let third = SegmentId::FIRST.next().next().file_name();
    let disk = log_without_an_empty_segment();
    assert!(WalReader::open(Arc::new(disk.clone())).inspect().unwrap().is_sound());
    disk.destroy(&third);
    let repair = WalRepair::new(Arc::new(disk.clone())).unwrap();
    assert_eq!(repair.steps().map(|step| step.file.as_str()).collect::<Vec<_>>(), [third.as_str()]);
    let after = repair.run().unwrap();
    assert!(after.is_sound() && after.declared_lost == 3 && after.records == 3, "{after:?}");

    let disk = log_without_an_empty_segment();
    let mut bytes = disk.read(&third).unwrap();
    bytes[3 * SECTOR_LEN..].fill(0); // the last record, and the seal
    disk.plant(&third, bytes.clone());
    let found = WalReader::open(Arc::new(disk.clone())).inspect().unwrap();
    assert_eq!((found.lost_records, found.damage[0].damage.end), (1, 0), "{found:?}");
    let refused = WalRepair::new(Arc::new(disk.clone())).unwrap_err();
    assert!(matches!(refused, StorageError::Unrepairable { .. }), "{refused}");
    assert_eq!(disk.read(&third).unwrap(), bytes);
}
