//! The data directory: whether it can be used, who uses it, the disk under it, and the log in it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant},
};

use rustix::fs::statvfs;

use super::finding::Finding;
use crate::{
    config::StartConfig,
    operator::{holder as holder_of, output::size},
    system::FileSystem,
};

/// With less than this a disk is soon full.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// A sync that takes longer makes each write of one client as slow.
const SYNC_SLOW: Duration = Duration::from_millis(20);

/// No disk has got a block faster: it was not asked to.
const SYNC_TOO_FAST: Duration = Duration::from_micros(8);

/// How many syncs are tried, for how long at most.
const SYNCS: usize = 32;
const SYNC_TIME_MAX: Duration = Duration::from_secs(3);

/// One block of a disk.
const BLOCK: [u8; 4096] = [0x65; 4096];

/// The directory, and what is under it.
pub(super) fn directory(config: &StartConfig) -> Vec<Finding> {
    let wanted = &config.data_dir;
    if let Some(finding) = unusable(wanted) {
        return vec![finding];
    }
    let existing = nearest(wanted);
    if existing != *wanted && Some(&*existing) != wanted.parent() {
        let found = format!("{} is not there, nor is the directory that it would be in", wanted.display());
        let mend = format!("make {}, or name another with --data-dir", wanted.display());
        return vec![Finding::failed("directory", found, mend)];
    }
    let is_new = existing != *wanted;
    let file_system = FileSystem::of(&existing);
    let on = file_system.as_ref().map_or_else(String::new, |it| format!(", on {}", it.kind));
    let found = if is_new {
        format!("{} will be made by the first start{on}", wanted.display())
    } else {
        format!("{}{on}", wanted.display())
    };
    let mut findings = vec![match file_system.as_ref().and_then(|it| trouble(&it.kind)) {
        None => Finding::ok("directory", found),
        Some((trouble, mend)) => Finding::warning("directory", format!("{found}: {trouble}"), mend),
    }];
    match try_syncs(&existing) {
        Ok(syncs) => findings.push(speed(&syncs)),
        Err(e) => findings.push(cannot_write(&existing, &e)),
    }
    findings.push(space(&existing));
    findings
}

/// What is there and is no directory that this user may use.
fn unusable(wanted: &Path) -> Option<Finding> {
    let mend = "choose another --data-dir, or run as the user that may use it";
    match fs::metadata(wanted) {
        Ok(metadata) if !metadata.is_dir() => {
            Some(Finding::failed("directory", format!("{} is no directory", wanted.display()), mend))
        }
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Some(Finding::failed("directory", format!("{}: {e}", wanted.display()), mend))
        }
        _ => None,
    }
}

/// The directory itself, or the first above it that is there.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(path).to_path_buf()
}

fn cannot_write(directory: &Path, error: &io::Error) -> Finding {
    let mend = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "run as the user that owns the directory, or give this one access (chown)".to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount the file system for writing, or choose another --data-dir".to_owned()
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space: a server that ran out of it goes on by itself, one that was started without has to be restarted".to_owned()
        }
        _ => "the system's log may say what is wrong with the disk".to_owned(),
    };
    Finding::failed("disk", format!("cannot write in {}: {error}", directory.display()), mend)
}

/// How long each of some writes takes until it is on the disk.
fn try_syncs(directory: &Path) -> io::Result<Vec<Duration>> {
    let path = directory.join(format!(".engram-doctor-{}", process::id()));
    let mut file = File::options().write(true).create_new(true).open(&path)?;
    let tried = time_syncs(&mut file);
    drop(file);
    let removed = fs::remove_file(&path);
    let mut syncs = tried?;
    removed?;
    syncs.sort_unstable();
    Ok(syncs)
}

fn time_syncs(file: &mut File) -> io::Result<Vec<Duration>> {
    let until = Instant::now() + SYNC_TIME_MAX;
    let mut syncs = Vec::with_capacity(SYNCS);
    while syncs.len() < SYNCS && (syncs.is_empty() || Instant::now() < until) {
        file.write_all(&BLOCK)?;
        let began = Instant::now();
        file.sync_data()?;
        syncs.push(began.elapsed());
    }
    Ok(syncs)
}

fn speed(syncs: &[Duration]) -> Finding {
    let (median, worst) =
        (syncs.get(syncs.len() / 2).copied().unwrap_or_default(), syncs.last().copied().unwrap_or_default());
    let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
    let found = format!("a sync takes {}, {} at most of {}", ms(median), ms(worst), syncs.len());
    if median < SYNC_TOO_FAST {
        let mend = "a power loss may take what was acknowledged: keep the data on a disk that writes when it is told to";
        return Finding::warning("disk", format!("{found}: it is not waited for any disk"), mend);
    }
    if median > SYNC_SLOW {
        let mend = "each write of one client takes as long: write in batches or with many clients, choose a faster disk, or \
                    --fsync timer=50ms where losing the last 50 ms to a power loss is bearable";
        return Finding::warning("disk", format!("{found}: slow"), mend);
    }
    Finding::ok("disk", found)
}

fn space(directory: &Path) -> Finding {
    let disk = match statvfs(directory) {
        Ok(disk) => disk,
        Err(e) => {
            let found = format!("cannot be told: {e}");
            return Finding::warning("space", found, "look at it with df");
        }
    };
    let (free, total) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
    let found = format!("{} free of {}", size(free), size(total));
    // A file system without a number of its own has no bound for it.
    if disk.f_files > 0 && disk.f_favail == 0 {
        return Finding::failed(
            "space",
            format!("{found}, and no file more"),
            "remove files that nobody needs",
        );
    }
    if free < FREE_BYTES_MIN {
        let mend = "free some: writes are refused when there is none, and a snapshot needs room beside the one before";
        return Finding::warning("space", found, mend);
    }
    Finding::ok("space", found)
}

/// What is wrong with a file system of this kind, and what to do.
fn trouble(kind: &str) -> Option<(&'static str, &'static str)> {
    match kind {
        "tmpfs" | "ramfs" => {
            Some(("it is in memory, and gone with the machine's power", "choose a --data-dir on a disk"))
        }
        "overlay" | "aufs" => Some((
            "it is in a container's own layer, and gone with the container",
            "mount a volume there, and let --data-dir be in it",
        )),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" | "glusterfs" => Some((
            "it is on another machine: locks and syncs are as good as that one and the way to it",
            "choose a --data-dir on a disk of this machine",
        )),
        _ => None,
    }
}

/// Who has the directory.
pub(super) struct Holder {
    pub(super) is_held: bool,
    pub(super) finding: Option<Finding>,
}

pub(super) fn holder(config: &StartConfig) -> Holder {
    let directory = config.log_directory();
    if !directory.is_dir() {
        return Holder { is_held: false, finding: None };
    }
    match holder_of(&directory) {
        Ok(Some(pid)) => {
            let finding = Finding::ok("lock", format!("process {pid} has the directory"));
            Holder { is_held: true, finding: Some(finding) }
        }
        Ok(None) => Holder { is_held: false, finding: Some(Finding::ok("lock", "nobody has the directory")) },
        Err(failure) => Holder { is_held: false, finding: Some(Finding::of_failure("lock", &failure)) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_keeps_nothing_here_is_warned_of() {
        assert!(trouble("nfs4").is_some());
        assert!(trouble("ext4").is_none());
    }

    #[test]
    fn a_disk_is_slow_or_does_not_sync_or_is_well() {
        let of = |micros: u64| speed(&[Duration::from_micros(micros); 3]);
        assert_eq!(of(400), Finding::ok("disk", "a sync takes 0.40 ms, 0.40 ms at most of 3"));
        for (micros, expected) in [(2, "not waited for"), (30_000, "slow")] {
            let finding = format!("{:?}", of(micros));
            assert!(finding.contains("Warning") && finding.contains(expected), "{finding}");
        }
    }

    #[test]
    fn a_try_of_the_disk_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let syncs = try_syncs(directory.path()).unwrap();
        assert!(!syncs.is_empty() && syncs.is_sorted());
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }
}
