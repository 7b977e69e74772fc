//! Where a test ran.

use std::{fs, path::Path, thread};

use rustix::system::uname;

/// The processor and the memory, without the machine's name.
pub(super) fn describe() -> String {
    let cpu = first_value("/proc/cpuinfo", "model name").map_or(String::new(), |model| format!("{model}, "));
    let memory = first_value("/proc/meminfo", "MemTotal")
        .and_then(|kib| kib.split_whitespace().next()?.parse::<f64>().ok())
        .map_or(String::new(), |kib| format!(", {:.1} GiB of memory", kib / f64::from(1 << 20)));
    format!("{cpu}{}{memory}", std::env::consts::ARCH)
}

pub(super) fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

pub(super) fn kernel() -> String {
    let names = uname();
    format!("{} {}", names.sysname().to_string_lossy(), names.release().to_string_lossy())
}

/// The type and the device of the file system that has `path`.
pub(super) fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    file_system_of(&mounts, &path).unwrap_or_else(|| "unknown".to_owned())
}

/// Reads it from the lines of `mountinfo` (proc(5)). Of two mounts at one place the later one is seen.
fn file_system_of(mounts: &str, path: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mount_point = place.split(' ').nth(4)?.replace("\\040", " ");
        let mut kind = kind.split(' ');
        let (name, device) = (kind.next()?, kind.next()?);
        path.starts_with(&mount_point).then(|| (mount_point.len(), format!("{name} ({device})")))
    });
    mounts.max_by_key(|(len, _)| *len).map(|(_, file_system)| file_system)
}

fn first_value(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (_, value) =
        text.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.trim() == key))?;
    Some(value.trim().to_owned())
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
32 22 0:7 / /my\\040disk rw - btrfs /dev/vdc rw";
        let of = |path: &str| file_system_of(mounts, Path::new(path));
        assert_eq!(of("/data/x").as_deref(), Some("xfs (/dev/vdb)"));
        assert_eq!(of("/database").as_deref(), Some("ext4 (/dev/vda)"));
        assert_eq!(of("/my disk/x").as_deref(), Some("btrfs (/dev/vdc)"));
    }
}
