//! `engram recover --report`: what a start would do, before it does it.

use engram_core::{
    RecoveryMode,
    storage::{RecoveryPlan, RecoveryReport},
};
use serde::Serialize;

use super::{
    DataDir, of_reading,
    output::{Output, size},
};
use crate::{
    count::count,
    exit::{Exit, Failure},
    recovery_view::RecoveryView,
};

const EXAMPLES: &str = "\
Examples:
  engram recover --report
  engram recover --report --recovery strict --json

`engram start` recovers by itself. This tells what it would find, do and lose, and changes nothing. A server may be
running meanwhile: then it tells what a start would do if the server were killed now.

Exit codes:
  0   a start would lose nothing that was acknowledged
  1   another failure
  2   wrong usage
  65  something acknowledged would be lost, or the start would refuse
  73  there is no log, or no access to it
  74  the disk cannot be read";

/// Flags of `engram recover`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    data_dir: DataDir,

    /// Only tell what would be done: the one way there is, since each start recovers by itself
    #[arg(long, required = true)]
    report: bool,

    /// How much damage the start is to tolerate: strict, torn-tail or skip-corrupt
    #[arg(long, value_name = "MODE", default_value = "skip-corrupt", env = "ENGRAM_RECOVERY")]
    recovery: RecoveryMode,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    directory: String,
    recovery: String,
    /// Why the start would refuse.
    refused: Option<String>,
    new_segment: u64,
    first_lsn: u64,
    #[serde(flatten)]
    found: RecoveryView,
}

pub(crate) fn run(args: &RecoverArgs) -> Result<(), Failure> {
    let (reader, bar) = args.data_dir.reader()?;
    let plan = reader.plan_recovery(args.recovery).map_err(of_reading)?;
    bar.finish_and_clear();
    let directory = args.data_dir.log_directory()?.display().to_string();
    let (refused, lost_records) = (plan.refused.clone(), plan.report.lost_records);
    let mut output = Output::new();
    if args.json {
        output.json(&Report {
            version: env!("CARGO_PKG_VERSION"),
            directory,
            recovery: args.recovery.to_string(),
            refused: plan.refused,
            new_segment: plan.new_segment.get(),
            first_lsn: plan.first_lsn.get(),
            found: plan.report.into(),
        })?;
    } else {
        output.line(&format!("{directory}: {}", verdict(&plan)))?;
        for (name, value) in lines(&plan, args.recovery) {
            output.line(&format!("  {name:<13}{value}"))?;
        }
    }
    output.end()?;
    let lost = count(lost_records, "acknowledged record", "acknowledged records");
    match refused {
        Some(reason) => Err(Failure::new(Exit::Damaged, format!("a start would refuse: {reason}"))),
        None if lost_records > 0 => Err(Failure::new(Exit::Damaged, format!("a start would lose {lost}"))),
        None => return Ok(()),
    }
    .map_err(|failure| failure.help("`engram verify` says what is damaged, by LSN, time and id"))
}

fn verdict(plan: &RecoveryPlan) -> String {
    match (&plan.refused, plan.report.lost_records) {
        (Some(_), _) => "a start would REFUSE".to_owned(),
        (None, 0) => "a start would lose nothing that was acknowledged".to_owned(),
        (None, lost) => {
            format!("a start would LOSE {}", count(lost, "acknowledged record", "acknowledged records"))
        }
    }
}

fn lines(plan: &RecoveryPlan, mode: RecoveryMode) -> Vec<(&'static str, String)> {
    let RecoveryReport { records, segments, bytes, last_lsn, clean, torn_bytes, copied_records, .. } =
        plan.report;
    let mut lines = vec![("mode", format!("--recovery {mode}"))];
    lines.extend(plan.refused.iter().map(|reason| ("refused", reason.clone())));
    if let Some(snapshot) = &plan.report.snapshot {
        let records = count(snapshot.records, "record", "records");
        let (lsn, bytes) = (snapshot.lsn, size(snapshot.bytes));
        lines.push(("loads", format!("a snapshot of {records} up to LSN {lsn}, {bytes}")));
        lines.extend(snapshot.damage.iter().map(|damage| ("skips", damage.to_string())));
    }
    for rejected in &plan.report.rejected_snapshots {
        lines.push(("passes over", format!("{}: {}", rejected.file, rejected.reason)));
    }
    let stop = if clean { "after a clean stop" } else { "after a kill or crash, or while a server runs" };
    lines.push((
        "recovers",
        format!(
            "{} up to LSN {last_lsn}, from {} of {}, {stop}",
            count(records, "record", "records"),
            count(segments, "segment", "segments"),
            size(bytes)
        ),
    ));
    for damage in &plan.report.damage {
        lines.push(("skips", damage.to_string()));
    }
    if let more @ 1.. = plan.report.damaged_ranges.saturating_sub(plan.report.damage.len() as u64) {
        lines.push(("", format!("and {more} more")));
    }
    if torn_bytes > 0 {
        lines.push(("cuts off", format!("a torn tail of {}, never acknowledged", size(torn_bytes))));
    }
    if copied_records > 0 {
        let copied = count(copied_records, "record", "records");
        lines.push((
            "syncs again",
            format!("{copied} at the end, not proven to be on stable storage, before they are shown"),
        ));
    }
    lines.push(("begins", format!("segment {}, from LSN {}", plan.new_segment, plan.first_lsn)));
    for name in &plan.report.quarantined {
        lines.push(("keeps", format!("quarantine/{name}")));
    }
    lines
}
