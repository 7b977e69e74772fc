//! The store's test of the seed document, as it is written there but for its crate paths.
#![expect(unused_mut, unused_must_use, reason = "kept as it was given")]

use chrono::Utc;
use engram_core::{Confidence, Episode, FsyncMode, MemoryStore};
use tempfile::tempdir;

#[test]
fn test_wal_recovery() {
    let wal_dir = tempdir().unwrap();

    // Create store and write data
    {
        let mut store = MemoryStore::new(100).with_wal(wal_dir.path(), FsyncMode::PerWrite).unwrap();

        let episode = Episode::new(
            "test_1".to_string(),
            Utc::now(),
            "test content".to_string(),
            [0.5; 768],
            Confidence::HIGH,
        );

        store.store(episode);
    }

    // Recover in new store
    let mut new_store = MemoryStore::new(100).with_wal(wal_dir.path(), FsyncMode::PerWrite).unwrap();

    let recovered = new_store.recover_from_wal().unwrap();
    assert_eq!(recovered, 1);
    assert_eq!(new_store.count(), 1);
}
