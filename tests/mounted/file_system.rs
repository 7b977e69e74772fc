//! What the kernel asks, answered by the tree.

use std::{
    ffi::OsStr,
    io,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::{
    lock,
    tree::{Kind, Stat, Tree},
};

/// Whoever looks for this in the root cuts the power, and does not find it.
pub(super) const CUT: &str = ".cut";

/// Nothing is remembered by the kernel.
const NO_TIME: Duration = Duration::ZERO;

/// What the kernel asks.
pub(super) struct Mounted(pub(super) Arc<Mutex<Tree>>);

fn errno(error: &io::Error) -> Errno {
    match (error.raw_os_error(), error.kind()) {
        (Some(code), _) => Errno::from_i32(code),
        (None, io::ErrorKind::NotFound) => Errno::ENOENT,
        (None, io::ErrorKind::AlreadyExists) => Errno::EEXIST,
        (None, io::ErrorKind::DirectoryNotEmpty) => Errno::ENOTEMPTY,
        (None, io::ErrorKind::CrossesDevices) => Errno::EXDEV,
        (None, _) => Errno::EIO,
    }
}

fn attributes(stat: Stat) -> FileAttr {
    let (kind, perm) = match stat.kind {
        Kind::Directory => (FileType::Directory, 0o755),
        Kind::File => (FileType::RegularFile, 0o644),
    };
    FileAttr {
        ino: INodeNo(stat.ino),
        size: stat.size,
        blocks: stat.size.div_ceil(512),
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn text(name: &OsStr) -> &str {
    name.to_str().unwrap_or_default()
}

fn entry(stat: io::Result<Stat>, reply: ReplyEntry) {
    match stat {
        Ok(stat) => reply.entry(&NO_TIME, &attributes(stat), Generation(0)),
        Err(error) => reply.error(errno(&error)),
    }
}

fn empty(done: io::Result<()>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut tree = lock(&self.0);
        if parent == INodeNo::ROOT && name == CUT {
            tree.cut_or_keep();
        }
        entry(tree.lookup(parent.0, text(name)), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        match lock(&self.0).stat(ino.0, handle.map(|it| it.0)) {
            Ok(stat) => reply.attr(&NO_TIME, &attributes(stat)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (mut tree, handle) = (lock(&self.0), handle.map(|it| it.0));
        let set = match size {
            Some(0) => tree.empty(ino.0, handle),
            Some(_) => Err(io::Error::from_raw_os_error(95)), // EOPNOTSUPP: nothing of ours does that
            None => Ok(()),
        };
        match set.and_then(|()| tree.stat(ino.0, handle)) {
            Ok(stat) => reply.attr(&NO_TIME, &attributes(stat)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        entry(lock(&self.0).make_directory(parent.0, text(name)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(lock(&self.0).remove_directory(parent.0, text(name)), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(lock(&self.0).remove(parent.0, text(name)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        empty(lock(&self.0).rename(parent.0, text(name), to_parent.0, text(to)), reply);
    }

    fn link(&self, _: &Request, ino: INodeNo, to_parent: INodeNo, to: &OsStr, reply: ReplyEntry) {
        entry(lock(&self.0).link(ino.0, to_parent.0, text(to)), reply);
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        match lock(&self.0).create(parent.0, text(name)) {
            Ok((stat, handle)) => {
                let flags = FopenFlags::FOPEN_DIRECT_IO;
                reply.created(&NO_TIME, &attributes(stat), Generation(0), FileHandle(handle), flags);
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match lock(&self.0).open(ino.0) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match lock(&self.0).read(handle.0, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match lock(&self.0).write(handle.0, offset, data) {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.0).close(handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(lock(&self.0).sync(handle.0), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(lock(&self.0).sync_directory(ino.0), reply);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        match lock(&self.0).list(ino.0) {
            Ok(entries) => {
                let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
                for (next, (ino, kind, name)) in (1..).zip(entries).skip(skipped) {
                    let kind = match kind {
                        Kind::Directory => FileType::Directory,
                        Kind::File => FileType::RegularFile,
                    };
                    if reply.add(INodeNo(ino), next, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let free = 1 << 20;
        reply.statfs(free, free, free, free, free, 4096, 255, 4096);
    }
}
