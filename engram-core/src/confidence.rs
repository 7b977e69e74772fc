//! How sure the writer of a memory was.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How sure the writer of a memory was: a number between 0 (no confidence) and 1 (certain), both included.
///
/// ```
/// # use engram_core::Confidence;
/// assert_eq!(Confidence::new(0.9)?, Confidence::HIGH);
/// assert!(Confidence::new(1.5).is_err());
/// # Ok::<(), engram_core::InvalidConfidence>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f32", into = "f32")]
pub struct Confidence(f32);

impl Confidence {
    /// 1.0, the default.
    pub const CERTAIN: Self = Self(1.0);
    /// 0.9.
    pub const HIGH: Self = Self(0.9);
    /// 0.5.
    pub const MEDIUM: Self = Self(0.5);
    /// 0.1.
    pub const LOW: Self = Self(0.1);
    /// 0.0.
    pub const NONE: Self = Self(0.0);

    /// A confidence of `value`. Minus zero becomes zero, so that equal confidences have equal bytes.
    ///
    /// # Errors
    /// [`InvalidConfidence`] if `value` is NaN or outside `0.0..=1.0`: nothing is clamped, the caller
    /// corrects it.
    pub fn new(value: f32) -> Result<Self, InvalidConfidence> {
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value + 0.0))
        } else {
            Err(InvalidConfidence { got: value })
        }
    }

    /// The number, between 0.0 and 1.0.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl Default for Confidence {
    fn default() -> Self {
        Self::CERTAIN
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<f32> for Confidence {
    type Error = InvalidConfidence;

    fn try_from(value: f32) -> Result<Self, Self::Error> {
        Self::new(value)
    }
}

impl From<Confidence> for f32 {
    fn from(confidence: Confidence) -> Self {
        confidence.get()
    }
}

/// A number that is no confidence.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("expected a confidence between 0 and 1, got {got}")]
pub struct InvalidConfidence {
    /// The number that was refused.
    pub got: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_the_range_are_confidences() {
        for value in [0.0, f32::MIN_POSITIVE, 0.5, 1.0] {
            assert_eq!(Confidence::new(value).unwrap().get().to_bits(), value.to_bits());
        }
    }

    #[test]
    fn what_is_outside_the_range_is_refused_and_named() {
        let above = 1.0 + f32::EPSILON;
        for value in [-f32::MIN_POSITIVE, -1.0, above, 2.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let message = Confidence::new(value).unwrap_err().to_string();
            assert_eq!(message, format!("expected a confidence between 0 and 1, got {value}"));
        }
    }

    #[test]
    fn minus_zero_is_stored_as_zero() {
        assert_eq!(Confidence::new(-0.0).unwrap().get().to_bits(), 0);
    }

    #[test]
    fn named_confidences_are_ordered_and_the_default_is_certain() {
        let named =
            [Confidence::NONE, Confidence::LOW, Confidence::MEDIUM, Confidence::HIGH, Confidence::CERTAIN];
        assert!(named.is_sorted());
        assert!(named.iter().all(|confidence| Confidence::new(confidence.get()) == Ok(*confidence)));
        assert_eq!(Confidence::default(), Confidence::CERTAIN);
        assert_eq!(format!("{} {:.2}", Confidence::HIGH, Confidence::LOW), "0.9 0.10");
    }
}
