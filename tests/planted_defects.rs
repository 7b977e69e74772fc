//! The crash simulation against logs that do one thing wrong: it finds each of them.
//!
//! A suite that passes proves something only when it fails without what it guards. Run with
//! `cargo test -p engram-core --features planted-defects --test planted_defects -- --nocapture`.

#![expect(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what a run tried")]

#[path = "support/random.rs"]
mod random;
mod simulation;

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use engram_core::storage::planted::{Defect, plant};
use random::{count, seed};
use simulation::{Crashes, cut_everywhere, live, live_weakly, restore, rot, snapshot_on_a_bad_disk};

/// A part of the simulation, and how often it has crashed.
struct Part {
    name: &'static str,
    play: fn(u64, &Crashes),
    crashes: Crashes,
}

/// What the simulation plays until something is lost, or until there were enough crashes: how many there were, and what
/// found it.
fn hunt(seed: u64, enough: u64) -> (u64, Option<String>) {
    let part = |name, play| Part { name, play, crashes: Crashes::default() };
    let parts = [
        part("lives", live),
        part("cuts", cut_everywhere),
        part("rot", rot),
        part("weak lives", live_weakly),
        part("bad disks", snapshot_on_a_bad_disk),
        part("restores", restore),
    ];
    let crashes = || parts.iter().map(|part| part.crashes.get()).sum::<u64>();
    for number in 0.. {
        // The parts crash about as often as each other.
        let Some(part) = parts.iter().min_by_key(|part| part.crashes.get()).filter(|_| crashes() < enough)
        else {
            break;
        };
        let played = catch_unwind(AssertUnwindSafe(|| (part.play)(seed.wrapping_add(number), &part.crashes)));
        if let Err(panic) = played {
            let said = panic.downcast_ref::<String>().map_or("", String::as_str);
            let said: String = said.lines().next().unwrap_or_default().chars().take(100).collect();
            return (crashes(), Some(format!("by {}: {said}", part.name)));
        }
    }
    (crashes(), None)
}

#[test]
fn each_planted_defect_is_found() {
    let seed = seed();
    let enough = count("ENGRAM_CRASHES", 20_000);
    let mut missed = Vec::new();
    let hook = take_hook();
    set_hook(Box::new(|_| {})); // what is found is told below
    for defect in std::iter::once(None).chain(Defect::ALL.map(Some)) {
        plant(defect);
        let (crashes, found) = hunt(seed, enough);
        let name = defect.map_or("none".to_owned(), |defect| format!("{defect:?}"));
        match &found {
            Some(how) => println!("{name:>20}: found after {crashes} crashes {how}"),
            None => println!("{name:>20}: nothing found in {crashes} crashes"),
        }
        if found.is_some() != defect.is_some() {
            missed.push(name);
        }
    }
    plant(None);
    set_hook(hook);
    assert!(missed.is_empty(), "found where nothing was planted, or not found: {missed:?}");
}
