//! `keys.json`: the keys of a data directory, as hashes.
//!
//! ```json
//! {"version": 1, "keys": [{
//!     "id": "key_…", "name": "agent", "sha256": "…", "grant": {"spaces": [], "access": "read"}, "created_at": "…"
//! }]}
//! ```
//!
//! It is replaced whole, and is on stable storage when that returns. What it holds opens no door, and yet it is for its
//! owner alone: names and spaces are nobody else's affair.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Key;

const NAME: &str = "keys.json";
const TEMPORARY_NAME: &str = "keys.json.tmp";
const VERSION: u32 = 1;
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Keys of one data directory: each request is compared with all of them.
pub(crate) const KEYS_MAX: usize = 1_000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    keys: Vec<Key>,
}

/// Where the keys of this data directory are.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(NAME)
}

/// Whether there is no such file. What is no directory holds none: that it cannot be a data directory, others say.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// The keys of a data directory; nothing when none was ever made there.
pub(crate) fn read(data_dir: &Path) -> io::Result<Option<Vec<Key>>> {
    let file = match File::open(path(data_dir)) {
        Err(e) if is_missing(&e) => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(invalid(format!("expected at most {FILE_BYTES_MAX} bytes, got more")));
    }
    let Contents { version, keys } = serde_json::from_slice(&bytes).map_err(io::Error::from)?;
    if version != VERSION {
        return Err(invalid(format!("expected version {VERSION}, got {version}")));
    }
    Ok(Some(keys))
}

/// Replaces the keys of a data directory by what `change` makes of them, unless it refuses. One process at a time.
pub(crate) fn update<T, E>(
    data_dir: &Path,
    change: impl FnOnce(&mut Vec<Key>) -> Result<T, E>,
) -> io::Result<Result<T, E>> {
    let directory = File::open(data_dir)?;
    directory.lock()?; // until it is closed
    let mut keys = read(data_dir)?.unwrap_or_default();
    let changed = change(&mut keys);
    if changed.is_ok() {
        write(data_dir, &directory, keys)?;
    }
    Ok(changed)
}

fn write(data_dir: &Path, directory: &File, keys: Vec<Key>) -> io::Result<()> {
    let temporary = data_dir.join(TEMPORARY_NAME);
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {} // left there by a crash, or not there
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let (owner, own) = (directory.metadata()?, file.metadata()?);
    if owner.uid() != own.uid() {
        // Made by root, say, for a server that runs as another user and must read it.
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    let mut bytes = serde_json::to_vec_pretty(&Contents { version: VERSION, keys })?;
    bytes.push(b'\n');
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path(data_dir))?;
    directory.sync_all()
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::keys::{Access, Grant, Sha256Hash};

    fn key(name: &str) -> Key {
        Key {
            id: format!("key_{name}"),
            name: name.to_owned(),
            sha256: Sha256Hash::of(name.as_bytes()),
            grant: Grant { spaces: vec!["a".to_owned()], access: Access::Read },
            created_at: "2026-03-01T09:30:00Z".to_owned(),
        }
    }

    fn add(data_dir: &Path, name: &str) {
        let added = update(data_dir, |keys| {
            keys.push(key(name));
            Ok::<_, ()>(())
        });
        added.unwrap().unwrap();
    }

    #[test]
    fn keys_are_read_as_they_were_written_and_by_their_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read(directory.path()).unwrap().is_none());
        fs::write(directory.path().join(TEMPORARY_NAME), "half a fi").unwrap(); // of a crash
        add(directory.path(), "one");
        add(directory.path(), "other");
        let keys = read(directory.path()).unwrap().unwrap();
        assert_eq!(keys.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["one", "other"]);
        assert_eq!(keys[0].grant, key("one").grant);
        let mode = fs::metadata(path(directory.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!directory.path().join(TEMPORARY_NAME).exists());
    }

    #[test]
    fn what_is_not_understood_whole_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        add(directory.path(), "one");
        let good = fs::read_to_string(path(directory.path())).unwrap();
        for (what, text) in [
            ("nothing", String::new()),
            ("half of it", good[..good.len() / 2].to_owned()),
            ("another version", good.replace("\"version\": 1", "\"version\": 2")),
            ("a field that may narrow it", good.replace("\"name\"", "\"expires\": \"2020\", \"name\"")),
            ("no access", good.replace("\"access\"", "\"may\"")),
            ("another access", good.replace("\"read\"", "\"all\"")),
            ("no spaces", good.replace("\"spaces\"", "\"sp\"")),
        ] {
            assert_ne!(text, good, "{what}");
            fs::write(path(directory.path()), text).unwrap();
            assert!(read(directory.path()).is_err(), "{what}");
            assert!(update(directory.path(), |_| Ok::<_, ()>(())).is_err(), "{what}");
        }
        fs::write(path(directory.path()), good).unwrap();
        assert!(read(directory.path()).is_ok());
    }
}
