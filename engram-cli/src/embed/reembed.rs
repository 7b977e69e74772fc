//! Another model for all memories while the server serves: all contents are embedded anew in the background, then the
//! store and the server change to the new model at one place of the log.

mod flags;

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use engram_core::{
    Lsn, MemoryStore, ModelChange, ModelIdentity, Staging, StorageError, StoreError,
    chrono::{DateTime, Utc},
};
use tokio::runtime::Handle;
use tracing::{debug, info, warn};

use super::{
    Anew, Course, EmbedConfig, EmbedError, EmbedService, Seat, Stop,
    worker::{Backoff, Pace},
};
use crate::{count::count, exit::Failure};

pub(crate) use self::flags::key_for;

/// How long the model may take to say how many numbers it gives.
const PROBE_TIME_MAX: Duration = Duration::from_mins(1);

/// How long a snapshot may keep the change from being made without that what came meanwhile is embedded before it.
const SNAPSHOT_WAIT_MAX: Duration = Duration::from_secs(1);

/// A run, and one that was cancelled and has not ended.
const THREADS_MAX: usize = 2;

/// What came meanwhile is embedded before the change until it is no more than this, or does not become less: then the
/// worker embeds it after.
const LITTLE: usize = 32;

/// The one run of a server, or the last one that there was.
#[derive(Debug, Default)]
pub(crate) struct Reembedding {
    now: Mutex<Now>,
    changed: Condvar,
    /// Threads of runs. One that was cancelled may wait for its model for as long as that may take.
    threads: AtomicUsize,
}

#[derive(Debug, Default)]
struct Now {
    /// Which run it is about: one that was cancelled may still wait for an answer of its model.
    run: u64,
    /// Whether the store is changing to the new model, or has.
    is_beyond_return: bool,
    status: ReembedStatus,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ReembedState {
    /// Nothing since the start.
    #[default]
    Idle,
    Running,
    /// It could not be done: all is as it was, unless the log failed at the change itself, which `last_error` tells then.
    Failed,
    /// It was not wanted any more: all is as it was.
    Cancelled,
    Done,
}

impl ReembedState {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Idle, Self::Running, Self::Failed, Self::Cancelled, Self::Done];

    /// Its name, as clients read it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Done => "done",
        }
    }
}

/// How it is doing, at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReembedStatus {
    pub(crate) state: ReembedState,
    /// When it came into this state.
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) model: Option<ModelIdentity>,
    /// Where the vectors come from.
    pub(crate) source: Option<String>,
    /// How many numbers they have, once that is known.
    pub(crate) dimension: Option<usize>,
    /// Memories that have their new vector, of how many.
    pub(crate) embedded: usize,
    pub(crate) memories: usize,
    /// Texts that the model does not take.
    pub(crate) refused: usize,
    pub(crate) last_error: Option<String>,
    /// The place of the log from which on the new model is the store's.
    pub(crate) lsn: Option<Lsn>,
    /// The flags that the server is started with from then on.
    pub(crate) start_with: Option<String>,
}

/// Why a run does not begin.
#[derive(Debug)]
pub(crate) enum Reembed {
    /// One is running.
    Runs(Box<ReembedStatus>),
    /// The model cannot be opened.
    Model(Failure),
}

impl Reembedding {
    pub(crate) fn status(&self) -> ReembedStatus {
        self.now().status.clone()
    }

    /// Begins to embed all memories of the store by this model, which takes the seat in the end. Called by a task.
    pub(crate) fn start(
        self: &Arc<Self>,
        config: EmbedConfig,
        store: Arc<MemoryStore>,
        seat: Arc<Seat>,
    ) -> Result<ReembedStatus, Reembed> {
        let embed = EmbedService::open(&config).map_err(Reembed::Model)?;
        let mut now = self.now();
        if now.status.state == ReembedState::Running || self.threads.load(SeqCst) >= THREADS_MAX {
            return Err(Reembed::Runs(Box::new(now.status.clone())));
        }
        let status = ReembedStatus {
            state: ReembedState::Running,
            since: Some(Utc::now()),
            model: Some(embed.embedder().identity()),
            source: Some(embed.embedder().source()),
            memories: store.count(),
            ..ReembedStatus::default()
        };
        self.threads.fetch_add(1, SeqCst);
        let number = now.run + 1;
        *now = Now { run: number, is_beyond_return: false, status: status.clone() };
        drop(now);
        let run =
            Run { all: Arc::clone(self), number, store, seat, embed, config, runtime: Handle::current() };
        info!("all memories are being embedded anew, by {} at {}", run.name(), run.embed.embedder().source());
        let spawned = thread::Builder::new().name("engram-reembed".to_owned()).spawn(move || run.work());
        if let Err(error) = spawned {
            self.end(number, ReembedState::Failed, Some(format!("cannot start a thread: {error}")));
            return Ok(self.status());
        }
        Ok(status)
    }

    /// Ends the run that there is, unless the store is changing to its model already, or has.
    pub(crate) fn cancel(&self) -> ReembedStatus {
        let mut now = self.now();
        if now.status.state == ReembedState::Running && !now.is_beyond_return {
            now.run += 1;
            now.status.state = ReembedState::Cancelled;
            now.status.since = Some(Utc::now());
            self.changed.notify_all();
            info!("embedding all memories anew was cancelled: all is as it was");
        }
        now.status.clone()
    }

    fn end(&self, run: u64, state: ReembedState, error: Option<String>) {
        // One that was cancelled has ended before.
        drop(self.update(run, |now| {
            now.status.state = state;
            now.status.since = Some(Utc::now());
            if error.is_some() {
                now.status.last_error = error;
            }
        }));
    }

    /// Changes what is told of a run, if it is still wanted.
    fn update<T>(&self, run: u64, change: impl FnOnce(&mut Now) -> T) -> Result<T, Stop> {
        let mut now = self.now();
        if now.run == run { Ok(change(&mut now)) } else { Err(Stop::Cancelled) }
    }

    /// Waits for so long, or until the run is not wanted any more.
    fn pause(&self, run: u64, pause: Duration) -> Result<(), Stop> {
        let until = Instant::now() + pause;
        let mut now = self.now();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if now.run != run {
                return Err(Stop::Cancelled);
            }
            if left.is_zero() {
                return Ok(());
            }
            now = self.changed.wait_timeout(now, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run, on a thread of its own.
struct Run {
    all: Arc<Reembedding>,
    number: u64,
    store: Arc<MemoryStore>,
    seat: Arc<Seat>,
    embed: EmbedService,
    config: EmbedConfig,
    runtime: Handle,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.all.threads.fetch_sub(1, SeqCst);
        if thread::panicking() {
            let error = "it ended in the middle, by a defect: the server's log has more".to_owned();
            self.all.end(self.number, ReembedState::Failed, Some(error));
        }
    }
}

impl Run {
    fn name(&self) -> String {
        self.embed.embedder().identity().to_string()
    }

    fn work(self) {
        let (state, error) = match self.switch() {
            Ok(staging) => (ReembedState::Done, self.keep(&staging)),
            Err(Stop::Cancelled) => return,
            Err(Stop::Model(error)) => (ReembedState::Failed, Some(error.to_string())),
            Err(Stop::Store(error @ StoreError::MemoryLimitReached { .. })) => {
                let way = "the new embeddings are kept in memory until the change: start the server with a greater \
                           --memory-limit, or stop it and use `engram reembed` on its data directory";
                (ReembedState::Failed, Some(format!("{error}; {way}")))
            }
            // Written, and not known to be durable: it may be there, or not.
            Err(Stop::Store(error)) if self.update(|now| now.is_beyond_return).unwrap_or(true) => {
                let way = "whether the model has changed is seen at the next start, which refuses the flags of the other one";
                (ReembedState::Failed, Some(format!("{error}; {way}")))
            }
            Err(Stop::Store(error)) => (ReembedState::Failed, Some(error.to_string())),
        };
        if let (ReembedState::Failed, Some(error)) = (state, &error) {
            warn!("the memories could not be embedded anew: {error}");
        }
        self.all.end(self.number, state, error);
    }

    /// Embeds all, and changes to the new model.
    fn switch(&self) -> Result<Staging, Stop> {
        let embedder = self.embed.embedder();
        let mut anew = Anew::new(&self.store, embedder, Watched(self));
        let dimension = anew.dimension(PROBE_TIME_MAX)?;
        self.update(|now| now.status.dimension = Some(dimension))?;
        let mut staging = self.store.begin_staging(dimension)?;
        embed_all(&mut anew, &mut staging)?;
        anew.check(&staging)?;
        let mut backoff = Backoff::new(Pace::default());
        loop {
            let change = self.undisturbed(&mut anew, &mut staging)?;
            self.update(|now| now.is_beyond_return = true)?;
            let next = self.seat.now().map_or_else(|| self.embed.clone(), |it| self.embed.clone().after(&it));
            let changed = self.seat.change(next.clone(), || change.make(&mut staging, embedder.identity()));
            match changed {
                Ok(receipt) => {
                    self.changed(receipt.lsn, &next);
                    return Ok(staging);
                }
                // There may be space again, and what was made is worth something.
                Err(StoreError::Storage(error @ StorageError::DiskFull { .. })) => {
                    let error = EmbedError::transient(error.to_string());
                    self.update(|now| now.is_beyond_return = false)?;
                    let pause = backoff.pause(error.kind);
                    Watched(self).failed(&error, pause, backoff.failures())?;
                    embed_all(&mut anew, &mut staging)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The right to change, and nothing has come for long.
    fn undisturbed(
        &self,
        anew: &mut Anew<'_, Watched<'_>>,
        staging: &mut Staging,
    ) -> Result<ModelChange<'_>, Stop> {
        let begun = Instant::now();
        let change = self.store.begin_change();
        if begun.elapsed() < SNAPSHOT_WAIT_MAX {
            return Ok(change);
        }
        // Nobody waits for a snapshot while a model is asked.
        drop(change);
        embed_all(anew, staging)?;
        Ok(self.store.begin_change())
    }

    /// The store has changed to the new model, and the server with it.
    fn changed(&self, lsn: Lsn, next: &EmbedService) {
        let start_with = flags::of(&self.config);
        info!(
            "the store has embeddings of {} from LSN {lsn} on: start the server with {start_with} from now on",
            self.name()
        );
        let told = self.update(|now| {
            now.status.lsn = Some(lsn);
            now.status.start_with = Some(start_with);
            now.status.last_error = None;
        });
        drop(told); // nobody can have cancelled it
        // What came too late to be staged is embedded now.
        self.runtime.spawn(next.worker(Arc::clone(&self.store), Arc::clone(&self.seat)).run());
    }

    /// Writes the new embeddings to the log, and has the old ones leave the disk. Says what went wrong; readers have the
    /// new ones anyway.
    fn keep(&self, staging: &Staging) -> Option<String> {
        let kept = self.store.log_staged(staging).and_then(|()| match self.store.snapshot() {
            // Without a log there is none to take.
            Ok(_) | Err(StoreError::Setting { .. }) => Ok(()),
            Err(error) => Err(error),
        });
        let error = kept.err()?;
        let error = format!(
            "the new embeddings are in use, and are not all in the log, or the old ones are still in it: {error}; \
             after a restart the server embeds what lacks one"
        );
        warn!("{error}");
        Some(error)
    }

    fn update<T>(&self, change: impl FnOnce(&mut Now) -> T) -> Result<T, Stop> {
        self.all.update(self.number, change)
    }
}

/// Embeds all there is, and what comes meanwhile until that is little.
fn embed_all(anew: &mut Anew<'_, Watched<'_>>, staging: &mut Staging) -> Result<(), Stop> {
    let mut before = usize::MAX;
    loop {
        let found = anew.round(staging)?;
        if found <= LITTLE || found > before / 2 {
            return Ok(());
        }
        before = found;
    }
}

/// Tells of a run what comes of it.
struct Watched<'a>(&'a Run);

impl Course for Watched<'_> {
    fn at(&mut self, embedded: usize, refused: usize) -> Result<(), Stop> {
        let memories = self.0.store.count();
        self.0.update(|Now { status, .. }| {
            (status.embedded, status.refused, status.memories) = (embedded, refused, memories);
        })
    }

    fn failed(&mut self, error: &EmbedError, pause: Duration, failures: u32) -> Result<(), Stop> {
        self.0.update(|now| now.status.last_error = Some(error.to_string()))?;
        if failures == 1 {
            info!("embedding all memories anew waits, and goes on by itself: {error}");
        } else {
            let failures = count(failures, "time", "times");
            debug!("it failed {failures} in a row; again in {} ms: {error}", pause.as_millis());
        }
        self.0.all.pause(self.0.number, pause)
    }
}
