//! The store's own numbers.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use engram_core::{
    SnapshotStatus, StoreStatus, Writes,
    storage::{MetricsSnapshot, RecoveryReport},
};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::encode::MetricsEncoder;
use crate::{
    embed::{self, EmbedService, ReembedState, ReembedStatus},
    server::status::name_of_writes,
    service::{MemoryService, RecallTimes},
};

pub(super) struct StoreCollector(pub(super) Arc<OnceLock<MemoryService>>);

impl Collector for StoreCollector {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut to = MetricsEncoder(encoder);
        let service = self.0.get();
        let ready = "1 when the memories are recovered and can be asked for";
        to.gauge("ready", ready, u64::from(service.is_some()))?;
        let Some(service) = service else { return Ok(()) };
        let status = service.status();
        to.memories(&status)?;
        to.log(&status.log)?;
        to.snapshots(&status.snapshots)?;
        to.recovery(&status.log, status.recovery.as_ref())?;
        to.recalls(service.recall_times())?;
        to.reembedding(&service.reembedding().status())?;
        service.embed().map_or(Ok(()), |embed| to.embedding(&embed, status.unembedded))
    }
}

impl fmt::Debug for StoreCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreCollector")
    }
}

impl MetricsEncoder<'_> {
    fn memories(&mut self, status: &StoreStatus) -> fmt::Result {
        self.gauge("memories", "Memories stored", status.count as u64)?;
        self.gauge("spaces", "Spaces that the memories are in", status.spaces as u64)?;
        self.gauge("capacity", "The most memories that the store holds", status.capacity as u64)?;
        self.gauge("memory_bytes", "Memory that the memories take, by an estimate", status.memory_bytes)?;
        if status.memory_limit < u64::MAX {
            self.gauge("memory_limit_bytes", "Memory that they may take", status.memory_limit)?;
        }
        let index = &status.index;
        self.gauge("vectors", "Memories with a vector", index.rows as u64)?;
        let tail = index.tail as u64;
        self.gauge(
            "vectors_unlisted",
            "Vectors that are in no list of the index yet, and are scanned",
            tail,
        )?;
        self.gauge("index_lists", "Lists of the index of vectors", index.lists as u64)?;
        self.gauge("index_graph_vectors", "Vectors in the graph of the index", index.nodes as u64)?;
        let working = u64::from(index.is_working);
        self.gauge("index_working", "1 while the index is made or filled", working)?;
        let all = [Writes::Durable, Writes::Volatile, Writes::Refused];
        let all = all.map(|writes| (name_of_writes(writes), writes == status.writes));
        self.states("writes", "1 for what becomes of a write now", all)
    }

    fn log(&mut self, log: &MetricsSnapshot) -> fmt::Result {
        self.counter("log_appends", "Records committed to the log", log.appends)?;
        self.counter("log_failed_appends", "Records that the log could not take", log.failed_appends)?;
        self.counter("log_payload_bytes", "Bytes of the records committed", log.payload_bytes)?;
        self.counter("log_written_bytes", "Bytes written, with headers and padding", log.written_bytes)?;
        self.counter("log_rotations", "Segments begun", log.rotations)?;
        self.histogram("log_batch_records", "Records a commit", &log.batch_sizes)?;
        let commit = "Time from when a record was submitted until it was acknowledged";
        self.times("log_commit_seconds", commit, &log.commit_latency_us)?;
        self.times("log_sync_seconds", "Time that each sync took", &log.sync_latency_us)?;
        self.gauge("log_queue_records", "Records that wait for the log", log.queue_depth)?;
        self.gauge("log_queue_bytes", "Bytes that wait for the log", log.queue_bytes)?;
        self.gauge("log_written_lsn", "The last record that survives a crash", log.written_lsn)?;
        self.gauge("log_synced_lsn", "The last record that survives power loss", log.synced_lsn)?;
        let lag = log.durable_lag();
        self.gauge("log_durable_lag_records", "Records that a power loss could take now", lag)?;
        self.gauge("log_poisoned", "1 when a failure has ended writing", u64::from(log.poisoned))?;
        let full = u64::from(log.disk_full);
        self.gauge("log_disk_full", "1 while writes are refused for want of space", full)
    }

    fn snapshots(&mut self, snapshots: &SnapshotStatus) -> fmt::Result {
        self.counter("snapshots", "Snapshots taken", snapshots.taken)?;
        self.counter("snapshots_failed", "Snapshots that could not be taken", snapshots.failed)?;
        let last = snapshots.last.as_ref();
        let lsn = last.map_or(0, |it| it.lsn.get());
        self.gauge("snapshot_lsn", "The last record that the last snapshot stands for", lsn)?;
        self.gauge("snapshot_bytes", "Bytes of the last snapshot", last.map_or(0, |it| it.bytes))?;
        let seconds = last.map_or(0.0, |it| it.took.as_secs_f64());
        self.gauge_of("snapshot_seconds", "Time that the last snapshot took", seconds)?;
        let since = snapshots.log_bytes;
        self.gauge("log_bytes_since_snapshot", "Bytes of log that the next start reads", since)
    }

    fn recovery(&mut self, log: &MetricsSnapshot, report: Option<&RecoveryReport>) -> fmt::Result {
        let recovered = log.recovered_records;
        self.gauge("log_recovered_records", "Records replayed at the start", recovered)?;
        let skipped = log.skipped_records;
        self.gauge("log_skipped_records", "Acknowledged records that the start could not read", skipped)?;
        let damaged = report.map_or(0, |it| it.damaged_ranges);
        self.gauge("log_damaged_ranges", "Damaged places that the start found in the log", damaged)?;
        let Some(report) = report else { return Ok(()) };
        self.gauge_of("recovery_seconds", "Time that the start took to recover", report.took.as_secs_f64())?;
        let snapshot = report.snapshot.as_ref();
        let (snapshot_bytes, snapshot_damage) =
            snapshot.map_or((0, 0), |it| (it.bytes, it.damage.len() as u64));
        self.gauge("recovery_log_bytes", "Bytes of log that the start read", report.bytes)?;
        self.gauge("recovery_snapshot_bytes", "Bytes of a snapshot that the start read", snapshot_bytes)?;
        let damaged = "Damaged places that the start found in its snapshot";
        self.gauge("recovery_snapshot_damaged_ranges", damaged, snapshot_damage)?;
        let rejected = report.rejected_snapshots.len() as u64;
        self.gauge("recovery_rejected_snapshots", "Snapshots that the start could not use", rejected)?;
        let torn = "Bytes that a crash had cut off, and that were never acknowledged";
        self.gauge("recovery_torn_bytes", torn, report.torn_bytes)?;
        let clean = "1 when the stop before the start was clean";
        self.gauge("recovery_clean", clean, u64::from(report.clean))
    }

    fn recalls(&mut self, times: &RecallTimes) -> fmt::Result {
        let help = "Time that a recall took, without its wait, by what has answered";
        let by_way = times.snapshot().into_iter();
        let by_way = by_way.map(|(mode, index, times)| ([("mode", mode), ("index", index)], times));
        self.times_by("recall_seconds", help, by_way)?;
        let help = "Time that a recall waited for a free core";
        self.times("recall_wait_seconds", help, &times.waits())
    }

    fn reembedding(&mut self, now: &ReembedStatus) -> fmt::Result {
        let states = ReembedState::ALL.map(|state| (state.name(), state == now.state));
        self.states("reembed_state", "1 for what became of embedding all memories anew", states)?;
        let done = now.embedded + now.refused;
        self.gauge("reembed_done", "Memories that are embedded anew", done as u64)?;
        self.gauge("reembed_total", "Memories that are to be embedded anew", now.memories.max(done) as u64)
    }

    fn embedding(&mut self, embed: &EmbedService, pending: usize) -> fmt::Result {
        let now = embed.progress().snapshot();
        self.gauge("embedding_pending", "Memories without a vector", pending as u64)?;
        let failed = "Memories that the model does not take, and that are not tried for now";
        self.gauge("embedding_failed", failed, now.failed)?;
        self.counter("embedded_memories", "Memories that the server has embedded", now.embedded)?;
        self.counter("embedded_questions", "Questions that were to be embedded", now.questions)?;
        let failed = "Questions that could not be embedded";
        self.counter("embedded_questions_failed", failed, now.questions_failed)?;
        let states = embed::State::ALL.map(|state| (state.name(), state == now.state));
        self.states("embedding_state", "1 for what the embedder does now", states)?;
        let help = "Time that the model took to answer, by what came of it";
        let times = embed.embedder().times().snapshot().into_iter();
        let times = times.map(|(outcome, times)| ([("outcome", outcome)], times));
        self.times_by("embedding_request_seconds", help, times)
    }
}
