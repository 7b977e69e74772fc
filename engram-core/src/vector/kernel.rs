//! Dot products of one query with many rows, for the CPU at hand.
//!
//! The int8 kernels are exact: nothing saturates, and the sums fit an `i32` up to [`DIMENSION_MAX`] numbers.
//! The f32 kernels add in one fixed order, without fused multiply-add, so that every machine gives the same
//! bits.
//!
//! There is no kernel for NEON: it belongs to the baseline of aarch64, so the compiler vectorises the
//! portable one.
#![expect(
    unsafe_code,
    reason = "a function compiled for a CPU feature may only be called where the feature was detected, and \
              vector registers are loaded through pointers"
)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256i, __m512i, _mm_loadu_si128, _mm256_add_epi32, _mm256_castsi256_si128, _mm256_cvtepi8_epi16,
    _mm256_extracti128_si256, _mm256_madd_epi16, _mm256_setzero_si256, _mm512_add_epi32, _mm512_dpbusd_epi32,
    _mm512_loadu_si512, _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_xor_si512,
};

use crate::embedding::DIMENSION_MAX;

/// The kernels of one instruction set. A value exists only if this CPU has the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel(Isa);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Kernel {
    /// The fastest kernels of this CPU.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vnni")
            {
                return Self(Isa::Avx512Vnni);
            }
            if is_x86_feature_detected!("avx2") {
                return Self(Isa::Avx2);
            }
        }
        Self(Isa::Portable)
    }

    /// All kernels of this CPU, for the tests that compare them.
    #[cfg(test)]
    pub(crate) fn supported() -> Vec<Self> {
        let mut kernels = vec![Self(Isa::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                kernels.push(Self(Isa::Avx2));
            }
            if Self::detect() == Self(Isa::Avx512Vnni) {
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
            Isa::Portable => rows_i8_portable(query, rows, out),
            // SAFETY: a `Kernel` of this instruction set is made only after `detect` has found it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { rows_i8_avx2(query, rows, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { rows_i8_avx512vnni(query, rows, out) },
        }
    }

    /// `out[i]` becomes the dot product of `query` and row `i`, with the same bits on every CPU. `rows` holds
    /// `out.len()` rows of `query.len()` numbers, one after the other; a query has at most [`DIMENSION_MAX`]
    /// numbers.
    pub(crate) fn dot_f32_rows(self, query: &[f32], rows: &[f32], out: &mut [f32]) {
        assert_shape(query.len(), rows.len(), out.len());
        match self.0 {
            Isa::Portable => rows_f32(query, rows, out),
            // SAFETY: a `Kernel` of this instruction set is made only after `detect` has found it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { rows_f32_avx2(query, rows, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { rows_f32_avx512(query, rows, out) },
        }
    }
}

fn assert_shape(width: usize, numbers: usize, rows: usize) {
    assert!((1..=DIMENSION_MAX).contains(&width), "a query of {width} numbers");
    assert_eq!(numbers, width * rows, "{rows} rows of {width} numbers");
}

fn rows_i8_portable(query: &[i8], rows: &[i8], out: &mut [i32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        *out = query.iter().zip(row).map(|(q, r)| i32::from(*q) * i32::from(*r)).sum();
    }
}

/// Widens to 16 bits and multiplies those: the instruction that multiplies bytes saturates.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn rows_i8_avx2(query: &[i8], rows: &[i8], out: &mut [i32]) {
    let (query_blocks, query_rest) = query.as_chunks::<16>();
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let (row_blocks, row_rest) = row.as_chunks::<16>();
        let mut sums = _mm256_setzero_si256();
        for (q, r) in query_blocks.iter().zip(row_blocks) {
            sums = _mm256_add_epi32(sums, _mm256_madd_epi16(widened_16(q), widened_16(r)));
        }
        let rest: i32 = query_rest.iter().zip(row_rest).map(|(q, r)| i32::from(*q) * i32::from(*r)).sum();
        *out = sum_8(sums) + rest;
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn widened_16(block: &[i8; 16]) -> __m256i {
    // SAFETY: the reference is to 16 readable bytes, and the load asks for no alignment.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(block.as_ptr().cast()) })
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn sum_8(lanes: __m256i) -> i32 {
    use std::arch::x86_64::{_mm_add_epi32, _mm_cvtsi128_si32, _mm_shuffle_epi32};
    let four = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b00_00_00_01>(two)))
}

/// The instruction multiplies unsigned by signed bytes, so it gets `row + 128`, which is `row` with its top
/// bit flipped. `128 * sum(query)` too much comes out, for every row the same.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn rows_i8_avx512vnni(query: &[i8], rows: &[i8], out: &mut [i32]) {
    let top_bits = _mm512_set1_epi8(i8::MIN);
    let excess = 128 * query.iter().map(|q| i32::from(*q)).sum::<i32>();
    let (query_blocks, query_rest) = query.as_chunks::<64>();
    let query_rest = loaded_64(&zero_padded(query_rest));
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let (row_blocks, row_rest) = row.as_chunks::<64>();
        // Two sums, because one instruction would wait for the sum of the one before.
        let mut even = _mm512_setzero_si512();
        let mut odd = _mm512_setzero_si512();
        let (query_pairs, query_last) = query_blocks.as_chunks::<2>();
        let (row_pairs, row_last) = row_blocks.as_chunks::<2>();
        for ([q0, q1], [r0, r1]) in query_pairs.iter().zip(row_pairs) {
            even = _mm512_dpbusd_epi32(even, _mm512_xor_si512(loaded_64(r0), top_bits), loaded_64(q0));
            odd = _mm512_dpbusd_epi32(odd, _mm512_xor_si512(loaded_64(r1), top_bits), loaded_64(q1));
        }
        for (q, r) in query_last.iter().zip(row_last) {
            even = _mm512_dpbusd_epi32(even, _mm512_xor_si512(loaded_64(r), top_bits), loaded_64(q));
        }
        if !row_rest.is_empty() {
            let rest = _mm512_xor_si512(loaded_64(&zero_padded(row_rest)), top_bits);
            odd = _mm512_dpbusd_epi32(odd, rest, query_rest);
        }
        *out = _mm512_reduce_add_epi32(_mm512_add_epi32(even, odd)) - excess;
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn loaded_64(block: &[i8; 64]) -> __m512i {
    // SAFETY: the reference is to 64 readable bytes, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[cfg(target_arch = "x86_64")]
fn zero_padded(rest: &[i8]) -> [i8; 64] {
    let mut block = [0; 64];
    block[..rest.len()].copy_from_slice(rest);
    block
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn rows_f32_avx2(query: &[f32], rows: &[f32], out: &mut [f32]) {
    rows_f32(query, rows, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn rows_f32_avx512(query: &[f32], rows: &[f32], out: &mut [f32]) {
    rows_f32(query, rows, out);
}

#[expect(
    clippy::inline_always,
    reason = "it must be compiled anew, with the CPU features of each of its callers"
)]
#[inline(always)]
fn rows_f32(query: &[f32], rows: &[f32], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        *out = dot_f32(query, row);
    }
}

/// Number `i` goes into sum `i % 32`, and the sums are folded in halves: an order that wide registers keep.
#[inline(always)]
fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 32;
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += a * b;
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}
