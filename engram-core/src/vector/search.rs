//! How the nearest vectors are found. Candidates come from signs; what is returned was compared exactly.

use std::{cell::Cell, sync::RwLockReadGuard};

use super::arena::{Chunks, Rows, VectorArena};
use super::candidates::Candidates;
use super::chunk::{CHUNK_ROWS, Chunk, Query};
use super::signs::QuerySigns;
use crate::embedding::Precision;
use crate::index::Route;
use crate::top_k::{Scored, TopK};

/// Below, all vectors are compared exactly: signs would gain little.
pub(super) const SCAN_ROWS_MIN: usize = 8 * CHUNK_ROWS;

/// Signs of fewer numbers say too little about a vector.
pub(super) const SCAN_DIMENSION_MIN: usize = 128;

/// Chunks that one search holds for reading at the same time: as many vectors are on their way from memory.
const CHUNKS_AT_ONCE: usize = 32;

impl<T: Clone + Send + Sync + 'static> VectorArena<T> {
    /// The `limit` items nearest to the query that `accept` lets in, fewer only if no more are accepted: by
    /// cosine (-1 to 1) descending, then by `tiebreak` descending. Also the way they were found.
    ///
    /// If `exact`, or as long as there are few vectors, all of them are compared, and where no two items have the same
    /// tiebreak, the result does not depend on which rows they lie in. Otherwise a few of the nearest may be others.
    ///
    /// `is_wide` says that `accept` is likely to let all in, and changes nothing but the time that it takes.
    ///
    /// `accept` and `tiebreak` run while chunks are locked for reading: they must not write to this arena.
    pub(crate) fn search(
        &self,
        query: &Query,
        limit: usize,
        exact: bool,
        is_wide: bool,
        accept: impl Fn(&T) -> bool,
        tiebreak: impl Fn(&T) -> u64,
    ) -> (Vec<Scored<T>>, Route) {
        let rows = self.rows();
        rows.assert_fits(query.dimension(), query.precision());
        if limit == 0 {
            return (Vec::new(), Route::Exact);
        }
        let chunks = rows.chunks();
        let search = Search { rows, chunks: &chunks, query, limit };
        if !exact && rows.may_scan(limit) {
            // To ask about an item takes as long as twenty rows of signs: it lies somewhere else. So only those are asked
            // about that would be returned. Those refused have taken the places of others; then all are asked about.
            let (refused, all) = (Cell::new(false), |_: &T| true);
            let noted = |item: &T| {
                let is_accepted = accept(item);
                refused.set(refused.get() || !is_accepted);
                is_accepted
            };
            let found = is_wide.then(|| search.by_index(&all, &noted, &tiebreak)).flatten();
            let found = found.filter(|_| !refused.get());
            if let Some(found) = found.or_else(|| search.by_index(&accept, &accept, &tiebreak)) {
                return found;
            }
        }
        (search.exact(&accept, &tiebreak), Route::Exact)
    }
}

/// One search, over the chunks there were when it began.
pub(super) struct Search<'a, T> {
    pub(super) rows: &'a Rows<T>,
    pub(super) chunks: &'a Chunks<T>,
    pub(super) query: &'a Query,
    pub(super) limit: usize,
}

impl<T: Clone> Search<'_, T> {
    /// The best of the candidates that `sieve` lets in, if `accept` does, too; and the way they were found. `None` if there
    /// may be more to find.
    fn by_index(
        &self,
        sieve: &impl Fn(&T) -> bool,
        accept: &impl Fn(&T) -> bool,
        tiebreak: &impl Fn(&T) -> u64,
    ) -> Option<(Vec<Scored<T>>, Route)> {
        if let Some(partition) = self.rows.partition() {
            if let Some(graph) = self.rows.graph()
                && let Some((found, ef)) = self.by_graph(&graph, &partition, sieve, accept, tiebreak)
            {
                return Some((found, Route::Hnsw { ef }));
            }
            if let Some((found, probes)) = self.probe(&partition, sieve, accept, tiebreak) {
                return Some((found, Route::Ivf { probes }));
            }
        }
        Some((self.scan(sieve, accept, tiebreak)?, Route::Scan))
    }

    /// All vectors, compared exactly.
    fn exact(&self, accept: impl Fn(&T) -> bool, tiebreak: impl Fn(&T) -> u64) -> Vec<Scored<T>> {
        let mut top = TopK::new(self.limit, accept, tiebreak);
        for chunk in self.chunks.iter() {
            chunk.read().scan(self.rows.kernel, self.query, &mut top);
        }
        top.into_best_first()
    }

    /// The signs of all vectors, then the nearest exactly. `None` if rows have changed meanwhile, so that there might
    /// be more to find.
    fn scan(
        &self,
        sieve: &impl Fn(&T) -> bool,
        accept: &impl Fn(&T) -> bool,
        tiebreak: &impl Fn(&T) -> u64,
    ) -> Option<Vec<Scored<T>>> {
        let kernel = self.rows.kernel;
        // Those of chunks without signs are here already when the others come.
        let mut top = TopK::new(self.limit, accept, tiebreak);
        let wanted = self.rows.candidates_wanted(self.limit);
        let mut candidates = self.candidates(wanted, sieve, |chunk| chunk.scan(kernel, self.query, &mut top));
        let were_enough = candidates.len() >= self.limit;
        self.visit(&mut candidates, |_, chunk, row| {
            let cosine = chunk.cosine(kernel, self.query, row);
            if top.may_enter(cosine)
                && let Some(item) = chunk.item(row)
            {
                top.offer(cosine, item);
            }
        });
        let found = top.into_best_first();
        let is_complete = found.len() == self.limit || !were_enough;
        is_complete.then_some(found)
    }

    /// The rows nearest to the query by their signs, `wanted` of them and more if there are ties, each in use and
    /// let in by `sieve`. Chunks without signs are handed to `without_signs` instead.
    pub(super) fn candidates(
        &self,
        wanted: usize,
        sieve: impl Fn(&T) -> bool,
        mut without_signs: impl FnMut(&Chunk<T>),
    ) -> Vec<u32> {
        let mut candidates = Candidates::new(wanted, self.rows.dimension);
        let mut signs = QuerySigns::new(self.rows.kernel, self.query);
        let mut distances = [0; CHUNK_ROWS];
        for (chunk, first) in self.chunks.iter().zip((0_u32..).step_by(CHUNK_ROWS)) {
            let chunk = chunk.read();
            let Some(distances) = chunk.distances(self.rows.kernel, &mut signs, &mut distances) else {
                without_signs(&chunk);
                continue;
            };
            for ((row, id), distance) in (first..).enumerate().zip(distances) {
                if *distance <= candidates.floor() && chunk.item(row).is_some_and(&sieve) {
                    candidates.push(*distance, id);
                }
            }
        }
        candidates.into_rows()
    }

    /// Shows each row, with its chunk and its place in there, in the order of the rows.
    pub(super) fn visit(&self, rows: &mut [u32], mut show: impl FnMut(u32, &Chunk<T>, usize)) {
        let place = |row: u32| (row as usize / CHUNK_ROWS, row as usize % CHUNK_ROWS);
        rows.sort_unstable();
        let mut by_chunk = rows.chunk_by(|a, b| place(*a).0 == place(*b).0);
        loop {
            // A chunk that is locked makes the CPU wait for all that it reads before. So several are locked, and only
            // then their rows read, all at the same time.
            let locked: Vec<(&[u32], RwLockReadGuard<'_, Chunk<T>>)> = by_chunk
                .by_ref()
                .take(CHUNKS_AT_ONCE)
                .map(|rows| (rows, self.chunks[place(rows[0]).0].read()))
                .collect();
            if locked.is_empty() {
                return;
            }
            for (rows, chunk) in &locked {
                rows.iter().for_each(|row| show(*row, chunk, place(*row).1));
            }
        }
    }
}

impl<T: Clone> Rows<T> {
    /// Whether signs are compared before vectors are.
    pub(super) fn may_scan(&self, limit: usize) -> bool {
        // A scan that leaves more than that in question would gain nothing.
        !self.needs_no_index() && self.candidates_wanted(limit) <= self.count() / 6
    }

    /// How many candidates are compared exactly. The fewer signs a vector has and the more vectors there are, the more
    /// of them come between the nearest. At 768 numbers, so many give the very ten that an exact search gives to more
    /// than 99 of 100 questions: what is found hardly depends on whether there are signs yet. The very 200 that words are
    /// fused with, they give to 9 of 10 questions among 30,000, and to 7 of 10 among 100,000; among fewer all are compared.
    pub(super) fn candidates_wanted(&self, limit: usize) -> usize {
        let for_dimension = (600 * 768_usize.isqrt() / self.dimension.isqrt()).max(600);
        limit.saturating_mul(24).max(for_dimension + self.count() / 500)
    }

    /// Whether all vectors are compared exactly for every question.
    pub(super) fn needs_no_index(&self) -> bool {
        self.precision == Precision::F32
            || self.dimension < SCAN_DIMENSION_MIN
            || self.count() < SCAN_ROWS_MIN
    }
}
