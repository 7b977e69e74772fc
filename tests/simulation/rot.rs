//! Logs whose bytes change while nobody looks.

use std::sync::Arc;

use engram_core::{
    Episode, FsyncMode, MemoryStore, StorageError, StoreError,
    storage::{
        SnapshotRestore,
        disk::{Disk, SimDisk, SimFaults},
    },
};

use super::{
    Crashes,
    client::{Contents, contents},
    open,
};
use crate::random::Random;

const MEMORIES: u64 = 25;

/// A store of so many memories, written by one who is careful.
fn stored(disk: &SimDisk, random: &mut Random) -> MemoryStore {
    let store = open(disk, FsyncMode::PerWrite).unwrap();
    for n in 0..MEMORIES {
        let content = format!("{n}: {}", "rot ".repeat(random.below(120) as usize));
        store.store(Episode::text(format!("id {n}"), content)).unwrap();
    }
    store
}

/// One log, stopped or killed, of which bits flip, ranges are wiped and ends are cut off. A start refuses it, or shows
/// what was there and reports what is not; never anything else.
pub(crate) fn rot(seed: u64, crashes: &Crashes) {
    let mut random = Random::new(seed);
    let disk = SimDisk::new(seed);
    let store = stored(&disk, &mut random);
    if random.below(2) == 0 {
        store.snapshot().unwrap();
    }
    let written = contents(&store);
    // Killed, it has no witness for its end: the last record may go as a torn one.
    let clean = random.below(2) == 0;
    if !clean {
        disk.power_off();
    }
    drop(store);
    disk.restart();
    let files: Vec<(String, Vec<u8>)> = disk
        .file_names()
        .into_iter()
        .filter_map(|name| disk.read(&name).map(|bytes| (name, bytes)))
        .collect();
    for round in 0..20 {
        let rotten = SimDisk::new(seed);
        for (name, bytes) in &files {
            rotten.plant(name, bytes.clone());
        }
        let (name, bytes) = &files[random.below(files.len() as u64) as usize];
        let mut bytes = bytes.clone();
        let used = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0) as u64 + 1;
        let at = random.below(used) as usize;
        let way = random.below(4);
        match way {
            0 => bytes.truncate(at),
            1 => {
                let end = (at + 1 + random.below(2000) as usize).min(bytes.len());
                bytes[at..end].fill(0);
            }
            _ => bytes[at] ^= 1 << random.below(8),
        }
        let is_newest = files.last().is_some_and(|(last, _)| last == name);
        rotten.plant(name, bytes);
        crashes.add();
        let context = format!("rot of seed {seed}, round {round}, {name} at {at}");
        let missing = judge(&rotten, &written, !clean && is_newest, &context);
        // What comes after a record promises that it was durable: a bit takes no more than the record that it is in.
        let is_bit = way >= 2;
        assert!(
            !is_bit || missing.is_none_or(|missing| missing <= 1),
            "{context}: one bit takes {missing:?}"
        );
    }
}

/// A snapshot on a disk that writes other bits than it is told, and says nothing. What it stands for is let go of only
/// when it is whole: nothing is lost by it, then or after a crash.
pub(crate) fn snapshot_on_a_bad_disk(seed: u64, crashes: &Crashes) {
    let mut random = Random::new(seed);
    let disk = SimDisk::new(seed);
    let store = stored(&disk, &mut random);
    let written = contents(&store);
    for round in 0..4 {
        disk.set_faults(SimFaults { flips_write_one_in: 1 + random.below(3), ..SimFaults::default() });
        drop(store.snapshot()); // it may be refused, or not
        disk.set_faults(SimFaults::default());
        let found = SimDisk::new(seed);
        for name in disk.file_names() {
            found.plant(&name, disk.read(&name).unwrap_or_default());
        }
        crashes.add();
        let context = format!("snapshot on a bad disk, seed {seed}, round {round}");
        let store = open(&found, FsyncMode::PerWrite).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(contents(&store) == written, "{context}: {}", store.status().recovery.unwrap());
    }
}

/// A snapshot, whole or with a bit flipped, of which a log is made, on a disk whose power may go meanwhile. It becomes a log
/// with all that was stored, or none.
pub(crate) fn restore(seed: u64, crashes: &Crashes) {
    let mut random = Random::new(seed);
    let disk = SimDisk::new(seed);
    let store = stored(&disk, &mut random);
    store.snapshot().unwrap();
    let written = contents(&store);
    let name = disk.file_names().into_iter().find(|name| name.starts_with("snapshot-")).unwrap();
    let whole = disk.read(&name).unwrap();
    for round in 0..8 {
        let mut bytes = whole.clone();
        let is_rotten = random.below(2) == 0;
        if is_rotten {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
        let (from, to) = (SimDisk::new(seed), SimDisk::new(seed ^ round));
        from.plant("backup", bytes);
        to.power_off_after(random.below(60));
        let on: Arc<dyn Disk> = Arc::new(to.clone());
        let restored = SnapshotRestore::on(Arc::new(from), "backup".to_owned()).and_then(|it| it.run(&on));
        to.crash(random.below(u64::MAX));
        crashes.add();
        let context = format!("restore of seed {seed}, round {round}, rotten: {is_rotten}, {restored:?}");
        match open(&to, FsyncMode::PerWrite) {
            Ok(store) if restored.is_err() && store.count() == 0 => {} // nothing was there yet
            Ok(store) => assert!(contents(&store) == written, "{context}: not what was stored"),
            Err(error) => assert!(restored.is_err(), "{context}: {error}"),
        }
    }
}

/// How many memories are missing of a log that was not refused.
fn judge(disk: &SimDisk, written: &Contents, end_is_open: bool, context: &str) -> Option<u64> {
    let store = match open(disk, FsyncMode::PerWrite) {
        Ok(store) => store,
        Err(StoreError::Storage(StorageError::RecoveryRefused { .. })) => return None,
        Err(other) => panic!("{context}: {other}"),
    };
    let found = contents(&store);
    for (id, memory) in &found {
        assert_eq!(Some(memory), written.get(id), "{context}: {id} is not what was stored");
    }
    let missing = (written.len() - found.len()) as u64;
    let report = store.status().recovery.unwrap();
    if end_is_open {
        let silent = report.lost_records == 0 && report.torn_bytes == 0 && report.damaged_ranges == 0;
        // Without a witness, space that was wiped looks like space that was never written.
        assert!(report.lost_records <= missing + 1, "{context}: {report}");
        assert!(
            missing == 0 || !silent || store.status().applied_lsn.get() < MEMORIES + 1,
            "{context}: {report}"
        );
    } else {
        // The configuration is a record, too.
        let lost = report.lost_records;
        assert!(lost == missing || lost == missing + 1, "{context}: {missing} are missing, {report}");
    }
    Some(missing)
}
