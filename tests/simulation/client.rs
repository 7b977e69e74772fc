//! What a client of the store knows of it, and checks after each crash.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{TimeZone as _, Utc};
use engram_core::{
    Confidence, Episode, ListQuery, Memory, MemoryStore, ReceiptHandle, StorageError, StoreError,
};

use crate::random::Random;

/// The state that a change leaves: content and LSN of each memory.
pub(crate) type Contents = BTreeMap<String, (String, u64)>;

#[derive(Debug, Clone)]
enum Change {
    Store { id: String, content: String },
    Forget { id: String },
}

impl Change {
    fn apply(&self, contents: &mut Contents, lsn: u64) {
        match self {
            Self::Store { id, content } => drop(contents.insert(id.clone(), (content.clone(), lsn))),
            Self::Forget { id } => drop(contents.remove(id)),
        }
    }

    fn submit(&self, store: &MemoryStore) -> ReceiptHandle {
        match self {
            Self::Store { id, content } => {
                let when = Utc.timestamp_opt(1_000, 0).unwrap();
                let vector = [1.0, content.len() as f32, 3.0, 4.0];
                store.submit(Episode::new(id.as_str(), when, content.as_str(), vector, Confidence::HIGH))
            }
            Self::Forget { id } => store.submit_forget(id),
        }
    }
}

pub(crate) fn contents(store: &MemoryStore) -> Contents {
    let page = store.list(&ListQuery { limit: 1000, ..ListQuery::default() }).unwrap();
    let memory = |m: &Arc<Memory>| (m.id().to_owned(), (m.content().to_owned(), m.lsn().get()));
    page.memories.iter().map(memory).collect()
}

/// What a store must hold, as its client knows it.
pub(crate) struct Client {
    random: Random,
    /// Everything acknowledged, or shown after a crash.
    pub(crate) certain: Contents,
    /// The number of the last record that is certain.
    pub(crate) lsn: u64,
    /// What was sent after that and is not known to be stored.
    uncertain: Vec<Change>,
    /// Records since the last acknowledgement that may be in the log and change nothing.
    misses: u64,
    content: u64,
}

impl Client {
    pub(crate) fn new(seed: u64) -> Self {
        let certain = Contents::new();
        Self { random: Random::new(seed), certain, lsn: 0, uncertain: Vec::new(), misses: 0, content: 0 }
    }

    /// The next change to a store that holds `now`; each differs from all before it.
    fn change(&mut self, now: &Contents) -> Change {
        let id = format!("id {}", self.random.below(6));
        if now.contains_key(&id) && self.random.below(4) == 0 {
            return Change::Forget { id };
        }
        self.content += 1;
        let len = [10, 100, 900, 3000][self.random.below(4) as usize];
        Change::Store { id, content: format!("{}:{}", self.content, "x".repeat(len)) }
    }

    /// Sends changes, some of them together, until so many were answered or one is refused for good.
    pub(crate) fn work(&mut self, store: &MemoryStore, changes: usize) {
        let mut sent = 0;
        while sent < changes {
            let mut expected = self.certain.clone();
            let together = 1 + self.random.below(4) as usize;
            let batch: Vec<Change> = (0..together)
                .map(|_| {
                    let change = self.change(&expected);
                    change.apply(&mut expected, 0);
                    change
                })
                .collect();
            if self.random.below(6) == 0 {
                snapshot(store);
            }
            sent += batch.len();
            self.uncertain.extend(batch.iter().cloned());
            let handles: Vec<_> = batch.iter().map(|change| change.submit(store)).collect();
            for (i, (change, handle)) in batch.iter().zip(handles).enumerate() {
                match handle.wait() {
                    Ok(receipt) => {
                        let (next, lsn) = (self.lsn + 1, receipt.lsn.get());
                        assert!(
                            (next..=next + self.misses).contains(&lsn),
                            "numbers are dense: {next}, {lsn}"
                        );
                        (self.lsn, self.misses) = (lsn, 0);
                        change.apply(&mut self.certain, self.lsn);
                        // What was refused before it is gone for good: its number was given again.
                        let later = batch.len() - i - 1;
                        self.uncertain.drain(..self.uncertain.len() - later);
                    }
                    Err(StoreError::Storage(StorageError::DiskFull { .. })) => {}
                    // What it was to forget was refused before it. Its record may be in the log, and change nothing.
                    Err(StoreError::NotFound { .. }) => self.misses += 1,
                    Err(StoreError::Storage(
                        StorageError::Poisoned { .. } | StorageError::ReadOnly { .. },
                    )) => return,
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }

    /// After a crash, the store holds what is certain, and of what came after that at most a run. Whatever it shows
    /// is certain from now on.
    pub(crate) fn check(&mut self, store: &MemoryStore, context: &str) {
        let found = contents(store);
        let base = if self.lsn == 0 { 1 } else { self.lsn }; // record 1 is how the store was made
        for start in 0..=self.uncertain.len() {
            let (mut candidate, mut lsn) = (self.certain.clone(), base);
            for change in std::iter::once(None).chain(self.uncertain[start..].iter().map(Some)) {
                if let Some(change) = change {
                    lsn += 1;
                    change.apply(&mut candidate, lsn);
                }
                if candidate == found && store.status().applied_lsn.get() == lsn {
                    (self.certain, self.lsn) = (candidate, lsn);
                    self.uncertain.clear();
                    self.misses = 0;
                    return;
                }
            }
        }
        panic!(
            "{context}: the store holds what no prefix of the changes leaves\n found at {}: {:?}\ncertain at {}: {:?}\n\
             uncertain: {:?}",
            store.status().applied_lsn,
            short(&found),
            self.lsn,
            short(&self.certain),
            self.uncertain
                .iter()
                .map(|c| format!("{c:?}").chars().take(60).collect::<String>())
                .collect::<Vec<_>>(),
        );
    }
}

/// A snapshot may fail, as the disk does; whether it does or not, nothing is lost.
fn snapshot(store: &MemoryStore) {
    if let Err(error) = store.snapshot()
        && !matches!(error, StoreError::Storage(_))
    {
        panic!("{error}");
    }
}

fn short(contents: &Contents) -> Vec<String> {
    contents.iter().map(|(id, (content, lsn))| format!("{id} {content:.8} @{lsn}")).collect()
}
