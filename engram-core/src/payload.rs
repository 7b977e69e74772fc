//! The payloads of the log's records, as bytes.
//!
//! A version byte; for a memory the length of its description, the description in bincode (fixed-width
//! little-endian integers), and its vector raw. The structures of a version are frozen: a new field is a new
//! version. A record is written in the oldest version that has all its fields, so that an older build reads what it
//! can. bincode is no longer maintained, so no other module may know it; the configuration here is that of bincode 1,
//! which maintained crates write as well.

mod v1;
mod v2;
mod v3;
mod vector;

use bincode::Options as _;
use engram_storage::{Lsn, RECORD_LEN_MAX, WalEntry, WalEntryType};
use serde::{Deserialize, Serialize};

#[cfg(test)]
use self::vector::VECTOR_INT8;
use self::vector::{decode_vector, encode_vector};
use crate::{Metadata, ModelIdentity, Precision, vector::StoredVector};

/// What knows only the fields of the first build.
const VERSION_1: u8 = 1;

/// What knows conditions, requests, ends of life and models, too.
const VERSION_2: u8 = 2;

/// What knows that the model may change.
const VERSION_3: u8 = 3;

/// A record of the log, decoded.
#[derive(Debug, PartialEq)]
pub(crate) enum Record {
    Store(StoreRecord),
    Forget(ForgetRecord),
    Config(Config),
    Space(SpaceRecord),
    DropSpace { space: String },
    Embed(EmbedRecord),
    Receipt(ReceiptRecord),
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
    pub(crate) vector: Option<LoggedVector>,
    /// When it ends by itself, in microseconds since 1970.
    pub(crate) expires_us: Option<i64>,
    pub(crate) terms: Terms,
}

/// The end of a memory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ForgetRecord {
    pub(crate) space: String,
    pub(crate) id: String,
    pub(crate) terms: Terms,
}

/// On what terms a change is made. They are in the record, so that they hold at its place in the log, whatever comes in
/// between, and hold again at each recovery.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Terms {
    /// The version that the memory must have; 0 for a memory that there must not be. Otherwise nothing is changed.
    pub(crate) expected: Option<Lsn>,
    /// The request that it answers.
    pub(crate) request: Option<Request>,
}

/// A request that its client may repeat.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    /// What the client calls it.
    pub(crate) key: String,
    /// A digest of what it asks for.
    pub(crate) fingerprint: u128,
    /// When it came, in microseconds since 1970.
    pub(crate) at_us: i64,
}

/// A space, new or with other properties.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SpaceRecord {
    pub(crate) space: String,
    pub(crate) capacity: Option<u64>,
}

/// The embedding of a memory that has none, and is still of this version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EmbedRecord {
    pub(crate) space: String,
    pub(crate) id: String,
    pub(crate) of: Lsn,
    pub(crate) vector: LoggedVector,
}

/// What a request was answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReceiptRecord {
    pub(crate) space: String,
    pub(crate) request: Request,
    pub(crate) id: String,
    pub(crate) lsn: Lsn,
    /// As in [`Outcome`](crate::Outcome).
    pub(crate) outcome: u8,
}

/// Properties of the store as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) dimension: usize,
    pub(crate) precision: Precision,
    /// What the embeddings are from, once that was said.
    pub(crate) model: Option<ModelIdentity>,
    /// How many other models, or forms, there were before.
    pub(crate) generation: u32,
}

/// A vector, and which generation of the store it is of: it means nothing to another one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoggedVector {
    pub(crate) generation: u32,
    pub(crate) vector: StoredVector,
}

impl LoggedVector {
    /// Whether a store that is as `config` says can use it. One that was on its way when the model changed is of a
    /// generation before, and of no use any more.
    ///
    /// # Errors
    /// What was expected, and what came, for one that the store cannot have.
    pub(crate) fn is_of(&self, config: &Config) -> Result<bool, PayloadError> {
        let (generation, expected) = (self.generation, config.generation);
        if generation > expected {
            return Err(format!("expected a vector of generation {expected}, got one of {generation}"));
        }
        if generation == expected {
            self.vector.check(config.dimension, config.precision).map_err(|e| e.to_string())?;
        }
        Ok(generation == expected)
    }
}

impl Record {
    fn vector(&self) -> Option<&LoggedVector> {
        match self {
            Self::Store(StoreRecord { vector, .. }) => vector.as_ref(),
            Self::Embed(EmbedRecord { vector, .. }) => Some(vector),
            _ => None,
        }
    }
}

impl Config {
    /// How a store was made, where the first record of its log says so; should that one be lost, the first vector does.
    pub(crate) fn of_first(record: &Record) -> Option<Self> {
        match record {
            Record::Config(config) => Some(config.clone()),
            _ => record.vector().map(Self::of_vector),
        }
    }

    /// How the store is at a record of a generation that has not begun: the record of the change is lost. From what
    /// model its vectors are went with it.
    pub(crate) fn lost_before(&self, record: &Record) -> Option<Self> {
        record.vector().filter(|vector| vector.generation > self.generation).map(Self::of_vector)
    }

    fn of_vector(LoggedVector { generation, vector }: &LoggedVector) -> Self {
        let (dimension, precision) = (vector.dimension(), vector.precision());
        Self { dimension, precision, model: None, generation: *generation }
    }

    /// Whether vectors of the other fit in.
    pub(crate) fn has_form_of(&self, other: &Self) -> bool {
        (self.dimension, self.precision) == (other.dimension, other.precision)
    }
}

/// Why a payload is no record: what was expected, and what came.
pub(crate) type PayloadError = String;

fn options() -> impl bincode::Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(RECORD_LEN_MAX as u64)
        .reject_trailing_bytes()
}

/// The log entry of a record.
pub(crate) fn encode(record: Record) -> Result<WalEntry, PayloadError> {
    let (entry_type, payload) = match record {
        Record::Store(record) => {
            let StoreRecord { space, id, when_us, content, confidence, metadata, vector, expires_us, terms } =
                record;
            let metadata = metadata.into_iter().map(|(key, value)| (key, value.into())).collect();
            let store = v1::Store { space, id, when_us, content, confidence, metadata };
            let (version, description) = if expires_us.is_none() && terms == Terms::default() {
                (VERSION_1, write(&store)?)
            } else {
                (VERSION_2, write(&v2::Store { episode: store, expires_us, terms: terms.into() })?)
            };
            let len = u32::try_from(description.len()).map_err(|_| "a description over 4 GiB".to_owned())?;
            let mut payload = vec![version];
            payload.extend_from_slice(&len.to_le_bytes());
            payload.extend_from_slice(&description);
            encode_vector(&mut payload, vector.as_ref())?;
            (WalEntryType::MemoryStore, payload)
        }
        Record::Forget(ForgetRecord { space, id, terms }) => {
            let forget = v1::Forget { space, id };
            let payload = if terms == Terms::default() {
                versioned(VERSION_1, &forget)?
            } else {
                versioned(VERSION_2, &v2::Forget { forget, terms: terms.into() })?
            };
            (WalEntryType::MemoryForget, payload)
        }
        Record::Config(Config { dimension, precision, model, generation }) => {
            let form = v1::Config::of(dimension, precision)?;
            let payload = match (model.map(Into::into), generation) {
                (None, 0) => versioned(VERSION_1, &form)?,
                (model, 0) => versioned(VERSION_2, &v2::Config { form, model, former: None })?,
                (model, _) => versioned(VERSION_3, &v3::Config { form, model, generation })?,
            };
            (WalEntryType::StoreConfig, payload)
        }
        Record::Space(SpaceRecord { space, capacity }) => {
            (WalEntryType::SpaceConfig, versioned(VERSION_2, &v2::Space { space, capacity })?)
        }
        Record::DropSpace { space } => {
            (WalEntryType::SpaceDrop, versioned(VERSION_2, &v2::DropSpace { space })?)
        }
        Record::Embed(EmbedRecord { space, id, of, vector }) => {
            let description = write(&v2::Embed { space, id, of: of.get() })?;
            let len = u32::try_from(description.len()).map_err(|_| "a description over 4 GiB".to_owned())?;
            let mut payload = vec![VERSION_2];
            payload.extend_from_slice(&len.to_le_bytes());
            payload.extend_from_slice(&description);
            encode_vector(&mut payload, Some(&vector))?;
            (WalEntryType::MemoryEmbed, payload)
        }
        Record::Receipt(ReceiptRecord { space, request, id, lsn, outcome }) => {
            let receipt = v2::Receipt { space, id, request: request.into(), lsn: lsn.get(), outcome };
            (WalEntryType::RequestReceipt, versioned(VERSION_2, &receipt)?)
        }
    };
    Ok(WalEntry { entry_type, payload })
}

/// The record of a log entry. Never allocates more than a small multiple of `payload`.
pub(crate) fn decode(entry_type: WalEntryType, payload: &[u8]) -> Result<Record, PayloadError> {
    let (version, rest) = payload.split_first().ok_or("expected a version, got an empty payload")?;
    match (entry_type, *version) {
        (WalEntryType::MemoryStore, VERSION_1) => {
            let (description, vector) = described(rest)?;
            Ok(Record::Store(read::<v1::Store>(description)?.into_record(decode_vector(vector)?)))
        }
        (WalEntryType::MemoryStore, VERSION_2) => {
            let (description, vector) = described(rest)?;
            Ok(Record::Store(read::<v2::Store>(description)?.into_record(decode_vector(vector)?)))
        }
        (WalEntryType::MemoryForget, VERSION_1) => {
            let v1::Forget { space, id } = read(rest)?;
            Ok(Record::Forget(ForgetRecord { space, id, terms: Terms::default() }))
        }
        (WalEntryType::MemoryForget, VERSION_2) => {
            let v2::Forget { forget: v1::Forget { space, id }, terms } = read(rest)?;
            Ok(Record::Forget(ForgetRecord { space, id, terms: terms.into() }))
        }
        (WalEntryType::StoreConfig, VERSION_1) => {
            let (dimension, precision) = read::<v1::Config>(rest)?.form()?;
            Ok(Record::Config(Config { dimension, precision, model: None, generation: 0 }))
        }
        (WalEntryType::StoreConfig, VERSION_2) => {
            let v2::Config { form, model, former } = read(rest)?;
            let (dimension, precision) = form.form()?;
            // Its vectors do not say of which generation they are: they are made anew.
            let generation = former.map_or(0, |_| 1);
            Ok(Record::Config(Config { dimension, precision, model: model.map(Into::into), generation }))
        }
        (WalEntryType::StoreConfig, VERSION_3) => {
            let v3::Config { form, model, generation } = read(rest)?;
            let (dimension, precision) = form.form()?;
            Ok(Record::Config(Config { dimension, precision, model: model.map(Into::into), generation }))
        }
        (WalEntryType::SpaceConfig, VERSION_2) => {
            let v2::Space { space, capacity } = read(rest)?;
            Ok(Record::Space(SpaceRecord { space, capacity }))
        }
        (WalEntryType::SpaceDrop, VERSION_2) => {
            let v2::DropSpace { space } = read(rest)?;
            Ok(Record::DropSpace { space })
        }
        (WalEntryType::MemoryEmbed, VERSION_2) => {
            let (description, vector) = described(rest)?;
            let v2::Embed { space, id, of } = read(description)?;
            let vector = decode_vector(vector)?.ok_or("expected a vector, got none")?;
            Ok(Record::Embed(EmbedRecord { space, id, of: Lsn::new(of), vector }))
        }
        (WalEntryType::RequestReceipt, VERSION_2) => {
            let v2::Receipt { space, id, request, lsn, outcome } = read(rest)?;
            let (request, lsn) = (request.into(), Lsn::new(lsn));
            Ok(Record::Receipt(ReceiptRecord { space, request, id, lsn, outcome }))
        }
        (WalEntryType::Gap | WalEntryType::Seal, _) => {
            Err(format!("expected a record of a store, got {entry_type:?}"))
        }
        (_, version) => Err(format!("expected payload version {VERSION_1} to {VERSION_3}, got {version}")),
    }
}

/// The id in a payload that may be damaged, as far as one can still be read there.
pub(crate) fn id_in_remains(entry_type: WalEntryType, payload: &[u8]) -> Option<String> {
    let description = match entry_type {
        WalEntryType::MemoryStore | WalEntryType::MemoryEmbed => payload.get(1 + size_of::<u32>()..)?,
        WalEntryType::MemoryForget | WalEntryType::RequestReceipt => payload.get(1..)?,
        _ => return None,
    };
    // All begin with the space and the id.
    let (_, id): (String, String) = options().allow_trailing_bytes().deserialize(description).ok()?;
    Some(id)
}

/// The description and the vector behind it.
fn described(rest: &[u8]) -> Result<(&[u8], &[u8]), PayloadError> {
    let (len, rest) = rest.split_first_chunk().ok_or("expected a length")?;
    let len = u32::from_le_bytes(*len) as usize;
    Ok(rest.split_at_checked(len).ok_or("expected a longer payload")?)
}

fn versioned(version: u8, value: &impl Serialize) -> Result<Vec<u8>, PayloadError> {
    let mut payload = vec![version];
    payload.extend_from_slice(&write(value)?);
    Ok(payload)
}

fn write(value: &impl Serialize) -> Result<Vec<u8>, PayloadError> {
    options().serialize(value).map_err(|e| e.to_string())
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, PayloadError> {
    options().deserialize(bytes).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests;
