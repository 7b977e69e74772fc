//! Forgetting all memories that a filter accepts.

use std::sync::Arc;

use axum::Json;
use engram_core::{Condition, Memory, StoreError, WriteOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    extract::{InSpace, JsonBody},
    filter::FilterField,
    problem::{Code, Problem},
    terms::Terms,
};

/// Ids in the answer.
const IDS_SHOWN_MAX: usize = 100;

/// Memories that are forgotten before the next are looked at.
const FORGOTTEN_TOGETHER: usize = 1_000;

/// Which memories are to go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(crate) struct DeleteBody {
    filter: Option<FilterField>,
    /// All of them; without a filter this must be said.
    all: Option<bool>,
    dry_run: Option<bool>,
}

/// What has gone, or would.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DeletedView {
    dry_run: bool,
    /// Memories that the filter accepts.
    matched: usize,
    deleted: usize,
    /// Memories that were changed, or deleted by somebody else, since they were found: they are left as they are.
    changed: usize,
    /// The first hundred of those that matched.
    ids: Vec<String>,
    /// The last of the changes.
    lsn: Option<u64>,
}

/// `DELETE /v1/memories`
pub(crate) async fn delete(
    InSpace(space): InSpace,
    terms: Terms,
    JsonBody(body): JsonBody<DeleteBody>,
) -> Result<Json<DeletedView>, Problem> {
    let terms = terms.without_version()?;
    if terms.has_key() {
        let detail = "idempotency-key: expected none, since what matches is looked up anew each time";
        return Err(Problem::new(Code::InvalidHeader, detail));
    }
    let filter = match (body.filter, body.all) {
        (Some(filter), None | Some(false)) => filter.into_filter()?,
        (None, Some(true)) => FilterField::default().into_filter()?,
        _ => {
            let detail = "expected a filter, or \"all\": true to forget all memories of the space";
            return Err(Problem::new(Code::InvalidFilter, detail));
        }
    };
    if filter.condition.as_ref().is_none_or(|it| constant(it) == Some(true)) && body.all != Some(true) {
        let detail = "filter: expected a condition that does not accept everything; to forget all memories of the space say \"all\": true";
        return Err(Problem::new(Code::InvalidFilter, detail));
    }
    let dry_run = body.dry_run == Some(true);
    let mut view = DeletedView { dry_run, matched: 0, deleted: 0, changed: 0, ids: Vec::new(), lsn: None };
    for ids in space.ids(filter.clone()).await?.chunks(FORGOTTEN_TOGETHER) {
        let memories = ids.iter().filter_map(|id| space.get(id)).filter(|memory| filter.accepts(memory));
        let memories: Vec<Arc<Memory>> = memories.collect();
        let shown = IDS_SHOWN_MAX.saturating_sub(view.ids.len());
        view.ids.extend(memories.iter().take(shown).map(|memory| memory.id().to_owned()));
        view.matched += memories.len();
        if !dry_run {
            let of_version = |lsn| WriteOptions { expected: Some(lsn), ..WriteOptions::default() };
            let found = memories.iter().map(|it| (it.id().to_owned(), of_version(it.lsn()))).collect();
            for answer in space.forget_all(found).await? {
                match answer {
                    Ok(receipt) => {
                        view.deleted += 1;
                        view.lsn = view.lsn.max(Some(receipt.lsn.get()));
                    }
                    Err(StoreError::NotFound { .. } | StoreError::VersionMismatch { .. }) => {
                        view.changed += 1;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    if view.deleted > 0 {
        terms.sync(&space).await?;
    }
    Ok(Json(view))
}

/// Whether it holds for everything, or for nothing, whatever a memory is like; nothing where that is for each memory to say.
fn constant(condition: &Condition) -> Option<bool> {
    match condition {
        Condition::Field(..) => None,
        Condition::Not(condition) => constant(condition).map(|holds| !holds),
        Condition::And(conditions) => joined(conditions, false),
        Condition::Or(conditions) => joined(conditions, true),
    }
}

/// Of a list that one `decisive` condition decides.
fn joined(conditions: &[Condition], decisive: bool) -> Option<bool> {
    let mut holds = Some(!decisive);
    for condition in conditions {
        match constant(condition) {
            Some(held) if held == decisive => return Some(decisive),
            Some(_) => {}
            None => holds = None,
        }
    }
    holds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_accepts_everything_is_known() {
        for (json, expected) in [
            ("{\"AND\":[]}", Some(true)),
            ("{\"OR\":[{}]}", Some(true)),
            ("{\"OR\":[{\"a\":1},{}]}", Some(true)),
            ("{\"NOT\":[]}", Some(true)),
            ("{\"NOT\":{\"OR\":[]}}", Some(true)),
            ("{\"NOT\":{\"NOT\":[{}]}}", Some(true)),
            ("{\"OR\":[]}", Some(false)),
            ("{\"NOT\":{}}", Some(false)),
            ("{\"AND\":[{\"a\":1},{\"OR\":[]}]}", Some(false)),
            ("{\"a\":1}", None),
            ("{\"AND\":[{},{\"a\":1}]}", None),
            ("{\"OR\":[{\"a\":1},{\"NOT\":{}}]}", None),
        ] {
            let filter = serde_json::from_str::<FilterField>(json).unwrap().into_filter().unwrap();
            assert_eq!(constant(&filter.condition.unwrap()), expected, "{json}");
        }
    }
}
