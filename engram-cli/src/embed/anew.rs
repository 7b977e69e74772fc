//! All memories embedded anew, into a staging: nobody sees anything of it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use engram_core::{Embedding, ListQuery, Lsn, Memory, MemoryStore, Staging, StoreError};

use super::{
    EmbedError, Embedder, Kind,
    worker::{Backoff, Pace},
};

/// Memories whose embeddings are asked for together.
const STAGED_TOGETHER: usize = 256;

/// Why it does not go on. Nothing was changed.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The model cannot be asked.
    Model(EmbedError),
    /// The store does not take what was made.
    Store(StoreError),
    /// Nobody wants it any more.
    Cancelled,
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Whoever has it done: is told how it goes, and says whether it goes on.
pub(crate) trait Course {
    /// Told between two batches: how many memories have their embedding, and how many texts the model does not take.
    fn at(&mut self, embedded: usize, refused: usize) -> Result<(), Stop>;

    /// Told of a failure, one of so many in a row. Returns after the pause.
    fn failed(&mut self, error: &EmbedError, pause: Duration, failures: u32) -> Result<(), Stop>;
}

/// Embeds all memories of a store by another model.
pub(crate) struct Anew<'a, C> {
    store: &'a MemoryStore,
    embedder: &'a Embedder,
    pub(crate) course: C,
    pace: Pace,
    /// The versions whose text the model does not take.
    refused: HashSet<Lsn>,
}

impl<'a, C: Course> Anew<'a, C> {
    pub(crate) fn new(store: &'a MemoryStore, embedder: &'a Embedder, course: C) -> Self {
        Self { store, embedder, course, pace: Pace::default(), refused: HashSet::new() }
    }

    /// How many texts the model does not take.
    pub(crate) fn refused(&self) -> usize {
        self.refused.len()
    }

    /// How many numbers the model's vectors have.
    pub(crate) fn dimension(&mut self, within: Duration) -> Result<usize, Stop> {
        let mut backoff = Backoff::new(self.pace);
        loop {
            match self.embedder.ask_dimension(within) {
                Ok(dimension) => return Ok(dimension),
                Err(error) => self.failed(&error, &mut backoff)?,
            }
        }
    }

    /// Stages what is not staged as it is now, of all spaces. Says how many memories that were.
    pub(crate) fn round(&mut self, staging: &mut Staging) -> Result<usize, Stop> {
        let mut found = 0;
        for space in self.store.spaces() {
            let mut query = ListQuery { limit: STAGED_TOGETHER, ..ListQuery::default() };
            loop {
                let page = match self.store.space(&space.name).and_then(|space| space.list(&query)) {
                    Ok(page) => page,
                    // Dropped meanwhile.
                    Err(StoreError::SpaceNotFound { .. }) => break,
                    Err(error) => return Err(error.into()),
                };
                let is_new =
                    |memory: &&Arc<Memory>| !staging.has(memory) && !self.refused.contains(&memory.lsn());
                let new: Vec<&Arc<Memory>> = page.memories.iter().filter(is_new).collect();
                found += new.len();
                self.stage(&space.name, new, staging)?;
                match page.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
            }
        }
        Ok(found)
    }

    /// Whether a change to this model would be worth it: one that takes few texts takes the embeddings of all others away.
    pub(crate) fn check(&self, staging: &Staging) -> Result<(), Stop> {
        let (staged, refused) = (staging.count(), self.refused.len());
        if refused <= staged {
            return Ok(());
        }
        let message = format!(
            "expected a model that takes the contents, got one that refuses {refused} and takes {staged}"
        );
        Err(Stop::Model(EmbedError::misconfigured(message)))
    }

    fn stage(&mut self, space: &str, mut left: Vec<&Arc<Memory>>, staging: &mut Staging) -> Result<(), Stop> {
        let mut backoff = Backoff::new(self.pace);
        loop {
            self.course.at(staging.count(), self.refused.len())?;
            if left.is_empty() {
                return Ok(());
            }
            let texts: Vec<&str> = left.iter().map(|memory| memory.content()).collect();
            let mut failed: Option<EmbedError> = None;
            let mut again = Vec::new();
            for (memory, outcome) in left.iter().zip(self.embedder.embed_each(&texts)) {
                match outcome.map(|vector| self.store.stage(staging, space, memory, &Embedding::from(vector)))
                {
                    Ok(Ok(())) => {}
                    // Beyond all bounds, say: as good as none.
                    Ok(Err(StoreError::Embedding(_))) => {
                        self.refused.insert(memory.lsn());
                    }
                    Ok(Err(error)) => return Err(error.into()),
                    Err(error) if error.kind == Kind::Refused => {
                        self.refused.insert(memory.lsn());
                    }
                    Err(error) => {
                        again.push(*memory);
                        failed = Some(error);
                    }
                }
            }
            let Some(error) = failed else { return self.course.at(staging.count(), self.refused.len()) };
            self.course.at(staging.count(), self.refused.len())?;
            if again.len() < left.len() {
                backoff = Backoff::new(self.pace);
            }
            self.failed(&error, &mut backoff)?;
            left = again;
        }
    }

    fn failed(&mut self, error: &EmbedError, backoff: &mut Backoff) -> Result<(), Stop> {
        let pause = backoff.pause(error.kind);
        if error.kind == Kind::Misconfigured {
            return Err(Stop::Model(error.clone()));
        }
        self.course.failed(error, pause, backoff.failures())
    }
}
