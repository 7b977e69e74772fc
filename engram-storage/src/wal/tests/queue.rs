//! The queue before the writer thread: its limits, and what a group is.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use super::*;
use crate::wal::queue::{Queue, Request, Taken};

fn request(bytes: usize) -> Request {
    Request::Append { entry: entry(vec![0; bytes]), submitted: Instant::now(), done: Box::new(|_, _| {}) }
}

fn queue_of(lengths: impl Iterator<Item = usize>) -> (Queue, Arc<StorageMetrics>) {
    let metrics = Arc::new(StorageMetrics::new());
    let queue = Queue::new(Arc::clone(&metrics));
    lengths.for_each(|bytes| assert!(queue.push(request(bytes)).is_ok()));
    (queue, metrics)
}

/// Gives another thread the time to do what it must not do. That it does nothing is never proven, only refuted.
fn let_others_run() {
    (0..1000).for_each(|_| thread::yield_now());
}

#[test]
fn who_comes_to_a_full_queue_waits_for_room() {
    let full_of_records: Vec<usize> = vec![0; QUEUE_RECORDS_MAX];
    for lengths in [full_of_records, vec![QUEUE_BYTES_MAX], vec![QUEUE_BYTES_MAX / 2; 2]] {
        let (queue, metrics) = queue_of(lengths.iter().copied());
        let (depth, bytes) = (lengths.len() as u64, lengths.iter().sum::<usize>() as u64);
        assert_eq!((metrics.snapshot().queue_depth, metrics.snapshot().queue_bytes), (depth, bytes));
        let (begun, entered) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                begun.store(true, Ordering::SeqCst);
                assert!(queue.push(request(1)).is_ok());
                entered.store(true, Ordering::SeqCst);
            });
            while !begun.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            let_others_run();
            assert!(!entered.load(Ordering::SeqCst), "there was no room");
            assert_eq!(queue.take(1, None, &mut Vec::new()), Taken::Group);
        });
        assert!(entered.load(Ordering::SeqCst));
        let bytes = bytes - lengths[0] as u64 + 1;
        assert_eq!((metrics.snapshot().queue_depth, metrics.snapshot().queue_bytes), (depth, bytes));
    }
}

#[test]
fn a_group_ends_where_its_bytes_do() {
    const MIB: usize = 1 << 20;
    // The lengths that wait, and the sizes of the groups that they are taken as.
    for (lengths, groups) in [
        (&[2 * MIB, 2 * MIB, 2 * MIB, 1][..], &[2, 2][..]),
        (&[5 * MIB, 1, 1], &[1, 2]),
        (&[1, 4 * MIB, 4 * MIB - 1, 1], &[1, 1, 2]),
    ] {
        let (queue, metrics) = queue_of(lengths.iter().copied());
        for &size in groups {
            let mut group = Vec::new();
            assert_eq!(queue.take(usize::MAX, None, &mut group), Taken::Group);
            assert_eq!(group.len(), size, "{lengths:?}");
        }
        assert_eq!((metrics.snapshot().queue_depth, metrics.snapshot().queue_bytes), (0, 0));
    }
}

#[test]
fn a_group_may_come_before_the_deadline() {
    let (queue, _) = queue_of(std::iter::empty());
    thread::scope(|scope| {
        let taken = scope.spawn(|| {
            let deadline = Instant::now().checked_add(Duration::from_hours(1));
            queue.take(1, deadline, &mut Vec::new())
        });
        let_others_run();
        assert!(queue.push(request(1)).is_ok());
        assert_eq!(taken.join().unwrap(), Taken::Group);
    });
    assert_eq!(queue.take(1, Some(Instant::now()), &mut Vec::new()), Taken::TimedOut);
}

#[test]
fn a_queue_is_crowded_from_its_half_on() {
    for (depth, bytes, crowded) in [
        (0, 0, false),
        (QUEUE_RECORDS_MAX / 2 - 1, QUEUE_BYTES_MAX / 2 - 1, false),
        (QUEUE_RECORDS_MAX / 2, 0, true),
        (0, QUEUE_BYTES_MAX / 2, true),
    ] {
        let metrics = StorageMetrics::new();
        metrics.queue_depth.store(depth as u64, Ordering::Relaxed);
        metrics.queue_bytes.store(bytes as u64, Ordering::Relaxed);
        assert_eq!(metrics.queue_is_crowded(), crowded, "{depth} records, {bytes} bytes");
    }
}
