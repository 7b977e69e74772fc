//! The store on a simulated disk: lives that end in power cuts, crashes and failing disks, and logs that rot.
//!
//! Each function plays what follows from its seed, and panics when something is lost.

mod client;
mod lives;
mod rot;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use engram_core::{
    FsyncMode, MemoryStore, StoreError,
    storage::{WalOptions, disk::SimDisk},
};
pub(crate) use lives::{cut_everywhere, live, live_weakly};
pub(crate) use rot::rot;

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

fn open(disk: &SimDisk, fsync: FsyncMode) -> Result<MemoryStore, StoreError> {
    // Segments of a few records, and all disk operations on one thread, so that a seed repeats a run.
    let options = WalOptions { fsync, segment_bytes: 4096, preallocate: false, ..WalOptions::default() };
    MemoryStore::new(1000).with_dimension(4)?.with_log(Arc::new(disk.clone()), options)
}
