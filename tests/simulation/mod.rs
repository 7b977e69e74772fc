//! The store on a simulated disk: lives that end in power cuts, crashes and failing disks, and logs that rot.
//!
//! Each function plays what follows from its seed, and panics when something is lost.

#![allow(dead_code, reason = "each test plays a part of it")]

mod client;
mod lives;
mod rot;

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use engram_core::{
    FsyncMode, MemoryStore, StoreError,
    storage::{WalOptions, disk::SimDisk},
};
pub(crate) use lives::{cut_everywhere, live, live_weakly};
pub(crate) use rot::{restore, rot, snapshot_on_a_bad_disk};

/// How often the simulated power went, processes ended, or bytes rotted.
#[derive(Debug, Default)]
pub(crate) struct Crashes(AtomicU64);

impl Crashes {
    /// One more.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// How many there were.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Plays seeds that follow from `seed`, on all cores, as long as `go_on` says so. A panic of one is a panic of all.
pub(crate) fn play(seed: u64, go_on: impl Fn() -> bool + Sync, one: impl Fn(u64) + Sync) {
    // Far apart, so that two runs with seeds close to each other do not play the same.
    let next = AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            scope.spawn(|| {
                while go_on() {
                    one(next.fetch_add(1, Relaxed));
                }
            });
        }
    });
}

fn open(disk: &SimDisk, fsync: FsyncMode) -> Result<MemoryStore, StoreError> {
    // Segments of a few records, and all disk operations on one thread, so that a seed repeats a run.
    let options = WalOptions { fsync, segment_bytes: 4096, preallocate: false, ..WalOptions::default() };
    MemoryStore::new(1000).with_dimension(4)?.with_log(Arc::new(disk.clone()), options)
}
