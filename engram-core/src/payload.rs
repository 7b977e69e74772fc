//! The payloads of the log's records, as bytes.
//!
//! A version byte; for a memory the length of its description, the description in bincode (fixed-width
//! little-endian integers), and its vector raw. The structures of a version are frozen: a new field is a new
//! version. bincode is no longer maintained, so no other module may know it; the configuration here is that of
//! bincode 1, which maintained crates write as well.

use bincode::Options as _;
use engram_storage::{RECORD_LEN_MAX, WalEntry, WalEntryType};
use serde::{Deserialize, Serialize};

use crate::{MetaValue, Metadata, Precision, vector::StoredVector};

const VERSION: u8 = 1;

/// A record of the log, decoded.
#[derive(Debug, PartialEq)]
pub(crate) enum Record {
    Store(StoreRecord),
    Forget { space: String, id: String },
    Config(Config),
}

/// A memory, whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoreRecord {
    pub(crate) space: String,
    pub(crate) id: String,
    pub(crate) when_us: i64,
    pub(crate) content: String,
    pub(crate) confidence: f32,
    pub(crate) metadata: Metadata,
    pub(crate) vector: Option<StoredVector>,
}

/// Properties of the store as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) dimension: usize,
    pub(crate) precision: Precision,
}

impl Config {
    /// How a store was made, where the first record of its log says so; should that one be lost, the first vector does.
    pub(crate) fn of_first(record: &Record) -> Option<Self> {
        match record {
            Record::Config(config) => Some(*config),
            Record::Store(StoreRecord { vector: Some(vector), .. }) => {
                Some(Self { dimension: vector.dimension(), precision: vector.precision() })
            }
            Record::Store(_) | Record::Forget { .. } => None,
        }
    }
}

/// Why a payload is no record: what was expected, and what came.
pub(crate) type PayloadError = String;

mod v1 {
    use super::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    pub(super) struct Store {
        pub(super) space: String,
        pub(super) id: String,
        pub(super) when_us: i64,
        pub(super) content: String,
        pub(super) confidence: f32,
        pub(super) metadata: Vec<(String, Value)>,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) enum Value {
        Text(String),
        Integer(i64),
        Number(f64),
        Boolean(bool),
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Forget {
        pub(super) space: String,
        pub(super) id: String,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Config {
        pub(super) dimension: u32,
        pub(super) precision: u8,
    }
}

const VECTOR_NONE: u8 = 0;
const VECTOR_INT8: u8 = 1;
const VECTOR_F32: u8 = 2;

fn options() -> impl bincode::Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(RECORD_LEN_MAX as u64)
        .reject_trailing_bytes()
}

/// The log entry of a record.
pub(crate) fn encode(record: Record) -> Result<WalEntry, PayloadError> {
    let mut payload = vec![VERSION];
    let entry_type = match record {
        Record::Store(store) => {
            let StoreRecord { space, id, when_us, content, confidence, metadata, vector } = store;
            let metadata = metadata.into_iter().map(|(key, value)| (key, value.into())).collect();
            let description = write(&v1::Store { space, id, when_us, content, confidence, metadata })?;
            let len = u32::try_from(description.len()).map_err(|_| "a description over 4 GiB".to_owned())?;
            payload.extend_from_slice(&len.to_le_bytes());
            payload.extend_from_slice(&description);
            encode_vector(&mut payload, vector.as_ref())?;
            WalEntryType::MemoryStore
        }
        Record::Forget { space, id } => {
            payload.extend_from_slice(&write(&v1::Forget { space, id })?);
            WalEntryType::MemoryForget
        }
        Record::Config(Config { dimension, precision }) => {
            let dimension = u32::try_from(dimension).map_err(|_| format!("dimension {dimension}"))?;
            let precision = match precision {
                Precision::Int8 => VECTOR_INT8,
                Precision::F32 => VECTOR_F32,
            };
            payload.extend_from_slice(&write(&v1::Config { dimension, precision })?);
            WalEntryType::StoreConfig
        }
    };
    Ok(WalEntry { entry_type, payload })
}

/// The record of a log entry. Never allocates more than a small multiple of `payload`.
pub(crate) fn decode(entry_type: WalEntryType, payload: &[u8]) -> Result<Record, PayloadError> {
    let (version, rest) = payload.split_first().ok_or("expected a version, got an empty payload")?;
    if *version != VERSION {
        return Err(format!("expected payload version {VERSION}, got {version}"));
    }
    match entry_type {
        WalEntryType::MemoryStore => {
            let (len, rest) = rest.split_first_chunk().ok_or("expected a length")?;
            let len = u32::from_le_bytes(*len) as usize;
            let (description, vector) = rest.split_at_checked(len).ok_or("expected a longer payload")?;
            let v1::Store { space, id, when_us, content, confidence, metadata } = read(description)?;
            let metadata = metadata.into_iter().map(|(key, value)| (key, value.into())).collect();
            let vector = decode_vector(vector)?;
            Ok(Record::Store(StoreRecord { space, id, when_us, content, confidence, metadata, vector }))
        }
        WalEntryType::MemoryForget => {
            let v1::Forget { space, id } = read(rest)?;
            Ok(Record::Forget { space, id })
        }
        WalEntryType::StoreConfig => {
            let v1::Config { dimension, precision } = read(rest)?;
            let precision = match precision {
                VECTOR_INT8 => Precision::Int8,
                VECTOR_F32 => Precision::F32,
                other => {
                    return Err(format!("expected precision {VECTOR_INT8} or {VECTOR_F32}, got {other}"));
                }
            };
            Ok(Record::Config(Config { dimension: dimension as usize, precision }))
        }
        other => Err(format!("expected a record of a memory, got {other:?}")),
    }
}

/// The id in a payload that may be damaged, as far as one can still be read there.
pub(crate) fn id_in_remains(entry_type: WalEntryType, payload: &[u8]) -> Option<String> {
    let description = match entry_type {
        WalEntryType::MemoryStore => payload.get(1 + size_of::<u32>()..)?,
        WalEntryType::MemoryForget => payload.get(1..)?,
        _ => return None,
    };
    // Both begin with the space and the id.
    let (_, id): (String, String) = options().allow_trailing_bytes().deserialize(description).ok()?;
    Some(id)
}

fn write(value: &impl Serialize) -> Result<Vec<u8>, PayloadError> {
    options().serialize(value).map_err(|e| e.to_string())
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, PayloadError> {
    options().deserialize(bytes).map_err(|e| e.to_string())
}

fn encode_vector(payload: &mut Vec<u8>, vector: Option<&StoredVector>) -> Result<(), PayloadError> {
    let Some(vector) = vector else {
        payload.push(VECTOR_NONE);
        return Ok(());
    };
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

fn decode_vector(bytes: &[u8]) -> Result<Option<StoredVector>, PayloadError> {
    let (tag, rest) = bytes.split_first().ok_or("expected a vector or its absence")?;
    if *tag == VECTOR_NONE && rest.is_empty() {
        return Ok(None);
    }
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
            Ok(Some(StoredVector::Int8 { codes, scale: f32::from_le_bytes(*scale) }))
        }
        VECTOR_F32 => {
            let (numbers, []) = rest.as_chunks() else { return Err(wrong_len()) };
            if numbers.len() != dimension {
                return Err(wrong_len());
            }
            Ok(Some(StoredVector::F32(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())))
        }
        other => Err(format!("expected a vector of kind {VECTOR_INT8} or {VECTOR_F32}, got {other}")),
    }
}

impl From<MetaValue> for v1::Value {
    fn from(value: MetaValue) -> Self {
        match value {
            MetaValue::Text(text) => Self::Text(text),
            MetaValue::Integer(integer) => Self::Integer(integer),
            MetaValue::Number(number) => Self::Number(number),
            MetaValue::Boolean(boolean) => Self::Boolean(boolean),
        }
    }
}

impl From<v1::Value> for MetaValue {
    fn from(value: v1::Value) -> Self {
        match value {
            v1::Value::Text(text) => Self::Text(text),
            v1::Value::Integer(integer) => Self::Integer(integer),
            v1::Value::Number(number) => Self::Number(number),
            v1::Value::Boolean(boolean) => Self::Boolean(boolean),
        }
    }
}

#[cfg(test)]
mod tests;
