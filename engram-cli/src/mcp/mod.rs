//! The Model Context Protocol: the memories as tools of an AI agent.
//!
//! A tool is a request or two of the HTTP interface ([`tools`]), so that there is one place where things are checked and
//! one that says what is wrong. Who carries the requests out is a [`Backend`]: the routes of this very process, where MCP
//! comes over HTTP ([`over_http`]), or a server elsewhere, where it comes over standard input and output ([`stdio`]).
//!
//! The protocol itself is the SDK's affair, and the SDK is known to this module alone.

mod answer;
mod arguments;
mod in_process;
mod local_server;
mod remote;
mod results;
mod stdio;
mod tools;

use axum::http::request::Parts;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, Implementation, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
};

pub(crate) use in_process::over_http;
pub(crate) use stdio::{McpArgs, run};

use answer::Refusal;
use tools::ToolName;

use crate::{
    client::{Call, Reply},
    server::Principal,
};

/// What a model is told about the tools as a whole.
const INSTRUCTIONS: &str = "\
Engram is your long-term memory. It outlives this conversation.
Recall before you answer whatever may have come up before: names, preferences, decisions, earlier work.
Remember what will matter later, one fact or event a memory, in words that make sense on their own. Say in metadata whom or \
what it is about.
When a fact has changed, update the memory; do not store a second one. Forget what the user wants forgotten.";

/// Who carries requests of the HTTP interface out.
pub(crate) trait Backend: Clone + Send + Sync + 'static {
    /// The answer, of whatever status; a refusal when there is none.
    fn call(&self, call: Call, caller: &Caller) -> impl Future<Output = Result<Reply, Refusal>> + Send;
}

/// Who has called a tool, where it came over HTTP.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    principal: Option<Principal>,
}

impl Caller {
    fn of(context: &RequestContext<RoleServer>) -> Self {
        let parts = context.extensions.get::<Parts>();
        Self { principal: parts.and_then(|parts| parts.extensions.get::<Principal>()).cloned() }
    }
}

/// A server of the protocol.
#[derive(Debug, Clone)]
struct Mcp<B>(B);

impl<B: Backend> ServerHandler for Mcp<B> {
    fn get_info(&self) -> ServerConfig {
        let engram = Implementation::new("engram", env!("CARGO_PKG_VERSION")).with_title("Engram");
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(engram)
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(ToolName::ALL.map(ToolName::definition).to_vec()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        ToolName::of(name).map(ToolName::definition)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = ToolName::of(&request.name) else {
            let names = ToolName::ALL.map(ToolName::name).join(", ");
            let message = format!("there is no tool {:?}: expected one of {names}", request.name);
            return Err(ErrorData::invalid_params(message, None));
        };
        let outcome = tool.run(request.arguments, &self.0, &Caller::of(&context)).await;
        Ok(answer::result(outcome).into())
    }
}
