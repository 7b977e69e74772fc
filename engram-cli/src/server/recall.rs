//! Questions.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use engram_core::{Filter, Query, limits::RECALL_LIMIT_MAX};
use serde::{Deserialize, Serialize};

use super::{
    dto::{EpisodeView, confidence, time},
    embedding_field::EmbeddingField,
    extract::{JsonBody, Ready},
    problem::{Code, Problem},
};

/// A question: by words or by an embedding.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(crate) struct RecallBody {
    embedding: Option<EmbeddingField>,
    query: Option<String>,
    limit: Option<usize>,
    filter: Option<FilterBody>,
}

/// Which memories count.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with when or confidence")]
struct FilterBody {
    when: Option<WhenRange>,
    confidence: Option<ConfidenceRange>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with gte or lt")]
struct WhenRange {
    gte: Option<String>,
    lt: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with gte")]
struct ConfidenceRange {
    gte: Option<f32>,
}

/// What answers a question best, the best first.
#[derive(Debug, Serialize)]
struct RecallView<'a> {
    results: Vec<HitView<'a>>,
    lsn: u64,
}

#[derive(Debug, Serialize)]
struct HitView<'a> {
    #[serde(flatten)]
    what: EpisodeView<'a>,
    score: f32,
}

/// `POST /v1/recall`
pub(crate) async fn post(
    Ready(service): Ready,
    JsonBody(body): JsonBody<RecallBody>,
) -> Result<Response, Problem> {
    let recall = service.recall(body.into_query()?).await?;
    let results = recall.hits.iter().map(|hit| HitView { what: (&*hit.memory).into(), score: hit.score });
    Ok(Json(RecallView { results: results.collect(), lsn: recall.lsn.get() }).into_response())
}

impl RecallBody {
    fn into_query(self) -> Result<Query, Problem> {
        let question = match (self.query, self.embedding) {
            (Some(words), None) => Query::words(words),
            (None, Some(embedding)) => Query::embedding(embedding),
            (None, None) => {
                return Err(Problem::new(
                    Code::InvalidQuery,
                    "expected a query or an embedding, got neither",
                )
                .suggest("Ask by words with \"query\", or by meaning with \"embedding\"."));
            }
            (Some(_), Some(_)) => {
                return Err(Problem::new(Code::InvalidQuery, "expected a query or an embedding, got both")
                    .suggest("Ask twice: recall by words and meaning at once is not there yet."));
            }
        };
        let limited = match self.limit {
            Some(0) => {
                let detail = format!("expected a limit of 1 to {RECALL_LIMIT_MAX}, got 0");
                return Err(Problem::new(Code::InvalidQuery, detail));
            }
            Some(limit) => question.limit(limit),
            None => question,
        };
        Ok(limited.filter(self.filter.map_or_else(|| Ok(Filter::default()), FilterBody::into_filter)?))
    }
}

impl FilterBody {
    fn into_filter(self) -> Result<Filter, Problem> {
        let (from, before) = self.when.map_or((None, None), |when| (when.gte, when.lt));
        let sure = self.confidence.and_then(|range| range.gte);
        Ok(Filter {
            when_from: from.map(|from| time("filter.when.gte", &from)).transpose()?,
            when_before: before.map(|before| time("filter.when.lt", &before)).transpose()?,
            confidence_min: sure.map(confidence).transpose()?,
        })
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
    fn a_question_is_asked_in_one_way() {
        assert_eq!(query(r#"{"query":"tea"}"#), Ok(Query::words("tea")));
        assert_eq!(query(r#"{"embedding":[1,2],"limit":3}"#), Ok(Query::embedding([1.0, 2.0]).limit(3)));
        for neither_or_both in ["{}", r#"{"query":"tea","embedding":[1]}"#, r#"{"query":"tea","limit":0}"#] {
            assert_eq!(query(neither_or_both), Err(Code::InvalidQuery));
        }
    }

    #[test]
    fn filters_are_read_and_wrong_ones_refused() {
        let filter = |json: &str| query(&format!("{{\"query\":\"tea\",\"filter\":{json}}}"));
        let all = filter(
            r#"{"when":{"gte":"2026-01-01T00:00:00Z","lt":"2027-01-01T00:00:00Z"},"confidence":{"gte":0.5}}"#,
        );
        let Filter { when_from, when_before, confidence_min } = all.unwrap().filter;
        assert_eq!(when_from, Some(time("", "2026-01-01T00:00:00Z").unwrap()));
        assert_eq!(when_before, Some(time("", "2027-01-01T00:00:00Z").unwrap()));
        assert_eq!(confidence_min, Some(confidence(0.5).unwrap()));
        assert_eq!(filter("{}").unwrap().filter, Filter::default());
        assert_eq!(filter(r#"{"when":{"gte":"monday"}}"#), Err(Code::InvalidTime));
        assert_eq!(filter(r#"{"confidence":{"gte":2}}"#), Err(Code::InvalidConfidence));
    }
}
