//! What the store does, on a simulated disk.

use std::sync::Arc;

use chrono::{TimeZone as _, Utc};
use engram_storage::disk::{Fault, FaultyDisk, Operation, SimDisk};
use engram_storage::{FsyncMode, StorageError, WalOptions};

use super::*;
use crate::{
    Confidence, EmbeddingError, Filter, IndexMode, MetaValue, Metadata, limits,
    payload::{ForgetRecord, Terms},
};

mod loss;
mod model;
mod spaces;
mod terms;

fn options() -> WalOptions {
    WalOptions { segment_bytes: 8192, preallocate: false, ..WalOptions::default() }
}

fn open(disk: &SimDisk) -> MemoryStore {
    MemoryStore::new(100).with_dimension(4).unwrap().with_log(Arc::new(disk.clone()), options()).unwrap()
}

fn episode(id: &str, n: f32) -> Episode {
    #[expect(clippy::cast_possible_truncation, reason = "small whole numbers")]
    let when = Utc.timestamp_opt(n as i64, 0).unwrap();
    Episode::new(id, when, format!("content {n} of {id}"), [1.0, n, 0.5, -n], Confidence::HIGH)
}

/// All that can be asked of a store, to compare one with another.
fn everything(store: &MemoryStore) -> Vec<(Memory, Option<Embedding>)> {
    let page = store.list(&ListQuery { limit: 1000, ..ListQuery::default() }).unwrap();
    assert_eq!(page.memories.len(), store.count());
    let with_embedding = |memory: &Arc<Memory>| {
        let (same, embedding) = store.get_with_embedding(memory.id()).unwrap();
        assert_eq!(&same, memory);
        ((*same).clone(), embedding)
    };
    page.memories.iter().map(with_embedding).collect()
}

#[test]
fn a_store_comes_back_as_it_was() {
    for precision in [Precision::Int8, Precision::F32] {
        let disk = SimDisk::new(1);
        let make = || MemoryStore::new(100).with_dimension(4).unwrap().with_precision(precision).unwrap();
        let store = make().with_log(Arc::new(disk.clone()), options()).unwrap();
        for n in 0..40_u8 {
            store.store(episode(&format!("m{}", n % 20), f32::from(n))).unwrap();
        }
        let text = Episode {
            metadata: Metadata::from([("k".to_owned(), MetaValue::Number(0.5))]),
            ..Episode::text("text", "without a vector")
        };
        store.store(text).unwrap();
        store.forget("m3").unwrap();
        let (before, lsn) = (everything(&store), store.status().applied_lsn);
        let question = Query::embedding([1.0, 25.0, 0.5, -25.0]);
        let hits = store.recall(&question).unwrap();
        drop(store);

        let store = make().with_log(Arc::new(disk.clone()), options()).unwrap();
        assert_eq!(store.recover_from_wal().unwrap(), 20);
        assert_eq!((everything(&store), store.status().applied_lsn), (before, lsn));
        assert_eq!(store.recall(&question).unwrap(), hits, "same ids, same scores");
        drop(store);
        // What the store was made with is kept in the log.
        let store = MemoryStore::new(100).with_log(Arc::new(disk), options()).unwrap();
        assert_eq!((store.status().dimension, store.status().precision), (4, precision));
    }
}

#[test]
fn receipts_tell_what_happened() {
    let store = open(&SimDisk::new(1));
    let receipt = |outcome, lsn| Receipt {
        id: "a".to_owned(),
        lsn: Lsn::new(lsn),
        outcome,
        durability: Durability::Synced,
    };
    // Record 1 is how the store was made.
    assert_eq!(store.store(episode("a", 1.0)).unwrap(), receipt(Outcome::Created, 2));
    assert_eq!(store.store(episode("a", 1.0)).unwrap(), receipt(Outcome::Unchanged, 2));
    assert_eq!(store.store(episode("a", 2.0)).unwrap(), receipt(Outcome::Updated, 3));
    assert_eq!(store.forget("a").unwrap(), receipt(Outcome::Deleted, 4));
    assert!(matches!(store.forget("a"), Err(StoreError::NotFound { .. })));
    assert_eq!(store.store(episode("a", 2.0)).unwrap(), receipt(Outcome::Created, 5));
}

#[test]
fn a_change_can_be_read_as_soon_as_it_is_acknowledged() {
    let store = open(&SimDisk::new(1));
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..20_u8 {
                    let id = format!("t{thread}-{n}");
                    let receipt = store.store(episode(&id, f32::from(n))).unwrap();
                    assert_eq!(store.get(&id).unwrap().lsn(), receipt.lsn);
                    let recall = store.recall(&Query::words(format!("t{thread} {n}")).limit(100)).unwrap();
                    assert!(recall.lsn >= receipt.lsn);
                    assert!(recall.hits.iter().any(|hit| hit.memory.id() == id));
                    if n % 2 == 0 {
                        store.forget(&id).unwrap();
                        assert!(store.get(&id).is_none());
                    }
                }
            });
        }
    });
    assert_eq!(store.count(), 40);
}

#[test]
fn what_is_refused_changes_nothing() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    store.store(episode("a", 1.0)).unwrap();
    let before = everything(&store);
    let records = store.status().log.appends;
    let with = |change: fn(&mut Episode)| {
        let mut episode = episode("b", 1.0);
        change(&mut episode);
        store.store(episode).unwrap_err()
    };
    let not_finite =
        |e: &StoreError| matches!(e, StoreError::Embedding(EmbeddingError::NotFinite { index: 1, .. }));
    assert!(matches!(with(|e| e.id.clear()), StoreError::Id { .. }));
    assert!(matches!(with(|e| e.id = "x".repeat(257)), StoreError::Id { .. }));
    assert!(matches!(with(|e| e.id = "a\0b".to_owned()), StoreError::Id { .. }));
    assert!(matches!(with(|e| e.content.clear()), StoreError::Content { got: 0 }));
    let huge = with(|e| e.content = "x".repeat(limits::CONTENT_BYTES_MAX + 1));
    assert!(matches!(huge, StoreError::Content { .. }));
    assert!(not_finite(&with(|e| e.embedding = Some(Embedding::from([1.0, f32::NAN, 0.0, 0.0])))));
    assert!(not_finite(&with(|e| e.embedding = Some(Embedding::from([1.0, f32::INFINITY, 0.0, 0.0])))));
    let wrong = with(|e| e.embedding = Some(Embedding::from([1.0; 3])));
    assert!(matches!(wrong, StoreError::Embedding(EmbeddingError::Dimension { expected: 4, got: 3 })));
    let zero = with(|e| e.embedding = Some(Embedding::from([0.0; 4])));
    assert!(matches!(zero, StoreError::Embedding(EmbeddingError::Zero)));
    let far = with(|e| e.when = Utc.with_ymd_and_hms(10_000, 1, 1, 0, 0, 0).unwrap());
    assert!(matches!(far, StoreError::When { .. }));
    let many = with(|e| e.metadata = (0..65).map(|n| (n.to_string(), MetaValue::Boolean(true))).collect());
    assert!(matches!(many, StoreError::Metadata { .. }));
    let number = with(|e| drop(e.metadata.insert("n".to_owned(), MetaValue::Number(f64::NAN))));
    assert!(matches!(number, StoreError::Metadata { .. }));
    let limit = store.recall(&Query::words("x").limit(limits::RECALL_LIMIT_MAX + 1)).unwrap_err();
    assert!(matches!(limit, StoreError::Query { .. }));
    assert!(matches!(store.recall(&Query::embedding([1.0; 3])), Err(StoreError::Embedding(_))));
    assert!(matches!(
        store.list(&ListQuery { limit: 0, ..ListQuery::default() }),
        Err(StoreError::Query { .. })
    ));
    assert_eq!((everything(&store), store.status().log.appends), (before, records));
}

#[test]
fn a_full_store_refuses_new_memories_and_drops_none() {
    let store = MemoryStore::new(3).with_dimension(4).unwrap();
    let store = store.with_log(Arc::new(SimDisk::new(1)), options()).unwrap();
    for id in ["a", "b", "c"] {
        store.store(episode(id, 1.0)).unwrap();
    }
    let refused = store.store(episode("d", 1.0)).unwrap_err();
    assert!(matches!(refused, StoreError::CapacityReached { space: None, capacity: 3, count: 3 }));
    assert_eq!(store.count(), 3);
    store.store(episode("a", 2.0)).unwrap(); // an update takes no place
    store.forget("b").unwrap();
    store.store(episode("d", 1.0)).unwrap();
}

#[test]
fn the_capacity_holds_under_concurrent_writers() {
    let store = MemoryStore::new(50).with_dimension(4).unwrap();
    let store = store.with_log(Arc::new(SimDisk::new(1)), options()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let handles: Vec<_> =
                    (0..40).map(|n| store.submit(episode(&format!("{thread}-{n}"), 1.0))).collect();
                for handle in handles {
                    match handle.wait() {
                        Ok(_) | Err(StoreError::CapacityReached { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
    });
    assert_eq!(store.count(), 50);
}

#[test]
fn a_store_that_shrank_keeps_what_it_holds() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    (0..10_u8).for_each(|n| drop(store.store(episode(&n.to_string(), f32::from(n))).unwrap()));
    drop(store);
    let store = MemoryStore::new(5).with_log(Arc::new(disk), options()).unwrap();
    assert_eq!(store.count(), 10);
    assert!(matches!(store.store(episode("new", 1.0)), Err(StoreError::CapacityReached { .. })));
}

#[test]
fn another_dimension_or_precision_is_refused_with_the_way_out() {
    let disk = SimDisk::new(1);
    drop(open(&disk));
    let open_with = |dimension, precision| {
        let store =
            MemoryStore::new(100).with_dimension(dimension).unwrap().with_precision(precision).unwrap();
        store.with_log(Arc::new(disk.clone()), options()).map(drop)
    };
    let error = open_with(8, Precision::Int8).unwrap_err();
    assert!(matches!(error, StoreError::SettingMismatch { setting: "dimension", .. }), "{error}");
    let error = open_with(4, Precision::F32).unwrap_err();
    assert!(matches!(error, StoreError::SettingMismatch { .. }), "{error}");
    open_with(4, Precision::Int8).unwrap();
    assert!(MemoryStore::new(1).with_dimension(0).is_err());
    let used = open(&disk);
    assert!(matches!(used.with_dimension(8), Err(StoreError::Setting { .. })));
}

#[test]
fn a_store_in_use_does_not_get_another_log() {
    let store = MemoryStore::new(10).with_dimension(4).unwrap();
    let receipt = store.store(episode("a", 1.0)).unwrap();
    assert_eq!((receipt.durability, receipt.lsn), (Durability::Volatile, Lsn::FIRST));
    let refused = store.with_log(Arc::new(SimDisk::new(1)), options()).unwrap_err();
    assert!(matches!(refused, StoreError::Setting { .. }), "{refused}");
}

#[test]
fn when_the_log_fails_writes_are_refused_or_go_on_in_memory_as_told() {
    for log_failure in [LogFailure::Refuse, LogFailure::Volatile] {
        let sim = SimDisk::new(1);
        let disk = FaultyDisk::new(Arc::new(sim.clone()));
        let store = MemoryStore::new(100).with_dimension(4).unwrap().on_log_failure(log_failure);
        let store = store.with_log(Arc::new(disk.clone()), options()).unwrap();
        store.store(episode("kept", 1.0)).unwrap();
        assert_eq!(store.status().writes, Writes::Durable);
        disk.fail_from(Operation::Sync, 1, Fault::InputOutput);
        for id in ["first", "second"] {
            match (log_failure, store.store(episode(id, 1.0))) {
                (LogFailure::Refuse, Err(StoreError::Storage(StorageError::Poisoned { .. }))) => {
                    assert!(store.get(id).is_none());
                }
                (LogFailure::Volatile, Ok(receipt)) => {
                    assert_eq!(receipt.durability, Durability::Volatile);
                    assert_eq!(store.get(id).unwrap().lsn(), receipt.lsn);
                    let again = store.store(episode(id, 1.0)).unwrap();
                    assert_eq!((again.outcome, again.durability), (Outcome::Unchanged, Durability::Volatile));
                }
                (_, outcome) => panic!("{log_failure:?}: {outcome:?}"),
            }
        }
        assert!(store.get("kept").is_some(), "reads go on");
        assert_eq!(store.durability_of(store.get("kept").unwrap().lsn()), Durability::Synced);
        let writes = match log_failure {
            LogFailure::Refuse => Writes::Refused,
            LogFailure::Volatile => Writes::Volatile,
        };
        assert_eq!(store.status().writes, writes);
        assert!(store.close().is_err());
        drop(store);
        sim.crash(1);
        assert!(open(&sim).get("kept").is_some());
    }
}

#[test]
fn a_phantom_on_a_disk_that_can_only_be_read_is_not_called_synced() {
    let sim = SimDisk::new(1);
    let disk = FaultyDisk::new(Arc::new(sim.clone()));
    let open = |disk: &FaultyDisk| {
        MemoryStore::new(100).with_dimension(4).unwrap().with_log(Arc::new(disk.clone()), options()).unwrap()
    };
    let store = open(&disk);
    store.store(episode("proven", 1.0)).unwrap();
    disk.fail_from(Operation::Sync, 1, Fault::InputOutput);
    store.store(episode("phantom", 1.0)).unwrap_err();
    drop(store);
    disk.heal();
    disk.fail_from(Operation::Create, 1, Fault::ReadOnly);
    let store = open(&disk);
    let status = store.status();
    assert_eq!((status.log.synced_lsn, status.log.written_lsn, status.writes), (2, 3, Writes::Refused));
    let recovery = status.recovery.unwrap();
    assert_eq!((recovery.copied_records, recovery.unproven_records), (0, 1));
    assert_eq!(store.store(episode("phantom", 1.0)).unwrap().durability, Durability::Written);
    drop(store);
    disk.heal();
    let store = open(&disk);
    assert_eq!(store.store(episode("phantom", 1.0)).unwrap().durability, Durability::Synced);
    assert_eq!(store.status().recovery.unwrap().copied_records, 1);
}

#[test]
fn the_weak_modes_say_written_until_a_sync() {
    let options = WalOptions { fsync: FsyncMode::None, ..options() };
    let store = MemoryStore::new(10).with_dimension(4).unwrap();
    let store = store.with_log(Arc::new(SimDisk::new(1)), options).unwrap();
    assert_eq!(store.store(episode("a", 1.0)).unwrap().durability, Durability::Written);
    assert_eq!(store.store(episode("a", 1.0)).unwrap().durability, Durability::Written);
    store.sync().unwrap();
    assert_eq!(store.store(episode("a", 1.0)).unwrap().durability, Durability::Synced);
}

#[test]
fn filters_never_thin_out_the_results() {
    let store = open(&SimDisk::new(1));
    for n in 0..60_u8 {
        let sure = if n % 10 == 0 { Confidence::HIGH } else { Confidence::LOW };
        store.store(Episode { confidence: sure, ..episode(&n.to_string(), f32::from(n)) }).unwrap();
    }
    let at = |seconds| Some(Utc.timestamp_opt(seconds, 0).unwrap());
    let sure = Filter { confidence_min: Some(Confidence::HIGH), ..Filter::default() };
    let late = Filter { when_from: at(20), when_before: at(50), ..sure.clone() };
    for (filter, expected) in [(Filter::default(), 60), (sure, 6), (late, 3)] {
        for query in [Query::words("content"), Query::embedding([1.0, 3.0, 0.5, -3.0])] {
            let hits = store.recall(&query.clone().filter(filter.clone()).limit(100)).unwrap().hits;
            assert_eq!(hits.len(), expected);
            assert!(hits.iter().all(|hit| filter.accepts(&hit.memory)));
            assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
            assert_eq!(store.recall(&query.filter(filter.clone()).limit(2)).unwrap().hits, hits[..2]);
        }
    }
}

#[test]
fn each_memory_is_found_by_its_own_embedding() {
    let store = MemoryStore::new(100).with_dimension(32).unwrap();
    for n in 0..90_u8 {
        // Two of each vector: both are found.
        let vector: Vec<f32> = (0..32_u8).map(|i| (f32::from(n % 45) * f32::from(i + 1)).sin()).collect();
        let when = Utc.timestamp_opt(0, 0).unwrap();
        store.store(Episode::new(n.to_string(), when, "x", vector, Confidence::HIGH)).unwrap_or_else(|e| {
            assert!(n.is_multiple_of(45), "{e}"); // sin(0) is 0, and so is its vector
            store.store(Episode::new(n.to_string(), when, "x", [1.0; 32], Confidence::HIGH)).unwrap()
        });
    }
    for n in 0..90_u8 {
        let (_, embedding) = store.get_with_embedding(&n.to_string()).unwrap();
        let hits = store.recall(&Query::embedding(embedding.unwrap()).limit(2)).unwrap().hits;
        assert!(hits.iter().any(|hit| hit.memory.id() == n.to_string() && hit.score > 0.999), "{n}");
    }
}

#[test]
fn an_update_moves_a_memory_in_every_index() {
    let store = open(&SimDisk::new(1));
    store.store(episode("a", 1.0)).unwrap();
    store.store(Episode { id: "a".to_owned(), ..Episode::text("a", "only words") }).unwrap();
    assert!(store.recall(&Query::embedding([1.0; 4])).unwrap().hits.is_empty());
    assert!(store.recall(&Query::words("content")).unwrap().hits.is_empty());
    assert_eq!(store.recall(&Query::words("words")).unwrap().hits.len(), 1);
    assert_eq!(store.list(&ListQuery { limit: 10, ..ListQuery::default() }).unwrap().memories.len(), 1);
    store.forget("a").unwrap();
    assert!(store.recall(&Query::words("words")).unwrap().hits.is_empty());
    assert!(store.list(&ListQuery { limit: 10, ..ListQuery::default() }).unwrap().memories.is_empty());
}

#[test]
fn pages_hold_every_memory_once_in_the_order_of_time() {
    let store = open(&SimDisk::new(1));
    for n in (0..30_u8).rev() {
        store.store(episode(&format!("m{n:02}"), f32::from(n / 3))).unwrap();
    }
    let mut query = ListQuery { limit: 7, ..ListQuery::default() };
    let mut ids = Vec::new();
    loop {
        let page = store.list(&query).unwrap();
        ids.extend(page.memories.iter().map(|memory| memory.id().to_owned()));
        // Storing and forgetting behind the cursor does not disturb what comes after it.
        store.forget(&ids[0]).ok();
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    assert_eq!(ids, (0..30).map(|n| format!("m{n:02}")).collect::<Vec<_>>());
    let at = |seconds| Some(Utc.timestamp_opt(seconds, 0).unwrap());
    let ranged = ListQuery { limit: 100, from: at(2), before: at(4), ..ListQuery::default() };
    assert_eq!(store.list(&ranged).unwrap().memories.len(), 6);
}

#[test]
fn a_store_whose_first_record_is_lost_learns_its_dimension_from_its_vectors() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    (0..10_u8).for_each(|n| drop(store.store(episode(&n.to_string(), f32::from(n))).unwrap()));
    drop(store);
    lose_first_record(&disk);
    let store = MemoryStore::new(100).with_log(Arc::new(disk), options()).unwrap();
    assert_eq!((store.count(), store.status().dimension), (10, 4));
    assert_eq!(store.status().recovery.unwrap().lost_records, 1);
}

/// Holds the log's thread until the sender is dropped.
fn hold(store: &MemoryStore) -> std::sync::mpsc::Sender<()> {
    let (release, held) = std::sync::mpsc::channel();
    let entry = encode(Record::Forget(ForgetRecord {
        space: MemoryStore::DEFAULT_SPACE.to_owned(),
        id: "nobody".to_owned(),
        terms: Terms::default(),
    }))
    .unwrap();
    let state = Arc::clone(&store.state);
    store.log.as_ref().unwrap().submit_with(entry, move |entry, commit| {
        held.recv().unwrap_err();
        state.apply(commit.unwrap().lsn, entry.entry_type, &entry.payload).unwrap();
    });
    release
}

#[test]
fn changes_of_one_thread_happen_in_their_order() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    store.store(episode("a", 1.0)).unwrap();
    let release = hold(&store);
    // Back to what memory still shows, and away with what it does not show yet.
    let changes = [
        store.submit(episode("a", 2.0)),
        store.submit(episode("a", 1.0)),
        store.submit(episode("b", 1.0)),
        store.submit_forget("b"),
        store.submit_forget("b"),
    ];
    drop(release);
    let outcomes = changes.map(|change| change.wait().map(|receipt| receipt.outcome));
    assert!(
        matches!(
            outcomes,
            [
                Ok(Outcome::Updated),
                Ok(Outcome::Updated),
                Ok(Outcome::Created),
                Ok(Outcome::Deleted),
                Err(StoreError::NotFound { .. }),
            ]
        ),
        "{outcomes:?}"
    );
    assert_eq!(store.get("a").unwrap().content(), "content 1 of a");
    let live = everything(&store);
    assert_eq!(live.len(), 1);
    drop(store);
    assert_eq!(everything(&open(&disk)), live);
}

#[test]
fn what_is_refused_leaves_nothing_in_flight() {
    let store = open(&SimDisk::new(1));
    store.store(episode("a", 1.0)).unwrap();
    store.store(episode("a", 1.0)).unwrap();
    store.forget("nobody").unwrap_err();
    store.store(episode("", 1.0)).unwrap_err();
    store.close().unwrap();
    store.store(episode("b", 1.0)).unwrap_err();
    let in_flight = &store.state.default_space().in_flight;
    assert!(!in_flight.touches("a") && !in_flight.touches("b"));
    assert_eq!((in_flight.new_memories(), store.state.new_memories()), (0, 0));
}

#[test]
fn a_memory_and_its_embedding_are_of_the_same_version() {
    let store = MemoryStore::new(10).with_dimension(4).unwrap().with_precision(Precision::F32).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 1..3000_u16 {
                store.store(episode("a", f32::from(n))).unwrap();
                if n % 7 == 0 {
                    store.forget("a").unwrap();
                }
            }
        });
        while !writer.is_finished() {
            if let Some((memory, embedding)) = store.get_with_embedding("a") {
                let n = embedding.unwrap().as_slice()[1];
                assert_eq!(memory.content(), format!("content {n} of a"));
            }
        }
    });
}

#[test]
fn a_lost_first_record_is_made_up_for_by_a_later_vector() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    store.store(Episode::text("words", "without a vector")).unwrap();
    (0..10_u8).for_each(|n| drop(store.store(episode(&n.to_string(), f32::from(n))).unwrap()));
    drop(store);
    lose_first_record(&disk);
    let store = MemoryStore::new(100).with_log(Arc::new(disk), options()).unwrap();
    assert_eq!((store.count(), store.status().dimension), (11, 4));
}

#[test]
fn when_the_log_fails_changes_of_one_thread_stay_in_order() {
    for nth in (1..20).cycle().take(100) {
        let disk = FaultyDisk::new(Arc::new(SimDisk::new(1)));
        let store = MemoryStore::new(100).with_dimension(4).unwrap().on_log_failure(LogFailure::Volatile);
        let store = store.with_log(Arc::new(disk.clone()), options()).unwrap();
        disk.fail_from(Operation::Sync, nth, Fault::InputOutput);
        let handles: Vec<_> = (0..200_u8).map(|n| store.submit(episode("a", f32::from(n)))).collect();
        for handle in handles {
            handle.wait().unwrap();
        }
        assert_eq!(store.get("a").unwrap().content(), "content 199 of a");
    }
}

/// Damages the record that says how the store was made.
fn lose_first_record(disk: &SimDisk) {
    let name = disk.file_names().into_iter().find(|name| name.starts_with("wal-")).unwrap();
    let mut bytes = disk.read(&name).unwrap();
    bytes[engram_storage::SECTOR_LEN] ^= 1;
    disk.plant(&name, bytes);
}

#[test]
fn the_index_of_the_vectors_is_there_again_after_a_restart_and_nobody_minds_its_file() {
    const DIMENSION: u16 = 128;
    let vector = |n: u16| -> Vec<f32> {
        (0..DIMENSION).map(|i| f32::from((n % 64 * 31 + i * 17 + n / 64 * (i % 7)) % 101) - 50.0).collect()
    };
    let disk = SimDisk::new(5);
    let open = || {
        let store = MemoryStore::new(10_000).with_dimension(DIMENSION.into()).unwrap();
        let store = store.with_index(IndexMode::Ivf).unwrap();
        store.with_recall_target(crate::RecallTarget::new(0.1).unwrap()).unwrap()
    };
    let options = || WalOptions { fsync: FsyncMode::None, ..WalOptions::default() };
    let store = open().with_log(Arc::new(disk.clone()), options()).unwrap();
    let episode =
        |n: u16| Episode { embedding: Some(vector(n).into()), ..Episode::text(n.to_string(), "it") };
    (0..9000).for_each(|n| drop(store.store(episode(n)).unwrap()));
    while store.status().index.lists == 0 {
        std::thread::yield_now();
    }
    store.close().unwrap();
    drop(store);
    assert!(disk.durable_files().contains_key("index.cache"));
    let inspection = engram_storage::WalReader::open(Arc::new(disk.clone())).inspect().unwrap();
    assert!(inspection.damage.is_empty());
    let store = open().with_log(Arc::new(disk.clone()), options()).unwrap();
    let report = store.status().recovery.unwrap();
    assert_eq!((report.records, store.count()), (9001, 9000));
    assert!(store.status().index.lists > 0);
    for n in (0..9000).step_by(17) {
        let hits = store.recall(&Query { exact: false, ..Query::embedding(vector(n)) }).unwrap().hits;
        assert!(hits[0].score > 0.9999, "{n}");
    }
}

#[test]
fn what_takes_more_memory_than_there_may_be_is_refused_and_what_is_forgotten_makes_room() {
    let disk = SimDisk::new(1);
    let open = |limit| {
        let store = MemoryStore::new(1000).with_dimension(4).unwrap().with_memory_limit(limit);
        store.with_log(Arc::new(disk.clone()), options()).unwrap()
    };
    let store = open(20_000);
    assert_eq!((store.status().memory_bytes, store.status().memory_limit), (0, 20_000));
    let stored = (0..1000).find(|n| store.store(episode(&format!("m{n:03}"), 1.0)).is_err()).unwrap();
    let refused = store.store(episode("one more", 1.0)).unwrap_err();
    assert!(
        matches!(refused, StoreError::MemoryLimitReached { limit: 20_000, bytes: 19_000.. }),
        "{refused}"
    );
    assert!((20..80).contains(&stored), "{stored}");
    let bytes = store.status().memory_bytes;
    // In place of one that is as large.
    store.store(episode("m000", 2.0)).unwrap();
    assert_eq!(store.status().memory_bytes, bytes);
    store.forget("m001").unwrap();
    store.store(episode("new1", 1.0)).unwrap();
    assert_eq!(store.status().memory_bytes, bytes);
    drop(store);
    // What is there is opened whatever the limit is, and counts the same.
    let store = open(1000);
    assert_eq!((store.count(), store.status().memory_bytes), (stored, bytes));
    for (memory, _) in everything(&store) {
        store.forget(memory.id()).unwrap();
    }
    assert_eq!(store.status().memory_bytes, 0);
}
