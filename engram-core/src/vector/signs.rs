//! One bit a number: its sign. Vectors that point the same way agree in most of them, and to count the bits in which
//! two vectors differ reads an eighth of their int8 codes.
//!
//! Some models give every vector a large part in common, which leaves most signs equal. Signs are therefore relative
//! to the mean of the vectors.

use std::sync::Arc;

use super::chunk::Query;
use super::kernel::Kernel;

/// What signs are relative to.
#[derive(Debug)]
pub(super) struct Centre {
    /// Of vectors of length 1.
    mean: Box<[f32]>,
}

impl Centre {
    pub(super) fn new(mean: Box<[f32]>) -> Self {
        Self { mean }
    }

    pub(super) fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// How many words the signs of one vector take.
    pub(super) fn words(&self) -> usize {
        self.mean.len().div_ceil(64)
    }

    /// The signs of a vector whose codes, times `inverse_norm`, have the length 1. What is beyond the dimension is
    /// left out.
    pub(super) fn signs(&self, kernel: Kernel, codes: &[i8], inverse_norm: f32, words: &mut [u64]) {
        kernel.signs(&codes[..self.mean.len()], inverse_norm, &self.mean, words);
    }
}

/// The signs of a query, relative to whatever the rows' are: to one centre almost always, to two while the rows move
/// from one to the next.
pub(super) struct QuerySigns<'a> {
    kernel: Kernel,
    query: &'a Query,
    last: Option<(Arc<Centre>, Vec<u64>)>,
}

impl<'a> QuerySigns<'a> {
    pub(super) fn new(kernel: Kernel, query: &'a Query) -> Self {
        Self { kernel, query, last: None }
    }

    pub(super) fn relative_to(&mut self, centre: &Arc<Centre>) -> &[u64] {
        let (kernel, query) = (self.kernel, self.query);
        let derive = || {
            let mut words = vec![0; centre.words()];
            if let Some((codes, inverse_norm)) = query.codes() {
                centre.signs(kernel, codes, inverse_norm, &mut words);
            }
            (Arc::clone(centre), words)
        };
        let is_same = self.last.as_ref().is_some_and(|(last, _)| Arc::ptr_eq(last, centre));
        if !is_same {
            self.last = None;
        }
        &self.last.get_or_insert_with(derive).1
    }
}
