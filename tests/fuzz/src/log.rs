//! Real logs on simulated disks.

use std::{collections::BTreeMap, sync::Arc};

use engram_storage::{Lsn, StorageResult, WalEntry, WalEntryType, WalOptions, WalWriter, disk::SimDisk};

/// Files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Payloads by number.
pub type Written = BTreeMap<u64, Vec<u8>>;

/// Options with small segments, and with all of the disk's work on one thread.
pub(crate) fn options() -> WalOptions {
    WalOptions { segment_bytes: 2048, preallocate: false, ..WalOptions::default() }
}

/// Writes a log that holds `entries`, in three segments or so; one of a clean stop, or of a killed process. A snapshot is
/// taken after so many of them, in which every second one is live.
pub fn write(entries: &[WalEntry], clean: bool, snapshot_after: Option<usize>) -> Files {
    let disk = SimDisk::new(1);
    if let Ok((wal, _)) = WalWriter::open(Arc::new(disk.clone()), options(), Arc::default()) {
        for (number, entry) in (1..).zip(entries) {
            drop(wal.write(entry.clone()));
            if snapshot_after == Some(number) {
                drop(snapshot(&wal, entries));
            }
        }
        if !clean {
            disk.power_off();
        }
        drop(wal);
    }
    disk.restart();
    disk.file_names().into_iter().filter_map(|name| disk.read(&name).map(|bytes| (name, bytes))).collect()
}

fn snapshot(wal: &WalWriter, entries: &[WalEntry]) -> StorageResult<()> {
    let mut snapshot = wal.snapshot(|_| ())?;
    for (lsn, entry) in (1..=snapshot.lsn().get()).zip(entries).step_by(2) {
        snapshot.append(Lsn::new(lsn), entry)?;
    }
    snapshot.publish().map(drop)
}

/// A log, and what was written to it.
pub fn real_log(clean: bool, snapshot_after: Option<usize>) -> (Files, Written) {
    let lengths = [5_usize, 64, 0, 700, 1, 130, 512, 60, 1100, 3];
    let payload = |(number, len): (usize, usize)| {
        (0..len).map(|at| b"engram"[(at + number) % 6] ^ (number as u8)).collect::<Vec<u8>>()
    };
    let payloads: Vec<_> = lengths.into_iter().enumerate().map(payload).collect();
    let entry =
        |payload: &Vec<u8>| WalEntry { entry_type: WalEntryType::MemoryStore, payload: payload.clone() };
    let files = write(&payloads.iter().map(entry).collect::<Vec<_>>(), clean, snapshot_after);
    (files, (1..).zip(payloads).collect())
}

/// A disk with these files.
pub fn disk_of(files: &Files) -> SimDisk {
    let disk = SimDisk::new(1);
    for (name, bytes) in files {
        disk.plant(name, bytes.clone());
    }
    disk
}
