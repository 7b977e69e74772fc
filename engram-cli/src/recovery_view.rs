//! What a recovery has found or would find, as JSON: `GET /v1/status` and the operator's verbs say it in the same words.

use engram_core::storage::{Damage, RecoveryReport, RejectedSnapshot, SnapshotDamage, SnapshotLoaded};
use schemars::JsonSchema;
use serde::Serialize;

/// What a start has found in the log.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RecoveryView {
    snapshot: Option<SnapshotView>,
    rejected_snapshots: Vec<RejectedView>,
    segments: u64,
    records: u64,
    bytes: u64,
    last_lsn: u64,
    clean: bool,
    torn_bytes: u64,
    copied_records: u64,
    unproven_records: u64,
    lost_records: u64,
    declared_lost: u64,
    damaged_ranges: u64,
    /// The first hundred of them.
    damage: Vec<DamageView>,
    quarantined: Vec<String>,
    read_only: Option<String>,
    took_ms: f64,
}

/// The snapshot that the log was read on.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LoadedSnapshotView")]
struct SnapshotView {
    file: String,
    lsn: u64,
    records: u64,
    bytes: u64,
    lost_records: u64,
    damage: Vec<SnapshotDamageView>,
}

/// A damaged range of a snapshot.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SnapshotDamageView {
    file: String,
    offset: u64,
    end: u64,
    reason: &'static str,
}

/// A newer snapshot that could not be used.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RejectedView {
    file: String,
    reason: String,
}

/// A damaged range, and the records that it took.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DamageView {
    segment: u64,
    offset: u64,
    end: u64,
    first_lsn: u64,
    last_lsn: u64,
    lost_records: u64,
    reason: &'static str,
}

impl From<RecoveryReport> for RecoveryView {
    fn from(report: RecoveryReport) -> Self {
        Self {
            snapshot: report.snapshot.as_ref().map(SnapshotView::from),
            rejected_snapshots: report.rejected_snapshots.iter().map(RejectedView::from).collect(),
            segments: report.segments,
            records: report.records,
            bytes: report.bytes,
            last_lsn: report.last_lsn.get(),
            clean: report.clean,
            torn_bytes: report.torn_bytes,
            copied_records: report.copied_records,
            unproven_records: report.unproven_records,
            lost_records: report.lost_records,
            declared_lost: report.declared_lost,
            damaged_ranges: report.damaged_ranges,
            damage: report.damage.iter().map(DamageView::from).collect(),
            quarantined: report.quarantined,
            read_only: report.read_only,
            took_ms: report.took.as_secs_f64() * 1e3,
        }
    }
}

impl From<&SnapshotLoaded> for SnapshotView {
    fn from(snapshot: &SnapshotLoaded) -> Self {
        Self {
            file: snapshot.file.clone(),
            lsn: snapshot.lsn.get(),
            records: snapshot.records,
            bytes: snapshot.bytes,
            lost_records: snapshot.lost_records,
            damage: snapshot.damage.iter().map(SnapshotDamageView::from).collect(),
        }
    }
}

impl From<&SnapshotDamage> for SnapshotDamageView {
    fn from(damage: &SnapshotDamage) -> Self {
        let SnapshotDamage { file, offset, end, reason } = damage.clone();
        Self { file, offset, end, reason }
    }
}

impl From<&RejectedSnapshot> for RejectedView {
    fn from(rejected: &RejectedSnapshot) -> Self {
        Self { file: rejected.file.clone(), reason: rejected.reason.clone() }
    }
}

impl From<&Damage> for DamageView {
    fn from(damage: &Damage) -> Self {
        Self {
            segment: damage.segment.get(),
            offset: damage.offset,
            end: damage.end,
            first_lsn: damage.first_lsn.get(),
            last_lsn: damage.last_lsn.get(),
            lost_records: damage.lost_records(),
            reason: damage.reason,
        }
    }
}
