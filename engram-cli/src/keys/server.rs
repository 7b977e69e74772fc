//! What a running server knows of its keys: that of its environment, and those of a file that may change any time.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use subtle::ConstantTimeEq as _;
use tracing::{error, info};

use super::{Grant, Key, Sha256Hash, file, find};
use crate::files::Version;

/// How often a request looks whether the file has changed: a key that is revoked works for so long at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The name of the key of the environment.
const ROOT: &str = "root";

/// The keys of a server.
#[derive(Debug)]
pub(crate) struct ServerKeys {
    data_dir: PathBuf,
    root: Option<Sha256Hash>,
    /// Once a key was asked for, one is asked for until the end: what happens to the file opens no door.
    required: AtomicBool,
    read: RwLock<Arc<Read>>,
    looked: Mutex<Instant>,
}

/// What was read of the file.
#[derive(Debug)]
struct Read {
    /// The file it is of; nothing when there was none.
    version: Option<Version>,
    /// Or why they could not be read: then none of them opens anything.
    keys: Result<Vec<Key>, String>,
}

/// Who is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Of the key; nothing where none is asked for.
    pub(crate) key: Option<String>,
    pub(crate) grant: Grant,
}

/// Why somebody is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// A key is asked for, and none came.
    NoKey,
    /// None of the keys, or no more.
    UnknownKey,
    /// The keys cannot be read.
    Unreadable,
}

impl ServerKeys {
    /// The keys in this data directory, which need not exist, and that of the environment. They are required when there
    /// are any, or `always`.
    ///
    /// # Errors
    /// When the file cannot be read, or is not understood.
    pub(crate) fn open(data_dir: &Path, root: Option<Sha256Hash>, always: bool) -> io::Result<Self> {
        let looked = Mutex::new(Instant::now());
        let version = version(data_dir)?;
        // A file without keys is one whose keys were all revoked.
        let keys = file::read(data_dir)?;
        let required = AtomicBool::new(always || root.is_some() || keys.is_some());
        let read = RwLock::new(Arc::new(Read { version, keys: Ok(keys.unwrap_or_default()) }));
        Ok(Self { data_dir: data_dir.to_path_buf(), root, required, read, looked })
    }

    /// Whether there is any.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none() && matches!(&self.now().keys, Ok(keys) if keys.is_empty())
    }

    /// Whether requests need a key.
    pub(crate) fn are_required(&self) -> bool {
        self.look();
        self.required.load(Relaxed)
    }

    /// Who has sent the secret with this hash.
    pub(crate) fn admit(&self, hash: Option<&Sha256Hash>) -> Result<Holder, Stranger> {
        if !self.are_required() {
            return Ok(Holder { key: None, grant: Grant::ALL });
        }
        let hash = hash.ok_or(Stranger::NoKey)?;
        if self.root.is_some_and(|root| root.ct_eq(hash).into()) {
            return Ok(Holder { key: Some(ROOT.to_owned()), grant: Grant::ALL });
        }
        let read = self.now();
        let keys = read.keys.as_ref().map_err(|_| Stranger::Unreadable)?;
        let key = find(keys, hash).ok_or(Stranger::UnknownKey)?;
        Ok(Holder { key: Some(key.name.clone()), grant: key.grant.clone() })
    }

    fn now(&self) -> Arc<Read> {
        Arc::clone(&self.read.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again if it has changed. One request at a time looks; others go on with what is known, so that a
    /// disk that hangs keeps one of them.
    fn look(&self) {
        let Ok(mut looked) = self.looked.try_lock() else { return };
        if looked.elapsed() >= LOOK_INTERVAL {
            self.reload();
            *looked = Instant::now();
        }
    }

    fn reload(&self) {
        let before = self.now();
        // Looked at before it is read: a change in between is seen the next time.
        let version = version(&self.data_dir);
        if before.keys.is_ok() && version.as_ref().is_ok_and(|version| *version == before.version) {
            return;
        }
        let path = file::path(&self.data_dir);
        let read = match version.and_then(|version| Ok((version, file::read(&self.data_dir)?))) {
            Ok((version, keys)) => {
                if keys.is_some() {
                    self.required.store(true, Relaxed);
                }
                let keys = keys.unwrap_or_default();
                info!(keys = keys.len(), "{} has changed, and is read", path.display());
                Read { version, keys: Ok(keys) }
            }
            Err(error) => {
                self.required.store(true, Relaxed);
                let reason = error.to_string();
                if before.keys.as_ref().err() != Some(&reason) {
                    error!("{} cannot be read, and no key in it is let in: {reason}", path.display());
                }
                Read { version: None, keys: Err(reason) }
            }
        };
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
    }
}

/// Nothing when there is no file.
fn version(data_dir: &Path) -> io::Result<Option<Version>> {
    match Version::of(&file::path(data_dir)) {
        Err(e) if file::is_missing(&e) => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::keys::Access;

    fn change(data_dir: &Path, change: impl FnOnce(&mut Vec<Key>)) {
        let changed = file::update(data_dir, |keys| {
            change(keys);
            Ok::<_, ()>(())
        });
        changed.unwrap().unwrap();
    }

    fn add(data_dir: &Path, name: &str) {
        let grant = Grant { spaces: Vec::new(), access: Access::Read };
        let sha256 = Sha256Hash::of(name.as_bytes());
        let key = Key { id: name.into(), name: name.into(), sha256, grant, created_at: String::new() };
        change(data_dir, |keys| keys.push(key));
    }

    fn who(keys: &ServerKeys, secret: &str) -> Result<Option<String>, Stranger> {
        keys.admit(Some(&Sha256Hash::of(secret.as_bytes()))).map(|holder| holder.key)
    }

    #[test]
    fn without_any_key_everybody_is_let_in_until_there_is_one_and_never_again() {
        let directory = tempfile::tempdir().unwrap();
        let keys = ServerKeys::open(directory.path(), None, false).unwrap();
        let anybody = Holder { key: None, grant: Grant::ALL };
        assert!(keys.is_empty());
        assert_eq!(keys.admit(None).as_ref(), Ok(&anybody));
        add(directory.path(), "one");
        keys.reload();
        assert_eq!((keys.admit(None), who(&keys, "two")), (Err(Stranger::NoKey), Err(Stranger::UnknownKey)));
        assert_eq!(who(&keys, "one"), Ok(Some("one".to_owned())));
        // Gone, or revoked: the door stays shut.
        fs::remove_file(file::path(directory.path())).unwrap();
        keys.reload();
        assert_eq!((keys.admit(None), who(&keys, "one")), (Err(Stranger::NoKey), Err(Stranger::UnknownKey)));
        add(directory.path(), "two");
        change(directory.path(), Vec::clear);
        let keys = ServerKeys::open(directory.path(), None, false).unwrap();
        assert_eq!((keys.is_empty(), keys.admit(None)), (true, Err(Stranger::NoKey)));
    }

    #[test]
    fn a_file_that_cannot_be_read_keeps_its_keys_out_and_the_root_in() {
        let directory = tempfile::tempdir().unwrap();
        add(directory.path(), "one");
        let keys = ServerKeys::open(directory.path(), Some(Sha256Hash::of(b"root")), false).unwrap();
        assert_eq!(who(&keys, "one"), Ok(Some("one".to_owned())));
        let good = fs::read(file::path(directory.path())).unwrap();
        fs::write(file::path(directory.path()), "{").unwrap();
        keys.reload();
        assert_eq!(who(&keys, "one"), Err(Stranger::Unreadable));
        assert_eq!(who(&keys, "root"), Ok(Some("root".to_owned())));
        assert!(ServerKeys::open(directory.path(), None, false).is_err());
        fs::write(file::path(directory.path()), good).unwrap();
        keys.reload();
        assert_eq!(who(&keys, "one"), Ok(Some("one".to_owned())));
    }
}
