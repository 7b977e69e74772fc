//! A vector in a payload, raw: number by number bincode takes twenty times as long.

use super::{LoggedVector, PayloadError};
use crate::vector::StoredVector;

const VECTOR_NONE: u8 = 0;
pub(super) const VECTOR_INT8: u8 = 1;
pub(super) const VECTOR_F32: u8 = 2;
/// Of a generation after the first, which comes before the kind.
const VECTOR_OF_GENERATION: u8 = 3;

pub(super) fn encode_vector(
    payload: &mut Vec<u8>,
    vector: Option<&LoggedVector>,
) -> Result<(), PayloadError> {
    let Some(LoggedVector { generation, vector }) = vector else {
        payload.push(VECTOR_NONE);
        return Ok(());
    };
    if *generation > 0 {
        payload.push(VECTOR_OF_GENERATION);
        payload.extend_from_slice(&generation.to_le_bytes());
    }
    let dimension = u32::try_from(vector.dimension()).map_err(|_| "too many dimensions".to_owned())?;
    match vector {
        StoredVector::Int8 { codes, scale } => {
            payload.push(VECTOR_INT8);
            payload.extend_from_slice(&dimension.to_le_bytes());
            payload.extend_from_slice(&scale.to_le_bytes());
            payload.extend(codes.iter().map(|code| code.cast_unsigned()));
        }
        StoredVector::F32(numbers) => {
            payload.push(VECTOR_F32);
            payload.extend_from_slice(&dimension.to_le_bytes());
            payload.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
    }
    Ok(())
}

pub(super) fn decode_vector(bytes: &[u8]) -> Result<Option<LoggedVector>, PayloadError> {
    match bytes {
        [VECTOR_NONE] => Ok(None),
        [VECTOR_OF_GENERATION, rest @ ..] => {
            let (generation, rest) = rest.split_first_chunk().ok_or("expected a generation")?;
            let generation = u32::from_le_bytes(*generation);
            Ok(Some(LoggedVector { generation, vector: decode_numbers(rest)? }))
        }
        _ => Ok(Some(LoggedVector { generation: 0, vector: decode_numbers(bytes)? })),
    }
}

fn decode_numbers(bytes: &[u8]) -> Result<StoredVector, PayloadError> {
    let (tag, rest) = bytes.split_first().ok_or("expected a vector or its absence")?;
    let (dimension, rest) = rest.split_first_chunk().ok_or("expected a dimension")?;
    let dimension = u32::from_le_bytes(*dimension) as usize;
    let wrong_len = || format!("expected {dimension} numbers, got {} bytes", rest.len());
    match *tag {
        VECTOR_INT8 => {
            let (scale, codes) = rest.split_first_chunk().ok_or_else(wrong_len)?;
            if codes.len() != dimension {
                return Err(wrong_len());
            }
            let codes = codes.iter().map(|code| code.cast_signed()).collect();
            Ok(StoredVector::Int8 { codes, scale: f32::from_le_bytes(*scale) })
        }
        VECTOR_F32 => {
            let (numbers, []) = rest.as_chunks() else { return Err(wrong_len()) };
            if numbers.len() != dimension {
                return Err(wrong_len());
            }
            Ok(StoredVector::F32(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()))
        }
        other => Err(format!("expected a vector of kind {VECTOR_INT8} or {VECTOR_F32}, got {other}")),
    }
}
