//! How long to wait before trying again.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use super::super::Kind;

/// How fast things are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// After the first failure; each further one doubles it.
    pub(crate) pause_min: Duration,
    pub(crate) pause_max: Duration,
    /// When the model is asked again for a text that it did not take.
    pub(crate) refused_retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            pause_min: Duration::from_secs(1),
            pause_max: Duration::from_mins(1),
            refused_retry: Duration::from_hours(1),
        }
    }
}

/// Exponential, with jitter, so that many servers do not come back to one endpoint at the same moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    pace: Pace,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, failures: 0 }
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure, and gives how long to wait after it.
    pub(crate) fn pause(&mut self, kind: Kind) -> Duration {
        let doubled = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let longest = self.pace.pause_min.saturating_mul(doubled).min(self.pace.pause_max);
        // Between a half and the whole of it.
        let share =
            f64::from(u16::try_from(RandomState::new().hash_one(()) & 0xffff).unwrap_or(0)) / 65_536.0;
        let pause = longest.mul_f64(0.5 + share / 2.0);
        match kind {
            Kind::Transient { retry_after: Some(asked) } => pause.max(asked),
            Kind::Transient { retry_after: None } | Kind::Refused | Kind::Broken | Kind::Misconfigured => {
                pause
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(Pace::default());
        let later = Kind::Transient { retry_after: None };
        for longest_s in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().chain([60; 60]) {
            let (pause, longest) = (backoff.pause(later), Duration::from_secs(longest_s));
            assert!(pause >= longest / 2 && pause <= longest, "{pause:?} of {longest:?}");
        }
        backoff.reset();
        assert!(backoff.pause(later) <= Duration::from_secs(1));
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn an_endpoint_that_says_when_is_asked_then() {
        let mut backoff = Backoff::new(Pace::default());
        let asked = Duration::from_secs(90);
        assert_eq!(backoff.pause(Kind::Transient { retry_after: Some(asked) }), asked);
    }
}
