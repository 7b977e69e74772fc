//! `engram stop`: ends the server of a data directory, as a supervisor would.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{DataDir, output::Output};
use crate::exit::{Exit, Failure};

/// How often it is looked whether the server has gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Flags of `engram stop`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Sends SIGTERM to the process that has the data directory, and waits until it has answered what is in flight and closed.

Exit codes: 0 stopped, 1 it does not end, 69 no server runs on the directory, 73 there is no directory")]
pub(crate) struct StopArgs {
    #[command(flatten)]
    data_dir: DataDir,

    /// How many seconds to wait for its end
    #[arg(long, value_name = "SECONDS", default_value_t = 40)]
    timeout: u64,
}

pub(crate) fn run(args: &StopArgs) -> Result<(), Failure> {
    let directory = args.data_dir.log_directory()?;
    let data_dir = directory.parent().unwrap_or(&directory).display();
    let Some(holder) = holder(&directory)? else {
        return Err(Failure::new(Exit::CannotListen, format!("no server runs on {data_dir}"))
            .help("name the directory that it was started with: --data-dir, or ENGRAM_DATA_DIR"));
    };
    let failed = |reason: String| Failure::new(Exit::Failure, reason);
    let pid = Pid::from_raw(holder).ok_or_else(|| failed(format!("the holder of {data_dir} is unknown")))?;
    kill_process(pid, Signal::TERM).map_err(|e| {
        failed(format!("cannot signal process {holder}, which has {data_dir}: {e}"))
            .help("run as the user that the server runs as")
    })?;
    let until = Instant::now() + Duration::from_secs(args.timeout);
    while self::holder(&directory)? == Some(holder) {
        if Instant::now() > until {
            return Err(failed(format!("process {holder} has not ended after {} s", args.timeout))
                .help("its log says what it waits for; a second SIGTERM ends it at once, and nothing acknowledged is lost"));
        }
        thread::sleep(LOOK_INTERVAL);
    }
    let mut output = Output::new();
    output.line(&format!("stopped the server of {data_dir}, process {holder}"))?;
    output.end()
}

/// The process that has the lock of a log's directory, or nothing when none has.
pub(crate) fn holder(directory: &Path) -> Result<Option<i32>, Failure> {
    let failed =
        |e: std::io::Error| Failure::new(Exit::BadDirectory, format!("{}: {e}", directory.display()));
    let lock = File::open(directory).map_err(failed)?;
    // Shared: two who look do not take each other for a server.
    match lock.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::Error(e)) => Err(failed(e)),
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(directory.join("LOCK")).unwrap_or_default();
            Ok(Some(holder.trim().parse().unwrap_or_default()))
        }
    }
}
