//! What a test says at its end, for people and for programs.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::model::Loss;

/// Losses that are told one by one.
const LOSSES_MAX: usize = 100;

/// Losses that a person is shown; the evidence has the others.
const LOSSES_SHOWN_MAX: usize = 10;

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    pub(super) machine: String,
    pub(super) kernel: String,
    pub(super) cpus: usize,
    pub(super) file_system: String,
    pub(super) fsync: String,
    /// `none`, `ext4`, `xfs` or `command`.
    pub(super) power_cut: &'static str,
    pub(super) rounds: u64,
    pub(super) rounds_asked: u64,
    /// Ended by Ctrl-C.
    pub(super) interrupted: bool,
    pub(super) clients: u64,
    /// Changes with a receipt.
    pub(super) acknowledged: u64,
    /// Changes that had no answer when the server was killed, and were there after the restart.
    pub(super) in_flight_kept: u64,
    /// What the mode promises to keep and was not as it must be.
    pub(super) lost: u64,
    pub(super) lost_allowed_by_mode: u64,
    pub(super) recovery_ms: Option<Spread>,
    pub(super) seed: u64,
    pub(super) seconds: f64,
    pub(super) losses: Vec<RoundLoss>,
}

/// A loss, and the round in which it was found.
#[derive(Debug, Serialize)]
pub(super) struct RoundLoss {
    pub(super) round: u64,
    #[serde(flatten)]
    pub(super) loss: Loss,
}

/// How times are spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    min: f64,
    median: f64,
    p99: f64,
    max: f64,
}

impl Spread {
    /// Of these times, in milliseconds; nothing when there are none.
    pub(super) fn of(times: &[Duration]) -> Option<Self> {
        let mut times: Vec<f64> =
            times.iter().map(|time| (time.as_secs_f64() * 1e5).round() / 100.0).collect();
        times.sort_by(f64::total_cmp);
        // The nearest rank: the smallest time that so many percent do not exceed.
        let rank =
            |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { min: rank(0)?, median: rank(50)?, p99: rank(99)?, max: rank(100)? })
    }
}

impl Report {
    /// Adds what was lost in a round. All are counted, the first hundred are kept.
    pub(super) fn add_losses(&mut self, losses: Vec<Loss>, round: u64) {
        self.lost += losses.len() as u64;
        let room = LOSSES_MAX.saturating_sub(self.losses.len());
        self.losses.extend(losses.into_iter().take(room).map(|loss| RoundLoss { round, loss }));
    }

    /// As one JSON object.
    pub(super) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.lost == 0 { "nothing lost" } else { "LOST" };
        writeln!(f, "engram {} crashtest: {verdict}", self.version)?;
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<13}{value}");
        line("machine", format!("{} cores, {}", self.cpus, self.machine))?;
        line("kernel", self.kernel.clone())?;
        line("file system", self.file_system.clone())?;
        line("mode", format!("--fsync {}", self.fsync))?;
        line(
            "each round",
            match self.power_cut {
                "none" => "SIGKILL under load",
                "command" => "SIGKILL under load, then a power cut by a command",
                _ => "SIGKILL under load, then a power cut of the file system",
            }
            .to_owned(),
        )?;
        let interrupted = if self.interrupted { " (interrupted)" } else { "" };
        line("rounds", format!("{} of {}{interrupted}", self.rounds, self.rounds_asked))?;
        line("clients", self.clients.to_string())?;
        line("acknowledged", self.acknowledged.to_string())?;
        line("in flight", format!("{} had no answer and were there after the restart", self.in_flight_kept))?;
        line("lost", self.lost.to_string())?;
        if self.lost_allowed_by_mode > 0 {
            line("", format!("(and {} that the mode does not promise to keep)", self.lost_allowed_by_mode))?;
        }
        if let Some(Spread { min, median, p99, max }) = self.recovery_ms {
            let times = format!("min {min:.1} ms, median {median:.1} ms, p99 {p99:.1} ms, max {max:.1} ms");
            line("recovery", format!("{times} (from the start of the process until it answers)"))?;
        }
        line("seed", self.seed.to_string())?;
        line("took", format!("{:.1} s", self.seconds))?;
        for RoundLoss { round, loss: Loss { id, lsn, expected, found } } in
            self.losses.iter().take(LOSSES_SHOWN_MAX)
        {
            let what = id.as_deref().unwrap_or("the log");
            let lsn = lsn.map_or(String::new(), |lsn| format!(", LSN {lsn}"));
            writeln!(
                f,
                "  LOST in round {round}: {what}{lsn}\n    expected {expected}\n    found    {found}"
            )?;
        }
        match self.losses.len().saturating_sub(LOSSES_SHOWN_MAX) {
            0 => Ok(()),
            _ => writeln!(f, "  and {} more", self.lost - LOSSES_SHOWN_MAX as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_times_that_there_were() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(Spread::of(&times), Some(Spread { min: 1.0, median: 100.0, p99: 198.0, max: 200.0 }));
        let one = Spread::of(&[Duration::from_micros(1_234)]);
        assert_eq!(one, Some(Spread { min: 1.23, median: 1.23, p99: 1.23, max: 1.23 }));
        assert_eq!(Spread::of(&[]), None);
    }
}
