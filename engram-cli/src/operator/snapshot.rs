//! `engram snapshot`: all memories in one file, and the log before it gone.

use std::{fs, io, path::PathBuf, time::Duration};

use engram_core::storage::SnapshotReport;

use super::{
    DataDir,
    output::{Output, size},
};
use crate::{
    client::ServerArgs,
    count::count,
    exit::{Exit, Failure},
    server::SnapshotView,
};

const EXAMPLES: &str = "\
Examples:
  engram snapshot                              # of the server on this machine
  engram snapshot --copy-to backup.snap        # and keep a copy: a backup
  engram snapshot --server http://10.0.0.5:7432
  engram snapshot --data-dir ./data            # of a store that no server runs on

A snapshot holds all memories as they are at one moment. The log before it is removed then, and with it whatever was
forgotten or replaced. A server takes one by itself whenever its log has grown by as much (--snapshot-log-bytes).
`engram restore FILE --data-dir NEW` makes a store of it.

Exit codes:
  0   the snapshot is on stable storage, and so is its copy
  1   another failure
  2   wrong usage
  65  the log is too damaged to open
  69  no server answers there
  73  there is no store, or no access to it
  74  it could not be written: the log is whole, and goes on
  75  a server is running on it: leave out --data-dir
  77  the server wants a key, or another one: ENGRAM_API_KEY";

const WITHOUT_SERVER: &str = "--data-dir takes a snapshot of a store that no server runs on";

/// How long the server may take: a large store is written for a while.
const TIME_MAX: Duration = Duration::from_hours(1);

/// Flags of `engram snapshot`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// The data directory of a store that no server runs on, instead of a server
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Copy the snapshot to this file, which must not exist. Of a server on this machine
    #[arg(long, value_name = "FILE")]
    copy_to: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &SnapshotArgs) -> Result<(), Failure> {
    if let Some(copy) = args.copy_to.as_ref().filter(|copy| copy.exists()) {
        return Err(Failure::new(Exit::Usage, format!("{} exists already", copy.display()))
            .help("name a file that does not exist: no backup is overwritten"));
    }
    let taken = match &args.data_dir {
        Some(data_dir) => of_directory(data_dir)?,
        None => of_server(&args.server)?,
    };
    if let Some(copy) = &args.copy_to {
        copy_to(&taken, copy)?;
    }
    let mut output = Output::new();
    if args.json {
        output.json(&taken)?;
    } else {
        let memories = count(taken.memories, "memory", "memories");
        output.line(&format!("{}: {memories} up to LSN {}, {}", taken.path, taken.lsn, size(taken.bytes)))?;
        let removed = count(taken.removed_files, "file", "files");
        output
            .line(&format!("  removed      {removed} that it stands for, {}", size(taken.removed_bytes)))?;
        if let Some(copy) = &args.copy_to {
            output.line(&format!("  copied to    {}", copy.display()))?;
        }
        output.line(&format!("  took         {:.1} s", taken.took_ms / 1e3))?;
    }
    output.end()
}

fn of_directory(data_dir: &std::path::Path) -> Result<SnapshotView, Failure> {
    let data_dir = DataDir { data_dir: data_dir.to_path_buf() };
    let store = data_dir.open_store()?;
    let report: SnapshotReport = store.snapshot()?;
    store.close()?;
    Ok(SnapshotView::from(&report))
}

fn of_server(server: &ServerArgs) -> Result<SnapshotView, Failure> {
    let client = server.client(TIME_MAX)?;
    let url = client.url();
    let answer = client.post("/v1/snapshot").map_err(|refused| {
        refused.into_failure(url, WITHOUT_SERVER, |said| {
            Failure::new(Exit::LogFailed, format!("{url} has taken no snapshot: {said}"))
        })
    })?;
    serde_json::from_value(answer).map_err(|e| {
        Failure::new(Exit::CannotListen, format!("no snapshot from {url}: its answer is none of Engram: {e}"))
    })
}

/// The copy is on stable storage, under its name, when this returns.
fn copy_to(taken: &SnapshotView, copy: &PathBuf) -> Result<(), Failure> {
    let failed = |e: io::Error| {
        Failure::new(Exit::LogFailed, format!("cannot copy {} to {}: {e}", taken.path, copy.display()))
            .help("the snapshot itself is taken; copy it by hand, from the server's machine")
    };
    let mut from = fs::File::open(&taken.path).map_err(failed)?;
    let written = fs::File::create_new(copy).and_then(|mut to| {
        io::copy(&mut from, &mut to)?;
        to.sync_all()
    });
    let directory = std::path::absolute(copy).ok().and_then(|copy| copy.parent().map(PathBuf::from));
    let synced = written.and_then(|()| directory.map_or(Ok(()), |it| fs::File::open(it)?.sync_all()));
    synced.map_err(|e| {
        drop(fs::remove_file(copy)); // half a copy is none
        failed(e)
    })
}
