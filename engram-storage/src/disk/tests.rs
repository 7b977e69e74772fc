//! What each disk promises, and that the simulated one forgets what it should.

use std::sync::Arc;

use super::*;

const SECTOR: usize = crate::SECTOR_LEN;

fn write(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
    let file = disk.create(name).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn read(disk: &dyn Disk, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap();
    let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap() + 7];
    let n = file.read_full_at(&mut bytes, 0).unwrap();
    bytes.truncate(n);
    bytes
}

#[test]
fn all_disks_keep_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let real = RealDisk::create(directory.path().join("log")).unwrap();
    let faulty = FaultyDisk::new(Arc::new(SimDisk::new(1)));
    let disks: [&dyn Disk; 3] = [&real, &SimDisk::new(1), &faulty];
    for disk in disks {
        let file = write(disk, "a", b"hello");
        assert_eq!(disk.create("a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        file.write_all_at(b"J", 0).unwrap();
        file.write_all_at(b"end", 8).unwrap();
        file.sync().unwrap();
        disk.sync_dir().unwrap();
        assert_eq!(read(disk, "a"), b"Jello\0\0\0end");
        assert_eq!(disk.open("b").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(disk.list().unwrap().iter().any(|name| name == "a"));
        disk.rename("a", "b").unwrap();
        assert_eq!(disk.rename("a", "c").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(read(disk, "b"), b"Jello\0\0\0end");
        disk.link("b", "kept/b").unwrap();
        disk.link("b", "kept/b").unwrap();
        assert_eq!(disk.link("nothing", "kept/nothing").unwrap_err().kind(), io::ErrorKind::NotFound);
        disk.remove("b").unwrap();
        assert_eq!(disk.remove("b").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!disk.list().unwrap().iter().any(|name| name == "b" || name.contains('/')));
        let lock = disk.lock().unwrap();
        assert_eq!(disk.lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        drop(disk.lock().unwrap());
    }
    assert_eq!(std::fs::read(directory.path().join("log/kept/b")).unwrap(), b"Jello\0\0\0end");
}

#[test]
fn a_real_directory_is_made_only_beside_what_exists() {
    let directory = tempfile::tempdir().unwrap();
    let missing = RealDisk::create(directory.path().join("not/mounted")).unwrap_err();
    assert!(missing.to_string().contains("does not exist"), "{missing}");
    assert!(!directory.path().join("not").exists());
    std::fs::write(directory.path().join("file"), "x").unwrap();
    let file = RealDisk::create(directory.path().join("file")).unwrap_err();
    assert_eq!(file.kind(), io::ErrorKind::NotADirectory);
    assert!(RealDisk::open(directory.path().join("nothing")).is_err());
    let no_name = RealDisk::create(directory.path().join("x".repeat(1000))).unwrap_err();
    assert_eq!(no_name.kind(), io::ErrorKind::InvalidFilename, "{no_name}");
}

/// A file of zeros whose every second operation is interrupted.
#[derive(Debug, Default)]
struct Interrupted(std::sync::atomic::AtomicUsize);

impl Interrupted {
    fn strike(&self, len: usize) -> io::Result<usize> {
        let nth = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if nth.is_multiple_of(2) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(len.min(3)) }
    }
}

impl DiskFile for Interrupted {
    fn size(&self) -> io::Result<u64> {
        Ok(10)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(10_u64.saturating_sub(offset)).unwrap();
        self.strike(buf.len().min(left))
    }

    fn write_at(&self, buf: &[u8], _: u64) -> io::Result<usize> {
        self.strike(buf.len())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_interrupted_is_gone_on_with() {
    let file = Interrupted::default();
    file.write_all_at(&[7; 10], 0).unwrap();
    assert_eq!(file.read_full_at(&mut [0; 20], 0).unwrap(), 10);
}

#[test]
fn a_real_lock_is_let_go_although_a_process_being_started_has_a_copy_of_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path()).unwrap();
    let lock = disk.lock().unwrap();
    let copy = lock.downcast_ref::<real::LockedDirectory>().unwrap().0.try_clone().unwrap();
    drop(lock);
    drop(disk.lock().expect("the copy of the file does not hold the lock"));
    drop(copy);
}

#[test]
fn a_lock_names_its_holder() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::create(directory.path()).unwrap();
    let _lock = disk.lock().unwrap();
    let refused = RealDisk::open(directory.path()).unwrap().lock().unwrap_err();
    assert_eq!(refused.to_string(), std::process::id().to_string());
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_any_part_of_the_rest() {
    let (old, new) = (vec![1; 8 * SECTOR], vec![2; 8 * SECTOR]);
    let (mut all_old, mut all_new, mut mixed) = (0, 0, 0);
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        let file = write(&disk, "f", &old);
        file.sync().unwrap();
        disk.sync_dir().unwrap();
        file.write_all_at(&new, 0).unwrap();
        disk.crash(seed);
        let found = disk.read("f").unwrap();
        for sector in found.chunks(SECTOR) {
            assert!(sector == &old[..SECTOR] || sector == &new[..SECTOR], "a sector is whole");
        }
        match found.chunks(SECTOR).filter(|sector| sector[0] == 2).count() {
            0 => all_old += 1,
            8 => all_new += 1,
            _ => mixed += 1,
        }
    }
    assert!(all_old > 10 && all_new > 10 && mixed > 100, "{all_old} {all_new} {mixed}");
}

#[test]
fn names_are_lost_until_the_directory_is_synced() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        write(&disk, "synced", b"x").sync().unwrap();
        disk.sync_dir().unwrap();
        write(&disk, "new", b"x").sync().unwrap();
        disk.remove("synced").unwrap();
        disk.crash(seed);
        if disk.read("new").is_some() { kept += 1 } else { lost += 1 }
    }
    assert!(lost > 20 && kept > 20, "{lost} {kept}");
}

#[test]
fn a_failed_sync_leaves_bytes_that_vanish() {
    let disk = SimDisk::new(1);
    let file = write(&disk, "f", b"old");
    file.sync().unwrap();
    disk.sync_dir().unwrap();
    file.write_all_at(b"new", 0).unwrap();
    disk.set_faults(SimFaults { sync_fails_one_in: 1, ..SimFaults::default() });
    assert!(file.sync().is_err());
    disk.set_faults(SimFaults::default());
    file.sync().unwrap();
    assert_eq!(disk.read("f").unwrap(), b"new", "the cache still shows it");
    disk.drop_caches();
    assert_eq!(disk.read("f").unwrap(), b"old", "and a later sync has not saved it");
}

#[test]
fn nothing_works_while_the_power_is_off() {
    let disk = SimDisk::new(1);
    let file = write(&disk, "f", b"x");
    file.sync().unwrap();
    disk.sync_dir().unwrap();
    disk.power_off_after(2);
    assert!(file.size().is_ok() && file.size().is_ok() && file.size().is_err() && disk.list().is_err());
    disk.crash(1);
    assert_eq!(read(&disk, "f"), b"x");
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = SimDisk::new(1);
    disk.set_faults(SimFaults { capacity_bytes: 10, ..SimFaults::default() });
    let file = disk.create("f").unwrap();
    assert_eq!(file.write_all_at(&[7; 11], 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.write_all_at(&[7; 10], 0).unwrap();
    file.write_all_at(&[8; 10], 0).unwrap(); // overwriting takes no space
}

#[test]
fn chosen_operations_fail_and_others_do_not() {
    let disk = FaultyDisk::new(Arc::new(SimDisk::new(1)));
    let file = write(&disk, "f", b"12345678");
    disk.fail_nth(Operation::Sync, 2, Fault::InputOutput);
    assert!(file.sync().is_ok() && file.sync().is_err() && file.sync().is_ok());
    disk.fail_from(Operation::Write, 1, Fault::Short);
    assert_eq!(file.write_at(b"abcd", 0).unwrap(), 2);
    disk.heal();
    disk.fail_from(Operation::Create, 1, Fault::NoSpace);
    assert_eq!(disk.create("g").unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!((disk.count(Operation::Sync), disk.count(Operation::Create)), (3, 2));
}
