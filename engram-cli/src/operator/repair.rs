//! `engram repair`: makes a damaged log sound again, without what is lost.

use std::sync::Arc;

use engram_core::{
    StorageError,
    storage::{RepairStep, WalRepair, disk::RealDisk},
};
use serde::Serialize;

use super::{
    DataDir, confirm,
    inspection::{InspectionView, Lines},
    of_reading,
    output::Output,
};
use crate::{
    count::count,
    exit::{Exit, Failure},
};

const EXAMPLES: &str = "\
Examples:
  engram verify            # what is damaged
  engram repair            # says what it would do, and asks
  engram repair --yes --json

A start skips what is damaged each time, and says so each time. A repair is your word that it is lost: the log is sound
afterwards, also for --recovery strict. Whatever stood in a damaged segment keeps a name in wal/quarantine/. The server
must not be running. Copy the data directory first.

Exit codes:
  0   the log is sound, now or before
  1   another failure, or the answer was no
  2   wrong usage, or nobody there to ask
  65  damage that a repair cannot close
  73  there is no log, or no access to it
  74  the disk cannot be read or written; run it again when that is mended
  75  a server is running on it";

/// Flags of `engram repair`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    data_dir: DataDir,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Print one JSON object, of what was done and how the log is then
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    version: &'static str,
    directory: &'a str,
    steps: Vec<StepView>,
    #[serde(flatten)]
    log: InspectionView<'a>,
}

#[derive(Debug, Serialize)]
struct StepView {
    file: String,
    /// The name that its damaged bytes keep.
    kept: Option<String>,
    declared_lost: u64,
}

pub(crate) fn run(args: &RepairArgs) -> Result<(), Failure> {
    // Its words, when there is nothing to repair at all.
    let (_, bar) = args.data_dir.reader()?;
    bar.finish_and_clear();
    let directory = args.data_dir.log_directory()?;
    let disk =
        RealDisk::open(&directory).map_err(|e| of_reading(StorageError::bad_directory(&directory, &e)))?;
    let repair = WalRepair::new(Arc::new(disk)).map_err(of_repair)?;
    let directory = directory.display().to_string();
    let steps: Vec<RepairStep> = repair.steps().cloned().collect();
    let mut output = Output::new();
    if !args.json {
        output.line(&format!(
            "{directory}: {}",
            if steps.is_empty() { "sound, nothing to repair" } else { "DAMAGED" }
        ))?;
        output.line(Lines(repair.inspection()).to_string().trim_end())?;
        for step in &steps {
            output.line(&format!("  {:<13}{}", "repair", describe(step)))?;
        }
    }
    if !steps.is_empty() && !args.yes {
        output.end()?;
        ask(&steps)?;
        output = Output::new();
    }
    // On a sound log it changes nothing.
    let after = repair.run().map_err(of_repair)?;
    if args.json {
        let steps = steps.iter().map(StepView::from).collect();
        let log = InspectionView::from(&after);
        output.json(&Report { version: env!("CARGO_PKG_VERSION"), directory: &directory, steps, log })?;
    } else if !steps.is_empty() {
        let lost = count(after.declared_lost, "record is", "records are");
        output.line(&format!(
            "repaired: {} can be read, {lost} declared lost",
            count(after.records, "record", "records")
        ))?;
    }
    output.end()?;
    if after.is_sound() {
        return Ok(());
    }
    Err(Failure::new(Exit::Damaged, "the log is still damaged")
        .help("`engram verify` says where; run the repair again"))
}

impl From<&RepairStep> for StepView {
    fn from(step: &RepairStep) -> Self {
        let RepairStep { file, kept, declared_lost } = step.clone();
        Self { file, kept, declared_lost }
    }
}

fn describe(step: &RepairStep) -> String {
    let lost = match step.declared_lost {
        0 => "nothing is lost by it".to_owned(),
        records => format!("declares {} lost", count(records, "record", "records")),
    };
    match &step.kept {
        Some(kept) => format!("{}: {lost}; what stands there now is kept as {kept}", step.file),
        None => format!("{}: is missing, made anew; {lost}", step.file),
    }
}

/// Asks whoever sits there.
fn ask(steps: &[RepairStep]) -> Result<(), Failure> {
    let records = count(steps.iter().map(|step| step.declared_lost).sum::<u64>(), "record", "records");
    confirm(&format!("Repair, and declare {records} lost for good?"), "repair", "repairs")
}

fn of_repair(error: StorageError) -> Failure {
    let message = error.to_string();
    match error {
        StorageError::Locked { .. } => {
            Failure::new(Exit::Locked, message).help("stop the server first: nothing may write a log that is repaired")
        }
        StorageError::Unrepairable { .. } => Failure::new(Exit::Damaged, message)
            .help("nothing was changed. Bring the missing files back from a copy; a start with --recovery skip-corrupt shows what can be read"),
        StorageError::DiskFull { .. } => {
            Failure::new(Exit::LogFailed, message).help("free some space and repair again: what was done is whole")
        }
        other => of_reading(other),
    }
}
