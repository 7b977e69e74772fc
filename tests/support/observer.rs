//! Sees each answer at the moment it is given, and asks the disk what a power cut would leave then.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use engram_storage::{StorageError, WalEntry, WalEntryType, WalIterator, WalWriter, disk::SimDisk};

/// A record that is like no other.
pub(crate) fn entry(thread: usize, record: usize) -> WalEntry {
    let payload = format!("record {record} of thread {thread}").into_bytes();
    WalEntry { entry_type: WalEntryType::MemoryStore, payload }
}

/// Whether the harshest power cut would leave this record's bytes.
pub(crate) fn is_durable(disk: &SimDisk, entry: &WalEntry) -> bool {
    let payload = &entry.payload;
    disk.durable_files().iter().any(|(name, bytes)| {
        Path::new(name).extension().is_some_and(|kind| kind == "log")
            && bytes.windows(payload.len()).any(|window| window == payload)
    })
}

/// What was answered. Its lock is one that the scheduler does not know: looking changes no schedule.
#[derive(Clone)]
pub(crate) struct Observer {
    disk: SimDisk,
    /// Whether an answer promises that the record survives a power cut.
    durable: bool,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    acknowledged: Vec<WalEntry>,
    answers: usize,
    failed: bool,
    /// What was wrong at the moment of an answer. A panic there would be taken for the log's own.
    broken: Vec<String>,
}

impl Observer {
    pub(crate) fn new(disk: &SimDisk, durable: bool) -> Self {
        Self { disk: disk.clone(), durable, seen: Arc::default() }
    }

    /// Submits a record, and looks when it is answered.
    pub(crate) fn submit(&self, wal: &WalWriter, thread: usize, record: usize) {
        let observer = self.clone();
        wal.submit_with(entry(thread, record), move |entry, outcome| {
            let durable = !observer.durable || is_durable(&observer.disk, entry);
            let mut seen = observer.seen.lock().unwrap();
            seen.answers += 1;
            let name = String::from_utf8_lossy(&entry.payload).into_owned();
            match outcome {
                Ok(commit) => {
                    if !durable {
                        seen.broken.push(format!("{name} is acknowledged and would be lost"));
                    }
                    if seen.failed {
                        seen.broken.push(format!("{name} is acknowledged after a failure"));
                    }
                    let number = seen.acknowledged.len() as u64 + 1;
                    if observer.durable && commit.lsn.get() != number {
                        seen.broken.push(format!("{name} has number {}, not {number}", commit.lsn));
                    }
                    seen.acknowledged.push(entry.clone());
                }
                Err(StorageError::Poisoned { .. }) => seen.failed = true,
                Err(error) if error.is_disk_full() => {}
                Err(StorageError::Closed) => {}
                Err(error) => seen.broken.push(format!("{name}: {error}")),
            }
        });
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.seen.lock().unwrap().acknowledged.len()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.seen.lock().unwrap().failed
    }

    /// Everybody was answered, all was well at each answer, and what is `found` begins with what was acknowledged.
    pub(crate) fn check(&self, submitted: usize, found: WalIterator) {
        let seen = self.seen.lock().unwrap();
        assert_eq!(seen.broken, [""; 0]);
        assert_eq!(seen.answers, submitted, "somebody was not answered, or twice");
        let found: Vec<_> = found.map(|record| record.unwrap()).collect();
        let payloads: Vec<_> = found.iter().map(|record| String::from_utf8_lossy(&record.payload)).collect();
        for (number, entry) in seen.acknowledged.iter().enumerate() {
            let record = found.get(number).map(|record| (&record.payload, record.lsn().get()));
            assert_eq!(record, Some((&entry.payload, number as u64 + 1)), "found: {payloads:?}");
        }
        for thread in payloads.iter().map(|name| name.rsplit(' ').next()) {
            let of_one: Vec<_> = payloads.iter().filter(|name| name.rsplit(' ').next() == thread).collect();
            assert!(of_one.is_sorted() && of_one.windows(2).all(|pair| pair[0] != pair[1]), "{of_one:?}");
        }
    }
}
