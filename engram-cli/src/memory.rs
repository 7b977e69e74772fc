//! How much memory this process may use.

use std::fs;

/// The share of it that memories may take: the rest is for requests, for what is on its way to the log, and for the
/// error of the estimate.
const SHARE_PERCENT: u64 = 70;

/// What memories may take if nobody says otherwise: a share of what the machine has, or of what its control group gives.
/// Nothing where the system does not tell.
pub(crate) fn default_limit() -> Option<u64> {
    let limits = [
        of_machine(&fs::read_to_string("/proc/meminfo").ok()?),
        of_group("/sys/fs/cgroup/memory.max"),
        of_group("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        own_group(),
    ];
    limits.into_iter().flatten().min().map(|bytes| bytes / 100 * SHARE_PERCENT)
}

fn of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// The group that the process is in, where its name shows on this side: not in a container, whose root is its group.
fn own_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limit = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        match (fields.next()?, fields.next()?) {
            ("", path) => of_group(&format!("/sys/fs/cgroup{path}/memory.max")),
            (kinds, path) if kinds.split(',').any(|kind| kind == "memory") => {
                of_group(&format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"))
            }
            _ => None,
        }
    };
    groups.lines().filter_map(limit).min()
}

/// `max` is no number, and no limit.
fn of_group(file: &str) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_machine_is_read() {
        let meminfo = "MemTotal:       24612345 kB\nMemFree:        1 kB\n";
        assert_eq!(of_machine(meminfo), Some(24_612_345 << 10));
        assert_eq!(of_machine("nothing of that kind"), None);
        assert!(default_limit().is_none_or(|limit| limit > 1 << 20));
    }
}
