//! A run of rows that one lock protects, and the query that is compared with them.

use std::sync::Arc;

use super::StoredVector;
use super::kernel::Kernel;
use super::signs::{Centre, QuerySigns};
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

    /// The codes of the vector with zeros up to the stride of the rows, and one over their norm; `None` in `f32`.
    pub(super) fn codes(&self) -> Option<(&[i8], f32)> {
        match &self.padded {
            StoredVector::Int8 { codes, .. } => Some((codes, self.inverse_norm)),
            StoredVector::F32(_) => None,
        }
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
    /// In which epoch of the arena each row was last filled; as long as `items`.
    stamps: Vec<u32>,
    /// The signs of each row; `None` before they are asked for, and in `f32`.
    signs: Option<Signs>,
}

struct Signs {
    centre: Arc<Centre>,
    /// The words of row after row.
    words: Box<[u64]>,
}

/// A row as it is copied for training and for partitions.
#[derive(Clone, Copy)]
pub(super) struct RowView<'a> {
    /// With zeros up to the stride.
    pub(super) codes: &'a [i8],
    pub(super) inverse_norm: f32,
    /// When it was filled.
    pub(super) stamp: u32,
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
        Self {
            vectors,
            inverse_norms: vec![0.0; CHUNK_ROWS],
            items: Vec::new(),
            stamps: Vec::new(),
            signs: None,
        }
    }

    pub(super) fn item(&self, row: usize) -> Option<&T> {
        self.items.get(row)?.as_ref()
    }

    /// The item of a row in use, to be exchanged or taken out.
    pub(super) fn item_mut(&mut self, row: usize) -> Option<&mut Option<T>> {
        self.items.get_mut(row).filter(|item| item.is_some())
    }

    /// Fills a row, in use or not. The vector has the dimension and the precision of the chunk.
    pub(super) fn set(&mut self, kernel: Kernel, row: usize, vector: &StoredVector, item: T, stamp: u32) {
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
            self.stamps.resize(row + 1, 0);
        }
        self.items[row] = Some(item);
        self.stamps[row] = stamp;
        if let Some(signs) = &mut self.signs {
            let codes = self.vectors.codes(row);
            signs.derive(kernel, row, codes, self.inverse_norms[row]);
        }
    }

    /// Derives the signs of all rows anew, unless they are relative to this centre. Does nothing in `f32`.
    pub(super) fn centre_on(&mut self, kernel: Kernel, centre: &Arc<Centre>) {
        if self.is_centred_on(centre) || matches!(self.vectors, Vectors::F32(_)) {
            return;
        }
        let words = match self.signs.take() {
            Some(signs) => signs.words,
            None => vec![0; centre.words() * CHUNK_ROWS].into(),
        };
        let mut signs = Signs { centre: Arc::clone(centre), words };
        for row in 0..self.items.len() {
            signs.derive(kernel, row, self.vectors.codes(row), self.inverse_norms[row]);
        }
        self.signs = Some(signs);
    }

    /// Whether the signs are relative to this centre.
    pub(super) fn is_centred_on(&self, centre: &Arc<Centre>) -> bool {
        self.signs.as_ref().is_some_and(|signs| Arc::ptr_eq(&signs.centre, centre))
    }

    /// How far each row up to the last that was ever used is from the query, in differing signs; `None` before there
    /// are signs.
    pub(super) fn distances<'a>(
        &self,
        kernel: Kernel,
        query: &mut QuerySigns,
        out: &'a mut [u32; CHUNK_ROWS],
    ) -> Option<&'a [u32]> {
        let signs = self.signs.as_ref()?;
        let out = &mut out[..self.items.len()];
        kernel.hamming_rows(query.relative_to(&signs.centre), signs.first(out.len()), out);
        Some(out)
    }

    /// As [`distances`](Self::distances), of one row.
    pub(super) fn distance(&self, kernel: Kernel, query: &mut QuerySigns, row: usize) -> Option<u32> {
        let signs = self.signs.as_ref()?;
        let mut out = [0];
        kernel.hamming_rows(query.relative_to(&signs.centre), signs.of(row), &mut out);
        Some(out[0])
    }

    /// The signs of one row, relative to `centre`; zeros in `f32`.
    pub(super) fn signs(&self, kernel: Kernel, centre: &Arc<Centre>, row: usize, words: &mut [u64]) {
        match &self.signs {
            Some(signs) if Arc::ptr_eq(&signs.centre, centre) => words.copy_from_slice(signs.of(row)),
            Some(_) | None => {
                if let Some(codes) = self.vectors.codes(row) {
                    centre.signs(kernel, codes, self.inverse_norms[row], words);
                }
            }
        }
    }

    /// The cosine of one row: the same number as a scan gives.
    pub(super) fn cosine(&self, kernel: Kernel, query: &Query, row: usize) -> f32 {
        let dot = match (&self.vectors, &query.padded) {
            (Vectors::Int8 { rows, .. }, StoredVector::Int8 { codes, .. }) => {
                let mut dot = [0];
                kernel.dot_i8_rows(codes, rows.get(row), &mut dot);
                dot[0] as f32
            }
            (Vectors::F32(rows), StoredVector::F32(numbers)) => {
                let mut dot = [0.0];
                kernel.dot_f32_rows(numbers, rows.get(row), &mut dot);
                dot[0]
            }
            (Vectors::Int8 { .. }, StoredVector::F32(_)) | (Vectors::F32(_), StoredVector::Int8 { .. }) => {
                unreachable!("the arena has compared the precisions")
            }
        };
        (dot * self.inverse_norms[row] * query.inverse_norm).clamp(-1.0, 1.0)
    }

    /// When each row, up to the last that was ever used, was last filled.
    pub(super) fn stamps(&self) -> &[u32] {
        &self.stamps
    }

    /// Has a row count as filled in this epoch.
    pub(super) fn restamp(&mut self, row: usize, epoch: u32) {
        self.stamps[row] = epoch;
    }

    /// How many rows in use have this stamp or a later one.
    pub(super) fn filled_since(&self, stamp: u32) -> usize {
        self.stamps
            .iter()
            .zip(&self.items)
            .filter(|(filled, item)| **filled >= stamp && item.is_some())
            .count()
    }

    /// The rows in use, with their places; none in `f32`.
    pub(super) fn rows_in_use(&self) -> impl Iterator<Item = (usize, RowView<'_>)> {
        let rows = self.items.iter().enumerate().filter(|(_, item)| item.is_some());
        rows.filter_map(|(row, _)| {
            let codes = self.vectors.codes(row)?;
            Some((row, RowView { codes, inverse_norm: self.inverse_norms[row], stamp: self.stamps[row] }))
        })
    }

    /// The codes of a row, in use or not, with zeros up to the stride, and one over their norm; `None` in `f32`.
    pub(super) fn codes(&self, row: usize) -> Option<(&[i8], f32)> {
        Some((self.vectors.codes(row)?, self.inverse_norms[row]))
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

impl Vectors {
    /// The codes of a row, with the zeros at its end; `None` in `f32`.
    fn codes(&self, row: usize) -> Option<&[i8]> {
        match self {
            Self::Int8 { rows, .. } => Some(rows.get(row)),
            Self::F32(_) => None,
        }
    }
}

impl Signs {
    fn derive(&mut self, kernel: Kernel, row: usize, codes: Option<&[i8]>, inverse_norm: f32) {
        if let Some(codes) = codes {
            let width = self.centre.words();
            self.centre.signs(kernel, codes, inverse_norm, &mut self.words[row * width..][..width]);
        }
    }

    fn of(&self, row: usize) -> &[u64] {
        let width = self.centre.words();
        &self.words[row * width..][..width]
    }

    /// The words of the first `count` rows.
    fn first(&self, count: usize) -> &[u64] {
        &self.words[..count * self.centre.words()]
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
pub(super) const fn stride<E>(dimension: usize) -> usize {
    dimension.next_multiple_of(LINE_BYTES / size_of::<E>())
}
