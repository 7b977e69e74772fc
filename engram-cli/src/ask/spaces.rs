//! `engram status` and `engram space`.

use axum::http::Method;
use clap::{Subcommand, builder::NonEmptyStringValueParser};
use serde_json::{Value, json};

use super::{CODES, ask, number, print, text};
use crate::{
    client::{Call, ServerArgs},
    count::count,
    exit::Failure,
    operator::{
        confirm,
        output::{Output, size},
    },
    server::percent_encoded,
};

/// Flags of `engram status`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Print JSON, as the server sends it
    #[arg(long)]
    json: bool,
}

pub(super) fn status(args: &StatusArgs) -> Result<(), Failure> {
    let status = ask(&args.server, &Call::get("/v1/status"))?;
    print(args.json, &status, |output| {
        let (log, index) = (&status["log"], &status["index"]);
        let memories = count(number(&status, "memories"), "memory", "memories");
        let spaces = count(number(&status, "spaces"), "space", "spaces");
        let uptime = count(number(&status, "uptime_s"), "second", "seconds");
        output.line(&format!("engram {}, up for {uptime}", text(&status, "version")))?;
        output.line(&format!(
            "  memories   {memories} in {spaces}, of {} at most",
            number(&status, "capacity")
        ))?;
        output.line(&format!("  memory     {}", size(number(&status, "memory_bytes"))))?;
        let is_full = log["disk_full"].as_bool().unwrap_or_default();
        let writes = if is_full { "refused: the disk is full" } else { text(&status, "writes") };
        output.line(&format!("  writes     {writes}, fsync {}", text(log, "fsync")))?;
        output.line(&format!(
            "  log        up to LSN {}, {} since the last snapshot, in {}",
            number(&status, "applied_lsn"),
            size(number(&status["snapshots"], "log_bytes")),
            text(log, "directory"),
        ))?;
        output.line(&format!(
            "  index      {} of {}, {} dimensions in {}",
            text(index, "route"),
            count(number(index, "vectors"), "vector", "vectors"),
            number(&status, "dimension"),
            text(&status, "precision"),
        ))?;
        let recovery = &status["recovery"];
        if let lost @ 1.. = number(recovery, "lost_records") {
            let lost = count(lost, "acknowledged record", "acknowledged records");
            output.line(&format!(
                "  LOST       {lost} that the start could not read: `engram verify` names them"
            ))?;
        } else if let damaged @ 1.. = number(recovery, "damaged_ranges") {
            let damaged = count(damaged, "place", "places");
            output.line(&format!(
                "  DAMAGED    {damaged} of the log, nothing is lost: `engram verify` names them"
            ))?;
        }
        for cause in [&log["failure"], &recovery["read_only"]].into_iter().filter_map(Value::as_str) {
            output.line(&format!("  FAILED     {cause}"))?;
        }
        Ok(())
    })
}

/// What is done with spaces.
#[derive(Debug, Subcommand)]
pub(crate) enum SpaceVerb {
    /// List all spaces.
    #[command(after_help = CODES)]
    List(ListArgs),
    /// Make a space, or change how many memories it takes.
    #[command(after_help = CODES, visible_alias = "create")]
    Make(MakeArgs),
    /// Drop a space with all memories in it.
    #[command(after_help = CODES, visible_alias = "delete")]
    Drop(DropArgs),
}

/// Flags of `engram space list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Print one JSON object a space
    #[arg(long)]
    json: bool,
}

/// Flags of `engram space make`.
#[derive(Debug, clap::Args)]
pub(crate) struct MakeArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Its name
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,

    /// The most memories that it takes [default: as many as there is room for]
    #[arg(long, value_name = "N")]
    capacity: Option<u64>,

    /// Print JSON, as the server sends it
    #[arg(long)]
    json: bool,
}

/// Flags of `engram space drop`.
#[derive(Debug, clap::Args)]
pub(crate) struct DropArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Its name
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Print JSON, as the server sends it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(verb: &SpaceVerb) -> Result<(), Failure> {
    match verb {
        SpaceVerb::List(args) => list(args),
        SpaceVerb::Make(MakeArgs { server, name, capacity, json }) => {
            let body = capacity.map_or_else(|| json!({}), |capacity| json!({"capacity": capacity}));
            let call = Call::new(Method::PUT, path(name)).body(body);
            print_receipt(*json, &ask(server, &call)?)
        }
        SpaceVerb::Drop(DropArgs { server, name, yes, json }) => {
            if !yes {
                let space = ask(server, &Call::get(path(name)))?;
                let memories = count(number(&space, "memories"), "memory", "memories");
                confirm(
                    &format!("Drop the space {name:?} with {memories} for good?"),
                    "drop it",
                    "drops it",
                )?;
            }
            print_receipt(*json, &ask(server, &Call::new(Method::DELETE, path(name)))?)
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/spaces/{}", percent_encoded(name))
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let answer = ask(&args.server, &Call::get("/v1/spaces"))?;
    let spaces = answer["spaces"].as_array().cloned().unwrap_or_default();
    let width = spaces.iter().map(|space| text(space, "name").len()).max().unwrap_or_default();
    let mut output = Output::new();
    for space in &spaces {
        if args.json {
            output.json(space)?;
            continue;
        }
        let memories = count(number(space, "memories"), "memory", "memories");
        let most = space["capacity"].as_u64().map(|most| format!(" of {most} at most")).unwrap_or_default();
        let bytes = size(number(space, "memory_bytes"));
        output.line(&format!("{:width$}  {memories}{most}, {bytes}", text(space, "name")))?;
    }
    output.end()
}

pub(super) fn print_receipt(as_json: bool, receipt: &Value) -> Result<(), Failure> {
    print(as_json, receipt, |output| {
        let (outcome, durability) = (text(receipt, "outcome"), text(receipt, "durability"));
        output.line(&format!("{}  {outcome}, {durability}", text(receipt, "id"))).map(drop)
    })
}
