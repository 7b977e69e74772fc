//! The store without its blocking, and with its embedder: what each way in calls, be it HTTP, or later MCP. It speaks in
//! the store's own types and knows no protocol; what is added for all ways in is added here.

use std::{
    fmt,
    panic::resume_unwind,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use engram_core::{
    Embedding, Episode, FeedItem, ListQuery, Lsn, Memory, MemoryStore, Mode, Page, Patch, Query, Recall,
    Receipt, ReceiptHandle, Space, SpaceStatus, StoreError, StoreStatus, WriteOptions, chrono::Utc,
    storage::SnapshotReport,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::spawn_blocking,
};

use crate::embed::{EmbedError, EmbedService, Item};

/// Batches that are read and stored at once; others wait. It bounds the memory that their bodies take.
const BATCHES_MAX: usize = 4;

/// Threads that may wait for room in the log's queue; what comes then waits as a task.
const WAITING_SUBMITS_MAX: usize = 16;

/// Threads that may wait for a change to be seen; what comes then waits as a task, and has less time left.
const WAITING_READS_MAX: usize = 64;

/// How often a change of a part of a memory is tried anew, when others change it at the same time.
const PATCH_TRIES: usize = 32;

/// All memories, for any number of tasks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MemoryService {
    store: Arc<MemoryStore>,
    embed: Option<EmbedService>,
    /// As many as there are cores: a scan uses one whole, and more at once would only be slower, each and all.
    recalls: Arc<Semaphore>,
    batches: Arc<Semaphore>,
    waiting_submits: Arc<Semaphore>,
    waiting_reads: Arc<Semaphore>,
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
    pub(crate) fn new(store: Arc<MemoryStore>, embed: Option<EmbedService>) -> Self {
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
            embed,
            recalls: turns(cores),
            batches: turns(BATCHES_MAX),
            waiting_submits: turns(WAITING_SUBMITS_MAX),
            waiting_reads: turns(WAITING_READS_MAX),
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
        let keeps_embedding = self.embed.as_ref().is_some_and(EmbedService::embeds_later);
        WriteOptions { keeps_embedding, ..options }
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
    pub(crate) fn embed(&self) -> Option<&EmbedService> {
        self.embed.as_ref()
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

/// The memories of one space. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SpaceService {
    service: MemoryService,
    name: Arc<str>,
}

impl SpaceService {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The memories of all spaces.
    pub(crate) fn service(&self) -> &MemoryService {
        &self.service
    }

    /// Stores an episode: see [`Space::submit`]. A caller that stops waiting does not undo it.
    pub(crate) async fn remember(
        &self,
        mut episode: Episode,
        options: WriteOptions,
    ) -> Result<Stored, ServiceError> {
        let is_given = episode.embedding.is_some();
        if let Some(embed) = &self.service.embed {
            episode = embed.prepare(episode).await?;
        }
        let options = self.service.with_embedder(options);
        let receipt = self.submit(move |space| space.submit(episode, &options)).await?;
        Ok(self.stored(receipt, is_given))
    }

    /// What is to be told of a memory that was stored with its embedding, or without.
    fn stored(&self, receipt: Receipt, is_given: bool) -> Stored {
        let has_vector = || {
            let memory = self.get(&receipt.id);
            memory.is_some_and(|memory| memory.lsn() == receipt.lsn && memory.has_embedding())
        };
        let vector = match &self.service.embed {
            _ if is_given => VectorState::Given,
            _ if has_vector() => VectorState::Embedded,
            Some(embed) => {
                embed.progress().wake();
                VectorState::Pending
            }
            None => VectorState::None,
        };
        Stored { receipt, vector }
    }

    /// Changes a part of a memory: see [`Space::patch`]. What comes in between is found out and taken in, unless the
    /// caller expects a version.
    pub(crate) async fn patch(
        &self,
        id: &str,
        mut patch: Patch,
        options: &WriteOptions,
    ) -> Result<Stored, ServiceError> {
        let is_given = matches!(patch.embedding, Some(Some(_)));
        if let Some(embed) = &self.service.embed {
            patch = embed.prepare_patch(patch).await?;
        }
        let mut tries = PATCH_TRIES;
        loop {
            let (id, patch, with) = (id.to_owned(), patch.clone(), options.clone());
            let answer = self.submit(move |space| space.submit_patch(&id, patch, &with)).await;
            tries -= 1;
            match answer {
                Err(StoreError::VersionMismatch { .. }) if options.expected.is_none() && tries > 0 => {}
                answer => return Ok(self.stored(answer?, is_given)),
            }
        }
    }

    /// Forgets a memory: see [`Space::submit_forget`].
    pub(crate) async fn forget(&self, id: String, options: WriteOptions) -> Result<Receipt, StoreError> {
        self.submit(move |space| space.submit_forget(&id, &options)).await
    }

    async fn submit(
        &self,
        submit: impl FnOnce(&Space<'_>) -> ReceiptHandle + Send + 'static,
    ) -> Result<Receipt, StoreError> {
        let name = Arc::clone(&self.name);
        let submit = move |store: &MemoryStore| match store.space(&name) {
            Ok(space) => submit(&space),
            Err(error) => ReceiptHandle::ready(Err(error)),
        };
        self.service.submit(submit).await
    }

    /// Stores many episodes: all are submitted before the first is awaited, so that they share the log's syncs. Gives
    /// an answer for each, in order, with the place that it came with. What `episodes` refuses does not keep the others
    /// from being stored.
    pub(crate) async fn remember_all<P, E, I>(
        &self,
        turn: BatchTurn,
        episodes: impl FnOnce() -> Result<I, E> + Send + 'static,
    ) -> Result<Vec<(P, Result<Stored, E>)>, E>
    where
        P: Send + 'static,
        E: From<StoreError> + From<EmbedError> + Send + 'static,
        I: IntoIterator<Item = Item<P, E>>,
    {
        let (service, name) = (self.service.clone(), Arc::clone(&self.name));
        let submitted = off_the_runtime(move || {
            let mut items: Vec<_> = episodes()?.into_iter().collect();
            let has_embedding = |item: &Result<(Episode, WriteOptions), E>| matches!(item, Ok((episode, _)) if episode.embedding.is_some());
            let given: Vec<bool> = items.iter().map(|(_, item)| has_embedding(item)).collect();
            if let Some(embed) = &service.embed {
                embed.prepare_all(&mut items);
            }
            let space = service.store.space(&name)?;
            let submit = |((place, item), is_given): (Item<P, E>, bool)| {
                let submit = |(episode, options)| space.submit(episode, &service.with_embedder(options));
                ((place, is_given), item.map(submit))
            };
            Ok::<_, E>(items.into_iter().zip(given).map(submit).collect::<Vec<_>>())
        });
        let answers = all(submitted.await?).await.into_iter();
        drop(turn);
        let stored = |((place, is_given), answer): ((P, bool), Result<Receipt, E>)| {
            (place, answer.map(|receipt| self.stored(receipt, is_given)))
        };
        Ok(answers.map(stored).collect())
    }

    /// Forgets many memories, under terms of their own.
    pub(crate) async fn forget_all(
        &self,
        memories: Vec<(String, WriteOptions)>,
    ) -> Result<Vec<Result<Receipt, StoreError>>, StoreError> {
        let (store, name) = (Arc::clone(&self.service.store), Arc::clone(&self.name));
        let submitted = off_the_runtime(move || {
            let space = store.space(&name)?;
            let submit = |(id, options): (String, WriteOptions)| ((), Ok(space.submit_forget(&id, &options)));
            Ok::<_, StoreError>(memories.into_iter().map(submit).collect::<Vec<_>>())
        });
        Ok(all(submitted.await?).await.into_iter().map(|((), answer)| answer).collect())
    }

    /// The memory with this id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Memory>> {
        self.service.store.space(&self.name).ok()?.get(id)
    }

    /// The memory with this id, and its embedding.
    pub(crate) fn get_with_embedding(&self, id: &str) -> Option<(Arc<Memory>, Option<Embedding>)> {
        self.service.store.space(&self.name).ok()?.get_with_embedding(id)
    }

    /// A page of all memories: see [`Space::list`].
    pub(crate) async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        let (store, name) = (Arc::clone(&self.service.store), Arc::clone(&self.name));
        if query.filter.condition.is_none() {
            return store.space(&name)?.list(&query);
        }
        // It may look at thousands.
        let turn = turn(&self.service.recalls).await;
        off_the_runtime(move || {
            let _turn = turn;
            store.space(&name)?.list(&query)
        })
        .await
    }

    /// The memories that answer a question best: see [`Space::recall`]. A question in words that may be answered by meaning
    /// is embedded first.
    pub(crate) async fn recall(&self, mut query: Query) -> Result<Answered, ServiceError> {
        let mut embedding_error = None;
        if query.mode != Mode::Words
            && query.embedding.is_none()
            && let (Some(embed), Some(words)) = (&self.service.embed, &query.words)
        {
            match embed.question(words).await {
                Ok(embedding) => query.embedding = Some(embedding),
                Err(error) if query.mode == Mode::Auto => embedding_error = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        let turn = turn(&self.service.recalls).await;
        let (store, name) = (Arc::clone(&self.service.store), Arc::clone(&self.name));
        let recall = off_the_runtime(move || {
            let _turn = turn;
            store.space(&name)?.recall(&query)
        });
        Ok(Answered { recall: recall.await?, embedding_error })
    }

    /// The space as it is now.
    pub(crate) fn status(&self) -> Result<SpaceStatus, StoreError> {
        Ok(self.service.store.space(&self.name)?.status())
    }
}

/// Waits for all of them, in order.
async fn all<P, E: From<StoreError>>(
    submitted: Vec<(P, Result<ReceiptHandle, E>)>,
) -> Vec<(P, Result<Receipt, E>)> {
    let mut answers = Vec::with_capacity(submitted.len());
    for (place, handle) in submitted {
        let answer = match handle {
            Ok(handle) => handle.await.map_err(E::from),
            Err(refusal) => Err(refusal),
        };
        answers.push((place, answer));
    }
    answers
}

/// A memory that was stored.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) receipt: Receipt,
    pub(crate) vector: VectorState,
}

/// What there is of the vector of a memory that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VectorState {
    /// It came with the memory.
    Given,
    /// The memory has it: the server has made it, or it was there before.
    Embedded,
    /// The server will make it.
    Pending,
    /// There is none, and nobody makes it.
    None,
}

/// An answer to a question.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) recall: Recall,
    /// Why it is by words alone, when it should have been by meaning, too.
    pub(crate) embedding_error: Option<EmbedError>,
}

/// Why something was not done.
#[derive(Debug)]
pub(crate) enum ServiceError {
    Store(StoreError),
    Embed(EmbedError),
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<EmbedError> for ServiceError {
    fn from(error: EmbedError) -> Self {
        Self::Embed(error)
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
