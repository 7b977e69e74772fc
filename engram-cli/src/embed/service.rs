//! Embeddings for requests: of questions, and of texts that may not be stored without.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use engram_core::{Embedding, Episode, MemoryStore, Patch, WriteOptions};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    EmbedConfig, EmbedError, Embedder, Kind, Progress, Seat,
    each::Outcome,
    worker::{Pace, Worker},
};
use crate::{exit::Failure, service::off_the_runtime};

/// How long a question waits for its embedding.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a text that may not be stored without its embedding waits for it: less than a request may take.
const TEXT_TIME_MAX: Duration = Duration::from_secs(20);

/// How long questions are not embedded after one has waited in vain, for longer than this: each would wait as long.
const QUESTION_PAUSE: Duration = Duration::from_secs(5);
const QUESTION_WAIT_MAX: Duration = Duration::from_secs(1);

/// Requests that are embedded at once; others wait.
const REQUESTS_MAX: usize = 16;

/// An episode of many, with its place among them, or why there is none.
pub(crate) type Item<P, E> = (P, Result<(Episode, WriteOptions), E>);

/// The embedder, for requests. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct EmbedService {
    embedder: Arc<Embedder>,
    progress: Arc<Progress>,
    /// Whether a text is embedded before it is stored.
    required: bool,
    turns: Arc<Semaphore>,
    /// Why questions are not embedded now, and since when.
    paused: Arc<Mutex<Option<(Instant, EmbedError)>>>,
}

impl EmbedService {
    /// An embedder of this configuration, for requests. An endpoint is not asked yet.
    pub(crate) fn open(config: &EmbedConfig) -> Result<Self, Failure> {
        Ok(Self::new(Embedder::open(config)?, config.required))
    }

    pub(crate) fn new(embedder: Embedder, required: bool) -> Self {
        Self {
            embedder: Arc::new(embedder),
            progress: Arc::default(),
            required,
            turns: Arc::new(Semaphore::new(REQUESTS_MAX)),
            paused: Arc::default(),
        }
    }

    /// The same, which goes on counting where another ends.
    pub(crate) fn after(self, former: &Self) -> Self {
        Self { progress: Arc::new(former.progress.continued()), ..self }
    }

    /// Whether both embed by the same.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.embedder, &other.embedder)
    }

    /// What embeds the memories of this store that have no vector, for as long as this one has the seat.
    pub(crate) fn worker(&self, store: Arc<MemoryStore>, seat: Arc<Seat>) -> Worker {
        Worker::new(store, self.clone(), seat, Pace::default())
    }

    pub(crate) fn embedder(&self) -> &Arc<Embedder> {
        &self.embedder
    }

    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Whether a text is embedded after it is stored.
    pub(crate) fn embeds_later(&self) -> bool {
        !self.required
    }

    /// Gives an episode its embedding, if it needs one before it is stored.
    pub(crate) async fn prepare(&self, episode: &mut Episode) -> Result<(), EmbedError> {
        if self.required && episode.embedding.is_none() {
            episode.embedding = Some(self.text(episode.content.clone()).await?);
        }
        Ok(())
    }

    /// Gives a patch the embedding of its content, if that needs one before it is stored.
    pub(crate) async fn prepare_patch(&self, patch: &mut Patch) -> Result<(), EmbedError> {
        if self.required
            && patch.embedding.is_none()
            && let Some(content) = &patch.content
        {
            patch.embedding = Some(Some(self.text(content.clone()).await?));
        }
        Ok(())
    }

    async fn text(&self, text: String) -> Result<Embedding, EmbedError> {
        let embedder = Arc::clone(&self.embedder);
        let embed = async {
            let _turn = self.turns.acquire().await;
            off_the_runtime(move || embedder.embed_each(&[&text]).into_iter().next()).await
        };
        let outcome = timeout(TEXT_TIME_MAX, embed).await.ok().flatten();
        self.counted(outcome.unwrap_or_else(|| Err(too_late("a text", TEXT_TIME_MAX))))
    }

    /// Gives episodes their embeddings, those that need one before they are stored; in place of one that cannot be
    /// embedded there is the reason. What was answered before is left as it is. Says which have got theirs. Blocks.
    pub(crate) fn prepare_all<P, E: From<EmbedError>>(
        &self,
        items: &mut [Item<P, E>],
        was_answered: impl Fn(&WriteOptions) -> bool,
    ) -> Vec<usize> {
        if !self.required {
            return Vec::new();
        }
        let lacks_one = |(_, item): &Item<P, E>| {
            let lacks_one = |(episode, options): &(Episode, WriteOptions)| {
                episode.embedding.is_none() && !was_answered(options)
            };
            item.as_ref().is_ok_and(lacks_one)
        };
        let lacking: Vec<usize> = (0..items.len()).filter(|&place| lacks_one(&items[place])).collect();
        let text = |&place: &usize| items[place].1.as_ref().map_or("", |(episode, _)| &*episode.content);
        let outcomes = self.embedder.embed_each(&lacking.iter().map(text).collect::<Vec<_>>());
        for (&place, outcome) in lacking.iter().zip(outcomes) {
            let item = &mut items[place].1;
            match (self.counted(outcome), &mut *item) {
                (Ok(embedding), Ok((episode, _))) => episode.embedding = Some(embedding),
                (Err(error), _) => *item = Err(error.into()),
                (Ok(_), Err(_)) => {}
            }
        }
        lacking
    }

    fn counted(&self, outcome: Outcome) -> Result<Embedding, EmbedError> {
        match outcome {
            Ok(vector) => {
                self.progress.count_embedded(1);
                Ok(vector.into())
            }
            Err(error) => {
                self.progress.note_error(&error);
                Err(error)
            }
        }
    }

    /// The embedding of a question, soon or not at all.
    pub(crate) async fn question(&self, text: &str) -> Result<Embedding, EmbedError> {
        if let Some(error) = self.pause() {
            return Err(error);
        }
        let (embedder, text) = (Arc::clone(&self.embedder), text.to_owned());
        let begun = Instant::now();
        let embed = async {
            let _turn = self.turns.acquire().await;
            let within = QUESTION_TIME_MAX.saturating_sub(begun.elapsed());
            off_the_runtime(move || embedder.embed_query(&text, within)).await
        };
        // The thread has the same limit: nobody waits for one that is a little late.
        let outcome = timeout(QUESTION_TIME_MAX, embed).await;
        let outcome = outcome.unwrap_or_else(|_| Err(too_late("a question", QUESTION_TIME_MAX)));
        self.progress.count_question(&outcome);
        if let Err(error) = &outcome
            && matches!(error.kind, Kind::Transient { .. })
            && begun.elapsed() > QUESTION_WAIT_MAX
        {
            *self.paused.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((Instant::now(), error.clone()));
        }
        outcome.map(Embedding::from)
    }

    fn pause(&self) -> Option<EmbedError> {
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        paused.take_if(|(since, _)| since.elapsed() >= QUESTION_PAUSE);
        paused.as_ref().map(|(_, error)| error.clone())
    }
}

fn too_late(what: &str, limit: Duration) -> EmbedError {
    EmbedError::transient(format!("expected the embedding of {what} within {} s", limit.as_secs()))
}
