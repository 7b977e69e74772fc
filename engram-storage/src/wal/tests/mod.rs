//! What the log does, on a simulated disk.

mod combined;
mod commit;
mod damage;
mod failure;
mod format;
mod looks;
mod mending;
mod operator;
mod progress;
mod queue;
mod report;
mod snapshots;
mod space;
mod spares;
mod tail;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use super::*;
use crate::{
    StorageError, StorageMetrics, StorageResult,
    disk::{Disk, Fault, FaultyDisk, Operation, SimDisk},
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

/// Writes `first`, and the others as one group after it.
fn write_as_groups(wal: &WalWriter, first: WalEntry, others: Vec<WalEntry>) -> Vec<StorageResult<Commit>> {
    let (release, held) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel::<()>();
    wal.submit_with(first, move |_, outcome| {
        outcome.unwrap();
        begun.send(()).unwrap();
        held.recv().unwrap();
    });
    begins.recv().unwrap();
    let handles: Vec<_> = others.into_iter().map(|entry| wal.submit(entry)).collect();
    release.send(()).unwrap();
    handles.into_iter().map(Completion::wait).collect()
}

const MODES: [FsyncMode; 4] =
    [FsyncMode::PerWrite, FsyncMode::PerBatch, FsyncMode::Timer(Duration::from_millis(1)), FsyncMode::None];

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

fn copy_of(disk: &SimDisk) -> SimDisk {
    let copy = SimDisk::new(2);
    disk.file_names().iter().for_each(|name| copy.plant(name, disk.read(name).unwrap()));
    copy
}
