//! File systems of the kernel on block devices that the test makes: files, behind whatever stands between.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// A file that is a block device, with a file system that is mounted; taken apart when dropped.
pub(crate) struct Mounted {
    device: String,
    mount_point: PathBuf,
    /// Whether the mount point has it now.
    holds: bool,
}

/// Another process that the device needs; ended when dropped, after the device.
pub(crate) struct Daemon {
    child: Child,
    /// What it has mounted through FUSE.
    export: PathBuf,
}

/// Why there can be no such devices here, if there cannot.
pub(crate) fn cannot(programs: &[&str]) -> Option<String> {
    if run("id", &["-u"]).as_deref() != Ok("0") {
        return Some("block devices need root".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("there are no loop devices".to_owned());
    }
    let missing = programs.iter().find(|program| Command::new(program).arg("--version").output().is_err());
    missing.map(|program| format!("{program} is missing"))
}

/// Runs a program of the system; what it printed, or what it said when it failed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!(
            "{program} {arguments:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// Makes an empty file system in a file of so many MiB, most of which are holes.
pub(crate) fn make(kind: &str, image: &Path, mib: u64, options: &[&str]) {
    std::fs::File::create(image).unwrap().set_len(mib << 20).unwrap();
    let quiet = if kind == "btrfs" {
        &["-q", "-f"][..]
    } else if kind == "xfs" {
        &["-q", "-f"]
    } else {
        &["-q", "-F"]
    };
    let arguments = [quiet, options, &[image.to_str().unwrap()]].concat();
    run(&format!("mkfs.{kind}"), &arguments).unwrap();
}

impl Mounted {
    /// Mounts what is in the file.
    pub(crate) fn mount(file: &Path, mount_point: &Path, options: &str) -> Self {
        let device = run("losetup", &["-f", "--show", file.to_str().unwrap()]).unwrap();
        let mut mounted = Self { device, mount_point: mount_point.to_owned(), holds: false };
        mounted.mount_again(options);
        mounted
    }

    /// The name of the device, such as `loop0`.
    pub(crate) fn name(&self) -> &str {
        self.device.trim_start_matches("/dev/")
    }

    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    pub(crate) fn mount_again(&mut self, options: &str) {
        let mount_point = self.mount_point.to_str().unwrap();
        run("mount", &["-o", options, &self.device, mount_point]).unwrap();
        self.holds = true;
    }

    /// Others may hold it for a moment: whoever looks at all mounts does.
    pub(crate) fn unmount(&mut self) {
        for _ in 0..400 {
            if run("umount", &[self.mount_point.to_str().unwrap()]).is_ok() {
                self.holds = false;
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{} is in use", self.mount_point.display());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.holds {
            let mount_point = self.mount_point.to_str().unwrap();
            drop(run("umount", &[mount_point]).or_else(|_| run("umount", &["-l", mount_point])));
        }
        drop(run("losetup", &["-d", &self.device]));
    }
}

impl Daemon {
    /// Starts a program that mounts something on the file `export`, and waits until it has.
    pub(crate) fn start(mut command: Command, export: &Path) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut daemon = Self { child, export: export.to_owned() };
        while !std::fs::metadata(export).is_ok_and(|it| it.len() > 0) {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} ended with {ended:?}");
            thread::sleep(Duration::from_millis(5));
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let export = self.export.to_str().unwrap();
        // The kernel lets go of a loop device some time after it was detached.
        for _ in 0..400 {
            if run("umount", &[export]).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
