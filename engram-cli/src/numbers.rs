//! Vectors as base64 of little-endian `f32`, as the `OpenAI` convention has them.

use base64::{
    DecodeError, Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// The standard alphabet. Padding may be left out: some clients do.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a text is no vector.
pub(crate) enum NotNumbers {
    Base64(DecodeError),
    /// So many bytes are not four each.
    Bytes(usize),
}

pub(crate) fn encode(numbers: &[f32]) -> String {
    BASE64.encode(numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
}

pub(crate) fn decode(text: &str) -> Result<Vec<f32>, NotNumbers> {
    let bytes = BASE64.decode(text).map_err(NotNumbers::Base64)?;
    let (chunks, []) = bytes.as_chunks() else { return Err(NotNumbers::Bytes(bytes.len())) };
    Ok(chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect())
}
