//! Embeds what was stored without a vector: all there is after a start, then what comes.

mod backoff;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use engram_core::{
    Embedding, Lsn, Memory, MemoryStore, ReceiptHandle, StorageError, StoreError, Unembedded, Writes,
};
use tokio::time::sleep;
use tracing::{debug, info, warn};

pub(crate) use self::backoff::{Backoff, Pace};
use super::{EmbedError, EmbedService, Kind, Progress, Seat, State};
use crate::{count::count, service::off_the_runtime};

/// Gives memories their vectors, one batch after the other.
pub(crate) struct Worker {
    store: Arc<MemoryStore>,
    embed: EmbedService,
    seat: Arc<Seat>,
    progress: Arc<Progress>,
    pace: Pace,
    set_aside: Mutex<SetAside>,
}

/// The memories whose text the model does not take, by version: one that is replaced is another text.
#[derive(Debug, Default)]
struct SetAside {
    versions: HashSet<Lsn>,
    since: Option<Instant>,
}

/// What a step of the worker came to.
#[derive(Debug)]
enum Step {
    /// On from here; something was embedded, or nothing of this batch could be.
    More { last: Lsn, embedded: bool },
    /// There is nothing left.
    Done,
    /// Later, from the beginning.
    Failed(EmbedError),
    /// Never again: the log is closed, or another model embeds.
    Over,
}

impl Worker {
    pub(crate) fn new(store: Arc<MemoryStore>, embed: EmbedService, seat: Arc<Seat>, pace: Pace) -> Self {
        let progress = Arc::clone(embed.progress());
        Self { store, embed, seat, progress, pace, set_aside: Mutex::default() }
    }

    /// Works until the log is closed, or another model embeds.
    pub(crate) async fn run(self) {
        let worker = Arc::new(self);
        let progress = Arc::clone(&worker.progress);
        let mut backoff = Backoff::new(worker.pace);
        let mut after = Lsn::ZERO;
        loop {
            let step = Arc::clone(&worker);
            match off_the_runtime(move || step.step(after)).await {
                Step::More { last, embedded } => {
                    after = last;
                    if embedded && backoff.failures() > 0 {
                        info!("texts are embedded again");
                        backoff.reset();
                    }
                }
                Step::Done => {
                    after = Lsn::ZERO;
                    backoff.reset();
                    progress.enter(State::Idle);
                    tokio::select! {
                        () = progress.woken() => {}
                        () = sleep(worker.pace.refused_retry) => {}
                    }
                    worker.forgive();
                }
                Step::Failed(error) => {
                    after = Lsn::ZERO;
                    let pause = backoff.pause(error.kind);
                    worker.report(&error, pause, backoff.failures());
                    sleep(pause).await;
                }
                Step::Over => return,
            }
        }
    }

    /// Embeds the next batch.
    fn step(&self, after: Lsn) -> Step {
        if !self.seat.is_of(&self.embed) {
            return Step::Over;
        }
        let embedder = self.embed.embedder();
        let found = self.store.unembedded(after, embedder.batch);
        let Some(last) = found.last().map(|found| found.memory.lsn()) else {
            self.drop_gone();
            return Step::Done;
        };
        let found: Vec<Unembedded> = {
            let set_aside = self.set_aside.lock().unwrap_or_else(PoisonError::into_inner);
            found.into_iter().filter(|found| !set_aside.versions.contains(&found.memory.lsn())).collect()
        };
        if found.is_empty() {
            return Step::More { last, embedded: false };
        }
        // Making vectors costs: none is made that cannot be kept.
        if self.store.status().writes == Writes::Refused {
            return Step::Failed(EmbedError::transient("the store takes no writes now"));
        }
        self.progress.enter(State::Embedding);
        let texts: Vec<&str> = found.iter().map(|found| found.memory.content()).collect();
        let outcomes = embedder.embed_each(&texts);
        let (mut attached, mut failure) = (Vec::new(), None);
        let held = self.seat.hold_blocking();
        if !held.is_of(Some(&self.embed)) {
            return Step::Over;
        }
        for (found, outcome) in found.into_iter().zip(outcomes) {
            match outcome {
                Ok(vector) => attached.push((self.attach(&found, vector), found)),
                Err(error) if error.kind == Kind::Refused => self.set_aside(&found.memory, &error),
                Err(error) => failure = Some(error),
            }
        }
        drop(held);
        match self.wait(attached) {
            Ok(attached) => failure.map_or(Step::More { last, embedded: attached > 0 }, Step::Failed),
            Err(step) => step,
        }
    }

    /// Gives a memory its vector, if it is still of that version.
    fn attach(&self, found: &Unembedded, vector: Vec<f32>) -> ReceiptHandle {
        let (memory, vector) = (&found.memory, Embedding::from(vector));
        match self.store.space(&found.space) {
            Ok(space) => space.submit_embedding(memory.id(), memory.lsn(), &vector),
            Err(error) => ReceiptHandle::ready(Err(error)),
        }
    }

    /// Waits until the vectors are durable, and gives how many memories have got theirs.
    fn wait(&self, attached: Vec<(ReceiptHandle, Unembedded)>) -> Result<usize, Step> {
        let (mut embedded, mut failure) = (0, None);
        for (handle, found) in attached {
            match handle.wait() {
                Ok(_) => embedded += 1,
                // Forgotten or replaced meanwhile, or its space is gone.
                Err(StoreError::NotFound { .. } | StoreError::SpaceNotFound { .. }) => {}
                Err(StoreError::Storage(StorageError::Closed)) => failure = Some(Step::Over),
                // Beyond all bounds, say: as good as none.
                Err(error @ StoreError::Embedding(_)) => {
                    self.set_aside(&found.memory, &EmbedError::refused(error.to_string()));
                }
                Err(error) => failure = Some(Step::Failed(EmbedError::transient(error.to_string()))),
            }
        }
        self.progress.count_embedded(embedded);
        failure.map_or(Ok(embedded), Err)
    }

    fn set_aside(&self, memory: &Memory, error: &EmbedError) {
        warn!(
            id = memory.id(),
            "a memory is recalled by words alone, since the model does not take it: {error}"
        );
        self.progress.note_error(error);
        let mut set_aside = self.set_aside.lock().unwrap_or_else(PoisonError::into_inner);
        set_aside.versions.insert(memory.lsn());
        set_aside.since.get_or_insert_with(Instant::now);
        self.progress.set_failed(set_aside.versions.len());
    }

    /// What was replaced or forgotten, or has got a vector from elsewhere, is no failure any more.
    fn drop_gone(&self) {
        let mut set_aside = self.set_aside.lock().unwrap_or_else(PoisonError::into_inner);
        if !set_aside.versions.is_empty() {
            let left = self.store.unembedded(Lsn::ZERO, usize::MAX);
            let left: HashSet<Lsn> = left.iter().map(|found| found.memory.lsn()).collect();
            set_aside.versions.retain(|version| left.contains(version));
            self.progress.set_failed(set_aside.versions.len());
        }
    }

    /// What the model did not take is tried again: it may be another by now.
    fn forgive(&self) {
        let mut set_aside = self.set_aside.lock().unwrap_or_else(PoisonError::into_inner);
        if set_aside.since.take_if(|since| since.elapsed() >= self.pace.refused_retry).is_some() {
            set_aside.versions.clear();
            self.progress.set_failed(0);
        }
    }

    /// Says what is new; that it still fails, only to whoever asks.
    fn report(&self, error: &EmbedError, pause: Duration, failures: u32) {
        let state = match error.kind {
            Kind::Misconfigured => State::Misconfigured,
            Kind::Transient { .. } | Kind::Broken | Kind::Refused => State::Retrying,
        };
        self.progress.note_error(error);
        self.progress.enter(state);
        if failures == 1 {
            warn!("texts cannot be embedded now, and are recalled by words until they can: {error}");
        } else {
            let failures = count(failures, "time", "times");
            debug!(
                "texts could not be embedded {failures} in a row; again in {} ms: {error}",
                pause.as_millis()
            );
        }
    }
}
