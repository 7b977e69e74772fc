//! The log's threads under a scheduler that plays one schedule after the other: random ones, and those of PCT, which finds
//! what takes up to three steps in the wrong order.
//!
//! Whatever the schedule: what is acknowledged would be left by a power cut at that moment, numbers are dense and in order,
//! everybody is answered, and nothing is acknowledged after a failure. A thread that waits for ever is found, too.
//! `cargo test -p engram-storage --features shuttle --test interleavings` runs it, `ENGRAM_SCHEDULES` makes it longer,
//! `ENGRAM_SEED` repeats it.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what a run tried")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/observer.rs"]
mod observer;
#[path = "support/random.rs"]
mod random;

use std::{sync::Arc, time::Duration};

use engram_storage::{
    FsyncMode, StorageError, WalOptions, WalReader, WalWriter,
    disk::{SimDisk, SimFaults},
};
use observer::{Observer, entry, is_durable};
use random::{count, seed};
use shuttle::{
    Config, Runner,
    rand::{Rng as _, thread_rng},
    scheduler::{PctScheduler, RandomScheduler},
    thread,
};

const DURABLE: [FsyncMode; 2] = [FsyncMode::PerWrite, FsyncMode::PerBatch];
/// Three times as many records as the queue holds, so that it is full now and then.
const THREADS: usize = 3;
const RECORDS: usize = 2;

/// Plays schedules of `scenario`: so many in a hundred of `ENGRAM_SCHEDULES`, half of them random.
fn explore(percent: u64, scenario: fn()) {
    let seed = seed();
    let half = (count("ENGRAM_SCHEDULES", 20_000) * percent / 100).div_ceil(2) as usize;
    let config = || {
        let mut config = Config::default();
        config.stack_size = 256 << 10; // recovery runs on it
        config.silence_warnings = true; // it plays relaxed atomics as sequentially consistent ones
        config
    };
    let ran = Runner::new(RandomScheduler::new_from_seed(seed, half), config()).run(scenario);
    let ran = ran + Runner::new(PctScheduler::new_from_seed(seed, 3, half), config()).run(scenario);
    println!("{ran} schedules, nothing lost");
}

fn any<T: Copy>(of: &[T]) -> T {
    of[thread_rng().gen_range(0..of.len())]
}

/// A log of small segments on an empty disk that does not fail before the log is open.
fn open(fsync: FsyncMode, faults: SimFaults) -> (SimDisk, Arc<WalWriter>) {
    let disk = SimDisk::new(thread_rng().r#gen());
    let preallocate = thread_rng().r#gen();
    let options = WalOptions { fsync, segment_bytes: 1024, preallocate, ..WalOptions::default() };
    let (wal, _) = WalWriter::open(Arc::new(disk.clone()), options, Arc::default()).unwrap();
    disk.set_faults(faults);
    (disk, Arc::new(wal))
}

/// Threads that submit records and do not wait for one before they submit the next.
fn submit(wal: &Arc<WalWriter>, observer: &Observer) -> Vec<thread::JoinHandle<()>> {
    let submit = |number| {
        let (wal, observer) = (Arc::clone(wal), observer.clone());
        thread::spawn(move || (0..RECORDS).for_each(|record| observer.submit(&wal, number, record)))
    };
    (0..THREADS).map(submit).collect()
}

fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

/// The log ends, the machine loses its power, and what is found then is what was seen.
fn end(disk: &SimDisk, observer: &Observer) {
    disk.set_faults(SimFaults::default());
    disk.crash(thread_rng().r#gen());
    observer.check(THREADS * RECORDS, WalReader::open(Arc::new(disk.clone())).iter());
}

#[test]
fn what_is_acknowledged_is_durable_dense_and_in_order() {
    explore(30, || {
        let (disk, wal) = open(any(&DURABLE), SimFaults::default());
        let observer = Observer::new(&disk, true);
        join(submit(&wal, &observer));
        wal.shutdown().unwrap();
        assert_eq!(observer.acknowledged(), THREADS * RECORDS);
        end(&disk, &observer);
    });
}

#[test]
fn after_a_failed_write_or_sync_everybody_is_told_and_nothing_is_acknowledged() {
    explore(30, || {
        let faults = SimFaults {
            sync_fails_one_in: any(&[0, 2, 4]),
            disk_full_one_in: any(&[0, 0, 3]),
            short_write_one_in: 4,
            ..SimFaults::default()
        };
        let (disk, wal) = open(any(&DURABLE), faults);
        let observer = Observer::new(&disk, true);
        let threads = submit(&wal, &observer);
        let synced = wal.sync();
        join(threads);
        let ended = wal.shutdown();
        assert!(!observer.has_failed() || ended.is_err(), "a failure is told once more at the end");
        assert!(synced.is_ok() || ended.is_err(), "{synced:?}, and then {ended:?}");
        end(&disk, &observer);
    });
}

#[test]
fn a_shutdown_at_any_moment_answers_everybody() {
    explore(20, || {
        let (disk, wal) = open(any(&DURABLE), SimFaults::default());
        let observer = Observer::new(&disk, true);
        let threads = submit(&wal, &observer);
        let second = thread::spawn({
            let wal = Arc::clone(&wal);
            move || wal.shutdown().unwrap()
        });
        wal.shutdown().unwrap();
        assert!(matches!(wal.write(entry(9, 9)), Err(StorageError::Closed)));
        join(threads.into_iter().chain([second]));
        end(&disk, &observer);
    });
}

#[test]
fn a_sync_makes_durable_what_was_acknowledged_before_it_in_every_mode() {
    explore(20, || {
        let mode = any(&[
            FsyncMode::None,
            FsyncMode::Timer(Duration::from_millis(1)),
            FsyncMode::PerWrite,
            FsyncMode::PerBatch,
        ]);
        let (disk, wal) = open(mode, SimFaults::default());
        let observer = Observer::new(&disk, mode.syncs_before_acknowledging());
        let threads = (0..THREADS).map(|number| {
            let (wal, disk, observer) = (Arc::clone(&wal), disk.clone(), observer.clone());
            thread::spawn(move || {
                observer.submit(&wal, number, 0);
                // Who waits is woken like who submits and looks.
                assert!(wal.write(entry(number, 9)).is_ok());
                wal.sync().unwrap();
                for record in [0, 9] {
                    assert!(is_durable(&disk, &entry(number, record)), "{mode}: a sync that does not sync");
                }
            })
        });
        join(threads.collect::<Vec<_>>()); // all are started before one is waited for
        wal.shutdown().unwrap();
    });
}
