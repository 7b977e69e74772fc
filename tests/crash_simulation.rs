//! The store on a simulated disk whose power goes at any operation, in any life, also while it recovers.
//!
//! After each crash the store must hold what some prefix of the changes that were sent would have left, and that
//! prefix must cover all that was acknowledged. `ENGRAM_SEED` repeats a run, `ENGRAM_CRASHES` makes it longer.

#![expect(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what a run tried")]

#[path = "support/random.rs"]
mod random;
mod simulation;

use random::{count, seed};
use simulation::{Crashes, cut_everywhere, live, live_weakly, play, restore, rot, snapshot_on_a_bad_disk};

/// Seeds that found a defect once; each is played by every part.
const REGRESSIONS: [u64; 0] = [];

/// Plays until there were so many crashes in a hundred of `ENGRAM_CRASHES`.
fn until_enough(percent: u64, one: fn(u64, &Crashes)) {
    let seed = seed();
    let crashes = Crashes::default();
    for seed in REGRESSIONS {
        one(seed, &crashes);
    }
    let enough = count("ENGRAM_CRASHES", 200_000) * percent / 100;
    play(seed, || crashes.get() < enough, |seed| one(seed, &crashes));
    println!("{} crashes, nothing lost", crashes.get());
}

#[test]
fn a_power_cut_at_every_operation_loses_nothing_acknowledged() {
    until_enough(45, cut_everywhere);
}

#[test]
fn many_lives_with_failing_disks_lose_nothing_acknowledged() {
    until_enough(35, live);
}

#[test]
fn the_weak_modes_lose_no_more_than_they_say() {
    until_enough(5, live_weakly);
}

#[test]
fn a_snapshot_that_the_disk_spoils_takes_nothing_with_it() {
    until_enough(5, snapshot_on_a_bad_disk);
}

#[test]
fn a_log_made_of_a_snapshot_has_all_of_it_or_is_none() {
    until_enough(5, restore);
}

#[test]
fn what_rots_is_refused_or_reported_and_never_another_memory() {
    until_enough(5, rot);
}
