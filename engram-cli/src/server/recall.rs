//! Questions.

use std::time::Duration;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use engram_core::{Embedding, Explanation, Filter, Lsn, Mode, Query, Route, limits::RECALL_LIMIT_MAX};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    dto::EpisodeView,
    embedding_field::EmbeddingField,
    extract::{InSpace, JsonBody},
    filter::FilterField,
    problem::{Code, Problem},
};
use crate::service::Answered;

/// How long a question may wait for the change that it must see.
const MIN_LSN_WAIT_MAX: Duration = Duration::from_secs(5);

/// A question: by words, by an embedding, or by both.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(crate) struct RecallBody {
    embedding: Option<EmbeddingField>,
    /// Words.
    #[schemars(length(max = 16_384))]
    query: Option<String>,
    mode: Option<ModeField>,
    /// The most results.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    filter: Option<FilterField>,
    /// Halves a score for each such time since `when`.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,8}[smhdw]$"))]
    recency_half_life: Option<String>,
    /// A change that must be seen.
    min_lsn: Option<u64>,
    /// Compares with every vector.
    exact: Option<bool>,
    /// Says of each result where its score comes from.
    explain: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ModeField {
    Auto,
    Vector,
    Words,
    Hybrid,
}

/// What answers a question best, the best first.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RecallView<'a> {
    results: Vec<HitView<'a>>,
    lsn: u64,
    complete: bool,
    /// Why the question was answered by words alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<RecallExplanation>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct HitView<'a> {
    #[serde(flatten)]
    what: EpisodeView<'a>,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<HitExplanation>,
}

/// How the question was answered.
#[derive(Debug, Serialize, JsonSchema)]
struct RecallExplanation {
    mode: &'static str,
    /// How the nearest vectors were found: `exact`, `scan`, `ivf` or `hnsw`.
    index: Option<&'static str>,
    /// In how many of the lists.
    probes: Option<usize>,
    /// How many of the nearest were kept on the way through the graph.
    ef: Option<usize>,
}

/// Where the score comes from.
#[derive(Debug, Serialize, JsonSchema)]
struct HitExplanation {
    similarity: Option<f32>,
    vector_rank: Option<u32>,
    word_score: Option<f32>,
    word_rank: Option<u32>,
    recency: Option<f32>,
}

/// `POST /v1/recall`
pub(crate) async fn post(
    InSpace(space): InSpace,
    JsonBody(body): JsonBody<RecallBody>,
) -> Result<Response, Problem> {
    let (min_lsn, explain) = (body.min_lsn.map(Lsn::new), body.explain == Some(true));
    let query = body.into_query()?;
    if let Some(lsn) = min_lsn {
        space.service().wait_for(lsn, MIN_LSN_WAIT_MAX).await?;
    }
    let answered = space.recall(query).await?;
    Ok(Json(RecallView::new(&answered, explain)).into_response())
}

impl RecallBody {
    fn into_query(self) -> Result<Query, Problem> {
        let mode = match self.mode {
            None | Some(ModeField::Auto) => Mode::Auto,
            Some(ModeField::Vector) => Mode::Vector,
            Some(ModeField::Words) => Mode::Words,
            Some(ModeField::Hybrid) => Mode::Hybrid,
        };
        let default = Query::default();
        if self.limit == Some(0) {
            let detail = format!("expected a limit of 1 to {RECALL_LIMIT_MAX}, got 0");
            return Err(Problem::new(Code::InvalidQuery, detail));
        }
        let half_life = self.recency_half_life.as_deref().map(duration).transpose()?;
        Ok(Query {
            words: self.query,
            embedding: self.embedding.map(Embedding::from),
            mode,
            limit: self.limit.unwrap_or(default.limit),
            filter: self.filter.map_or_else(|| Ok(Filter::default()), FilterField::into_filter)?,
            recency_half_life: half_life,
            exact: self.exact == Some(true),
            ..default
        })
    }
}

/// Reads a duration such as `90s`, `30m`, `12h`, `7d` or `2w`.
fn duration(text: &str) -> Result<Duration, Problem> {
    let unit_s = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        Some(b'd') => 86_400,
        Some(b'w') => 7 * 86_400,
        _ => 0,
    };
    let number = text.get(..text.len().saturating_sub(1)).filter(|_| unit_s > 0);
    let seconds = number.and_then(|number| number.parse::<u32>().ok()).filter(|&number| number > 0);
    seconds.map(|number| Duration::from_secs(u64::from(number) * unit_s)).ok_or_else(|| {
        let detail = format!(
            "recency_half_life: expected a whole number above 0 and a unit, such as 90s, 30m, 12h, 7d or 2w, got {text:?}"
        );
        Problem::new(Code::InvalidQuery, detail)
    })
}

impl<'a> RecallView<'a> {
    fn new(answered: &'a Answered, explain: bool) -> Self {
        let recall = &answered.recall;
        let results = recall.hits.iter().map(|hit| HitView {
            what: (&*hit.memory).into(),
            score: hit.score,
            explain: explain.then(|| hit.explanation.into()),
        });
        Self {
            results: results.collect(),
            lsn: recall.lsn.get(),
            complete: recall.complete,
            embedding_error: answered.embedding_error.as_ref().map(ToString::to_string),
            explain: explain.then(|| {
                let route = recall.route;
                RecallExplanation {
                    mode: name(recall.mode),
                    index: route.map(Route::name),
                    probes: route.and_then(Route::probes),
                    ef: route.and_then(Route::ef),
                }
            }),
        }
    }
}

const fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "auto",
        Mode::Vector => "vector",
        Mode::Words => "words",
        Mode::Hybrid => "hybrid",
    }
}

impl From<Explanation> for HitExplanation {
    fn from(why: Explanation) -> Self {
        let Explanation { similarity, vector_rank, word_score, word_rank, recency } = why;
        Self { similarity, vector_rank, word_score, word_rank, recency }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(json: &str) -> Result<Query, Code> {
        let body: RecallBody = serde_json::from_str(json).unwrap();
        body.into_query().map_err(|problem| problem.code())
    }

    #[test]
    fn a_question_is_read() {
        assert_eq!(query(r#"{"query":"tea"}"#), Ok(Query::words("tea")));
        assert_eq!(query(r#"{"embedding":[1,2],"limit":3}"#), Ok(Query::embedding([1.0, 2.0]).limit(3)));
        let hybrid = Query { mode: Mode::Hybrid, exact: true, ..Query::hybrid("tea", [1.0]) };
        assert_eq!(query(r#"{"query":"tea","embedding":[1],"mode":"hybrid","exact":true}"#), Ok(hybrid));
        assert_eq!(query(r#"{"query":"tea","limit":0}"#), Err(Code::InvalidQuery));
        assert!(serde_json::from_str::<RecallBody>(r#"{"mode":"magic"}"#).is_err());
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in
            [("90s", 90), ("30m", 1_800), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)]
        {
            assert_eq!(duration(text).unwrap(), Duration::from_secs(seconds));
        }
        for text in ["", "7", "d", "0d", "-1d", "1.5h", "7 d", "7days", "99999999999d", "é"] {
            assert!(duration(text).unwrap_err().detail().contains("such as"), "{text}");
        }
    }
}
