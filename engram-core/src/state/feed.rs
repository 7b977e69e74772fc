//! The latest changes, for whoever follows them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use engram_storage::Lsn;

use crate::{StoreError, limits::CHANGES_KEPT};

/// A change that readers see. What became of the memory since is for its reader to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedItem {
    /// Its place in the log.
    pub lsn: Lsn,
    /// Where it happened.
    pub space: Arc<str>,
    /// What happened.
    pub event: FeedEvent,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedEvent {
    /// A memory was stored, new or in place of another.
    Stored(Arc<str>),
    /// A memory got its embedding.
    Embedded(Arc<str>),
    /// A memory was forgotten.
    Forgotten(Arc<str>),
    /// The space was made, or has other properties.
    SpaceConfigured,
    /// The space was dropped, with all in it.
    SpaceDropped,
}

impl FeedEvent {
    /// The memory that it happened to.
    pub(crate) fn into_id(self) -> Option<Arc<str>> {
        match self {
            Self::Stored(id) | Self::Embedded(id) | Self::Forgotten(id) => Some(id),
            Self::SpaceConfigured | Self::SpaceDropped => None,
        }
    }
}

/// As many of the last changes as are kept in memory.
#[derive(Default)]
pub(super) struct Feed {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    items: VecDeque<FeedItem>,
    /// The last change that is not kept any more.
    gone: Lsn,
}

impl Feed {
    pub(super) fn push(&self, item: FeedItem) {
        let mut kept = self.kept();
        if kept.items.len() == CHANGES_KEPT
            && let Some(first) = kept.items.pop_front()
        {
            kept.gone = first.lsn;
        }
        kept.items.push_back(item);
    }

    /// What is not from the log itself, but from the snapshot before it, is no change.
    pub(super) fn begin_after(&self, snapshot: Lsn) {
        let mut kept = self.kept();
        kept.items.retain(|item| item.lsn > snapshot);
        // What a damaged log has given late is told in its place.
        kept.items.make_contiguous().sort_by_key(|item| item.lsn);
        kept.gone = kept.gone.max(snapshot);
    }

    /// Those after `after`, the first `limit` of them.
    pub(super) fn after(&self, after: Lsn, limit: usize) -> Result<Vec<FeedItem>, StoreError> {
        let kept = self.kept();
        if after < kept.gone {
            return Err(StoreError::ChangesGone { after, oldest: kept.gone });
        }
        let begin = kept.items.partition_point(|item| item.lsn <= after);
        Ok(kept.items.range(begin..).take(limit).cloned().collect())
    }

    /// The last change.
    pub(super) fn last(&self) -> Lsn {
        let kept = self.kept();
        kept.items.back().map_or(kept.gone, |item| item.lsn)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(lsn: u64) -> FeedItem {
        FeedItem { lsn: Lsn::new(lsn), space: Arc::from("default"), event: FeedEvent::Stored(Arc::from("m")) }
    }

    #[test]
    fn what_is_gone_is_said_and_never_passed_over() {
        let feed = Feed::default();
        for lsn in 1..=CHANGES_KEPT as u64 + 2 {
            feed.push(item(lsn));
        }
        assert!(matches!(
            feed.after(Lsn::new(1), 10),
            Err(StoreError::ChangesGone { oldest, .. }) if oldest == Lsn::new(2)
        ));
        assert_eq!(feed.after(Lsn::new(2), 1).unwrap(), [item(3)]);
        let last = Lsn::new(CHANGES_KEPT as u64 + 2);
        assert_eq!(feed.after(last, 10).unwrap(), []);
        feed.begin_after(Lsn::new(5));
        assert!(feed.after(Lsn::new(4), 1).is_err());
        assert_eq!(feed.after(Lsn::new(5), 1).unwrap(), [item(6)]);
    }
}
