//! Lives of a store that end in power cuts, crashes and failing disks.

use std::time::Duration;

use engram_core::{
    FsyncMode, MemoryStore,
    storage::disk::{SimDisk, SimFaults},
};

use super::{
    Crashes,
    client::{Client, contents},
    open,
};
use crate::random::Random;

const DURABLE: [FsyncMode; 2] = [FsyncMode::PerWrite, FsyncMode::PerBatch];

/// The process is gone; sometimes the page cache, or all that was not synced, goes with it.
fn end(disk: &SimDisk, random: &mut Random, crashes: &Crashes) {
    crashes.add();
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
fn recover(disk: &SimDisk, mode: FsyncMode, random: &mut Random, crashes: &Crashes) -> MemoryStore {
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
        end(disk, random, crashes);
    }
    open(disk, mode).unwrap_or_else(|error| panic!("{mode}: {error}"))
}

/// One workload, in each mode that promises durability: the power goes at each of its disk operations in turn.
pub(crate) fn cut_everywhere(seed: u64, crashes: &Crashes) {
    for mode in DURABLE {
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
            crashes.add();
            let store = recover(&disk, mode, &mut random, crashes);
            client.check(&store, &format!("{mode}, cuts of seed {seed}, at operation {operation}"));
            let shown = (contents(&store), store.status().applied_lsn);
            drop(store);
            let again = open(&disk, mode).unwrap();
            assert_eq!((contents(&again), again.status().applied_lsn), shown, "recovering twice");
        }
    }
}

/// One life on a failing disk: eight runs, each ended by a kill or a power cut, also in the middle of a recovery.
pub(crate) fn live(seed: u64, crashes: &Crashes) {
    let mut random = Random::new(seed);
    let mode = DURABLE[random.below(2) as usize];
    let disk = SimDisk::new(seed);
    let mut client = Client::new(seed);
    drop(open(&disk, mode).unwrap());
    client.lsn = 1;
    for run in 0..8 {
        let store = recover(&disk, mode, &mut random, crashes);
        client.check(&store, &format!("{mode}, life of seed {seed}, run {run}"));
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
        end(&disk, &mut random, crashes);
    }
}

/// One life in a mode that promises less: it loses no more than it says.
pub(crate) fn live_weakly(seed: u64, crashes: &Crashes) {
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
        crashes.add();
        if power_cut {
            disk.crash(random.below(u64::MAX));
        } else {
            disk.restart();
        }
        store = open(&disk, mode).unwrap();
        let found = store.status().applied_lsn.get();
        let context = format!("{mode}, weak life of seed {seed}, run {run}");
        assert!((synced..=client.lsn).contains(&found), "{context}: {synced} <= {found} <= {}", client.lsn);
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
