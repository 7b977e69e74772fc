//! What the log acknowledges, and when.

use super::*;

#[test]
fn records_come_back_in_order_over_segments_and_restarts() {
    for mode in MODES {
        let disk = SimDisk::new(1);
        for start in 0..3_u32 {
            let (wal, report) = open(&disk, small(mode)).unwrap();
            assert_eq!(report.records, u64::from(start) * 50);
            assert_eq!(report.clean, start > 0);
            write_numbered(&wal, start * 50..start * 50 + 50);
            wal.shutdown().unwrap();
        }
        assert_eq!(payloads(&disk), numbered(0..150), "{mode}");
        assert!(disk.file_names().len() > 6, "the log was rotated: {:?}", disk.file_names());
    }
}

#[test]
fn numbers_are_dense_and_go_on_after_a_restart() {
    let disk = SimDisk::new(1);
    let mut expected = Lsn::ZERO;
    for _ in 0..4 {
        let (wal, report) = open(&disk, small(FsyncMode::PerBatch)).unwrap();
        assert_eq!(report.last_lsn, expected);
        for _ in 0..7 {
            expected = expected.next();
            assert_eq!(wal.write(entry("x")).unwrap().lsn, expected);
        }
    }
}

#[test]
fn each_mode_acknowledges_what_it_promises() {
    for mode in MODES {
        let disk = SimDisk::new(1);
        let (wal, _) = open(&disk, WalOptions { fsync: mode, ..small(mode) }).unwrap();
        let commit = wal.write(entry("kept")).unwrap();
        assert_eq!(commit.durability == Durability::Synced, mode.syncs_before_acknowledging());
        disk.power_off();
        drop(wal);
        // A process crash keeps everything in every mode.
        disk.restart();
        assert_eq!(payloads(&disk), ["kept"], "{mode} after a process crash");
        if mode.syncs_before_acknowledging() {
            disk.crash(5);
            assert_eq!(payloads(&disk), ["kept"], "{mode} after a power loss");
        }
    }
}

#[test]
fn sync_makes_the_weak_modes_durable() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let (wal, _) = open(&disk, small(FsyncMode::None)).unwrap();
        write_numbered(&wal, 0..20);
        wal.sync().unwrap();
        disk.power_off();
        drop(wal);
        disk.crash(seed);
        assert_eq!(payloads(&disk), numbered(0..20));
    }
}

#[test]
fn the_timer_syncs_when_nothing_more_is_written() {
    let disk = SimDisk::new(1);
    let metrics = Arc::new(StorageMetrics::new());
    let options = WalOptions { fsync: FsyncMode::Timer(Duration::from_millis(2)), ..WalOptions::default() };
    let (wal, _) = WalWriter::open(Arc::new(disk), options, Arc::clone(&metrics)).unwrap();
    wal.write(entry("idle")).unwrap();
    // Not a wait of so long: it ends when the timer has struck, and hangs when it never does.
    while metrics.snapshot().durable_lag() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(metrics.snapshot().sync_latency_us.count(), 1);
}

#[test]
fn a_timer_that_is_over_syncs_before_the_acknowledgement_and_no_other_does() {
    let hour = Duration::from_hours(1);
    for (mode, synced) in
        [(FsyncMode::Timer(Duration::ZERO), 1), (FsyncMode::Timer(hour), 0), (FsyncMode::None, 0)]
    {
        let metrics = Arc::new(StorageMetrics::new());
        let (wal, _) = WalWriter::open(Arc::new(SimDisk::new(1)), small(mode), Arc::clone(&metrics)).unwrap();
        let (tell, told) = mpsc::channel();
        let seen = Arc::clone(&metrics);
        wal.submit_with(entry("x"), move |_, _| tell.send(seen.synced_lsn().get()).unwrap());
        assert_eq!((told.recv().unwrap(), metrics.written_lsn().get()), (synced, 1), "{mode}");
    }
}

#[test]
fn waiting_records_share_a_sync_per_batch_and_not_per_write() {
    for (mode, syncs) in [(FsyncMode::PerBatch, 2), (FsyncMode::PerWrite, 9)] {
        let metrics = Arc::new(StorageMetrics::new());
        let (wal, _) = WalWriter::open(Arc::new(SimDisk::new(1)), small(mode), Arc::clone(&metrics)).unwrap();
        // The writer thread is held in the completion of the first record until the others wait.
        let (release, held) = mpsc::channel::<()>();
        wal.submit_with(entry("first"), move |_, _| held.recv().unwrap());
        while metrics.snapshot().queue_depth > 0 {
            std::thread::yield_now();
        }
        let handles: Vec<_> = (0..8).map(|n| wal.submit(entry(format!("record {n}")))).collect();
        release.send(()).unwrap();
        let lsns: Vec<u64> = handles.into_iter().map(|handle| handle.wait().unwrap().lsn.get()).collect();
        assert_eq!(lsns, (2..=9).collect::<Vec<_>>());
        assert_eq!(metrics.snapshot().sync_latency_us.count(), syncs, "{mode}");
        let groups = metrics.snapshot().batch_sizes;
        assert_eq!((groups.count(), groups.sum), (syncs, 9), "{mode}");
    }
}

#[test]
fn completions_run_in_the_order_of_the_log() {
    let (wal, _) = open(&SimDisk::new(1), small(FsyncMode::PerBatch)).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let order = Arc::clone(&order);
                    wal.submit_with(entry("x"), move |_, commit| {
                        order.lock().unwrap().push(commit.unwrap().lsn.get());
                    });
                }
            });
        }
    });
    wal.shutdown().unwrap();
    assert_eq!(*order.lock().unwrap(), (1..=400).collect::<Vec<_>>());
}

#[test]
fn a_directory_is_open_once() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(&disk, WalOptions::default()).unwrap();
    assert!(matches!(open(&disk, WalOptions::default()), Err(StorageError::Locked { .. })));
    wal.shutdown().unwrap();
    open(&disk, WalOptions::default()).unwrap();
}

#[test]
fn writes_after_shutdown_are_refused() {
    let (wal, _) = open(&SimDisk::new(1), WalOptions::default()).unwrap();
    assert!(wal.takes_writes());
    wal.shutdown().unwrap();
    wal.shutdown().unwrap();
    assert!(!wal.takes_writes());
    assert!(matches!(wal.write(entry("late")), Err(StorageError::Closed)));
}

#[test]
fn a_completion_can_be_awaited() {
    let (wal, _) = open(&SimDisk::new(1), small(FsyncMode::PerBatch)).unwrap();
    let waker = std::task::Waker::noop();
    let mut future = std::pin::pin!(std::future::IntoFuture::into_future(wal.submit(entry("x"))));
    let mut context = std::task::Context::from_waker(waker);
    let commit = loop {
        match std::future::Future::poll(future.as_mut(), &mut context) {
            std::task::Poll::Ready(commit) => break commit.unwrap(),
            std::task::Poll::Pending => std::thread::yield_now(),
        }
    };
    assert_eq!(commit.lsn, Lsn::FIRST);
}

#[test]
fn spares_are_used_and_leave_nothing_behind() {
    let disk = SimDisk::new(1);
    let metrics = Arc::new(StorageMetrics::new());
    let options = WalOptions { segment_bytes: SEGMENT_BYTES_MIN, ..WalOptions::default() };
    let (wal, _) = WalWriter::open(Arc::new(disk.clone()), options, Arc::clone(&metrics)).unwrap();
    let mut n = 0;
    while metrics.snapshot().rotations < 3 {
        wal.write(entry(format!("record {n}"))).unwrap();
        n += 1;
    }
    wal.shutdown().unwrap();
    assert_eq!(payloads(&disk), numbered(0..n));
    let names = disk.file_names();
    assert!(names.iter().all(|name| SegmentId::from_file_name(name).is_some()), "{names:?}");
}

#[test]
fn fsync_modes_are_written_as_they_are_read() {
    for mode in ["per-write", "per-batch", "timer=50ms", "none"] {
        assert_eq!(mode.parse::<FsyncMode>().unwrap().to_string(), mode);
    }
    assert_eq!("timer=2s".parse(), Ok(FsyncMode::Timer(Duration::from_secs(2))));
    for wrong in ["", "always", "timer", "timer=", "timer=0ms", "timer=-1ms", "timer=50", "timer=9999999999s"]
    {
        assert!(wrong.parse::<FsyncMode>().unwrap_err().contains("expected"), "{wrong}");
    }
}

#[test]
fn a_long_unproven_end_is_copied_whole() {
    let disk = SimDisk::new(1);
    let options = WalOptions { fsync: FsyncMode::None, preallocate: false, ..WalOptions::default() };
    let (wal, _) = open(&disk, options).unwrap();
    let payload = |n: u8| vec![n; 700_000];
    for n in 0..5 {
        wal.write(entry(payload(n))).unwrap();
    }
    disk.power_off();
    drop(wal);
    disk.restart();
    let found = recover(&disk, RecoveryMode::TornTail).unwrap();
    // Each new segment has synced the one before it; what came after the last one is more than a piece of a copy.
    assert!(found.report.copied_records > 1, "{}", found.report);
    assert_eq!(found.payloads.len(), 5);
    // What was copied is on the disk now.
    disk.crash(7);
    let found = recover(&disk, RecoveryMode::TornTail).unwrap();
    assert!((0..5).all(|n| found.payloads[&(u64::from(n) + 1)] == payload(n)));
}
