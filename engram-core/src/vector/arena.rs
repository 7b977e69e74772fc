//! All vectors of a store, in rows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::StoredVector;
use super::background::Background;
use super::checkpoint::{Adopted, Checkpoints};
use super::chunk::{CHUNK_ROWS, Chunk, Query};
use super::graph::Graph;
use super::kernel::Kernel;
use super::partition::Partition;
use super::signs::Centre;
use crate::embedding::{DIMENSION_MAX, Embedding, EmbeddingError, Precision};
use crate::index::IndexSettings;

/// Where a vector lies. It stays there until it is removed; then another may get the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowId(u32);

impl RowId {
    fn chunk(self) -> usize {
        self.0 as usize / CHUNK_ROWS
    }

    fn row(self) -> usize {
        self.0 as usize % CHUNK_ROWS
    }
}

/// Vectors of one dimension and precision, each with an item beside it.
///
/// One writer and any number of searches work at the same time: a writer waits for at most the scan of one
/// chunk. A search is no snapshot. It sees each row as it is when it comes to it: an item that keeps its row is
/// found exactly once, one that is removed and inserted anew meanwhile may be found in both rows, or in
/// neither.
pub(crate) struct VectorArena<T> {
    rows: Arc<Rows<T>>,
    background: Background,
}

/// The rows, shared with the thread that keeps the index.
///
/// A writer holds at most one of the locks at a time, and so does the background thread. Whoever only reads may hold
/// several chunks, in the order of their rows.
pub(super) struct Rows<T> {
    pub(super) dimension: usize,
    pub(super) precision: Precision,
    pub(super) settings: IndexSettings,
    pub(super) kernel: Kernel,
    /// Which rows are in use.
    in_use: Mutex<RowsInUse>,
    /// How many rows are in use.
    count: AtomicUsize,
    /// How many rows were ever filled or freed.
    pub(super) changes: AtomicU64,
    /// The chunks there are. The list is exchanged for one that is longer, never for another.
    chunks: RwLock<Chunks<T>>,
    /// What the signs of new chunks are relative to.
    centre: RwLock<Option<Arc<Centre>>>,
    /// The lists there are.
    partition: RwLock<Option<Arc<Partition>>>,
    /// The graph there is.
    graph: RwLock<Option<Arc<Graph>>>,
    /// Whether lists and graph are left alone.
    held: AtomicBool,
    /// Where the index is kept.
    checkpoints: OnceLock<Checkpoints<T>>,
    /// What was taken from there, for the thread that keeps the index.
    adopted: Mutex<Option<Adopted>>,
    /// When the lists, or the graph, were last made anew, and how long that took.
    trained: RwLock<Option<(DateTime<Utc>, Duration)>>,
    /// What rows are stamped with that are filled from now on.
    pub(super) epoch: AtomicU32,
}

/// The chunks at one moment.
pub(super) type Chunks<T> = Arc<Vec<Arc<SharedChunk<T>>>>;

pub(super) struct SharedChunk<T> {
    /// The greatest stamp of its rows.
    pub(super) newest: AtomicU32,
    /// The lock protects the rows of this chunk.
    rows: RwLock<Chunk<T>>,
}

#[derive(Default)]
struct RowsInUse {
    /// No row from here on was ever used.
    end: u32,
    /// Rows before it that are free, the first of them first: what is in use stays together at the front.
    free: BinaryHeap<Reverse<u32>>,
}

impl<T: Clone + Send + Sync + 'static> VectorArena<T> {
    /// An empty arena for vectors of `dimension` numbers, from 1 to [`DIMENSION_MAX`].
    pub(crate) fn new(dimension: usize, precision: Precision, settings: IndexSettings) -> Self {
        assert!((1..=DIMENSION_MAX).contains(&dimension), "a dimension of {dimension}");
        let rows = Rows {
            dimension,
            precision,
            settings,
            kernel: Kernel::detect(),
            in_use: Mutex::default(),
            count: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
            chunks: RwLock::default(),
            centre: RwLock::default(),
            partition: RwLock::default(),
            graph: RwLock::default(),
            held: AtomicBool::new(false),
            checkpoints: OnceLock::new(),
            adopted: Mutex::default(),
            trained: RwLock::default(),
            epoch: AtomicU32::new(0),
        };
        Self { rows: Arc::new(rows), background: Background::default() }
    }

    /// How many numbers its vectors have, and how they are kept.
    pub(crate) fn form(&self) -> (usize, Precision) {
        (self.rows.dimension, self.rows.precision)
    }

    /// Checks, quantises and prepares the vector of a question.
    ///
    /// # Errors
    /// As [`StoredVector::from_embedding`].
    pub(crate) fn query(&self, embedding: &Embedding) -> Result<Query, EmbeddingError> {
        let Rows { dimension, precision, .. } = *self.rows;
        Ok(Query::new(&StoredVector::from_embedding(embedding, dimension, precision)?))
    }

    /// Puts a vector and its item into the first free row. Scans that reach the row from now on find it.
    ///
    /// The vector was checked: [`StoredVector::from_embedding`] has made it, or [`StoredVector::check`] was
    /// asked.
    pub(crate) fn insert(&self, vector: &StoredVector, item: T) -> RowId {
        self.rows.assert_fits(vector.dimension(), vector.precision());
        let id = self.rows.take_row();
        let chunk = self.rows.chunk_or_new(id.chunk());
        self.rows.fill(&chunk, &mut chunk.write(), id, vector, item);
        self.rows.count.fetch_add(1, Ordering::Relaxed);
        self.changed();
        id
    }

    /// Exchanges vector and item of a row in use, at once for every scan.
    pub(crate) fn replace(&self, id: RowId, vector: &StoredVector, item: T) {
        self.rows.assert_fits(vector.dimension(), vector.precision());
        let chunk = self.rows.chunk_in_use(id);
        {
            let mut rows = chunk.write();
            assert!(rows.item(id.row()).is_some(), "{id:?} is free");
            self.rows.fill(&chunk, &mut rows, id, vector, item);
        }
        self.changed();
    }

    /// Frees a row and returns its item; `None` if it is free already.
    pub(crate) fn remove(&self, id: RowId) -> Option<T> {
        let chunk = self.rows.chunk(id.chunk())?;
        let item = chunk.write().item_mut(id.row())?.take();
        self.rows.rows_in_use().free.push(Reverse(id.0));
        self.rows.count.fetch_sub(1, Ordering::Relaxed);
        self.changed();
        item
    }

    /// Item and vector of a row; `None` if it is free.
    pub(crate) fn read(&self, id: RowId) -> Option<(T, StoredVector)> {
        let chunk = self.rows.chunk(id.chunk())?;
        let chunk = chunk.read();
        let item = chunk.item(id.row())?.clone();
        Some((item, chunk.vector(id.row(), self.rows.dimension)))
    }

    /// How many rows are in use.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let rows = self.rows.rows_in_use();
        let count = rows.end as usize - rows.free.len();
        assert_eq!(count, self.rows.count());
        count
    }

    /// Waits until the index has nothing left to do.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        self.background.settle(&self.rows);
    }

    /// Has the index looked after.
    pub(super) fn wake(&self) {
        if !self.rows.needs_no_index() {
            self.background.wake(&self.rows);
        }
    }

    /// Whether it is being looked after now.
    pub(super) fn is_working(&self) -> bool {
        self.background.is_working()
    }

    /// Ends that, for good.
    pub(super) fn stop(&self) {
        self.background.stop();
    }

    pub(super) fn rows(&self) -> &Rows<T> {
        &self.rows
    }

    fn changed(&self) {
        let changes = self.rows.changes.fetch_add(1, Ordering::Relaxed) + 1;
        if changes.is_multiple_of(CHUNK_ROWS as u64) {
            self.wake();
        }
    }
}

impl<T: Clone> Rows<T> {
    pub(super) fn assert_fits(&self, dimension: usize, precision: Precision) {
        assert_eq!((dimension, precision), (self.dimension, self.precision), "a vector of another store");
    }

    /// How many rows are in use.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The chunks there are now; each row of them is looked at through its lock.
    pub(super) fn chunks(&self) -> Chunks<T> {
        Arc::clone(&self.chunks.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn centre(&self) -> Option<Arc<Centre>> {
        self.centre.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_centre(&self, centre: Arc<Centre>) {
        *self.centre.write().unwrap_or_else(PoisonError::into_inner) = Some(centre);
    }

    pub(super) fn partition(&self) -> Option<Arc<Partition>> {
        self.partition.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_partition(&self, partition: Option<Arc<Partition>>) {
        *self.partition.write().unwrap_or_else(PoisonError::into_inner) = partition;
    }

    pub(super) fn graph(&self) -> Option<Arc<Graph>> {
        self.graph.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_graph(&self, graph: Arc<Graph>) {
        *self.graph.write().unwrap_or_else(PoisonError::into_inner) = Some(graph);
    }

    pub(super) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    pub(super) fn checkpoints(&self) -> Option<&Checkpoints<T>> {
        self.checkpoints.get()
    }

    /// Does nothing the second time: a log is opened once.
    pub(super) fn set_checkpoints(&self, checkpoints: Checkpoints<T>) {
        self.checkpoints.get_or_init(|| checkpoints);
    }

    pub(super) fn set_adopted(&self, adopted: Adopted) {
        *self.adopted.lock().unwrap_or_else(PoisonError::into_inner) = Some(adopted);
    }

    pub(super) fn take_adopted(&self) -> Option<Adopted> {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn trained(&self) -> Option<(DateTime<Utc>, Duration)> {
        *self.trained.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_trained(&self, took: Duration) {
        *self.trained.write().unwrap_or_else(PoisonError::into_inner) = Some((Utc::now(), took));
    }

    fn fill(&self, shared: &SharedChunk<T>, chunk: &mut Chunk<T>, id: RowId, vector: &StoredVector, item: T) {
        // Invariant: the epoch is read while the chunk is locked. Whoever begins an epoch and then locks the chunk
        // sees this row, or the row gets the new stamp.
        let stamp = self.epoch.load(Ordering::SeqCst);
        chunk.set(self.kernel, id.row(), vector, item, stamp);
        shared.newest.fetch_max(stamp, Ordering::SeqCst);
    }

    fn take_row(&self) -> RowId {
        let mut rows = self.rows_in_use();
        if let Some(Reverse(row)) = rows.free.pop() {
            return RowId(row);
        }
        let row = rows.end;
        assert!(row < u32::MAX, "an arena has at most {} rows", u32::MAX);
        rows.end += 1;
        RowId(row)
    }

    fn chunk(&self, index: usize) -> Option<Arc<SharedChunk<T>>> {
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        chunks.get(index).map(Arc::clone)
    }

    fn chunk_in_use(&self, id: RowId) -> Arc<SharedChunk<T>> {
        self.chunk(id.chunk()).unwrap_or_else(|| unreachable!("{id:?} was never used"))
    }

    fn chunk_or_new(&self, index: usize) -> Arc<SharedChunk<T>> {
        if let Some(chunk) = self.chunk(index) {
            return chunk;
        }
        let centre = self.centre();
        let mut chunks = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
        let mut longer = Vec::clone(&chunks);
        while longer.len() <= index {
            let mut chunk = Chunk::new(self.dimension, self.precision);
            if let Some(centre) = &centre {
                chunk.centre_on(self.kernel, centre);
            }
            longer.push(Arc::new(SharedChunk { newest: AtomicU32::new(0), rows: RwLock::new(chunk) }));
        }
        let chunk = Arc::clone(&longer[index]);
        *chunks = Arc::new(longer);
        chunk
    }

    fn rows_in_use(&self) -> MutexGuard<'_, RowsInUse> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A poisoned lock is taken all the same: what can panic while it is held is an assertion, which comes before
/// the first change, or what the caller does under a read lock, which changes nothing.
impl<T> SharedChunk<T> {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Chunk<T>> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Chunk<T>> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }
}
