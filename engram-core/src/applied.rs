//! The last change that readers see, and waiting for one.

use std::{
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use engram_storage::Lsn;

#[derive(Debug, Default)]
pub(crate) struct Applied {
    lsn: AtomicU64,
    /// How many wait. Where nobody does, a change costs one load more.
    waiting: AtomicUsize,
    /// Protects nothing; held for a moment before waiters are woken, so that none goes to sleep over it.
    gate: Mutex<()>,
    changed: Condvar,
}

impl Applied {
    pub(crate) fn lsn(&self) -> Lsn {
        Lsn::new(self.lsn.load(SeqCst))
    }

    /// From now on readers see this change and all before it.
    pub(crate) fn set(&self, lsn: Lsn) {
        self.lsn.store(lsn.get(), SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }

    /// Waits until readers see this change, and says whether they do.
    pub(crate) fn wait_for(&self, lsn: Lsn, at_most: Duration) -> bool {
        if self.lsn() >= lsn {
            return true;
        }
        let until = Instant::now() + at_most;
        self.waiting.fetch_add(1, SeqCst);
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        while self.lsn() < lsn {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            gate = self.changed.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(gate);
        self.waiting.fetch_sub(1, SeqCst);
        self.lsn() >= lsn
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_waits_is_woken_by_the_change_and_not_before() {
        let applied = Applied::default();
        assert!(applied.wait_for(Lsn::ZERO, Duration::ZERO));
        assert!(!applied.wait_for(Lsn::new(1), Duration::ZERO));
        thread::scope(|scope| {
            for lsn in 1..=20 {
                let applied = &applied;
                // Far longer than the test takes: a wake-up that is missed hangs it.
                scope.spawn(move || assert!(applied.wait_for(Lsn::new(lsn), Duration::from_hours(1))));
            }
            for lsn in 1..=20 {
                applied.set(Lsn::new(lsn));
            }
        });
        assert_eq!((applied.lsn(), applied.waiting.load(SeqCst)), (Lsn::new(20), 0));
    }
}
