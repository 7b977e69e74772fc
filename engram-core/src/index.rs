//! How recall by meaning finds its candidates, and how that is going.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use thiserror::Error;

/// The share of what a scan finds that an index must find, too, unless it is told otherwise.
const RECALL_TARGET_DEFAULT: f32 = 0.99;

/// What finds the candidates that are then compared exactly. In `f32` all memories are compared exactly whatever this
/// says, and so they are as long as they are few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IndexMode {
    /// A scan over the signs of all vectors; from about 50,000 memories on, `Ivf`.
    #[default]
    Auto,
    /// A scan over the signs of all vectors.
    Scan,
    /// The signs in lists of what is near to each other, of which the nearest are scanned.
    Ivf,
    /// A graph of the vectors (HNSW), completed by lists as of `Ivf`. It is made in the background, some ten thousand
    /// vectors a second; until then, and for filters that let in few, `Ivf`.
    Hnsw,
}

/// The names that a setting may have.
const NAMES: [(&str, IndexMode); 4] = [
    ("auto", IndexMode::Auto),
    ("scan", IndexMode::Scan),
    ("ivf", IndexMode::Ivf),
    ("hnsw", IndexMode::Hnsw),
];

impl fmt::Display for IndexMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Scan => "scan",
            Self::Ivf => "ivf",
            Self::Hnsw => "hnsw",
        })
    }
}

/// A name that is no [`IndexMode`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected auto, scan, ivf or hnsw, got {0:?}")]
pub struct InvalidIndexMode(String);

impl FromStr for IndexMode {
    type Err = InvalidIndexMode;

    fn from_str(name: &str) -> Result<Self, InvalidIndexMode> {
        let known = NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, mode)| *mode).ok_or_else(|| InvalidIndexMode(name.to_owned()))
    }
}

/// A share from above 0 to 1: of the ten best that a scan finds, how many an index must find on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecallTarget(f32);

/// A number that is no [`RecallTarget`].
#[derive(Debug, Clone, PartialEq, Error)]
#[error("expected a recall target above 0 and up to 1, got {0}")]
pub struct InvalidRecallTarget(String);

impl RecallTarget {
    /// # Errors
    /// [`InvalidRecallTarget`] for a number out of range.
    pub fn new(share: f32) -> Result<Self, InvalidRecallTarget> {
        // Written so that NaN is refused.
        if share > 0.0 && share <= 1.0 {
            Ok(Self(share))
        } else {
            Err(InvalidRecallTarget(share.to_string()))
        }
    }

    /// The share.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl Default for RecallTarget {
    fn default() -> Self {
        Self(RECALL_TARGET_DEFAULT)
    }
}

impl fmt::Display for RecallTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RecallTarget {
    type Err = InvalidRecallTarget;

    fn from_str(text: &str) -> Result<Self, InvalidRecallTarget> {
        text.parse().map_err(|_| InvalidRecallTarget(text.to_owned())).and_then(Self::new)
    }
}

/// How an index is to be.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct IndexSettings {
    pub(crate) mode: IndexMode,
    pub(crate) recall_target: RecallTarget,
}

/// The way that a question took. What it found was compared exactly on every way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// All vectors were compared exactly.
    Exact,
    /// The signs of all vectors were compared, then the nearest exactly.
    Scan,
    /// The signs of the nearest lists were compared, then the nearest exactly.
    Ivf {
        /// How many lists.
        probes: usize,
    },
    /// A graph led to the nearest, and a few lists were looked into beside it; these were compared exactly.
    Hnsw {
        /// How many of the nearest were kept on the way.
        ef: usize,
    },
}

impl Route {
    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Scan => "scan",
            Self::Ivf { .. } => "ivf",
            Self::Hnsw { .. } => "hnsw",
        }
    }

    /// How many lists were looked into, if it was lists.
    pub const fn probes(self) -> Option<usize> {
        match self {
            Self::Exact | Self::Scan | Self::Hnsw { .. } => None,
            Self::Ivf { probes } => Some(probes),
        }
    }

    /// How many of the nearest were kept on the way, if it was a graph.
    pub const fn ef(self) -> Option<usize> {
        match self {
            Self::Exact | Self::Scan | Self::Ivf { .. } => None,
            Self::Hnsw { ef } => Some(ef),
        }
    }
}

/// The index at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexStatus {
    /// What was asked for.
    pub mode: IndexMode,
    /// What was asked for.
    pub recall_target: RecallTarget,
    /// The way that a question for ten results would take now; with lists, how many on the average.
    pub route: Route,
    /// Vectors.
    pub rows: usize,
    /// Vectors that no list, or no graph where there is one, holds as they are now: all where there are no lists. They
    /// are scanned.
    pub tail: usize,
    /// Lists; 0 where there are none.
    pub lists: usize,
    /// Vectors that were put into the graph; 0 where there is none.
    pub nodes: usize,
    /// Whether the thread that keeps the index is at it now.
    pub is_working: bool,
    /// When the lists, or the graph, were last made anew, and how long that took.
    pub trained: Option<(DateTime<Utc>, Duration)>,
}
