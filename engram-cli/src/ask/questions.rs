//! `engram recall`, `engram get` and `engram list`.

use std::io::{self, IsTerminal as _};

use axum::http::Method;
use clap::builder::NonEmptyStringValueParser;
use serde_json::Map;

use super::{SpaceArgs, ask, print, table, tell_nothing, text, text_or_stdin};
use crate::{client::Call, exit::Failure, operator::output::Reader, server::percent_encoded};

/// Memories of one request of a list.
const PAGE_MEMORIES: usize = 1_000;

/// Flags of `engram recall`.
#[derive(Debug, clap::Args)]
pub(crate) struct RecallArgs {
    #[command(flatten)]
    at: SpaceArgs,

    /// The question; - reads standard input
    #[arg(value_name = "QUESTION")]
    query: String,

    /// The most results
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,

    /// Which memories count, such as '{"user": "ada"}'
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,

    /// How to look: auto, words, vector or hybrid
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,

    /// Prefer what is recent: halves a score for each such time, such as 7d or 12h
    #[arg(long, value_name = "TIME")]
    recency_half_life: Option<String>,
}

pub(super) fn recall(args: &RecallArgs) -> Result<(), Failure> {
    let mut body = Map::new();
    body.insert("query".to_owned(), text_or_stdin(&args.query)?.into());
    body.insert("limit".to_owned(), args.limit.into());
    if let Some(filter) = &args.filter {
        body.insert("filter".to_owned(), super::json("--filter", filter)?);
    }
    for (name, value) in [("mode", &args.mode), ("recency_half_life", &args.recency_half_life)] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value.as_str().into());
        }
    }
    let answer = ask(&args.at.server, &Call::new(Method::POST, args.at.path("/recall")).body(body.into()))?;
    let results = answer["results"].as_array().cloned().unwrap_or_default();
    print(args.at.json, &answer, |output| table::print_memories(output, &results).map(drop))?;
    if results.is_empty() {
        tell_nothing(args.at.json, "nothing found");
    }
    Ok(())
}

/// Flags of `engram get`.
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    at: SpaceArgs,

    /// The id of the memory
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
}

pub(super) fn get(args: &GetArgs) -> Result<(), Failure> {
    let memory = ask(&args.at.server, &Call::get(args.at.memory(&args.id)))?;
    print(args.at.json, &memory, |output| {
        for field in ["id", "when", "expires_at", "confidence", "metadata", "lsn"] {
            let Some(value) = memory.get(field).filter(|value| !value.is_null()) else { continue };
            let value = value.as_str().map_or_else(|| value.to_string(), table::one_line);
            output.line(&format!("{field:12}{value}"))?;
        }
        output.line("")?;
        let content = text(&memory, "content");
        let is_seen = io::stdout().is_terminal();
        output.line(&if is_seen { table::harmless(content) } else { content.to_owned() }).map(drop)
    })
}

/// Flags of `engram list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    at: SpaceArgs,

    /// The most memories [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Which memories to list, such as '{"user": "ada"}'
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,

    /// From this time on, as RFC 3339
    #[arg(long, value_name = "TIME")]
    from: Option<String>,

    /// Before this time, as RFC 3339
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

/// Page by page, as they come: a reader that goes away ends it. As JSON a memory a line.
pub(super) fn list(args: &ListArgs) -> Result<(), Failure> {
    let mut parameters = String::new();
    for (name, value) in [("from", &args.from), ("to", &args.to), ("filter", &args.filter)] {
        if let Some(value) = value {
            parameters.extend(["&", name, "=", &percent_encoded(value)]);
        }
    }
    let mut output = crate::operator::output::Output::new();
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut cursor = String::new();
    let mut is_empty = args.limit != Some(0);
    while left > 0 {
        let path = format!("/memories?limit={}{parameters}{cursor}", left.min(PAGE_MEMORIES));
        let page = ask(&args.at.server, &Call::get(args.at.path(&path)))?;
        let memories = page["memories"].as_array().cloned().unwrap_or_default();
        left = left.saturating_sub(memories.len());
        is_empty &= memories.is_empty();
        let mut reader = Reader::Listens;
        if args.at.json {
            for memory in &memories {
                reader = output.json(memory)?;
            }
        } else {
            reader = table::print_memories(&mut output, &memories)?;
        }
        match page["next_cursor"].as_str() {
            Some(next) if reader == Reader::Listens => cursor = format!("&cursor={}", percent_encoded(next)),
            _ => break,
        }
    }
    output.end()?;
    if is_empty {
        tell_nothing(args.at.json, "no memories");
    }
    Ok(())
}
