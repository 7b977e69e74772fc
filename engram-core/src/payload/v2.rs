//! The structures of payload version 2.

use engram_storage::Lsn;
use serde::{Deserialize, Serialize};

use super::{LoggedVector, StoreRecord, v1};
use crate::ModelIdentity;

#[derive(Serialize, Deserialize)]
pub(super) struct Store {
    pub(super) episode: v1::Store,
    pub(super) expires_us: Option<i64>,
    pub(super) terms: Terms,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Forget {
    pub(super) forget: v1::Forget,
    pub(super) terms: Terms,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Terms {
    expected: Option<u64>,
    request: Option<Request>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    key: String,
    fingerprint: u128,
    at_us: i64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) form: v1::Config,
    pub(super) model: Option<Model>,
    /// The form before this one.
    pub(super) former: Option<v1::Config>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Model {
    name: String,
    document_prefix: String,
    query_prefix: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Space {
    pub(super) space: String,
    pub(super) capacity: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DropSpace {
    pub(super) space: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Embed {
    pub(super) space: String,
    pub(super) id: String,
    pub(super) of: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Receipt {
    pub(super) space: String,
    pub(super) id: String,
    pub(super) request: Request,
    pub(super) lsn: u64,
    pub(super) outcome: u8,
}

impl Store {
    pub(super) fn into_record(self, vector: Option<LoggedVector>) -> StoreRecord {
        let Self { episode, expires_us, terms } = self;
        StoreRecord { expires_us, terms: terms.into(), ..episode.into_record(vector) }
    }
}

impl From<super::Terms> for Terms {
    fn from(terms: super::Terms) -> Self {
        Self { expected: terms.expected.map(Lsn::get), request: terms.request.map(Into::into) }
    }
}

impl From<Terms> for super::Terms {
    fn from(terms: Terms) -> Self {
        Self { expected: terms.expected.map(Lsn::new), request: terms.request.map(Into::into) }
    }
}

impl From<super::Request> for Request {
    fn from(super::Request { key, fingerprint, at_us }: super::Request) -> Self {
        Self { key, fingerprint, at_us }
    }
}

impl From<Request> for super::Request {
    fn from(Request { key, fingerprint, at_us }: Request) -> Self {
        Self { key, fingerprint, at_us }
    }
}

impl From<ModelIdentity> for Model {
    fn from(ModelIdentity { name, document_prefix, query_prefix }: ModelIdentity) -> Self {
        Self { name, document_prefix, query_prefix }
    }
}

impl From<Model> for ModelIdentity {
    fn from(Model { name, document_prefix, query_prefix }: Model) -> Self {
        Self { name, document_prefix, query_prefix }
    }
}
