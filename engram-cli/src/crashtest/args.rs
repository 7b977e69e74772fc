//! What was typed after `engram crashtest`.

use std::path::PathBuf;

use clap::{ValueEnum, value_parser};
use engram_core::FsyncMode;

const EXAMPLES: &str = "\
Examples:
  engram crashtest /mnt/data/crashtest
  engram crashtest ./crashtest --rounds 1000 --clients 16 --fsync per-write
  sudo engram crashtest ./crashtest --power-cut ext4
  engram crashtest ./crashtest --seed 2271560481 --json > report.json

A kill shows that nothing waits in the process when it is acknowledged; only a cut of the power
shows that it is on the disk. The built-in cut is of a file system of its own, in a file in DIR: it
tests Engram and the kernel, and not the disk below. --power-cut-command is for a disk of yours that
can be switched off.

Exit codes:
  0   nothing was lost, also when Ctrl-C ended it before the last round
  1   another failure, for example of the command that cuts the power
  2   wrong usage
  65  something was lost: the report says what, DIR keeps the evidence
  73  DIR cannot be made or used, or holds something else
  74  the server refused a write or ended by itself, for example because the disk is full
  75  another crash test is running in DIR
  78  this machine cannot cut the power so
  130 Ctrl-C came twice: ended at once";

/// Flags of `engram crashtest`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CrashtestArgs {
    /// Where to test: a directory that is missing (its parent is there), empty, or of an earlier crash test. Nothing else
    /// is ever touched, and what was made is removed at the end, unless something was lost
    #[arg(value_name = "DIR")]
    pub(super) dir: PathBuf,

    /// How often to kill the server
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u64).range(1..))]
    pub(super) rounds: u64,

    /// Clients that write at the same time, each on a connection of its own
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u64).range(1..=256))]
    pub(super) clients: u64,

    /// When the server acknowledges: as of `engram start`. What a weaker mode may lose to a power cut is counted apart
    #[arg(long, value_name = "MODE", default_value = "per-batch")]
    pub(super) fsync: FsyncMode,

    /// Cut the power after each kill, too: of a file system made for it in DIR (needs root)
    #[arg(long, value_name = "FS", default_value = "none")]
    pub(super) power_cut: PowerCut,

    /// Cut the power after each kill by this shell command, which finds DIR in `ENGRAM_CRASHTEST_DIR`
    #[arg(long, value_name = "COMMAND", conflicts_with = "power_cut")]
    pub(super) power_cut_command: Option<String>,

    /// Repeat the choices of another run [default: a new one; it is printed]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,

    /// Print the report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What the power is cut of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PowerCut {
    /// Nothing: the process dies, the machine goes on
    None,
    /// An ext4 on a loop device
    Ext4,
    /// An XFS on a loop device
    Xfs,
}

impl CrashtestArgs {
    /// How the power is cut, in one word.
    pub(super) fn power_cut_name(&self) -> &'static str {
        match self.power_cut {
            _ if self.power_cut_command.is_some() => "command",
            PowerCut::None => "none",
            PowerCut::Ext4 => "ext4",
            PowerCut::Xfs => "xfs",
        }
    }
}
