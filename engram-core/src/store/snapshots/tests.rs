//! Snapshots of a store, on a simulated disk.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use chrono::{TimeZone as _, Utc};
use engram_storage::{
    StorageError, WalOptions, WalReader,
    disk::{Fault, FaultyDisk, Operation, SimDisk},
};

use super::*;
use crate::{Confidence, Episode, ListQuery, MemoryStore, Outcome, Precision, Query};

fn options() -> WalOptions {
    WalOptions { segment_bytes: 8192, preallocate: false, ..WalOptions::default() }
}

fn open(disk: &SimDisk, policy: SnapshotPolicy) -> MemoryStore {
    let store = MemoryStore::new(1000).with_dimension(4).unwrap().with_snapshots(policy).unwrap();
    store.with_log(Arc::new(disk.clone()), options()).unwrap()
}

fn episode(id: &str, n: u32) -> Episode {
    let when = Utc.timestamp_opt(i64::from(n % 7), 0).unwrap();
    let vector = [1.0, f32::from(u16::try_from(n % 1000).unwrap()), 0.5, -1.0];
    Episode::new(id, when, format!("content {n} of {id}"), vector, Confidence::HIGH)
}

/// All memories with their embeddings, and what two questions find.
fn everything(store: &MemoryStore) -> impl PartialEq + std::fmt::Debug + use<> {
    let page = store.list(&ListQuery { limit: 1000, ..ListQuery::default() }).unwrap();
    let with_vectors: Vec<_> = page.memories.iter().map(|m| store.get_with_embedding(m.id())).collect();
    let questions = [Query::words("content"), Query::embedding([1.0, 50.0, 0.5, -1.0])];
    let hits = questions.map(|question| store.recall(&question).unwrap().hits);
    (with_vectors, hits, store.status().applied_lsn)
}

/// A panic ends the others, too.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn bytes_on(disk: &SimDisk) -> usize {
    disk.file_names().iter().filter_map(|name| disk.read(name)).map(|bytes| bytes.len()).sum()
}

#[test]
fn a_store_comes_back_from_its_snapshot_as_it_was() {
    for precision in [Precision::Int8, Precision::F32] {
        let disk = SimDisk::new(1);
        let make = || {
            let store = MemoryStore::new(100).with_dimension(4).unwrap().with_precision(precision).unwrap();
            store.with_log(Arc::new(disk.clone()), options()).unwrap()
        };
        let store = make();
        (0..100).for_each(|n| drop(store.store(episode(&format!("m{}", n % 20), n)).unwrap()));
        store.store(Episode::text("text", "without a vector")).unwrap();
        store.forget("m3").unwrap();
        let before = everything(&store);
        let report = store.snapshot().unwrap();
        assert_eq!(
            (report.lsn, report.records),
            (Lsn::new(103), 22),
            "20 memories, and how the store was made, twice"
        );
        assert_eq!(everything(&store), before);
        drop(store);
        let store = make();
        assert_eq!(everything(&store), before);
        // A change that is forgotten and one that is replaced, behind the snapshot.
        store.forget("m4").unwrap();
        store.store(episode("m5", 500)).unwrap();
        let before = everything(&store);
        drop(store);
        let store = make();
        assert_eq!((everything(&store), store.count()), (before, 19));
        assert_eq!(store.status().recovery.unwrap().records, 2);
        drop(store);
        // What the store was made with is kept in the snapshot.
        let store = MemoryStore::new(100).with_log(Arc::new(disk.clone()), options()).unwrap();
        assert_eq!((store.status().dimension, store.status().precision), (4, precision));
    }
}

#[test]
fn a_snapshot_is_exact_at_its_place_while_changes_go_on() {
    const WRITERS: u32 = 2;
    let disk = SimDisk::new(2);
    let store = open(&disk, SnapshotPolicy::OnDemand);
    (0..300).for_each(|n| drop(store.store(episode(&format!("0/{n}"), n)).unwrap()));
    let stop = AtomicBool::new(false);
    let changes: Mutex<BTreeMap<u64, (String, Outcome)>> = Mutex::default();
    let snapshots: Mutex<Vec<(u64, BTreeMap<String, u64>)>> = Mutex::default();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, stop, changes) = (&store, &stop, &changes);
            scope.spawn(move || {
                let mut n = 1000 * writer;
                while !stop.load(SeqCst) {
                    n += 1;
                    let id = format!("{writer}/{}", n.wrapping_mul(2_654_435_761) % 300);
                    let receipt =
                        if n.is_multiple_of(4) { store.forget(&id) } else { store.store(episode(&id, n)) };
                    if let Ok(receipt) = receipt {
                        changes.lock().unwrap().insert(receipt.lsn.get(), (id, receipt.outcome));
                    }
                }
            });
        }
        let _stop = SetWhenDropped(&stop);
        for _ in 0..30 {
            let report = store.snapshot().unwrap();
            let mut found = BTreeMap::new();
            WalReader::open(Arc::new(disk.clone()))
                .for_each_in_snapshot(|header, payload| {
                    let record = crate::payload::decode(header.entry_type, payload).unwrap();
                    if let Record::Store(record) = record {
                        assert!(record.content.contains(&record.id));
                        assert_eq!(found.insert(record.id, header.lsn.get()), None, "one is there twice");
                    }
                    Ok::<(), StorageError>(())
                })
                .unwrap();
            snapshots.lock().unwrap().push((report.lsn.get(), found));
        }
    });
    let changes = changes.into_inner().unwrap();
    let first = |n: u64| (format!("0/{n}"), n + 2);
    for (lsn, found) in snapshots.into_inner().unwrap() {
        let mut live: BTreeMap<String, u64> = (0..300).map(first).collect();
        for (at, (id, outcome)) in changes.range(..=lsn) {
            match outcome {
                Outcome::Deleted => drop(live.remove(id)),
                _ => drop(live.insert(id.clone(), *at)),
            }
        }
        assert_eq!(found, live, "at {lsn}");
    }
    assert!(changes.len() > 300, "{}", changes.len());
}

#[test]
fn snapshots_are_taken_when_the_log_has_grown_and_when_it_is_closed() {
    const LOG_BYTES: u64 = 128 << 10;
    let disk = SimDisk::new(3);
    let store = open(&disk, SnapshotPolicy::LogBytes(LOG_BYTES));
    let mut written = 0_u32;
    while store.status().snapshots.taken < 3 {
        store.store(episode(&format!("m{}", written % 10), written)).unwrap();
        written += 1;
        assert!(written < 1_000_000, "no snapshot is taken: {:?}", store.status().snapshots);
    }
    assert_eq!(store.status().snapshots.failed, 0);
    while store.status().snapshots.log_bytes < LOG_BYTES / 2 {
        store.store(episode(&format!("m{}", written % 10), written)).unwrap();
        written += 1;
    }
    let before = everything(&store);
    store.close().unwrap();
    drop(store);
    assert!(bytes_on(&disk) < 40_000, "{}", bytes_on(&disk));
    let store = open(&disk, SnapshotPolicy::OnDemand);
    assert_eq!(everything(&store), before);
    let records = |store: &MemoryStore| store.status().recovery.unwrap().records;
    assert_eq!(records(&store), 0, "all of it is in the snapshot");
    // A log that has grown while nobody took one is cut after the next start.
    while store.status().snapshots.log_bytes < LOG_BYTES {
        store.store(episode(&format!("m{}", written % 10), written)).unwrap();
        written += 1;
    }
    drop(store);
    let store = open(&disk, SnapshotPolicy::LogBytes(LOG_BYTES));
    assert!(records(&store) > 100);
    while store.status().snapshots.taken == 0 {
        thread::yield_now();
    }
}

#[test]
fn a_snapshot_that_cannot_be_taken_is_an_error_and_the_store_goes_on() {
    let disk = SimDisk::new(4);
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    let store = MemoryStore::new(100).with_dimension(4).unwrap();
    let store = store.with_log(Arc::new(faulty.clone()), options()).unwrap();
    (0..50).for_each(|n| drop(store.store(episode(&format!("m{n}"), n)).unwrap()));
    // The segment that begins here, then the snapshot.
    faulty.fail_nth(Operation::Create, 2, Fault::NoSpace);
    let error = store.snapshot().unwrap_err();
    assert!(matches!(error, StoreError::Storage(StorageError::DiskFull { .. })), "{error}");
    let status = store.status().snapshots;
    assert_eq!((status.taken, status.failed), (0, 1));
    assert_eq!(status.last_error, Some(error.to_string()));
    store.store(episode("after", 1)).unwrap();
    assert_eq!(store.snapshot().unwrap().records, 53);
    let before = everything(&store);
    drop(store);
    assert_eq!(everything(&open(&disk, SnapshotPolicy::OnDemand)), before);
}

#[test]
fn a_store_without_a_log_takes_no_snapshot() {
    let error = MemoryStore::new(1).snapshot().unwrap_err().to_string();
    assert!(error.contains("without a log"), "{error}");
}

#[test]
fn no_snapshot_begins_while_the_model_changes() {
    let store = open(&SimDisk::new(1), SnapshotPolicy::OnDemand);
    let snapshots = Arc::clone(store.snapshots.as_ref().unwrap());
    let change = store.begin_change();
    assert!(snapshots.taking.try_lock().is_err());
    drop(change);
    assert!(snapshots.taking.try_lock().is_ok());
}
