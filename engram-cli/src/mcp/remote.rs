//! MCP over standard input and output: tools ask a server over HTTP.

use std::sync::Arc;

use axum::http::Method;

use super::{Backend, Caller, answer::Refusal, local_server::LocalServer};
use crate::{
    client::{Call, Client, NoReply, Reply},
    service::off_the_runtime,
};

/// How often a request is sent at most: a server that was killed is started again, and asked again.
const TRIES: usize = 3;

/// A server, and the right to start it where it is one of this machine.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    client: Client,
    server: Option<Arc<LocalServer>>,
}

impl Remote {
    pub(super) fn new(client: Client, server: Option<LocalServer>) -> Self {
        Self { client, server: server.map(Arc::new) }
    }

    /// Starts the server if nobody listens there, so that it recovers while nobody waits for it yet. What goes wrong is told
    /// to who calls a tool.
    pub(super) async fn warm_up(&self) {
        let this = self.clone();
        drop(off_the_runtime(move || this.start("")).await);
    }

    /// On a thread that may wait.
    fn ask(&self, call: &Call) -> Result<Reply, Refusal> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let no_reply = match self.client.call(call) {
                // Most often it has just been started, by whomever, and is there in a moment.
                Ok(reply)
                    if reply.field("code") == Some("recovering") && tries > 0 && self.server.is_some() =>
                {
                    self.start("")?;
                    continue;
                }
                Ok(reply) => {
                    if let Some(server) = &self.server {
                        server.note_answer();
                    }
                    return Ok(reply);
                }
                Err(no_reply) => no_reply,
            };
            let is_safe = match no_reply {
                NoReply::NobodyListens(_) => true,
                NoReply::Broken(_) => is_repeatable(call),
            };
            if tries == 0 || !is_safe {
                return Err(self.unreachable(no_reply.reason()));
            }
            self.start(no_reply.reason())?;
        }
    }

    fn start(&self, reason: &str) -> Result<(), Refusal> {
        match &self.server {
            Some(server) => server.make_sure_it_runs(&self.client),
            None => Err(self.unreachable(reason)),
        }
    }

    fn unreachable(&self, reason: &str) -> Refusal {
        Refusal::new(format!("no answer from the Engram server at {}: {reason}", self.client.url())).suggest(
            "Tell the user that the memory server cannot be reached. They can start it with `engram start`, or name another by \
             ENGRAM_SERVER. What was remembered before is not lost.",
        )
    }
}

impl Backend for Remote {
    async fn call(&self, call: Call, _: &Caller) -> Result<Reply, Refusal> {
        let this = self.clone();
        off_the_runtime(move || this.ask(&call)).await
    }
}

/// Whether a request that may have been carried out may be sent again.
fn is_repeatable(call: &Call) -> bool {
    let has_key = call.headers.iter().any(|(name, _)| name == "idempotency-key");
    let is_question = call.method == Method::GET || call.path.ends_with("/recall");
    has_key || is_question
}
