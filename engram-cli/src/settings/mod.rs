//! Where settings come from: a flag goes before a variable of the environment, that before the file, that before the default.
//!
//! - [`mod@file`] reads the file. What it says becomes the default of the flag of that name, so that one parser reads a setting,
//!   wherever it comes from;
//! - [`mod@show`] is `engram config show`.

mod file;
mod show;

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    builder::{Resettable, ValueParser},
    error::{ContextKind, ContextValue, ErrorKind},
    value_parser,
};

pub(crate) use self::{
    file::SettingsFile,
    show::{ConfigVerb, Setting, run as show},
};
use crate::exit::Failure;

/// The argument that names the file, of each verb that knows a data directory.
const FILE: &str = "config";
const FILE_VARIABLE: &str = "ENGRAM_CONFIG";

/// Flags that say what to do, not how.
const NO_SETTINGS: [&str; 4] = [FILE, "json", "help", "version"];

/// The command line, as it is defined, with what the environment and the file have to say about it.
#[derive(Debug)]
pub(crate) struct Definition {
    command: Command,
    file: Option<SettingsFile>,
}

impl Definition {
    /// The definition of these flags, for these words of a command line, the program's name first.
    ///
    /// # Errors
    /// A file of settings that cannot be read, or that has something in it that is no setting.
    pub(crate) fn new(command: Command, words: &[OsString]) -> Result<Self, Failure> {
        let mut command = without_empty_variables(with_file(command));
        let file = match file_of(&command, words) {
            Some(path) => Some(SettingsFile::read(&path, &known(&command))?),
            None => None,
        };
        if let Some(file) = &file {
            command = with_defaults(command, file);
        }
        Ok(Self { command, file })
    }

    pub(crate) fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// The file, as an absolute path.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(SettingsFile::path)
    }

    /// What this verb's settings have come to.
    pub(crate) fn settings(&self, matches: &ArgMatches, verb: &[&str]) -> Vec<Setting> {
        let of_verb = verb.iter().try_fold((&self.command, matches), |(command, matches), name| {
            Some((command.find_subcommand(name)?, matches.subcommand_matches(name)?))
        });
        let Some((command, matches)) = of_verb else { return Vec::new() };
        show::settings(command.get_arguments(), matches, self.file.as_ref())
    }

    /// An error about a value that nobody has typed names where it comes from. clap speaks of the flag.
    pub(crate) fn name_origin(&self, mut error: clap::Error, words: &[OsString]) -> clap::Error {
        let is_of_value = matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue);
        let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg).filter(|_| is_of_value)
        else {
            return error;
        };
        // Before it is built an argument does not know how it is shown, and panics.
        let mut command = self.command.clone();
        command.build();
        let Some(arg) = arguments(&command).into_iter().find(|arg| arg.to_string() == *flag) else {
            return error;
        };
        if is_typed(arg, words) {
            return error;
        }
        let in_file =
            || Some((self.file.as_ref()?, key_of(arg)?)).filter(|(file, key)| file.get(key).is_some());
        let origin = match arg.get_env() {
            Some(variable) if env::var_os(variable).is_some() => variable.to_string_lossy().into_owned(),
            _ => match in_file() {
                Some((file, key)) => format!("{key} of {}", file.path().display()),
                None => return error,
            },
        };
        error.insert(ContextKind::InvalidArg, ContextValue::String(origin));
        error
    }
}

/// The command line with a flag for the file, where it has a say: at the verbs that know a data directory.
pub(crate) fn with_file(command: Command) -> Command {
    let command = command.mut_subcommands(with_file);
    // Where it is no setting, but what the verb is about, it has no variable either: the directory of a restore.
    let knows_directory =
        command.get_arguments().any(|arg| arg.get_env().is_some() && key_of(arg) == Some("data_dir"));
    if !knows_directory {
        return command;
    }
    command.arg(
        Arg::new(FILE)
            .long(FILE)
            .value_name("FILE")
            .env(FILE_VARIABLE)
            .value_parser(value_parser!(PathBuf))
            .help("A TOML file with settings of the server. Flags and variables go before what it says"),
    )
}

fn with_defaults(command: Command, file: &SettingsFile) -> Command {
    let command = command.mut_subcommands(|command| with_defaults(command, file));
    if command.get_arguments().all(|arg| arg.get_id() != FILE) {
        return command;
    }
    command.mut_args(|arg| match key_of(&arg).and_then(|key| file.get(key)) {
        Some([]) | None => arg,
        Some(values) => arg.default_values(values.iter().map(clap::builder::OsStr::from)),
    })
}

/// The file that a command line names, or the environment; nothing when the verb knows none.
fn file_of(command: &Command, words: &[OsString]) -> Option<PathBuf> {
    let mut verb = command;
    for word in words.iter().skip(1) {
        match word.to_str().and_then(|word| verb.find_subcommand(word)) {
            Some(below) => verb = below,
            None => break,
        }
    }
    let arg = verb.get_arguments().find(|arg| arg.get_id() == FILE)?;
    let typed = words.iter().zip(words.iter().skip(1).map(Some).chain([None]));
    let typed = typed.take_while(|(word, _)| *word != "--").find_map(|(word, next)| {
        if *word == "--config" {
            return next.cloned();
        }
        // A path need not be UTF-8.
        word.as_bytes().strip_prefix(b"--config=").map(|path| OsStr::from_bytes(path).to_owned())
    });
    let from_environment = || arg.get_env().and_then(env::var_os);
    typed.or_else(from_environment).map(PathBuf::from)
}

/// The settings that a file may have: those of `engram start`, but for secrets; and whether each may be a list.
fn known(command: &Command) -> Vec<(String, bool)> {
    let start = command.find_subcommand("start");
    let arguments = start.into_iter().flat_map(Command::get_arguments);
    let known = |arg: &Arg| Some((key_of(arg)?.to_owned(), matches!(arg.get_action(), ArgAction::Append)));
    arguments.filter_map(known).collect()
}

/// What a setting is called in the file: as its variable, in small letters and without `ENGRAM_`. Nothing for what is none.
fn key_of(arg: &Arg) -> Option<&str> {
    let is_setting =
        arg.get_long().is_some() && !arg.is_hide_set() && !NO_SETTINGS.contains(&arg.get_id().as_str());
    is_setting.then(|| arg.get_id().as_str())
}

fn is_typed(arg: &Arg, words: &[OsString]) -> bool {
    let Some(long) = arg.get_long().map(|long| format!("--{long}")) else { return false };
    words.iter().any(|word| word.to_string_lossy().split('=').next() == Some(&*long))
}

/// Whether a value of this parser is written without quotes in TOML.
fn is_bare(parser: &ValueParser) -> bool {
    let kind = parser.type_id();
    kind == std::any::TypeId::of::<bool>()
        || kind == std::any::TypeId::of::<usize>()
        || kind == std::any::TypeId::of::<u64>()
}

fn without_empty_variables(command: Command) -> Command {
    command.mut_args(without_empty_variable).mut_subcommands(without_empty_variables)
}

/// An empty variable is one that is not set: whoever writes `${ENGRAM_FSYNC:-}` in a compose file means that.
fn without_empty_variable(arg: Arg) -> Arg {
    let is_empty = arg.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty());
    if is_empty { arg.env(Resettable::<clap::builder::OsStr>::Reset) } else { arg }
}

/// All arguments of all verbs.
fn arguments(command: &Command) -> Vec<&Arg> {
    let below = command.get_subcommands().flat_map(arguments);
    command.get_arguments().chain(below).collect()
}
