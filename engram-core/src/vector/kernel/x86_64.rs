//! For x86-64: AVX2, AVX-512 with VNNI, and the instruction that counts bits.

use std::arch::x86_64::{
    __m256i, __m512i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_shuffle_epi32, _mm_storeu_si128,
    _mm256_add_epi8, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_si128, _mm256_cvtepi8_epi16,
    _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_or_si256, _mm256_sad_epu8,
    _mm256_set1_epi8, _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi64,
    _mm256_srli_epi16, _mm256_unpackhi_epi64, _mm256_unpacklo_epi64, _mm256_xor_si256, _mm512_add_epi32,
    _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_setzero_si512,
    _mm512_sub_epi32, _mm512_xor_si512,
};

use super::portable;

/// Widens to 16 bits and multiplies those: the instruction that multiplies bytes saturates.
#[target_feature(enable = "avx2")]
pub(super) fn rows_i8_avx2(query: &[i8], rows: &[i8], out: &mut [i32]) {
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

#[inline]
#[target_feature(enable = "avx2")]
fn widened_16(block: &[i8; 16]) -> __m256i {
    // SAFETY: the reference is to 16 readable bytes, and the load asks for no alignment.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(block.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_8(lanes: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b00_00_00_01>(two)))
}

/// The instruction multiplies unsigned by signed bytes, so it gets `row + 128`, which is `row` with its top
/// bit flipped. `128 * sum(query)` too much comes out, for every row the same.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn rows_i8_avx512vnni(query: &[i8], rows: &[i8], out: &mut [i32]) {
    let top_bits = _mm512_set1_epi8(i8::MIN);
    let (query_blocks, query_rest) = query.as_chunks::<64>();
    let query_rest = loaded_64(&zero_padded(query_rest));
    let mut excess = _mm512_dpbusd_epi32(_mm512_setzero_si512(), top_bits, query_rest);
    for q in query_blocks {
        excess = _mm512_dpbusd_epi32(excess, top_bits, loaded_64(q));
    }
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
        *out = _mm512_reduce_add_epi32(_mm512_sub_epi32(_mm512_add_epi32(even, odd), excess));
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn loaded_64(block: &[i8; 64]) -> __m512i {
    // SAFETY: the reference is to 64 readable bytes, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

fn zero_padded(rest: &[i8]) -> [i8; 64] {
    let mut block = [0; 64];
    block[..rest.len()].copy_from_slice(rest);
    block
}

#[target_feature(enable = "avx2")]
pub(super) fn rows_f32_avx2(query: &[f32], rows: &[f32], out: &mut [f32]) {
    portable::rows_f32(query, rows, out);
}

#[target_feature(enable = "avx512f")]
pub(super) fn rows_f32_avx512(query: &[f32], rows: &[f32], out: &mut [f32]) {
    portable::rows_f32(query, rows, out);
}

#[target_feature(enable = "popcnt")]
pub(super) fn rows_hamming_popcnt(query: &[u64], rows: &[u64], out: &mut [u32]) {
    portable::rows_hamming(query, rows, out);
}

/// For rows of `BLOCKS` blocks of four words: takes half the time of [`rows_hamming_popcnt`], since what the lanes of
/// wide registers hold is added up for four rows at once.
#[target_feature(enable = "avx2,popcnt")]
pub(super) fn rows_hamming_avx2<const BLOCKS: usize>(query: &[u64], rows: &[u64], out: &mut [u32]) {
    const { assert!(BLOCKS * 8 <= u8::MAX as usize, "the sum of a byte's bits in all blocks is kept in a byte") }
    let (query_blocks, _) = query.as_chunks::<4>();
    let Some(blocks) = query_blocks.first_chunk::<BLOCKS>() else { return };
    let (rows_of_blocks, _) = rows.as_chunks::<4>().0.as_chunks::<BLOCKS>();
    let (fours, rest) = rows_of_blocks.as_chunks::<4>();
    let (out_fours, out_rest) = out.as_chunks_mut::<4>();
    for ([a, b, c, d], out) in fours.iter().zip(out_fours) {
        let (a, b) = (differing_256(blocks, a), differing_256(blocks, b));
        let (c, d) = (differing_256(blocks, c), differing_256(blocks, d));
        // The sums are in the lower halves of the lanes.
        let ab = _mm256_or_si256(a, _mm256_slli_epi64::<32>(b));
        let cd = _mm256_or_si256(c, _mm256_slli_epi64::<32>(d));
        let sums = _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
        let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        // SAFETY: the reference is to 16 writable bytes, and the store asks for no alignment.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) };
    }
    portable::rows_hamming(query, rest.as_flattened().as_flattened(), out_rest);
}

/// How many bits differ, in four sums, one in each lane of 64 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn differing_256<const BLOCKS: usize>(query: &[[u64; 4]; BLOCKS], row: &[[u64; 4]; BLOCKS]) -> __m256i {
    let (query_threes, query_rest) = query.as_chunks::<3>();
    let (row_threes, row_rest) = row.as_chunks::<3>();
    let mut sums = _mm256_setzero_si256();
    for (q, r) in query_threes.iter().zip(row_threes) {
        let a = differing_bits(&q[0], &r[0]);
        let b = differing_bits(&q[1], &r[1]);
        let c = differing_bits(&q[2], &r[2]);
        // Added bit by bit, three registers become two: one of ones and one of twos.
        let ab = _mm256_xor_si256(a, b);
        let ones = bits_of_bytes(_mm256_xor_si256(ab, c));
        let twos = bits_of_bytes(_mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(ab, c)));
        sums = _mm256_add_epi8(sums, _mm256_add_epi8(ones, _mm256_add_epi8(twos, twos)));
    }
    for (q, r) in query_rest.iter().zip(row_rest) {
        sums = _mm256_add_epi8(sums, bits_of_bytes(differing_bits(q, r)));
    }
    _mm256_sad_epu8(sums, _mm256_setzero_si256())
}

#[inline]
#[target_feature(enable = "avx2")]
fn differing_bits(a: &[u64; 4], b: &[u64; 4]) -> __m256i {
    // SAFETY: the references are to 32 readable bytes each, and the loads ask for no alignment.
    let (a, b) = unsafe { (_mm256_loadu_si256(a.as_ptr().cast()), _mm256_loadu_si256(b.as_ptr().cast())) };
    _mm256_xor_si256(a, b)
}

/// How many bits of each byte are set: looked up for its halves.
#[inline]
#[target_feature(enable = "avx2")]
fn bits_of_bytes(bytes: __m256i) -> __m256i {
    let bits_of = _mm256_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    );
    let low = _mm256_set1_epi8(0x0f);
    let high_halves = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low);
    let low_halves = _mm256_shuffle_epi8(bits_of, _mm256_and_si256(bytes, low));
    _mm256_add_epi8(low_halves, _mm256_shuffle_epi8(bits_of, high_halves))
}

#[target_feature(enable = "avx2")]
pub(super) fn signs_avx2(codes: &[i8], inverse_norm: f32, mean: &[f32], words: &mut [u64]) {
    portable::signs(codes, inverse_norm, mean, words);
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn signs_avx512(codes: &[i8], inverse_norm: f32, mean: &[f32], words: &mut [u64]) {
    portable::signs(codes, inverse_norm, mean, words);
}
