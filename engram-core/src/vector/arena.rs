//! All vectors of a store, in rows that are scanned from the first to the last.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::StoredVector;
use super::chunk::{CHUNK_ROWS, Chunk, Query};
use super::kernel::Kernel;
use crate::embedding::{DIMENSION_MAX, Embedding, EmbeddingError, Precision};
use crate::top_k::{Scored, TopK};

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

/// Vectors of one dimension and precision, each with an item beside it, scanned exactly.
///
/// One writer and any number of scans work at the same time: a writer waits for at most the scan of one
/// chunk. A scan is no snapshot. It sees each row as it is when it comes to it: an item that keeps its row is
/// found exactly once, one that is removed and inserted anew meanwhile may be found in both rows, or in
/// neither.
///
/// No method holds two of its locks at the same time.
pub(crate) struct VectorArena<T> {
    dimension: usize,
    precision: Precision,
    kernel: Kernel,
    /// Which rows are in use.
    rows: Mutex<RowsInUse>,
    /// The chunks there are. It only grows.
    chunks: RwLock<Vec<SharedChunk<T>>>,
}

/// The lock protects the rows of this chunk.
type SharedChunk<T> = Arc<RwLock<Chunk<T>>>;

#[derive(Default)]
struct RowsInUse {
    /// No row from here on was ever used.
    end: u32,
    /// Rows before it that are free, the first of them first: what is in use stays together at the front.
    free: BinaryHeap<Reverse<u32>>,
}

impl<T: Clone> VectorArena<T> {
    /// An empty arena for vectors of `dimension` numbers, from 1 to [`DIMENSION_MAX`].
    pub(crate) fn new(dimension: usize, precision: Precision) -> Self {
        assert!((1..=DIMENSION_MAX).contains(&dimension), "a dimension of {dimension}");
        Self {
            dimension,
            precision,
            kernel: Kernel::detect(),
            rows: Mutex::default(),
            chunks: RwLock::default(),
        }
    }

    /// Checks, quantises and prepares the vector of a question.
    ///
    /// # Errors
    /// As [`StoredVector::from_embedding`].
    pub(crate) fn query(&self, embedding: &Embedding) -> Result<Query, EmbeddingError> {
        Ok(Query::new(&StoredVector::from_embedding(embedding, self.dimension, self.precision)?))
    }

    /// Puts a vector and its item into the first free row. Scans that reach the row from now on find it.
    ///
    /// The vector was checked: [`StoredVector::from_embedding`] has made it, or [`StoredVector::check`] was
    /// asked.
    pub(crate) fn insert(&self, vector: &StoredVector, item: T) -> RowId {
        self.assert_fits(vector.dimension(), vector.precision());
        let id = self.take_row();
        let chunk = self.chunk_or_new(id.chunk());
        write(&chunk).set(id.row(), vector, item);
        id
    }

    /// Exchanges vector and item of a row in use, at once for every scan.
    pub(crate) fn replace(&self, id: RowId, vector: &StoredVector, item: T) {
        self.assert_fits(vector.dimension(), vector.precision());
        let chunk = self.chunk_in_use(id);
        let mut chunk = write(&chunk);
        assert!(chunk.item(id.row()).is_some(), "{id:?} is free");
        chunk.set(id.row(), vector, item);
    }

    /// Frees a row and returns its item; `None` if it is free already.
    pub(crate) fn remove(&self, id: RowId) -> Option<T> {
        let chunk = self.chunk(id.chunk())?;
        let item = write(&chunk).item_mut(id.row())?.take();
        self.rows_in_use().free.push(Reverse(id.0));
        item
    }

    /// Item and vector of a row; `None` if it is free.
    pub(crate) fn read(&self, id: RowId) -> Option<(T, StoredVector)> {
        let chunk = self.chunk(id.chunk())?;
        let chunk = read(&chunk);
        let item = chunk.item(id.row())?.clone();
        Some((item, chunk.vector(id.row(), self.dimension)))
    }

    /// How many rows are in use.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let rows = self.rows_in_use();
        rows.end as usize - rows.free.len()
    }

    /// The `limit` items nearest to the query that `accept` lets in, fewer only if no more are accepted: by
    /// cosine (-1 to 1) descending, then by `tiebreak` descending. Where no two items have the same tiebreak,
    /// the result does not depend on which rows they lie in.
    ///
    /// `accept` and `tiebreak` run while their chunk is locked for reading: they must not write to this
    /// arena.
    pub(crate) fn scan(
        &self,
        query: &Query,
        limit: usize,
        accept: impl Fn(&T) -> bool,
        tiebreak: impl Fn(&T) -> u64,
    ) -> Vec<Scored<T>> {
        self.assert_fits(query.dimension(), query.precision());
        let mut top = TopK::new(limit, accept, tiebreak);
        // Chunk after chunk is looked up, so that neither the list nor more than one chunk is locked
        // meanwhile.
        let mut index = 0;
        while limit > 0
            && let Some(chunk) = self.chunk(index)
        {
            read(&chunk).scan(self.kernel, query, &mut top);
            index += 1;
        }
        top.into_best_first()
    }

    fn assert_fits(&self, dimension: usize, precision: Precision) {
        assert_eq!((dimension, precision), (self.dimension, self.precision), "a vector of another store");
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

    fn chunk(&self, index: usize) -> Option<SharedChunk<T>> {
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        chunks.get(index).map(Arc::clone)
    }

    fn chunk_in_use(&self, id: RowId) -> SharedChunk<T> {
        self.chunk(id.chunk()).unwrap_or_else(|| unreachable!("{id:?} was never used"))
    }

    fn chunk_or_new(&self, index: usize) -> SharedChunk<T> {
        if let Some(chunk) = self.chunk(index) {
            return chunk;
        }
        let mut chunks = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
        while chunks.len() <= index {
            chunks.push(Arc::new(RwLock::new(Chunk::new(self.dimension, self.precision))));
        }
        Arc::clone(&chunks[index])
    }

    fn rows_in_use(&self) -> MutexGuard<'_, RowsInUse> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A poisoned lock is taken all the same: what can panic while it is held is an assertion, which comes before
/// the first change, or what the caller does under a read lock, which changes nothing.
fn read<T>(chunk: &SharedChunk<T>) -> RwLockReadGuard<'_, Chunk<T>> {
    chunk.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(chunk: &SharedChunk<T>) -> RwLockWriteGuard<'_, Chunk<T>> {
    chunk.write().unwrap_or_else(PoisonError::into_inner)
}
