//! Plain loops that the compiler vectorises, and that are compiled anew with the CPU features of their callers.
#![expect(
    clippy::inline_always,
    reason = "a loop must be compiled anew, with the CPU features of each of its callers"
)]

pub(super) fn rows_i8(query: &[i8], rows: &[i8], out: &mut [i32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        *out = query.iter().zip(row).map(|(q, r)| i32::from(*q) * i32::from(*r)).sum();
    }
}

#[inline(always)]
pub(super) fn rows_f32(query: &[f32], rows: &[f32], out: &mut [f32]) {
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

#[inline(always)]
pub(super) fn rows_hamming(query: &[u64], rows: &[u64], out: &mut [u32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        *out = query.iter().zip(row).map(|(q, r)| (q ^ r).count_ones()).sum();
    }
}

#[inline(always)]
pub(super) fn signs(codes: &[i8], inverse_norm: f32, mean: &[f32], words: &mut [u64]) {
    for ((codes, mean), word) in codes.chunks(64).zip(mean.chunks(64)).zip(words) {
        let mut above = [0_u8; 64];
        for ((above, code), mean) in above.iter_mut().zip(codes).zip(mean) {
            *above = u8::from(f32::from(*code) * inverse_norm > *mean);
        }
        *word = 0;
        for (eight, shift) in above.as_chunks::<8>().0.iter().zip((0_u32..).step_by(8)) {
            // The factor gathers the lowest bit of each byte in the topmost byte, the first as its lowest.
            let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
            *word |= bits << shift;
        }
    }
}
