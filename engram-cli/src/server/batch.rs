//! Many memories in one request: a JSON array, or NDJSON (a memory a line).

use axum::{
    Json,
    extract::Request,
    http::header,
    response::{IntoResponse, Response},
};
use engram_core::{Episode, WriteOptions};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    body,
    dto::{MemoryBody, ReceiptView},
    extract::{InSpace, is_json, media_type, unsupported},
    json::{TRAILING, json_problem, parse_object},
    problem::{Code, Problem, ProblemView},
    terms::Terms,
};
use crate::service::Stored;

/// Memories of one batch.
const BATCH_ITEMS_MAX: usize = 10_000;

/// How the items of a batch are put together, in the request and in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    JsonArray,
    Ndjson,
}

/// The answer to one item.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BatchAnswer")]
#[serde(untagged)]
pub(crate) enum Answer {
    Stored(ReceiptView),
    Refused {
        #[serde(flatten)]
        place: Place,
        #[schemars(with = "ProblemView")]
        error: Problem,
    },
}

/// Where in the batch an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Place {
    /// Counted from 0.
    item: usize,
    /// Of NDJSON, counted from 1, with the empty lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
}

/// An item that was read, or why it cannot be.
type Item = (Place, Result<(Episode, WriteOptions), Problem>);

/// `POST /v1/memories/batch`
pub(crate) async fn post(
    InSpace(space): InSpace,
    terms: Terms,
    request: Request,
) -> Result<Response, Problem> {
    let terms = terms.without_version()?;
    let media_type = media_type(request.headers());
    let turn = space.service().batch_turn().await;
    let bytes = body::read(request, body::BATCH).await?;
    let format = Format::of(&media_type)?;
    let of_items = terms.clone();
    let receipts = space.remember_all(turn, move || episodes(format, &bytes, &of_items)).await?;
    terms.sync(&space).await?;
    let answers = receipts.into_iter().map(|(place, receipt)| match receipt {
        Ok(Stored { receipt, vector }) => {
            Answer::Stored(ReceiptView::from(terms.synced(receipt)).with_vector(vector))
        }
        Err(error) => Answer::Refused { place, error },
    });
    format.write(&answers.collect::<Vec<_>>())
}

impl Format {
    fn of(media_type: &str) -> Result<Self, Problem> {
        match media_type {
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Self::Ndjson),
            _ if is_json(media_type) => Ok(Self::JsonArray),
            _ => Err(unsupported(media_type, "application/json or application/x-ndjson").suggest(
                "Say what you send: with curl, add -H 'content-type: application/json' for an array, or \
                 -H 'content-type: application/x-ndjson' for a memory a line (and --data-binary, since -d joins lines).",
            )),
        }
    }

    fn write(self, answers: &[Answer]) -> Result<Response, Problem> {
        if self == Self::JsonArray {
            return Ok(Json(answers).into_response());
        }
        let mut lines = Vec::new();
        for answer in answers {
            serde_json::to_writer(&mut lines, answer)
                .map_err(|e| Problem::new(Code::Internal, format!("an answer cannot be written: {e}")))?;
            lines.push(b'\n');
        }
        Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
    }
}

/// The items of a batch, or why there are none. What is wrong with one is its own affair.
fn episodes(format: Format, bytes: &[u8], terms: &Terms) -> Result<Vec<Item>, Problem> {
    let with_terms = |item, bytes: &[u8], episode: Result<Episode, Problem>| {
        episode.map(|episode| (episode, terms.options_of_item(item, bytes)))
    };
    match format {
        Format::JsonArray => {
            let items: Vec<&RawValue> = parse_array(bytes)?;
            check_count(items.len())?;
            let place = |item| Place { item, line: None };
            let read = |(n, item): (usize, &RawValue)| {
                let bytes = item.get().as_bytes();
                (place(n), with_terms(n, bytes, episode(bytes)))
            };
            Ok(items.into_iter().enumerate().map(read).collect())
        }
        Format::Ndjson => {
            let lines = || {
                let lines = (1..).zip(bytes.split(|&byte| byte == b'\n'));
                lines.filter(|(_, line)| !line.trim_ascii().is_empty())
            };
            check_count(lines().count())?;
            let read = |(item, (line, text)): (usize, (usize, &[u8]))| {
                let place = Place { item, line: Some(line) };
                (place, with_terms(item, text, episode_of_line(text)))
            };
            Ok(lines().enumerate().map(read).collect())
        }
    }
}

/// The array, with its items still unread: one that is wrong does not keep the others from being stored.
fn parse_array(bytes: &[u8]) -> Result<Vec<&RawValue>, Problem> {
    serde_json::from_slice(bytes).map_err(|e| {
        json_problem(&e).suggest(
            "Send an array of memories; for a memory a line the content type is application/x-ndjson.",
        )
    })
}

fn check_count(items: usize) -> Result<(), Problem> {
    if items > BATCH_ITEMS_MAX {
        let detail = format!("expected at most {BATCH_ITEMS_MAX} memories, got {items}");
        return Err(Problem::new(Code::BatchTooLarge, detail));
    }
    Ok(())
}

fn episode_of_line(line: &[u8]) -> Result<Episode, Problem> {
    episode(line).map_err(|problem| {
        if problem.detail().starts_with(TRAILING) {
            problem.suggest(
                "Put each memory on a line of its own; with curl send the lines by --data-binary, since -d joins them.",
            )
        } else {
            problem
        }
    })
}

fn episode(item: &[u8]) -> Result<Episode, Problem> {
    parse_object::<MemoryBody>(item)?.into_episode()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(format: Format, body: &str) -> Result<Vec<Result<String, Code>>, Code> {
        let items = episodes(format, body.as_bytes(), &Terms::none()).map_err(|problem| problem.code())?;
        Ok(items
            .into_iter()
            .map(|(_, item)| item.map(|(it, _)| it.content).map_err(|problem| problem.code()))
            .collect())
    }

    #[test]
    fn one_wrong_item_leaves_the_others() {
        let expected =
            Ok(vec![Ok("a".to_owned()), Err(Code::InvalidBody), Err(Code::InvalidTime), Ok("b".to_owned())]);
        let items = [
            r#"{"content":"a"}"#,
            r#"{"text":"a"}"#,
            r#"{"content":"a","when":"now"}"#,
            r#"{"content":"b"}"#,
        ];
        assert_eq!(codes(Format::JsonArray, &format!("[{}]", items.join(","))), expected);
        assert_eq!(codes(Format::Ndjson, &items.join("\r\n\n  \n")), expected);
        assert_eq!(codes(Format::Ndjson, "{\n{\"content\":\"a\"}").unwrap()[0], Err(Code::InvalidJson));
    }

    #[test]
    fn each_item_has_its_place_and_lines_that_were_joined_are_told() {
        let places = |format, body: &str| -> Vec<Place> {
            episodes(format, body.as_bytes(), &Terms::none())
                .unwrap()
                .into_iter()
                .map(|(place, _)| place)
                .collect()
        };
        let place = |item, line| Place { item, line };
        assert_eq!(places(Format::JsonArray, "[{},\n{}]"), [place(0, None), place(1, None)]);
        assert_eq!(places(Format::Ndjson, "\n{}\n\n{}"), [place(0, Some(2)), place(1, Some(4))]);
        let joined =
            episodes(Format::Ndjson, b"{\"content\":\"a\"}{\"content\":\"b\"}", &Terms::none()).unwrap();
        assert!(joined[0].1.as_ref().unwrap_err().suggestion().contains("--data-binary"));
    }

    #[test]
    fn an_array_that_is_none_is_refused_whole() {
        assert_eq!(codes(Format::JsonArray, r#"[{"content":"a"},"#), Err(Code::InvalidJson));
        assert_eq!(codes(Format::JsonArray, ""), Err(Code::InvalidJson));
        assert_eq!(codes(Format::JsonArray, r#"{"content":"a"}"#), Err(Code::InvalidBody));
        assert_eq!(codes(Format::JsonArray, "[]"), Ok(vec![]));
        assert_eq!(codes(Format::Ndjson, "\n\n"), Ok(vec![]));
    }

    #[test]
    fn a_batch_has_at_most_so_many_items() {
        let too_many = "{}\n".repeat(BATCH_ITEMS_MAX + 1);
        assert_eq!(codes(Format::Ndjson, &too_many), Err(Code::BatchTooLarge));
        let too_many = format!("[{}]", vec!["0"; BATCH_ITEMS_MAX + 1].join(","));
        assert_eq!(codes(Format::JsonArray, &too_many), Err(Code::BatchTooLarge));
    }
}
