//! The flags of embedding, as they are typed.

use std::{convert::Infallible, fmt, path::PathBuf, str::FromStr};

use clap::builder::BoolishValueParser;

/// Flags of `engram start` by which the server makes embeddings itself.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Embedding of texts")]
#[expect(clippy::struct_field_names, reason = "the flags are named so")]
#[expect(clippy::doc_markdown, reason = "the help of a flag is no Markdown")]
pub(crate) struct EmbedArgs {
    /// An OpenAI-compatible endpoint that makes the embeddings, such as http://127.0.0.1:11434/v1: texts are stored at
    /// once and embedded after, questions are embedded when they come
    #[arg(long, value_name = "URL", env = "ENGRAM_EMBED_URL")]
    pub(crate) embed_url: Option<String>,

    /// The model to ask the endpoint for
    #[arg(long, value_name = "NAME", env = "ENGRAM_EMBED_MODEL")]
    pub(crate) embed_model: Option<String>,

    /// A directory with a model of the BERT family, to embed in this process: config.json, tokenizer.json or vocab.txt,
    /// model.safetensors
    #[cfg(feature = "local-model")]
    #[arg(long, value_name = "DIR", env = "ENGRAM_EMBED_MODEL_DIR", conflicts_with = "embed_url")]
    pub(crate) embed_model_dir: Option<PathBuf>,

    /// A file with the key of the endpoint. The key itself may also be in the variable ENGRAM_EMBED_KEY
    #[arg(long, value_name = "FILE", env = "ENGRAM_EMBED_KEY_FILE")]
    pub(crate) embed_key_file: Option<PathBuf>,

    /// As a variable alone: what is typed can be read by every process of the machine.
    #[arg(long, value_name = "KEY", env = "ENGRAM_EMBED_KEY", hide = true, hide_env_values = true)]
    pub(crate) embed_key: Option<Secret>,

    /// What the model wants before each text that is stored, such as "search_document: "
    #[arg(long, value_name = "TEXT", default_value = "", env = "ENGRAM_EMBED_DOCUMENT_PREFIX")]
    pub(crate) embed_document_prefix: String,

    /// What the model wants before each question, such as "search_query: "
    #[arg(long, value_name = "TEXT", default_value = "", env = "ENGRAM_EMBED_QUERY_PREFIX")]
    pub(crate) embed_query_prefix: String,

    /// How many numbers to ask the endpoint for, where the model can be shortened
    #[arg(long, value_name = "N", env = "ENGRAM_EMBED_DIMENSIONS")]
    pub(crate) embed_dimensions: Option<usize>,

    /// The most texts of one request
    #[arg(long, value_name = "N", default_value_t = 32, env = "ENGRAM_EMBED_BATCH")]
    pub(crate) embed_batch: usize,

    /// How long a request may take, such as 30s or 500ms. A question waits 5 s at most
    #[arg(long, value_name = "TIME", default_value = "30s", env = "ENGRAM_EMBED_TIMEOUT")]
    pub(crate) embed_timeout: String,

    /// Embed a text before it is stored, and refuse it when that cannot be done
    #[arg(long, env = "ENGRAM_EMBED_REQUIRED", value_parser = BoolishValueParser::new())]
    pub(crate) embed_required: bool,
}

/// What is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The secret itself, for the one who must have it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.trim().to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
