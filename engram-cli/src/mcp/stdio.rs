//! `engram mcp`: the protocol over standard input and output, for a client that starts its servers itself.

use std::{env, fs, path::PathBuf, time::Duration};

use rmcp::{ServiceExt as _, service::ServerInitializeError, transport::stdio};
use tokio::runtime;

use super::{Mcp, local_server::LocalServer, remote::Remote};
use crate::{
    client::ServerArgs,
    exit::{Exit, Failure},
};

const EXAMPLES: &str = "\
Examples:
  claude mcp add engram -- engram mcp
  ENGRAM_SERVER=https://memory.example:7432 ENGRAM_API_KEY_FILE=key engram mcp

If the server is to be on this machine and nothing listens there, it is started.
Nothing but the protocol is on standard output. A server that this starts logs into server.log in its data directory, and
goes on when the client ends: other clients use it, too.

Exit codes:
  0   the client has closed standard input
  1   another failure
  2   wrong usage
  78  the file of the API key cannot be read";

/// How long an answer may take: a deletion by filter takes up to two minutes.
const ANSWER_TIME_MAX: Duration = Duration::from_mins(3);

/// Flags of `engram mcp`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct McpArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// The data directory of a server that is started [default: ~/.local/share/engram, or as XDG has it]
    #[arg(long, value_name = "DIR", env = "ENGRAM_DATA_DIR")]
    data_dir: Option<PathBuf>,

    /// The file of settings, for a server that is started.
    #[arg(skip)]
    pub(crate) settings: Option<PathBuf>,
}

/// Answers until standard input ends.
pub(crate) fn run(args: McpArgs) -> Result<(), Failure> {
    let client = args.server.client(ANSWER_TIME_MAX)?;
    let server = match client.loopback_address() {
        Some(address) => Some(LocalServer::new(address, data_dir(args.data_dir)?, args.settings)),
        None => None,
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Failure, format!("cannot start the runtime: {e}")))?;
    let outcome = runtime.block_on(serve(Remote::new(client, server)));
    // A request that is still waited for has nobody left to answer.
    runtime.shutdown_background();
    outcome
}

async fn serve(remote: Remote) -> Result<(), Failure> {
    let failed = |reason: String| Failure::new(Exit::Failure, format!("the protocol broke off: {reason}"));
    let warming = remote.clone();
    tokio::spawn(async move { warming.warm_up().await });
    let running = match Mcp(remote).serve(stdio()).await {
        Ok(running) => running,
        // The client has gone before it said anything.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(failed(error.to_string())),
    };
    running.waiting().await.map(drop).map_err(|e| failed(e.to_string()))
}

/// Absolute. Not in the working directory, which is the client's, and of no meaning.
fn data_dir(data_dir: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let of = |variable: &str| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let default =
        || Some(of("XDG_DATA_HOME").or_else(|| Some(of("HOME")?.join(".local/share")))?.join("engram"));
    let no_directory = || {
        Failure::new(Exit::Setting, "there is no home directory to keep memories in")
            .help("name a data directory: --data-dir, or ENGRAM_DATA_DIR")
    };
    // One that is named is made when its parent exists: a missing one may be a disk that is not mounted.
    let data_dir = if let Some(data_dir) = data_dir {
        data_dir
    } else {
        let data_dir = default().ok_or_else(no_directory)?;
        let parent = data_dir.parent().unwrap_or(&data_dir);
        fs::create_dir_all(parent)
            .map_err(|e| Failure::new(Exit::BadDirectory, format!("{}: {e}", parent.display())))?;
        data_dir
    };
    std::path::absolute(&data_dir)
        .map_err(|e| Failure::new(Exit::Setting, format!("{}: {e}", data_dir.display())))
}
