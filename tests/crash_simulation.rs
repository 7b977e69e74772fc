//! The store on a simulated disk whose power goes at any operation, in any life, also while it recovers.
//!
//! After each crash the store must hold what some prefix of the changes that were sent would have left, and that
//! prefix must cover all that was acknowledged. `ENGRAM_SEED` repeats a run, `ENGRAM_CRASHES` makes it longer.

#![expect(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what a run tried")]

#[path = "support/random.rs"]
mod random;
mod simulation;

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use random::{count, seed};
use simulation::{Crashes, cut_everywhere, live, live_weakly, rot};

/// Seeds that found a defect once; each is played by every part.
const REGRESSIONS: [u64; 0] = [];

/// Plays the numbers from 0 on, on all cores, as long as `go_on` says so. A panic of one is a panic of all.
fn play(go_on: impl Fn(u64) -> bool + Sync, one: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            scope.spawn(|| {
                while let number = next.fetch_add(1, Relaxed)
                    && go_on(number)
                {
                    one(number);
                }
            });
        }
    });
}

/// Plays until there were so many crashes in a hundred of `ENGRAM_CRASHES`.
fn until_enough(percent: u64, one: fn(u64, &Crashes)) {
    let seed = seed();
    let crashes = Crashes::default();
    for seed in REGRESSIONS {
        one(seed, &crashes);
    }
    let enough = count("ENGRAM_CRASHES", 200_000) * percent / 100;
    // From far apart, so that two runs with different seeds do not play the same.
    play(
        |_| crashes.get() < enough,
        |number| one(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9)), &crashes),
    );
    println!("{} crashes, nothing lost", crashes.get());
}

#[test]
fn a_power_cut_at_every_operation_loses_nothing_acknowledged() {
    until_enough(45, cut_everywhere);
}

#[test]
fn many_lives_with_failing_disks_lose_nothing_acknowledged() {
    until_enough(40, live);
}

#[test]
fn the_weak_modes_lose_no_more_than_they_say() {
    until_enough(5, live_weakly);
}

#[test]
fn what_rots_is_refused_or_reported_and_never_another_memory() {
    until_enough(10, rot);
}
