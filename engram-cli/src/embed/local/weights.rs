//! The numbers of a model, as `model.safetensors` has them.

use ndarray::{Array1, Array2};
use safetensors::{Dtype, SafeTensors};

use super::Unusable;

/// The tensors of a file. Some files put the name of the whole before each name.
pub(super) struct Weights<'a> {
    tensors: SafeTensors<'a>,
    prefix: &'static str,
}

impl<'a> Weights<'a> {
    pub(super) fn read(file: &'a [u8]) -> Result<Self, Unusable> {
        let tensors = SafeTensors::deserialize(file)
            .map_err(|error| Unusable(format!("model.safetensors: {error}")))?;
        let has_prefix = tensors.names().iter().any(|name| name.starts_with("bert."));
        Ok(Self { tensors, prefix: if has_prefix { "bert." } else { "" } })
    }

    /// A vector of `size` numbers.
    pub(super) fn vector(&self, name: &str, size: usize) -> Result<Array1<f32>, Unusable> {
        let (shape, numbers) = self.numbers(name)?;
        if shape != [size] {
            return Err(Unusable(format!("expected {name} of {size} numbers, got {shape:?}")));
        }
        Ok(Array1::from_vec(numbers))
    }

    /// A matrix of `columns` columns.
    pub(super) fn matrix(&self, name: &str, columns: usize) -> Result<Array2<f32>, Unusable> {
        let (shape, numbers) = self.numbers(name)?;
        let wrong = || Unusable(format!("expected {name} of {columns} columns, got {shape:?}"));
        match *shape {
            [rows, got] if got == columns => {
                Array2::from_shape_vec((rows, columns), numbers).map_err(|_| wrong())
            }
            _ => Err(wrong()),
        }
    }

    fn numbers(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), Unusable> {
        let full = format!("{}{name}", self.prefix);
        let info = self.tensors.tensor(&full).map_err(|error| Unusable(format!("{full}: {error}")))?;
        let bytes = info.data();
        let numbers = match info.dtype() {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
            Dtype::F16 => halves(bytes).map(f16_to_f32).collect(),
            Dtype::BF16 => halves(bytes).map(|bits| f32::from_bits(u32::from(bits) << 16)).collect(),
            other => return Err(Unusable(format!("expected {full} as F32, F16 or BF16, got {other:?}"))),
        };
        Ok((info.shape().to_vec(), numbers))
    }
}

fn halves(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.as_chunks().0.iter().map(|&bytes| u16::from_le_bytes(bytes))
}

/// A number of IEEE 754 half precision: 1 bit of sign, 5 of exponent, 10 of fraction.
fn f16_to_f32(bits: u16) -> f32 {
    let (exponent, fraction) = ((bits >> 10) & 0x1f, f32::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2f32.powi(-24),
        0x1f if fraction == 0.0 => f32::INFINITY,
        0x1f => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(i32::from(exponent) - 25),
    };
    if bits >> 15 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_read() {
        for (bits, number) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65_504.0),
        ] {
            assert_eq!(f16_to_f32(bits).to_bits(), f32::to_bits(number));
        }
        assert!(f16_to_f32(0x7e00).is_nan() && f16_to_f32(0xfc00) == f32::NEG_INFINITY);
    }
}
