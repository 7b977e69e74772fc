//! Changes under terms, requests that are repeated, ends of life, and embeddings that come later.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;
use crate::{ModelIdentity, Patch, RequestKey, WriteOptions};

pub(super) fn expecting(lsn: Lsn) -> WriteOptions {
    WriteOptions { expected: Some(lsn), ..WriteOptions::default() }
}

pub(super) fn request(key: &str, fingerprint: u128) -> WriteOptions {
    let key = key.to_owned();
    WriteOptions { request: Some(RequestKey { key, fingerprint }), ..WriteOptions::default() }
}

#[test]
fn a_change_for_another_version_changes_nothing() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let space = store.default_space();
    let first = space.submit(episode("a", 1.0), &expecting(Lsn::ZERO)).wait().unwrap();
    let there = space.submit(episode("a", 2.0), &expecting(Lsn::ZERO)).wait().unwrap_err();
    assert!(matches!(there, StoreError::VersionMismatch { actual, .. } if actual == first.lsn));
    let second = space.submit(episode("a", 2.0), &expecting(first.lsn)).wait().unwrap();
    let stale = space.submit(episode("a", 3.0), &expecting(first.lsn)).wait().unwrap_err();
    assert!(matches!(stale, StoreError::VersionMismatch { expected, .. } if expected == first.lsn));
    space.submit_forget("a", &expecting(first.lsn)).wait().unwrap_err();
    assert_eq!(store.get("a").unwrap().lsn(), second.lsn);
    space.submit_forget("a", &expecting(second.lsn)).wait().unwrap();
    let gone = space.submit(episode("a", 3.0), &expecting(second.lsn)).wait().unwrap_err();
    assert!(gone.to_string().contains("is not there"), "{gone}");
    drop(space);
    drop(store);
    assert_eq!(open(&disk).count(), 0);
}

#[test]
fn of_two_changes_for_one_version_that_are_in_flight_together_the_first_wins() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let first = store.store(episode("a", 1.0)).unwrap().lsn;
    let release = hold(&store);
    let space = store.default_space();
    let changes = [
        space.submit(episode("a", 2.0), &expecting(first)),
        space.submit(episode("a", 3.0), &expecting(first)),
        space.submit_forget("a", &expecting(first)),
    ];
    drop(release);
    let outcomes = changes.map(|change| change.wait().map(|receipt| receipt.outcome));
    assert!(
        matches!(
            outcomes,
            [
                Ok(Outcome::Updated),
                Err(StoreError::VersionMismatch { .. }),
                Err(StoreError::VersionMismatch { .. })
            ]
        ),
        "{outcomes:?}"
    );
    drop(space);
    let live = everything(&store);
    assert_eq!(store.get("a").unwrap().content(), "content 2 of a");
    drop(store);
    assert_eq!(everything(&open(&disk)), live, "what lost in the log loses again at each recovery");
}

#[test]
fn a_repeated_request_gets_the_first_receipt_also_after_a_crash_and_a_snapshot() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let space = store.default_space();
    let first = space.submit(episode("a", 1.0), &request("k1", 1)).wait().unwrap();
    let unchanged = space.submit(episode("a", 1.0), &request("k2", 2)).wait().unwrap();
    assert_eq!((unchanged.outcome, unchanged.lsn), (Outcome::Unchanged, first.lsn));
    store.store(episode("a", 5.0)).unwrap();
    let forgotten = space.submit_forget("a", &request("k3", 3)).wait().unwrap();
    drop(space);
    let check = |store: &MemoryStore| {
        let space = store.default_space();
        assert_eq!(space.submit(episode("a", 1.0), &request("k1", 1)).wait().unwrap(), first);
        assert_eq!(space.submit(episode("a", 1.0), &request("k2", 2)).wait().unwrap(), unchanged);
        assert_eq!(space.submit_forget("a", &request("k3", 3)).wait().unwrap(), forgotten);
        let other = space.submit(episode("b", 1.0), &request("k1", 9)).wait().unwrap_err();
        assert!(matches!(other, StoreError::RequestKeyReused { .. }));
        assert_eq!(store.count(), 0, "no repetition has changed anything");
    };
    check(&store);
    drop(store);
    let store = open(&disk);
    check(&store);
    store.snapshot().unwrap();
    drop(store);
    let store = open(&disk);
    assert!(store.status().recovery.as_ref().unwrap().snapshot.is_some());
    check(&store);
    let bad = store.default_space().submit(episode("a", 1.0), &request("a\n", 1)).wait().unwrap_err();
    assert!(matches!(bad, StoreError::RequestKey { .. }));
}

#[test]
fn a_request_that_is_being_answered_is_not_answered_twice() {
    let store = open(&SimDisk::new(1));
    let release = hold(&store);
    let space = store.default_space();
    let first = space.submit(episode("a", 1.0), &request("k", 1));
    let second = space.submit(episode("a", 1.0), &request("k", 1)).wait().unwrap_err();
    assert!(matches!(second, StoreError::RequestInFlight { .. }));
    drop(release);
    let first = first.wait().unwrap();
    assert_eq!(space.submit(episode("a", 1.0), &request("k", 1)).wait().unwrap(), first);
}

#[test]
fn a_patch_changes_what_it_names() {
    let store = open(&SimDisk::new(1));
    let space = store.default_space();
    let mut memory = episode("a", 1.0);
    memory.metadata.insert("x".to_owned(), MetaValue::Integer(1));
    memory.metadata.insert("y".to_owned(), MetaValue::Integer(2));
    store.store(memory).unwrap();
    let metadata = vec![("x".to_owned(), None), ("z".to_owned(), Some(MetaValue::Boolean(true)))];
    space.patch("a", Patch { metadata, ..Patch::default() }, &WriteOptions::default()).unwrap();
    let (memory, embedding) = store.get_with_embedding("a").unwrap();
    assert_eq!(memory.metadata().keys().collect::<Vec<_>>(), ["y", "z"]);
    assert!(embedding.is_some() && memory.content() == "content 1 of a");
    // Another content means something else: the embedding of the old one would be wrong.
    let content = Some("something else".to_owned());
    space.patch("a", Patch { content, ..Patch::default() }, &WriteOptions::default()).unwrap();
    assert_eq!(store.get_with_embedding("a").unwrap().1, None);
    let missing = space.patch("b", Patch::default(), &WriteOptions::default()).unwrap_err();
    assert!(matches!(missing, StoreError::NotFound { .. }));
    let stale = space.patch("a", Patch::default(), &expecting(Lsn::new(1))).unwrap_err();
    assert!(matches!(stale, StoreError::VersionMismatch { .. }));
    let same = space.patch("a", Patch::default(), &WriteOptions::default()).unwrap();
    assert_eq!(same.outcome, Outcome::Unchanged);
}

#[test]
fn a_memory_whose_time_is_over_is_not_seen_and_then_gone() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let ends = |id: &str, at: i64| Episode {
        expires_at: Some(Utc.timestamp_opt(at, 0).unwrap()),
        ..Episode::text(id, "a memory with an end")
    };
    store.store(ends("past", 1_000)).unwrap();
    store.store(ends("future", 32_000_000_000)).unwrap();
    store.store(ends("changed", 1_000)).unwrap();
    store.store(Episode::text("changed", "a memory without")).unwrap();
    let seen = |store: &MemoryStore| {
        let page = store.list(&ListQuery::default()).unwrap();
        let recalled = store.recall(&Query::words("memory")).unwrap();
        (page.memories.len(), recalled.hits.len(), store.get("past").is_some())
    };
    assert_eq!((seen(&store), store.count()), ((2, 2, false), 3));
    drop(store);
    let store = open(&disk);
    assert_eq!((seen(&store), store.count()), ((2, 2, false), 3));
    assert_eq!(store.forget_expired(Utc::now(), 100).unwrap(), 1);
    assert_eq!((seen(&store), store.count()), ((2, 2, false), 2));
    assert_eq!(store.forget_expired(Utc::now(), 100).unwrap(), 0);
    drop(store);
    assert_eq!(open(&disk).count(), 2);
}

#[test]
fn an_embedding_that_comes_later_leaves_the_version_and_is_there_after_a_restart() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let stored = store.store(Episode::text("a", "first without")).unwrap();
    store.store(Episode::text("b", "changed meanwhile")).unwrap();
    let waiting = store.unembedded(Lsn::ZERO, 10);
    assert_eq!(waiting.len(), 2);
    assert_eq!(store.unembedded(stored.lsn, 10).len(), 1);
    store.store(Episode::text("b", "changed by now")).unwrap();
    let vector = Embedding::from(vec![1.0, 2.0, 3.0, 4.0]);
    let space = store.default_space();
    space.submit_embedding("a", stored.lsn, &vector).wait().unwrap();
    let late = space.submit_embedding("b", waiting[1].memory.lsn(), &vector).wait().unwrap_err();
    assert!(matches!(late, StoreError::NotFound { .. }));
    drop(space);
    let memory = store.get("a").unwrap();
    assert!(memory.has_embedding() && memory.lsn() == stored.lsn);
    let nearest = store.recall(&Query::embedding(vector.clone())).unwrap();
    assert_eq!(nearest.hits[0].memory.id(), "a");
    assert_eq!(store.unembedded(Lsn::ZERO, 10).len(), 1);
    let live = everything(&store);
    drop(store);
    let store = open(&disk);
    assert_eq!(everything(&store), live);
    store.snapshot().unwrap();
    drop(store);
    assert_eq!(everything(&open(&disk)), live);
}

#[test]
fn a_store_changes_to_another_model_at_one_place() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let model = |name: &str| ModelIdentity {
        name: name.to_owned(),
        document_prefix: String::new(),
        query_prefix: String::new(),
    };
    store.store(episode("a", 1.0)).unwrap();
    store.set_model(model("old")).unwrap();
    store.set_model(model("old")).unwrap();
    assert!(matches!(store.set_model(model("new")), Err(StoreError::SettingMismatch { .. })));
    assert!(store.get("a").unwrap().has_embedding(), "to say what they are from takes no embedding away");
    store.store(episode("b", 2.0)).unwrap();
    let mut staging = store.begin_staging(2).unwrap();
    let a = store.get("a").unwrap();
    store.stage(&mut staging, "default", &a, &Embedding::from(vec![1.0, 0.5])).unwrap();
    // One of the old length that is on its way comes after the change.
    let release = hold(&store);
    std::thread::scope(|scope| {
        let store = &store;
        let changing = scope.spawn(move || store.change_model(staging, model("new")).unwrap());
        while store.status().log.queue_depth < 1 {
            std::thread::yield_now();
        }
        let late = store.submit(episode("c", 3.0));
        drop(release);
        changing.join().unwrap();
        assert_eq!(late.wait().unwrap().outcome, Outcome::Created);
    });
    let check = |store: &MemoryStore| {
        let status = store.status();
        assert_eq!((status.dimension, status.model), (2, Some(model("new"))));
        let embedded = ["a", "b", "c"].map(|id| store.get(id).unwrap().has_embedding());
        assert_eq!(embedded, [true, false, false]);
        assert_eq!((status.count, status.unembedded), (3, 2));
        let nearest = store.recall(&Query::embedding(vec![1.0, 0.5])).unwrap();
        assert_eq!(nearest.hits[0].memory.id(), "a");
        assert_eq!(nearest.hits.len(), 1);
    };
    check(&store);
    let reopen = |store: MemoryStore| {
        drop(store);
        MemoryStore::new(100).with_log(Arc::new(disk.clone()), options()).unwrap()
    };
    let store = reopen(store);
    check(&store);
    store.snapshot().unwrap();
    check(&reopen(store));
}

/// Until it is forgotten it holds its place and its id, and nobody sees it.
#[test]
fn a_memory_whose_time_is_over_is_in_nobodys_way() {
    let store = open(&SimDisk::new(1));
    let space = store.default_space();
    let over = DateTime::from_timestamp(1, 0);
    for id in ["a", "b"] {
        store.store(Episode { expires_at: over, ..episode(id, 1.0) }).unwrap();
    }
    assert!(space.ids(&Filter::default()).unwrap().is_empty());
    let gone = space.submit_forget("a", &WriteOptions::default()).wait().unwrap_err();
    assert!(matches!(gone, StoreError::NotFound { .. }));
    let stale = space.submit(episode("a", 2.0), &expecting(Lsn::FIRST.next())).wait().unwrap_err();
    assert!(matches!(stale, StoreError::VersionMismatch { actual: Lsn::ZERO, .. }), "{stale}");
    space.submit(episode("a", 2.0), &expecting(Lsn::ZERO)).wait().unwrap();
    space.submit(episode("a", 3.0), &expecting(Lsn::ZERO)).wait().unwrap_err();
    assert_eq!(store.forget_expired(Utc::now(), 10).unwrap(), 1);
    assert_eq!(store.count(), 1);
}

#[test]
fn each_is_listed_once_while_its_time_changes() {
    let store = MemoryStore::new(10_000);
    let at = |second| DateTime::from_timestamp(second, 0).unwrap();
    for n in 0..4_000_i64 {
        store.store(Episode { when: at(n), ..Episode::text(format!("{n:04}"), "x") }).unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // From one end to the other: from pages that were read to pages that were not, and back.
        scope.spawn(|| {
            for second in [5_000, 10].into_iter().cycle().take_while(|_| !stop.load(SeqCst)) {
                for id in ["0001", "3998"] {
                    store.store(Episode { when: at(second), ..Episode::text(id, "x") }).unwrap();
                }
            }
        });
        let expected: Vec<Arc<str>> = (0..4_000).map(|n| format!("{n:04}").into()).collect();
        for _ in 0..300 {
            let mut ids = store.default_space().ids(&Filter::default()).unwrap();
            ids.sort_unstable();
            if ids != expected {
                stop.store(true, SeqCst);
            }
            assert_eq!(ids, expected);
        }
        stop.store(true, SeqCst);
    });
}
