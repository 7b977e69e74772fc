//! Spaces, and what is in them.

use super::*;
use crate::FeedEvent;

/// A space: its name, its capacity, and its memories.
type Shown = (String, Option<u64>, Vec<(String, Lsn, bool)>);

/// All of all spaces, to compare one store with another.
fn all(store: &MemoryStore) -> Vec<Shown> {
    let of = |status: SpaceStatus| {
        let space = store.space(&status.name).unwrap();
        let page = space.list(&ListQuery { limit: 1000, ..ListQuery::default() }).unwrap();
        assert_eq!(page.memories.len(), status.count);
        let memory = |it: &Arc<Memory>| (it.content().to_owned(), it.lsn(), it.has_embedding());
        (status.name.to_string(), status.capacity, page.memories.iter().map(memory).collect())
    };
    store.spaces().into_iter().map(of).collect()
}

#[test]
fn the_same_id_in_two_spaces_is_two_memories_and_recall_stays_in_its_own() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    store.make_space("work", None).unwrap();
    store.store(Episode::text("tea", "green tea at home")).unwrap();
    let work = store.space("work").unwrap();
    assert_eq!(work.store(Episode::text("tea", "no tea at work")).unwrap().outcome, Outcome::Created);
    assert_eq!((store.count(), work.count(), store.default_space().count()), (2, 1, 1));
    let found = work.recall(&Query::words("tea")).unwrap();
    assert_eq!(found.hits.len(), 1);
    assert_eq!(found.hits[0].memory.content(), "no tea at work");
    assert_eq!(store.recall(&Query::words("work")).unwrap().hits.len(), 0);
    work.forget("tea").unwrap();
    assert_eq!(store.get("tea").unwrap().content(), "green tea at home");
    let live = all(&store);
    drop(store);
    assert_eq!(all(&open(&disk)), live);
}

#[test]
fn a_dropped_space_is_gone_with_all_in_it_and_comes_back_empty() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let made = store.make_space("a", Some(2)).unwrap();
    assert_eq!((made.id.as_str(), made.outcome), ("a", Outcome::Created));
    let space = store.space("a").unwrap();
    space.store(episode("one", 1.0)).unwrap();
    space.store(Episode::text("two", "without an embedding")).unwrap();
    let full = space.store(episode("three", 3.0)).unwrap_err();
    assert!(
        matches!(full, StoreError::CapacityReached { space: Some(name), capacity: 2, .. } if name == "a")
    );
    assert_eq!(store.make_space("a", Some(3)).unwrap().outcome, Outcome::Updated);
    space.store(episode("three", 3.0)).unwrap();
    assert_eq!(store.unembedded(Lsn::ZERO, 10).len(), 1);
    let bytes = store.status().memory_bytes;
    assert!(bytes > 0);
    assert_eq!(store.drop_space("a").unwrap().outcome, Outcome::Deleted);
    assert_eq!(
        (store.count(), store.status().memory_bytes, store.unembedded(Lsn::ZERO, 10).len()),
        (0, 0, 0)
    );
    assert!(matches!(store.space("a"), Err(StoreError::SpaceNotFound { .. })));
    // Whoever still has it is told at the latest when the change comes to its place in the log.
    assert!(matches!(space.store(episode("one", 4.0)), Err(StoreError::SpaceNotFound { .. })));
    assert!(matches!(store.drop_space("a"), Err(StoreError::SpaceNotFound { .. })));
    store.make_space("a", None).unwrap();
    assert_eq!(store.space("a").unwrap().count(), 0);
    let live = all(&store);
    drop(space);
    drop(store);
    assert_eq!(all(&open(&disk)), live);
}

#[test]
fn a_name_that_no_space_can_have_is_refused() {
    let store = open(&SimDisk::new(1));
    let long = "a".repeat(65);
    for name in ["", "A", "-a", "a/b", "a b", "é", &*long] {
        assert!(matches!(store.make_space(name, None), Err(StoreError::Space { .. })), "{name:?}");
    }
    assert!(matches!(store.make_space("a", Some(0)), Err(StoreError::Space { .. })));
    assert!(matches!(store.drop_space("default"), Err(StoreError::Space { .. })));
    store.make_space("0.a-b_c", None).unwrap();
}

#[test]
fn a_snapshot_has_all_spaces_and_nothing_that_was_dropped() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    for name in ["b", "a", "gone"] {
        store.make_space(name, Some(500)).unwrap();
        let space = store.space(name).unwrap();
        (0..30_u8).for_each(|n| drop(space.store(episode(&n.to_string(), f32::from(n))).unwrap()));
    }
    store.store(episode("x", 1.0)).unwrap();
    store.drop_space("gone").unwrap();
    store.snapshot().unwrap();
    store.space("b").unwrap().forget("7").unwrap();
    let live = all(&store);
    assert_eq!(live.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["a", "b", "default"]);
    drop(store);
    let store = open(&disk);
    assert_eq!(all(&store), live);
    assert!(store.status().recovery.unwrap().snapshot.is_some());
}

#[test]
fn what_a_snapshot_collects_is_exact_while_spaces_change_and_go() {
    let store = open(&SimDisk::new(1));
    for name in ["a", "b", "c"] {
        store.make_space(name, None).unwrap();
        let space = store.space(name).unwrap();
        (0..10_u8).for_each(|n| drop(space.store(episode(&format!("{name}{n}"), f32::from(n))).unwrap()));
    }
    let expected = all(&store);
    store.state.begin_capture(store.state.applied_lsn());
    // Before anything has come.
    store.space("b").unwrap().store(episode("b9", 99.0)).unwrap();
    // Of the first space, some have come; the others have not begun.
    let mut captured = store.state.capture_page().unwrap();
    captured.extend(store.state.capture_page().unwrap());
    store.space("b").unwrap().store(episode("b3", 99.0)).unwrap();
    store.space("b").unwrap().forget("b4").unwrap();
    store.space("a").unwrap().forget("a1").unwrap();
    store.drop_space("c").unwrap();
    store.make_space("c", None).unwrap();
    store.space("c").unwrap().store(episode("new", 1.0)).unwrap();
    while let Some(page) = store.state.capture_page() {
        captured.extend(page);
    }
    let again = MemoryStore::new(100).with_dimension(4).unwrap();
    // In the order in which a snapshot has them, and a start reads them.
    for (lsn, entry) in captured.into_iter().map(|captured| captured.entry(0).unwrap()) {
        again.state.apply(lsn, entry.entry_type, &entry.payload).unwrap();
    }
    assert_eq!(all(&again), expected);
}

#[test]
fn changes_are_followed_from_any_place_that_is_kept() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let first = store.store(episode("a", 1.0)).unwrap().lsn;
    store.make_space("s", None).unwrap();
    store.space("s").unwrap().store(episode("b", 1.0)).unwrap();
    store.forget("a").unwrap();
    store.store(episode("c", 1.0)).unwrap();
    store.store(episode("c", 1.0)).unwrap(); // the same: no change
    let told = |store: &MemoryStore, after| {
        let items = store.changes(after, 100).unwrap().into_iter();
        items.map(|item| format!("{} {:?}", item.space, item.event)).collect::<Vec<_>>()
    };
    let expected =
        ["s SpaceConfigured", "s Stored(\"b\")", "default Forgotten(\"a\")", "default Stored(\"c\")"];
    assert_eq!(told(&store, first), expected);
    drop(store);
    let store = open(&disk);
    assert_eq!(told(&store, first), expected, "the log is followed over a restart");
    let at = store.snapshot().unwrap().lsn;
    drop(store);
    let store = open(&disk);
    assert!(matches!(store.changes(first, 1), Err(StoreError::ChangesGone { oldest, .. }) if oldest == at));
    store.store(episode("d", 1.0)).unwrap();
    let items = store.changes(at, 10).unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].event, FeedEvent::Stored(Arc::from("d")));
}
