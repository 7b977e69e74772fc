//! A long run of everything that can lose a memory, with what it tried and what was lost at the end.
//!
//! `just soak` runs it; `just soak --help` names the amounts. A part that the machine cannot play is skipped and said.

#![expect(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a test")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is there to be read")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/random.rs"]
mod random;
mod simulation;

use std::{
    io::{BufRead as _, BufReader},
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use simulation::{Crashes, cut_everywhere, live, live_weakly, play, rot};

/// The profile that this was built with: the other tests are built with it, too.
const PROFILE: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };

/// A long run of everything that can lose a memory.
#[derive(Parser)]
struct Soak {
    /// Crashes of the store on the simulated disk, in this process
    #[arg(long, default_value_t = 1_000_000)]
    simulated: u64,
    /// SIGKILLs of the real server under load
    #[arg(long, default_value_t = 1_000)]
    kills: u64,
    /// Power cuts of a real ext4
    #[arg(long, default_value_t = 200)]
    ext4: u64,
    /// Power cuts of a real XFS
    #[arg(long, default_value_t = 100)]
    xfs: u64,
    /// Power cuts of the simulated disk under the real server, through FUSE
    #[arg(long, default_value_t = 1_000)]
    mounted: u64,
    /// Crash images of ext4, made from a record of all block writes
    #[arg(long, default_value_t = 300)]
    replays: u64,
    /// Schedules of the group commit
    #[arg(long, default_value_t = 200_000)]
    schedules: u64,
    /// Seconds for each fuzzer
    #[arg(long, default_value_t = 120)]
    fuzz_seconds: u64,
    /// Repeats the choices of a run
    #[arg(long)]
    seed: Option<u64>,
}

/// What became of a part.
struct Outcome {
    part: &'static str,
    tried: String,
    verdict: Result<(), String>,
    seconds: u64,
}

fn main() -> ExitCode {
    let soak = Soak::parse();
    // The server's seeds have 32 bits, which are easier to type.
    let seed = soak.seed.unwrap_or_else(|| random::new_seed() & 0xffff_ffff);
    println!("seed {seed} (repeat this run with --seed {seed})");
    let mut outcomes = Vec::new();
    let mut part = |name: &'static str, amount: u64, run: &dyn Fn() -> Result<String, String>| {
        if amount == 0 {
            return;
        }
        eprintln!("\n== {name}: {amount}");
        let started = Instant::now();
        let (tried, verdict) = match run() {
            Ok(tried) => (tried, Ok(())),
            Err(why) => (String::new(), Err(why)),
        };
        outcomes.push(Outcome { part: name, tried, verdict, seconds: started.elapsed().as_secs() });
    };
    part("simulated disk", soak.simulated, &|| simulate(seed, soak.simulated));
    part("SIGKILL", soak.kills, &|| crashtest(seed, soak.kills, "none"));
    part("power cut, ext4", soak.ext4, &|| crashtest(seed, soak.ext4, "ext4"));
    part("power cut, XFS", soak.xfs, &|| crashtest(seed, soak.xfs, "xfs"));
    let test = |name: &str, variables: &[(&str, u64)]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.arg("test").args(PROFILE).args(["-p", "engram-cli", "--test", name, "--", "--nocapture"]);
        cargo.env("ENGRAM_SEED", seed.to_string());
        cargo.envs(variables.iter().map(|(variable, amount)| (variable, amount.to_string())));
        follow(cargo)
    };
    part("power cut, simulated disk under FUSE", soak.mounted, &|| {
        test("mounted_disk", &[("ENGRAM_MOUNTED_CUTS", soak.mounted)])
    });
    part("block writes replayed", soak.replays, &|| {
        test("block_replay", &[("ENGRAM_REPLAYS", soak.replays), ("ENGRAM_XFS_REPLAYS", soak.replays / 3)])
    });
    part("schedules of the group commit", soak.schedules, &|| {
        let mut cargo = Command::new(env!("CARGO"));
        let target = ["-p", "engram-storage", "--features", "shuttle", "--test", "interleavings"];
        cargo.arg("test").args(PROFILE).args(target).args(["--", "--nocapture"]);
        cargo.env("ENGRAM_SCHEDULES", soak.schedules.to_string()).env("ENGRAM_SEED", seed.to_string());
        follow(cargo)
    });
    part("fuzzers, seconds each", soak.fuzz_seconds, &|| {
        let mut fuzz = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/run"));
        fuzz.arg(soak.fuzz_seconds.to_string());
        follow(fuzz)
    });

    println!("\nseed {seed}");
    println!("{:<38} {:>9}  {:<8} tried", "part", "seconds", "verdict");
    for Outcome { part, tried, verdict, seconds } in &outcomes {
        match verdict {
            Ok(()) => println!("{part:<38} {seconds:>9}  {:<8} {tried}", "0 lost"),
            Err(why) => println!("{part:<38} {seconds:>9}  {:<8} {why}", "FAILED"),
        }
    }
    if outcomes.iter().all(|outcome| outcome.verdict.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn simulate(seed: u64, enough: u64) -> Result<String, String> {
    let bar = ProgressBar::new(enough);
    let style = "{bar:40} {human_pos}/{human_len} crashes, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).unwrap());
    let all = Crashes::default();
    let one = |seed| match seed % 8 {
        0 => cut_everywhere(seed, &all), // hundreds of crashes
        1..5 => live(seed, &all),
        5 => live_weakly(seed, &all),
        _ => rot(seed, &all),
    };
    let played = catch_unwind(AssertUnwindSafe(|| {
        let go_on = || all.get() < enough;
        play(seed, go_on, |seed| {
            one(seed);
            bar.set_position(all.get());
        });
    }));
    // What was lost is said where it was found, with its seed.
    played.map_err(|_| format!("something was lost, see above; {} crashes", all.get()))?;
    bar.finish();
    Ok(format!("{} crashes", all.get()))
}

fn crashtest(seed: u64, rounds: u64, power_cut: &str) -> Result<String, String> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|e| e.to_string())?;
    let mut crashtest = Command::new(env!("CARGO_BIN_EXE_engram"));
    crashtest.arg("crashtest").arg(directory.path().join("store")).args(["--clients", "16"]);
    crashtest.args(["--rounds", &rounds.to_string(), "--seed", &seed.to_string(), "--power-cut", power_cut]);
    let output = crashtest.stderr(Stdio::inherit()).output().map_err(|e| e.to_string())?;
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{report}");
    if output.status.success() {
        let line = |what: &str| {
            report.lines().find(|line| line.trim_start().starts_with(what)).unwrap_or_default().to_owned()
        };
        Ok(format!(
            "{rounds} rounds, {}",
            line("acknowledged").split_whitespace().collect::<Vec<_>>().join(" ")
        ))
    } else {
        let kept = directory.keep(); // the evidence
        Err(format!("{}, see {}", output.status, kept.display()))
    }
}

/// Runs a command, shows what it says, and keeps the lines that tell what was tried.
fn follow(mut command: Command) -> Result<String, String> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| format!("{command:?}: {e}"))?;
    let mut tried = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        println!("{line}");
        if ["lost", "skipped: ", "schedules", "executions"].iter().any(|word| line.contains(word)) {
            tried.push(line);
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    if status.success() { Ok(tried.join("; ")) } else { Err(format!("{status}: {}", tried.join("; "))) }
}
