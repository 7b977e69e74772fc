//! A real file system in a file, mounted by the kernel, whose power can be cut.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::geteuid;

use super::{
    directory::{IMAGE, MOUNT_POINT},
    emergency::{Emergency, unmount_when_free},
    going_down,
};
use crate::exit::{Exit, Failure};

/// The size of the image. XFS wants 300 MiB. The file has holes: it takes what is used of it.
const IMAGE_BYTES: u64 = 384 << 20;

/// How long somebody else may keep it from being unmounted, and how often that is tried.
const UNMOUNT_TIME_MAX: Duration = Duration::from_secs(5);
const UNMOUNT_RETRY: Duration = Duration::from_millis(20);

/// The file systems that can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileSystem {
    Ext4,
    Xfs,
}

/// A mounted image; unmounted when dropped. The kernel detaches its loop device with it.
#[derive(Debug)]
pub(super) struct LoopDisk {
    image: PathBuf,
    mount_point: PathBuf,
    is_mounted: bool,
    emergency: Emergency,
}

impl LoopDisk {
    /// Makes an image in `directory` and mounts it there.
    pub(super) fn make(directory: &Path, kind: FileSystem, emergency: &Emergency) -> Result<Self, Failure> {
        if !geteuid().is_root() {
            return Err(cannot("it needs root, to mount a file system"));
        }
        let mut disk = Self {
            image: directory.join(IMAGE),
            mount_point: directory.join(MOUNT_POINT),
            emergency: emergency.clone(),
            is_mounted: false,
        };
        let made = File::create(&disk.image).and_then(|image| image.set_len(IMAGE_BYTES));
        made.and_then(|()| fs::create_dir(&disk.mount_point)).map_err(|e| {
            Failure::new(Exit::BadDirectory, format!("cannot make a disk in {}: {e}", directory.display()))
        })?;
        let image = disk.image.as_os_str();
        match kind {
            FileSystem::Ext4 => run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image]),
            FileSystem::Xfs => run("mkfs.xfs", &["-q".as_ref(), "-f".as_ref(), image]),
        }
        .map_err(cannot)?;
        disk.mount().map_err(cannot)?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub(super) fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Cuts the power, and gives it back: what was not synced is gone. Nobody may be writing: a sync that overlaps the cut
    /// can return although its data are gone, which is a fault of this way to cut and none of a disk.
    pub(super) fn cut(&mut self) -> Result<(), Failure> {
        let cut =
            going_down::cut(&self.mount_point).map_err(|e| format!("the file system did not go down: {e}"));
        cut.and_then(|()| self.unmount()).and_then(|()| self.mount()).map_err(|reason| {
            Failure::new(Exit::Failure, format!("cannot cut the power of {}: {reason}", self.image.display()))
        })
    }

    fn mount(&mut self) -> Result<(), String> {
        self.emergency.set_mount(Some(&self.mount_point));
        let arguments =
            ["-o".as_ref(), "loop".as_ref(), self.image.as_os_str(), self.mount_point.as_os_str()];
        let mounted = run("mount", &arguments);
        self.is_mounted = mounted.is_ok();
        if !self.is_mounted {
            self.emergency.set_mount(None);
        }
        mounted
    }

    /// Others may hold it for a moment: whoever looks at all mounts does.
    fn unmount(&mut self) -> Result<(), String> {
        let until = Instant::now() + UNMOUNT_TIME_MAX;
        loop {
            match run("umount", &[self.mount_point.as_os_str()]) {
                Ok(()) => break,
                Err(reason) if Instant::now() > until => return Err(reason),
                Err(_) => sleep(UNMOUNT_RETRY),
            }
        }
        self.is_mounted = false;
        self.emergency.set_mount(None);
        Ok(())
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        if self.is_mounted && self.unmount().is_err() {
            unmount_when_free(&self.mount_point);
        }
    }
}

/// Runs a program of the system; what it said, when it fails.
fn run(program: &str, arguments: &[&OsStr]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    // Ctrl-C in a terminal is for the test, which waits for this to end.
    command.process_group(0);
    let output = command.output().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => format!("{program} is missing"),
        _ => format!("{program}: {e}"),
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{program} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim_end()
    ))
}

fn cannot(reason: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Setting, format!("cannot cut the power of a file system here: {reason}"))
        .help("--power-cut none works without: it kills the server, and leaves the disk alone")
}
