//! What will run: the flags, checked.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
};

use engram_core::{
    DIMENSION_MAX, FsyncMode, IndexMode, Precision, RecallTarget, RecoveryMode, SnapshotPolicy,
};
use tracing_subscriber::EnvFilter;

use crate::{
    args::{StartArgs, WalFailurePolicy},
    embed::EmbedConfig,
    exit::{Exit, Failure},
    memory,
    server::HttpConfig,
};

/// The directory of the log, in the data directory.
pub(crate) const LOG_DIRECTORY: &str = "wal";

/// What a log filter may say without naming a module.
const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// How `engram start` runs.
#[derive(Debug)]
pub(crate) struct StartConfig {
    /// Absolute: what is logged and reported does not depend on where the server was started.
    pub(crate) data_dir: PathBuf,
    /// `HOST:PORT`, as it was typed: names are looked up when the server binds.
    pub(crate) listen: String,
    pub(crate) fsync: FsyncMode,
    pub(crate) recovery: RecoveryMode,
    pub(crate) on_wal_failure: WalFailurePolicy,
    pub(crate) snapshots: SnapshotPolicy,
    /// At least 1.
    pub(crate) capacity: usize,
    /// `u64::MAX` for no limit.
    pub(crate) memory_limit: u64,
    /// Nothing: the store's own.
    pub(crate) dimension: Option<usize>,
    /// Nothing: the store's own.
    pub(crate) precision: Option<Precision>,
    pub(crate) index: IndexMode,
    pub(crate) recall_target: RecallTarget,
    /// Who may ask, and how much at once.
    pub(crate) http: HttpConfig,
    /// How texts are embedded; nothing when that is left to clients.
    pub(crate) embed: Option<EmbedConfig>,
}

impl StartConfig {
    /// Checks the flags. The log filter is handed out on its own: it serves before anything else runs.
    pub(crate) fn from_args(args: StartArgs) -> Result<(Self, EnvFilter), Failure> {
        let filter = log_filter(&args.log)?;
        if args.capacity == 0 {
            return Err(setting("expected a capacity of at least 1, got 0".to_owned()));
        }
        if let Some(dimension) = args.dimension.filter(|dimension| !(1..=DIMENSION_MAX).contains(dimension)) {
            return Err(setting(format!("expected a dimension of 1 to {DIMENSION_MAX}, got {dimension}")));
        }
        let config = Self {
            data_dir: absolute(&args.data_dir)?,
            listen: args.listen,
            fsync: args.fsync,
            recovery: args.recovery,
            snapshots: match args.snapshot_log_bytes {
                0 => SnapshotPolicy::OnDemand,
                bytes => SnapshotPolicy::LogBytes(bytes),
            },
            on_wal_failure: args.on_wal_failure,
            capacity: args.capacity,
            memory_limit: args.memory_limit.or_else(memory::default_limit).unwrap_or(u64::MAX),
            dimension: args.dimension,
            precision: args.embedding_precision,
            index: args.index,
            recall_target: args.recall_target,
            http: HttpConfig::from_args(args.http)?,
            embed: EmbedConfig::from_args(args.embed)?,
        };
        Ok((config, filter))
    }

    /// The directory of the log.
    pub(crate) fn log_directory(&self) -> PathBuf {
        self.data_dir.join(LOG_DIRECTORY)
    }

    /// The addresses that the name to listen on stands for; at least one. May block, where it is a name.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let no_address = |reason: String| {
            setting(format!(
                "expected an address to listen on such as 127.0.0.1:7432, got {:?}{reason}",
                self.listen
            ))
        };
        let addresses: Vec<_> =
            self.listen.to_socket_addrs().map_err(|e| no_address(format!(": {e}")))?.collect();
        if addresses.is_empty() { Err(no_address(String::new())) } else { Ok(addresses) }
    }
}

fn log_filter(text: &str) -> Result<EnvFilter, Failure> {
    // A word that is no level would be taken for a module, and silence all others.
    let no_level = text.split(',').map(str::trim).find(|word| {
        let is_bare = !word.is_empty() && !word.contains(['=', '[', ']', '{', '}']);
        is_bare && !LOG_LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
    });
    if let Some(word) = no_level {
        let levels = LOG_LEVELS.join(", ");
        return Err(setting(format!(
            "expected a log level ({levels}) or a level by module such as engram=debug, got {word:?}"
        )));
    }
    EnvFilter::builder().parse(text).map_err(|e| {
        setting(format!("expected a log filter such as info or info,engram=debug, got {text:?}: {e}"))
    })
}

fn absolute(data_dir: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(data_dir)
        .map_err(|e| setting(format!("expected a data directory, got {:?}: {e}", data_dir.display())))
}

/// A setting that is wrong.
pub(crate) fn setting(message: String) -> Failure {
    Failure::new(Exit::Setting, message).help("`engram start --help` lists the settings and what they take")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Verb};

    fn config(flags: &[&str]) -> Result<StartConfig, Failure> {
        let words = ["engram", "start"].iter().chain(flags);
        let Verb::Start(args) = Args::try_parse_from(words).unwrap().verb else { panic!("not start") };
        StartConfig::from_args(*args).map(|(config, _)| config)
    }

    #[test]
    fn the_data_directory_is_absolute_and_the_log_lies_in_it() {
        let config = config(&["--data-dir", "somewhere/data"]).unwrap();
        assert!(config.data_dir.is_absolute());
        assert!(config.log_directory().ends_with("somewhere/data/wal"));
    }

    #[test]
    fn log_filters_are_levels_and_levels_by_module() {
        for filter in ["off", "INFO", "warn,engram=debug", "info,[request{route=a}]=trace", "engram=off"] {
            assert!(config(&["--log", filter]).is_ok(), "{filter}");
        }
    }

    #[test]
    fn a_wrong_setting_is_refused_with_what_came() {
        for (flags, expected) in [
            (["--capacity", "0"], "got 0"),
            (["--dimension", "0"], "got 0"),
            (["--dimension", "70000"], "got 70000"),
            (["--log", "engram=loud"], "got \"engram=loud\""),
            (["--log", "inf"], "expected a log level (off, error, warn, info, debug, trace)"),
            (["--log", "info,engram"], "got \"engram\""),
        ] {
            let failure = config(&flags).unwrap_err();
            assert_eq!(failure.exit(), Exit::Setting);
            assert!(failure.to_string().contains(expected), "{failure}");
        }
    }
}
