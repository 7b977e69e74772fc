//! How the power is cut after each kill.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    args::{CrashtestArgs, PowerCut},
    emergency::Emergency,
    loop_disk::{FileSystem, LoopDisk},
};
use crate::exit::{Exit, Failure};

/// The variable that tells the user's command which directory is under test.
const DIRECTORY_VARIABLE: &str = "ENGRAM_CRASHTEST_DIR";

/// What has the data, and what its power is cut by.
#[derive(Debug)]
pub(super) enum Power {
    /// It is not cut: the process dies, the machine goes on.
    Stays(PathBuf),
    Loop(LoopDisk),
    Command {
        directory: PathBuf,
        command: String,
    },
}

impl Power {
    /// As the command line says, with data in `directory`.
    pub(super) fn of_args(
        args: &CrashtestArgs,
        directory: &Path,
        emergency: &Emergency,
    ) -> Result<Self, Failure> {
        if let Some(command) = &args.power_cut_command {
            return Ok(Self::Command { directory: directory.to_owned(), command: command.clone() });
        }
        let kind = match args.power_cut {
            PowerCut::None => return Ok(Self::Stays(directory.to_owned())),
            PowerCut::Ext4 => FileSystem::Ext4,
            PowerCut::Xfs => FileSystem::Xfs,
        };
        LoopDisk::make(directory, kind, emergency).map(Self::Loop)
    }

    /// The directory whose power is cut.
    pub(super) fn directory(&self) -> &Path {
        match self {
            Self::Stays(directory) | Self::Command { directory, .. } => directory,
            Self::Loop(disk) => disk.mount_point(),
        }
    }

    /// Whether a kill comes with the loss of what was not synced.
    pub(super) fn is_cut(&self) -> bool {
        !matches!(self, Self::Stays(_))
    }

    /// Cuts it, if it is to be cut, and gives it back.
    pub(super) fn cut(&mut self) -> Result<(), Failure> {
        match self {
            Self::Stays(_) => Ok(()),
            Self::Loop(disk) => disk.cut(),
            Self::Command { directory, command } => run(command, directory),
        }
    }
}

fn run(command: &str, directory: &Path) -> Result<(), Failure> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env(DIRECTORY_VARIABLE, directory);
    shell.stdin(Stdio::null()).stdout(Stdio::null());
    // Ctrl-C in a terminal is for the test, which waits for this to end.
    shell.process_group(0);
    let failed = |how: String| Failure::new(Exit::Failure, format!("--power-cut-command {command:?} {how}"));
    let status = shell.status().map_err(|e| failed(format!("cannot be run: {e}")))?;
    if status.success() { Ok(()) } else { Err(failed(format!("ended with {status}"))) }
}
