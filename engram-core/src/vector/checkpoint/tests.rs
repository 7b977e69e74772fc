//! The file of the index may be missing, damaged, old, or of something else: what is found stays right.

use std::sync::Arc;

use engram_storage::Lsn;
use engram_storage::disk::{Disk, Fault, FaultyDisk, Operation, SimDisk};

use super::file::NAME;
use super::format::{HEADER_LEN, Tag, decode};
use super::{Checkpoints, VectorArena};
use crate::embedding::Precision;
use crate::index::{IndexMode, IndexSettings, RecallTarget, Route};
use crate::vector::graph::Links;
use crate::vector::tests::index::{DIMENSION, assert_each_finds_itself, ten, topical};
use crate::vector::tests::stored;

type Arena = VectorArena<u64>;

const COUNT: u64 = 9000;

const LOG_ID: u64 = 77;

const MODES: [IndexMode; 2] = [IndexMode::Ivf, IndexMode::Hnsw];

/// An arena as after a recovery; an item is its own log sequence number.
fn recovered(mode: IndexMode, items: impl Iterator<Item = (u64, Vec<f32>)>, disk: Arc<dyn Disk>) -> Arena {
    let arena = Arena::new(DIMENSION, Precision::Int8, IndexSettings { mode, ..IndexSettings::default() });
    arena.hold_index();
    for (item, vector) in items {
        arena.insert(&stored(&vector, Precision::Int8), item);
    }
    let name = |item: &u64| *item;
    arena.open_index(Checkpoints { disk, log_id: LOG_ID, name }, Lsn::new(2 * COUNT), false);
    arena
}

fn all() -> impl DoubleEndedIterator<Item = (u64, Vec<f32>)> {
    (0..COUNT).map(|item| (item, topical(item)))
}

/// A file of an index of all, and the arena that has written it.
fn written(mode: IndexMode) -> (Arena, SimDisk) {
    let disk = SimDisk::new(1);
    let arena = recovered(mode, all(), Arc::new(disk.clone()));
    arena.settle();
    assert!(disk.durable_files().contains_key(NAME));
    (arena, disk)
}

fn tag(mode: IndexMode) -> Tag {
    let target = RecallTarget::default();
    Tag { log_id: LOG_ID, dimension: DIMENSION, precision: Precision::Int8, mode, target }
}

fn is_used(arena: &Arena) -> bool {
    arena.rows().partition().is_some()
}

#[test]
fn a_restart_in_another_order_finds_the_same_at_once() {
    for mode in MODES {
        let (before, disk) = written(mode);
        let after = recovered(mode, all().rev(), Arc::new(disk));
        assert_eq!(after.index_status().route, before.index_status().route);
        assert!(matches!(after.index_status().route, Route::Ivf { .. } | Route::Hnsw { .. }));
        assert_eq!((after.index_status().tail, after.index_status().nodes), (0, before.index_status().nodes));
        for seed in 0..200 {
            let question = topical((1 << 30) + seed);
            let (before, after) =
                (ten(&before, &question, false, |_| true), ten(&after, &question, false, |_| true));
            assert_eq!(after, before, "{mode}, question {seed}");
        }
        assert_each_finds_itself(&after, all().step_by(11));
    }
}

#[test]
fn what_the_file_does_not_know_is_found_beside_it_and_put_in() {
    for mode in MODES {
        let (_, disk) = written(mode);
        // A third is gone, and as much has come; some of what is there under the same number is something else.
        let other = |item: u64| if item.is_multiple_of(50) { item + (1 << 20) } else { item };
        let items = || (0..COUNT * 4 / 3).filter(|item| *item >= COUNT || item % 3 != 1);
        let vectors = || items().map(|item| (item, topical(other(item))));
        let arena = recovered(mode, vectors(), Arc::new(disk));
        assert!(is_used(&arena));
        assert!(arena.index_status().tail > 2500, "{:?}", arena.index_status());
        assert_each_finds_itself(&arena, vectors().step_by(7));
        arena.settle();
        assert_each_finds_itself(&arena, vectors().step_by(7));
    }
}

#[test]
fn a_file_that_is_damaged_anywhere_or_too_short_or_too_long_does_not_count() {
    for mode in MODES {
        let bytes = written(mode).1.read(NAME).unwrap();
        let is_read = |bytes: &[u8]| decode(bytes, &tag(mode), Lsn::new(COUNT)).is_ok();
        assert!(is_read(&bytes));
        for place in (0..HEADER_LEN).chain((HEADER_LEN..bytes.len()).step_by(1 + bytes.len() / 500)) {
            for bit in [0, 7] {
                let mut damaged = bytes.clone();
                damaged[place] ^= 1 << bit;
                assert!(!is_read(&damaged), "{mode}: bit {bit} of byte {place}");
            }
            assert!(!is_read(&bytes[..place]), "{mode}: the first {place} bytes");
        }
        assert!(!is_read(&[bytes, vec![0]].concat()));
    }
}

#[test]
fn a_file_that_does_not_count_is_removed_for_good_and_the_index_made_anew() {
    let mode = IndexMode::Ivf;
    let (_, disk) = written(mode);
    let mut bytes = disk.read(NAME).unwrap();
    bytes[200] ^= 1;
    disk.plant(NAME, bytes);
    let arena = recovered(mode, all(), Arc::new(disk.clone()));
    assert!(!is_used(&arena));
    assert_each_finds_itself(&arena, all().step_by(31));
    arena.settle();
    assert!(is_used(&arena));
    // Held from the beginning: nothing was written meanwhile.
    let arena = Arena::new(DIMENSION, Precision::Int8, IndexSettings { mode, ..IndexSettings::default() });
    arena.open_index(
        Checkpoints { disk: Arc::new(disk.clone()), log_id: LOG_ID + 1, name: |item| *item },
        Lsn::new(COUNT),
        false,
    );
    assert!(!disk.durable_files().contains_key(NAME));
}

#[test]
fn a_file_of_another_log_or_form_or_of_a_longer_log_does_not_count() {
    let mode = IndexMode::Ivf;
    let bytes = written(mode).1.read(NAME).unwrap();
    let reason = |tag: Tag, recovered| {
        decode(&bytes, &tag, Lsn::new(recovered)).err().unwrap_or_else(|| "it counts".to_owned())
    };
    assert_eq!(reason(tag(mode), COUNT - 1), "it counts");
    assert!(reason(tag(mode), COUNT - 2).contains("covers record 8999, and the log ends at 8998"));
    assert!(reason(Tag { log_id: 1, ..tag(mode) }, COUNT).contains("another log"));
    let mut former = bytes.clone();
    former[8..12].copy_from_slice(&1_u32.to_le_bytes());
    let crc = crc32c::crc32c(&former[..60]);
    former[60..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
    assert!(
        decode(&former, &tag(mode), Lsn::new(COUNT)).is_err_and(|reason| reason.contains("another version"))
    );
    for other in [
        Tag { dimension: 161, ..tag(mode) },
        Tag { mode: IndexMode::Auto, ..tag(mode) },
        Tag { precision: Precision::F32, ..tag(mode) },
        Tag { target: RecallTarget::new(0.5).unwrap(), ..tag(mode) },
    ] {
        assert!(reason(other, COUNT).contains("other settings"));
    }
}

#[test]
fn what_has_the_number_of_another_vector_is_not_known() {
    for mode in MODES {
        let (_, disk) = written(mode);
        let others = || (0..COUNT).map(|item| (item, topical(item + (1 << 20))));
        let arena = recovered(mode, others(), Arc::new(disk.clone()));
        assert!(!is_used(&arena));
        assert_each_finds_itself(&arena, others().step_by(31));
    }
}

#[test]
fn links_beyond_the_nodes_are_refused() {
    let links = |entry, words: &[u32]| Links { tuned: [None; 3], entry, words: words.to_vec() };
    assert!(links(1, &[0, 1, 1, 1, 1, 0, 0]).are_sound(2));
    assert!(!links(2, &[0, 1, 1, 1, 1, 0, 0]).are_sound(2), "an entry that is none");
    assert!(!links(1, &[0, 1, 2, 1, 1, 0, 0]).are_sound(2), "a link to a third of two");
    assert!(!links(1, &[0, 1, 1, 1, 1, 0]).are_sound(2), "a level is missing");
    assert!(!links(1, &[0, 1, 1, 99, 1, 0, 0]).are_sound(2), "a level that there is not");
    assert!(!links(1, &[0, 1, 1, 1, 1, 0, 0]).are_sound(3), "a node is missing");
    assert!(!links(0, &[[0, 33].as_slice(), &[0; 33]].concat()).are_sound(1), "too many links");
    assert!(links(0, &[]).are_sound(0));
}

#[test]
fn a_failing_disk_costs_the_file_and_nothing_else() {
    for operation in
        [Operation::Create, Operation::Write, Operation::Sync, Operation::Rename, Operation::SyncDir]
    {
        let sim = SimDisk::new(1);
        let disk = FaultyDisk::new(Arc::new(sim.clone()));
        disk.fail_from(operation, 1, Fault::NoSpace);
        let arena = recovered(IndexMode::Ivf, all(), Arc::new(disk));
        arena.settle();
        arena.close_index();
        assert!(is_used(&arena));
        assert_each_finds_itself(&arena, all().step_by(97));
        let left = sim.file_names();
        assert!(left.is_empty() || operation == Operation::SyncDir, "{operation:?} leaves {left:?}");
    }
}

#[test]
fn nothing_is_written_where_nothing_may_be_written() {
    let disk = SimDisk::new(1);
    let arena = recovered(IndexMode::Scan, all(), Arc::new(disk.clone()));
    arena.settle();
    let read_only =
        Checkpoints { disk: Arc::new(disk.clone()) as Arc<dyn Disk>, log_id: LOG_ID, name: |item| *item };
    let settings = IndexSettings { mode: IndexMode::Ivf, ..IndexSettings::default() };
    let arena = Arena::new(DIMENSION, Precision::Int8, settings);
    arena.open_index(read_only, Lsn::new(1), true);
    for (item, vector) in all() {
        arena.insert(&stored(&vector, Precision::Int8), item);
    }
    arena.settle();
    arena.close_index();
    assert!(disk.file_names().is_empty());
}
