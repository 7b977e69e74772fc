//! Of a store that no server runs on.

use std::{thread, time::Duration};

use engram_core::StoreStatus;
use indicatif::ProgressBar;
use serde::Serialize;

use super::{
    super::{DataDir, output::Output},
    bar,
};
use crate::{
    count::count,
    embed::{Anew, Course, EmbedConfig, EmbedError, Embedder, Kind, Stop},
    exit::{Exit, Failure},
};

/// How often a batch is tried.
const TRIES: u32 = 6;

/// How long the model may take to say how many numbers it gives.
const PROBE_TIME_MAX: Duration = Duration::from_mins(1);

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

pub(super) fn run(data_dir: &DataDir, config: &EmbedConfig, json: bool) -> Result<(), Failure> {
    let embedder = Embedder::open(config)?;
    let store = data_dir.open_store().map_err(|failure| {
        let is_running = failure.exit() == Exit::Locked;
        let way = "have the server do it: engram reembed --server … (or stop it first)";
        if is_running { failure.help(way) } else { failure }
    })?;
    let dimension = embedder.ask_dimension(PROBE_TIME_MAX).map_err(|error| of_model(&error))?;
    let StoreStatus { count: memories, dimension: former_dimension, model, .. } = store.status();
    let mut staging = store.begin_staging(dimension)?;
    let mut anew = Anew::new(&store, &embedder, Shown(bar(memories)));
    anew.round(&mut staging).and_then(|_| anew.check(&staging)).map_err(|stop| match stop {
        Stop::Model(error) => of_model(&error),
        Stop::Store(error) => error.into(),
        // Nobody does: Ctrl-C ends the process.
        Stop::Cancelled => Failure::new(Exit::Failure, "nothing was changed: it was cancelled"),
    })?;
    anew.course.0.finish_and_clear();
    let (staged, refused) = (staging.count(), anew.refused());
    let receipt = store.change_model(staging, embedder.identity())?;
    store.snapshot()?;
    store.close()?;
    let report = Report {
        model: embedder.identity().to_string(),
        dimension,
        former_model: model.map(|model| model.to_string()),
        former_dimension,
        memories,
        embedded: staged,
        refused,
        lsn: receipt.lsn.get(),
    };
    print(&report, json)
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

/// On a terminal.
struct Shown(ProgressBar);

impl Course for Shown {
    fn at(&mut self, embedded: usize, refused: usize) -> Result<(), Stop> {
        self.0.set_position((embedded + refused) as u64);
        Ok(())
    }

    fn failed(&mut self, error: &EmbedError, pause: Duration, failures: u32) -> Result<(), Stop> {
        if failures == TRIES {
            return Err(Stop::Model(error.clone()));
        }
        self.0.set_message(error.to_string());
        thread::sleep(pause);
        self.0.set_message("");
        Ok(())
    }
}

fn of_model(error: &EmbedError) -> Failure {
    let exit = if error.kind == Kind::Misconfigured { Exit::Setting } else { Exit::CannotListen };
    Failure::new(exit, format!("nothing was changed: {error}")).help("correct it, and run it again")
}
