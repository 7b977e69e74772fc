//! Another model for all memories, while the server serves.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use engram_core::{Writes, chrono::SecondsFormat};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use super::{
    extract::{JsonBody, Ready},
    problem::{Code, Problem},
    state::App,
    status::ModelView,
};
use crate::embed::{EmbedArgs, EmbedConfig, Reembed, ReembedStatus, Secret, key_for};

/// Bytes of what is kept and told of a model.
const URL_BYTES_MAX: usize = 2_048;
const TEXT_BYTES_MAX: usize = 1_024;

/// The model to come: the flags of `engram start --embed-…` by their names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(crate) struct ReembedBody {
    /// An OpenAI-compatible endpoint, such as `http://127.0.0.1:11434/v1`.
    #[schemars(length(min = 1, max = URL_BYTES_MAX))]
    url: String,
    /// The model to ask the endpoint for.
    #[schemars(length(min = 1, max = TEXT_BYTES_MAX))]
    model: String,
    /// How many numbers to ask for, where the model can be shortened.
    #[schemars(range(min = 1, max = 65_536))]
    dimensions: Option<usize>,
    /// What the model wants before each text.
    #[schemars(length(max = TEXT_BYTES_MAX))]
    document_prefix: Option<String>,
    /// What the model wants before each question.
    #[schemars(length(max = TEXT_BYTES_MAX))]
    query_prefix: Option<String>,
    /// The most texts of one request (32).
    #[schemars(range(min = 1, max = 1_000))]
    batch: Option<usize>,
    /// How long a request may take, such as `30s` or `500ms`.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,8}m?s$"))]
    timeout: Option<String>,
    /// The key of the endpoint. Without one, that of the server is used for an endpoint of the same origin alone.
    #[serde(default, deserialize_with = "secret")]
    #[schemars(with = "Option<String>", length(max = 8_192))]
    key: Option<Secret>,
}

/// What is wrong with it is told without it.
fn secret<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Secret>, D::Error> {
    match Value::deserialize(field)? {
        Value::Null => Ok(None),
        Value::String(key) => key.parse().map(Some).map_err(de::Error::custom),
        _ => Err(de::Error::custom("expected a string")),
    }
}

/// How embedding all memories anew is doing.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReembedView {
    /// `idle`, `running`, `failed`, `cancelled` or `done`.
    state: &'static str,
    /// When it came into this state.
    since: Option<String>,
    model: Option<ModelView>,
    /// Where the vectors come from.
    source: Option<String>,
    /// How many numbers they have, once that is known.
    dimension: Option<usize>,
    /// Memories that are done with, of so many: with those that the model does not take.
    done: usize,
    total: usize,
    /// Texts that the model does not take: these memories are recalled by words.
    refused: usize,
    /// What was last in the way.
    last_error: Option<String>,
    /// The place of the log from which on the new model is the store's, once it is.
    lsn: Option<u64>,
    /// The flags that the server is to be started with from then on.
    start_with: Option<String>,
}

impl From<ReembedStatus> for ReembedView {
    fn from(status: ReembedStatus) -> Self {
        let done = status.embedded + status.refused;
        Self {
            state: status.state.name(),
            since: status.since.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true)),
            model: status.model.map(ModelView::from),
            source: status.source,
            dimension: status.dimension,
            done,
            // What was forgotten meanwhile was done all the same.
            total: status.memories.max(done),
            refused: status.refused,
            last_error: status.last_error,
            lsn: status.lsn.map(engram_core::Lsn::get),
            start_with: status.start_with,
        }
    }
}

/// `POST /v1/reembed`
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    Ready(service): Ready,
    JsonBody(body): JsonBody<ReembedBody>,
) -> Result<(StatusCode, Json<ReembedView>), Problem> {
    let own = app.config.embed.as_ref();
    let config = body.into_config(own)?;
    if service.status().writes == Writes::Refused {
        // Says why; or that writes are taken again.
        service.sync().await?;
    }
    match service.reembed(config) {
        Ok(status) => Ok((StatusCode::ACCEPTED, Json(status.into()))),
        Err(Reembed::Runs(status)) => {
            let model = status.model.map(|model| model.to_string()).unwrap_or_default();
            let detail = format!("all memories are being embedded anew already, by {model}");
            Err(Problem::new(Code::ReembedRunning, detail))
        }
        Err(Reembed::Model(failure)) => Err(Problem::new(Code::InvalidBody, failure.to_string())),
    }
}

/// `GET /v1/reembed`
pub(crate) async fn get(Ready(service): Ready) -> Json<ReembedView> {
    Json(service.reembedding().status().into())
}

/// `DELETE /v1/reembed`
pub(crate) async fn delete(Ready(service): Ready) -> Json<ReembedView> {
    Json(service.reembedding().cancel().into())
}

impl ReembedBody {
    fn into_config(self, own: Option<&EmbedConfig>) -> Result<EmbedConfig, Problem> {
        let prefixes = [
            ("document_prefix", self.document_prefix.unwrap_or_default()),
            ("query_prefix", self.query_prefix.unwrap_or_default()),
        ];
        let texts = [("url", &self.url, URL_BYTES_MAX), ("model", &self.model, TEXT_BYTES_MAX)];
        let of_prefixes = prefixes.iter().map(|(name, prefix)| (*name, prefix, TEXT_BYTES_MAX));
        for (name, text, max) in texts.into_iter().chain(of_prefixes) {
            if text.len() > max {
                let detail = format!("{name}: expected up to {max} bytes, got {}", text.len());
                return Err(Problem::new(Code::InvalidBody, detail));
            }
        }
        let key = self.key.or_else(|| key_for(own, &self.url));
        let [document_prefix, query_prefix] = prefixes.map(|(_, prefix)| prefix);
        let args = EmbedArgs {
            embed_url: Some(self.url),
            embed_model: Some(self.model),
            #[cfg(feature = "local-model")]
            embed_model_dir: None,
            embed_key_file: None,
            embed_key: key,
            embed_document_prefix: document_prefix,
            embed_query_prefix: query_prefix,
            embed_dimensions: self.dimensions,
            embed_batch: self.batch.unwrap_or(32),
            embed_timeout: self.timeout.unwrap_or_else(|| "30s".to_owned()),
            embed_required: own.is_some_and(|own| own.required),
        };
        match EmbedConfig::from_args(args) {
            Ok(Some(config)) => Ok(config),
            Ok(None) => Err(Problem::new(Code::InvalidBody, "url: expected one, got none")),
            Err(failure) => Err(Problem::new(Code::InvalidBody, of_flags(&failure.to_string()))),
        }
    }
}

/// What is said of flags, of the fields that have their names.
fn of_flags(message: &str) -> String {
    message.replace("--embed-key-file", "key").replace("an --embed-", "a ").replace("--embed-", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Result<EmbedConfig, String> {
        let body: ReembedBody = serde_json::from_str(json).map_err(|e| e.to_string())?;
        body.into_config(None).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn a_model_is_checked_as_the_flags_are() {
        let whole = r#"{"url": "http://h/v1", "model": "m", "dimensions": 8, "document_prefix": "d: ",
            "query_prefix": "q: ", "batch": 4, "timeout": "2s", "key": "hidden"}"#;
        let read = config(whole).unwrap();
        assert_eq!((read.batch, read.required, &*read.prefixes.query), (4, false, "q: "));
        assert!(!format!("{read:?}").contains("hidden"), "{read:?}");
        for (fields, expected) in [
            (r#""url": "ftp://h", "model": "m""#, "expected a url such as http://127.0.0.1:11434/v1"),
            (r#""url": "http://u:hunter2@h", "model": "m""#, "put the key into key"),
            (r#""url": "http://h", "model": """#, "expected a model beside url"),
            (r#""url": "http://h", "model": "m", "batch": 0"#, "expected a batch of 1 to 1000, got 0"),
            (r#""url": "http://h", "model": "m", "timeout": "soon""#, "a timeout such as 30s"),
            (r#""url": "http://h", "model": "m", "dimensions": 70000"#, "expected dimensions of 1"),
            (r#""url": "http://h", "model": "m", "key": "a\nb""#, "of printable ASCII"),
            (r#""url": "http://h", "model": "m", "key": 8211"#, "expected a string"),
            (r#""url": "http://h", "model": "m", "directory": "/""#, "unknown field"),
        ] {
            let error = config(&format!("{{{fields}}}")).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("8211"), "{error}");
        }
        let long = format!(r#"{{"url": "http://h", "model": "{}"}}"#, "m".repeat(1_025));
        assert_eq!(config(&long).unwrap_err(), "model: expected up to 1024 bytes, got 1025");
    }
}
