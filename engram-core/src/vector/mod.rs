//! Vectors as the store keeps them, and the search among them.
//!
//! A vector is quantised once, on the way in. What is in memory and what is on disk are the same, so recall
//! gives the same answers before and after a restart.

mod arena;
mod background;
mod candidates;
mod checkpoint;
mod chunk;
mod clusters;
mod graph;
mod keeper;
mod kernel;
mod partition;
mod probe;
mod search;
mod signs;
mod status;
#[cfg(test)]
mod tests;
mod tuning;

use std::sync::LazyLock;

pub(crate) use arena::{RowId, VectorArena};
pub(crate) use checkpoint::Checkpoints;

use self::kernel::Kernel;
use crate::embedding::{Embedding, EmbeddingError, NORM_MAX, NORM_MIN, Precision};

/// The greatest code of an int8 vector; codes are symmetric, so the least is its negative.
const CODE_MAX: f32 = 127.0;

/// A vector in the precision of its store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StoredVector {
    /// A signed byte a number, `-127..=127`; the number is the code times the scale. The code furthest from
    /// zero is 127 or -127.
    Int8 {
        /// As many codes as the store's dimension.
        codes: Box<[i8]>,
        /// The greatest absolute number of the vector, divided by 127.
        scale: f32,
    },
    /// The numbers as they came.
    F32(Box<[f32]>),
}

impl StoredVector {
    /// Checks and quantises a vector. The same numbers always give the same bytes.
    ///
    /// # Errors
    /// [`EmbeddingError`] if it has not `dimension` numbers, if one is not finite, if all are zero, or if its
    /// norm is beyond [`NORM_MIN`] or [`NORM_MAX`]: the caller's vector is wrong, and storing another one
    /// instead is no option.
    pub(crate) fn from_embedding(
        embedding: &Embedding,
        dimension: usize,
        precision: Precision,
    ) -> Result<Self, EmbeddingError> {
        let numbers = embedding.as_slice();
        check_numbers(numbers, dimension)?;
        let vector = match precision {
            Precision::Int8 => quantise(numbers),
            Precision::F32 => Self::F32(numbers.into()),
        };
        // Quantisation moves the norm a little. What is let in here must be let in when it is read back.
        vector.check(dimension, precision)?;
        Ok(vector)
    }

    /// Checks a vector that was read back, so that it may enter the arena.
    ///
    /// # Errors
    /// [`EmbeddingError`] if it is not of this dimension and precision, or has no usable norm: the store is
    /// opened with other settings than before, or its data is damaged.
    pub(crate) fn check(&self, dimension: usize, precision: Precision) -> Result<(), EmbeddingError> {
        if self.precision() != precision {
            return Err(EmbeddingError::Precision { expected: precision, got: self.precision() });
        }
        match self {
            Self::Int8 { codes, scale } => {
                check_dimension(codes.len(), dimension)?;
                // A scale that is negative or not finite gives such a norm, too.
                check_norm(f64::from(*scale) * f64::from(squared_codes(codes)).sqrt())
            }
            Self::F32(numbers) => check_numbers(numbers, dimension),
        }
    }

    /// The numbers, dequantised. Quantised again they give the same vector, bit for bit, so that an export
    /// that is imported changes nothing.
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        match self {
            Self::Int8 { codes, scale } => codes.iter().map(|code| f32::from(*code) * scale).collect(),
            Self::F32(numbers) => numbers.to_vec(),
        }
    }

    /// How many numbers there are.
    pub(crate) fn dimension(&self) -> usize {
        match self {
            Self::Int8 { codes, .. } => codes.len(),
            Self::F32(numbers) => numbers.len(),
        }
    }

    /// How each number is kept.
    pub(crate) fn precision(&self) -> Precision {
        match self {
            Self::Int8 { .. } => Precision::Int8,
            Self::F32(_) => Precision::F32,
        }
    }

    /// One over the norm of what a dot product of this vector multiplies: of the codes (the scale does not
    /// change a cosine), or of the numbers. 0 for a vector without a direction.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the norm of a checked vector is far inside the range of f32"
    )]
    fn inverse_norm(&self) -> f32 {
        let square = match self {
            Self::Int8 { codes, .. } => f64::from(squared_codes(codes)),
            Self::F32(numbers) => squared_numbers(numbers),
        };
        if square > 0.0 { (1.0 / square.sqrt()) as f32 } else { 0.0 }
    }
}

fn check_numbers(numbers: &[f32], dimension: usize) -> Result<(), EmbeddingError> {
    check_dimension(numbers.len(), dimension)?;
    let square = squared_numbers(numbers);
    // The square of a finite f32, and any sum of them, is finite in f64: only a sum that is not needs a
    // closer look.
    if !square.is_finite()
        && let Some(index) = numbers.iter().position(|number| !number.is_finite())
    {
        return Err(EmbeddingError::NotFinite { index, value: numbers[index] });
    }
    check_norm(square.sqrt())
}

fn check_dimension(got: usize, expected: usize) -> Result<(), EmbeddingError> {
    if got == expected { Ok(()) } else { Err(EmbeddingError::Dimension { expected, got }) }
}

fn check_norm(norm: f64) -> Result<(), EmbeddingError> {
    if norm == 0.0 {
        Err(EmbeddingError::Zero)
    } else if (NORM_MIN..=NORM_MAX).contains(&norm) {
        Ok(())
    } else {
        Err(EmbeddingError::Norm { norm })
    }
}

/// The dot product of the codes with themselves; up to `DIMENSION_MAX` of them it fits.
fn squared_codes(codes: &[i8]) -> i32 {
    static KERNEL: LazyLock<Kernel> = LazyLock::new(Kernel::detect);
    let mut square = [0];
    KERNEL.dot_i8_rows(codes, codes, &mut square);
    square[0]
}

/// The dot product of the numbers with themselves, added in eight sums, since one would wait for each
/// addition.
fn squared_numbers(numbers: &[f32]) -> f64 {
    let (blocks, rest) = numbers.as_chunks::<8>();
    let mut sums = [0.0_f64; 8];
    for block in blocks {
        for (sum, number) in sums.iter_mut().zip(block) {
            *sum += f64::from(*number) * f64::from(*number);
        }
    }
    let rest: f64 = rest.iter().map(|number| f64::from(*number) * f64::from(*number)).sum();
    sums.iter().sum::<f64>() + rest
}

/// Symmetric, one scale a vector, rounded half away from zero. The numbers were checked: the greatest is
/// neither zero nor so small that the scale would be subnormal.
fn quantise(numbers: &[f32]) -> StoredVector {
    let greatest = numbers.iter().fold(0.0_f32, |greatest, number| greatest.max(number.abs()));
    let scale = greatest / CODE_MAX;
    let codes = numbers.iter().map(|number| rounded(number / scale)).collect();
    StoredVector::Int8 { codes, scale }
}

/// `quotient.round()`, four times faster where the CPU has no instruction for that. The constant is the
/// greatest `f32` below a half: with a half itself, the number just below a half would be rounded up.
#[expect(
    clippy::cast_possible_truncation,
    reason = "to truncate is the point, and no quotient rounds to more than 127"
)]
fn rounded(quotient: f32) -> i8 {
    (quotient + 0.499_999_97_f32.copysign(quotient)) as i8
}
