//! The structures of payload version 1.

use serde::{Deserialize, Serialize};

use super::{
    LoggedVector, PayloadError, StoreRecord, Terms,
    vector::{VECTOR_F32, VECTOR_INT8},
};
use crate::{MetaValue, Precision, embedding::check_dimension};

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

impl Store {
    pub(super) fn into_record(self, vector: Option<LoggedVector>) -> StoreRecord {
        let Self { space, id, when_us, content, confidence, metadata } = self;
        let metadata = metadata.into_iter().map(|(key, value)| (key, value.into())).collect();
        let (expires_us, terms) = (None, Terms::default());
        StoreRecord { space, id, when_us, content, confidence, metadata, vector, expires_us, terms }
    }
}

impl Config {
    pub(super) fn of(dimension: usize, precision: Precision) -> Result<Self, PayloadError> {
        let dimension = u32::try_from(dimension).map_err(|_| format!("dimension {dimension}"))?;
        let precision = match precision {
            Precision::Int8 => VECTOR_INT8,
            Precision::F32 => VECTOR_F32,
        };
        Ok(Self { dimension, precision })
    }

    pub(super) fn form(self) -> Result<(usize, Precision), PayloadError> {
        let precision = match self.precision {
            VECTOR_INT8 => Precision::Int8,
            VECTOR_F32 => Precision::F32,
            other => return Err(format!("expected precision {VECTOR_INT8} or {VECTOR_F32}, got {other}")),
        };
        let dimension = self.dimension as usize;
        check_dimension(dimension)?;
        Ok((dimension, precision))
    }
}

impl From<MetaValue> for Value {
    fn from(value: MetaValue) -> Self {
        match value {
            MetaValue::Text(text) => Self::Text(text),
            MetaValue::Integer(integer) => Self::Integer(integer),
            MetaValue::Number(number) => Self::Number(number),
            MetaValue::Boolean(boolean) => Self::Boolean(boolean),
        }
    }
}

impl From<Value> for MetaValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(text) => Self::Text(text),
            Value::Integer(integer) => Self::Integer(integer),
            Value::Number(number) => Self::Number(number),
            Value::Boolean(boolean) => Self::Boolean(boolean),
        }
    }
}
