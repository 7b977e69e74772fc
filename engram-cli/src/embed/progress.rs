//! How embedding is doing.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::Notify;

use super::EmbedError;

/// What the worker and the requests have done, since the start.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Told when a memory without a vector was stored.
    wake: Notify,
    embedded: AtomicU64,
    failed: AtomicU64,
    questions: AtomicU64,
    questions_failed: AtomicU64,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    state: State,
    last_error: Option<String>,
}

/// What the worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// Nothing: all that can be embedded is.
    #[default]
    Idle,
    Embedding,
    /// It waits, to try again what failed and may pass.
    Retrying,
    /// It waits for somebody to correct a setting, and tries again now and then.
    Misconfigured,
}

impl State {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Idle, Self::Embedding, Self::Retrying, Self::Misconfigured];

    /// Its name, as clients read it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Embedding => "embedding",
            Self::Retrying => "retrying",
            Self::Misconfigured => "misconfigured",
        }
    }
}

/// How embedding is doing, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) state: State,
    /// Memories that were embedded.
    pub(crate) embedded: u64,
    /// Memories that the model did not take, and that are not tried for now.
    pub(crate) failed: u64,
    /// Questions that were to be embedded, and those that could not be.
    pub(crate) questions: u64,
    pub(crate) questions_failed: u64,
    pub(crate) last_error: Option<String>,
}

impl Progress {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let now = self.now();
        Snapshot {
            state: now.state,
            embedded: self.embedded.load(Relaxed),
            failed: self.failed.load(Relaxed),
            questions: self.questions.load(Relaxed),
            questions_failed: self.questions_failed.load(Relaxed),
            last_error: now.last_error.clone(),
        }
    }

    /// The same counts, for another model, which has done nothing yet.
    pub(super) fn continued(&self) -> Self {
        let now = |count: &AtomicU64| AtomicU64::new(count.load(Relaxed));
        Self {
            embedded: now(&self.embedded),
            questions: now(&self.questions),
            questions_failed: now(&self.questions_failed),
            ..Self::default()
        }
    }

    /// There is something to embed.
    pub(crate) fn wake(&self) {
        // Kept for a worker that is at work: it looks again before it waits.
        self.wake.notify_one();
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(super) fn enter(&self, state: State) {
        self.now().state = state;
    }

    pub(super) fn note_error(&self, error: &EmbedError) {
        self.now().last_error = Some(error.to_string());
    }

    pub(super) fn count_embedded(&self, memories: usize) {
        self.embedded.fetch_add(memories as u64, Relaxed);
    }

    pub(super) fn set_failed(&self, memories: usize) {
        self.failed.store(memories as u64, Relaxed);
    }

    pub(super) fn count_question<T>(&self, outcome: &Result<T, EmbedError>) {
        self.questions.fetch_add(1, Relaxed);
        if let Err(error) = outcome {
            self.questions_failed.fetch_add(1, Relaxed);
            self.note_error(error);
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
