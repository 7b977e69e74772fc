//! What the operating system and its users ask of the process.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// A file has reached the size that the process may give it. Its number is the same on Linux and macOS.
const SIGXFSZ: i32 = 25;

/// The signals that the server minds. SIGHUP keeps its default: the end of a terminal ends what runs in it.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Held so that the signal does not kill: the write gets an error instead, which the log answers like a full disk.
    _file_size: Signal,
}

impl Signals {
    /// From now on these signals are for us.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let catch = |kind| {
            signal(kind).map_err(|e| Failure::new(Exit::Failure, format!("cannot catch signals: {e}")))
        };
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            _file_size: catch(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    /// Waits for the wish that the process ends, and names it. Waiting again waits for another one.
    pub(crate) async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "Ctrl-C",
        }
    }
}
