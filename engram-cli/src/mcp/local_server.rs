//! The server that `engram mcp` starts when there is none.
//!
//! It outlives whoever starts it: several agents share it, and the one that came first must not take the memories from the
//! others when it goes. It listens on loopback alone. If several start one at the same moment, one gets the address, and all
//! connect to it.

use std::{
    env,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::answer::Refusal;
use crate::{
    client::{Call, Client},
    exit::Exit,
    operator::holder,
};

/// What the server logs, in its data directory.
const LOG_FILE: &str = "server.log";

/// How long the server may take until it listens, and then until it has recovered. What takes longer goes on, and tools
/// say that it does.
const START_TIME_MAX: Duration = Duration::from_secs(10);
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(10);

/// How often it is looked for meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Bytes of its last words.
const LAST_WORDS_MAX: u64 = 600;

/// How to start a server.
#[derive(Debug)]
pub(super) struct LocalServer {
    address: String,
    data_dir: PathBuf,
    settings: Option<PathBuf>,
    /// One thread starts it, the others wait.
    starting: Mutex<()>,
    /// Whether the first server that has answered at the address has other memories than those of `data_dir`.
    is_of_others: OnceLock<bool>,
}

impl LocalServer {
    /// A server at `address`, of an absolute `data_dir`, with the settings of a file; its path is absolute, too.
    pub(super) fn new(address: String, data_dir: PathBuf, settings: Option<PathBuf>) -> Self {
        Self { address, data_dir, settings, starting: Mutex::new(()), is_of_others: OnceLock::new() }
    }

    /// Starts the server unless somebody listens there, and waits until it has recovered, for a reasonable time. May block.
    pub(super) fn make_sure_it_runs(&self, client: &Client) -> Result<(), Refusal> {
        let _turn = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut started = if answers(client, "/healthz") {
            None
        } else if self.is_of_others.get() == Some(&true) {
            // Another in its place would take in memories, and lose its address to this one.
            if !wait_until(START_TIME_MAX, || answers(client, "/healthz")) {
                return Err(self.of_others());
            }
            None
        } else {
            self.start(client)?
        };
        // Recovering is no failure: who asks hears of it. To end over what it finds there is one.
        let mut ended = None;
        wait_until(RECOVERY_TIME_MAX, || {
            ended = started.as_mut().and_then(|server| server.try_wait().unwrap_or_default());
            ended.is_some() || answers(client, "/readyz")
        });
        if let Some(mut server) = started.filter(|_| ended.is_none()) {
            // So that it is no zombie when it ends before this process does.
            thread::spawn(move || server.wait());
        }
        match ended.filter(|_| !answers(client, "/healthz")) {
            Some(status) => Err(self.failed_with(&format!("it ended with {status}: {}", self.last_words()))),
            None => Ok(()),
        }
    }

    /// A server has answered.
    pub(super) fn note_answer(&self) {
        self.is_of_others.get_or_init(|| !matches!(holder(&self.data_dir.join("wal")), Ok(Some(_))));
    }

    fn of_others(&self) -> Refusal {
        Refusal::new(format!("the Engram server at {} has answered before and does not now", self.address)).suggest(
            "Try again in a moment: it may be being started. If it is not, tell the user: they must start it as it was started \
             before; no other is started in its place, for its memories are not here.",
        )
    }

    /// The server that was started, if it was by this process, once one listens.
    fn start(&self, client: &Client) -> Result<Option<Child>, Refusal> {
        let mut server = self.spawn().map_err(|e| {
            self.failed(&format!("{e}")).suggest(
                "Tell the user: the memory server could not be started. `engram start` tells more; --data-dir chooses another \
                 directory.",
            )
        })?;
        let mut ended = None;
        let listens = wait_until(START_TIME_MAX, || {
            if ended.is_none() {
                // It has ended, or cannot be asked: either way there is nothing to wait for but another server.
                ended = server.try_wait().unwrap_or_default();
            }
            answers(client, "/healthz") || ended.is_some_and(|status| !was_late(status))
        });
        if answers(client, "/healthz") {
            return Ok(ended.is_none().then_some(server));
        }
        if ended.is_none() {
            thread::spawn(move || server.wait());
        }
        let reason = match (ended, listens) {
            (Some(status), _) => format!("it ended with {status}: {}", self.last_words()),
            (None, _) => format!("it does not listen after {} s", START_TIME_MAX.as_secs()),
        };
        Err(self.failed_with(&reason))
    }

    /// Why it does not run, and where there is more of it.
    fn failed_with(&self, reason: &str) -> Refusal {
        self.failed(reason).suggest(format!(
            "Tell the user: the memory server does not start. Its log is {}. If another server has this directory, name that one \
             by ENGRAM_SERVER.",
            self.log().display()
        ))
    }

    fn spawn(&self) -> io::Result<Child> {
        let in_directory =
            |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", self.data_dir.display()));
        match fs::create_dir(&self.data_dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(in_directory)?,
        }
        let log = File::options().create(true).append(true).open(self.log()).map_err(in_directory)?;
        let mut command = Command::new(env::current_exe()?);
        if let Some(settings) = &self.settings {
            // The variable may name it from the directory of this process.
            command.env("ENGRAM_CONFIG", settings);
        }
        command
            .args(["start", "--listen", &self.address, "--data-dir"])
            .arg(&self.data_dir)
            .current_dir(&self.data_dir)
            .stdin(Stdio::null())
            // The protocol has standard output, and whoever waits for its end must not wait for the server's.
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C, and a client that ends all that it has started, are not meant for it.
            .process_group(0)
            .spawn()
    }

    fn log(&self) -> PathBuf {
        self.data_dir.join(LOG_FILE)
    }

    fn failed(&self, reason: &str) -> Refusal {
        Refusal::new(format!("no Engram server could be started at {}: {reason}", self.address))
    }

    fn last_words(&self) -> String {
        let words = last_bytes(&self.log()).unwrap_or_default();
        let from = words.rfind("error: ").unwrap_or_default();
        words[from..].trim().replace('\n', "; ")
    }
}

/// Whether it ended because another server has the address, or the directory: that one may answer in a moment.
fn was_late(status: ExitStatus) -> bool {
    [Exit::CannotListen, Exit::Locked].into_iter().any(|exit| status.code() == Some(exit as i32))
}

fn answers(client: &Client, path: &str) -> bool {
    client.call(&Call::get(path)).is_ok_and(|reply| reply.is_success())
}

/// Whether it came true in time.
fn wait_until(time_max: Duration, mut is_true: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + time_max;
    loop {
        if is_true() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

fn last_bytes(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_MAX)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
