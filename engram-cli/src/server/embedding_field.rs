//! An embedding in JSON: an array of numbers, or base64 of little-endian `f32`, which is half as long and six times
//! as fast to read.

use std::{borrow::Cow, fmt};

use engram_core::{DIMENSION_MAX, Embedding};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use crate::numbers::{self, NotNumbers};

/// Bytes of the longest embedding, and the characters of base64 that they take.
const BYTES_MAX: usize = DIMENSION_MAX * size_of::<f32>();
const BASE64_LEN_MAX: usize = BYTES_MAX.div_ceil(3) * 4;

/// An embedding as it came: finite numbers, no more than a store could ever want.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EmbeddingField(Vec<f32>);

impl JsonSchema for EmbeddingField {
    fn schema_name() -> Cow<'static, str> {
        "Embedding".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "As many numbers as the store has dimensions: an array, or base64 of little-endian f32.",
            "oneOf": [
                {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": DIMENSION_MAX},
                {"type": "string", "contentEncoding": "base64"},
            ],
        })
    }
}

impl From<EmbeddingField> for Embedding {
    fn from(field: EmbeddingField) -> Self {
        field.0.into()
    }
}

impl<'de> Deserialize<'de> for EmbeddingField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EmbeddingVisitor).map(Self)
    }
}

/// Takes the numbers one by one. An untagged enum would keep all of the array aside first, and could only say that
/// nothing matched.
struct EmbeddingVisitor;

impl<'de> Visitor<'de> for EmbeddingVisitor {
    type Value = Vec<f32>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers, or base64 of little-endian f32")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Vec<f32>, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = array.next_element()? {
            if numbers.len() == DIMENSION_MAX {
                return Err(de::Error::custom(format_args!(
                    "expected at most {DIMENSION_MAX} numbers, got more"
                )));
            }
            numbers.push(narrow(number, numbers.len())?);
        }
        Ok(numbers)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<f32>, E> {
        if text.len() > BASE64_LEN_MAX {
            return Err(E::custom(format_args!("expected at most {DIMENSION_MAX} numbers, got more")));
        }
        let numbers = numbers::decode(text).map_err(|error| match error {
            NotNumbers::Base64(e) => E::custom(format_args!(
                "expected an array of numbers, or base64 of little-endian f32, got a string that is no base64 ({e})"
            )),
            NotNumbers::Bytes(got) => {
                E::custom(format_args!("expected base64 of 4 bytes a number, got {got} bytes in all"))
            }
        })?;
        match numbers.iter().position(|number| !number.is_finite()) {
            Some(index) => Err(not_finite(index, numbers[index])),
            None => Ok(numbers),
        }
    }
}

/// The nearest `f32`. What is beyond its range would become infinite.
fn narrow<E: de::Error>(number: f64, index: usize) -> Result<f32, E> {
    #[expect(clippy::cast_possible_truncation, reason = "to the nearest f32 is what is wanted")]
    let narrow = number as f32;
    if narrow.is_finite() { Ok(narrow) } else { Err(not_finite(index, number)) }
}

fn not_finite<E: de::Error>(index: usize, got: impl fmt::Display + fmt::LowerExp) -> E {
    E::custom(format_args!("expected finite numbers of single precision, got {got:e} at index {index}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<f32>, String> {
        serde_json::from_str::<EmbeddingField>(json).map(|field| field.0).map_err(|e| e.to_string())
    }

    fn base64(numbers: &[f32]) -> String {
        format!("\"{}\"", numbers::encode(numbers))
    }

    #[test]
    fn an_array_and_its_base64_are_the_same_embedding() {
        let numbers = [1.0, -0.5, 3.4e38, f32::MIN_POSITIVE];
        assert_eq!(read("[1, -0.5, 3.4e38, 1.1754944e-38]").unwrap(), numbers);
        assert_eq!(read(&base64(&numbers)).unwrap(), numbers);
        assert_eq!(read(&base64(&numbers).replace('=', "")).unwrap(), numbers);
        assert!(read("[]").unwrap().is_empty());
        assert!(read("\"\"").unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_place() {
        let rows = [
            ("[1, 1e39]", "got 1e39 at index 1"),
            (&base64(&[1.0, 2.0, f32::NAN]), "got NaN at index 2"),
            (&base64(&[f32::NEG_INFINITY]), "got -inf at index 0"),
            ("\"AAAAAAA=\"", "expected base64 of 4 bytes a number, got 5 bytes"),
            ("\"not base64!\"", "got a string that is no base64 (Invalid symbol"),
        ];
        for (json, expected) in rows {
            let message = read(json).unwrap_err();
            assert!(message.contains(expected), "{json}: {message}");
        }
        for (json, expected) in
            [("7", "an array of numbers, or base64"), ("{}", "an array of numbers, or base64")]
        {
            let message = read(json).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn more_numbers_than_any_store_takes_are_not_read_to_their_end() {
        let most = vec!["1"; DIMENSION_MAX].join(",");
        assert_eq!(read(&format!("[{most}]")).unwrap().len(), DIMENSION_MAX);
        let message = read(&format!("[{most},1, this is never read")).unwrap_err();
        assert!(message.contains("expected at most 65536 numbers"), "{message}");
        assert_eq!(read(&base64(&vec![1.0; DIMENSION_MAX])).unwrap().len(), DIMENSION_MAX);
        assert!(read(&base64(&vec![1.0; DIMENSION_MAX + 1])).unwrap_err().contains("at most 65536"));
    }

    #[test]
    fn broken_json_stays_an_error_of_syntax() {
        for json in ["[1, 2", "[1,, 2]", "[1 2]"] {
            let error = serde_json::from_str::<EmbeddingField>(json).unwrap_err();
            assert!(error.is_syntax() || error.is_eof(), "{error}");
        }
    }
}
