//! What a caller attaches to a memory: flat, small, and typed.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{StoreError, limits};

/// Metadata of a memory, by key.
pub type Metadata = BTreeMap<String, MetaValue>;

/// A value of a memory's metadata.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum MetaValue {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any other finite number.
    Number(f64),
    /// True or false.
    Boolean(bool),
}

impl<'de> Deserialize<'de> for MetaValue {
    /// Reads a string, a number or a boolean. A whole number that 64 bits with a sign cannot hold is refused, since
    /// it would come back as another one.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = MetaValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a boolean")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<MetaValue, E> {
                Ok(MetaValue::Boolean(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<MetaValue, E> {
                Ok(MetaValue::Integer(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<MetaValue, E> {
                let in_range = i64::try_from(value);
                in_range.map(MetaValue::Integer).map_err(|_| {
                    E::custom(format_args!("expected a whole number up to {}, got {value}", i64::MAX))
                })
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<MetaValue, E> {
                Ok(MetaValue::Number(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<MetaValue, E> {
                Ok(MetaValue::Text(value.to_owned()))
            }

            fn visit_string<E: de::Error>(self, value: String) -> Result<MetaValue, E> {
                Ok(MetaValue::Text(value))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Refuses metadata over the limits.
pub(crate) fn check(metadata: &Metadata) -> Result<(), StoreError> {
    let refuse = |reason: String| Err(StoreError::Metadata { reason });
    if metadata.len() > limits::METADATA_KEYS_MAX {
        return refuse(format!(
            "expected at most {} keys, got {}",
            limits::METADATA_KEYS_MAX,
            metadata.len()
        ));
    }
    let mut bytes = 0;
    for (key, value) in metadata {
        if key.is_empty() || key.len() > limits::METADATA_KEY_BYTES_MAX {
            let max = limits::METADATA_KEY_BYTES_MAX;
            return refuse(format!("expected keys of 1 to {max} bytes, got one of {}", key.len()));
        }
        bytes += key.len();
        bytes += match value {
            MetaValue::Text(text) => text.len(),
            MetaValue::Number(number) if !number.is_finite() => {
                return refuse(format!("expected finite numbers, got {number} for key {key:?}"));
            }
            MetaValue::Integer(_) | MetaValue::Number(_) | MetaValue::Boolean(_) => 8,
        };
    }
    if bytes > limits::METADATA_BYTES_MAX {
        return refuse(format!("expected at most {} bytes in all, got {bytes}", limits::METADATA_BYTES_MAX));
    }
    Ok(())
}
