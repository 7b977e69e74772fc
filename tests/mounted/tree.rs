//! Directories, each a simulated disk, and the files that are open.

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use engram_core::storage::disk::{Disk as _, DiskFile, SimDisk, SimFaults};

const ROOT: u64 = 1;

/// All that is mounted.
pub(crate) struct Tree {
    directories: HashMap<u64, Directory>,
    /// The files that the kernel knows, by number.
    files: HashMap<u64, Place>,
    numbers: HashMap<Place, u64>,
    open: HashMap<u64, Box<dyn DiskFile>>,
    next: u64,
    seed: u64,
    pub(crate) cuts: u64,
    /// How often it was asked to cut the power or keep it.
    ends: u64,
    faults: SimFaults,
}

struct Directory {
    disk: SimDisk,
    directories: BTreeMap<String, u64>,
}

/// A directory, and a name in it.
type Place = (u64, String);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

#[derive(Clone, Copy)]
pub(crate) struct Stat {
    pub(crate) ino: u64,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Tree {
    pub(crate) fn new(seed: u64) -> Self {
        let mut tree = Self {
            directories: HashMap::new(),
            files: HashMap::new(),
            numbers: HashMap::new(),
            open: HashMap::new(),
            next: ROOT,
            seed,
            cuts: 0,
            ends: 0,
            faults: SimFaults::default(),
        };
        tree.new_directory();
        tree
    }

    /// The power goes and comes back: of what was not synced, chance decides what is left; in every second cut, what was
    /// being written may be garbage.
    pub(crate) fn cut(&mut self) {
        self.cuts += 1;
        let seed = self.seed.wrapping_add(self.cuts).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let faults = self.faults;
        let garbage = SimFaults { garbage_sectors: self.cuts.is_multiple_of(2), ..faults };
        self.end(|number, disk| {
            disk.set_faults(garbage);
            disk.crash(seed ^ number);
            disk.set_faults(faults);
        });
    }

    /// As [`cut`](Self::cut), but each fourth time nothing is lost: the processes died, the machine went on.
    pub(crate) fn cut_or_keep(&mut self) {
        self.ends += 1;
        if self.ends.is_multiple_of(4) { self.end(|_, disk| disk.restart()) } else { self.cut() }
    }

    /// The power of each directory goes in the middle of its operation after the next `operations`.
    pub(crate) fn power_off_after(&mut self, operations: u64) {
        self.directories.values().for_each(|directory| directory.disk.power_off_after(operations));
    }

    /// The page cache lets go of everything that is clean.
    pub(crate) fn drop_caches(&mut self) {
        self.end(|_, disk| disk.drop_caches());
    }

    /// From now on faults strike with these odds.
    pub(crate) fn set_faults(&mut self, faults: SimFaults) {
        self.faults = faults;
        self.directories.values().for_each(|directory| directory.disk.set_faults(faults));
    }

    /// Nobody has a file open any more, and names may be others than the kernel knows.
    fn end(&mut self, what: impl Fn(u64, &SimDisk)) {
        self.files.clear();
        self.numbers.clear();
        self.open.clear();
        self.directories.iter().for_each(|(number, directory)| what(*number, &directory.disk));
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn new_directory(&mut self) -> u64 {
        let number = self.number();
        let disk = SimDisk::new(self.seed ^ number);
        disk.set_faults(self.faults);
        self.directories.insert(number, Directory { disk, directories: BTreeMap::new() });
        number
    }

    fn directory(&self, number: u64) -> io::Result<&Directory> {
        self.directories.get(&number).ok_or_else(missing)
    }

    fn file_number(&mut self, place: Place) -> u64 {
        if let Some(number) = self.numbers.get(&place) {
            return *number;
        }
        let number = self.number();
        self.numbers.insert(place.clone(), number);
        self.files.insert(number, place);
        number
    }

    fn place(&self, number: u64) -> io::Result<(&SimDisk, &str)> {
        let (directory, name) = self.files.get(&number).ok_or_else(missing)?;
        Ok((&self.directory(*directory)?.disk, name))
    }

    fn handle(&mut self, file: Box<dyn DiskFile>) -> u64 {
        let handle = self.number();
        self.open.insert(handle, file);
        handle
    }

    fn opened(&self, handle: u64) -> io::Result<&dyn DiskFile> {
        // A handle from before a cut is stale.
        self.open.get(&handle).map(|file| &**file).ok_or_else(|| io::Error::from_raw_os_error(116))
    }

    pub(crate) fn lookup(&mut self, parent: u64, name: &str) -> io::Result<Stat> {
        let directory = self.directory(parent)?;
        if let Some(&ino) = directory.directories.get(name) {
            return Ok(Stat { ino, kind: Kind::Directory, size: 0 });
        }
        let size = directory.disk.open(name)?.size()?;
        Ok(Stat { ino: self.file_number((parent, name.to_owned())), kind: Kind::File, size })
    }

    pub(crate) fn stat(&self, ino: u64, handle: Option<u64>) -> io::Result<Stat> {
        if self.directories.contains_key(&ino) {
            return Ok(Stat { ino, kind: Kind::Directory, size: 0 });
        }
        let size = if let Some(handle) = handle {
            self.opened(handle)?.size()?
        } else {
            let (disk, name) = self.place(ino)?;
            disk.open(name)?.size()?
        };
        Ok(Stat { ino, kind: Kind::File, size })
    }

    /// Another, empty file takes the name: the simulated disk cannot cut one off.
    pub(crate) fn empty(&mut self, ino: u64, handle: Option<u64>) -> io::Result<()> {
        let (disk, name) = self.place(ino)?;
        if disk.open(name)?.size()? == 0 {
            return Ok(());
        }
        disk.remove(name)?;
        let file = disk.create(name)?;
        if let Some(handle) = handle {
            self.open.insert(handle, file);
        }
        Ok(())
    }

    pub(crate) fn make_directory(&mut self, parent: u64, name: &str) -> io::Result<Stat> {
        if self.lookup(parent, name).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let ino = self.new_directory();
        if let Some(directory) = self.directories.get_mut(&parent) {
            directory.directories.insert(name.to_owned(), ino);
        }
        Ok(Stat { ino, kind: Kind::Directory, size: 0 })
    }

    pub(crate) fn remove_directory(&mut self, parent: u64, name: &str) -> io::Result<()> {
        let ino = *self.directory(parent)?.directories.get(name).ok_or_else(missing)?;
        let directory = self.directory(ino)?;
        if !directory.directories.is_empty() || !directory.disk.file_names().is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.directories.remove(&ino);
        if let Some(directory) = self.directories.get_mut(&parent) {
            directory.directories.remove(name);
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, parent: u64, name: &str) -> io::Result<()> {
        self.directory(parent)?.disk.remove(name)?;
        if let Some(number) = self.numbers.remove(&(parent, name.to_owned())) {
            self.files.remove(&number);
        }
        Ok(())
    }

    pub(crate) fn rename(&mut self, parent: u64, name: &str, to_parent: u64, to: &str) -> io::Result<()> {
        if parent != to_parent {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        self.directory(parent)?.disk.rename(name, to)?;
        let number = self.numbers.remove(&(parent, name.to_owned()));
        if let Some(replaced) = self.numbers.remove(&(parent, to.to_owned())) {
            self.files.remove(&replaced);
        }
        if let Some(number) = number {
            self.numbers.insert((parent, to.to_owned()), number);
            self.files.insert(number, (parent, to.to_owned()));
        }
        Ok(())
    }

    /// The simulated disks of two directories share no file: the second name is of a copy, durable at once.
    pub(crate) fn link(&mut self, ino: u64, to_parent: u64, to: &str) -> io::Result<Stat> {
        if self.lookup(to_parent, to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (disk, name) = self.place(ino)?;
        let bytes = disk.read(name).ok_or_else(missing)?;
        self.directory(to_parent)?.disk.plant(to, bytes);
        self.lookup(to_parent, to)
    }

    pub(crate) fn create(&mut self, parent: u64, name: &str) -> io::Result<(Stat, u64)> {
        let file = self.directory(parent)?.disk.create(name)?;
        let stat = Stat { ino: self.file_number((parent, name.to_owned())), kind: Kind::File, size: 0 };
        Ok((stat, self.handle(file)))
    }

    pub(crate) fn open(&mut self, ino: u64) -> io::Result<u64> {
        let (disk, name) = self.place(ino)?;
        let file = disk.open(name)?;
        Ok(self.handle(file))
    }

    pub(crate) fn close(&mut self, handle: u64) {
        self.open.remove(&handle);
    }

    pub(crate) fn read(&self, handle: u64, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; size as usize];
        let len = self.opened(handle)?.read_full_at(&mut bytes, offset)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    pub(crate) fn write(&self, handle: u64, offset: u64, bytes: &[u8]) -> io::Result<u32> {
        let written = self.opened(handle)?.write_at(bytes, offset)?;
        u32::try_from(written).map_err(io::Error::other)
    }

    pub(crate) fn sync(&self, handle: u64) -> io::Result<()> {
        self.opened(handle)?.sync()
    }

    pub(crate) fn sync_directory(&self, ino: u64) -> io::Result<()> {
        self.directory(ino)?.disk.sync_dir()
    }

    pub(crate) fn list(&mut self, ino: u64) -> io::Result<Vec<(u64, Kind, String)>> {
        let directory = self.directory(ino)?;
        let files = directory.disk.file_names();
        let mut entries: Vec<_> =
            directory.directories.iter().map(|(name, ino)| (*ino, Kind::Directory, name.clone())).collect();
        for name in files {
            let number = self.file_number((ino, name.clone()));
            entries.push((number, Kind::File, name));
        }
        Ok(entries)
    }
}
