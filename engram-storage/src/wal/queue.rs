//! The bounded queue between callers and the writer thread.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
};

use super::{Commit, WalEntry, snapshot::Point};
use crate::{
    StorageError, StorageMetrics, StorageResult,
    sync::{Condvar, Instant, Mutex, MutexGuard, wait_timeout},
};

/// The most records that wait to be written; who comes then blocks until there is room. A schedule of a few records has
/// to fill it.
pub const QUEUE_RECORDS_MAX: usize = if cfg!(feature = "shuttle") { 2 } else { 4096 };

/// The most bytes of payloads that wait to be written.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// The most records and bytes of a commit group. A group is one write and, in the modes that sync, one sync.
const GROUP_RECORDS_MAX: usize = 1024;
const GROUP_BYTES_MAX: usize = 4 << 20;

/// Called on the writer thread with the outcome of an append, in the order of the log.
pub(super) type OnCommit = Box<dyn FnOnce(&WalEntry, StorageResult<Commit>) + Send>;

/// What callers ask of the writer thread.
pub(super) enum Request {
    /// Append a record, submitted at that moment.
    Append { entry: WalEntry, submitted: Instant, done: OnCommit },
    /// Make everything before this durable.
    Sync { done: Box<dyn FnOnce(StorageResult<()>) + Send> },
    /// End the segment here, so that a snapshot of all before can stand for it. Always a group of its own.
    Cut { done: OnCut },
}

/// Called on the writer thread when everything before the place is durable and answered, and nothing after it.
pub(super) type OnCut = Box<dyn FnOnce(StorageResult<Point>) + Send>;

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { entry, .. } => entry.payload.len(),
            Self::Sync { .. } | Self::Cut { .. } => 0,
        }
    }

    /// Answers with an error.
    pub(super) fn fail(self, error: StorageError) {
        match self {
            Self::Append { entry, done, .. } => done(&entry, Err(error)),
            Self::Sync { done } => done(Err(error)),
            Self::Cut { done } => done(Err(error)),
        }
    }
}

/// Why [`Queue::take`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// With a group.
    Group,
    /// With nothing, since the deadline is over.
    TimedOut,
    /// With nothing, now and for ever.
    Closed,
}

pub(super) struct Queue {
    /// Protects all of the queue. Never held while a request is answered, written or dropped.
    inner: Mutex<Inner>,
    arrived: Condvar,
    freed: Condvar,
    metrics: Arc<StorageMetrics>,
}

struct Inner {
    requests: VecDeque<Request>,
    bytes: usize,
    /// Whether who comes has to wait: the log has failed, and those before are being answered.
    held: bool,
    /// Why no more requests are taken.
    closed: Option<StorageError>,
}

impl Queue {
    pub(super) fn new(metrics: Arc<StorageMetrics>) -> Self {
        let inner = Inner { requests: VecDeque::new(), bytes: 0, held: false, closed: None };
        Self { inner: Mutex::new(inner), arrived: Condvar::new(), freed: Condvar::new(), metrics }
    }

    /// Puts a request at the end, waiting for room. Gives it back with the reason when the queue is closed.
    #[expect(clippy::result_large_err, reason = "a request comes back once in the life of a log")]
    pub(super) fn push(&self, request: Request) -> Result<(), (Request, StorageError)> {
        let bytes = request.bytes();
        let mut inner = self.lock();
        loop {
            if let Some(reason) = &inner.closed {
                return Err((request, reason.clone()));
            }
            let fits = inner.requests.len() < QUEUE_RECORDS_MAX && inner.bytes + bytes <= QUEUE_BYTES_MAX;
            if fits && !inner.held {
                break;
            }
            inner = self.freed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.bytes += bytes;
        inner.requests.push_back(request);
        self.measure(&inner);
        drop(inner);
        self.arrived.notify_one();
        Ok(())
    }

    /// Moves up to `records_max` requests, and no more than a commit group, to `group`. Waits for the first until
    /// `deadline`.
    pub(super) fn take(
        &self,
        records_max: usize,
        deadline: Option<Instant>,
        group: &mut Vec<Request>,
    ) -> Taken {
        let mut inner = self.lock();
        while inner.requests.is_empty() {
            if inner.closed.is_some() {
                return Taken::Closed;
            }
            inner = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.arrived.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Taken::TimedOut,
                Some(left) => wait_timeout(&self.arrived, &self.inner, inner, left),
            };
        }
        let mut bytes = 0;
        while group.len() < records_max.min(GROUP_RECORDS_MAX) {
            let Some(next) = inner.requests.front() else { break };
            let is_cut = matches!(next, Request::Cut { .. });
            if is_cut && !group.is_empty() {
                break;
            }
            bytes += next.bytes();
            if bytes > GROUP_BYTES_MAX && !group.is_empty() {
                break;
            }
            group.extend(inner.requests.pop_front());
            if is_cut {
                break;
            }
        }
        inner.bytes -= group.iter().map(Request::bytes).sum::<usize>();
        self.measure(&inner);
        drop(inner);
        self.freed.notify_all();
        Taken::Group
    }

    /// Whether requests are taken.
    pub(super) fn is_open(&self) -> bool {
        self.lock().closed.is_none()
    }

    /// Takes no more requests; those that wait are still handed out.
    pub(super) fn close(&self) {
        self.lock().closed.get_or_insert(StorageError::Closed);
        self.wake_all();
    }

    /// Hands out all that waits, and lets who comes wait until [`fail`](Self::fail) answers.
    pub(super) fn hold(&self) -> VecDeque<Request> {
        let mut inner = self.lock();
        inner.held = true;
        inner.bytes = 0;
        let waiting = std::mem::take(&mut inner.requests);
        self.measure(&inner);
        waiting
    }

    /// Takes no more requests, for `reason`. What waits is dropped, and its completions say that the log is closed.
    pub(super) fn fail(&self, reason: &StorageError) {
        let dropped = self.hold();
        self.lock().closed = Some(reason.clone());
        self.wake_all();
        drop(dropped);
    }

    fn wake_all(&self) {
        self.arrived.notify_all();
        self.freed.notify_all();
    }

    fn measure(&self, inner: &Inner) {
        self.metrics.queue_depth.store(inner.requests.len() as u64, Relaxed);
        self.metrics.queue_bytes.store(inner.bytes as u64, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that can panic runs under the lock: a poisoned guard protects a whole queue.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
