//! Threads, locks and the clock: the standard library's, or, with the feature `shuttle`, those of a scheduler that
//! plays one schedule after the other (`tests/interleavings.rs`).

#[cfg(not(feature = "shuttle"))]
mod real {
    use std::{sync::PoisonError, time::Duration};
    pub(crate) use std::{
        sync::{Condvar, Mutex, MutexGuard, atomic},
        thread,
        time::Instant,
    };

    /// Waits to be woken, for so long. `_mutex` is the guard's.
    pub(crate) fn wait_timeout<'a, T>(
        condvar: &Condvar,
        _mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        left: Duration,
    ) -> MutexGuard<'a, T> {
        condvar.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(not(feature = "shuttle"))]
pub(crate) use real::*;

#[cfg(feature = "shuttle")]
mod scheduled {
    use std::{
        sync::{PoisonError, atomic::Ordering::SeqCst},
        time::Duration,
    };

    use shuttle::rand::Rng as _;
    pub(crate) use shuttle::{
        sync::{Condvar, Mutex, MutexGuard, atomic},
        thread,
    };

    shuttle::lazy_static! {
        /// Nanoseconds since the schedule began. Time passes where somebody waits for it, and nowhere else.
        static ref CLOCK: atomic::AtomicU64 = atomic::AtomicU64::new(0);
    }

    /// A moment on the schedule's clock.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) struct Instant(Duration);

    impl Instant {
        pub(crate) fn now() -> Self {
            Self(Duration::from_nanos(CLOCK.load(SeqCst)))
        }

        pub(crate) fn elapsed(self) -> Duration {
            Self::now().saturating_duration_since(self)
        }

        pub(crate) fn checked_add(self, duration: Duration) -> Option<Self> {
            self.0.checked_add(duration).map(Self)
        }

        pub(crate) fn saturating_duration_since(self, earlier: Self) -> Duration {
            self.0.saturating_sub(earlier.0)
        }
    }

    /// Lets the others go on, and sometimes all the time pass. The scheduler's own condition variable knows no time-out;
    /// so this one wakes up without reason, as it may, and sees a notification by what it was about.
    pub(crate) fn wait_timeout<'a, T>(
        _condvar: &Condvar,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        left: Duration,
    ) -> MutexGuard<'a, T> {
        drop(guard);
        thread::yield_now();
        if shuttle::rand::thread_rng().gen_bool(0.5) {
            CLOCK.fetch_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX), SeqCst);
        }
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(feature = "shuttle")]
pub(crate) use scheduled::*;
