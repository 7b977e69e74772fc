//! What is computed for every row: dot products and Hamming distances of one query and many rows, and the signs of
//! a row, for the CPU at hand.
//!
//! The int8 kernels are exact: nothing saturates, and the sums fit an `i32` up to [`DIMENSION_MAX`] numbers.
//! The f32 kernels add in one fixed order, without fused multiply-add, so that every machine gives the same
//! bits.
#![expect(
    unsafe_code,
    reason = "a function compiled for a CPU feature may only be called where the feature was detected, and \
              vector registers are loaded through pointers"
)]

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use crate::embedding::DIMENSION_MAX;

/// The kernels of one instruction set. A value exists only if this CPU has the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel(Isa);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isa {
    Portable,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Popcnt,
    /// With `popcnt`.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// With AVX-512 F and BW, and `popcnt`.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Kernel {
    /// The fastest kernels of this CPU.
    pub(crate) fn detect() -> Self {
        Self::supported().into_iter().next_back().unwrap_or(Self(Isa::Portable))
    }

    /// All kernels of this CPU, the fastest last.
    pub(crate) fn supported() -> Vec<Self> {
        let mut kernels = vec![Self(Isa::Portable)];
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            kernels.push(Self(Isa::Neon));
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("popcnt") {
            kernels.push(Self(Isa::Popcnt));
            if is_x86_feature_detected!("avx2") {
                kernels.push(Self(Isa::Avx2));
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vnni")
            {
                kernels.push(Self(Isa::Avx512Vnni));
            }
        }
        kernels
    }

    /// `out[i]` becomes the exact dot product of `query` and row `i`. `rows` holds `out.len()` rows of
    /// `query.len()` codes, one after the other; a query has at most [`DIMENSION_MAX`] codes.
    pub(crate) fn dot_i8_rows(self, query: &[i8], rows: &[i8], out: &mut [i32]) {
        assert_shape(query.len(), rows.len(), out.len());
        match self.0 {
            Isa::Portable => portable::rows_i8(query, rows, out),
            // SAFETY: a `Kernel` of this instruction set is made only after `supported` has found it.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => unsafe { aarch64::rows_i8_neon(query, rows, out) },
            #[cfg(target_arch = "x86_64")]
            Isa::Popcnt => portable::rows_i8(query, rows, out),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { x86_64::rows_i8_avx2(query, rows, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { x86_64::rows_i8_avx512vnni(query, rows, out) },
        }
    }

    /// `out[i]` becomes the dot product of `query` and row `i`, with the same bits on every CPU. `rows` holds
    /// `out.len()` rows of `query.len()` numbers, one after the other; a query has at most [`DIMENSION_MAX`]
    /// numbers.
    pub(crate) fn dot_f32_rows(self, query: &[f32], rows: &[f32], out: &mut [f32]) {
        assert_shape(query.len(), rows.len(), out.len());
        match self.0 {
            Isa::Portable => portable::rows_f32(query, rows, out),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => portable::rows_f32(query, rows, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Popcnt => portable::rows_f32(query, rows, out),
            // SAFETY: a `Kernel` of this instruction set is made only after `supported` has found it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { x86_64::rows_f32_avx2(query, rows, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { x86_64::rows_f32_avx512(query, rows, out) },
        }
    }

    /// `out[i]` becomes how many bits of `query` and row `i` differ. `rows` holds `out.len()` rows of
    /// `query.len()` words, one after the other.
    pub(crate) fn hamming_rows(self, query: &[u64], rows: &[u64], out: &mut [u32]) {
        assert_shape(query.len(), rows.len(), out.len());
        match self.0 {
            Isa::Portable => portable::rows_hamming(query, rows, out),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => portable::rows_hamming(query, rows, out),
            // SAFETY: a `Kernel` of these instruction sets is made only after `supported` has found `popcnt`, and of the
            // latter two after it has found `avx2`.
            #[cfg(target_arch = "x86_64")]
            Isa::Popcnt | Isa::Avx2 | Isa::Avx512Vnni => unsafe {
                match (self.0, query.len()) {
                    // What embeddings are often long: 768, 1024, 1536 and 3072 numbers.
                    (Isa::Avx2 | Isa::Avx512Vnni, 12) => x86_64::rows_hamming_avx2::<3>(query, rows, out),
                    (Isa::Avx2 | Isa::Avx512Vnni, 16) => x86_64::rows_hamming_avx2::<4>(query, rows, out),
                    (Isa::Avx2 | Isa::Avx512Vnni, 24) => x86_64::rows_hamming_avx2::<6>(query, rows, out),
                    (Isa::Avx2 | Isa::Avx512Vnni, 48) => x86_64::rows_hamming_avx2::<12>(query, rows, out),
                    _ => x86_64::rows_hamming_popcnt(query, rows, out),
                }
            },
        }
    }

    /// Bit `i` of `words`, from the lowest of the first on, becomes 1 where `codes[i] * inverse_norm` is above
    /// `mean[i]`; the bits after the last code become 0.
    pub(crate) fn signs(self, codes: &[i8], inverse_norm: f32, mean: &[f32], words: &mut [u64]) {
        assert_eq!(
            (codes.len(), codes.len().div_ceil(64)),
            (mean.len(), words.len()),
            "signs of another shape"
        );
        match self.0 {
            Isa::Portable => portable::signs(codes, inverse_norm, mean, words),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => portable::signs(codes, inverse_norm, mean, words),
            #[cfg(target_arch = "x86_64")]
            Isa::Popcnt => portable::signs(codes, inverse_norm, mean, words),
            // SAFETY: a `Kernel` of this instruction set is made only after `supported` has found it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { x86_64::signs_avx2(codes, inverse_norm, mean, words) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { x86_64::signs_avx512(codes, inverse_norm, mean, words) },
        }
    }
}

fn assert_shape(width: usize, numbers: usize, rows: usize) {
    assert!((1..=DIMENSION_MAX).contains(&width), "a query of {width} numbers");
    assert_eq!(numbers, width * rows, "{rows} rows of {width} numbers");
}
