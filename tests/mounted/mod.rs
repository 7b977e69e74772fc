//! The simulated disk, mounted: an unchanged server runs on it, and its power can be cut.
//!
//! Each directory of the mounted file system is a simulated disk of its own. What is in a file and what is named in a
//! directory lasts as the simulated disk says; the directories themselves are always durable. A second name of a file is a
//! durable copy of it. The kernel keeps nothing back: reads and writes are direct, and names and attributes are asked for
//! each time.

pub(crate) mod clients;
mod file_system;
mod tree;

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use file_system::{CUT, Mounted};
use fuser::{BackgroundSession, Config, MountOption};
use tree::Tree;

/// A mounted simulated disk; unmounted when dropped.
pub(crate) struct MountedDisk {
    path: PathBuf,
    tree: Arc<Mutex<Tree>>,
    session: Option<BackgroundSession>,
}

impl MountedDisk {
    /// Mounts an empty one, whose losses follow from `seed`.
    pub(crate) fn mount(path: &Path, seed: u64) -> io::Result<Self> {
        let tree = Arc::new(Mutex::new(Tree::new(seed)));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("engram-simulated".to_owned())];
        let session = fuser::spawn_mount(Mounted(Arc::clone(&tree)), path, &config)?;
        Ok(Self { path: path.to_owned(), tree, session: Some(session) })
    }

    /// A shell command that cuts the power. Each fourth time it does nothing: what was killed comes back to its cache, and
    /// the cut after the next start finds what that start has left unsynced.
    pub(crate) fn cut_command(&self) -> String {
        format!("! test -e '{}'", self.path.join(CUT).display())
    }

    /// How often the power was cut.
    pub(crate) fn cuts(&self) -> u64 {
        lock(&self.tree).cuts
    }

    /// What is done to it beside the file system: faults, a cut while nobody looks.
    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.tree)
    }
}

impl Drop for MountedDisk {
    fn drop(&mut self) {
        // Of two ways the second always works: it takes the mount out of sight, and the session ends with its last user.
        let unmounted = Command::new("umount").arg(&self.path).output().is_ok_and(|it| it.status.success());
        if !unmounted {
            drop(Command::new("umount").arg("-l").arg(&self.path).output());
        }
        if let Some(session) = self.session.take().filter(|_| unmounted) {
            drop(session.join());
        }
    }
}

fn lock(tree: &Mutex<Tree>) -> MutexGuard<'_, Tree> {
    tree.lock().unwrap_or_else(PoisonError::into_inner)
}
