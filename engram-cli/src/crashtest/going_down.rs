//! The end of a mounted file system as a power cut would end it: what is in memory alone is gone, its journal included.

#![expect(unsafe_code, reason = "an ioctl that no crate wraps")]

use std::{fs::File, io, path::Path};

use rustix::ioctl::{Opcode, Setter, ioctl};

/// `_IOR('X', 125, __u32)`: `EXT4_IOC_SHUTDOWN`, `XFS_IOC_GOINGDOWN`.
const GOING_DOWN: Opcode = 0x8004_587d;

/// Without writing the journal out.
const NO_LOG_FLUSH: u32 = 2;

/// Ends the file system that is mounted at `mount_point`; it can only be unmounted after that.
pub(super) fn cut(mount_point: &Path) -> io::Result<()> {
    let root = File::open(mount_point)?;
    // SAFETY: ext4 and XFS read one `u32` from the pointer that they are given, and write nothing; any other file system
    // answers ENOTTY without looking at it.
    let cut = unsafe { ioctl(&root, Setter::<GOING_DOWN, u32>::new(NO_LOG_FLUSH)) };
    Ok(cut?)
}
