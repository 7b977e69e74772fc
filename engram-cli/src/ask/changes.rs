//! `engram remember` and `engram forget`.

use axum::http::Method;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Map, Value, json};

use super::{SpaceArgs, ask, number, print, spaces::print_receipt, text_or_stdin};
use crate::{
    client::Call,
    count::count,
    exit::{Exit, Failure},
};

/// Flags of `engram remember`.
#[derive(Debug, clap::Args)]
pub(crate) struct RememberArgs {
    #[command(flatten)]
    at: SpaceArgs,

    /// What to remember; - reads standard input
    #[arg(value_name = "TEXT")]
    content: String,

    /// The id: what has it already is replaced [default: one is made]
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    id: Option<String>,

    /// When it happened, as RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    when: Option<String>,

    /// How sure it is, from 0 to 1 [default: 1]
    #[arg(long, value_name = "N")]
    confidence: Option<f64>,

    /// When it ends by itself, as RFC 3339 [default: never]
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,

    /// A fact to filter by, may be repeated. A number, true and false are what they look like; all else is text
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = key_and_value)]
    metadata: Vec<(String, Value)>,
}

fn key_and_value(pair: &str) -> Result<(String, Value), String> {
    let (key, value) = pair.split_once('=').ok_or_else(|| format!("expected KEY=VALUE, got {pair:?}"))?;
    let scalar = serde_json::from_str(value).ok().filter(|it: &Value| it.is_number() || it.is_boolean());
    Ok((key.to_owned(), scalar.unwrap_or_else(|| value.into())))
}

pub(super) fn remember(args: &RememberArgs) -> Result<(), Failure> {
    let mut body = Map::new();
    body.insert("content".to_owned(), text_or_stdin(&args.content)?.into());
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("id", args.id.clone().map(Value::from));
    set("when", args.when.clone().map(Value::from));
    set("confidence", args.confidence.map(Value::from));
    set("expires_at", args.expires_at.clone().map(Value::from));
    let metadata: Map<_, _> = args.metadata.iter().cloned().collect();
    set("metadata", (!metadata.is_empty()).then_some(metadata.into()));
    let call = Call::new(Method::POST, args.at.path("/memories")).body(body.into());
    let receipt = ask(&args.at.server, &call)?;
    print_receipt(args.at.json, &receipt)
}

/// Flags of `engram forget`.
#[derive(Debug, clap::Args)]
pub(crate) struct ForgetArgs {
    #[command(flatten)]
    at: SpaceArgs,

    /// The id of the memory
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new(), required_unless_present_any = ["filter", "all"], conflicts_with_all = ["filter", "all", "dry_run"])]
    id: Option<String>,

    /// Forget all memories that this filter accepts, such as '{"user": "ada"}'
    #[arg(long, value_name = "JSON", conflicts_with = "all")]
    filter: Option<String>,

    /// Forget all memories of the space
    #[arg(long)]
    all: bool,

    /// Tell what would be forgotten, and forget nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn forget(args: &ForgetArgs) -> Result<(), Failure> {
    if let Some(id) = &args.id {
        let receipt = ask(&args.at.server, &Call::new(Method::DELETE, args.at.memory(id)))?;
        return print_receipt(args.at.json, &receipt);
    }
    let which = match &args.filter {
        Some(filter) => json!({"filter": super::json("--filter", filter)?, "dry_run": args.dry_run}),
        None => json!({"all": true, "dry_run": args.dry_run}),
    };
    let answer = ask(&args.at.server, &Call::new(Method::DELETE, args.at.path("/memories")).body(which))?;
    print(args.at.json, &answer, |output| {
        let (matched, deleted) = (number(&answer, "matched"), number(&answer, "deleted"));
        let line = if args.dry_run {
            format!("{} would be forgotten", count(matched, "memory", "memories"))
        } else {
            format!("{} forgotten", count(deleted, "memory", "memories"))
        };
        output.line(&line).map(drop)
    })?;
    match number(&answer, "changed") {
        0 => Ok(()),
        changed => Err(Failure::new(
            Exit::Failure,
            format!(
                "{} changed meanwhile, and left as they are",
                count(changed, "memory was", "memories were")
            ),
        )
        .help("run it again to forget those, too")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_what_it_looks_like() {
        for (pair, value) in [
            ("user=ada", json!("ada")),
            ("stars=4.5", json!(4.5)),
            ("pinned=true", json!(true)),
            ("quoted=\"4\"", json!("\"4\"")),
            ("nothing=null", json!("null")),
            ("formula=a=b", json!("a=b")),
            ("empty=", json!("")),
        ] {
            assert_eq!(key_and_value(pair).unwrap().1, value, "{pair}");
        }
        assert!(key_and_value("user").unwrap_err().contains("expected KEY=VALUE, got \"user\""));
    }
}
