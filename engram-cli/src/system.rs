//! What this process runs on: the kernel, and the file system under a path.

use std::{fmt, fs, path::Path};

use rustix::system::uname;

/// The kernel's name and release, without the machine's name.
pub(crate) fn kernel() -> String {
    let names = uname();
    format!("{} {}", names.sysname().to_string_lossy(), names.release().to_string_lossy())
}

/// A mounted file system: `ext4 (/dev/vda)`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileSystem {
    pub(crate) kind: String,
    device: String,
}

impl FileSystem {
    /// The one that this path is in; nothing where the system does not tell.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Self::find(&fs::read_to_string("/proc/self/mountinfo").ok()?, &path)
    }

    /// Reads it from the lines of `mountinfo` (proc(5)). Of two mounts at one place the later one is seen.
    fn find(mounts: &str, path: &Path) -> Option<Self> {
        let mounts = mounts.lines().filter_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let mount_point = place.split(' ').nth(4)?.replace("\\040", " ");
            let mut kind = kind.split(' ').map(str::to_owned);
            let (kind, device) = (kind.next()?, kind.next()?);
            path.starts_with(&mount_point).then_some((mount_point.len(), Self { kind, device }))
        });
        mounts.max_by_key(|(len, _)| *len).map(|(_, file_system)| file_system)
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kind, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_and_latest_mount_has_a_path() {
        let mounts = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:5 / /data rw - tmpfs tmpfs rw
31 22 0:6 / /data rw shared:1 - xfs /dev/vdb rw
32 22 0:7 / /my\\040disk rw - btrfs /dev/vdc rw
33 22 0:6 / /with\\040space rw shared:1 - nfs4 host:/x rw";
        let found = |path: &str| FileSystem::find(mounts, Path::new(path)).unwrap();
        let of = |path: &str| Some(found(path).to_string());
        assert_eq!(of("/data/x").as_deref(), Some("xfs (/dev/vdb)"));
        assert_eq!(of("/database").as_deref(), Some("ext4 (/dev/vda)"));
        assert_eq!(of("/my disk/x").as_deref(), Some("btrfs (/dev/vdc)"));
        let kind = |path: &str| found(path).kind;
        assert_eq!([kind("/data/x"), kind("/database"), kind("/with space/y")], ["xfs", "ext4", "nfs4"]);
    }
}
