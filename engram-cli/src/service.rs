//! The store without its blocking: what each way in calls, be it HTTP, or later MCP. It speaks in the store's own
//! types and knows no protocol; what is added for all ways in (an embedder, say) is added here.

use std::{
    fmt,
    panic::resume_unwind,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use engram_core::{
    Embedding, Episode, ListQuery, Lsn, Memory, MemoryStore, Page, Query, Recall, Receipt, ReceiptHandle,
    StoreError, StoreStatus, storage::SnapshotReport,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

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
    /// As many as there are cores: a scan uses one whole, and more at once would only be slower, each and all.
    recalls: Arc<Semaphore>,
    batches: Arc<Semaphore>,
    waiting_submits: Arc<Semaphore>,
    waiting_reads: Arc<Semaphore>,
}

/// The right to store a batch. It is taken before the batch is read.
pub(crate) struct BatchTurn {
    _turn: Turn,
}

/// Nothing if the semaphore were closed, which none here ever is.
type Turn = Option<OwnedSemaphorePermit>;

impl MemoryService {
    pub(crate) fn new(store: Arc<MemoryStore>) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let turns = |at_once| Arc::new(Semaphore::new(at_once));
        Self {
            store,
            recalls: turns(cores),
            batches: turns(BATCHES_MAX),
            waiting_submits: turns(WAITING_SUBMITS_MAX),
            waiting_reads: turns(WAITING_READS_MAX),
        }
    }

    /// Stores an episode: see [`MemoryStore::store`]. A caller that stops waiting does not undo it.
    pub(crate) async fn remember(&self, episode: Episode) -> Result<Receipt, StoreError> {
        self.submit(|store| store.submit(episode)).await
    }

    /// Forgets a memory: see [`MemoryStore::forget`].
    pub(crate) async fn forget(&self, id: String) -> Result<Receipt, StoreError> {
        self.submit(move |store| store.submit_forget(&id)).await
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

    /// Waits until another batch may be read.
    pub(crate) async fn batch_turn(&self) -> BatchTurn {
        BatchTurn { _turn: turn(&self.batches).await }
    }

    /// Stores many episodes: all are submitted before the first is awaited, so that they share the log's syncs. Gives
    /// an answer for each, in order, with the place that it came with. What `episodes` refuses does not keep the others
    /// from being stored.
    pub(crate) async fn remember_all<P, E, I>(
        &self,
        turn: BatchTurn,
        episodes: impl FnOnce() -> Result<I, E> + Send + 'static,
    ) -> Result<Vec<(P, Result<Receipt, E>)>, E>
    where
        P: Send + 'static,
        E: From<StoreError> + Send + 'static,
        I: IntoIterator<Item = (P, Result<Episode, E>)>,
    {
        let store = Arc::clone(&self.store);
        let submitted = off_the_runtime(move || {
            let submit = |(place, episode): (P, Result<Episode, E>)| {
                (place, episode.map(|episode| store.submit(episode)))
            };
            episodes().map(|episodes| episodes.into_iter().map(submit).collect::<Vec<_>>())
        });
        let mut answers = Vec::new();
        for (place, handle) in submitted.await? {
            let answer = match handle {
                Ok(handle) => handle.await.map_err(E::from),
                Err(refusal) => Err(refusal),
            };
            answers.push((place, answer));
        }
        drop(turn);
        Ok(answers)
    }

    /// The memory with this id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Memory>> {
        self.store.get(id)
    }

    /// The memory with this id, and its embedding.
    pub(crate) fn get_with_embedding(&self, id: &str) -> Option<(Arc<Memory>, Option<Embedding>)> {
        self.store.get_with_embedding(id)
    }

    /// A page of all memories: see [`MemoryStore::list`].
    pub(crate) fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.store.list(query)
    }

    /// The memories that answer a question best: see [`MemoryStore::recall`].
    pub(crate) async fn recall(&self, query: Query) -> Result<Recall, StoreError> {
        let turn = turn(&self.recalls).await;
        let store = Arc::clone(&self.store);
        off_the_runtime(move || {
            let _turn = turn;
            store.recall(&query)
        })
        .await
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
