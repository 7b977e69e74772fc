//! The clock, the memory and the open files.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use engram_core::chrono::{DateTime, SecondsFormat, Utc};

use super::finding::Finding;
use crate::{config::StartConfig, files, memory, operator::output::size};

/// How far a clock may be behind what was written by it.
const BEHIND_MAX: Duration = Duration::from_mins(1);

/// When there was no such program yet, in seconds since 1970: 2026-01-01.
const TOO_EARLY: u64 = 1_767_225_600;

/// Files that a server needs open beside its connections.
const OPEN_FILES_MIN: u64 = 256;

/// Whether the clock may be right: times of memories, and their ends, go by it. Durability does not.
pub(super) fn clock(config: &StartConfig) -> Finding {
    let now = SystemTime::now();
    let last_written = config.log_directory().read_dir().ok().and_then(|entries| {
        entries.flatten().filter_map(|entry| entry.metadata().and_then(|it| it.modified()).ok()).max()
    });
    judge(now, last_written)
}

fn judge(now: SystemTime, last_written: Option<SystemTime>) -> Finding {
    let text = |time: SystemTime| DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true);
    let mend = "set it, and let it be kept right (timedatectl set-ntp true): memories without a time of their own get that of \
                the clock, and those with an end go by it";
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if seconds < TOO_EARLY {
        return Finding::failed("clock", format!("{}: it was not set", text(now)), mend);
    }
    match last_written {
        Some(written) if written.duration_since(now).is_ok_and(|behind| behind > BEHIND_MAX) => {
            let found = format!("{}, before the log was last written: {}", text(now), text(written));
            Finding::warning("clock", found, mend)
        }
        _ => Finding::ok("clock", text(now)),
    }
}

/// What memories may take.
pub(super) fn memory(config: &StartConfig) -> Finding {
    let Some(default) = memory::default_limit() else {
        let mend = "set --memory-limit: a store that grows beyond the machine's memory is killed";
        return Finding::warning("memory", "the system does not tell how much there is", mend);
    };
    let found = format!("memories may take {}", size(config.memory_limit));
    if config.memory_limit > default {
        let mend = "lower --memory-limit: requests and the log need room beside the memories, and a process that takes too much \
                    is killed";
        let found = format!("{found}, more than {}, which is 70 % of what there is", size(default));
        return Finding::warning("memory", found, mend);
    }
    Finding::ok("memory", found)
}

/// How many files, and with them connections, there may be.
pub(super) fn open_files() -> Finding {
    let limit = files::raise_limit();
    let found = format!("{limit} may be open");
    if limit < OPEN_FILES_MIN {
        let mend =
            "raise the limit (ulimit -n, or LimitNOFILE of the unit): half of them are for connections";
        return Finding::warning("files", found, mend);
    }
    Finding::ok("files", found)
}

/// Whether a file can be read by others than its owner.
pub(super) fn is_readable_by_others(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_not_set_or_was_set_back_is_found() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let now = at(1_800_000_000);
        assert!(judge(at(5), None).has_failed());
        assert_eq!(judge(now, Some(at(1_800_000_030))), Finding::ok("clock", "2027-01-15T08:00:00Z"));
        let behind = format!("{:?}", judge(now, Some(at(1_800_000_090))));
        assert!(behind.contains("Warning") && behind.contains("2027-01-15T08:01:30Z"), "{behind}");
    }
}
