//! What was typed. [`config`](crate::config) makes of it what will run.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use engram_core::{FsyncMode, IndexMode, Precision, RecallTarget, RecoveryMode};

use crate::{
    ask::AskVerb,
    crashtest::CrashtestArgs,
    doctor::DoctorArgs,
    embed::EmbedArgs,
    exit::Failure,
    keys::verb::KeyVerb,
    logging::LogFormat,
    mcp::McpArgs,
    operator::{
        RecoverArgs, ReembedArgs, RepairArgs, RestoreArgs, SnapshotArgs, StopArgs, VerifyArgs, WalVerb,
    },
    server::HttpArgs,
    settings::{ConfigVerb, Definition},
    shell::{CompletionsArgs, ManArgs},
};

/// A durable memory server for AI agents and applications.
///
/// Stores what happened, recalls it by meaning, by words and by time, and never loses a memory that it has
/// acknowledged.
#[derive(Debug, Parser)]
#[command(name = "engram", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Args {
    /// The definition of all flags.
    pub(crate) fn definition() -> Command {
        with_paragraphs(Self::command())
    }

    /// Reads the command line, the program's name first, the environment, and the file of settings that either names.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, Unread> {
        let words: Vec<OsString> = words.into_iter().collect();
        let mut definition = Definition::new(Self::definition(), &words).map_err(Unread::File)?;
        let answer = |error: clap::Error, definition: &mut Definition| {
            let error = error.format(definition.command());
            Unread::Answer(definition.name_origin(error, &words))
        };
        let matches = definition.command().try_get_matches_from_mut(&words);
        let matches = matches.map_err(|error| answer(error, &mut definition))?;
        let mut args = Self::from_arg_matches(&matches).map_err(|error| answer(error, &mut definition))?;
        match &mut args.verb {
            Verb::Config(ConfigVerb::Show(show)) => {
                show.settings = definition.settings(&matches, &["config", "show"]);
            }
            Verb::Mcp(mcp) => mcp.settings = definition.file().map(Path::to_path_buf),
            _ => {}
        }
        Ok(args)
    }
}

/// Help that is as wide as the terminal: prose is one line a paragraph, for clap to fold; examples and tables stay as they
/// are.
fn with_paragraphs(command: Command) -> Command {
    let command = command.mut_subcommands(with_paragraphs);
    let Some(help) = command.get_after_help().map(ToString::to_string) else { return command };
    let mut text = String::new();
    let mut is_prose = false;
    for line in help.lines() {
        let goes_on = is_prose && !line.is_empty() && !line.starts_with(' ');
        if !text.is_empty() {
            text.push(if goes_on { ' ' } else { '\n' });
        }
        text.push_str(line);
        is_prose = !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':');
    }
    command.after_help(text)
}

/// Why there is nothing to do.
#[derive(Debug)]
pub(crate) enum Unread {
    /// Help, or what is wrong with the command line.
    Answer(clap::Error),
    /// The file of settings is wrong.
    File(Failure),
}

/// What to do: one variant a verb, one module each.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the server.
    Start(Box<StartArgs>),
    /// End the server of a data directory, when it has answered what is in flight
    Stop(StopArgs),
    #[command(flatten)]
    Ask(AskVerb),
    /// Give an AI agent the memories as tools: the Model Context Protocol on standard input and output.
    Mcp(McpArgs),
    /// Check that all of a log can be read: every segment, record, checksum and promise.
    Verify(VerifyArgs),
    /// Look into a log.
    #[command(subcommand)]
    Wal(WalVerb),
    /// Tell what a start would recover, and what it would lose, before it does.
    Recover(RecoverArgs),
    /// Make a damaged log sound again, without what is lost.
    Repair(RepairArgs),
    /// Write all memories into one file, a backup, and remove the log before it.
    Snapshot(SnapshotArgs),
    /// Make a new data directory from a snapshot.
    Restore(RestoreArgs),
    /// Embed all contents anew, by another model.
    Reembed(ReembedArgs),
    /// Make, list and revoke the keys that clients need
    #[command(subcommand)]
    Key(KeyVerb),
    /// Print the settings of a server, and where each comes from
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Find what commonly goes wrong, and how to mend it
    Doctor(Box<DoctorArgs>),
    /// Print the completions of a shell
    Completions(CompletionsArgs),
    /// Print a page of the manual
    Man(ManArgs),
    /// Kill a server under load, again and again, and check that nothing acknowledged is lost.
    Crashtest(CrashtestArgs),
}

const START_EXAMPLES: &str = "\
Examples:
  engram start
  engram start --data-dir /var/lib/engram --listen 127.0.0.1:8000
  engram start --fsync timer=50ms --log info,engram=debug
  engram start --config /etc/engram/engram.toml    # `engram config show` prints one to begin with
  engram start --listen 0.0.0.0:7432 --tls-cert chain.pem --tls-key key.pem    # after `engram key create`

Exit codes:
  0   stopped by SIGTERM or Ctrl-C, all acknowledged memories synced
  1   another failure
  2   wrong usage
  65  the log is too damaged to open, or from another version
  69  cannot listen, for example because the address is in use
  73  the data directory cannot be made or used
  74  the log failed while running (under read-only and volatile: at the end), or its last sync did
  75  the data directory is in use by another process
  78  a setting is wrong, or not the one that the store was made with; no key where one is needed";

/// Flags of `engram start`. Each is a variable of the environment and a setting of the file, too; see [`crate::settings`].
#[derive(Debug, clap::Args)]
#[command(after_help = START_EXAMPLES)]
pub(crate) struct StartArgs {
    /// Where everything is kept; made when its parent exists
    #[arg(long, value_name = "DIR", default_value = "./data", env = "ENGRAM_DATA_DIR")]
    pub(crate) data_dir: PathBuf,

    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7432", env = "ENGRAM_LISTEN")]
    pub(crate) listen: String,

    /// When a write is acknowledged: per-batch and per-write survive power loss; timer=50ms may lose the last 50 ms
    /// to a power loss; none, everything since the last sync. All survive a crash of the process
    #[arg(long, value_name = "MODE", default_value = "per-batch", env = "ENGRAM_FSYNC")]
    pub(crate) fsync: FsyncMode,

    /// The most memories that the store holds. What is stored is never dropped to make room
    #[arg(long, value_name = "N", default_value_t = 1_000_000, env = "ENGRAM_CAPACITY")]
    pub(crate) capacity: usize,

    /// About how much memory the memories may take, in bytes: what would go beyond is refused [default: 70 % of what the
    /// machine has, or the process's control group]
    #[arg(long, value_name = "BYTES", env = "ENGRAM_MEMORY_LIMIT")]
    pub(crate) memory_limit: Option<u64>,

    /// How much damage of the log to start over: strict (none), torn-tail (an unacknowledged end), skip-corrupt
    /// (damaged records are skipped and reported, up to 1 % of all)
    #[arg(long, value_name = "MODE", default_value = "skip-corrupt", env = "ENGRAM_RECOVERY")]
    pub(crate) recovery: RecoveryMode,

    /// Take a snapshot whenever the log since the last one is longer than this many bytes, and than that snapshot: the
    /// log before it is removed, and with it what was forgotten or replaced. 0 takes none unless it is asked for
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20, env = "ENGRAM_SNAPSHOT_LOG_BYTES")]
    pub(crate) snapshot_log_bytes: u64,

    /// What to do when the log fails while running
    #[arg(long, value_name = "POLICY", default_value = "exit", env = "ENGRAM_ON_WAL_FAILURE")]
    pub(crate) on_wal_failure: WalFailurePolicy,

    /// How embeddings are kept: int8 (a quarter of the space) or f32 [default: the store's, int8 for a new one]
    #[arg(long, value_name = "PRECISION", env = "ENGRAM_EMBEDDING_PRECISION")]
    pub(crate) embedding_precision: Option<Precision>,

    /// How many numbers an embedding has [default: the store's, 768 for a new one]
    #[arg(long, value_name = "N", env = "ENGRAM_DIMENSION")]
    pub(crate) dimension: Option<usize>,

    /// How recall by meaning finds its candidates: scan (the signs of all vectors), ivf (of those in the nearest lists,
    /// which are made in the background), hnsw (a graph, made in the background, and a few lists beside it), auto (ivf
    /// from 50,000 memories on)
    #[arg(long, value_name = "INDEX", default_value_t, env = "ENGRAM_INDEX")]
    pub(crate) index: IndexMode,

    /// The share of what a scan finds that ivf and hnsw must find, too: above 0, up to 1
    #[arg(long, value_name = "SHARE", default_value_t, env = "ENGRAM_RECALL_TARGET")]
    pub(crate) recall_target: RecallTarget,

    #[command(flatten)]
    pub(crate) http: HttpArgs,

    #[command(flatten)]
    pub(crate) embed: EmbedArgs,

    /// What to log on stderr: error, warn, info, debug, trace, or by module (info,engram=debug)
    #[arg(long, value_name = "FILTER", default_value = "info", env = "ENGRAM_LOG")]
    pub(crate) log: String,

    /// How it is logged: text, or json (an object on each line, with timestamp, level, message and what belongs to them).
    /// What keeps a server from starting is said as text in any case
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "ENGRAM_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
}

/// What to do when the log fails while running: after a failed sync nothing more can be promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WalFailurePolicy {
    /// Answer what is in flight and exit with 74, for a supervisor to restart
    Exit,
    /// Keep serving reads, refuse writes
    ReadOnly,
    /// Keep writing in memory alone; each receipt says volatile
    Volatile,
}

impl WalFailurePolicy {
    /// Its name, as it is typed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::ReadOnly => "read-only",
            Self::Volatile => "volatile",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn start(flags: &[&str]) -> Result<StartArgs, clap::Error> {
        let words = ["engram", "start"].iter().chain(flags);
        Args::try_parse_from(words).map(|args| match args.verb {
            Verb::Start(args) => *args,
            other => panic!("another verb: {other:?}"),
        })
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    /// The file's keys are the names of the fields, and are told to be those of the variables.
    #[test]
    fn each_setting_is_called_as_its_variable() {
        use clap::CommandFactory as _;
        let command = Args::command();
        for arg in command.find_subcommand("start").unwrap().get_arguments() {
            let expected = format!("ENGRAM_{}", arg.get_id().as_str().to_ascii_uppercase());
            assert_eq!(arg.get_env().unwrap().to_str(), Some(&*expected));
        }
    }

    #[test]
    fn flags_are_read_and_wrong_ones_name_what_was_expected() {
        assert_eq!(start(&["--fsync", "timer=2s"]).unwrap().fsync, FsyncMode::Timer(Duration::from_secs(2)));
        assert_eq!(start(&["--embedding-precision=f32"]).unwrap().embedding_precision, Some(Precision::F32));
        let read_only = start(&["--on-wal-failure", "read-only"]).unwrap().on_wal_failure;
        assert_eq!((read_only, read_only.name()), (WalFailurePolicy::ReadOnly, "read-only"));
        let index = start(&["--index", "ivf", "--recall-target", "0.95"]).unwrap();
        assert_eq!((index.index, index.recall_target.get()), (IndexMode::Ivf, 0.95));
        let index = start(&[]).unwrap();
        assert_eq!((index.index, index.recall_target.get()), (IndexMode::Auto, 0.99));
        for (flags, expected) in [
            (["--fsync", "sometimes"], "expected per-write, per-batch"),
            (["--recovery", "hope"], "expected strict, torn-tail or skip-corrupt"),
            (["--embedding-precision", "f16"], "\"int8\" or \"f32\""),
            (["--on-wal-failure", "panic"], "exit, read-only, volatile"),
            (["--index", "lsh"], "expected auto, scan, ivf or hnsw, got \"lsh\""),
            (["--recall-target", "1.5"], "up to 1, got 1.5"),
            (["--recall-target", "high"], "got high"),
        ] {
            let error = start(&flags).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
