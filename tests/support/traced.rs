//! The real server under strace, which ends it or fails its calls at a chosen one.
//!
//! strace counts the calls of each thread on its own. So the threads of the log are attached to one by one, and what is
//! injected strikes at the very call that is meant.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::server::Server;

/// The thread that writes the log.
pub(crate) const WRITER: &str = "engram-wal";

/// The thread that makes the next segment ready.
pub(crate) const SPARE: &str = "engram-spare";

/// The thread that takes snapshots.
pub(crate) const SNAPSHOT: &str = "engram-snapshot";

/// strace, attached to one thread; let go when dropped.
pub(crate) struct Attached {
    strace: Child,
    trace: PathBuf,
}

/// Why nothing can be traced here, if it cannot.
pub(crate) fn cannot() -> Option<&'static str> {
    Command::new("strace").arg("-V").output().is_err().then_some("strace is not installed")
}

/// The thread of this name. It gives itself its name when it first runs, which may still have to come.
pub(crate) fn thread(process: u32, name: &str) -> u32 {
    let until = Instant::now() + Duration::from_mins(1);
    while Instant::now() < until {
        if let Some(thread) = find_thread(process, name) {
            return thread;
        }
        std::thread::yield_now();
    }
    panic!("process {process} has no thread {name}");
}

fn find_thread(process: u32, name: &str) -> Option<u32> {
    for task in fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let task = task.unwrap();
        // A thread may end meanwhile.
        if fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name) {
            return Some(task.file_name().to_str().unwrap().parse().unwrap());
        }
    }
    None
}

impl Attached {
    /// Traces the calls that `traced` names in one thread, and injects what is asked for, such as
    /// `pwrite64:signal=KILL:when=3`. Returns when it is attached.
    pub(crate) fn to(thread: u32, traced: &str, inject: Option<&str>, trace: &Path) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-y", "-e", &format!("trace={traced}"), "-o"]).arg(trace);
        strace.args(inject.iter().flat_map(|it| ["-e".to_owned(), format!("inject={it}")]));
        strace.args(["-p", &thread.to_string()]);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut strace = strace.spawn().unwrap();
        let mut said = BufReader::new(strace.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("attached") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "strace ended with {:?}", strace.wait());
        }
        // What it says at its end may be dropped: it is short.
        Self { strace, trace: trace.to_owned() }
    }

    /// Waits until the thread has ended, with which strace ends; the calls.
    pub(crate) fn wait(mut self) -> String {
        self.strace.wait().unwrap();
        self.calls()
    }

    /// Lets the thread go on without it; the calls.
    pub(crate) fn detach(mut self) -> String {
        assert!(
            Command::new("kill").args(["-INT", &self.strace.id().to_string()]).status().unwrap().success()
        );
        self.strace.wait().unwrap();
        self.calls()
    }

    /// The calls so far. strace writes each when it has returned.
    pub(crate) fn calls(&self) -> String {
        fs::read_to_string(&self.trace).unwrap()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if matches!(self.strace.try_wait(), Ok(None)) {
            drop(Command::new("kill").args(["-INT", &self.strace.id().to_string()]).status());
            drop(self.strace.wait());
        }
    }
}

/// What shows in a trace.
const TRACED: &str = "pwrite64,fdatasync,fsync,openat,rename";

/// A data directory, and a file for a trace beside it.
pub(crate) struct Place {
    _directory: tempfile::TempDir,
    pub(crate) data_dir: PathBuf,
    pub(crate) trace: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (data_dir, trace) = (directory.path().join("data"), directory.path().join("trace"));
        Self { _directory: directory, data_dir, trace }
    }

    /// A server whose log's thread meets this.
    pub(crate) fn start(&self, arguments: &[&str], inject: &str) -> (Server, Attached) {
        let server = Server::start(&self.data_dir, arguments);
        let attached = Attached::to(thread(server.pid(), WRITER), TRACED, Some(inject), &self.trace);
        (server, attached)
    }
}

/// Whether strace has done something to a call: it says what, in brackets.
pub(crate) fn is_struck(call: &str) -> bool {
    call.contains("(INJECTED") || call.contains("(DELAYED)")
}

/// The calls from the one that was struck on.
pub(crate) fn from_injection<'t>(trace: &'t str, context: &str) -> Vec<&'t str> {
    let calls: Vec<&str> = trace.lines().skip_while(|call| !is_struck(call)).collect();
    assert!(!calls.is_empty(), "{context}: nothing was injected:\n{trace}");
    calls
}
