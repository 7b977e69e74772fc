//! The server under test, as a child process.

use std::{
    io::{self, BufRead as _, BufReader},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use engram_core::FsyncMode;
use rustix::process::Pid;

use super::{emergency::Emergency, memories::DIMENSION};

/// How long a start may take. It is far longer than any should, and counts as one that has failed.
const START_TIME_MAX: Duration = Duration::from_mins(2);

/// How much log there is between two snapshots.
const SNAPSHOT_LOG_BYTES: u64 = 64 << 10;

/// How servers are started.
#[derive(Debug)]
pub(super) struct Launcher {
    pub(super) program: PathBuf,
    pub(super) fsync: FsyncMode,
    pub(super) emergency: Emergency,
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    emergency: Emergency,
    started: Instant,
    /// Where it listens; sent when it does.
    url: Receiver<String>,
    /// Reads what it says until it has ended.
    log: Option<JoinHandle<String>>,
}

/// A server that is no more: how it ended, and what it said.
#[derive(Debug)]
pub(super) struct Ended {
    status: Option<ExitStatus>,
    pub(super) log: String,
}

impl Launcher {
    /// Starts a server; it may not be ready yet.
    pub(super) fn spawn(&self, data_dir: &Path) -> io::Result<Server> {
        let mut command = Command::new(&self.program);
        command.arg("start").arg("--data-dir").arg(data_dir).args([
            "--listen",
            "127.0.0.1:0",
            "--log",
            "info",
        ]);
        command.args(["--fsync", &self.fsync.to_string(), "--dimension", &DIMENSION.to_string()]);
        command.args(["--recovery", "skip-corrupt", "--on-wal-failure", "exit"]);
        // Again and again within a round, so that kills meet snapshots at every step.
        command.args(["--snapshot-log-bytes", &SNAPSHOT_LOG_BYTES.to_string()]);
        // What its clients do not know of.
        for variable in ["ENGRAM_API_KEY", "ENGRAM_API_KEY_FILE", "ENGRAM_TLS_CERT", "ENGRAM_TLS_KEY"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Ctrl-C in a terminal is for the test, which then ends the server.
        command.process_group(0);
        let started = Instant::now();
        let mut child = self.emergency.spawn(&mut command)?;
        let stderr = child.stderr.take();
        let (found, url) = channel();
        let log = thread::spawn(move || {
            let mut log = Vec::new();
            let mut lines = stderr.map(BufReader::new);
            while let Some(lines) = &mut lines {
                let start = log.len();
                if !lines.read_until(b'\n', &mut log).is_ok_and(|read| read > 0) {
                    break;
                }
                let line = String::from_utf8_lossy(&log[start..]);
                if let Some((_, rest)) = line.split_once("listening on ")
                    && let Some(url) = rest.split_whitespace().next()
                {
                    // Nobody waits for the second one, nor in a start that is cut short.
                    found.send(url.to_owned()).ok();
                }
            }
            String::from_utf8_lossy(&log).into_owned()
        });
        Ok(Server { child, emergency: self.emergency.clone(), started, url, log: Some(log) })
    }
}

impl Server {
    /// Waits until it can be asked: its address, and how long that took since it was started.
    ///
    /// # Errors
    /// In words, when it has ended instead, or takes for ever.
    pub(super) fn ready(&self) -> Result<(String, Duration), &'static str> {
        match self.url.recv_timeout(START_TIME_MAX) {
            Ok(url) => Ok((url, self.started.elapsed())),
            Err(RecvTimeoutError::Disconnected) => Err("it did not start"),
            Err(RecvTimeoutError::Timeout) => Err("it was not ready after two minutes"),
        }
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// SIGKILL, unless it has ended before, and the end of all that it wrote.
    pub(super) fn kill(mut self) -> Ended {
        let status = self.end();
        let log = self.log.take().and_then(|log| log.join().ok()).unwrap_or_default();
        Ended { status, log }
    }

    fn end(&mut self) -> Option<ExitStatus> {
        // It may have ended by itself. Once the signal is sent there is nothing left for an emergency to do.
        self.child.kill().ok();
        self.emergency.forget_server();
        self.child.wait().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.log.is_some() {
            self.end();
        }
    }
}

impl Ended {
    /// Whether it ran until it was killed.
    pub(super) fn was_killed(&self) -> bool {
        self.status.is_some_and(|status| status.signal() == Some(rustix::process::Signal::KILL.as_raw()))
    }

    /// How it ended by itself, with its last words.
    pub(super) fn describe(&self) -> String {
        let status = self.status.map_or("unknown status".to_owned(), |status| status.to_string());
        let words =
            self.log.lines().rev().find(|line| !line.starts_with("help: ")).unwrap_or("it said nothing");
        format!("{status}: {words}")
    }
}
