//! Any payload as a record of a sound log: a store opens it or says why not.
#![no_main]

use std::sync::{Arc, LazyLock};

use engram_core::{Embedding, Episode, ListQuery, Lsn, MemoryStore, RequestKey, WriteOptions};
use engram_fuzz::{disk_of, offer_seeds, write};
use engram_storage::{WalEntry, WalEntryType, WalOptions, WalReader, disk::SimDisk};
use libfuzzer_sys::fuzz_target;

const KINDS: [WalEntryType; 7] = [
    WalEntryType::MemoryStore,
    WalEntryType::MemoryForget,
    WalEntryType::StoreConfig,
    WalEntryType::SpaceConfig,
    WalEntryType::SpaceDrop,
    WalEntryType::MemoryEmbed,
    WalEntryType::RequestReceipt,
];

static ENTRIES: LazyLock<Vec<WalEntry>> = LazyLock::new(entries);

fn open(disk: &SimDisk) -> Option<MemoryStore> {
    let options = WalOptions { preallocate: false, ..WalOptions::default() };
    MemoryStore::new(100).with_dimension(4).ok()?.with_log(Arc::new(disk.clone()), options).ok()
}

/// What a store writes.
fn entries() -> Vec<WalEntry> {
    let disk = SimDisk::new(1);
    if let Some(store) = open(&disk) {
        drop(store.store(Episode::text("one", "the first memory")));
        drop(store.store(Episode::text("two", "the second one, which is forgotten")));
        drop(store.forget("two"));
        drop(store.make_space("other", Some(9)));
        if let Ok(space) = store.space("other") {
            let request = Some(RequestKey { key: "once".to_owned(), fingerprint: 1 });
            let options = WriteOptions { expected: Some(Lsn::ZERO), request, keeps_embedding: false };
            drop(space.submit(Episode::text("one", "there is another one"), &options).wait());
            drop(space.submit(Episode::text("one", "there is another one"), &options).wait());
            if let Some(memory) = space.get("one") {
                let embedding = Embedding::from(vec![1.0, 2.0, 3.0, 4.0]);
                drop(space.submit_embedding("one", memory.lsn(), &embedding).wait());
            }
        }
        drop(store.drop_space("other"));
    }
    let records = WalReader::open(Arc::new(disk)).iter().flatten();
    records.map(|record| WalEntry { entry_type: record.entry_type(), payload: record.payload }).collect()
}

/// A real record each: its kind, and its payload.
fn seeds() -> Vec<Vec<u8>> {
    let kind = |entry: &WalEntry| KINDS.iter().position(|kind| *kind == entry.entry_type).unwrap_or(0) as u8;
    entries().iter().map(|entry| [&[kind(entry)], &entry.payload[..]].concat()).collect()
}

fuzz_target!(init: offer_seeds(seeds), |input: &[u8]| {
    let Some((kind, payload)) = input.split_first() else { return };
    let (entry_type, payload) = (KINDS[usize::from(*kind) % KINDS.len()], payload.to_vec());
    let mut entries = ENTRIES.clone();
    // As the only record, or after real ones.
    if *kind >= 128 {
        entries.clear();
    }
    entries.push(WalEntry { entry_type, payload });
    let disk = disk_of(&write(&entries, true, None));
    let Some(store) = open(&disk) else { return };
    let shown = store.list(&ListQuery::default()).map(|page| format!("{page:?}")).ok();
    drop(store);
    let again = open(&disk).and_then(|store| store.list(&ListQuery::default()).ok());
    assert_eq!(shown, again.map(|page| format!("{page:?}")), "a start shows something else than the one before");
});
