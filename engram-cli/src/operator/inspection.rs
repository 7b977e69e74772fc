//! What a look at a log found, for people and for programs.

use std::fmt;

use engram_core::{
    Change,
    storage::{
        Damage, DamageInspection, Inspection, Remains, SegmentInspection, SnapshotInspection, WalEntryType,
    },
};
use serde::Serialize;

use super::output::{size, time};
use crate::{
    count::count,
    recovery_view::{DamageView, RejectedView, SnapshotDamageView},
};

/// Damage that a person is shown one by one; `--json` has all of it.
const DAMAGE_SHOWN_MAX: usize = 20;

/// A segment.
#[derive(Debug, Serialize)]
pub(super) struct SegmentView<'a> {
    segment: u64,
    file: &'a str,
    file_bytes: u64,
    used_bytes: u64,
    first_lsn: u64,
    /// Before `first_lsn` when no record is in it.
    last_lsn: u64,
    records: u64,
    first_time: Option<String>,
    last_time: Option<String>,
    closed: bool,
    damaged_ranges: u64,
}

/// The snapshot that the log is read on.
#[derive(Debug, Serialize)]
struct SnapshotInspectionView<'a> {
    file: &'a str,
    file_bytes: u64,
    lsn: u64,
    /// The segment that the log goes on in.
    segment: u64,
    time: String,
    records: u64,
    lost_records: u64,
    damage: Vec<SnapshotDamageView>,
}

/// All of a log.
#[derive(Debug, Serialize)]
pub(super) struct InspectionView<'a> {
    log_id: String,
    snapshot: Option<SnapshotInspectionView<'a>>,
    rejected_snapshots: Vec<RejectedView>,
    segments: Vec<SegmentView<'a>>,
    /// The first and the last number of each run.
    missing_segments: Vec<(u64, u64)>,
    records: u64,
    lost_records: u64,
    declared_lost: u64,
    last_lsn: u64,
    proven_lsn: u64,
    torn_bytes: u64,
    sealed: bool,
    temporary: &'a [String],
    damage: Vec<DamageInspectionView>,
}

/// A damaged range, and what is known of what was in it.
#[derive(Debug, Serialize)]
struct DamageInspectionView {
    #[serde(flatten)]
    damage: DamageView,
    /// When the last whole record before it and the first after it were written.
    after: Option<String>,
    before: Option<String>,
    remains: Vec<RemainsView>,
}

/// A damaged record of which the header is whole.
#[derive(Debug, Serialize)]
struct RemainsView {
    lsn: u64,
    time: String,
    #[serde(rename = "type")]
    kind: &'static str,
    payload_bytes: u32,
    /// As it stands in the damaged bytes.
    id: Option<String>,
}

impl<'a> From<&'a SegmentInspection> for SegmentView<'a> {
    fn from(segment: &'a SegmentInspection) -> Self {
        Self {
            segment: segment.id.get(),
            file: &segment.file,
            file_bytes: segment.file_bytes,
            used_bytes: segment.used_bytes,
            first_lsn: segment.first_lsn.get(),
            last_lsn: segment.last_lsn.get(),
            records: segment.records,
            first_time: segment.time_us.map(|(first, _)| time(first)),
            last_time: segment.time_us.map(|(_, last)| time(last)),
            closed: segment.closed,
            damaged_ranges: segment.damaged_ranges,
        }
    }
}

impl<'a> From<&'a Inspection> for InspectionView<'a> {
    fn from(inspection: &'a Inspection) -> Self {
        Self {
            log_id: log_id(inspection),
            snapshot: inspection.snapshot.as_ref().map(SnapshotInspectionView::from),
            rejected_snapshots: inspection.rejected_snapshots.iter().map(RejectedView::from).collect(),
            segments: inspection.segments.iter().map(SegmentView::from).collect(),
            missing_segments: inspection
                .missing
                .iter()
                .map(|(first, last)| (first.get(), last.get()))
                .collect(),
            records: inspection.records,
            lost_records: inspection.lost_records,
            declared_lost: inspection.declared_lost,
            last_lsn: inspection.last_lsn.get(),
            proven_lsn: inspection.proven_lsn.get(),
            torn_bytes: inspection.torn_bytes,
            sealed: inspection.sealed,
            temporary: &inspection.temporary,
            damage: inspection.damage.iter().map(DamageInspectionView::from).collect(),
        }
    }
}

impl<'a> From<&'a SnapshotInspection> for SnapshotInspectionView<'a> {
    fn from(snapshot: &'a SnapshotInspection) -> Self {
        Self {
            file: &snapshot.file,
            file_bytes: snapshot.file_bytes,
            lsn: snapshot.lsn.get(),
            segment: snapshot.segment.get(),
            time: time(snapshot.time_us),
            records: snapshot.records,
            lost_records: snapshot.lost_records,
            damage: snapshot.damage.iter().map(SnapshotDamageView::from).collect(),
        }
    }
}

impl From<&DamageInspection> for DamageInspectionView {
    fn from(found: &DamageInspection) -> Self {
        Self {
            damage: DamageView::from(&found.damage),
            after: found.after_us.map(time),
            before: found.before_us.map(time),
            remains: found.remains.iter().map(RemainsView::from).collect(),
        }
    }
}

impl From<&Remains> for RemainsView {
    fn from(remains: &Remains) -> Self {
        let header = &remains.header;
        Self {
            lsn: header.lsn.get(),
            time: time(header.time_us),
            kind: kind(header.entry_type),
            payload_bytes: header.payload_len,
            id: Change::id_in_remains(header.entry_type, &remains.payload),
        }
    }
}

/// What a record is about, in one word.
pub(super) const fn kind(entry_type: WalEntryType) -> &'static str {
    match entry_type {
        WalEntryType::MemoryStore => "store",
        WalEntryType::MemoryForget => "forget",
        WalEntryType::StoreConfig => "config",
        WalEntryType::SpaceConfig => "space",
        WalEntryType::SpaceDrop => "drop",
        WalEntryType::MemoryEmbed => "embed",
        WalEntryType::RequestReceipt => "receipt",
        WalEntryType::Gap => "gap",
        WalEntryType::Seal => "seal",
        _ => "unknown",
    }
}

fn log_id(inspection: &Inspection) -> String {
    format!("{:016x}", inspection.log_id)
}

/// The lines of a report that tell of the log.
pub(super) struct Lines<'a>(pub(super) &'a Inspection);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(inspection) = self;
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<13}{value}");
        line("log id", log_id(inspection))?;
        if let Some(snapshot) = &inspection.snapshot {
            let records = count(snapshot.records, "record", "records");
            line(
                "snapshot",
                format!(
                    "{records} in {}, for the log up to LSN {}, taken {}",
                    size(snapshot.file_bytes),
                    snapshot.lsn,
                    time(snapshot.time_us)
                ),
            )?;
        }
        let used = inspection.segments.iter().map(|segment| segment.used_bytes).sum();
        let held = inspection.segments.iter().map(|segment| segment.file_bytes).sum();
        line("segments", format!("{}, {} used of {}", inspection.segments.len(), size(used), size(held)))?;
        line("records", format!("{}, up to LSN {}", inspection.records, inspection.last_lsn))?;
        line("lost", count(inspection.lost_records, "acknowledged record", "acknowledged records"))?;
        if inspection.declared_lost > 0 {
            let records = count(inspection.declared_lost, "record", "records");
            line("", format!("(and {records} that an earlier repair has declared lost)"))?;
        }
        let unproven = inspection.last_lsn.get().saturating_sub(inspection.proven_lsn.get());
        line(
            "end",
            match (inspection.sealed, unproven) {
                (true, _) => "sealed: all of it is on stable storage".to_owned(),
                (false, 0) => format!("LSN {} is proven to be on stable storage", inspection.proven_lsn),
                (false, n) => format!(
                    "LSN {} is proven to be on stable storage; {} after it: a start writes them again before it shows them",
                    inspection.proven_lsn,
                    count(n, "record", "records"),
                ),
            },
        )?;
        if inspection.torn_bytes > 0 {
            line(
                "torn tail",
                format!(
                    "{}, cut off or still being written, never acknowledged",
                    size(inspection.torn_bytes)
                ),
            )?;
        }
        for (first, last) in &inspection.missing {
            let which = if first == last {
                format!("segment {first}")
            } else {
                format!("segments {first} to {last}")
            };
            line("missing", which)?;
        }
        for name in &inspection.temporary {
            line(
                "temporary",
                format!("{name}, counts for nothing: left by a crash, or a server is about to use it"),
            )?;
        }
        for rejected in &inspection.rejected_snapshots {
            line("unusable", format!("{}: {}", rejected.file, rejected.reason))?;
        }
        let of_snapshot = inspection.snapshot.iter().flat_map(|snapshot| &snapshot.damage);
        for damage in of_snapshot.take(DAMAGE_SHOWN_MAX) {
            line("damage", damage.to_string())?;
        }
        for found in inspection.damage.iter().take(DAMAGE_SHOWN_MAX) {
            line("damage", describe(found))?;
            for remains in &found.remains {
                line("", format!("  {}", describe_remains(remains)))?;
            }
        }
        if let more @ 1.. = inspection.damage.len().saturating_sub(DAMAGE_SHOWN_MAX) {
            line("", format!("and {more} more: --json has them all"))?;
        }
        Ok(())
    }
}

fn describe(found: &DamageInspection) -> String {
    let Damage { segment, offset, end, reason, .. } = &found.damage;
    let place = if end > offset { format!("bytes {offset} to {end}") } else { "before it".to_owned() };
    let written = match (found.after_us, found.before_us) {
        (Some(after), Some(before)) => format!(", written between {} and {}", time(after), time(before)),
        (Some(after), None) => format!(", written after {}", time(after)),
        (None, Some(before)) => format!(", written before {}", time(before)),
        (None, None) => String::new(),
    };
    format!("segment {segment}, {place}: {reason}; {}{written}", lost(&found.damage))
}

/// "LSN 2 is lost".
fn lost(damage: &Damage) -> String {
    match damage.lost_records() {
        0 => "no record is lost".to_owned(),
        1 => format!("LSN {} is lost", damage.first_lsn),
        _ => format!("LSN {} to {} are lost", damage.first_lsn, damage.last_lsn),
    }
}

fn describe_remains(remains: &Remains) -> String {
    let RemainsView { lsn, time, kind, payload_bytes, id } = RemainsView::from(remains);
    let id =
        id.map_or_else(|| "its id cannot be read".to_owned(), |id| format!("id {id:?} as it stands there"));
    format!("LSN {lsn}, {kind}, {time}, {payload_bytes} bytes, {id}")
}
