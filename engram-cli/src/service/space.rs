//! The memories of one space, and what is embedded on their way in and out.

use std::{sync::Arc, time::Instant};

use engram_core::{
    Embedding, Episode, Filter, ListQuery, Lsn, Memory, MemoryStore, Mode, Page, Patch, Query, Recall,
    Receipt, ReceiptHandle, Space, SpaceStatus, StoreError, WriteOptions,
};
use tokio::sync::OwnedRwLockReadGuard;

use super::{BatchTurn, MemoryService, off_the_runtime, turn};
use crate::embed::{EmbedError, EmbedService, Held, Item};

/// How often a change of what a memory is at that moment is tried anew, when others change it at the same time.
const TRIES_MAX: usize = 64;

/// The memories of one space. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SpaceService {
    pub(super) service: MemoryService,
    pub(super) name: Arc<str>,
}

impl SpaceService {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The memories of all spaces.
    pub(crate) fn service(&self) -> &MemoryService {
        &self.service
    }

    /// Stores an episode: see [`Space::submit`]. A caller that stops waiting does not undo it.
    pub(crate) async fn remember(
        &self,
        mut episode: Episode,
        options: WriteOptions,
    ) -> Result<Stored, ServiceError> {
        let is_given = episode.embedding.is_some();
        if let Some(receipt) = self.answered(&options)? {
            return Ok(self.stored(receipt, is_given));
        }
        self.service.let_pass(&episode.id).await;
        let mut made_by = None;
        let held = self.embedded(&mut episode, is_given, &mut made_by).await?;
        let again = (options.expected == Some(Lsn::ZERO)).then(|| episode.clone());
        match (self.store(episode, options.clone(), held).await, again) {
            // It was to take the place of a memory whose time was over, and that was forgotten meanwhile.
            (Err(StoreError::VersionMismatch { actual: Lsn::ZERO, .. }), Some(mut episode)) => {
                let held = self.embedded(&mut episode, is_given, &mut made_by).await?;
                Ok(self.stored(self.store(episode, options, held).await?, is_given))
            }
            (answer, _) => Ok(self.stored(answer?, is_given)),
        }
    }

    /// Stores an episode in place of a memory that must be there, whatever its version. What comes in between is found out
    /// and taken in.
    pub(crate) async fn replace(
        &self,
        mut episode: Episode,
        mut options: WriteOptions,
    ) -> Result<Stored, ServiceError> {
        let is_given = episode.embedding.is_some();
        if let Some(receipt) = self.answered(&options)? {
            return Ok(self.stored(receipt, is_given));
        }
        self.service.let_pass(&episode.id).await;
        let (mut turn, mut tries, mut made_by) = (None, TRIES_MAX, None);
        loop {
            let held = self.embedded(&mut episode, is_given, &mut made_by).await?;
            // No memory is of the last version that could be: where there is none, a request that was answered meanwhile
            // gets its receipt all the same.
            options.expected = Some(self.get(&episode.id).map_or(Lsn::new(u64::MAX), |memory| memory.lsn()));
            tries -= 1;
            match self.store(episode.clone(), options.clone(), held).await {
                Err(StoreError::VersionMismatch { id, actual: Lsn::ZERO, .. }) => {
                    return Err(StoreError::NotFound { id }.into());
                }
                Err(StoreError::VersionMismatch { .. }) if tries > 0 => {}
                answer => return Ok(self.stored(answer?, is_given)),
            }
            if turn.is_none() {
                turn = Some(self.service.turn_of(&episode.id).await);
            }
        }
    }

    /// Has an episode embedded, unless its embedding was given, and holds the model that it was embedded by. Who has made
    /// the embedding that it has is in `made_by`.
    #[expect(clippy::option_option, reason = "nobody was asked yet, or there was nobody")]
    async fn embedded(
        &self,
        episode: &mut Episode,
        is_given: bool,
        made_by: &mut Option<Option<EmbedService>>,
    ) -> Result<Held<OwnedRwLockReadGuard<()>>, ServiceError> {
        loop {
            let held = self.service.seat.hold().await;
            if is_given || made_by.as_ref().is_some_and(|embed| held.is_of(embed.as_ref())) {
                return Ok(held);
            }
            drop(held);
            episode.embedding = None;
            let embed = self.service.embed();
            if let Some(embed) = &embed
                && let Err(error) = embed.prepare(episode).await
                && self.service.seat.is_of(embed)
            {
                return Err(error.into());
            }
            *made_by = Some(embed);
        }
    }

    async fn store(
        &self,
        episode: Episode,
        options: WriteOptions,
        held: Held<OwnedRwLockReadGuard<()>>,
    ) -> Result<Receipt, StoreError> {
        let options = self.service.with_embedder(options);
        let submit = move |space: &Space<'_>| {
            let _held = held;
            space.submit(episode, &options)
        };
        self.submit(submit).await
    }

    /// What a request was answered, if it came before: nothing of it is done again, and nobody asked.
    fn answered(&self, options: &WriteOptions) -> Result<Option<Receipt>, StoreError> {
        let Some(request) = &options.request else { return Ok(None) };
        self.service.store.space(&self.name)?.answered(request)
    }

    /// What is to be told of a memory that was stored with its embedding, or without.
    fn stored(&self, receipt: Receipt, is_given: bool) -> Stored {
        let has_vector = || {
            let memory = self.get(&receipt.id);
            memory.is_some_and(|memory| memory.lsn() == receipt.lsn && memory.has_embedding())
        };
        let vector = match self.service.embed() {
            _ if is_given => VectorState::Given,
            _ if has_vector() => VectorState::Embedded,
            Some(embed) => {
                embed.progress().wake();
                VectorState::Pending
            }
            None => VectorState::None,
        };
        Stored { receipt, vector }
    }

    /// Changes a part of a memory: see [`Space::patch`]. What comes in between is found out and taken in, unless the
    /// caller expects a version.
    pub(crate) async fn patch(
        &self,
        id: &str,
        mut patch: Patch,
        options: &WriteOptions,
    ) -> Result<Stored, ServiceError> {
        let (is_given, is_said) = (matches!(patch.embedding, Some(Some(_))), patch.embedding.is_some());
        // Who has embedded the content, once somebody was asked.
        let mut asked: Option<Option<EmbedService>> = None;
        let (mut turn, mut tries) = (None, TRIES_MAX);
        if let Some(receipt) = self.answered(options)? {
            return Ok(self.stored(receipt, is_given));
        }
        self.service.let_pass(id).await;
        loop {
            let held = self.service.seat.hold().await;
            if !is_said && !asked.as_ref().is_some_and(|embed| held.is_of(embed.as_ref())) {
                drop(held);
                patch.embedding = None;
                let embed = self.service.embed();
                if let Some(embed) = &embed
                    && let Err(error) = embed.prepare_patch(&mut patch).await
                    && self.service.seat.is_of(embed)
                {
                    return Err(error.into());
                }
                asked = Some(embed);
                continue;
            }
            let (of, patch, with) = (id.to_owned(), patch.clone(), options.clone());
            let submit = move |space: &Space<'_>| {
                let _held = held;
                space.submit_patch(&of, patch, &with)
            };
            let answer = self.submit(submit).await;
            tries -= 1;
            match answer {
                Err(StoreError::VersionMismatch { .. }) if options.expected.is_none() && tries > 0 => {}
                answer => return Ok(self.stored(answer?, is_given)),
            }
            if turn.is_none() {
                turn = Some(self.service.turn_of(id).await);
            }
        }
    }

    /// Forgets a memory: see [`Space::submit_forget`].
    pub(crate) async fn forget(&self, id: String, options: WriteOptions) -> Result<Receipt, StoreError> {
        self.service.let_pass(&id).await;
        self.submit(move |space| space.submit_forget(&id, &options)).await
    }

    async fn submit(
        &self,
        submit: impl FnOnce(&Space<'_>) -> ReceiptHandle + Send + 'static,
    ) -> Result<Receipt, StoreError> {
        let name = Arc::clone(&self.name);
        let submit = move |store: &MemoryStore| match store.space(&name) {
            Ok(space) => submit(&space),
            Err(error) => ReceiptHandle::ready(Err(error)),
        };
        self.service.submit(submit).await
    }

    /// Stores many episodes: all are submitted before the first is awaited, so that they share the log's syncs. Gives
    /// an answer for each, in order, with the place that it came with. What `episodes` refuses does not keep the others
    /// from being stored.
    pub(crate) async fn remember_all<P, E, I>(
        &self,
        turn: BatchTurn,
        episodes: impl FnOnce() -> Result<I, E> + Send + 'static,
    ) -> Result<Vec<(P, Result<Stored, E>)>, E>
    where
        P: Send + 'static,
        E: From<StoreError> + From<EmbedError> + Send + 'static,
        I: IntoIterator<Item = Item<P, E>>,
    {
        let (service, name) = (self.service.clone(), Arc::clone(&self.name));
        let submitted = off_the_runtime(move || {
            let mut items: Vec<_> = episodes()?.into_iter().collect();
            let has_embedding = |item: &Result<(Episode, WriteOptions), E>| matches!(item, Ok((episode, _)) if episode.embedding.is_some());
            let given: Vec<bool> = items.iter().map(|(_, item)| has_embedding(item)).collect();
            let space = service.store.space(&name)?;
            let was_answered = |options: &WriteOptions| {
                options.request.as_ref().is_some_and(|request| !matches!(space.answered(request), Ok(None)))
            };
            let _held = loop {
                let embed = service.embed();
                let made = embed.as_ref().map(|embed| embed.prepare_all(&mut items, was_answered));
                let made = made.unwrap_or_default();
                let held = service.seat.hold_blocking();
                if made.is_empty() || held.is_of(embed.as_ref()) {
                    break held;
                }
                for place in made {
                    if let Ok((episode, _)) = &mut items[place].1 {
                        episode.embedding = None;
                    }
                }
            };
            let submit = |((place, item), is_given): (Item<P, E>, bool)| {
                let submit = |(episode, options)| space.submit(episode, &service.with_embedder(options));
                ((place, is_given), item.map(submit))
            };
            Ok::<_, E>(items.into_iter().zip(given).map(submit).collect::<Vec<_>>())
        });
        let answers = all(submitted.await?).await.into_iter();
        drop(turn);
        let stored = |((place, is_given), answer): ((P, bool), Result<Receipt, E>)| {
            (place, answer.map(|receipt| self.stored(receipt, is_given)))
        };
        Ok(answers.map(stored).collect())
    }

    /// Forgets many memories, under terms of their own.
    pub(crate) async fn forget_all(
        &self,
        memories: Vec<(String, WriteOptions)>,
    ) -> Result<Vec<Result<Receipt, StoreError>>, StoreError> {
        let (store, name) = (Arc::clone(&self.service.store), Arc::clone(&self.name));
        let submitted = off_the_runtime(move || {
            let space = store.space(&name)?;
            let submit = |(id, options): (String, WriteOptions)| ((), Ok(space.submit_forget(&id, &options)));
            Ok::<_, StoreError>(memories.into_iter().map(submit).collect::<Vec<_>>())
        });
        Ok(all(submitted.await?).await.into_iter().map(|((), answer)| answer).collect())
    }

    /// The memory with this id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Memory>> {
        self.service.store.space(&self.name).ok()?.get(id)
    }

    /// The memory with this id, and its embedding.
    pub(crate) fn get_with_embedding(&self, id: &str) -> Option<(Arc<Memory>, Option<Embedding>)> {
        self.service.store.space(&self.name).ok()?.get_with_embedding(id)
    }

    /// A page of all memories: see [`Space::list`].
    pub(crate) async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        let (store, name) = (Arc::clone(&self.service.store), Arc::clone(&self.name));
        if query.filter.condition.is_none() {
            return store.space(&name)?.list(&query);
        }
        // It may look at thousands.
        let turn = turn(&self.service.recalls).await;
        off_the_runtime(move || {
            let _turn = turn;
            store.space(&name)?.list(&query)
        })
        .await
    }

    /// The ids of all memories that a filter accepts: see [`Space::ids`].
    pub(crate) async fn ids(&self, filter: Filter) -> Result<Vec<Arc<str>>, StoreError> {
        let (store, name) = (Arc::clone(&self.service.store), Arc::clone(&self.name));
        let turn = turn(&self.service.recalls).await;
        off_the_runtime(move || {
            let _turn = turn;
            store.space(&name)?.ids(&filter)
        })
        .await
    }

    /// The memories that answer a question best: see [`Space::recall`]. A question in words that may be answered by meaning
    /// is embedded first.
    pub(crate) async fn recall(&self, mut query: Query) -> Result<Answered, ServiceError> {
        let is_to_be_embedded = query.mode != Mode::Words && query.embedding.is_none();
        let (asked, turn, held, embedding_error) = loop {
            let (embed, mut embedding_error) = (self.service.embed(), None);
            if is_to_be_embedded && let (Some(embed), Some(words)) = (&embed, &query.words) {
                match embed.question(words).await {
                    Ok(embedding) => query.embedding = Some(embedding),
                    Err(error) if query.mode == Mode::Auto => embedding_error = Some(error),
                    // Another one may do better.
                    Err(_) if !self.service.seat.is_of(embed) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            let asked = Instant::now();
            let turn = turn(&self.service.recalls).await;
            let held = self.service.seat.hold().await;
            if !is_to_be_embedded || held.is_of(embed.as_ref()) {
                break (asked, turn, held, embedding_error);
            }
            // The vector of another model says nothing here.
            query.embedding = None;
        };
        let (service, name) = (self.service.clone(), Arc::clone(&self.name));
        let recall = off_the_runtime(move || {
            let (_turn, _held) = (turn, held);
            let begun = Instant::now();
            let recall = service.store.space(&name)?.recall(&query)?;
            service.recall_times.record(&recall, begun - asked, begun.elapsed());
            Ok::<_, StoreError>(recall)
        });
        Ok(Answered { recall: recall.await?, embedding_error })
    }

    /// The space as it is now.
    pub(crate) fn status(&self) -> Result<SpaceStatus, StoreError> {
        Ok(self.service.store.space(&self.name)?.status())
    }
}

/// Waits for all of them, in order.
async fn all<P, E: From<StoreError>>(
    submitted: Vec<(P, Result<ReceiptHandle, E>)>,
) -> Vec<(P, Result<Receipt, E>)> {
    let mut answers = Vec::with_capacity(submitted.len());
    for (place, handle) in submitted {
        let answer = match handle {
            Ok(handle) => handle.await.map_err(E::from),
            Err(refusal) => Err(refusal),
        };
        answers.push((place, answer));
    }
    answers
}

/// A memory that was stored.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) receipt: Receipt,
    pub(crate) vector: VectorState,
}

/// What there is of the vector of a memory that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VectorState {
    /// It came with the memory.
    Given,
    /// The memory has it: the server has made it, or it was there before.
    Embedded,
    /// The server will make it.
    Pending,
    /// There is none, and nobody makes it.
    None,
}

/// An answer to a question.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) recall: Recall,
    /// Why it is by words alone, when it should have been by meaning, too.
    pub(crate) embedding_error: Option<EmbedError>,
}

/// Why something was not done.
#[derive(Debug)]
pub(crate) enum ServiceError {
    Store(StoreError),
    Embed(EmbedError),
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<EmbedError> for ServiceError {
    fn from(error: EmbedError) -> Self {
        Self::Embed(error)
    }
}
