//! The log's test of the seed document, as it is written there but for its crate paths.
#![expect(unused_must_use, reason = "kept as it was given")]

use std::sync::Arc;

use engram_storage::{FsyncMode, StorageMetrics, WalEntry, WalEntryType, WalReader, WalWriter};
use tempfile::tempdir;

#[test]
fn test_wal_write_and_read() {
    let dir = tempdir().unwrap();
    let metrics = Arc::new(StorageMetrics::new());
    let wal = WalWriter::new(dir.path(), FsyncMode::PerWrite, metrics).unwrap();

    let entry = WalEntry { entry_type: WalEntryType::MemoryStore, payload: b"test payload".to_vec() };

    wal.write(entry.clone()).unwrap();
    wal.shutdown();

    // Read back
    let reader = WalReader::new(dir.path()).unwrap();
    let entries: Vec<_> = reader.iter().collect();

    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].as_ref().unwrap().payload, b"test payload");
}
