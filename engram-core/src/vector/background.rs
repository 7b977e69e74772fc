//! The thread that keeps the index while the store is used.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::warn;

use super::arena::Rows;
use super::keeper::Keeper;

/// A thread of one arena. It starts when there is something to do for it, and ends with the arena.
#[derive(Default)]
pub(super) struct Background {
    signal: Arc<Signal>,
    /// Taken before the state of the signal.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread is told, and tells.
#[derive(Default)]
pub(super) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
}

#[derive(Default)]
struct State {
    is_woken: bool,
    is_working: bool,
}

impl Background {
    /// Has the thread look whether there is something to do.
    pub(super) fn wake<T: Clone + Send + Sync + 'static>(&self, rows: &Arc<Rows<T>>) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        self.signal.lock().is_woken = true;
        self.signal.changed.notify_all();
        if thread.is_some() || self.signal.stopped.load(Ordering::Relaxed) {
            return;
        }
        let (rows, signal) = (Arc::clone(rows), Arc::clone(&self.signal));
        let work = move || {
            be_nice();
            let mut keeper = Keeper::default();
            while signal.wait_for_work() {
                keeper.keep(&rows, &signal);
                signal.done();
            }
        };
        match thread::Builder::new().name("engram-index".to_owned()).spawn(work) {
            Ok(handle) => *thread = Some(handle),
            // Recall is slower without, and no worse.
            Err(error) => warn!("cannot start the thread that keeps the index: {error}"),
        }
    }

    /// Ends the thread, for good.
    pub(super) fn stop(&self) {
        self.signal.stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            warn!("the thread that keeps the index has panicked");
        }
    }

    /// Whether the thread has something to do.
    pub(super) fn is_working(&self) -> bool {
        let state = self.signal.lock();
        state.is_woken || state.is_working
    }

    /// Waits until there is nothing left to do.
    #[cfg(test)]
    pub(super) fn settle<T: Clone + Send + Sync + 'static>(&self, rows: &Arc<Rows<T>>) {
        self.wake(rows);
        let mut state = self.signal.lock();
        while state.is_woken || state.is_working {
            state = self.signal.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Signal {
    /// Whether the thread is to go on; asked between two pieces of work of a few milliseconds.
    pub(super) fn goes_on(&self) -> bool {
        thread::yield_now();
        !self.stopped.load(Ordering::Relaxed)
    }

    /// Waits, unless it is told to stop.
    pub(super) fn pause(&self, time: Duration) {
        let state = self.lock();
        // How it ended does not matter: whoever goes on asks `goes_on`.
        drop(self.changed.wait_timeout_while(state, time, |_| !self.stopped.load(Ordering::Relaxed)));
    }

    fn wait_for_work(&self) -> bool {
        let mut state = self.lock();
        while !state.is_woken && !self.stopped.load(Ordering::Relaxed) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        *state = State { is_woken: false, is_working: true };
        !self.stopped.load(Ordering::Relaxed)
    }

    fn done(&self) {
        self.lock().is_working = false;
        self.changed.notify_all();
    }

    fn stop(&self) {
        let state = self.lock();
        self.stopped.store(true, Ordering::Relaxed);
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets everything else go first. On Linux a thread has a priority of its own; elsewhere it would be the process's.
fn be_nice() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(10) {
        tracing::debug!("the thread that keeps the index runs at the priority of the others: {error}");
    }
}
