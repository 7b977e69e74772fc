//! The model that embeds now, and how another takes its place while requests come.
//!
//! What a model has made is only used while that model has the seat: whoever got a vector from it takes hold of the seat,
//! sees whether the vector is still of the one that has it, and lets go when the vector is in the log's queue, or compared.
//! Otherwise the text is embedded again, by the next one. So no vector of one model is ever beside those of another, and
//! the numbers of a vector need not tell.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{OwnedRwLockReadGuard, RwLock as Gate, RwLockReadGuard};

use super::EmbedService;

/// The seat of the model that embeds now, if any does.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    now: RwLock<Option<EmbedService>>,
    /// Held for reading while a vector is used, for writing while the model changes. Taken after a turn and after the
    /// right to change the model, and before any other lock of the store.
    gate: Arc<Gate<()>>,
}

/// While there is this, the seat stays as it is.
#[derive(Debug)]
pub(crate) struct Held<G> {
    now: Option<EmbedService>,
    _guard: G,
}

impl Seat {
    pub(crate) fn new(embed: Option<EmbedService>) -> Self {
        Self { now: RwLock::new(embed), gate: Arc::default() }
    }

    /// Who has it at this moment.
    pub(crate) fn now(&self) -> Option<EmbedService> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is this one who has it at this moment.
    pub(crate) fn is_of(&self, embed: &EmbedService) -> bool {
        self.now().is_some_and(|now| now.is(embed))
    }

    /// Takes hold of it.
    pub(crate) async fn hold(&self) -> Held<OwnedRwLockReadGuard<()>> {
        let guard = Arc::clone(&self.gate).read_owned().await;
        Held { now: self.now(), _guard: guard }
    }

    /// The same, on a thread that may block.
    pub(crate) fn hold_blocking(&self) -> Held<RwLockReadGuard<'_, ()>> {
        let guard = self.gate.blocking_read();
        Held { now: self.now(), _guard: guard }
    }

    /// Gives it to another while nobody holds it, if `change` succeeds in changing the store. Blocks.
    pub(crate) fn change<T, E>(
        &self,
        next: EmbedService,
        change: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let _alone = self.gate.blocking_write();
        let changed = change()?;
        let former = self.now.write().unwrap_or_else(PoisonError::into_inner).replace(next);
        if let Some(former) = former {
            // Whoever works for it sees that it is over.
            former.progress().wake();
        }
        Ok(changed)
    }
}

impl<G> Held<G> {
    /// Whether it is of this one; of nobody, when there was none.
    pub(crate) fn is_of(&self, embed: Option<&EmbedService>) -> bool {
        match (&self.now, embed) {
            (Some(now), Some(embed)) => now.is(embed),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}
