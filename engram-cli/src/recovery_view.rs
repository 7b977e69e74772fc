//! What a recovery has found or would find, as JSON: `GET /v1/status` and the operator's verbs say it in the same words.

use engram_core::storage::{Damage, RecoveryReport};
use serde::Serialize;

/// What a start has found in the log.
#[derive(Debug, Serialize)]
pub(crate) struct RecoveryView {
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

/// A damaged range, and the records that it took.
#[derive(Debug, Serialize)]
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
