//! One answer, waited for by a thread or awaited by a task.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll},
};

use super::Lsn;
use crate::StorageError;

/// How durable an acknowledged record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    /// On stable storage: survives power loss.
    Synced,
    /// In the operating system's page cache: survives a process crash.
    Written,
}

/// The acknowledgement of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Its place in the log.
    pub lsn: Lsn,
    /// What it survives.
    pub durability: Durability,
}

/// The acknowledgement to come of a record that was submitted.
pub type CommitHandle = Completion<Commit>;

/// An answer to come. It always comes: when the log ends without one, it is [`StorageError::Closed`].
///
/// Dropping it does not take back what was submitted.
#[must_use = "a record is acknowledged by its completion alone: wait for it, or await it"]
pub struct Completion<T, E = StorageError>(oneshot::Receiver<Result<T, E>>);

/// Gives the answer of a [`Completion`].
pub struct Completer<T, E = StorageError>(oneshot::Sender<Result<T, E>>);

impl<T, E: From<StorageError>> Completion<T, E> {
    /// An answer to come and the one who gives it.
    pub fn channel() -> (Completer<T, E>, Self) {
        let (sender, receiver) = oneshot::channel();
        (Completer(sender), Self(receiver))
    }

    /// An answer that is there already.
    pub fn ready(answer: Result<T, E>) -> Self {
        let (completer, completion) = Self::channel();
        completer.complete(answer);
        completion
    }

    /// Blocks until the answer is there.
    ///
    /// # Errors
    /// The answer's own; [`StorageError::Closed`] when the log ended without one.
    pub fn wait(self) -> Result<T, E> {
        #[cfg(feature = "shuttle")]
        return shuttle::future::block_on(self.into_future());
        #[cfg(not(feature = "shuttle"))]
        self.0.recv().unwrap_or_else(|_| Err(StorageError::Closed.into()))
    }
}

impl<T, E> Completer<T, E> {
    /// Gives the answer. It is nobody's business when nobody waits any more.
    pub fn complete(self, answer: Result<T, E>) {
        drop(self.0.send(answer));
    }
}

impl<T, E: From<StorageError>> IntoFuture for Completion<T, E> {
    type Output = Result<T, E>;
    type IntoFuture = CompletionFuture<T, E>;

    fn into_future(self) -> Self::IntoFuture {
        CompletionFuture(self.0.into_future())
    }
}

/// What `.await` on a [`Completion`] polls.
pub struct CompletionFuture<T, E>(oneshot::AsyncReceiver<Result<T, E>>);

impl<T, E: From<StorageError>> Future for CompletionFuture<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.unwrap_or_else(|_| Err(StorageError::Closed.into())))
    }
}

impl<T, E> fmt::Debug for Completion<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Completion")
    }
}
