//! What an operator sees of a log, and does to it.

#![expect(clippy::cast_possible_truncation, reason = "numbers of bytes in small files")]

use super::*;
use crate::disk::random::Random;

fn reader(disk: &SimDisk) -> WalReader {
    WalReader::open(Arc::new(disk.clone()))
}

fn repair(disk: &SimDisk) -> (Vec<RepairStep>, Inspection) {
    let repair = WalRepair::new(Arc::new(disk.clone())).unwrap();
    let steps = repair.steps().cloned().collect();
    (steps, repair.run().unwrap())
}

/// Changes the bytes of a segment behind the log's back.
fn change(disk: &SimDisk, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.read(name).unwrap();
    change(&mut bytes);
    disk.plant(name, bytes);
}

#[test]
fn after_a_clean_stop_no_end_goes_missing_unnoticed() {
    let original = log_of(10, true);
    for name in original.file_names() {
        let bytes = original.read(&name).unwrap();
        let used = bytes.len() - bytes.iter().rev().take_while(|&&byte| byte == 0).count();
        for end in (SECTOR_LEN..used).step_by(SECTOR_LEN) {
            for cut in [true, false] {
                let disk = copy_of(&original);
                change(&disk, &name, |bytes| {
                    if cut {
                        bytes.truncate(end);
                    } else {
                        bytes[end..].fill(0);
                    }
                });
                let context = format!("{name} {} at {end}", if cut { "cut off" } else { "wiped" });
                match recover(&disk, RecoveryMode::SkipCorrupt) {
                    Err(StorageError::RecoveryRefused { .. }) => {}
                    Err(other) => panic!("{context}: {other}"),
                    Ok(found) => {
                        let missing = 10 - found.payloads.len() as u64;
                        assert_eq!(found.report.lost_records, missing, "{context}: {}", found.report);
                    }
                }
            }
        }
    }
}

#[test]
fn an_inspection_names_segments_damage_and_what_remains_of_it() {
    let disk = log_of(12, true);
    let sound = reader(&disk).inspect().unwrap();
    assert!(sound.is_sound() && sound.sealed && sound.missing.is_empty(), "{sound:?}");
    assert_eq!((sound.records, sound.lost_records, sound.last_lsn, sound.proven_lsn), {
        (12, 0, Lsn::new(12), Lsn::new(12))
    });
    assert_eq!(sound.segments.iter().map(|segment| segment.records).sum::<u64>(), 12);
    for pair in sound.segments.windows(2) {
        assert!(pair[0].closed && pair[0].last_lsn.next() == pair[1].first_lsn, "{pair:?}");
    }
    let first = SegmentId::FIRST.file_name();
    change(&disk, &first, |bytes| bytes[2 * SECTOR_LEN + HEADER_LEN] ^= 1);
    let found = reader(&disk).inspect().unwrap();
    assert!(!found.is_sound());
    let [damage] = &found.damage[..] else { panic!("{found:?}") };
    assert_eq!((damage.damage.first_lsn, damage.damage.last_lsn), (Lsn::new(2), Lsn::new(2)));
    assert_eq!((damage.damage.offset, damage.damage.end), (1024, 1536));
    assert!(damage.after_us.is_some() && damage.before_us >= damage.after_us);
    let [remains] = &damage.remains[..] else { panic!("{damage:?}") };
    assert_eq!((remains.header.lsn, &remains.payload[1..]), (Lsn::new(2), &b"ecord 1"[..]));
    assert_eq!(found.segments[0].damaged_ranges, 1);

    disk.destroy(&sound.segments[1].file);
    let found = reader(&disk).inspect().unwrap();
    assert_eq!(found.missing, [(sound.segments[1].id, sound.segments[1].id)]);
    assert_eq!(found.lost_records, 1 + sound.segments[1].records);
}

#[test]
fn what_was_written_elsewhere_is_no_remains() {
    let disk = log_of(12, true);
    let second = disk.read("wal-00000000000000000002.log").unwrap();
    change(&disk, &SegmentId::FIRST.file_name(), |bytes| {
        bytes[2 * SECTOR_LEN..3 * SECTOR_LEN].copy_from_slice(&second[SECTOR_LEN..2 * SECTOR_LEN]);
    });
    let found = reader(&disk).inspect().unwrap();
    let [damage] = &found.damage[..] else { panic!("{found:?}") };
    assert_eq!((damage.damage.lost_records(), &damage.remains[..]), (1, &[][..]));
}

#[test]
fn an_inspection_names_what_a_crash_left() {
    let disk = log_of(3, false);
    disk.plant("wal-spare.tmp", Vec::new());
    disk.plant("notes.tmp", Vec::new());
    change(&disk, &SegmentId::FIRST.file_name(), |bytes| bytes[3 * SECTOR_LEN + 70] ^= 1);
    let found = reader(&disk).inspect().unwrap();
    assert!(found.is_sound() && !found.sealed && found.torn_bytes > 0, "{found:?}");
    assert_eq!((found.temporary, found.records), (vec!["wal-spare.tmp".to_owned()], 2));
}

#[test]
fn a_plan_says_what_the_start_then_does() {
    for (clean, damaged) in [(true, false), (false, false), (true, true), (false, true)] {
        let disk = log_of(12, clean);
        if damaged {
            change(&disk, &SegmentId::FIRST.file_name(), |bytes| bytes[SECTOR_LEN + 70] ^= 1);
        }
        let files = disk.file_names();
        let plan = reader(&disk).plan_recovery(RecoveryMode::SkipCorrupt).unwrap();
        assert_eq!(disk.file_names(), files, "nothing has changed");
        assert_eq!(plan.refused, None);
        let strict = reader(&disk).plan_recovery(RecoveryMode::Strict).unwrap();
        assert_eq!(strict.refused.is_some(), damaged, "{strict:?}");
        let found = recover(&disk, RecoveryMode::SkipCorrupt).unwrap();
        let (mut done, mut planned) = (found.report, plan.report);
        (done.took, planned.took) = Default::default();
        assert_eq!(format!("{done:?}"), format!("{planned:?}"));
        assert!(disk.file_names().contains(&plan.new_segment.file_name()));
        assert_eq!(done.last_lsn.get() + 1 - done.copied_records, plan.first_lsn.get());
    }
}

#[test]
fn a_repair_declares_what_is_lost_and_keeps_the_damaged_bytes() {
    let disk = log_of(40, true);
    let original = copy_of(&disk);
    let inspection = reader(&disk).inspect().unwrap();
    let names: Vec<String> = inspection.segments.iter().map(|segment| segment.file.clone()).collect();
    assert!(names.len() > 10, "{names:?}");
    change(&disk, &names[0], |bytes| bytes[SECTOR_LEN + 70] ^= 1); // the first record
    change(&disk, &names[2], |bytes| bytes[100] ^= 1); // a header
    change(&disk, &names[4], |bytes| bytes.fill(0)); // a whole segment
    disk.destroy(&names[6]); // a file
    change(&disk, &names[8], |bytes| bytes.truncate(SECTOR_LEN + 100)); // its end
    change(&disk, &names[9], |bytes| bytes[SECTOR_LEN + HEADER_LEN + 30] = 1); // padding
    let damaged = copy_of(&disk);
    let before = recover(&copy_of(&disk), RecoveryMode::SkipCorrupt);
    assert!(matches!(before, Err(StorageError::RecoveryRefused { .. })), "too much damage to start");

    let lost = reader(&disk).inspect().unwrap().lost_records;
    let (steps, after) = repair(&disk);
    assert!(after.is_sound(), "{after:?}");
    assert_eq!((after.declared_lost, after.lost_records), (lost, 0));
    assert_eq!(after.records + lost, 40);
    for step in &steps {
        let kept = step.kept.as_ref().map(|kept| disk.read(kept).unwrap());
        assert_eq!(kept, damaged.read(&step.file), "{step:?}");
    }
    let found = recover(&disk, RecoveryMode::Strict).unwrap();
    assert_eq!((found.report.declared_lost, found.report.damaged_ranges), (lost, 0));
    let contents = recover(&original, RecoveryMode::Strict).unwrap().payloads;
    assert!(found.payloads.iter().all(|(lsn, payload)| &contents[lsn] == payload));
    assert_eq!(found.payloads.len() as u64, after.records);
    assert_eq!(payloads(&disk).len() as u64, after.records, "what is declared lost is passed over");
    // The log goes on behind it, and a second repair has nothing to do.
    let (wal, _) = open(&disk, small(FsyncMode::PerBatch)).unwrap();
    assert_eq!(wal.write(entry("after")).unwrap().lsn, Lsn::new(41));
    drop(wal);
    assert_eq!(repair(&disk).0, []);
}

/// Every single byte of a small log, damaged and repaired.
#[test]
fn whatever_is_damaged_can_be_repaired() {
    let original = log_of(6, true);
    let contents = recover(&copy_of(&original), RecoveryMode::Strict).unwrap().payloads;
    for name in original.file_names() {
        let len = original.read(&name).unwrap().len();
        for at in (0..len).step_by(13) {
            let disk = copy_of(&original);
            change(&disk, &name, |bytes| bytes[at] ^= 0x55);
            let lost = match reader(&disk).inspect() {
                Ok(inspection) => inspection.lost_records,
                Err(error) => panic!("{name} {at}: {error}"),
            };
            let (_, after) = repair(&disk);
            assert!(after.is_sound() && after.declared_lost == lost, "{name} {at}: {after:?}");
            let found = recover(&disk, RecoveryMode::TornTail).unwrap();
            assert_eq!(found.payloads.len() as u64 + lost, 6, "{name} {at}");
            assert_eq!(found.report.damaged_ranges, 0, "{name} {at}: {}", found.report);
            assert!(found.payloads.iter().all(|(lsn, payload)| &contents[lsn] == payload));
        }
    }
}

/// Damage of several kinds at once: a repair makes the log sound, and keeps all that could be read, or says why it cannot and
/// changes nothing.
#[test]
fn combined_damage_is_repaired_or_refused() {
    let original = log_of(24, true);
    let contents = recover(&copy_of(&original), RecoveryMode::Strict).unwrap().payloads;
    let names = original.file_names();
    let (mut repaired, mut refused) = (0, 0);
    for seed in 0..4_000 {
        let mut random = Random::new(seed);
        let disk = copy_of(&original);
        for _ in 0..=random.below(3) {
            let name = &names[random.below(names.len() as u64) as usize];
            let Some(len) = disk.read(name).map(|bytes| bytes.len()).filter(|&len| len > SECTOR_LEN) else {
                continue;
            };
            let at = random.below(len as u64) as usize;
            match random.below(6) {
                0 => disk.destroy(name),
                1 => change(&disk, name, |bytes| bytes[SECTOR_LEN..].fill(0)),
                2 => change(&disk, name, |bytes| bytes[random.below(SECTOR_LEN as u64) as usize] ^= 1),
                3 => change(&disk, name, |bytes| bytes.truncate(at)),
                4 => change(&disk, name, |bytes| bytes[at..(at + 700).min(len)].fill(0)),
                _ => change(&disk, name, |bytes| bytes[at] ^= 0x40),
            }
        }
        let damaged = copy_of(&disk);
        let readable = reader(&disk).inspect().map(|inspection| inspection.records);
        let repair = WalRepair::new(Arc::new(disk.clone())).and_then(WalRepair::run);
        match repair {
            Ok(after) => {
                repaired += 1;
                assert!(after.is_sound(), "seed {seed}: {after:?}");
                assert_eq!(after.records, readable.unwrap(), "seed {seed}");
                let found = recover(&disk, RecoveryMode::TornTail).unwrap();
                assert_eq!(found.report.damaged_ranges, 0, "seed {seed}: {}", found.report);
                assert_eq!(found.payloads.len() as u64, after.records, "seed {seed}");
                assert!(found.payloads.iter().all(|(lsn, payload)| &contents[lsn] == payload), "seed {seed}");
            }
            Err(StorageError::Unrepairable { .. } | StorageError::RecoveryRefused { .. }) => {
                refused += 1;
                for name in damaged.file_names() {
                    assert_eq!(disk.read(&name), damaged.read(&name), "seed {seed}: {name}");
                }
            }
            Err(other) => panic!("seed {seed}: {other}"),
        }
    }
    assert!(repaired > 2_000 && refused > 0, "{repaired} repaired, {refused} refused");
}

#[test]
fn a_repair_that_is_cut_short_loses_nothing_more() {
    let original = log_of(40, true);
    change(&original, &SegmentId::FIRST.file_name(), |bytes| bytes[SECTOR_LEN + 70] ^= 1);
    let third = reader(&original).inspect().unwrap().segments[2].file.clone();
    change(&original, &third, |bytes| bytes[10] ^= 1);
    let contents = recover(&copy_of(&original), RecoveryMode::SkipCorrupt).unwrap().payloads;
    for operation in 0.. {
        let disk = copy_of(&original);
        disk.power_off_after(operation);
        let outcome = WalRepair::new(Arc::new(disk.clone())).and_then(WalRepair::run);
        disk.crash(operation);
        let found = recover(&disk, RecoveryMode::SkipCorrupt).unwrap();
        assert_eq!(found.payloads, contents, "cut at operation {operation}");
        let (_, after) = repair(&disk);
        assert!(after.is_sound(), "cut at operation {operation}: {after:?}");
        assert_eq!(recover(&disk, RecoveryMode::Strict).unwrap().payloads, contents);
        if outcome.is_ok() {
            break;
        }
    }
}

#[test]
fn nothing_is_repaired_under_a_running_server() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(&disk, small(FsyncMode::PerBatch)).unwrap();
    let refused = WalRepair::new(Arc::new(disk.clone())).unwrap_err();
    assert!(matches!(refused, StorageError::Locked { .. }), "{refused}");
    assert!(reader(&disk).inspect().unwrap().is_sound());
    drop(wal);
}
