//! Embeddings as callers give them, before the store quantises them.

use std::fmt;
use std::str::FromStr;

/// The most numbers an embedding may have. At this length the dot product of two rows of int8 codes still
/// fits an `i32`.
pub const DIMENSION_MAX: usize = 65_536;

/// Whether a store can have embeddings of this length; if not, what was expected and what came.
pub(crate) fn check_dimension(dimension: usize) -> Result<(), String> {
    if (1..=DIMENSION_MAX).contains(&dimension) {
        return Ok(());
    }
    Err(format!("expected a dimension of 1 to {DIMENSION_MAX}, got {dimension}"))
}

/// The smallest length (Euclidean norm) of an embedding.
pub const NORM_MIN: f64 = 1e-15;

/// The greatest length (Euclidean norm) of an embedding. Between the two bounds no product of two embeddings
/// leaves the range in which `f32` is precise.
pub const NORM_MAX: f64 = 1e15;

/// What a text means, as a point in the space of one embedding model. Only its direction counts: memories are
/// compared by cosine, so it need not be normalised.
///
/// Its length, and that its numbers are finite, are checked when it is stored or searched for, against the
/// store.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding(Vec<f32>);

impl Embedding {
    /// The numbers.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// How many numbers there are.
    pub fn dimension(&self) -> usize {
        self.0.len()
    }

    /// The numbers, without a copy.
    pub fn into_vec(self) -> Vec<f32> {
        self.0
    }
}

impl<const N: usize> From<[f32; N]> for Embedding {
    fn from(numbers: [f32; N]) -> Self {
        Self(numbers.to_vec())
    }
}

impl From<Vec<f32>> for Embedding {
    fn from(numbers: Vec<f32>) -> Self {
        Self(numbers)
    }
}

impl From<&[f32]> for Embedding {
    fn from(numbers: &[f32]) -> Self {
        Self(numbers.to_vec())
    }
}

/// How a store keeps each number of an embedding, on disk and in memory alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// A signed byte a number and one scale a vector: a quarter of the space, four times the speed, and a
    /// cosine that is off by about 0.0004.
    #[default]
    Int8,
    /// The numbers as they came.
    F32,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Int8 => "int8",
            Self::F32 => "f32",
        })
    }
}

impl FromStr for Precision {
    type Err = InvalidPrecision;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "int8" => Ok(Self::Int8),
            "f32" => Ok(Self::F32),
            _ => Err(InvalidPrecision { got: name.to_owned() }),
        }
    }
}

/// A name that is no precision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the precision \"int8\" or \"f32\", got {got:?}")]
pub struct InvalidPrecision {
    /// The name that was refused.
    pub got: String,
}

/// Why a vector cannot be stored or searched for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddingError {
    /// The vector has another length than those of the store: it comes from another embedding model.
    #[error("expected an embedding of {expected} numbers, got {got}")]
    Dimension {
        /// How many numbers a vector of the store has.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// A number is NaN or infinite.
    #[error("expected an embedding of finite numbers, got {value} at index {index}")]
    NotFinite {
        /// Where the first such number is, from 0.
        index: usize,
        /// The number.
        value: f32,
    },
    /// All numbers are zero, which points in no direction.
    #[error("expected an embedding that points somewhere, got nothing but zeros")]
    Zero,
    /// The vector is too short or too long for its direction to survive arithmetic in `f32`.
    #[error("expected an embedding with a norm between {NORM_MIN:e} and {NORM_MAX:e}, got {norm:e}")]
    Norm {
        /// The Euclidean norm that came.
        norm: f64,
    },
    /// A vector was stored in another precision than the store is opened with.
    #[error("expected a vector stored as {expected}, got one stored as {got}")]
    Precision {
        /// The precision of the store.
        expected: Precision,
        /// The precision that came.
        got: Precision,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(embedding: impl Into<Embedding>) -> Embedding {
        embedding.into()
    }

    #[test]
    fn literals_vectors_and_slices_become_embeddings() {
        assert_eq!(take([0.5; 768]).dimension(), 768);
        assert_eq!(take([1.0, 2.0]), take(vec![1.0, 2.0]));
        assert_eq!(take([1.0, 2.0]), take([1.0, 2.0].as_slice()));
        assert_eq!(take(take([1.0])).as_slice(), [1.0]);
        assert_eq!(take([1.0, 2.0]).into_vec(), [1.0, 2.0]);
    }

    #[test]
    fn precision_is_int8_unless_said_and_its_name_reads_back() {
        assert_eq!(Precision::default(), Precision::Int8);
        for precision in [Precision::Int8, Precision::F32] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        let error = "Int8".parse::<Precision>().unwrap_err();
        assert_eq!(error.to_string(), r#"expected the precision "int8" or "f32", got "Int8""#);
    }

    #[test]
    fn errors_say_what_was_expected_and_what_came() {
        let rows = [
            (
                EmbeddingError::Dimension { expected: 768, got: 384 },
                "expected an embedding of 768 numbers, got 384",
            ),
            (
                EmbeddingError::NotFinite { index: 3, value: f32::NAN },
                "expected an embedding of finite numbers, got NaN at index 3",
            ),
            (EmbeddingError::Zero, "expected an embedding that points somewhere, got nothing but zeros"),
            (
                EmbeddingError::Norm { norm: 2e20 },
                "expected an embedding with a norm between 1e-15 and 1e15, got 2e20",
            ),
            (
                EmbeddingError::Precision { expected: Precision::Int8, got: Precision::F32 },
                "expected a vector stored as int8, got one stored as f32",
            ),
        ];
        for (error, message) in rows {
            assert_eq!(error.to_string(), message);
        }
    }
}
