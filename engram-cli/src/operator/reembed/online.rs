//! By a running server: begun, followed, cancelled.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use axum::http::Method;
use serde_json::{Map, Value};

use super::{super::output::Output, bar};
use crate::{
    ask::{answer, number, text},
    client::{Call, Client},
    count::count,
    embed::{EmbedArgs, EmbedConfig},
    exit::{Exit, Failure},
};

/// How long an answer may take: a server that is changing to the new model answers after it.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_mins(1);

/// How often it is asked how it goes.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

const PATH: &str = "/v1/reembed";

/// Has the server begin, and follows it to the end unless it is not to.
pub(super) fn run(client: &Client, embed: &EmbedArgs, detach: bool, json: bool) -> Result<(), Failure> {
    let body = body(client, embed)?;
    let interrupted = interrupted()?;
    let mut status = answer(client, &Call::new(Method::POST, PATH).body(body))?;
    if !detach {
        status = follow(client, status, &interrupted)?;
    }
    print(&status, json)?;
    match text(&status, "state") {
        "running" | "done" => Ok(()),
        "cancelled" => Err(Failure::new(Exit::Failure, "it was cancelled: nothing was changed")),
        _ => {
            Err(Failure::new(Exit::Failure, format!("nothing was changed: {}", text(&status, "last_error")))
                .help("correct it, and run it again; the server's log may say more"))
        }
    }
}

/// Has the server cancel what it does.
pub(super) fn cancel(client: &Client, json: bool) -> Result<(), Failure> {
    let status = answer(client, &Call::new(Method::DELETE, PATH))?;
    if json {
        print(&status, json)?;
    }
    match text(&status, "state") {
        "cancelled" if json => Ok(()),
        "cancelled" => {
            let mut output = Output::new();
            output.line("cancelled: all is as it was")?;
            output.end()
        }
        "running" => {
            Err(Failure::new(Exit::Failure, "it is too late: the store is changing to the new model"))
        }
        _ => Err(Failure::new(Exit::Failure, "there is nothing to cancel")),
    }
}

/// The flags as the server takes them.
fn body(client: &Client, embed: &EmbedArgs) -> Result<Value, Failure> {
    #[cfg(feature = "local-model")]
    if embed.embed_model_dir.is_some() {
        return Err(Failure::new(Exit::Usage, "a running server changes to a model of an endpoint alone")
            .help("for an --embed-model-dir stop the server, and leave out --server"));
    }
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("url", embed.embed_url.clone().map(Value::from));
    set("model", embed.embed_model.clone().map(Value::from));
    set("dimensions", embed.embed_dimensions.map(Value::from));
    set("document_prefix", Some(embed.embed_document_prefix.clone().into()));
    set("query_prefix", Some(embed.embed_query_prefix.clone().into()));
    set("batch", Some(embed.embed_batch.into()));
    set("timeout", Some(embed.embed_timeout.clone().into()));
    if let Some(key) = EmbedConfig::key_of(embed)? {
        if !client.is_confidential() {
            let message = format!("the key of the endpoint would go to {} for all to read", client.url());
            return Err(Failure::new(Exit::Usage, message)
                .help("name the server by https://, or ask it on its own machine"));
        }
        set("key", Some(key.reveal().into()));
    }
    Ok(body.into())
}

/// Shows how it goes until it is over; its status then.
fn follow(client: &Client, mut status: Value, interrupted: &Receiver<()>) -> Result<Value, Failure> {
    let bar = bar(0);
    while text(&status, "state") == "running" {
        bar.set_length(number(&status, "total"));
        bar.set_position(number(&status, "done"));
        bar.set_message(match status["lsn"].as_u64() {
            Some(_) => "written to the log".to_owned(),
            None => text(&status, "last_error").to_owned(),
        });
        match interrupted.recv_timeout(LOOK_INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                bar.finish_and_clear();
                return Err(Failure::new(Exit::Interrupted, "no longer followed: the server goes on")
                    .help(format!("`engram reembed --server {} --cancel` cancels it", client.url())));
            }
        }
        status = answer(client, &Call::get(PATH))?;
    }
    bar.finish_and_clear();
    Ok(status)
}

fn print(status: &Value, json: bool) -> Result<(), Failure> {
    let mut output = Output::new();
    if json {
        output.json(status)?;
        return output.end();
    }
    let model = text(&status["model"], "name");
    match text(status, "state") {
        "running" => {
            let total = count(number(status, "total"), "memory is", "memories are");
            output.line(&format!("{total} being embedded by {model}; the server goes on by itself"))?;
        }
        "done" => {
            let done = number(status, "done").saturating_sub(number(status, "refused"));
            let (done, dimension) = (count(done, "memory", "memories"), number(status, "dimension"));
            let lsn = number(status, "lsn");
            output.line(&format!("{done} embedded by {model}, {dimension} dimensions, from LSN {lsn} on"))?;
            if number(status, "refused") > 0 {
                let refused = count(number(status, "refused"), "content", "contents");
                output.line(&format!("  not taken    {refused} by the model: recalled by words"))?;
            }
            if let Some(error) = status["last_error"].as_str() {
                output.line(&format!("  but          {error}"))?;
            }
            output.line(&format!("  from now on  start the server with {}", text(status, "start_with")))?;
        }
        _ => {}
    }
    output.end()
}

/// Told of Ctrl-C, which from now on ends nothing by itself.
fn interrupted() -> Result<Receiver<()>, Failure> {
    let failed = |e: std::io::Error| Failure::new(Exit::Failure, format!("cannot catch signals: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let mut signal = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map_err(failed)?
    };
    let (told, interrupted) = channel();
    let wait = move || {
        runtime.block_on(signal.recv());
        // Nobody may be following any more.
        told.send(()).ok();
    };
    thread::Builder::new().name("engram-signals".to_owned()).spawn(wait).map_err(failed)?;
    Ok(interrupted)
}
