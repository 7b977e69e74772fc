//! `engram completions` and `engram man`: what shells and readers of manuals want, from the definition of the flags.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::{
    args::Args,
    exit::{Exit, Failure},
    settings::with_file,
};

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  source <(engram completions bash)                                     # for this shell
  engram completions bash > /usr/share/bash-completion/completions/engram
  engram completions zsh > ~/.zfunc/_engram                             # in a directory of $fpath
  engram completions fish > ~/.config/fish/completions/engram.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  engram man | man -l -
  engram man recall | man -l -
  engram man --dir /usr/local/share/man/man1";

/// Flags of `engram completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell that is to complete
    #[arg(value_enum)]
    shell: Shell,
}

/// Flags of `engram man`.
#[derive(Debug, clap::Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(crate) struct ManArgs {
    /// The verb to print the page of, such as recall or `wal dump`; nothing for engram itself
    #[arg(value_name = "VERB")]
    verb: Vec<String>,

    /// Write all pages into this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "verb")]
    dir: Option<PathBuf>,
}

/// The command line as it is defined: what the environment says is nothing that a page or a script should keep.
fn definition() -> Command {
    without_variables(with_file(Args::definition()))
}

/// Where a variable is set its value would be printed beside the flag.
fn without_variables(command: Command) -> Command {
    command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(without_variables)
}

pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "engram", &mut script);
    put(&script)
}

pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    let mut command = definition();
    command.build();
    if let Some(directory) = &args.dir {
        return write_all(&command, directory);
    }
    let verb = args.verb.iter().try_fold(&command, |command, name| {
        command.find_subcommand(name).ok_or_else(|| {
            let verbs: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            Failure::new(Exit::Usage, format!("expected a verb, got {name:?}")).help(format!(
                "the verbs of {} are {}",
                command.get_name(),
                verbs.join(", ")
            ))
        })
    });
    put(&page(verb?).map_err(|e| Failure::new(Exit::Failure, format!("cannot print: {e}")))?)
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}

/// A page for the command, and for each verb below it.
fn write_all(command: &Command, directory: &Path) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let file = directory.join(format!("{name}.1"));
    page(command)
        .and_then(|page| fs::write(&file, page))
        .map_err(|e| Failure::new(Exit::Failure, format!("cannot write {}: {e}", file.display())))?;
    let below = command.get_subcommands().filter(|verb| verb.get_name() != "help" && !verb.is_hide_set());
    below.into_iter().try_for_each(|verb| write_all(verb, directory))
}

/// Prints it. Who stops reading has seen enough.
fn put(bytes: &[u8]) -> Result<(), Failure> {
    match io::stdout().lock().write_all(bytes) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failure, format!("cannot print: {e}")))
        }
        _ => Ok(()),
    }
}
