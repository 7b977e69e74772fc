//! The store without its blocking, and with its embedder: what each way in calls, be it HTTP, or later MCP. It speaks in
//! the store's own types and knows no protocol; what is added for all ways in is added here.

mod recall_times;
mod space;

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    panic::resume_unwind,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use engram_core::{
    FeedItem, Lsn, MemoryStore, Receipt, ReceiptHandle, SpaceStatus, StoreError, StoreStatus, WriteOptions,
    chrono::Utc, storage::SnapshotReport,
};
use tokio::{
    sync::{Mutex, MutexGuard, OwnedRwLockReadGuard, OwnedSemaphorePermit, Semaphore, watch},
    task::spawn_blocking,
};

pub(crate) use self::recall_times::RecallTimes;
pub(crate) use self::space::{Answered, ServiceError, SpaceService, Stored, VectorState};
use crate::embed::{EmbedConfig, EmbedService, Held, Reembed, ReembedStatus, Reembedding, Seat};

/// Batches that are read and stored at once; others wait. It bounds the memory that their bodies take.
const BATCHES_MAX: usize = 4;

/// Threads that may wait for room in the log's queue; what comes then waits as a task.
const WAITING_SUBMITS_MAX: usize = 16;

/// Threads that may wait for a change to be seen; what comes then waits as a task, and has less time left.
const WAITING_READS_MAX: usize = 64;

/// All memories, for any number of tasks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MemoryService {
    store: Arc<MemoryStore>,
    seat: Arc<Seat>,
    reembedding: Arc<Reembedding>,
    /// As many as there are cores: a scan uses one whole, and more at once would only be slower, each and all.
    recalls: Arc<Semaphore>,
    recall_times: Arc<RecallTimes>,
    batches: Arc<Semaphore>,
    waiting_submits: Arc<Semaphore>,
    waiting_reads: Arc<Semaphore>,
    /// Held by who tries anew to change a memory that others change, too: one of them at a time, so that each gets there.
    /// Which of them belongs to a memory its id says.
    contended: Arc<[Mutex<()>; 64]>,
    ids: RandomState,
    /// The last change that readers see.
    seen: watch::Sender<Lsn>,
}

/// The right to store a batch. It is taken before the batch is read.
pub(crate) struct BatchTurn {
    _turn: Turn,
}

/// Nothing if the semaphore were closed, which none here ever is.
type Turn = Option<OwnedSemaphorePermit>;

impl MemoryService {
    pub(crate) fn new(store: Arc<MemoryStore>, seat: Arc<Seat>) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let turns = |at_once| Arc::new(Semaphore::new(at_once));
        let seen = watch::Sender::new(store.status().applied_lsn);
        let told = seen.clone();
        let tell = move |lsn| {
            told.send_replace(lsn);
        };
        if let Err(error) = store.on_change(Arc::new(tell)) {
            tracing::warn!(%error, "changes cannot be followed");
        }
        Self {
            store,
            seat,
            reembedding: Arc::default(),
            recalls: turns(cores),
            recall_times: Arc::default(),
            batches: turns(BATCHES_MAX),
            waiting_submits: turns(WAITING_SUBMITS_MAX),
            waiting_reads: turns(WAITING_READS_MAX),
            contended: Arc::new(std::array::from_fn(|_| Mutex::new(()))),
            ids: RandomState::new(),
            seen,
        }
    }

    /// The memories of one space.
    ///
    /// # Errors
    /// [`StoreError::SpaceNotFound`] when there is none with this name.
    pub(crate) fn space(&self, name: &str) -> Result<SpaceService, StoreError> {
        self.store.space(name)?;
        Ok(SpaceService { service: self.clone(), name: Arc::from(name) })
    }

    /// All spaces: see [`MemoryStore::spaces`].
    pub(crate) fn spaces(&self) -> Vec<SpaceStatus> {
        self.store.spaces()
    }

    /// Makes a space, or changes it: see [`MemoryStore::make_space`].
    pub(crate) async fn make_space(
        &self,
        name: String,
        capacity: Option<u64>,
    ) -> Result<Receipt, StoreError> {
        let store = Arc::clone(&self.store);
        off_the_runtime(move || store.make_space(&name, capacity)).await
    }

    /// Drops a space: see [`MemoryStore::drop_space`].
    pub(crate) async fn drop_space(&self, name: String) -> Result<Receipt, StoreError> {
        let store = Arc::clone(&self.store);
        off_the_runtime(move || store.drop_space(&name)).await
    }

    /// While there is what this gives, the model stays the same.
    pub(crate) async fn hold_model(&self) -> Held<OwnedRwLockReadGuard<()>> {
        self.seat.hold().await
    }

    /// The changes after one: see [`MemoryStore::changes`].
    pub(crate) fn changes(&self, after: Lsn, limit: usize) -> Result<Vec<FeedItem>, StoreError> {
        self.store.changes(after, limit)
    }

    /// The last change that readers see, as it goes on.
    pub(crate) fn seen(&self) -> watch::Receiver<Lsn> {
        self.seen.subscribe()
    }

    /// Forgets what has expired by now: see [`MemoryStore::forget_expired`].
    pub(crate) async fn forget_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let store = Arc::clone(&self.store);
        off_the_runtime(move || store.forget_expired(Utc::now(), limit)).await
    }

    /// Submits on this thread, unless that might block it.
    async fn submit(
        &self,
        submit: impl FnOnce(&MemoryStore) -> ReceiptHandle + Send + 'static,
    ) -> Result<Receipt, StoreError> {
        if !self.store.submit_may_block() {
            return submit(&self.store).await;
        }
        let turn = turn(&self.waiting_submits).await;
        let store = Arc::clone(&self.store);
        let handle = off_the_runtime(move || {
            let _turn = turn;
            submit(&store)
        });
        handle.await.await
    }

    /// A text that comes again without its embedding keeps the one that the server has made.
    fn with_embedder(&self, options: WriteOptions) -> WriteOptions {
        let keeps_embedding = self.embed().as_ref().is_some_and(EmbedService::embeds_later);
        WriteOptions { keeps_embedding, ..options }
    }

    /// Waits until nobody else tries to change this memory anew.
    async fn turn_of(&self, id: &str) -> MutexGuard<'_, ()> {
        self.contended_by(id).lock().await
    }

    /// Lets who tries to change this memory anew go first: otherwise those who come later would always be faster.
    async fn let_pass(&self, id: &str) {
        let contended = self.contended_by(id);
        if contended.try_lock().is_err() {
            drop(contended.lock().await);
        }
    }

    fn contended_by(&self, id: &str) -> &Mutex<()> {
        let place = self.ids.hash_one(id) % self.contended.len() as u64;
        #[expect(clippy::cast_possible_truncation, reason = "less than there are")]
        &self.contended[place as usize]
    }

    /// Waits until another batch may be read.
    pub(crate) async fn batch_turn(&self) -> BatchTurn {
        BatchTurn { _turn: turn(&self.batches).await }
    }

    /// Waits until readers see a change: see [`MemoryStore::wait_for`].
    pub(crate) async fn wait_for(&self, lsn: Lsn, at_most: Duration) -> Result<(), StoreError> {
        // Most often it is there, and nobody waits.
        if self.store.wait_for(lsn, Duration::ZERO).is_ok() {
            return Ok(());
        }
        let until = Instant::now() + at_most;
        let turn = turn(&self.waiting_reads).await;
        let store = Arc::clone(&self.store);
        off_the_runtime(move || {
            let _turn = turn;
            store.wait_for(lsn, until.saturating_duration_since(Instant::now()))
        })
        .await
    }

    /// The embedder, if there is one.
    pub(crate) fn embed(&self) -> Option<EmbedService> {
        self.seat.now()
    }

    /// How embedding all memories anew is doing.
    pub(crate) fn reembedding(&self) -> &Arc<Reembedding> {
        &self.reembedding
    }

    /// Has all memories embedded anew, by another model, which takes the seat then: see [`Reembedding::start`].
    pub(crate) fn reembed(&self, config: EmbedConfig) -> Result<ReembedStatus, Reembed> {
        self.reembedding.start(config, Arc::clone(&self.store), Arc::clone(&self.seat))
    }

    /// How long recalls have taken.
    pub(crate) fn recall_times(&self) -> &RecallTimes {
        &self.recall_times
    }

    /// The store as it is now.
    pub(crate) fn status(&self) -> StoreStatus {
        self.store.status()
    }

    /// Syncs the log, which after a full disk also finds out whether there is space again: see [`MemoryStore::sync`].
    pub(crate) async fn sync(&self) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        off_the_runtime(move || store.sync()).await
    }

    /// Takes a snapshot: see [`MemoryStore::snapshot`].
    pub(crate) async fn snapshot(&self) -> Result<SnapshotReport, StoreError> {
        let store = Arc::clone(&self.store);
        off_the_runtime(move || store.snapshot()).await
    }

    /// Syncs and closes the log: see [`MemoryStore::close`].
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        off_the_runtime(move || store.close()).await
    }
}

impl fmt::Debug for MemoryService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryService").field("store", &self.store).finish_non_exhaustive()
    }
}

async fn turn(turns: &Arc<Semaphore>) -> Turn {
    Arc::clone(turns).acquire_owned().await.ok()
}

/// Runs what may block or compute for long on a thread where nobody else waits. A panic in it is one here.
pub(crate) async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
