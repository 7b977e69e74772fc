//! `engram key`: the keys of a data directory.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use engram_core::chrono::{SecondsFormat, Utc};
use serde::Serialize;

use super::{Access, Grant, Key, file, hex, secret};
use crate::{
    boot,
    exit::{Exit, Failure},
    operator::Output,
};

/// Bytes of a name, and of that of a space.
const NAME_BYTES_MAX: usize = 128;

const ID_PREFIX: &str = "key_";

const EXAMPLES: &str = "\
Examples:
  engram key create --name ops                                # may do everything
  engram key create --name agent --space ada --space shared   # in these spaces alone
  engram key create --name dashboard --access read
  engram key list
  engram key revoke agent

A running server notices within a second. It asks for a key once there is any: clients send it as
`Authorization: Bearer KEY`, and the other commands take it from ENGRAM_API_KEY.";

/// What to do with keys.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum KeyVerb {
    /// Make a key, and print it: it is shown this once
    Create(CreateArgs),
    /// List the keys, without their secrets
    List(ListArgs),
    /// Revoke a key
    Revoke(RevokeArgs),
}

/// Where the keys are.
#[derive(Debug, clap::Args)]
struct Place {
    /// The data directory, as of `engram start`
    #[arg(long, value_name = "DIR", default_value = "./data", env = "ENGRAM_DATA_DIR")]
    data_dir: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Flags of `engram key create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// What it is for; no two keys have the same
    #[arg(long, value_name = "NAME")]
    name: String,

    /// A space that it is for; again for another one [default: all spaces]
    #[arg(long = "space", value_name = "SPACE")]
    spaces: Vec<String>,

    /// What it may do there
    #[arg(long, value_name = "ACCESS", default_value = "write")]
    access: Access,

    #[command(flatten)]
    place: Place,
}

/// Flags of `engram key list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    place: Place,
}

/// Flags of `engram key revoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// Its name, or its id
    #[arg(value_name = "NAME|ID")]
    key: String,

    #[command(flatten)]
    place: Place,
}

/// A key, as it is shown.
#[derive(Debug, Serialize)]
struct KeyView<'a> {
    id: &'a str,
    name: &'a str,
    /// Empty for all of them.
    spaces: &'a [String],
    access: Access,
    created_at: &'a str,
    /// The secret, of a new key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

impl<'a> KeyView<'a> {
    fn new(key: &'a Key, secret: Option<&'a str>) -> Self {
        let Key { id, name, grant: Grant { spaces, access }, created_at, .. } = key;
        Self { id, name, spaces, access: *access, created_at, key: secret }
    }
}

pub(crate) fn run(verb: KeyVerb) -> Result<(), Failure> {
    match verb {
        KeyVerb::Create(args) => create(args),
        KeyVerb::List(ListArgs { place }) => list(&place),
        KeyVerb::Revoke(RevokeArgs { key, place }) => revoke(&key, &place),
    }
}

fn create(args: CreateArgs) -> Result<(), Failure> {
    let CreateArgs { name, mut spaces, access, place } = args;
    check_name("a name", &name)?;
    for space in &spaces {
        check_name("a space", space)?;
    }
    spaces.sort_unstable();
    spaces.dedup();
    let secret = secret::Secret::generate()?;
    let key = Key {
        id: format!("{ID_PREFIX}{}", hex(&secret::random_bytes::<6>()?)),
        name,
        sha256: secret.hash(),
        grant: Grant { spaces, access },
        created_at: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
    };
    boot::open_directory(&place.data_dir)?;
    let added = file::update(&place.data_dir, |keys| {
        if keys.iter().any(|other| other.name == key.name || other.id == key.name) {
            return Err(Failure::new(Exit::Usage, format!("there is a key {:?} already", key.name))
                .help("choose another name, or revoke that key first: `engram key revoke`"));
        }
        if keys.len() >= file::KEYS_MAX {
            return Err(Failure::new(
                Exit::Failure,
                format!("there are {} keys, as many as may be", keys.len()),
            )
            .help("revoke those that nobody uses: `engram key list`, `engram key revoke`"));
        }
        keys.push(key.clone());
        Ok(())
    });
    added.map_err(|e| of_file(&place.data_dir, &e)).flatten()?;
    let mut output = Output::new();
    if place.json {
        output.json(&KeyView::new(&key, Some(secret.expose())))?;
    } else {
        say(&format!("{} {:?} may {}. It is shown this once:", key.id, key.name, key.grant));
        output.line(secret.expose())?;
    }
    output.end()
}

fn list(place: &Place) -> Result<(), Failure> {
    let keys = file::read(&place.data_dir).map_err(|e| of_file(&place.data_dir, &e))?.unwrap_or_default();
    let mut output = Output::new();
    if place.json {
        output.json(&keys.iter().map(|key| KeyView::new(key, None)).collect::<Vec<_>>())?;
    } else if keys.is_empty() {
        say(&format!("there are no keys in {}", place.data_dir.display()));
    } else {
        let width = keys.iter().map(|key| key.name.chars().count()).max().unwrap_or_default();
        for Key { id, name, grant, created_at, .. } in &keys {
            output.line(&format!("{id}  {name:width$}  {created_at}  may {grant}"))?;
        }
    }
    output.end()
}

fn revoke(wanted: &str, place: &Place) -> Result<(), Failure> {
    let updated = file::update(&place.data_dir, |keys| {
        let found = keys.iter().position(|key| key.id == wanted || key.name == wanted);
        let found = found.ok_or_else(|| {
            Failure::new(Exit::Failure, format!("there is no key {wanted:?} in {}", place.data_dir.display()))
                .help("`engram key list` has the names and ids of all keys")
        })?;
        Ok((keys.remove(found), keys.len()))
    });
    let (revoked, left) = updated.map_err(|e| of_file(&place.data_dir, &e)).flatten()?;
    let mut output = Output::new();
    if place.json {
        output.json(&KeyView::new(&revoked, None))?;
    } else {
        output.line(&format!("revoked {} {:?}", revoked.id, revoked.name))?;
    }
    if left == 0 {
        say(
            "that was the last key. The server goes on asking for one; to let everybody in, stop it and remove keys.json",
        );
    }
    output.end()
}

/// Beside what is printed, so that a script gets that alone.
fn say(text: &str) {
    // Who has closed it does not want to know.
    drop(writeln!(io::stderr(), "{text}"));
}

/// The file could not be read or written.
pub(crate) fn of_file(data_dir: &Path, error: &io::Error) -> Failure {
    let path = file::path(data_dir);
    let failure = |exit| Failure::new(exit, format!("the keys in {}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::NotFound => failure(Exit::BadDirectory)
            .help("name the directory that the server was started with: --data-dir, or ENGRAM_DATA_DIR"),
        io::ErrorKind::PermissionDenied => failure(Exit::BadDirectory)
            .help("run as the user that owns the data directory, as the server does"),
        _ => failure(Exit::Setting)
            .help("bring it back from a copy; or remove it, which revokes all keys, and make new ones"),
    }
}

fn check_name(what: &str, name: &str) -> Result<(), Failure> {
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(|it: char| it.is_control() || it == '/') {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Usage,
        format!(
            "expected {what} of 1 to {NAME_BYTES_MAX} bytes without / and control characters, got {name:?}"
        ),
    ))
}
