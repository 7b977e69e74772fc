//! What the files of a model say about it.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::Unusable;

/// Tokens of a text where the model does not say: what BERT was made for.
const TOKENS_MAX_DEFAULT: usize = 512;

/// The files that say what the model is.
pub(super) struct ModelFiles {
    pub(super) config: ModelConfig,
    pub(super) pooling: Pooling,
    /// Tokens of a text, the special ones among them.
    pub(super) tokens_max: usize,
}

/// `config.json`: the shape of the encoder.
#[derive(Debug, Deserialize)]
pub(super) struct ModelConfig {
    model_type: String,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) max_position_embeddings: usize,
    pub(super) layer_norm_eps: f32,
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn absolute() -> String {
    "absolute".to_owned()
}

/// How the vectors of the tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first, which stands for the text.
    Cls,
}

/// `1_Pooling/config.json`: `pooling_mode_mean_tokens` and others, of which one is true.
#[derive(Deserialize)]
struct PoolingFile(BTreeMap<String, Value>);

impl Pooling {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
        }
    }
}

#[derive(Deserialize)]
struct SentenceFile {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct Module {
    r#type: String,
}

impl ModelFiles {
    pub(super) fn read(directory: &Path) -> Result<Self, Unusable> {
        let config: ModelConfig = read_json(&directory.join("config.json"))?
            .ok_or_else(|| Unusable("it has no config.json".to_owned()))?;
        config.check()?;
        if let Some(modules) = read_json::<Vec<Module>>(&directory.join("modules.json"))? {
            modules.iter().try_for_each(check_module)?;
        }
        let pooling = match read_json::<PoolingFile>(&directory.join("1_Pooling").join("config.json"))? {
            Some(file) => file.pooling()?,
            None => Pooling::Mean,
        };
        let sentence: Option<SentenceFile> = read_json(&directory.join("sentence_bert_config.json"))?;
        let tokens_max = sentence.and_then(|file| file.max_seq_length).unwrap_or(TOKENS_MAX_DEFAULT);
        // Two are the special ones.
        let tokens_max = tokens_max.min(config.max_position_embeddings).max(2);
        Ok(Self { config, pooling, tokens_max })
    }
}

impl ModelConfig {
    fn check(&self) -> Result<(), Unusable> {
        let expect = |what: &str, expected: &str, got: &str| {
            let is_so = expected == got;
            is_so.then_some(()).ok_or_else(|| Unusable(format!("expected {what} {expected:?}, got {got:?}")))
        };
        expect("a model_type of", "bert", &self.model_type)?;
        expect("a hidden_act of", "gelu", &self.hidden_act)?;
        expect("a position_embedding_type of", "absolute", &self.position_embedding_type)?;
        let (size, heads) = (self.hidden_size, self.num_attention_heads);
        if heads == 0 || size == 0 || !size.is_multiple_of(heads) || self.max_position_embeddings < 2 {
            return Err(Unusable(format!("expected a size that its heads share, got {size} and {heads}")));
        }
        Ok(())
    }
}

impl PoolingFile {
    fn pooling(&self) -> Result<Pooling, Unusable> {
        let on = self.0.iter().filter(|(name, value)| name.starts_with("pooling_mode_") && **value == true);
        let on: Vec<&str> = on.map(|(name, _)| &**name).collect();
        match *on {
            ["pooling_mode_cls_token"] => Ok(Pooling::Cls),
            ["pooling_mode_mean_tokens"] => Ok(Pooling::Mean),
            _ => Err(Unusable(format!("expected pooling by the mean or by the first token, got {on:?}"))),
        }
    }
}

/// Another module behind the encoder would make other vectors of its own.
fn check_module(module: &Module) -> Result<(), Unusable> {
    match module.r#type.rsplit('.').next() {
        Some("Transformer" | "Pooling" | "Normalize") => Ok(()),
        _ => Err(Unusable(format!("expected no module but encoder and pooling, got {}", module.r#type))),
    }
}

/// What is in a file; nothing when there is none.
pub(super) fn read_json<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, Unusable> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(of_file(file, &error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| of_file(file, &error))
}

/// The failure to read a file.
pub(super) fn of_file(file: &Path, error: &dyn std::error::Error) -> Unusable {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    Unusable(format!("{name}: {error}"))
}
