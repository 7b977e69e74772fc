//! `engram reembed`: another model for all memories, of a store that no server runs on, or by a running server.

mod offline;
mod online;

use std::path::PathBuf;

use indicatif::ProgressBar;

use super::DataDir;
use crate::{
    client::ServerArgs,
    embed::{EmbedArgs, EmbedConfig},
    exit::{Exit, Failure},
    progress,
};

const EXAMPLES: &str = "\
Examples:
  engram reembed --embed-url http://127.0.0.1:11434/v1 --embed-model bge-m3             # no server runs on ./data
  engram reembed --server --embed-url http://127.0.0.1:11434/v1 --embed-model bge-m3    # by the server of this machine
  engram reembed --server https://memory.example:7432 --cancel

Nothing is changed before all is embedded: then the new embeddings take the place of all there are at one place of the
log, those of clients, too, and a snapshot is taken. Broken off before that it leaves the store as it was. The new
embeddings are kept in memory meanwhile: about a byte a number.

With --server the server does it, and serves meanwhile. Ctrl-C stops following it, no more: --cancel ends it. Afterwards
start the server with the flags that are told. The key of the endpoint, if you give one, is sent to the server.

Exit codes:
  0   the store has embeddings of the new model; with --detach: the server has begun; with --cancel: it is cancelled
  1   another failure, or the server could not do it: nothing was changed
  2   wrong usage
  65  the log is too damaged to open
  69  the model cannot be asked, or not any more: nothing was changed; or no server answers
  73  there is no store, or no access to it
  74  the log failed
  75  a server is running on the directory: use --server
  77  the server wants a key, or another one: ENGRAM_API_KEY
  78  a setting of the model is wrong: nothing was changed
  130 no longer followed: the server goes on";

/// The server of `--server` without a URL.
const SERVER_DEFAULT: &str = "http://127.0.0.1:7432";

/// Flags of `engram reembed`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReembedArgs {
    #[command(flatten)]
    data_dir: DataDir,

    /// Have a running server do it, instead of the store of a data directory: that of `ENGRAM_SERVER`, or of this machine,
    /// unless another is named
    #[arg(long, value_name = "URL", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "the flag may be there without its value")]
    server: Option<Option<String>>,

    /// A file with the key to send to the server; the variable `ENGRAM_API_KEY` takes the key itself
    #[arg(long, value_name = "FILE", env = "ENGRAM_API_KEY_FILE", hide_env_values = true)]
    api_key_file: Option<PathBuf>,

    /// Certificates in PEM to trust, of the server, instead of those of the public authorities
    #[arg(long, value_name = "FILE", env = "ENGRAM_TLS_CA")]
    tls_ca: Option<PathBuf>,

    /// Return when the server has begun; GET /v1/reembed tells how it goes
    #[arg(long, conflicts_with = "cancel")]
    detach: bool,

    /// Cancel what the server does: all is as it was, unless the model has changed already
    #[arg(long)]
    cancel: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    embed: EmbedArgs,
}

pub(crate) fn run(args: ReembedArgs) -> Result<(), Failure> {
    let is_online = args.server.is_some() || args.detach || args.cancel;
    if !is_online {
        return offline::run(&args.data_dir, &model(args.embed)?, args.json);
    }
    let named = args.server.flatten().or_else(|| std::env::var("ENGRAM_SERVER").ok());
    let url = named.filter(|url| !url.is_empty()).unwrap_or_else(|| SERVER_DEFAULT.to_owned());
    let server = ServerArgs::new(url, args.api_key_file, args.tls_ca);
    let client = server.client(online::ANSWER_TIME_MAX)?;
    if args.cancel {
        return online::cancel(&client, args.json);
    }
    // As the server will: what is wrong is told with the flags' names.
    model(args.embed.clone())?;
    online::run(&client, &args.embed, args.detach, args.json)
}

fn model(embed: EmbedArgs) -> Result<EmbedConfig, Failure> {
    EmbedConfig::from_args(embed)?.ok_or_else(|| {
        Failure::new(Exit::Usage, "expected a model to embed with, got none".to_owned())
            .help("name an endpoint with --embed-url and --embed-model")
    })
}

fn bar(memories: usize) -> ProgressBar {
    progress::bar(true, Some(memories as u64), "{bar:30} {pos} of {len} memories, {eta} to go {msg}")
}
