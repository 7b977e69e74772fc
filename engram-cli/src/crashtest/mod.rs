//! `engram crashtest`: shows on the user's own machine that nothing acknowledged is lost.
//!
//! It starts this very program as a server, loads it from several clients, kills it at a random moment, cuts the power
//! where it may, starts it again, compares, and so on. From the top down:
//!
//! - [`run`](mod@run) is the loop of rounds, [`report`] what it says at the end, [`machine`] where that was;
//! - [`model`] is what must be true (pure), [`snapshot`] what is there, [`memories`] what is stored;
//! - [`load`] and [`client`] are the clients, [`server`] is the child process, [`random`] the dice;
//! - [`power`] cuts it: [`loop_disk`] is a file system of our own, [`going_down`] its sudden end;
//! - [`directory`] is the place, [`emergency`] is Ctrl-C.

mod args;
mod client;
mod directory;
mod emergency;
mod going_down;
mod load;
mod loop_disk;
mod machine;
mod memories;
mod model;
mod power;
mod random;
mod report;
mod run;
mod server;
mod snapshot;

use std::{
    io::{self, Write as _},
    time::Instant,
};

pub(crate) use args::CrashtestArgs;

use self::{
    directory::Directory,
    emergency::Emergency,
    power::Power,
    report::Report,
    run::{Broken, Run},
};
use crate::{
    exit::{Exit, Failure},
    progress,
};

/// Runs the test, prints its report, and leaves nothing behind unless something was lost.
pub(crate) fn run(args: &CrashtestArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let seed = args.seed.unwrap_or_else(random::new_seed);
    // Before anything that may fail by chance. Whoever closed stderr does not want to know.
    drop(writeln!(io::stderr(), "seed {seed} (to repeat its choices: --seed {seed})"));
    let template = "{bar:30} {pos} of {len} rounds, {msg}, {eta} to go";
    let bar = progress::bar(!args.json, Some(args.rounds), template).with_message("starting");
    let emergency = Emergency::default();
    emergency.watch(bar.clone())?;
    let mut directory = Directory::take(&args.dir)?;
    let mut report = empty_report(args, seed, &directory);
    let (outcome, evidence) = {
        let power = Power::of_args(args, directory.path(), &emergency)?;
        if args.power_cut_command.is_none() && power.is_cut() {
            let below = std::mem::take(&mut report.file_system);
            report.file_system = format!("{} on a loop device, in a file on {below}", args.power_cut_name());
        }
        let mut run = Run::new(args, seed, power, &emergency, &bar, &mut report)?;
        let outcome = run.rounds();
        let (evidence, recoveries) = (run.evidence(), run.recoveries());
        report.recovery_ms = recoveries;
        (outcome, evidence)
    };
    bar.finish_and_clear();
    report.seconds = started.elapsed().as_secs_f64();
    report.interrupted = emergency.is_asked() && report.rounds < report.rounds_asked;
    if outcome.is_ok() || report.rounds > 0 || report.lost > 0 {
        print(&report, args.json)?;
    }
    if report.lost > 0 {
        let message = format!("LOST: {} not as acknowledged (seed {seed})", report.lost);
        return Err(Failure::new(Exit::Damaged, message).help(keep(&mut directory, &evidence, &report)));
    }
    outcome.map_err(|Broken { failure, is_of_server }| {
        if is_of_server { failure.help(keep(&mut directory, &evidence, &report)) } else { failure }
    })
}

/// Keeps what the test has made, with the evidence beside it; says where.
fn keep(directory: &mut Directory, evidence: &[(&str, String)], report: &Report) -> String {
    let json = report.json().unwrap_or_default();
    let report = ("report.json", json);
    let mut files = evidence.iter().chain([&report]);
    // On a full disk the store itself is the best evidence.
    let kept = files.try_for_each(|(name, text)| directory.keep(name, text));
    let but = kept.err().map_or(String::new(), |e| format!(" (but not all of the servers' logs: {e})"));
    format!("all of it is kept in {}{but}", directory.path().display())
}

fn empty_report(args: &CrashtestArgs, seed: u64, directory: &Directory) -> Report {
    Report {
        version: env!("CARGO_PKG_VERSION"),
        machine: machine::describe(),
        kernel: crate::system::kernel(),
        cpus: machine::cpus(),
        file_system: machine::file_system(directory.path()),
        fsync: args.fsync.to_string(),
        power_cut: args.power_cut_name(),
        rounds: 0,
        rounds_asked: args.rounds,
        interrupted: false,
        clients: args.clients,
        acknowledged: 0,
        in_flight_kept: 0,
        lost: 0,
        lost_allowed_by_mode: 0,
        recovery_ms: None,
        seed,
        seconds: 0.0,
        losses: Vec::new(),
    }
}

fn print(report: &Report, as_json: bool) -> Result<(), Failure> {
    let cannot = |e: io::Error| Failure::new(Exit::Failure, format!("cannot print the report: {e}"));
    let text = if as_json { report.json().map_err(|e| cannot(e.into()))? + "\n" } else { report.to_string() };
    io::stdout().write_all(text.as_bytes()).map_err(cannot)
}
