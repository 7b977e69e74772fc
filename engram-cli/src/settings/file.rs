//! The file of settings: TOML, a key for each flag of `engram start`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf, absolute},
};

use toml::de::{DeTable, DeValue};

use crate::exit::{Exit, Failure};

/// What one file says.
#[derive(Debug)]
pub(crate) struct SettingsFile {
    path: PathBuf,
    /// As they would be typed, one or more for each key.
    values: BTreeMap<String, Vec<String>>,
}

impl SettingsFile {
    /// Reads a file that may have these keys.
    ///
    /// # Errors
    /// With the line, for a file that is no TOML, for a key that is no setting and for a value of no kind that settings
    /// have.
    pub(super) fn read(path: &Path, keys: &[(String, bool)]) -> Result<Self, Failure> {
        let unread = |e: io::Error| {
            let expected = "expected a file of settings in TOML";
            Failure::new(Exit::Setting, format!("{expected}, got {}: {e}", path.display()))
                .help("name one that is there with --config or ENGRAM_CONFIG, or none")
        };
        let text = fs::read_to_string(path).map_err(unread)?;
        let values = parse(&text, keys).map_err(|wrong| wrong.into_failure(path, &text).help(help(keys)))?;
        Ok(Self { path: absolute(path).map_err(unread)?, values })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of a setting, as it would be typed.
    pub(super) fn get(&self, key: &str) -> Option<&[String]> {
        self.values.get(key).map(Vec::as_slice)
    }
}

/// What is wrong, and the byte where it is.
struct Wrong {
    at: usize,
    what: String,
}

impl Wrong {
    fn into_failure(self, path: &Path, text: &str) -> Failure {
        let before = text.get(..self.at).unwrap_or(text);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        Failure::new(Exit::Setting, format!("{}, line {line}: {}", path.display(), self.what))
    }
}

fn help(keys: &[(String, bool)]) -> String {
    let keys: Vec<&str> = keys.iter().map(|(key, _)| &**key).collect();
    format!(
        "the settings are {}; `engram config show` prints them as a file. Texts are in quotes",
        keys.join(", ")
    )
}

fn parse(text: &str, keys: &[(String, bool)]) -> Result<BTreeMap<String, Vec<String>>, Wrong> {
    let table = DeTable::parse(text).map_err(|e| Wrong {
        at: e.span().map_or(0, |span| span.start),
        what: format!("this is no TOML: {}", e.message()),
    })?;
    let mut values = BTreeMap::new();
    for (key, value) in table.into_inner() {
        let (at, key) = (key.span().start, key.into_inner().into_owned());
        let wrong = |what| Wrong { at, what };
        let Some((_, may_be_list)) = keys.iter().find(|(known, _)| *known == key) else {
            return Err(wrong(unknown(&key, keys)));
        };
        let typed = match value.into_inner() {
            DeValue::Array(_) if !may_be_list => Err("a list: it takes one value"),
            DeValue::Array(items) => items.into_iter().map(|item| typed(item.into_inner())).collect(),
            value => typed(value).map(|value| vec![value]),
        };
        let typed: Vec<String> = typed.map_err(|kind| {
            wrong(format!("{key}: expected a text, a number, true or false, or a list of texts, got {kind}"))
        })?;
        values.insert(key, typed);
    }
    Ok(values)
}

/// A value as it would be typed, or what it is instead of one.
fn typed(value: DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| "a number beyond 64 bits"),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Datetime(_) => Err("a time"),
        DeValue::Array(_) => Err("a list in a list"),
        DeValue::Table(_) => Err("a table"),
    }
}

fn unknown(key: &str, keys: &[(String, bool)]) -> String {
    if matches!(key, "api_key" | "embed_key") {
        return format!(
            "a secret does not belong here: name a file that has it with {key}_file, or set ENGRAM_{}",
            key.to_ascii_uppercase()
        );
    }
    // As it is typed on the command line.
    let meant = key.replace('-', "_");
    let mut known = keys.iter().map(|(key, _)| key);
    match known.find(|known| **known == meant || known.trim_end_matches('s') == meant) {
        Some(known) => format!("there is no setting {key:?}: it is called {known}"),
        None => format!("there is no setting {key:?}"),
    }
}
