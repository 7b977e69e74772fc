//! What a user asks of a running server: `engram remember`, `recall`, `get`, `list`, `forget`, `import`, `export`, `status` and
//! `space`. Each verb is a request of the HTTP interface; a module has those that belong together.

mod changes;
mod questions;
mod spaces;
mod table;
mod transfer;

use std::{
    io::{self, Read as _, Write as _},
    time::Duration,
};

use axum::http::Method;
use clap::Subcommand;
use serde_json::Value;

use crate::{
    client::{Call, Client, NoReply, Reply, ServerArgs},
    exit::{Exit, Failure},
    operator::output::Output,
    server::{percent_encoded, unique_json},
};

pub(crate) use self::spaces::SpaceVerb;

/// The exit codes of all of these verbs.
const CODES: &str = "\
Exit codes: 0 as asked, 1 the server refused it, 2 wrong usage, 65 wrong data, 69 no server answers (start it with `engram start`), 77 the server wants a key";

/// A verb.
#[derive(Debug, Subcommand)]
pub(crate) enum AskVerb {
    /// Store a memory.
    #[command(after_help = CODES, visible_alias = "store")]
    Remember(changes::RememberArgs),
    /// Find the memories that answer a question best.
    #[command(after_help = CODES, visible_alias = "search")]
    Recall(questions::RecallArgs),
    /// Read one memory.
    #[command(after_help = CODES)]
    Get(questions::GetArgs),
    /// List memories by time.
    #[command(after_help = CODES)]
    List(questions::ListArgs),
    /// Forget one memory, or all that a filter accepts.
    #[command(after_help = CODES, visible_alias = "delete")]
    Forget(changes::ForgetArgs),
    /// Store all memories of a file: JSON, one a line, as `engram export` writes them.
    #[command(after_help = CODES)]
    Import(transfer::ImportArgs),
    /// Write all memories: JSON, one a line.
    #[command(after_help = CODES)]
    Export(transfer::ExportArgs),
    /// Tell how a server is.
    #[command(after_help = CODES)]
    Status(spaces::StatusArgs),
    /// List, make and drop spaces.
    #[command(subcommand)]
    Space(SpaceVerb),
}

/// Asks it, and prints the answer.
pub(crate) fn run(verb: &AskVerb) -> Result<(), Failure> {
    match verb {
        AskVerb::Remember(args) => changes::remember(args),
        AskVerb::Recall(args) => questions::recall(args),
        AskVerb::Get(args) => questions::get(args),
        AskVerb::List(args) => questions::list(args),
        AskVerb::Forget(args) => changes::forget(args),
        AskVerb::Import(args) => transfer::import(args),
        AskVerb::Export(args) => transfer::export(args),
        AskVerb::Status(args) => spaces::status(args),
        AskVerb::Space(verb) => spaces::run(verb),
    }
}

/// How long an answer may take: a deletion by filter takes up to two minutes, an import or an export half an hour.
const ANSWER_TIME_MAX: Duration = Duration::from_mins(3);
const TRANSFER_TIME_MAX: Duration = Duration::from_mins(31);

/// The answer, which must be a success.
fn ask(server: &ServerArgs, call: &Call) -> Result<Value, Failure> {
    answer(&server.client(ANSWER_TIME_MAX)?, call)
}

/// The same of a client that asks more than once.
pub(crate) fn answer(client: &Client, call: &Call) -> Result<Value, Failure> {
    let reply = client.call(call).map_err(|no_reply| unreachable(client, &call.method, &no_reply))?;
    if reply.is_success() { Ok(reply.body) } else { Err(refused(&reply)) }
}

/// What is asked of one space, and how it is told.
#[derive(Debug, clap::Args)]
struct SpaceArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// The space of the memories
    #[arg(long, value_name = "NAME", default_value = "default", env = "ENGRAM_SPACE")]
    space: String,

    /// Print JSON, as the server sends it
    #[arg(long)]
    json: bool,
}

impl SpaceArgs {
    /// The path of what is in the space.
    fn path(&self, path: &str) -> String {
        format!("/v1/spaces/{}{path}", percent_encoded(&self.space))
    }

    /// The path of a memory.
    fn memory(&self, id: &str) -> String {
        self.path(&format!("/memories/{}", percent_encoded(id)))
    }
}

fn unreachable(client: &Client, method: &Method, no_reply: &NoReply) -> Failure {
    let failure =
        Failure::new(Exit::CannotListen, format!("no answer from {}: {}", client.url(), no_reply.reason()));
    match no_reply {
        NoReply::NobodyListens(_) => {
            failure.help("start it with `engram start`, or name another with --server")
        }
        NoReply::Broken(_) if method.is_safe() => failure.help(
            "is it an Engram server, and speaks it TLS? Its log may say more; name another with --server",
        ),
        NoReply::Broken(_) => {
            failure.help("a change may have been made all the same: look before you repeat it")
        }
    }
}

fn refused(reply: &Reply) -> Failure {
    let detail = reply.field("detail");
    let detail = detail.map_or_else(
        || format!("the server answered {}, as no Engram server does: is it one?", reply.status),
        str::to_owned,
    );
    if matches!(reply.status, 401 | 403) {
        return Failure::new(Exit::NotAllowed, detail)
            .help("set ENGRAM_API_KEY, or name a file with the key with --api-key-file");
    }
    let failure = Failure::new(Exit::Failure, detail);
    // The server's own suggestions are for those who speak HTTP.
    let suggestion = match reply.field("code") {
        Some("not_found") => Some("check the id and the space; `engram list` lists all memories"),
        Some("space_not_found") => Some("`engram space make` makes it, `engram space list` lists all spaces"),
        _ => reply.field("suggestion"),
    };
    match suggestion {
        Some(suggestion) => failure.help(suggestion),
        None => failure,
    }
}

/// A text of the command line; `-` stands for standard input.
fn text_or_stdin(text: &str) -> Result<String, Failure> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| Failure::new(Exit::Damaged, format!("cannot read standard input: {e}")))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// JSON of the command line.
fn json(name: &str, text: &str) -> Result<Value, Failure> {
    unique_json(text).map_err(|e| {
        Failure::new(Exit::Usage, format!("{name}: expected JSON, got {text:?}: {e}"))
            .help("a filter is such as '{\"user\": \"ada\", \"when\": {\"gte\": \"2026-01-01T00:00:00Z\"}}'")
    })
}

/// Prints an answer as JSON, or as `lines` have it.
fn print(
    as_json: bool,
    answer: &Value,
    lines: impl FnOnce(&mut Output) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut output = Output::new();
    if as_json {
        output.json(answer)?;
    } else {
        lines(&mut output)?;
    }
    output.end()
}

/// Tells people that there is nothing, where a table would be empty: on standard error, so that a pipe has nothing, too.
fn tell_nothing(as_json: bool, what: &str) {
    if !as_json {
        drop(writeln!(io::stderr(), "{what}"));
    }
}

/// A field as text; empty when there is none.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A field as a number; 0 when there is none.
pub(crate) fn number(value: &Value, field: &str) -> u64 {
    value.get(field).and_then(Value::as_u64).unwrap_or_default()
}
