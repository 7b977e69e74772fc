//! `engram reembed`: all contents embedded anew, by another model, and put in at one place of the log.

use std::{sync::Arc, thread, time::Duration};

use engram_core::{Embedding, ListQuery, Memory, MemoryStore, Staging, StoreStatus};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{DataDir, output::Output, progress_bar};
use crate::{
    count::count,
    embed::{Backoff, EmbedArgs, EmbedConfig, EmbedError, Embedder, Kind, Pace},
    exit::{Exit, Failure},
};

const EXAMPLES: &str = "\
Examples:
  engram reembed --embed-url http://127.0.0.1:11434/v1 --embed-model nomic-embed-text
  engram reembed --data-dir /var/lib/engram --embed-url https://api.openai.com/v1 --embed-model text-embedding-3-small

For a store that no server runs on. Nothing is changed before all is embedded: then the new embeddings take the place of
all there are at one place of the log, those of clients, too, and a snapshot is taken. Ctrl-C before that leaves the store
as it was. The new embeddings are kept in memory meanwhile: about a byte a number.

Exit codes:
  0   the store has embeddings of the new model
  1   another failure
  2   wrong usage
  65  the log is too damaged to open
  69  the model cannot be asked, or not any more: nothing was changed
  73  there is no store, or no access to it
  74  the log failed
  75  a server is running on it: stop it first
  78  a setting of the model is wrong: nothing was changed";

/// How often a batch is tried.
const TRIES: u32 = 6;

/// Memories whose embeddings are asked for together.
const STAGED_TOGETHER: usize = 256;

/// How long the model may take to say how many numbers it gives.
const PROBE_TIME_MAX: Duration = Duration::from_mins(1);

/// Flags of `engram reembed`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReembedArgs {
    #[command(flatten)]
    data_dir: DataDir,

    #[command(flatten)]
    embed: EmbedArgs,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    dimension: usize,
    former_model: Option<String>,
    former_dimension: usize,
    memories: usize,
    embedded: usize,
    /// Contents that the model does not take: these memories are recalled by words.
    refused: usize,
    lsn: u64,
}

pub(crate) fn run(args: ReembedArgs) -> Result<(), Failure> {
    let config = EmbedConfig::from_args(args.embed)?.ok_or_else(|| {
        Failure::new(Exit::Usage, "expected a model to embed with, got none".to_owned())
            .help("name an endpoint with --embed-url and --embed-model")
    })?;
    let embedder = Embedder::open(&config)?;
    let store = args.data_dir.open_store()?;
    let dimension = embedder.ask_dimension(PROBE_TIME_MAX).map_err(|error| of_model(&error))?;
    let StoreStatus { count: memories, dimension: former_dimension, model, .. } = store.status();
    let mut staging = store.begin_staging(dimension)?;
    let mut job = Job { store: &store, embedder: &embedder, bar: bar(memories), embedded: 0, refused: 0 };
    for space in store.spaces() {
        job.stage_space(&space.name, &mut staging)?;
    }
    job.bar.finish_and_clear();
    let (done, refused) = (job.embedded, job.refused);
    let receipt = store.change_model(staging, embedder.identity())?;
    store.snapshot()?;
    store.close()?;
    let report = Report {
        model: embedder.identity().to_string(),
        dimension,
        former_model: model.map(|model| model.to_string()),
        former_dimension,
        memories,
        embedded: done,
        refused,
        lsn: receipt.lsn.get(),
    };
    print(&report, args.json)
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    let mut output = Output::new();
    if json {
        output.json(report)?;
        return output.end();
    }
    let Report { model, dimension, former_model, former_dimension, embedded, refused, lsn, .. } = report;
    let former = former_model.as_deref().unwrap_or("no model that was told");
    let embedded = count(*embedded, "memory", "memories");
    output.line(&format!("{embedded} embedded by {model}, {dimension} dimensions, from LSN {lsn} on"))?;
    output.line(&format!("  before       {former}, {former_dimension} dimensions"))?;
    if *refused > 0 {
        let refused = count(*refused, "content", "contents");
        output.line(&format!("  not taken    {refused} by the model: recalled by words"))?;
    }
    output.end()
}

struct Job<'a> {
    store: &'a MemoryStore,
    embedder: &'a Embedder,
    bar: ProgressBar,
    embedded: usize,
    refused: usize,
}

impl Job<'_> {
    fn stage_space(&mut self, name: &str, staging: &mut Staging) -> Result<(), Failure> {
        let space = self.store.space(name)?;
        let mut query = ListQuery { limit: STAGED_TOGETHER, ..ListQuery::default() };
        loop {
            let page = space.list(&query)?;
            self.stage(name, &page.memories, staging)?;
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn stage(&mut self, space: &str, memories: &[Arc<Memory>], staging: &mut Staging) -> Result<(), Failure> {
        let mut left: Vec<&Arc<Memory>> = memories.iter().collect();
        let mut backoff = Backoff::new(Pace::default());
        loop {
            let texts: Vec<&str> = left.iter().map(|memory| memory.content()).collect();
            let mut failed: Option<EmbedError> = None;
            let mut again = Vec::new();
            for (memory, outcome) in left.iter().zip(self.embedder.embed_each(&texts)) {
                match outcome {
                    Ok(vector) => {
                        self.store.stage(staging, space, memory, &Embedding::from(vector))?;
                        self.embedded += 1;
                        self.bar.inc(1);
                    }
                    Err(error) if error.kind == Kind::Refused => {
                        self.refused += 1;
                        self.bar.inc(1);
                    }
                    Err(error) => {
                        again.push(*memory);
                        failed = Some(error);
                    }
                }
            }
            let Some(error) = failed else { return Ok(()) };
            let pause = backoff.pause(error.kind);
            if error.kind == Kind::Misconfigured || backoff.failures() == TRIES {
                return Err(of_model(&error));
            }
            self.bar.set_message(error.to_string());
            thread::sleep(pause);
            self.bar.set_message("");
            left = again;
        }
    }
}

fn of_model(error: &EmbedError) -> Failure {
    let exit = if error.kind == Kind::Misconfigured { Exit::Setting } else { Exit::CannotListen };
    Failure::new(exit, format!("nothing was changed: {error}")).help("correct it, and run it again")
}

fn bar(memories: usize) -> ProgressBar {
    let bar = progress_bar();
    bar.set_length(memories as u64);
    // A template that were wrong would leave the plain bar.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} of {len} memories, {eta} to go {msg}") {
        bar.set_style(style);
    }
    bar.with_message("")
}
