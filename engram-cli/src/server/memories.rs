//! Memories one by one, and page by page.

use axum::{
    Json,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use engram_core::{Cursor, Episode, ListQuery, Page};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    cursor,
    dto::{MemoryBody, MemoryView, PatchBody, ReceiptView, time},
    extract::{InSpace, MemoryId, Params, RawJson},
    filter::FilterField,
    problem::{Code, Problem},
    terms::{Terms, etag, has_version},
};
use crate::service::{SpaceService, Stored};

/// Memories on a page whose size is not asked for.
const LIST_LIMIT_DEFAULT: usize = 100;

/// Bytes of contents after which a page ends early: a thousand long memories would be hundreds of megabytes.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// `POST /v1/memories`
pub(crate) async fn post(
    InSpace(space): InSpace,
    terms: Terms,
    RawJson(body, bytes): RawJson<MemoryBody>,
) -> Result<ReceiptView, Problem> {
    store(&space, &terms, body.into_episode()?, &bytes).await
}

/// `PUT /v1/memories/{id}`
pub(crate) async fn put(
    InSpace(space): InSpace,
    MemoryId(id): MemoryId,
    terms: Terms,
    RawJson(body, bytes): RawJson<MemoryBody>,
) -> Result<ReceiptView, Problem> {
    store(&space, &terms, body.with_id(id)?.into_episode()?, &bytes).await
}

async fn store(
    space: &SpaceService,
    terms: &Terms,
    episode: Episode,
    body: &[u8],
) -> Result<ReceiptView, Problem> {
    let options = terms.options(body);
    let stored = if terms.ask_for_any_version() {
        space.replace(episode, options).await
    } else {
        space.remember(episode, options).await
    };
    view(space, terms, stored.map_err(|error| terms.refusal(error))?).await
}

/// `PATCH /v1/memories/{id}`
pub(crate) async fn patch(
    InSpace(space): InSpace,
    MemoryId(id): MemoryId,
    terms: Terms,
    RawJson(body, bytes): RawJson<PatchBody>,
) -> Result<ReceiptView, Problem> {
    let stored = space.patch(&id, body.into_patch()?, &terms.options(&bytes)).await;
    view(&space, &terms, stored.map_err(|error| terms.refusal(error))?).await
}

async fn view(space: &SpaceService, terms: &Terms, stored: Stored) -> Result<ReceiptView, Problem> {
    let receipt = terms.keep(space, stored.receipt).await?;
    Ok(ReceiptView::in_space(space, receipt).with_vector(stored.vector))
}

/// `DELETE /v1/memories/{id}`
pub(crate) async fn delete(
    InSpace(space): InSpace,
    MemoryId(id): MemoryId,
    terms: Terms,
) -> Result<ReceiptView, Problem> {
    let receipt = space.forget(id, terms.options(&[])).await.map_err(|error| terms.refusal(error))?;
    Ok(ReceiptView::in_space(&space, terms.keep(&space, receipt).await?))
}

/// Parameters of `GET /v1/memories/{id}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GetParams {
    include: Option<Include>,
}

/// What is only told when it is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Include {
    Embedding,
}

/// `GET /v1/memories/{id}`
pub(crate) async fn get(
    InSpace(space): InSpace,
    MemoryId(id): MemoryId,
    Params(params): Params<GetParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let not_found = || Problem::new(Code::NotFound, format!("there is no memory with the id {id:?}"));
    let (memory, embedding) = match params.include {
        None => (space.get(&id).ok_or_else(not_found)?, None),
        Some(Include::Embedding) => space.get_with_embedding(&id).ok_or_else(not_found)?,
    };
    let tag = [(header::ETAG, etag(memory.lsn()))];
    if has_version(&headers, memory.lsn()) && params.include.is_none() {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    let view = MemoryView::from(&*memory).with_embedding(embedding.as_ref());
    Ok((tag, Json(view)).into_response())
}

/// Parameters of `GET /v1/memories`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListParams {
    limit: Option<usize>,
    cursor: Option<String>,
    from: Option<String>,
    to: Option<String>,
    /// JSON, as in a recall.
    filter: Option<String>,
}

/// A page of memories, and how to get the next one.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PageView<'a> {
    memories: Vec<MemoryView<'a>>,
    next_cursor: Option<String>,
}

/// `GET /v1/memories`
pub(crate) async fn list(
    InSpace(space): InSpace,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let filter = params.filter.as_deref().map(FilterField::parse).transpose()?.unwrap_or_default();
    let query = ListQuery {
        limit: params.limit.unwrap_or(LIST_LIMIT_DEFAULT),
        after: params.cursor.as_deref().map(cursor::decode).transpose()?,
        from: params.from.as_deref().map(|from| time("from", from)).transpose()?,
        before: params.to.as_deref().map(|to| time("to", to)).transpose()?,
        filter: filter.into_filter()?,
    };
    let page = space.list(query).await?;
    let page = within(PAGE_BYTES_MAX, page);
    let view = PageView {
        memories: page.memories.iter().map(|memory| MemoryView::from(&**memory)).collect(),
        next_cursor: page.next.as_ref().map(cursor::encode),
    };
    Ok(Json(view).into_response())
}

/// The page up to the memory with which it reaches `bytes_max`.
fn within(bytes_max: usize, mut page: Page) -> Page {
    let mut bytes = 0;
    let reaches = page.memories.iter().position(|memory| {
        bytes += memory.content().len();
        bytes >= bytes_max
    });
    if let Some(last) = reaches
        && last + 1 < page.memories.len()
    {
        page.memories.truncate(last + 1);
        page.next = page
            .memories
            .last()
            .map(|memory| Cursor { when_us: memory.when().timestamp_micros(), id: memory.id().into() });
    }
    page
}

#[cfg(test)]
mod tests {
    use engram_core::{Episode, MemoryStore};

    use super::*;

    #[test]
    fn a_page_of_long_memories_ends_early_and_goes_on_where_it_ended() {
        let store = MemoryStore::new(10);
        for id in ["a", "b", "c"] {
            store.store(Episode::text(id, "0123456789")).unwrap();
        }
        let query = ListQuery { limit: 3, ..ListQuery::default() };
        let whole = store.list(&query).unwrap();
        assert_eq!(within(21, whole.clone()), whole);
        let first = within(20, whole.clone());
        assert_eq!(first.memories, whole.memories[..2]);
        let rest = store.list(&ListQuery { after: first.next, ..query }).unwrap();
        assert_eq!(rest.memories, whole.memories[2..]);
        assert_eq!(within(1, whole).memories.len(), 1);
    }
}
