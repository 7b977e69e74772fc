//! For aarch64, whose baseline has NEON. The sums of `f32`, the counting of bits and the signs are left to the compiler, which
//! vectorises the portable loops there.

use std::arch::aarch64::{
    int8x8_t, vaddq_s32, vaddvq_s32, vdupq_n_s32, vget_high_s8, vget_low_s8, vld1q_s8, vmull_s8, vpadalq_s16,
};

/// Two codes multiplied fit 16 bits, and pairs of products are added into sums of 32 bits.
#[target_feature(enable = "neon")]
pub(super) fn rows_i8_neon(query: &[i8], rows: &[i8], out: &mut [i32]) {
    let (query_blocks, query_rest) = query.as_chunks::<16>();
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let (row_blocks, row_rest) = row.as_chunks::<16>();
        let mut low = vdupq_n_s32(0);
        let mut high = vdupq_n_s32(0);
        for (q, r) in query_blocks.iter().zip(row_blocks) {
            let ([q_low, q_high], [r_low, r_high]) = (halves(q), halves(r));
            low = vpadalq_s16(low, vmull_s8(q_low, r_low));
            high = vpadalq_s16(high, vmull_s8(q_high, r_high));
        }
        let rest: i32 = query_rest.iter().zip(row_rest).map(|(q, r)| i32::from(*q) * i32::from(*r)).sum();
        *out = vaddvq_s32(vaddq_s32(low, high)) + rest;
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn halves(block: &[i8; 16]) -> [int8x8_t; 2] {
    // SAFETY: the reference is to 16 readable bytes, and the load asks for no alignment.
    let both = unsafe { vld1q_s8(block.as_ptr()) };
    [vget_low_s8(both), vget_high_s8(both)]
}
