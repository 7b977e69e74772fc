//! `engram verify`: whether all that was acknowledged can still be read.

use std::time::Instant;

use engram_core::{
    LogAudit, StorageError, StoreError,
    storage::{Inspection, WalEntryHeader, WalReader},
};
use serde::Serialize;

use super::{
    DataDir,
    inspection::{InspectionView, Lines},
    of_reading,
    output::Output,
};
use crate::{
    count::count,
    exit::{Exit, Failure},
};

/// Records that a person is shown one by one; `--json` has them all.
const UNREADABLE_SHOWN_MAX: usize = 20;

const EXAMPLES: &str = "\
Examples:
  engram verify
  engram verify --data-dir /var/lib/engram --deep
  engram verify --json | jq .damage

It reads every segment, record and checksum, and holds each record against the promises that later
ones make about it. It changes nothing, and a server may be running meanwhile.

Exit codes:
  0   sound: nothing that was acknowledged is damaged or missing
  1   another failure
  2   wrong usage
  65  damaged: the report says what, by LSN, time and id
  73  there is no log, or no access to it
  74  the disk cannot be read";

/// Flags of `engram verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    data_dir: DataDir,

    /// Decode each memory, too, and hold it against what a start demands of it
    #[arg(long)]
    deep: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was found beyond the log's own checks.
#[derive(Debug, Default, Serialize)]
struct Deep {
    /// Memories that a start would show.
    memories: usize,
    /// Whole records that a start could not read.
    unreadable: Vec<Unreadable>,
}

#[derive(Debug, Serialize)]
struct Unreadable {
    lsn: u64,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    version: &'static str,
    directory: String,
    sound: bool,
    #[serde(flatten)]
    log: InspectionView<'a>,
    deep: Option<Deep>,
    took_ms: f64,
}

pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let (reader, bar) = args.data_dir.reader()?;
    let inspection = reader.inspect().map_err(of_reading)?;
    let deep = if args.deep { Some(Deep::look(&reader)?) } else { None };
    bar.finish_and_clear();
    let unreadable = deep.as_ref().map_or(0, |deep| deep.unreadable.len());
    let sound = inspection.is_sound() && unreadable == 0;
    let directory = args.data_dir.log_directory()?.display().to_string();
    let mut output = Output::new();
    if args.json {
        let took_ms = started.elapsed().as_secs_f64() * 1e3;
        let log = InspectionView::from(&inspection);
        output.json(&Report { version: env!("CARGO_PKG_VERSION"), directory, sound, log, deep, took_ms })?;
    } else {
        let verdict = if sound { "sound" } else { "DAMAGED" };
        output.line(&format!("{directory}: {verdict}"))?;
        output.line(Lines(&inspection).to_string().trim_end())?;
        for line in deep.iter().flat_map(Deep::lines) {
            output.line(&line)?;
        }
        output.line(&format!("  took         {:.1} s", started.elapsed().as_secs_f64()))?;
    }
    output.end()?;
    if sound { Ok(()) } else { Err(damaged(&inspection, unreadable)) }
}

impl Deep {
    fn look(reader: &WalReader) -> Result<Self, Failure> {
        let (mut audit, mut deep) = (LogAudit::new(), Self::default());
        let in_snapshot = |header: &WalEntryHeader, payload: &[u8]| {
            if let Err(StoreError::Record { lsn, reason }) =
                audit.read_payload(header.lsn, header.entry_type, payload)
            {
                deep.unreadable.push(Unreadable { lsn: lsn.get(), reason });
            }
            Ok::<(), StorageError>(())
        };
        reader.for_each_in_snapshot(in_snapshot).map_err(of_reading)?;
        for record in reader {
            match record {
                Ok(record) => {
                    if let Err(StoreError::Record { lsn, reason }) = audit.read(&record) {
                        deep.unreadable.push(Unreadable { lsn: lsn.get(), reason });
                    }
                }
                Err(StorageError::Corrupt { .. }) => {} // the inspection has it
                Err(other) => return Err(of_reading(other)),
            }
        }
        deep.memories = audit.memories();
        Ok(deep)
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("  {:<13}{}", "memories", self.memories)];
        for Unreadable { lsn, reason } in self.unreadable.iter().take(UNREADABLE_SHOWN_MAX) {
            lines.push(format!("  {:<13}LSN {lsn}: {reason}", "unreadable"));
        }
        if let more @ 1.. = self.unreadable.len().saturating_sub(UNREADABLE_SHOWN_MAX) {
            lines.push(format!("  {:<13}and {more} more: --json has them all", ""));
        }
        lines
    }
}

fn damaged(inspection: &Inspection, unreadable: usize) -> Failure {
    if inspection.is_sound() {
        let records = count(unreadable, "whole record", "whole records");
        return Failure::new(Exit::Damaged, format!("{records} cannot be read by this build"))
            .help("open the store with the version of Engram that wrote it");
    }
    let places = count(inspection.damage.len(), "place", "places");
    let lost = count(inspection.lost_records, "acknowledged record is", "acknowledged records are");
    Failure::new(Exit::Damaged, format!("the log is damaged in {places}: {lost} lost")).help(
        "copy the data directory before anything else. `engram recover --report` says what a start would do; \
         `engram repair` makes the log sound again, without what is lost",
    )
}
