//! A sentence encoder in this process: a model of the BERT family, read from a directory as it is published.
//!
//! [`files`] says what the directory has to have, [`tokenizer`] and [`normalizer`] turn a text into tokens, [`weights`]
//! are the model's numbers, and [`encoder`] is the forward pass: one vector a text, of length 1.

mod encoder;
mod files;
mod normalizer;
#[cfg(test)]
mod tests;
mod tokenizer;
mod weights;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use ndarray::{Array2, Axis};

use self::{
    encoder::Encoder,
    files::{ModelFiles, Pooling},
    tokenizer::Tokenizer,
};
use crate::exit::{Exit, Failure};

/// Texts that are encoded together. More are hardly faster, and take more memory.
const TEXTS_AT_ONCE: usize = 8;

/// A model in memory. Embedding computes, for milliseconds and more a text.
pub(crate) struct LocalModel {
    directory: PathBuf,
    /// What makes its vectors, whatever the directory is called.
    name: String,
    tokenizer: Tokenizer,
    encoder: Encoder,
    pooling: Pooling,
    /// Tokens of a text that are read; what comes after is not.
    tokens_max: usize,
}

/// Why a directory holds no usable model: a sentence.
#[derive(Debug)]
struct Unusable(String);

impl LocalModel {
    /// Reads a model.
    pub(crate) fn open(directory: &Path) -> Result<Self, Failure> {
        Self::read(directory).map_err(|Unusable(reason)| {
            let place = directory.display();
            Failure::new(Exit::Setting, format!("cannot use the model in {place}: {reason}")).help(
                "--embed-model-dir takes a sentence encoder of the BERT family as it is published: config.json, \
                 tokenizer.json or vocab.txt, model.safetensors, 1_Pooling/config.json",
            )
        })
    }

    fn read(directory: &Path) -> Result<Self, Unusable> {
        let files = ModelFiles::read(directory)?;
        let tokenizer = Tokenizer::read(directory)?;
        let (encoder, fingerprint) = Encoder::read(directory, &files.config)?;
        if tokenizer.tokens() > encoder.vocabulary() {
            return Err(Unusable(format!(
                "expected as many tokens as the model knows, {}, got {}",
                encoder.vocabulary(),
                tokenizer.tokens()
            )));
        }
        let ModelFiles { pooling, tokens_max, .. } = files;
        let name = format!("bert-{}-{}-{fingerprint:08x}", encoder.dimension(), pooling.name());
        Ok(Self { directory: directory.to_owned(), name, tokenizer, encoder, pooling, tokens_max })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its kind, its dimension, its pooling and the checksum of its weights.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How many numbers a vector has.
    pub(crate) fn dimension(&self) -> usize {
        self.encoder.dimension()
    }

    /// The vectors of these texts, of length 1.
    pub(crate) fn embed(&self, texts: &[String]) -> Vec<Vec<f32>> {
        texts.chunks(TEXTS_AT_ONCE).flat_map(|texts| self.embed_together(texts)).collect()
    }

    fn embed_together(&self, texts: &[String]) -> Vec<Vec<f32>> {
        let tokens = |text: &String| self.tokenizer.tokens_of(text, self.tokens_max);
        let states = self.encoder.states(&texts.iter().map(tokens).collect::<Vec<_>>());
        states.iter().map(|states| self.pool(states)).collect()
    }

    /// The vector of a text, of those of its tokens.
    fn pool(&self, states: &Array2<f32>) -> Vec<f32> {
        let mut vector = match self.pooling {
            Pooling::Mean => states.sum_axis(Axis(0)),
            Pooling::Cls => states.row(0).to_owned(),
        };
        let norm = vector.dot(&vector).sqrt();
        vector /= norm.max(f32::MIN_POSITIVE);
        vector.to_vec()
    }
}

impl fmt::Debug for LocalModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalModel").field("directory", &self.directory).finish_non_exhaustive()
    }
}
