//! Snapshots: what they stand for is there and nothing else, wherever it is cut short and whatever is damaged.

use super::unnamed::is_temporary;
use super::*;
use crate::disk::DiskLock;

/// What the records of a log come to: the last value of each key. A payload is `key=value`, or `key=` to forget it.
type Live = BTreeMap<String, (u64, String)>;

fn apply(live: &mut Live, lsn: u64, payload: &[u8]) {
    let payload = std::str::from_utf8(payload).unwrap();
    let (key, value) = payload.split_once('=').unwrap();
    if value.is_empty() {
        live.remove(key);
    } else {
        live.insert(key.to_owned(), (lsn, value.to_owned()));
    }
}

/// A store of keys and values on a log.
struct Keys {
    wal: WalWriter,
    live: Arc<Mutex<Live>>,
    report: RecoveryReport,
}

impl Keys {
    fn open(disk: Arc<dyn Disk>, options: WalOptions) -> StorageResult<Self> {
        let mut live = Live::new();
        let (wal, report) = WalWriter::recover(disk, options, Arc::default(), |header, payload| {
            apply(&mut live, header.lsn.get(), payload);
            Ok::<_, StorageError>(())
        })?;
        Ok(Self { wal, live: Arc::new(Mutex::new(live)), report })
    }

    fn on(disk: &SimDisk) -> Self {
        Self::open(Arc::new(disk.clone()), small(FsyncMode::PerBatch)).unwrap()
    }

    fn put(&self, key: u32, value: &str) -> StorageResult<()> {
        let (sent, answer) = mpsc::channel();
        let live = Arc::clone(&self.live);
        self.wal.submit_with(entry(format!("{key}={value}")), move |entry, outcome| {
            if let Ok(commit) = &outcome {
                apply(&mut live.lock().unwrap(), commit.lsn.get(), &entry.payload);
            }
            sent.send(outcome.map(drop)).unwrap();
        });
        answer.recv().unwrap()
    }

    fn snapshot(&self) -> StorageResult<SnapshotReport> {
        let (sent, at_cut) = mpsc::channel();
        let live = Arc::clone(&self.live);
        let mut snapshot = self.wal.snapshot(move |_| sent.send(live.lock().unwrap().clone()).unwrap())?;
        for (key, (lsn, value)) in at_cut.recv().unwrap() {
            snapshot.append(Lsn::new(lsn), &entry(format!("{key}={value}")))?;
        }
        snapshot.publish()
    }

    fn live(&self) -> Live {
        self.live.lock().unwrap().clone()
    }
}

/// Five keys, changed a few times and one of them forgotten; a snapshot in between if asked.
fn lived(disk: &SimDisk, snapshot_after: Option<u32>) -> Live {
    let keys = Keys::on(disk);
    for n in 0..40 {
        keys.put(n % 5, &format!("value {n}")).unwrap();
        if snapshot_after == Some(n) {
            keys.snapshot().unwrap();
        }
    }
    keys.put(3, "").unwrap();
    keys.live()
}

fn recovered(disk: &SimDisk, recovery: RecoveryMode) -> StorageResult<(Live, RecoveryReport)> {
    let options = WalOptions { recovery, ..small(FsyncMode::PerBatch) };
    let keys = Keys::open(Arc::new(disk.clone()), options)?;
    Ok((keys.live(), keys.report.clone()))
}

fn snapshots(disk: &SimDisk) -> Vec<String> {
    disk.file_names().into_iter().filter(|name| name.starts_with("snapshot-")).collect()
}

#[test]
fn a_log_is_read_on_its_snapshot_and_what_that_stands_for_is_gone() {
    let disk = SimDisk::new(1);
    let keys = Keys::on(&disk);
    (0..40).for_each(|n| keys.put(n % 5, &format!("old {n}")).unwrap());
    let report = keys.snapshot().unwrap();
    assert_eq!((report.lsn, report.records), (Lsn::new(40), 5));
    assert!(report.removed_files > 3, "{report:?}");
    assert_eq!(report.bytes, disk.read(&snapshots(&disk)[0]).unwrap().len() as u64);
    keys.put(1, "new").unwrap();
    keys.put(2, "").unwrap();
    let live = keys.live();
    drop(keys);
    for _ in 0..2 {
        let keys = Keys::on(&disk);
        assert_eq!(keys.live(), live);
        assert_eq!(keys.report.snapshot.as_ref().map(|it| (it.lsn, it.records)), Some((Lsn::new(40), 5)));
        assert_eq!((keys.report.records, keys.report.last_lsn), (2, Lsn::new(42)));
        assert_eq!(keys.report.lost_records, 0);
    }
    let everything: Vec<u8> = disk.file_names().iter().flat_map(|name| disk.read(name).unwrap()).collect();
    assert!(!everything.windows(6).any(|bytes| bytes == b"old 12"), "what was replaced is on the disk");
    assert!(everything.windows(6).any(|bytes| bytes == b"old 39"));
    // The next one stands for that one, too.
    let keys = Keys::on(&disk);
    assert_eq!(keys.snapshot().unwrap().lsn, Lsn::new(42));
    keys.put(7, "after").unwrap();
    assert_eq!(keys.live().len(), 5);
    assert_eq!(snapshots(&disk).len(), 1);
}

#[test]
fn what_reads_a_log_reads_it_on_its_snapshot() {
    let disk = SimDisk::new(1);
    lived(&disk, Some(19));
    let reader = WalReader::open(Arc::new(disk.clone()));
    let inspection = reader.inspect().unwrap();
    assert!(inspection.is_sound() && inspection.missing.is_empty(), "{inspection:?}");
    assert_eq!(inspection.snapshot.map(|it| (it.lsn, it.records)), Some((Lsn::new(20), 5)));
    let lsns: Vec<u64> = reader.iter().map(|record| record.unwrap().lsn().get()).collect();
    assert_eq!(lsns, (21..=41).collect::<Vec<_>>());
    let plan = reader.plan_recovery(RecoveryMode::Strict).unwrap();
    assert_eq!((plan.refused, plan.report.snapshot.map(|it| it.records)), (None, Some(5)));
    assert_eq!(WalRepair::new(Arc::new(disk)).unwrap().steps().len(), 0);
}

#[test]
fn a_snapshot_of_an_empty_log_and_one_after_another_are_snapshots() {
    let disk = SimDisk::new(1);
    let keys = Keys::on(&disk);
    assert_eq!(keys.snapshot().map(|report| (report.lsn, report.records)).unwrap(), (Lsn::ZERO, 0));
    keys.put(1, "one").unwrap();
    for _ in 0..3 {
        assert_eq!(keys.snapshot().unwrap().lsn, Lsn::FIRST);
    }
    drop(keys);
    assert_eq!(recovered(&disk, RecoveryMode::Strict).unwrap().0.len(), 1);
}

/// A log with a snapshot in it, and changes after that.
fn twice_lived() -> (SimDisk, Keys) {
    let disk = SimDisk::new(3);
    let keys = Keys::on(&disk);
    (0..30).for_each(|n| keys.put(n % 5, &format!("first {n}")).unwrap());
    keys.snapshot().unwrap();
    (0..30).for_each(|n| keys.put(n % 6, &format!("second {n}")).unwrap());
    keys.put(4, "").unwrap();
    (disk, keys)
}

#[test]
fn the_power_fails_at_each_step_of_a_snapshot_and_of_what_it_removes() {
    let mut cut_at = 0;
    loop {
        let mut is_done = false;
        for seed in 0..8 {
            let (disk, keys) = twice_lived();
            let live = keys.live();
            disk.power_off_after(cut_at);
            is_done = keys.snapshot().is_ok();
            drop(keys);
            disk.crash(seed);
            let case = format!("cut at {cut_at}, seed {seed}");
            let (found, report) =
                recovered(&disk, RecoveryMode::TornTail).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!(found, live, "{case}: {report}");
            assert_eq!(recovered(&disk, RecoveryMode::Strict).unwrap().0, live, "{case}");
            // Nothing that the snapshot stands for is left by a start that could write.
            assert_eq!(snapshots(&disk).len(), 1, "{case}");
        }
        if is_done {
            break;
        }
        cut_at += 1;
    }
    assert!(cut_at > 20, "{cut_at}");
}

#[test]
fn a_snapshot_for_which_there_is_no_room_leaves_the_log_as_it_was() {
    for operation in [Operation::Create, Operation::Write, Operation::Rename] {
        for nth in 1..5 {
            let disk = SimDisk::new(4);
            let faulty = FaultyDisk::new(Arc::new(disk.clone()));
            let keys = Keys::open(Arc::new(faulty.clone()), small(FsyncMode::PerBatch)).unwrap();
            (0..30).for_each(|n| keys.put(n % 5, &format!("value {n}")).unwrap());
            faulty.fail_nth(operation, nth, Fault::NoSpace);
            let outcome = keys.snapshot();
            faulty.heal();
            keys.put(7, "after").unwrap();
            let live = keys.live();
            drop(keys);
            assert!(!disk.file_names().iter().any(|name| is_temporary(name)), "{outcome:?}");
            assert_eq!(recovered(&disk, RecoveryMode::Strict).unwrap().0, live);
            let is_full = outcome.as_ref().is_err_and(StorageError::is_disk_full);
            assert!(is_full || (nth > 2 && outcome.is_ok()), "{operation:?} {nth}: {outcome:?}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_snapshot_is_detected_or_harmless() {
    let disk = SimDisk::new(5);
    let live = lived(&disk, Some(39));
    let name = snapshots(&disk).pop().unwrap();
    let bytes = disk.read(&name).unwrap();
    let mut lost = 0;
    for bit in 0..bytes.len() * 8 {
        let damaged = copy_of(&disk);
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        damaged.plant(&name, flipped);
        let (found, report) = recovered(&damaged, RecoveryMode::SkipCorrupt).unwrap();
        let only_less = found.iter().all(|(key, value)| live.get(key) == Some(value) || key == "3");
        assert!(only_less, "bit {bit}: {found:?}");
        // Key 3 is forgotten behind the snapshot: where it is lost from there, nothing is missed.
        assert!(live.len() - found.len() <= 1, "bit {bit}: {report}");
        assert!(found.len() == live.len() || report.lost_records == 1, "bit {bit}: {report}");
        lost += report.lost_records;
        assert_eq!(
            snapshots(&damaged),
            std::slice::from_ref(&name),
            "a damaged snapshot is kept until the next one"
        );
    }
    assert!(lost > 1000, "{lost}");
}

#[test]
fn a_snapshot_that_is_cut_off_is_never_taken_for_whole() {
    let disk = SimDisk::new(6);
    let live = lived(&disk, Some(39));
    let name = snapshots(&disk).pop().unwrap();
    let bytes = disk.read(&name).unwrap();
    for len in (0..bytes.len()).step_by(64) {
        let damaged = copy_of(&disk);
        damaged.plant(&name, bytes[..len].to_vec());
        match recovered(&damaged, RecoveryMode::SkipCorrupt) {
            Ok((found, report)) => assert!(found == live || report.lost_records > 0, "{len}: {report}"),
            Err(StorageError::RecoveryRefused { .. }) => {}
            Err(error) => panic!("{len}: {error}"),
        }
        let cut_last_header = len + SECTOR_LEN >= bytes.len();
        assert_eq!(recovered(&damaged, RecoveryMode::Strict).is_ok(), cut_last_header, "{len}");
    }
}

/// A disk on which nothing can be removed: what a crash leaves between a snapshot and the removal of what it stands for.
#[derive(Debug)]
struct Hoarder(SimDisk);

impl Disk for Hoarder {
    fn path(&self) -> &std::path::Path {
        self.0.path()
    }
    fn lock(&self) -> std::io::Result<DiskLock> {
        self.0.lock()
    }
    fn list(&self) -> std::io::Result<Vec<String>> {
        self.0.list()
    }
    fn create(&self, name: &str) -> std::io::Result<Box<dyn crate::disk::DiskFile>> {
        self.0.create(name)
    }
    fn open(&self, name: &str) -> std::io::Result<Box<dyn crate::disk::DiskFile>> {
        self.0.open(name)
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn link(&self, name: &str, second: &str) -> std::io::Result<()> {
        self.0.link(name, second)
    }
    fn remove(&self, name: &str) -> std::io::Result<()> {
        if is_temporary(name) { self.0.remove(name) } else { Ok(()) }
    }
    fn sync_dir(&self) -> std::io::Result<()> {
        self.0.sync_dir()
    }
}

#[test]
fn a_damaged_snapshot_falls_back_to_the_one_before_and_to_the_log() {
    let disk = SimDisk::new(7);
    let keys = Keys::open(Arc::new(Hoarder(disk.clone())), small(FsyncMode::PerBatch)).unwrap();
    for n in 0..60 {
        keys.put(n % 5, &format!("value {n}")).unwrap();
        if n == 19 || n == 39 {
            keys.snapshot().unwrap();
        }
    }
    let live = keys.live();
    drop(keys);
    let [first, second] = snapshots(&disk).try_into().unwrap();
    let spoil = |disk: &SimDisk, name: &str, at: usize| {
        let mut bytes = disk.read(name).unwrap();
        bytes[at] ^= 1;
        disk.plant(name, bytes);
    };
    // Without its beginning, the log alone is not enough.
    let first_segment = SegmentId::FIRST.file_name();
    for (spoilt, trimmed, expected) in [
        (vec![], false, Some(40)),
        (vec![&second], false, Some(20)),
        (vec![&first, &second], false, None),
        (vec![&second], true, Some(20)),
        (vec![&first], true, Some(40)),
    ] {
        let disk = copy_of(&disk);
        for name in &spoilt {
            spoil(&disk, name, 700);
        }
        if trimmed {
            disk.destroy(&first_segment);
        }
        assert!(recovered(&copy_of(&disk), RecoveryMode::Strict).is_ok() == spoilt.is_empty() || trimmed);
        let reader = WalReader::open(Arc::new(disk.clone()));
        assert_eq!(reader.inspect().unwrap().rejected_snapshots.is_empty(), expected == Some(40));
        let (found, report) = recovered(&disk, RecoveryMode::TornTail).unwrap();
        assert_eq!((found, report.lost_records), (live.clone(), 0), "{report}");
        assert_eq!(report.snapshot.map(|it| it.lsn.get()), expected);
    }
    // Both headers of the only one that there is: nothing to begin with.
    let disk = copy_of(&disk);
    disk.destroy(&first_segment);
    disk.destroy(&first);
    let end = disk.read(&second).unwrap().len();
    spoil(&disk, &second, 40);
    spoil(&disk, &second, end - 5);
    let before: Vec<_> = disk.file_names().into_iter().map(|name| disk.read(&name)).collect();
    let refused = recovered(&disk, RecoveryMode::SkipCorrupt).unwrap_err().to_string();
    assert!(refused.contains(&second) && refused.contains("headers"), "{refused}");
    assert_eq!(disk.file_names().into_iter().map(|name| disk.read(&name)).collect::<Vec<_>>(), before);
}

#[test]
fn a_snapshot_alone_is_no_log_and_one_of_another_log_is_passed_over() {
    let disk = SimDisk::new(8);
    let live = lived(&disk, Some(39));
    let name = snapshots(&disk).pop().unwrap();
    let alone = SimDisk::new(9);
    alone.plant(&name, disk.read(&name).unwrap());
    let refused = recovered(&alone, RecoveryMode::SkipCorrupt).unwrap_err().to_string();
    assert!(refused.contains("engram restore"), "{refused}");
    let other = SimDisk::new(10);
    lived(&other, None);
    other.plant(&name, disk.read(&name).unwrap());
    let (found, report) = recovered(&other, RecoveryMode::SkipCorrupt).unwrap();
    assert_eq!(report.rejected_snapshots.len(), 1, "{report}");
    assert_eq!(found.len(), live.len());
}

#[test]
fn a_repair_writes_a_damaged_snapshot_anew() {
    let disk = SimDisk::new(11);
    let live = lived(&disk, Some(39));
    let name = snapshots(&disk).pop().unwrap();
    let mut bytes = disk.read(&name).unwrap();
    bytes[SECTOR_LEN + HEADER_LEN] ^= 1; // the first payload
    disk.plant(&name, bytes.clone());
    assert!(recovered(&copy_of(&disk), RecoveryMode::TornTail).is_err());
    let repair = WalRepair::new(Arc::new(disk.clone())).unwrap();
    let steps: Vec<_> = repair.steps().cloned().collect();
    assert_eq!(steps.iter().map(|step| (&step.file, step.declared_lost)).collect::<Vec<_>>(), [(&name, 1)]);
    assert!(repair.run().unwrap().is_sound());
    assert_eq!(disk.read(steps[0].kept.as_ref().unwrap()), Some(bytes));
    let (found, report) = recovered(&disk, RecoveryMode::Strict).unwrap();
    assert_eq!((found.len(), report.lost_records), (live.len() - 1, 0));
}

#[test]
fn a_log_is_made_of_a_snapshot_alone() {
    let disk = SimDisk::new(12);
    let live = lived(&disk, Some(39));
    let keys = Keys::on(&disk);
    keys.snapshot().unwrap();
    drop(keys);
    let name = snapshots(&disk).pop().unwrap();
    let restore = || SnapshotRestore::on(Arc::new(disk.clone()), name.clone()).unwrap();
    let mut cut_at = 0;
    loop {
        let new = SimDisk::new(13);
        new.power_off_after(cut_at);
        let restored = restore().run(&(Arc::new(new.clone()) as Arc<dyn Disk>));
        new.crash(cut_at);
        match recovered(&new, RecoveryMode::SkipCorrupt) {
            Ok((found, report)) if report.snapshot.is_some() => assert_eq!(found, live, "cut at {cut_at}"),
            // Nothing was there yet.
            Ok((found, report)) => {
                assert!(found.is_empty() && report.segments == 0 && restored.is_err(), "{cut_at}: {report}");
            }
            Err(error) => assert!(restored.is_err(), "cut at {cut_at}: {error}"),
        }
        if restored.is_ok() {
            break;
        }
        cut_at += 1;
    }
    assert!(cut_at > 8, "{cut_at}");
    let new: Arc<dyn Disk> = Arc::new(SimDisk::new(14));
    let report = restore().run(&new).unwrap();
    assert_eq!((report.lsn, report.records), (Lsn::new(41), 4));
    let log_id = |disk: Arc<dyn Disk>| WalReader::open(disk).inspect().unwrap().log_id;
    assert_ne!(log_id(Arc::clone(&new)), log_id(Arc::new(disk.clone())));
    let refused = restore().run(&new).unwrap_err().to_string();
    assert!(refused.contains("restore into a directory that is new"), "{refused}");
    let keys = Keys::open(Arc::clone(&new), small(FsyncMode::PerBatch)).unwrap();
    assert_eq!(keys.live(), live);
    keys.put(9, "goes on").unwrap();
    drop(keys);
    assert_eq!(WalReader::open(new).inspect().unwrap().last_lsn, Lsn::new(42));
}

#[test]
fn what_is_no_whole_snapshot_is_not_restored() {
    let disk = SimDisk::new(15);
    lived(&disk, Some(39));
    let name = snapshots(&disk).pop().unwrap();
    let bytes = disk.read(&name).unwrap();
    let mut flipped = bytes.clone();
    flipped[SECTOR_LEN + HEADER_LEN + 3] ^= 4;
    for (spoilt, expected) in [
        (bytes[..700].to_vec(), "is damaged"),
        (flipped, "payload checksum"),
        (Vec::new(), "is no snapshot"),
        (b"something else".repeat(100), "is no snapshot"),
    ] {
        disk.plant("backup", spoilt);
        let refused =
            SnapshotRestore::on(Arc::new(disk.clone()), "backup".to_owned()).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    let missing = SnapshotRestore::open("/nowhere/at/all.snap").unwrap_err().to_string();
    assert!(missing.contains("/nowhere/at"), "{missing}");
}

#[test]
fn a_repair_leaves_a_segment_to_go_on_in_after_a_snapshot() {
    let disk = SimDisk::new(16);
    let live = lived(&disk, None);
    let keys = Keys::on(&disk);
    keys.snapshot().unwrap();
    disk.power_off();
    drop(keys);
    disk.restart();
    let segment = disk.file_names().into_iter().find(|name| name.starts_with("wal-")).unwrap();
    let mut bytes = disk.read(&segment).unwrap();
    bytes[100] ^= 1;
    disk.plant(&segment, bytes);
    let repair = WalRepair::new(Arc::new(disk.clone())).unwrap();
    assert_eq!(repair.steps().map(|step| &step.file).collect::<Vec<_>>(), [&segment]);
    assert!(repair.run().unwrap().is_sound());
    assert_eq!(recovered(&disk, RecoveryMode::Strict).unwrap().0, live);
}
