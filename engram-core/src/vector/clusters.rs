//! Clusters of vectors: spherical k-means over a sample of them.

use std::cmp::Ordering;
use std::sync::Arc;

use super::arena::Rows;
use super::background::Signal;
use super::candidates::Candidates;
use super::chunk::Query;
use super::kernel::Kernel;
use super::quantise;
use super::signs::Centre;
use super::{StoredVector, chunk::stride};

/// How often each vector of the sample is assigned and the clusters are moved to what is in them.
const ROUNDS: usize = 6;

/// Vectors of the sample for each cluster.
const SAMPLE_ROWS_PER_CLUSTER: usize = 40;

/// How many clusters, the nearest in signs, are compared exactly to find the nearest of all: the same is found for
/// more than 99 of 100 vectors.
const COMPARED: usize = 24;

/// Vectors that are worked on between two questions whether to go on: some milliseconds.
pub(super) const PIECE_ROWS: usize = 256;

/// Vectors in int8, side by side, with zeros up to their stride.
#[derive(Clone)]
pub(super) struct Sample {
    dimension: usize,
    codes: Vec<i8>,
    inverse_norms: Vec<f32>,
}

impl Sample {
    pub(super) fn new(dimension: usize) -> Self {
        Self { dimension, codes: Vec::new(), inverse_norms: Vec::new() }
    }

    /// About `wanted` rows of an arena, by a lot that falls the same way for the same seed. `None` when told to stop.
    pub(super) fn draw<T: Clone>(rows: &Rows<T>, wanted: usize, seed: u64, signal: &Signal) -> Option<Self> {
        let mut sample = Self::new(rows.dimension);
        let share = wanted as f64 / rows.count().max(1) as f64;
        for (chunk, number) in rows.chunks().iter().zip(0_u64..) {
            if !signal.goes_on() {
                return None;
            }
            for (row, view) in chunk.read().rows_in_use() {
                if (lot(seed, number << 32 | row as u64) as f64) < share * u64::MAX as f64 {
                    sample.push(view.codes, view.inverse_norm);
                }
            }
        }
        Some(sample)
    }

    pub(super) fn push(&mut self, codes: &[i8], inverse_norm: f32) {
        self.codes.extend_from_slice(codes);
        self.inverse_norms.push(inverse_norm);
    }

    pub(super) fn clear(&mut self) {
        self.codes.clear();
        self.inverse_norms.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.inverse_norms.len()
    }

    /// The codes of one vector, and one over their norm.
    pub(super) fn get(&self, index: usize) -> (&[i8], f32) {
        let stride = stride::<i8>(self.dimension);
        (&self.codes[index * stride..][..stride], self.inverse_norms[index])
    }

    /// The cosine of each of these with a vector.
    pub(super) fn cosines(&self, kernel: Kernel, (codes, inverse_norm): (&[i8], f32), out: &mut Vec<f32>) {
        out.clear();
        let mut dots = vec![0; self.len()];
        kernel.dot_i8_rows(codes, &self.codes, &mut dots);
        let cosines = dots.iter().zip(&self.inverse_norms);
        out.extend(cosines.map(|(dot, norm)| *dot as f32 * norm * inverse_norm));
    }

    fn push_numbers(&mut self, numbers: &[f32]) {
        if let Some((codes, inverse_norm)) = Query::new(&quantise(numbers)).codes() {
            self.push(codes, inverse_norm);
        }
    }
}

/// A number that looks random and is the same for the same seed and index.
pub(super) fn lot(seed: u64, index: u64) -> u64 {
    let mixed = (index ^ seed.rotate_left(32)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The cosine of the middle of a cluster with a vector, and which cluster it is.
pub(super) type Nearness = (f32, u32);

/// The middles of the clusters.
pub(super) struct Clusters {
    centre: Arc<Centre>,
    middles: Sample,
    /// The signs of the middles, one after the other.
    words: Vec<u64>,
}

impl Clusters {
    /// Clusters for the vectors of an arena, whose signs are relative to `centre`. `None` when told to stop.
    pub(super) fn train<T: Clone>(
        rows: &Rows<T>,
        centre: &Arc<Centre>,
        count: usize,
        signal: &Signal,
    ) -> Option<Self> {
        let sample = Sample::draw(rows, count * SAMPLE_ROWS_PER_CLUSTER, 0, signal)?;
        if sample.len() < count {
            return None;
        }
        let kernel = rows.kernel;
        let mut middles = Sample::new(sample.dimension);
        for index in 0..count {
            let (codes, inverse_norm) = sample.get(index * sample.len() / count);
            middles.push(codes, inverse_norm);
        }
        let mut clusters = Self::new(kernel, centre, middles);
        for round in 0..ROUNDS as u64 {
            clusters = clusters.moved(kernel, &sample, round, signal)?;
        }
        Some(clusters)
    }

    /// Clusters around these.
    pub(super) fn new(kernel: Kernel, centre: &Arc<Centre>, middles: Sample) -> Self {
        let mut words = vec![0; middles.len() * centre.words()];
        for (index, words) in words.chunks_exact_mut(centre.words()).enumerate() {
            let (codes, inverse_norm) = middles.get(index);
            centre.signs(kernel, codes, inverse_norm, words);
        }
        Self { centre: Arc::clone(centre), middles, words }
    }

    /// The clusters around what is nearest to these.
    fn moved(&self, kernel: Kernel, sample: &Sample, round: u64, signal: &Signal) -> Option<Self> {
        let dimension = sample.dimension;
        let mut sums = vec![0.0_f32; self.len() * dimension];
        let mut counts = vec![0_u32; self.len()];
        for index in 0..sample.len() {
            if index.is_multiple_of(PIECE_ROWS) && !signal.goes_on() {
                return None;
            }
            let (codes, inverse_norm) = sample.get(index);
            let nearest = self.nearest(kernel, codes, inverse_norm) as usize;
            counts[nearest] += 1;
            for (sum, code) in sums[nearest * dimension..][..dimension].iter_mut().zip(codes) {
                *sum += f32::from(*code) * inverse_norm;
            }
        }
        let mut middles = Sample::new(dimension);
        for (index, (sum, count)) in sums.chunks_exact(dimension).zip(counts).enumerate() {
            // An empty cluster begins anew somewhere else, and so does one whose vectors cancel each other out.
            if count == 0 || sum.iter().all(|number| number.abs() < 1e-6) {
                #[expect(clippy::cast_possible_truncation, reason = "the index of a vector in memory")]
                let other = (lot(round + 1, index as u64) % sample.len() as u64) as usize;
                let (codes, inverse_norm) = sample.get(other);
                middles.push(codes, inverse_norm);
            } else {
                middles.push_numbers(sum);
            }
        }
        Some(Self::new(kernel, &self.centre, middles))
    }

    pub(super) fn len(&self) -> usize {
        self.middles.len()
    }

    pub(super) fn middles(&self) -> &Sample {
        &self.middles
    }

    pub(super) fn centre(&self) -> &Arc<Centre> {
        &self.centre
    }

    /// The cluster that a vector belongs to.
    pub(super) fn nearest(&self, kernel: Kernel, codes: &[i8], inverse_norm: f32) -> u32 {
        let near = self.compared(kernel, codes, inverse_norm).into_iter();
        near.max_by(|a, b| best_last(*a, *b)).map_or(0, |(_, cluster)| cluster)
    }

    /// The cluster that a vector belongs to, and others that are near to it, about the nearest: `count` together, or as
    /// many as there are.
    pub(super) fn nearest_few(
        &self,
        kernel: Kernel,
        codes: &[i8],
        inverse_norm: f32,
        count: usize,
    ) -> Vec<u32> {
        let mut near = self.compared(kernel, codes, inverse_norm);
        near.sort_unstable_by(|a, b| best_last(*b, *a));
        near.into_iter().take(count).map(|(_, cluster)| cluster).collect()
    }

    /// The clusters that are nearest in signs, and how near they are.
    fn compared(&self, kernel: Kernel, codes: &[i8], inverse_norm: f32) -> Vec<(f32, u32)> {
        let mut signs = vec![0; self.centre.words()];
        self.centre.signs(kernel, codes, inverse_norm, &mut signs);
        let mut distances = vec![0; self.len()];
        kernel.hamming_rows(&signs, &self.words, &mut distances);
        let mut candidates = Candidates::new(COMPARED, self.middles.dimension);
        for (distance, cluster) in distances.iter().zip(0..) {
            if *distance <= candidates.floor() {
                candidates.push(*distance, cluster);
            }
        }
        let nearness = |cluster: u32| {
            let (middle, inverse_norm) = self.middles.get(cluster as usize);
            let mut dot = [0];
            kernel.dot_i8_rows(codes, middle, &mut dot);
            (dot[0] as f32 * inverse_norm, cluster)
        };
        candidates.into_rows().into_iter().map(nearness).collect()
    }

    /// The `first` clusters nearest to a query, and all others, with the cosines of their middles with it, in no order.
    pub(super) fn nearest_first(
        &self,
        kernel: Kernel,
        query: &Query,
        first: usize,
    ) -> (Vec<Nearness>, Vec<Nearness>) {
        let mut cosines = Vec::new();
        if let Some(query) = query.codes() {
            self.middles.cosines(kernel, query, &mut cosines);
        }
        let mut nearest: Vec<Nearness> = cosines.into_iter().zip(0..).collect();
        if first >= nearest.len() {
            return (nearest, Vec::new());
        }
        nearest.select_nth_unstable_by(first, |a, b| b.0.total_cmp(&a.0));
        let others = nearest.split_off(first);
        (nearest, others)
    }
}

/// Of two as near as each other, always the same.
fn best_last(a: (f32, u32), b: (f32, u32)) -> Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

/// A question like those that may come: between two vectors of a sample, nearer to the first, with a share of the
/// second.
pub(super) fn question_between(
    first: (&[i8], f32),
    second: (&[i8], f32),
    share: f32,
    dimension: usize,
) -> Query {
    let numbers = |(codes, inverse_norm): (&[i8], f32)| -> Vec<f32> {
        codes[..dimension].iter().map(|code| f32::from(*code) * inverse_norm).collect()
    };
    let mixed: Vec<f32> =
        numbers(first).iter().zip(numbers(second)).map(|(first, second)| first + share * second).collect();
    let is_zero = mixed.iter().all(|number| number.abs() < 1e-6);
    let vector: StoredVector = if is_zero { quantise(&numbers(first)) } else { quantise(&mixed) };
    Query::new(&vector)
}
