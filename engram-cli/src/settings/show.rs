//! `engram config show`: what would run, and where each setting comes from.

use std::env;

use clap::{Arg, ArgAction, ArgMatches, Subcommand, parser::ValueSource};
use serde_json::{Map, Value, json};

use super::{FILE, SettingsFile, is_bare, key_of};
use crate::{args::StartArgs, config::StartConfig, exit::Failure, operator::Output};

/// Settings that are variables alone. They are never shown.
const SECRETS: [&str; 2] = ["ENGRAM_API_KEY", "ENGRAM_EMBED_KEY"];

const EXAMPLES: &str = "\
Examples:
  engram config show --config /etc/engram/engram.toml
  engram config show > engram.toml        # a file to begin with

A flag goes before a variable (ENGRAM_…), that before the file, that before the default. The keys of the file are the
variables' names in small letters, without ENGRAM_.

Exit codes: 0 a server could be started so, 2 wrong usage, 78 a setting is wrong (what is set is printed all the same)";

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Print the settings of `engram start`, each with where it comes from, as a file
    #[command(after_help = EXAMPLES)]
    Show(Box<ShowArgs>),
}

/// Flags of `engram config show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    start: StartArgs,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// What has come of all of it.
    #[arg(skip)]
    pub(crate) settings: Vec<Setting>,
}

/// A setting, and where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    key: String,
    /// Nothing when it is not set, and has no default.
    value: Option<Value>,
    origin: String,
}

/// The settings that these arguments have come to.
pub(super) fn settings<'a>(
    arguments: impl Iterator<Item = &'a Arg>,
    matches: &ArgMatches,
    file: Option<&SettingsFile>,
) -> Vec<Setting> {
    let setting = |arg: &Arg| {
        let key = key_of(arg)?;
        let is_in_file = file.is_some_and(|file| file.get(key).is_some());
        let origin = match matches.value_source(arg.get_id().as_str()) {
            Some(ValueSource::CommandLine) => format!("--{}", arg.get_long().unwrap_or_default()),
            Some(ValueSource::EnvVariable) => {
                arg.get_env().unwrap_or_default().to_string_lossy().into_owned()
            }
            Some(_) if is_in_file => FILE.to_owned(),
            _ => "default".to_owned(),
        };
        let value = value(arg, matches);
        let origin = if value.is_none() { "not set".to_owned() } else { origin };
        Some(Setting { key: key.to_owned(), value, origin })
    };
    arguments.filter_map(setting).collect()
}

fn value(arg: &Arg, matches: &ArgMatches) -> Option<Value> {
    let id = arg.get_id().as_str();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return Some(json!(matches.get_flag(id)));
    }
    let as_typed = |raw: &std::ffi::OsStr| {
        let text = raw.to_string_lossy();
        let number = text.parse::<u64>().ok().filter(|_| is_bare(arg.get_value_parser()));
        number.map_or_else(|| json!(text), |number| json!(number))
    };
    let mut values: Vec<Value> = matches.get_raw(id)?.map(as_typed).collect();
    match arg.get_action() {
        ArgAction::Append => Some(Value::Array(values)),
        _ => values.pop(),
    }
}

/// Prints them, and says whether a server could be started so.
pub(crate) fn run(verb: ConfigVerb) -> Result<(), Failure> {
    let ConfigVerb::Show(args) = verb;
    let secrets = SECRETS.into_iter().filter(|secret| env::var_os(secret).is_some_and(|it| !it.is_empty()));
    let mut output = Output::new();
    if args.json {
        output.json(&as_json(&args.settings, secrets))?;
    } else {
        let width = args.settings.iter().map(|setting| line(setting).len()).max().unwrap_or(0).min(60);
        for setting in &args.settings {
            output.line(&format!("{:width$}  # {}", line(setting), setting.origin))?;
        }
        for secret in secrets {
            output.line(&format!("# {secret} is set"))?;
        }
    }
    output.end()?;
    let (config, _) = StartConfig::from_args(args.start)?;
    config.addresses().map(drop)
}

fn as_json(settings: &[Setting], secrets: impl Iterator<Item = &'static str>) -> Value {
    let mut all: Map<String, Value> = settings
        .iter()
        .map(|Setting { key, value, origin }| (key.clone(), json!({ "value": value, "from": origin })))
        .collect();
    all.extend(secrets.map(|secret| (secret.to_owned(), json!({ "value": "(set)", "from": secret }))));
    Value::Object(all)
}

/// A line of TOML. Strings of JSON are strings of TOML.
fn line(setting: &Setting) -> String {
    match &setting.value {
        Some(value) => format!("{} = {value}", setting.key),
        None => format!("# {} =", setting.key),
    }
}
