//! Ctrl-C, and what must not outlive the process.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use indicatif::ProgressBar;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

use crate::exit::{Exit, Failure};

/// The exit code of a process that Ctrl-C has ended, as shells have it.
const INTERRUPTED: i32 = 130;

/// The wish to end, and what is to be put away when it comes twice. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Emergency(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicBool,
    /// Held while a server is started, so that none is missed.
    server: Mutex<Option<Pid>>,
    mount: Mutex<Option<PathBuf>>,
}

impl Emergency {
    /// From now on SIGINT, SIGTERM and SIGHUP ask for the end; the second one ends the process at once.
    pub(super) fn watch(&self, bar: ProgressBar) -> Result<(), Failure> {
        let cannot = |e: io::Error| Failure::new(Exit::Failure, format!("cannot catch signals: {e}"));
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let emergency = self.clone();
        let catch = |kind| {
            let _context = runtime.enter();
            signal(kind).map_err(cannot)
        };
        let (mut interrupt, mut terminate) =
            (catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?);
        // What nohup ignores stays ignored.
        let mut hangup = if ignores_hangup() { None } else { Some(catch(SignalKind::hangup())?) };
        let watch = async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = async { hangup.as_mut()?.recv().await }, if hangup.is_some() => {}
                }
                if emergency.0.asked.swap(true, SeqCst) {
                    emergency.abort();
                }
                // Whoever closed stderr does not want to know.
                bar.suspend(|| {
                    drop(writeln!(io::stderr(), "ending after a last check; once more ends at once"));
                });
            }
        };
        let spawned =
            thread::Builder::new().name("engram-signals".to_owned()).spawn(move || runtime.block_on(watch));
        spawned.map(drop).map_err(cannot)
    }

    /// Whether the end was asked for.
    pub(super) fn is_asked(&self) -> bool {
        self.0.asked.load(SeqCst)
    }

    /// Starts a server that an abort will kill.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let mut server = lock(&self.0.server);
        let child = command.spawn()?;
        *server = Some(Pid::from_child(&child));
        Ok(child)
    }

    /// The server is no more.
    pub(super) fn forget_server(&self) {
        *lock(&self.0.server) = None;
    }

    /// An abort will unmount this, or nothing.
    pub(super) fn set_mount(&self, mount: Option<&Path>) {
        *lock(&self.0.mount) = mount.map(Path::to_owned);
    }

    fn abort(&self) -> ! {
        if let Some(pid) = *lock(&self.0.server) {
            // It may have ended by itself.
            kill_process(pid, Signal::KILL).ok();
        }
        if let Some(mount) = lock(&self.0.mount).as_deref() {
            unmount_when_free(mount);
        }
        std::process::exit(INTERRUPTED);
    }
}

/// Takes a mount out of sight at once; it ends when the last file in it is closed. Nobody is told of a failure: there is
/// nothing else to try.
pub(super) fn unmount_when_free(mount: &Path) {
    let mut umount = Command::new("umount");
    umount.arg("-l").arg(mount).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    drop(umount.status());
}

/// Whether the process was started to outlive its terminal.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // A mask in hexadecimal, of which SIGHUP is the first bit.
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
