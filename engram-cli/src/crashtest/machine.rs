//! Where a test ran.

use std::{fs, path::Path, thread};

use crate::system::FileSystem;

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

/// The type and the device of the file system that has `path`.
pub(super) fn file_system(path: &Path) -> String {
    FileSystem::of(path).map_or_else(|| "unknown".to_owned(), |it| it.to_string())
}

fn first_value(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (_, value) =
        text.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.trim() == key))?;
    Some(value.trim().to_owned())
}
