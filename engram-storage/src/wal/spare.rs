//! The next segment, made ready off the commit path.
//!
//! A sync into zeros that were written before touches no metadata of the file system and takes about two thirds of
//! the time of a sync that grows a file (`docs/performance.md`). Filling 64 MiB takes longer than any writer should
//! wait, so a thread of its own does it, in pieces, each synced, so that no commit's sync has to wait for more than
//! one of them.

use std::{
    io,
    sync::{Arc, PoisonError},
};

use super::segment::SPARE_NAME;
use crate::{
    disk::{Disk, DiskFile},
    sync::{
        Condvar, Mutex, MutexGuard,
        thread::{self, JoinHandle},
    },
};

const PIECE_BYTES: usize = 1 << 20;

/// A file of zeros, written and synced, that has no segment's name yet.
pub(super) struct Filled {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) bytes: u64,
}

pub(super) struct Spare {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    /// Protects the state alone; not held while the disk works.
    state: Mutex<State>,
    changed: Condvar,
}

enum State {
    /// Nothing to do; also after a failure, since the writer does without.
    Idle,
    /// And what was made ready and is longer, to be removed: not by who writes the log, since it takes long.
    Wanted(u64, Option<Filled>),
    Filling,
    Ready(Filled),
    Stopped,
}

impl Spare {
    /// Starts the thread.
    pub(super) fn start(disk: Arc<dyn Disk>) -> io::Result<Self> {
        let shared = Arc::new(Shared { disk, state: Mutex::new(State::Idle), changed: Condvar::new() });
        let thread = thread::Builder::new().name("engram-spare".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run()
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Asks for a file of so many zeros, instead of one that is ready and longer.
    pub(super) fn want(&self, bytes: u64) {
        let mut state = self.shared.lock();
        *state = match std::mem::replace(&mut *state, State::Idle) {
            State::Idle => State::Wanted(bytes, None),
            State::Ready(filled) if filled.bytes > bytes => State::Wanted(bytes, Some(filled)),
            other => other,
        };
        self.shared.changed.notify_all();
    }

    /// The file, when it is ready and no longer than that.
    pub(super) fn take(&self, bytes_max: u64) -> Option<Filled> {
        let mut state = self.shared.lock();
        match std::mem::replace(&mut *state, State::Idle) {
            State::Ready(filled) if filled.bytes <= bytes_max => Some(filled),
            other => {
                *state = other;
                None
            }
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(*self.shared.lock(), State::Ready(_))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let unused = std::mem::replace(&mut *self.shared.lock(), State::Stopped);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic over there was logged by its thread; nothing of the log depends on it.
            drop(thread.join());
        }
        if matches!(unused, State::Ready(_) | State::Filling | State::Wanted(_, Some(_))) {
            // Best effort: a leftover counts for nothing, and the next start removes it.
            drop(self.shared.disk.remove(SPARE_NAME));
        }
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let mut state = self.lock();
            let (bytes, longer) = loop {
                match std::mem::replace(&mut *state, State::Filling) {
                    State::Wanted(bytes, longer) => break (bytes, longer),
                    State::Stopped => {
                        *state = State::Stopped;
                        return;
                    }
                    other => {
                        *state = other;
                        state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(state);
            if let Some(longer) = longer {
                drop(self.disk.remove(SPARE_NAME)); // as in Drop
                drop(longer);
            }
            let filled = self.fill(bytes);
            let mut state = self.lock();
            if !matches!(*state, State::Filling) {
                return; // stopped meanwhile
            }
            *state = match filled {
                Ok(file) => State::Ready(Filled { file, bytes }),
                Err(error) => {
                    tracing::warn!(%error, bytes, "the next segment cannot be made ready ahead; the present one grows instead, more slowly");
                    drop(self.disk.remove(SPARE_NAME)); // as in Drop
                    State::Idle
                }
            };
        }
    }

    fn fill(&self, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.create(SPARE_NAME)?;
        let zeros = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < bytes {
            if matches!(*self.lock(), State::Stopped) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let piece = usize::try_from(bytes - at).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            file.write_all_at(&zeros[..piece], at)?;
            file.sync()?;
            at += piece as u64;
        }
        Ok(file)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
