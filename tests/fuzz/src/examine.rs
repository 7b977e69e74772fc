//! What must hold whatever is on a disk.

use std::sync::Arc;

use engram_storage::{
    Inspection, RecoveryMode, StorageError, WalOptions, WalReader, WalRepair, WalWriter,
    disk::{Disk, SimDisk},
};

use crate::{Files, Written, disk_of, log::options};

const MODES: [RecoveryMode; 3] = [RecoveryMode::Strict, RecoveryMode::TornTail, RecoveryMode::SkipCorrupt];

/// More than can be in the files of an input.
const ENOUGH: usize = 100_000;

/// Looks at a log in every way there is. Nothing panics, all of it ends, and where it is known what was `written`, no
/// other payload is ever shown.
///
/// # Panics
/// When that does not hold.
pub fn examine(files: &Files, written: Option<&Written>) {
    let disk: Arc<dyn Disk> = Arc::new(disk_of(files));
    let reader = WalReader::open(disk);
    let sound = reader.inspect().is_ok_and(|inspection| inspection.is_sound());
    let shown = reader.iter().take(ENOUGH).inspect(|record| {
        if let Ok(record) = record {
            check(written, record.lsn().get(), &record.payload);
        }
    });
    assert!(shown.count() < ENOUGH, "a reader goes on for ever");
    for mode in MODES {
        let planned = reader.plan_recovery(mode);
        let disk = disk_of(files);
        let first = recover(&disk, mode, written);
        assert!(
            written.is_none() || planned.is_ok() || first.is_err(),
            "{mode}: a plan says less: {planned:?}"
        );
        let Ok((records, true)) = first else { continue };
        // What was shown once stays.
        let again = recover(&disk, mode, written).map(|(records, _)| records);
        if written.is_some() && mode != RecoveryMode::Strict {
            assert!(
                matches!(&again, Ok(again) if *again == records),
                "{mode}: {again:?}, before {records:?}"
            );
        }
    }
    repair(files, written, sound);
}

/// The numbers of all records, and whether the log takes new ones.
fn recover(
    disk: &SimDisk,
    recovery: RecoveryMode,
    written: Option<&Written>,
) -> Result<(Vec<u64>, bool), StorageError> {
    let mut records = Vec::new();
    let options = WalOptions { recovery, ..options() };
    let (wal, report) =
        WalWriter::recover(Arc::new(disk.clone()), options, Arc::default(), |header, payload| {
            check(written, header.lsn.get(), payload);
            records.push(header.lsn.get());
            Ok::<(), StorageError>(())
        })?;
    // A forged snapshot may have its records in any order.
    let in_order = records.is_sorted_by(|one, next| one < next);
    assert!(in_order || (written.is_none() && report.snapshot.is_some()), "out of order: {records:?}");
    let takes_writes = wal.takes_writes();
    drop(wal);
    Ok((records, takes_writes))
}

fn repair(files: &Files, written: Option<&Written>, was_sound: bool) {
    let disk = disk_of(files);
    let Ok(repair) = WalRepair::new(Arc::new(disk.clone())) else { return };
    let readable = |inspection: &Inspection| {
        inspection.records + inspection.snapshot.as_ref().map_or(0, |snapshot| snapshot.records)
    };
    let (before, steps) = (readable(repair.inspection()), repair.steps().len());
    assert!(!was_sound || steps == 0, "a sound log is repaired");
    let after = repair.run();
    if written.is_some() {
        let repaired = matches!(&after, Ok(after) if after.is_sound() && readable(after) >= before);
        assert!(repaired, "{before} records before, and then {after:?}");
        assert!(recover(&disk, RecoveryMode::TornTail, written).is_ok(), "a repaired log is refused");
    }
}

fn check(written: Option<&Written>, lsn: u64, payload: &[u8]) {
    if let Some(written) = written {
        assert_eq!(
            written.get(&lsn).map(Vec::as_slice),
            Some(payload),
            "record {lsn} is not what was written"
        );
    }
}
