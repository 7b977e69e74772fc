//! About how much memory a memory takes: what a limit is held against.
//!
//! An estimate by what is stored, not a measurement of the process, since an allocator does not give back what is
//! forgotten. `docs/performance.md` has it beside what the system says.

use crate::{MetaValue, Metadata, Precision};

/// Of each memory: itself, its id, its places among the memories by id, by time and by text.
const EACH: usize = 320;

/// Of each key of metadata: its place in the map, and its value.
const EACH_KEY: usize = 64;

/// Bytes of the index of words for a byte of text, in fourths.
const WORDS_FOURTHS: usize = 11;

/// Of each vector, beside its numbers: its norm, its scale, its item, its places in the lists of the index.
const EACH_VECTOR: usize = 64;

/// Of each vector that is made ahead, beside its numbers: itself, and its places in two tables.
const EACH_STAGED: usize = 128;

/// Bytes, of a vector that is made ahead.
pub(crate) fn of_staged(dimension: usize, precision: Precision) -> u64 {
    let numbers = match precision {
        Precision::Int8 => dimension,
        Precision::F32 => 4 * dimension,
    };
    (EACH_STAGED + numbers) as u64
}

/// Bytes, of a memory of these.
pub(crate) fn of(
    id: &str,
    content: &str,
    metadata: &Metadata,
    has_embedding: bool,
    dimension: usize,
    precision: Precision,
) -> u64 {
    let value_bytes = |value: &MetaValue| match value {
        MetaValue::Text(text) => text.len(),
        MetaValue::Integer(_) | MetaValue::Number(_) | MetaValue::Boolean(_) => 0,
    };
    let metadata: usize = metadata.iter().map(|(key, value)| EACH_KEY + key.len() + value_bytes(value)).sum();
    let vector = match precision {
        _ if !has_embedding => 0,
        // With one bit a number for its signs, and once more for those in the lists.
        Precision::Int8 => EACH_VECTOR + dimension + dimension / 4,
        Precision::F32 => EACH_VECTOR + 4 * dimension,
    };
    (EACH + id.len() + content.len() + content.len() * WORDS_FOURTHS / 4 + metadata + vector) as u64
}
