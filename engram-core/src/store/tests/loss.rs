//! Damaged logs: what can still be read, and may stand on what cannot, is not lost with it, and nothing comes back.

use engram_storage::{WalReader, WalRepair};

use super::{
    terms::{expecting, request},
    *,
};
use crate::{Patch, WriteOptions};

/// Spoils the record of this number on the disk.
pub(super) fn lose(disk: &SimDisk, lsn: Lsn) {
    let reader = WalReader::open(Arc::new(disk.clone()));
    let record = reader.iter().flatten().find(|record| record.lsn() == lsn).unwrap();
    let name = format!("wal-{:020}.log", record.segment.get());
    flip(disk, &name, |_| usize::try_from(record.offset).unwrap());
}

/// Spoils the snapshot where `place` says.
pub(super) fn spoil_snapshot(disk: &SimDisk, place: impl Fn(&[u8]) -> usize) {
    let name = disk.file_names().into_iter().find(|name| name.starts_with("snapshot-")).unwrap();
    flip(disk, &name, place);
}

fn flip(disk: &SimDisk, name: &str, place: impl Fn(&[u8]) -> usize) {
    let mut bytes = disk.read(name).unwrap();
    let at = place(&bytes);
    bytes[at] ^= 1;
    disk.plant(name, bytes);
}

/// Where this text comes first.
fn where_first(text: &'static str) -> impl Fn(&[u8]) -> usize {
    |bytes| bytes.windows(text.len()).position(|part| part == text.as_bytes()).unwrap()
}

#[test]
fn a_change_whose_version_is_lost_is_not_lost_with_it() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let first = store.store(episode("a", 1.0)).unwrap().lsn;
    let space = store.default_space();
    let content = |text: &str| Patch { content: Some(text.to_owned()), ..Patch::default() };
    space.patch("a", content("second"), &WriteOptions::default()).unwrap();
    space.patch("a", content("third"), &WriteOptions::default()).unwrap();
    let b = store.store(episode("b", 1.0)).unwrap().lsn;
    space.patch("b", content("gone"), &WriteOptions::default()).unwrap();
    store.forget("b").unwrap();
    drop(space);
    drop(store);
    lose(&disk, first);
    lose(&disk, b);
    for _ in 0..2 {
        let store = open(&disk);
        assert_eq!(store.status().recovery.unwrap().lost_records, 2);
        assert_eq!(
            store.get("a").unwrap().content(),
            "third",
            "it was acknowledged, and its record is whole"
        );
        assert_eq!(store.get("b"), None, "what was forgotten later stays so");
    }
}

#[test]
fn memories_of_a_space_whose_making_is_lost_are_not_lost_with_it() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let made = store.make_space("s", Some(10)).unwrap().lsn;
    store.space("s").unwrap().store(episode("a", 1.0)).unwrap();
    store.space("s").unwrap().store(episode("a", 2.0)).unwrap();
    drop(store);
    lose(&disk, made);
    let store = open(&disk);
    assert_eq!(store.space("s").unwrap().get("a").unwrap().content(), "content 2 of a");
    store.drop_space("s").unwrap();
    drop(store);
    assert!(open(&disk).space("s").is_err(), "what was dropped later stays so");
}

#[test]
fn what_lost_to_another_change_does_not_win_in_a_damaged_log() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let other = store.store(episode("other", 1.0)).unwrap().lsn;
    let first = store.store(episode("a", 1.0)).unwrap().lsn;
    let release = hold(&store);
    let space = store.default_space();
    let changes = [
        space.submit(episode("a", 2.0), &expecting(first)),
        space.submit(episode("a", 3.0), &expecting(first)),
    ];
    drop(release);
    assert_eq!(changes.map(|change| change.wait().is_ok()), [true, false]);
    drop(space);
    drop(store);
    lose(&disk, other);
    assert_eq!(open(&disk).get("a").unwrap().content(), "content 2 of a");
}

#[test]
fn what_is_changed_after_a_start_over_damage_stays_changed() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let made = store.make_space("s", None).unwrap().lsn;
    for id in ["a", "b", "c", "d"] {
        store.space("s").unwrap().store(episode(id, 1.0)).unwrap();
    }
    drop(store);
    lose(&disk, made);
    let contents = |store: &MemoryStore| {
        let space = store.space("s").unwrap();
        ["a", "b", "c", "d"].map(|id| space.get(id).map(|memory| memory.content().to_owned()))
    };
    let store = open(&disk);
    assert!(contents(&store).iter().all(Option::is_some), "{:?}", contents(&store));
    let space = store.space("s").unwrap();
    space.forget("a").unwrap();
    store.make_space("s", Some(10)).unwrap();
    space.store(episode("b", 2.0)).unwrap();
    let patch = Patch { content: Some("patched".to_owned()), ..Patch::default() };
    space.patch("c", patch, &WriteOptions::default()).unwrap();
    space.submit_forget("d", &expecting(space.get("d").unwrap().lsn())).wait().unwrap();
    let live = contents(&store);
    assert_eq!(live, [None, Some("content 2 of b".to_owned()), Some("patched".to_owned()), None]);
    drop(space);
    drop(store);
    for _ in 0..2 {
        let store = open(&disk);
        assert_eq!(store.status().recovery.unwrap().lost_records, 1);
        assert_eq!(contents(&store), live);
    }
}

#[test]
fn what_was_forgotten_stays_so_when_the_version_that_it_was_is_lost() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    store.store(episode("a", 1.0)).unwrap();
    let lost = store.store(episode("a", 2.0)).unwrap().lsn;
    store.default_space().submit_forget("a", &expecting(lost)).wait().unwrap();
    let made = store.make_space("s", None).unwrap().lsn;
    store.space("s").unwrap().store(episode("b", 1.0)).unwrap();
    store.space("s").unwrap().store(episode("c", 1.0)).unwrap();
    store.space("s").unwrap().forget("b").unwrap();
    drop(store);
    lose(&disk, lost);
    lose(&disk, made);
    let store = open(&disk);
    assert_eq!(store.get("a"), None);
    let space = store.space("s").unwrap();
    assert_eq!((space.get("b"), space.get("c").is_some()), (None, true));
}

#[test]
fn a_change_that_came_too_late_for_what_was_forgotten_does_not_bring_it_back() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let other = store.store(episode("other", 1.0)).unwrap().lsn;
    let first = store.store(episode("a", 1.0)).unwrap().lsn;
    let release = hold(&store);
    let space = store.default_space();
    let forgotten = space.submit_forget("a", &WriteOptions::default());
    let late = space.submit(episode("a", 2.0), &expecting(first));
    drop(release);
    assert!(forgotten.wait().is_ok() && late.wait().is_err());
    drop(space);
    drop(store);
    lose(&disk, other);
    assert_eq!(open(&disk).get("a"), None);
}

#[test]
fn memories_are_not_lost_with_their_space_when_nothing_says_how_the_store_was_made() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let made = store.make_space("s", None).unwrap().lsn;
    for id in ["a", "x", "y", "z"] {
        store.space("s").unwrap().store(Episode::text(id, "words alone")).unwrap();
    }
    drop(store);
    lose(&disk, Lsn::FIRST);
    lose(&disk, made);
    for _ in 0..2 {
        let store = open(&disk);
        assert_eq!(store.space("s").unwrap().get("a").unwrap().content(), "words alone");
        store.space("s").unwrap().store(episode("b", 1.0)).unwrap();
    }
}

#[test]
fn a_repair_of_a_snapshot_does_not_cost_a_space_whose_making_it_leaves_out() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    store.make_space("notes-of-ada", None).unwrap();
    for id in ["a", "b", "c", "d"] {
        store.space("notes-of-ada").unwrap().store(episode(id, 1.0)).unwrap();
    }
    store.snapshot().unwrap();
    drop(store);
    // It is named first where it is made.
    spoil_snapshot(&disk, where_first("notes-of-ada"));
    let after = WalRepair::new(Arc::new(disk.clone())).and_then(WalRepair::run).unwrap();
    assert_eq!((after.lost_records, after.declared_lost, after.damage.len()), (0, 1, 0));
    for _ in 0..2 {
        let store = open(&disk);
        assert_eq!(store.space("notes-of-ada").unwrap().status().count, 4);
        assert_eq!(store.status().recovery.unwrap().declared_lost, 1);
    }
    // What is whole again says nothing of it any more.
    let store = open(&disk);
    store.store(episode("more", 1.0)).unwrap();
    store.snapshot().unwrap();
    drop(store);
    let store = open(&disk);
    assert_eq!(store.space("notes-of-ada").unwrap().status().count, 4);
    assert_eq!(store.status().recovery.unwrap().declared_lost, 0);
}

#[test]
fn what_was_forgotten_stays_so_beside_a_snapshot_that_has_lost_something() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let space = store.default_space();
    store.store(Episode::text("a", "unlucky words")).unwrap();
    let first = store.store(episode("b", 1.0)).unwrap().lsn;
    (0..8_u8).for_each(|n| drop(store.store(episode(&format!("m{n}"), 1.0)).unwrap()));
    store.snapshot().unwrap();
    let release = hold(&store);
    let forgotten = space.submit_forget("b", &WriteOptions::default());
    let late = space.submit(episode("b", 2.0), &expecting(first));
    drop(release);
    assert!(forgotten.wait().is_ok() && late.wait().is_err());
    drop(space);
    drop(store);
    spoil_snapshot(&disk, where_first("unlucky"));
    let store = open(&disk);
    assert_eq!(store.status().recovery.unwrap().lost_records, 1);
    assert_eq!((store.get("a"), store.get("b")), (None, None));
}

#[test]
fn a_space_that_was_dropped_stays_so_when_something_else_is_lost() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let other = store.store(episode("other", 1.0)).unwrap().lsn;
    store.make_space("s", None).unwrap();
    let space = store.space("s").unwrap();
    let release = hold(&store);
    let dropped = encode(Record::DropSpace { space: "s".to_owned() }).unwrap();
    let dropped = store.submit_entry(&Arc::from("s"), dropped);
    let late = space.submit(episode("a", 1.0), &WriteOptions::default());
    drop(release);
    assert!(dropped.wait().is_ok() && late.wait().is_err());
    drop(space);
    drop(store);
    lose(&disk, other);
    let store = open(&disk);
    assert_eq!(store.status().recovery.unwrap().lost_records, 1);
    assert!(store.space("s").is_err());
    store.make_space("s", None).unwrap();
    drop(store);
    assert_eq!(open(&disk).space("s").unwrap().get("a"), None, "the next of this name is another one");
}

#[test]
fn what_was_made_anew_after_a_forgetting_that_is_lost_is_not_lost_with_it() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let space = store.default_space();
    store.store(episode("a", 1.0)).unwrap();
    let lost = space.forget("a").unwrap().lsn;
    let made = space.submit(episode("a", 2.0), &expecting(Lsn::ZERO)).wait().unwrap().lsn;
    space.submit(episode("a", 3.0), &expecting(made)).wait().unwrap();
    drop(space);
    drop(store);
    lose(&disk, lost);
    assert_eq!(open(&disk).get("a").unwrap().content(), "content 3 of a");
}

#[test]
fn an_answer_is_not_lost_with_the_making_of_its_space() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let made = store.make_space("s", None).unwrap().lsn;
    let space = store.space("s").unwrap();
    space.store(episode("a", 1.0)).unwrap();
    let answer = space.submit(episode("a", 1.0), &request("k", 1)).wait().unwrap();
    assert_eq!(answer.outcome, Outcome::Unchanged);
    let patch = Patch { content: Some("patched".to_owned()), ..Patch::default() };
    space.patch("a", patch, &WriteOptions::default()).unwrap();
    drop(space);
    drop(store);
    lose(&disk, made);
    let store = open(&disk);
    let space = store.space("s").unwrap();
    let again = space.submit(episode("a", 1.0), &request("k", 1)).wait().unwrap();
    assert_eq!((again.lsn, again.outcome), (answer.lsn, answer.outcome));
    assert_eq!(space.get("a").unwrap().content(), "patched");
}
