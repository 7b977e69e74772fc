//! `engram wal ls` and `engram wal dump`: what is in the log.

use clap::Subcommand;
use engram_core::{
    Change, Confidence, LogAudit, Lsn, Metadata, StorageError,
    chrono::SecondsFormat,
    storage::{WalEntryHeader, WalRecord},
};
use serde::Serialize;

use super::{
    DataDir,
    inspection::{SegmentView, kind},
    of_reading,
    output::{Output, Reader, size, time},
};
use crate::{
    count::count,
    exit::{Exit, Failure},
};

/// Characters of a content that a line for people shows.
const CONTENT_SHOWN_MAX: usize = 60;

const LS_CODES: &str = "\
Exit codes: 0 as asked, 65 the log is damaged (the list says where), 73 there is no log, 74 the disk cannot be read";

const DUMP_EXAMPLES: &str = "\
Examples:
  engram wal dump | less
  engram wal dump --from-lsn 1000 --limit 10
  engram wal dump --json | jq 'select(.id == \"tea\")'

Records come in the order of the log. Where damaged ones were, a line says so, and the exit code is 65. A memory that
was changed or forgotten later is there, too: it is the log, not the store.

Exit codes: 0 as asked, 65 some of it is damaged, 73 there is no log, 74 the disk cannot be read";

/// What is asked of the log.
#[derive(Debug, Subcommand)]
pub(crate) enum WalVerb {
    /// List the log's segments.
    Ls(LsArgs),
    /// Print the log's records.
    Dump(DumpArgs),
}

/// Flags of `engram wal ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = LS_CODES)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    data_dir: DataDir,

    /// Print one JSON object a segment
    #[arg(long)]
    json: bool,
}

/// Flags of `engram wal dump`.
#[derive(Debug, clap::Args)]
#[command(after_help = DUMP_EXAMPLES)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    data_dir: DataDir,

    /// The first record to print
    #[arg(long, value_name = "LSN", default_value_t = 1)]
    from_lsn: u64,

    /// Print no more than so many records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Print one JSON object a record, whole
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(verb: &WalVerb) -> Result<(), Failure> {
    match verb {
        WalVerb::Ls(args) => ls(args),
        WalVerb::Dump(args) => dump(args),
    }
}

fn ls(args: &LsArgs) -> Result<(), Failure> {
    let (reader, bar) = args.data_dir.reader()?;
    let inspection = reader.inspect().map_err(of_reading)?;
    bar.finish_and_clear();
    let mut output = Output::new();
    if !args.json {
        output.line(&format!(
            "{:<28}{:>11}{:>11}{:>10}  {:<21}{:<29}{}",
            "file", "used", "of", "records", "LSN", "written from", "state"
        ))?;
    }
    for segment in &inspection.segments {
        if args.json {
            output.json(&SegmentView::from(segment))?;
            continue;
        }
        let lsns = if segment.records == 0 {
            format!("none before {}", segment.first_lsn)
        } else {
            format!("{} to {}", segment.first_lsn, segment.last_lsn)
        };
        let state = match (segment.damaged_ranges, segment.closed) {
            (0, true) => "closed".to_owned(),
            (0, false) => "newest".to_owned(),
            (places, _) => format!("DAMAGED in {}", count(places, "place", "places")),
        };
        output.line(&format!(
            "{:<28}{:>11}{:>11}{:>10}  {lsns:<21}{:<29}{state}",
            segment.file,
            size(segment.used_bytes),
            size(segment.file_bytes),
            segment.records,
            segment.time_us.map_or_else(|| "-".to_owned(), |(first, _)| time(first)),
        ))?;
    }
    output.end()?;
    if inspection.is_sound() { Ok(()) } else { Err(some_is_damaged()) }
}

fn dump(args: &DumpArgs) -> Result<(), Failure> {
    let (reader, bar) = args.data_dir.reader()?;
    bar.finish_and_clear();
    let (mut output, mut audit) = (Output::new(), LogAudit::new());
    // What the store was made with may stand there alone; `verify --deep` says what is wrong there.
    let in_snapshot = |header: &WalEntryHeader, payload: &[u8]| {
        drop(audit.read_payload(header.lsn, header.entry_type, payload));
        Ok::<(), StorageError>(())
    };
    reader.for_each_in_snapshot(in_snapshot).map_err(of_reading)?;
    let (mut printed, mut is_damaged) = (0, false);
    for step in &reader {
        let written = match step {
            Ok(record) => {
                let change = audit.read(&record).map_err(|error| error.to_string());
                if record.lsn() < Lsn::new(args.from_lsn) {
                    continue;
                }
                if args.limit.is_some_and(|limit| printed >= limit) {
                    break;
                }
                printed += 1;
                if args.json {
                    output.json(&RecordView::new(&record, change))?
                } else {
                    output.line(&line(&record, &change))?
                }
            }
            Err(StorageError::Corrupt { last_lsn, .. }) if last_lsn < Lsn::new(args.from_lsn) => continue,
            Err(error @ StorageError::Corrupt { .. }) => {
                is_damaged = true;
                if args.json {
                    output.json(&DamageLine::from(&error))?
                } else {
                    output.line(&format!("DAMAGED: {error}"))?
                }
            }
            Err(other) => return Err(of_reading(other)),
        };
        if written == Reader::IsGone {
            return Ok(());
        }
    }
    output.end()?;
    if is_damaged { Err(some_is_damaged()) } else { Ok(()) }
}

fn some_is_damaged() -> Failure {
    Failure::new(Exit::Damaged, "some of the log is damaged")
        .help("`engram verify` says where, and what was there")
}

/// A record, whole but for the numbers of its embedding.
#[derive(Debug, Serialize)]
struct RecordView {
    lsn: u64,
    synced_lsn: u64,
    time: String,
    #[serde(rename = "type")]
    kind: &'static str,
    segment: u64,
    offset: u64,
    payload_bytes: u32,
    #[serde(flatten)]
    change: Option<ChangeView>,
    /// Why a start could not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ChangeView {
    Stored {
        id: String,
        when: String,
        content: String,
        confidence: f32,
        metadata: Metadata,
        dimension: Option<usize>,
    },
    Forgotten {
        id: String,
    },
    Configured {
        dimension: usize,
        precision: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    Embedded {
        id: String,
        of: u64,
    },
    SpaceConfigured {
        space: String,
        capacity: Option<u64>,
    },
    SpaceDropped {
        space: String,
    },
    Answered {
        id: String,
        key: String,
    },
}

impl RecordView {
    fn new(record: &WalRecord, change: Result<Change, String>) -> Self {
        let (change, unreadable) = match change {
            Ok(change) => (ChangeView::of(change), None),
            Err(reason) => (None, Some(reason)),
        };
        Self {
            lsn: record.lsn().get(),
            synced_lsn: record.header.synced_lsn.get(),
            time: time(record.header.time_us),
            kind: kind(record.entry_type()),
            segment: record.segment.get(),
            offset: record.offset,
            payload_bytes: record.header.payload_len,
            change,
            unreadable,
        }
    }
}

impl ChangeView {
    fn of(change: Change) -> Option<Self> {
        Some(match change {
            Change::Stored { id, when, content, confidence, metadata, dimension } => Self::Stored {
                id,
                when: when.to_rfc3339_opts(SecondsFormat::AutoSi, true),
                content,
                confidence: Confidence::get(confidence),
                metadata,
                dimension,
            },
            Change::Forgotten { id } => Self::Forgotten { id },
            Change::Configured { dimension, precision, model } => Self::Configured {
                dimension,
                precision: precision.to_string(),
                model: model.map(|model| model.to_string()),
            },
            Change::Embedded { id, of } => Self::Embedded { id, of: of.get() },
            Change::SpaceConfigured { space, capacity } => Self::SpaceConfigured { space, capacity },
            Change::SpaceDropped { space } => Self::SpaceDropped { space },
            Change::Answered { id, key } => Self::Answered { id, key },
            _ => return None,
        })
    }
}

/// Where damaged records were.
#[derive(Debug, Serialize)]
struct DamageLine {
    damaged: String,
}

impl From<&StorageError> for DamageLine {
    fn from(error: &StorageError) -> Self {
        Self { damaged: error.to_string() }
    }
}

/// A record in a line.
fn line(record: &WalRecord, change: &Result<Change, String>) -> String {
    let what = match change {
        Ok(Change::Stored { id, content, dimension, .. }) => {
            let embedding = dimension.map_or("", |_| " +embedding");
            format!("{id:?} {}{embedding}", shortened(content))
        }
        Ok(Change::Forgotten { id }) => format!("{id:?}"),
        Ok(Change::Configured { dimension, precision, model }) => {
            let model = model.as_ref().map_or(String::new(), |model| format!(", {model}"));
            format!("{dimension} dimensions, {precision}{model}")
        }
        Ok(Change::Embedded { id, of }) => format!("{id:?} of {of}"),
        Ok(Change::SpaceConfigured { space, .. } | Change::SpaceDropped { space }) => format!("{space:?}"),
        Ok(Change::Answered { id, key }) => format!("{key:?} about {id:?}"),
        Ok(_) => String::new(),
        Err(reason) => format!("UNREADABLE: {reason}"),
    };
    let place = format!("{}@{}", record.segment, record.offset);
    let (lsn, time, kind) = (record.lsn().get(), time(record.header.time_us), kind(record.entry_type()));
    format!("{lsn:>10}  {time}  {place:<14}{kind:<7}{what}")
}

fn shortened(content: &str) -> String {
    match content.char_indices().nth(CONTENT_SHOWN_MAX) {
        None => format!("{content:?}"),
        Some((at, _)) => format!("{:?}…", &content[..at]),
    }
}
