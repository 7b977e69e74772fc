//! MCP over HTTP: tools ask the routes of this very process.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
    response::Response,
};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};

use super::{Backend, Caller, Mcp, answer::Refusal};
use crate::{
    client::{Call, Reply},
    server::Need,
};

/// Bytes of a request. A memory's content may have 256 KiB, and JSON may write each byte as six.
const REQUEST_BYTES_MAX: usize = 2 << 20;

/// Bytes of an answer of a route: all of them end themselves far below.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The service at `/mcp`, of the tools over `routes`. There are no sessions: each request says all, and is answered by one
/// JSON, so that a restart of the server is nothing that a client would notice.
pub(crate) fn over_http(
    routes: Router,
) -> StreamableHttpService<impl rmcp::ServerHandler + Clone, NeverSessionManager> {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        // Both are the affair of the layers around it.
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_max_request_body_bytes(REQUEST_BYTES_MAX);
    let mcp = Mcp(InProcess(routes));
    StreamableHttpService::new(move || Ok(mcp.clone()), Arc::default(), config)
}

/// The routes of this process, with all of their layers.
#[derive(Debug, Clone)]
struct InProcess(Router);

impl Backend for InProcess {
    async fn call(&self, call: Call, caller: &Caller) -> Result<Reply, Refusal> {
        let defect =
            |reason: String| Refusal::new(reason).suggest("Tell the user; the server's log may say more.");
        let mut request: Request<Body> = call.request("").map_err(defect)?;
        // Whoever asks by a tool may do what they may do without it, and no more.
        let Some(principal) = &caller.principal else {
            return Err(defect("nobody is known to have called the tool".to_owned()));
        };
        if let Err(problem) = principal.check(&Need::of(request.method(), request.uri().path())) {
            return Ok(Reply { status: 403, body: serde_json::to_value(&problem).unwrap_or_default() });
        }
        request.extensions_mut().insert(principal.clone());
        let routes = TowerToHyperService::new(self.0.clone());
        let answer: Result<Response, Infallible> = routes.call(request).await;
        let Ok(answer) = answer;
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await;
        let body = body.map_err(|e| defect(format!("the answer could not be read: {e}")))?;
        Ok(Reply { status, body: serde_json::from_slice(&body).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        args::{Args, Verb},
        config::StartConfig,
        keys::server::ServerKeys,
        server::{App, router},
    };

    #[tokio::test]
    async fn while_memories_are_recovered_hands_are_shaken_and_tools_say_so() {
        let Verb::Start(args) = Args::try_parse_from(["engram", "start"]).unwrap().verb else {
            panic!("not start")
        };
        let config = StartConfig::from_args(*args).unwrap().0;
        let keys = ServerKeys::open(tempfile::tempdir().unwrap().path(), None, false).unwrap();
        let app = Arc::new(App::new(config, keys, true));
        let ask = async |method: &str, params: Value| -> Value {
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
            let request = Request::post("/mcp")
                .header("host", "localhost")
                .header("accept", "application/json, text/event-stream")
                .header("content-type", "application/json")
                .body(Body::from(body.to_string()))
                .unwrap();
            let answer = TowerToHyperService::new(router(&app)).call(request).await.unwrap();
            let body = to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await.unwrap();
            serde_json::from_slice::<Value>(&body).unwrap()["result"].clone()
        };
        let client = json!({"name": "test", "version": "1"});
        let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
        assert_eq!(ask("initialize", hello).await["serverInfo"]["name"], "engram");
        assert_eq!(ask("tools/list", json!({})).await["tools"].as_array().unwrap().len(), 7);
        let recall = json!({"name": "recall", "arguments": {"query": "x"}});
        let result = ask("tools/call", recall).await;
        assert_eq!(result["isError"], true);
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("recovering: ") && text.contains("in a few seconds"), "{text}");
    }
}
