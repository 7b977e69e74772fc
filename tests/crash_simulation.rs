//! The store on a simulated disk whose power goes at any operation, in any life, also while it recovers.
//!
//! After each crash the store must hold what some prefix of the changes that were sent would have left, and that
//! prefix must cover all that was acknowledged. `ENGRAM_SEED` repeats a run, `ENGRAM_CRASHES` makes it longer.

#![expect(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what a run tried")]

#[path = "support/random.rs"]
mod random;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{TimeZone as _, Utc};
use engram_core::{
    Confidence, Episode, FsyncMode, ListQuery, MemoryStore, ReceiptHandle, StorageError, StoreError,
    storage::{
        WalOptions,
        disk::{SimDisk, SimFaults},
    },
};
use random::{Random, count, seed};

/// The state that a change leaves: content and LSN of each memory.
type Contents = BTreeMap<String, (String, u64)>;

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

fn open(disk: &SimDisk, fsync: FsyncMode) -> Result<MemoryStore, StoreError> {
    // Segments of a few records, and all disk operations on one thread, so that a seed repeats a run.
    let options = WalOptions { fsync, segment_bytes: 4096, preallocate: false, ..WalOptions::default() };
    MemoryStore::new(1000).with_dimension(4)?.with_log(Arc::new(disk.clone()), options)
}

fn contents(store: &MemoryStore) -> Contents {
    let page = store.list(&ListQuery { limit: 1000, ..ListQuery::default() }).unwrap();
    let memory = |m: &Arc<engram_core::Memory>| (m.id().to_owned(), (m.content().to_owned(), m.lsn().get()));
    page.memories.iter().map(memory).collect()
}

/// What a store must hold, as its client knows it.
struct Client {
    random: Random,
    /// Everything acknowledged, or shown after a crash.
    certain: Contents,
    /// The number of the last record that is certain.
    lsn: u64,
    /// What was sent after that and is not known to be stored.
    uncertain: Vec<Change>,
    /// Records since the last acknowledgement that may be in the log and change nothing.
    misses: u64,
    content: u64,
}

impl Client {
    fn new(seed: u64) -> Self {
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
    fn work(&mut self, store: &MemoryStore, changes: usize) {
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
    fn check(&mut self, store: &MemoryStore, context: &str) {
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

fn short(contents: &Contents) -> Vec<String> {
    contents.iter().map(|(id, (content, lsn))| format!("{id} {content:.8} @{lsn}")).collect()
}

/// The process is gone; sometimes the page cache, or all that was not synced, goes with it.
fn end(disk: &SimDisk, random: &mut Random) {
    match random.below(4) {
        0 => disk.restart(),
        1 => {
            disk.restart();
            disk.drop_caches();
        }
        _ => {
            let garbage_sectors = random.below(2) == 0;
            disk.set_faults(SimFaults { garbage_sectors, ..SimFaults::default() });
            disk.crash(random.below(u64::MAX));
        }
    }
    disk.set_faults(SimFaults::default());
}

/// Opens the store after a crash, with up to two more failures in the middle of that.
fn recover(disk: &SimDisk, mode: FsyncMode, random: &mut Random) -> MemoryStore {
    for _ in 0..random.below(3) {
        disk.set_faults(SimFaults {
            short_write_one_in: 3,
            disk_full_one_in: [0, 3][random.below(2) as usize],
            sync_fails_one_in: [0, 2, 5][random.below(3) as usize],
            garbage_sectors: true,
            ..SimFaults::default()
        });
        if random.below(3) > 0 {
            disk.power_off_after(random.below(30));
        }
        drop(open(disk, mode));
        end(disk, random);
    }
    open(disk, mode).unwrap_or_else(|error| panic!("{mode}: {error}"))
}

const DURABLE: [FsyncMode; 2] = [FsyncMode::PerWrite, FsyncMode::PerBatch];

#[test]
fn a_power_cut_at_every_operation_loses_nothing_acknowledged() {
    let seed = seed();
    let mut cuts = 0;
    for mode in DURABLE {
        for workload in 0..count("ENGRAM_CRASHES", 40) {
            let seed = seed.wrapping_add(workload);
            let operations = {
                let disk = SimDisk::new(seed);
                let mut client = Client::new(seed);
                client.lsn = 1;
                let store = open(&disk, mode).unwrap();
                client.work(&store, 25);
                drop(store);
                disk.operations()
            };
            for operation in 0..operations {
                let disk = SimDisk::new(seed);
                disk.set_faults(SimFaults { garbage_sectors: operation % 2 == 1, ..SimFaults::default() });
                let mut client = Client::new(seed);
                let mut random = Random::new(seed ^ operation);
                disk.power_off_after(operation);
                if let Ok(store) = open(&disk, mode) {
                    client.lsn = 1;
                    client.work(&store, 25);
                }
                disk.crash(random.below(u64::MAX));
                let store = recover(&disk, mode, &mut random);
                client.check(&store, &format!("{mode}, workload seed {seed}, cut at operation {operation}"));
                let shown = (contents(&store), store.status().applied_lsn);
                drop(store);
                let again = open(&disk, mode).unwrap();
                assert_eq!((contents(&again), again.status().applied_lsn), shown, "recovering twice");
                cuts += 1;
            }
        }
    }
    println!("{cuts} cuts, nothing lost");
}

#[test]
fn many_lives_with_failing_disks_lose_nothing_acknowledged() {
    let seed = seed();
    let lives = count("ENGRAM_CRASHES", 1500);
    let mut ends = 0;
    for life in 0..lives {
        let seed = seed.wrapping_add(life);
        let mut random = Random::new(seed);
        let mode = DURABLE[random.below(2) as usize];
        let disk = SimDisk::new(seed);
        let mut client = Client::new(seed);
        drop(open(&disk, mode).unwrap());
        client.lsn = 1;
        for run in 0..8 {
            let context = format!("{mode}, life {life} (seed {seed}), run {run}");
            let store = recover(&disk, mode, &mut random);
            client.check(&store, &context);
            disk.set_faults(match random.below(3) {
                0 => SimFaults {
                    short_write_one_in: 10,
                    disk_full_one_in: 40,
                    sync_fails_one_in: 60,
                    garbage_sectors: true,
                    ..SimFaults::default()
                },
                1 => SimFaults { garbage_sectors: true, ..SimFaults::default() },
                _ => SimFaults::default(),
            });
            if random.below(2) == 0 {
                disk.power_off_after(random.below(150));
            }
            client.work(&store, 20);
            let clean = random.below(4) == 0;
            if !clean {
                disk.power_off();
            }
            drop(store);
            end(&disk, &mut random);
            ends += 1;
        }
    }
    println!("{lives} lives, {ends} ends, nothing lost");
}

#[test]
fn the_weak_modes_lose_no_more_than_they_say() {
    let seed = seed();
    for life in 0..count("ENGRAM_CRASHES", 600) {
        let seed = seed.wrapping_add(life);
        let mut random = Random::new(seed);
        // An interval that never ends within the test: what survives is what rotation and `sync` made durable.
        let mode = [FsyncMode::None, FsyncMode::Timer(Duration::from_hours(1))][random.below(2) as usize];
        let disk = SimDisk::new(seed);
        let mut client = Client::new(seed);
        let mut store = open(&disk, mode).unwrap();
        store.sync().unwrap();
        client.lsn = 1;
        for run in 0..4 {
            client.work(&store, 12);
            if random.below(2) == 0 {
                store.sync().unwrap();
            }
            let synced = store.status().log.synced_lsn;
            let written = contents(&store);
            let power_cut = random.below(2) == 0;
            disk.power_off();
            drop(store);
            if power_cut {
                disk.crash(random.below(u64::MAX));
            } else {
                disk.restart();
            }
            store = open(&disk, mode).unwrap();
            let found = store.status().applied_lsn.get();
            let context = format!("{mode}, life {life} (seed {seed}), run {run}");
            assert!(
                (synced..=client.lsn).contains(&found),
                "{context}: {synced} <= {found} <= {}",
                client.lsn
            );
            if found == client.lsn {
                assert_eq!(contents(&store), written, "{context}");
            } else {
                assert!(power_cut, "{context}: a process crash loses nothing");
                // Survivors are a prefix: whatever is older than what was lost is as it was.
                for (id, (content, lsn)) in contents(&store) {
                    assert!(lsn <= found, "{context}: {id}");
                    if let Some((still, at)) = written.get(&id)
                        && *at <= found
                    {
                        assert_eq!((still, *at), (&content, lsn), "{context}: {id}");
                    }
                }
            }
            client.certain = contents(&store);
            client.lsn = found;
        }
    }
}
