//! The file on its disk. It has its name only as a whole.

use std::io;

use engram_storage::disk::Disk;

pub(super) const NAME: &str = "index.cache";

const NAME_HALF_MADE: &str = "index.cache.tmp";

/// Nothing if there is no such file.
pub(super) fn read(disk: &dyn Disk) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = usize::try_from(file.size()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes.resize(size, 0);
    let filled = file.read_full_at(&mut bytes, 0)?;
    bytes.truncate(filled);
    Ok(Some(bytes))
}

/// In place of the one there was. What a failure leaves has another name, and is removed if that can be done.
pub(super) fn write(disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
    let written = write_and_rename(disk, bytes);
    if written.is_err() {
        // Its space may be what the log needs. That it stays would be told by the next try.
        drop(disk.remove(NAME_HALF_MADE));
    }
    written
}

fn write_and_rename(disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
    remove_name(disk, NAME_HALF_MADE)?;
    let file = disk.create(NAME_HALF_MADE)?;
    file.write_all_at(bytes, 0)?;
    file.sync()?;
    disk.rename(NAME_HALF_MADE, NAME)?;
    disk.sync_dir()
}

/// For good, if there is one.
pub(super) fn remove(disk: &dyn Disk) -> io::Result<()> {
    remove_name(disk, NAME)?;
    disk.sync_dir()
}

fn remove_name(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
