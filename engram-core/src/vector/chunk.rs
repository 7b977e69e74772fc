//! A run of rows that one lock protects, and the query that is compared with them.

use super::StoredVector;
use super::kernel::Kernel;
use crate::embedding::Precision;
use crate::top_k::TopK;

/// How many rows one lock protects: at 768 dimensions a scan holds it for 25 to 50 µs.
pub(super) const CHUNK_ROWS: usize = 1024;

/// Rows start on cache lines, and are as many of them long as they need.
const LINE_BYTES: usize = 64;

/// A vector prepared to be compared with all rows of an arena of its dimension and precision.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// With zeros up to the stride of the rows.
    padded: StoredVector,
    dimension: usize,
    inverse_norm: f32,
}

impl Query {
    /// Prepares a checked vector: of a question, or of a memory whose neighbours are wanted.
    pub(crate) fn new(vector: &StoredVector) -> Self {
        let dimension = vector.dimension();
        let padded = match vector {
            StoredVector::Int8 { codes, scale } => {
                let mut padded = codes.to_vec();
                padded.resize(stride::<i8>(dimension), 0);
                StoredVector::Int8 { codes: padded.into(), scale: *scale }
            }
            StoredVector::F32(numbers) => {
                let mut padded = numbers.to_vec();
                padded.resize(stride::<f32>(dimension), 0.0);
                StoredVector::F32(padded.into())
            }
        };
        Self { padded, dimension, inverse_norm: vector.inverse_norm() }
    }

    /// How many numbers the vector has.
    pub(crate) fn dimension(&self) -> usize {
        self.dimension
    }

    /// The precision of the vector.
    pub(crate) fn precision(&self) -> Precision {
        self.padded.precision()
    }
}

/// [`CHUNK_ROWS`] rows and what lies beside each of them.
pub(super) struct Chunk<T> {
    vectors: Vectors,
    /// One over the norm of each row.
    inverse_norms: Vec<f32>,
    /// `None` where a row is free. As long as the highest row ever used.
    items: Vec<Option<T>>,
}

enum Vectors {
    Int8 { rows: Rows<i8>, scales: Vec<f32> },
    F32(Rows<f32>),
}

impl<T: Clone> Chunk<T> {
    pub(super) fn new(dimension: usize, precision: Precision) -> Self {
        let vectors = match precision {
            Precision::Int8 => Vectors::Int8 { rows: Rows::new(dimension), scales: vec![0.0; CHUNK_ROWS] },
            Precision::F32 => Vectors::F32(Rows::new(dimension)),
        };
        Self { vectors, inverse_norms: vec![0.0; CHUNK_ROWS], items: Vec::new() }
    }

    pub(super) fn item(&self, row: usize) -> Option<&T> {
        self.items.get(row)?.as_ref()
    }

    /// The item of a row in use, to be exchanged or taken out.
    pub(super) fn item_mut(&mut self, row: usize) -> Option<&mut Option<T>> {
        self.items.get_mut(row).filter(|item| item.is_some())
    }

    /// Fills a row, in use or not. The vector has the dimension and the precision of the chunk.
    pub(super) fn set(&mut self, row: usize, vector: &StoredVector, item: T) {
        match (&mut self.vectors, vector) {
            (Vectors::Int8 { rows, scales }, StoredVector::Int8 { codes, scale }) => {
                rows.set(row, codes);
                scales[row] = *scale;
            }
            (Vectors::F32(rows), StoredVector::F32(numbers)) => rows.set(row, numbers),
            (Vectors::Int8 { .. }, StoredVector::F32(_)) | (Vectors::F32(_), StoredVector::Int8 { .. }) => {
                unreachable!("the arena has compared the precisions")
            }
        }
        self.inverse_norms[row] = vector.inverse_norm();
        if self.items.len() <= row {
            self.items.resize(row + 1, None);
        }
        self.items[row] = Some(item);
    }

    /// The vector of a row, `dimension` numbers long.
    pub(super) fn vector(&self, row: usize, dimension: usize) -> StoredVector {
        match &self.vectors {
            Vectors::Int8 { rows, scales } => {
                StoredVector::Int8 { codes: rows.get(row)[..dimension].into(), scale: scales[row] }
            }
            Vectors::F32(rows) => StoredVector::F32(rows.get(row)[..dimension].into()),
        }
    }

    /// Offers every item with the cosine of its row. The query has the dimension and the precision of the
    /// chunk.
    pub(super) fn scan<A: Fn(&T) -> bool, B: Fn(&T) -> u64>(
        &self,
        kernel: Kernel,
        query: &Query,
        top: &mut TopK<T, A, B>,
    ) {
        let used = self.items.len();
        let mut cosines = [0.0_f32; CHUNK_ROWS];
        let cosines = &mut cosines[..used];
        match (&self.vectors, &query.padded) {
            (Vectors::Int8 { rows, .. }, StoredVector::Int8 { codes, .. }) => {
                let mut dots = [0_i32; CHUNK_ROWS];
                kernel.dot_i8_rows(codes, rows.first(used), &mut dots[..used]);
                for (cosine, dot) in cosines.iter_mut().zip(dots) {
                    *cosine = dot as f32;
                }
            }
            (Vectors::F32(rows), StoredVector::F32(numbers)) => {
                kernel.dot_f32_rows(numbers, rows.first(used), cosines);
            }
            (Vectors::Int8 { .. }, StoredVector::F32(_)) | (Vectors::F32(_), StoredVector::Int8 { .. }) => {
                unreachable!("the arena has compared the precisions")
            }
        }
        for (cosine, inverse_norm) in cosines.iter_mut().zip(&self.inverse_norms) {
            *cosine = (*cosine * inverse_norm * query.inverse_norm).clamp(-1.0, 1.0);
        }
        for (cosine, item) in cosines.iter().zip(&self.items) {
            // First the score, which is at hand; the item of most rows is never touched.
            if top.may_enter(*cosine)
                && let Some(item) = item
            {
                top.offer(*cosine, item);
            }
        }
    }
}

/// [`CHUNK_ROWS`] rows one after the other. The memory of rows that were never used is never touched.
struct Rows<E> {
    buffer: Box<[E]>,
    /// Where the first cache line of the buffer starts.
    start: usize,
    stride: usize,
}

impl<E: Copy + Default> Rows<E> {
    fn new(dimension: usize) -> Self {
        let stride = stride::<E>(dimension);
        let line = LINE_BYTES / size_of::<E>();
        let buffer = vec![E::default(); stride * CHUNK_ROWS + line].into_boxed_slice();
        // The buffer is never moved. Alignment makes the scan faster, nothing relies on it.
        let start = buffer.as_ptr().align_offset(LINE_BYTES).min(line);
        Self { buffer, start, stride }
    }

    /// A row, with the zeros at its end.
    fn get(&self, row: usize) -> &[E] {
        &self.buffer[self.start + row * self.stride..][..self.stride]
    }

    fn set(&mut self, row: usize, numbers: &[E]) {
        self.buffer[self.start + row * self.stride..][..numbers.len()].copy_from_slice(numbers);
    }

    /// The first `count` rows.
    fn first(&self, count: usize) -> &[E] {
        &self.buffer[self.start..][..count * self.stride]
    }
}

/// How many numbers apart two rows start.
const fn stride<E>(dimension: usize) -> usize {
    dimension.next_multiple_of(LINE_BYTES / size_of::<E>())
}
