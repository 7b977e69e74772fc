//! All block writes and flushes of a real file system under the real server are recorded; then crash images are made of the
//! record: all that was flushed, and of the rest any subset. On each of them the server finds what it had acknowledged.
//!
//! `ENGRAM_REPLAYS` and `ENGRAM_XFS_REPLAYS` say how many images, `ENGRAM_SEED` repeats the choices.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what was tried, or why a test was skipped")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/block_device.rs"]
mod block_device;
#[path = "support/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;
#[path = "support/skip.rs"]
mod skip;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
};

use block_device::{Daemon, Mounted, make, run};
use random::{Random, count, seed};
use serde_json::json;
use server::{Server, command};

const SECTOR: usize = 512;

/// Changes that are acknowledged while all is recorded.
const ACKNOWLEDGED: usize = 150;

/// The log of the record, as the kernel's dm-log-writes has it: a head, and entries of a sector and its data.
struct Record {
    file: File,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Where in the device, and how much, in bytes.
    at: u64,
    len: usize,
    /// Where its data are in the record.
    data_at: u64,
    is_flush: bool,
    is_discard: bool,
}

/// How many entries the record has by now.
fn entries(record: &File) -> u64 {
    let mut count = [0; 8];
    record.read_exact_at(&mut count, 16).unwrap();
    u64::from_le_bytes(count)
}

impl Record {
    fn read(path: &Path) -> Self {
        const FLUSH: u64 = 1;
        const DISCARD: u64 = 4;
        let file = File::open(path).unwrap();
        let mut at = SECTOR as u64;
        let read = (0..entries(&file)).map(|_| {
            let mut head = [0; 32];
            file.read_exact_at(&mut head, at).unwrap();
            let field = |n: usize| u64::from_le_bytes(head[n * 8..][..8].try_into().unwrap());
            let (sector, sectors, flags) = (field(0), field(1), field(2));
            let len = usize::try_from(sectors).unwrap() * SECTOR;
            let is_discard = flags & DISCARD != 0;
            let entry = Entry {
                at: sector * SECTOR as u64,
                len,
                data_at: at + SECTOR as u64,
                is_flush: flags & FLUSH != 0,
                is_discard,
            };
            at += SECTOR as u64 + if is_discard { 0 } else { len as u64 };
            entry
        });
        let entries = read.collect();
        Self { file, entries }
    }

    /// Writes an entry into an image.
    fn apply(&self, entry: &Entry, image: &File) {
        let mut data = vec![0; entry.len];
        if !entry.is_discard {
            self.file.read_exact_at(&mut data, entry.data_at).unwrap();
        }
        image.write_all_at(&data, entry.at).unwrap();
    }
}

/// What was stored, and how many entries the record had when that was acknowledged.
type Acknowledged = BTreeMap<String, u64>;

fn content(id: &str) -> String {
    format!("{id} ").repeat(150)
}

/// Runs the server on a file system of this kind until it has acknowledged enough, and kills it.
fn record(directory: &Path, kind: &str, mib: u64, defect: Option<&str>) -> (PathBuf, Record, Acknowledged) {
    let path = |name: &str| directory.join(name);
    let (disk, log, export, mount_point) = (path("disk.img"), path("log.img"), path("export"), path("mnt"));
    make(kind, &disk, mib, &[]);
    fs::copy(&disk, path("base.img")).unwrap();
    File::create(&log).unwrap().set_len(1 << 30).unwrap();
    File::create(&export).unwrap();
    fs::create_dir(&mount_point).unwrap();
    let mut daemon = Command::new("qemu-storage-daemon");
    daemon.arg("--blockdev").arg(format!("driver=file,node-name=disk,filename={}", disk.display()));
    daemon.arg("--blockdev").arg(format!("driver=file,node-name=log,filename={}", log.display()));
    daemon.arg("--blockdev").arg(
        "driver=blklogwrites,node-name=both,file=disk,log=log,log-sector-size=512,log-super-update-interval=1",
    );
    let export_as = format!("type=fuse,id=export,node-name=both,mountpoint={},writable=on", export.display());
    let daemon = Daemon::start(
        {
            daemon.arg("--export").arg(export_as);
            daemon
        },
        &export,
    );
    let mounted = Mounted::mount(&export, &mount_point, "noatime");
    let record = File::open(&log).unwrap();
    let mut start = command(&mount_point.join("data"), &[]);
    start.envs(defect.map(|defect| ("ENGRAM_PLANTED_DEFECT", defect)));
    let server = Server::spawn(start);
    let acknowledged = Mutex::new(Acknowledged::new());
    thread::scope(|scope| {
        for client in 0..16 {
            let (server, acknowledged, record) = (&server, &acknowledged, &record);
            scope.spawn(move || {
                for n in 0.. {
                    let id = format!("{client}-{n}");
                    server.post("/v1/memories", &json!({"id": id, "content": content(&id)})).expect(201);
                    let position = entries(record);
                    let mut acknowledged = acknowledged.lock().unwrap();
                    acknowledged.insert(id, position);
                    if acknowledged.len() >= ACKNOWLEDGED {
                        return;
                    }
                }
            });
        }
    });
    server.kill();
    drop((mounted, daemon));
    (path("base.img"), Record::read(&log), acknowledged.into_inner().unwrap())
}

/// Makes so many crash images and starts the server on each; the first loss, if there is one, and after how many images.
fn replay(kind: &str, mib: u64, images: u64, defect: Option<&str>) -> Result<String, (u64, String)> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (durable, record, acknowledged) = record(directory.path(), kind, mib, defect);
    let mut random = Random::new(seed());
    let first = *acknowledged.values().min().unwrap();
    let last = record.entries.len() as u64;
    let mut positions: Vec<u64> = (0..images).map(|_| first + random.below(last - first + 1)).collect();
    positions.sort_unstable();
    let durable_image = File::options().write(true).open(&durable).unwrap();
    let (crash, mount_point) = (directory.path().join("crash.img"), directory.path().join("mnt"));
    let mut flushed = 0;
    for (tried, &position) in (1..).zip(&positions) {
        let before = &record.entries[..usize::try_from(position).unwrap()];
        let safe = before.iter().rposition(|entry| entry.is_flush).map_or(0, |at| at + 1).max(flushed);
        for entry in &before[flushed..safe] {
            record.apply(entry, &durable_image);
        }
        flushed = safe;
        run("cp", &["--sparse=always", durable.to_str().unwrap(), crash.to_str().unwrap()]).unwrap();
        let image = File::options().write(true).open(&crash).unwrap();
        // Any of the others, in any order. Each is whole: a superblock that is torn is more than the file systems bear.
        let mut rest: Vec<&Entry> = before[safe..].iter().filter(|_| random.below(2) == 0).collect();
        for at in (1..rest.len()).rev() {
            rest.swap(at, usize::try_from(random.below(at as u64 + 1)).unwrap());
        }
        for entry in rest {
            record.apply(entry, &image);
        }
        drop(image);
        let _mounted = Mounted::mount(&crash, &mount_point, "noatime");
        let context = format!("{kind}, image {tried}, at entry {position} of {last}");
        check(&mount_point.join("data"), &acknowledged, position)
            .map_err(|loss| (tried, format!("{context}: {loss}")))?;
    }
    Ok(format!("{images} images of {kind} from {last} entries, {} acknowledged, 0 lost", acknowledged.len()))
}

/// All that was acknowledged before the crash is there, and all that is there is whole.
fn check(data_dir: &Path, acknowledged: &Acknowledged, position: u64) -> Result<(), String> {
    let Ok(server) = Server::try_until_ready(command(data_dir, &["--recovery", "torn-tail"])) else {
        return Err("it does not start".to_owned());
    };
    let found: BTreeMap<String, String> = server
        .all_memories()
        .into_iter()
        .map(|it| (it["id"].as_str().unwrap().to_owned(), it["content"].as_str().unwrap().to_owned()))
        .collect();
    server.kill();
    if let Some((id, _)) = found.iter().find(|(id, found)| **found != content(id)) {
        return Err(format!("{id} is not as it was stored"));
    }
    let lost = acknowledged.iter().filter(|(id, at)| **at <= position && !found.contains_key(*id)).count();
    if lost > 0 { Err(format!("{lost} lost, {} found", found.len())) } else { Ok(()) }
}

fn cannot(mkfs: &str) -> Option<String> {
    block_device::cannot(&["qemu-storage-daemon", mkfs])
}

#[test]
fn every_crash_image_of_an_ext4_has_what_was_acknowledged() {
    if let Some(reason) = cannot("mkfs.ext4") {
        return skip::because(&reason);
    }
    println!("{}", replay("ext4", 64, count("ENGRAM_REPLAYS", 100), None).unwrap());
}

#[test]
fn every_crash_image_of_an_xfs_has_what_was_acknowledged() {
    if let Some(reason) = cannot("mkfs.xfs") {
        return skip::because(&reason);
    }
    println!("{}", replay("xfs", 320, count("ENGRAM_XFS_REPLAYS", 30), None).unwrap());
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_defects_are_found() {
    if let Some(reason) = cannot("mkfs.ext4") {
        return skip::because(&reason);
    }
    for defect in ["NoFsync", "AckBeforeWrite"] {
        let (images, loss) = replay("ext4", 64, 100, Some(defect)).unwrap_err();
        println!("{defect:>20}: found in image {images}: {loss}");
    }
}
