//! Embeddings that the server makes itself, where it was given a model.
//!
//! - [`args`] is what was typed, [`config`] what it means;
//! - [`Embedder`] turns texts into vectors: by an [`endpoint`], whose answers [`answer`] reads, or by a model in this
//!   process (`local`, behind the feature `local-model`). [`each`] finds the one text that is not taken among many;
//! - [`worker`] embeds what was stored without a vector, [`service`] what comes with a request, and [`progress`] says how
//!   both are doing.
//!
//! No write waits for a model unless it was asked for: a text is durable, and recalled by words, before it is embedded.

mod anew;
mod answer;
mod args;
mod config;
mod each;
mod endpoint;
mod error;
#[cfg(feature = "local-model")]
mod local;
mod progress;
mod reembed;
mod seat;
mod service;
#[cfg(test)]
mod testing;
mod times;
mod worker;

/// The endpoint of the tests of the whole server serves those of its parts, too.
#[cfg(test)]
#[path = "../../../tests/support/embed_endpoint.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod embed_endpoint;

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use engram_core::ModelIdentity;

pub(crate) use self::{
    anew::{Anew, Course, Stop},
    args::{EmbedArgs, Secret},
    config::EmbedConfig,
    error::{EmbedError, Kind},
    progress::{Progress, Snapshot, State},
    reembed::{Reembed, ReembedState, ReembedStatus, Reembedding, key_for},
    seat::{Held, Seat},
    service::{EmbedService, Item},
    times::EmbedTimes,
};
use self::{
    config::{Prefixes, Source},
    endpoint::Endpoint,
};
use crate::exit::{Exit, Failure};

/// What is embedded to see whether anything can be, and how many numbers that gives.
const PROBE: &str = "ping";

/// Turns texts into vectors, all of one model. Its calls block.
#[derive(Debug)]
pub(crate) struct Embedder {
    model: Model,
    prefixes: Prefixes,
    /// Texts of one request.
    batch: usize,
    /// The length of the vectors, from when it is known on.
    dimension: OnceLock<usize>,
    times: EmbedTimes,
}

#[derive(Debug)]
enum Model {
    Endpoint(Endpoint),
    #[cfg(feature = "local-model")]
    Local(Box<local::LocalModel>),
}

impl Embedder {
    /// An embedder of this configuration. An endpoint is not asked yet.
    #[cfg_attr(
        not(feature = "local-model"),
        expect(clippy::unnecessary_wraps, reason = "a directory may be unusable")
    )]
    pub(crate) fn open(config: &EmbedConfig) -> Result<Self, Failure> {
        let model = match &config.source {
            Source::Endpoint(endpoint) => Model::Endpoint(Endpoint::new(endpoint.clone())),
            #[cfg(feature = "local-model")]
            Source::Directory(directory) => Model::Local(Box::new(local::LocalModel::open(directory)?)),
        };
        let dimension = match &model {
            Model::Endpoint(_) => OnceLock::new(),
            #[cfg(feature = "local-model")]
            Model::Local(model) => OnceLock::from(model.dimension()),
        };
        let (prefixes, batch) = (config.prefixes.clone(), config.batch);
        Ok(Self { model, prefixes, batch, dimension, times: EmbedTimes::default() })
    }

    /// What the vectors are from: only those of the same are comparable.
    pub(crate) fn identity(&self) -> ModelIdentity {
        let name = match &self.model {
            Model::Endpoint(endpoint) => endpoint.config().model.clone(),
            #[cfg(feature = "local-model")]
            Model::Local(model) => model.name().to_owned(),
        };
        let Prefixes { document, query } = self.prefixes.clone();
        ModelIdentity { name, document_prefix: document, query_prefix: query }
    }

    /// Where the vectors come from: a URL, or a directory.
    pub(crate) fn source(&self) -> String {
        match &self.model {
            Model::Endpoint(endpoint) => endpoint.config().url.clone(),
            #[cfg(feature = "local-model")]
            Model::Local(model) => model.directory().display().to_string(),
        }
    }

    /// From now on only vectors of so many numbers will do: those of the store. Refused when the model is known to give
    /// others.
    pub(crate) fn expect(&self, dimension: usize) -> Result<(), Failure> {
        let known = *self.dimension.get_or_init(|| dimension);
        if known == dimension {
            return Ok(());
        }
        let model = self.source();
        let message = format!(
            "expected embeddings of {dimension} numbers, as the store's are, got a model of {known}: {model}"
        );
        Err(Failure::new(Exit::Setting, message).help(
            "start with the model that the store was made for, or embed all anew by this one: engram reembed",
        ))
    }

    /// How many numbers the vectors have, asked for when it is not known.
    pub(crate) fn ask_dimension(&self, within: Duration) -> Result<usize, EmbedError> {
        if let Some(&dimension) = self.dimension.get() {
            return Ok(dimension);
        }
        let vectors = self.vectors(&[PROBE.to_owned()], within)?;
        Ok(vectors.first().map_or(0, Vec::len))
    }

    /// The vectors of texts that are stored, in their order; of all, or of none.
    pub(crate) fn embed_documents(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let prefix = &self.prefixes.document;
        let texts: Vec<String> = texts.iter().map(|text| format!("{prefix}{text}")).collect();
        self.vectors(&texts, Duration::MAX)
    }

    /// The vector of a question.
    pub(crate) fn embed_query(&self, text: &str, within: Duration) -> Result<Vec<f32>, EmbedError> {
        let text = format!("{}{text}", self.prefixes.query);
        let vectors = self.vectors(&[text], within)?;
        vectors.into_iter().next().ok_or_else(|| EmbedError::misconfigured("expected an embedding, got none"))
    }

    /// How long the model has taken to answer.
    pub(crate) fn times(&self) -> &EmbedTimes {
        &self.times
    }

    fn vectors(&self, texts: &[String], within: Duration) -> Result<Vec<Vec<f32>>, EmbedError> {
        let begun = Instant::now();
        let outcome = self.vectors_of_model(texts, within);
        self.times.record(&outcome, begun.elapsed());
        outcome
    }

    fn vectors_of_model(&self, texts: &[String], within: Duration) -> Result<Vec<Vec<f32>>, EmbedError> {
        let vectors = match &self.model {
            Model::Endpoint(endpoint) => endpoint.embed(texts, within)?,
            #[cfg(feature = "local-model")]
            Model::Local(model) => model.embed(texts),
        };
        if let Some(vector) = vectors.first() {
            let (got, expected) = (vector.len(), *self.dimension.get_or_init(|| vector.len()));
            if got != expected {
                return Err(EmbedError::misconfigured(format!(
                    "expected embeddings of {expected} numbers, as the store's are, got {got} from {}",
                    self.source()
                )));
            }
        }
        Ok(vectors)
    }
}
