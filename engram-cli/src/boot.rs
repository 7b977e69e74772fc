//! Opening the store: directories, recovery, and what is said about both.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use engram_core::{
    LogFailure, MemoryStore, ModelIdentity, StoreError, StoreStatus, Writes,
    storage::{ProgressHook, RecoveryProgress, RecoveryReport, WalOptions, disk::RealDisk},
};
use tracing::{info, warn};

use crate::{
    args::WalFailurePolicy,
    config::StartConfig,
    count::count,
    embed::{EmbedService, Embedder, Kind},
    exit::{Exit, Failure},
    server::App,
};

/// How often a long recovery says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How long a new store waits to hear how many numbers the embeddings have, and how often it asks.
const DIMENSION_TIME_MAX: Duration = Duration::from_secs(10);
const DIMENSION_INTERVAL: Duration = Duration::from_millis(500);

/// Opens the store, recovers what is in its log, and opens the embedder, if there is to be one. Blocks until all memories
/// can be recalled.
pub(crate) fn open(app: &App) -> Result<(MemoryStore, Option<EmbedService>), Failure> {
    let embed = app.config.embed.as_ref().map(EmbedService::open).transpose()?;
    let store = open_store(app, embed.as_ref().map(|embed| &**embed.embedder()))?;
    if let Some(embed) = &embed {
        // Another model is told by its name first: which one the store has says more than how many numbers.
        if store.status().model.is_some() {
            note_model(&store, embed.embedder().identity())?;
        }
        embed.embedder().expect(store.status().dimension)?;
        note_model(&store, embed.embedder().identity())?;
    }
    Ok((store, embed))
}

/// The store keeps what its embeddings are from; a start with something else is refused.
fn note_model(store: &MemoryStore, model: ModelIdentity) -> Result<(), Failure> {
    let StoreStatus { model: noted, writes, .. } = store.status();
    if noted.is_none() && writes == Writes::Refused {
        return Ok(()); // a start that can write will
    }
    store.set_model(model).map_err(|error| {
        let own =
            noted.map(|noted| format!("start with the store's own model, --embed-model {}; or ", noted.name));
        Failure::from(error).help(format!(
            "{}embed all contents anew, while no server runs: engram reembed --embed-model NAME …",
            own.unwrap_or_default()
        ))
    })
}

fn open_store(app: &App, embedder: Option<&Embedder>) -> Result<MemoryStore, Failure> {
    let config = &app.config;
    open_directory(&config.data_dir)?;
    let disk = open_directory(&config.log_directory())?;
    let dimension = match (config.dimension, embedder) {
        (None, Some(embedder)) if is_new(&config.log_directory()) => dimension_of(embedder),
        (dimension, _) => dimension,
    };
    if is_new(&config.log_directory()) && config.log_directory().join("LOCK").exists() {
        warn!(
            "{} was used before, and has no log any more: a new one is begun. If its files were lost, stop, and restore \
             them or a backup",
            config.log_directory().display()
        );
    }
    let store = with_settings(MemoryStore::new(config.capacity), config, dimension)?;
    let options = WalOptions {
        fsync: config.fsync,
        recovery: config.recovery,
        on_failure: Some(app.log_failure.hook()),
        on_progress: Some(report_progress(app)),
        ..WalOptions::default()
    };
    let store = store
        .with_log(Arc::new(disk), options)
        .map_err(|error| Failure::of_opening(error, config.recovery))?;
    if let Some(report) = store.status().recovery {
        summarise(store.count(), &report);
    }
    let status = store.status();
    if status.memory_bytes > status.memory_limit {
        warn!(
            "the memories take about {} MiB of memory, more than the {} MiB that they may (--memory-limit): none is taken \
             until some are forgotten",
            status.memory_bytes >> 20,
            status.memory_limit >> 20,
        );
    }
    if store.count() > config.capacity {
        warn!(
            "the store holds {}, more than its capacity of {}: no new one is taken until some are forgotten, or the \
             server is started with a greater --capacity",
            count(store.count(), "memory", "memories"),
            config.capacity,
        );
    }
    Ok(store)
}

/// Whether nothing was ever stored here: there is no file but those that every start makes. Where that cannot be told,
/// opening the store will.
fn is_new(log_directory: &Path) -> bool {
    let is_log = |entry: io::Result<fs::DirEntry>| entry.map_or(true, |entry| entry.file_name() != "LOCK");
    fs::read_dir(log_directory).is_ok_and(|mut entries| !entries.any(is_log))
}

/// How many numbers the embeddings of this model have. A model that is started at the same time may come a little later.
fn dimension_of(embedder: &Embedder) -> Option<usize> {
    let until = Instant::now() + DIMENSION_TIME_MAX;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match embedder.ask_dimension(left) {
            Ok(dimension) => return Some(dimension),
            Err(error) => {
                let may_pass = matches!(error.kind, Kind::Transient { .. } | Kind::Broken);
                if !may_pass || left <= DIMENSION_INTERVAL {
                    warn!(
                        "the model does not say how many numbers its embeddings have: the store is made for the default. \
                         If that is not the model's, start anew on an empty --data-dir with --dimension ({error})"
                    );
                    return None;
                }
            }
        }
        thread::sleep(DIMENSION_INTERVAL);
    }
}

fn with_settings(
    store: MemoryStore,
    config: &StartConfig,
    dimension: Option<usize>,
) -> Result<MemoryStore, StoreError> {
    let mut store = store.on_log_failure(match config.on_wal_failure {
        WalFailurePolicy::Exit | WalFailurePolicy::ReadOnly => LogFailure::Refuse,
        WalFailurePolicy::Volatile => LogFailure::Volatile,
    });
    if let Some(dimension) = dimension {
        store = store.with_dimension(dimension)?;
    }
    if let Some(precision) = config.precision {
        store = store.with_precision(precision)?;
    }
    store = store.with_memory_limit(config.memory_limit);
    store.with_snapshots(config.snapshots)?.with_index(config.index)?.with_recall_target(config.recall_target)
}

/// A directory that is there when this returns; made when its parent exists.
pub(crate) fn open_directory(path: &Path) -> Result<RealDisk, Failure> {
    RealDisk::create(path).map_err(|error| {
        let failure = |message| Failure::new(Exit::BadDirectory, message);
        let path = path.display();
        match error.kind() {
            io::ErrorKind::NotFound => {
                failure(format!("cannot make {path}: its parent directory is missing"))
                    .help("make the parent, or mount it: a missing one is never guessed to be empty")
            }
            io::ErrorKind::NotADirectory => failure(format!("cannot use {path}: it is not a directory"))
                .help("choose another --data-dir, or move the file away"),
            io::ErrorKind::PermissionDenied => failure(format!("cannot use {path}: permission denied"))
                .help("run as the user that owns the data directory, or give this one access"),
            io::ErrorKind::ReadOnlyFilesystem => {
                failure(format!("cannot use {path}: its file system is mounted for reading only"))
                    .help("mount it for writing, or choose another --data-dir")
            }
            _ => failure(format!("cannot use {path}: {error}")),
        }
    })
}

/// Notes how far recovery is, and says it once a second.
fn report_progress(app: &App) -> ProgressHook {
    let progress = Arc::clone(&app.progress);
    let said = Mutex::new(Instant::now());
    Arc::new(move |now: RecoveryProgress| {
        progress.set(now);
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.elapsed() >= PROGRESS_INTERVAL {
            *said = Instant::now();
            info!("recovering: {}", progress.describe());
        }
    })
}

/// Says what recovery found: one line, and one more for what somebody should look at.
fn summarise(memories: usize, report: &RecoveryReport) {
    if report.segments == 0 {
        info!("no log yet: a new store");
    } else {
        info!("recovered {} from {}", count(memories, "memory", "memories"), describe(report));
    }
    for rejected in &report.rejected_snapshots {
        warn!(
            "{} cannot be used ({}); the log was read on what comes before it, and nothing is missing. It is kept in \
             quarantine/",
            rejected.file, rejected.reason
        );
    }
    if let Some(snapshot) = report.snapshot.as_ref().filter(|snapshot| !snapshot.damage.is_empty()) {
        warn!(
            "the snapshot is damaged in {}: {} lost, it is kept in quarantine/ (see GET /v1/status)",
            count(snapshot.damage.len(), "place", "places"),
            count(snapshot.lost_records, "memory is", "memories are"),
        );
    }
    if report.damaged_ranges > 0 {
        warn!(
            "the log is damaged in {}: {} lost, {} kept in quarantine/ (see GET /v1/status)",
            count(report.damaged_ranges, "place", "places"),
            count(report.lost_records, "acknowledged record is", "acknowledged records are"),
            count(report.quarantined.len(), "segment is", "segments are"),
        );
    }
    if let Some(reason) = &report.read_only {
        warn!("the log is open for reading only: {reason}. Remove the cause and start again");
    }
    if report.unproven_records > 0 {
        warn!(
            "the last {} could not be synced again: they can be read now and may vanish with the machine's power",
            count(report.unproven_records, "record", "records"),
        );
    }
}

fn describe(report: &RecoveryReport) -> String {
    let RecoveryReport { records, bytes, took, torn_bytes, copied_records, clean, .. } = report;
    let took_ms = took.as_secs_f64() * 1e3;
    let (in_snapshot, snapshot_bytes) =
        report.snapshot.as_ref().map_or((0, 0), |snapshot| (snapshot.records, snapshot.bytes));
    let (records, bytes) = (records + in_snapshot, bytes + snapshot_bytes);
    let rate = records as f64 / took.as_secs_f64().max(1e-6);
    let snapshot = match &report.snapshot {
        Some(snapshot) => format!(", {} of them from a snapshot up to LSN {}", in_snapshot, snapshot.lsn),
        None => String::new(),
    };
    let stop = if *clean { "a clean stop" } else { "a kill or crash" };
    let torn = match torn_bytes {
        0 => String::new(),
        bytes => {
            let bytes = count(*bytes, "byte", "bytes");
            format!(", cut off a torn tail of {bytes}, never acknowledged")
        }
    };
    let copied = match copied_records {
        0 => String::new(),
        records => format!(", synced the last {} again", count(*records, "record", "records")),
    };
    format!(
        "{} of {bytes} bytes{snapshot} in {took_ms:.1} ms ({rate:.0} records/s) after {stop}{torn}{copied}",
        count(records, "record", "records"),
    )
}
