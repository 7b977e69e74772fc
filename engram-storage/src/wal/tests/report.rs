//! What is counted and said.

use super::*;

fn damage(first: u64, last: u64) -> Damage {
    let (first_lsn, last_lsn) = (Lsn::new(first), Lsn::new(last));
    Damage {
        segment: SegmentId::FIRST,
        offset: 512,
        end: 1024,
        first_lsn,
        last_lsn,
        reason: "payload checksum",
    }
}

#[test]
fn damage_says_what_it_took() {
    for (first, last, said, error) in [
        (5, 4, "no record lost", "no record is lost"),
        (5, 5, "record 5 lost", "records 5 to 5 are lost"),
        (5, 7, "records 5 to 7 lost", "records 5 to 7 are lost"),
    ] {
        let damage = damage(first, last);
        assert_eq!(damage.to_string(), format!("segment 1 at byte 512: payload checksum, {said}"));
        let Damage { offset, first_lsn, last_lsn, reason, .. } = damage;
        let corrupt = StorageError::Corrupt { path: "log".into(), offset, first_lsn, last_lsn, reason };
        assert_eq!(corrupt.to_string(), format!("log is damaged at byte 512 (payload checksum): {error}"));
    }
}

#[test]
fn a_report_says_what_there_is_to_say_and_lists_the_first_hundred() {
    let mut report = RecoveryReport { records: 7, segments: 2, bytes: 9, ..RecoveryReport::default() };
    assert_eq!(report.to_string(), "7 records in 2 segments (9 bytes)");
    report.torn_bytes = 3;
    report.add(damage(5, 4));
    let range = "segment 1 at byte 512: payload checksum, no record lost";
    let said =
        format!("7 records in 2 segments (9 bytes), 1 damaged ranges; {range}, torn tail of 3 bytes cut off");
    assert_eq!(report.to_string(), said);
    (0..100).for_each(|_| report.add(damage(5, 6)));
    assert_eq!((report.damaged_ranges, report.lost_records, report.damage.len()), (101, 200, 100));
    assert!(report.to_string().contains("200 acknowledged records lost, 101 damaged ranges; segment 1"));
}

#[test]
fn a_histogram_counts_up_to_and_with_its_bounds() {
    let metrics = StorageMetrics::new();
    for value in [0, 1, 2, 3, 4, 1024, 1025] {
        metrics.batch_sizes.record(value);
    }
    let counted = metrics.snapshot().batch_sizes;
    assert_eq!(counted.counts, [2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    assert_eq!((counted.sum, counted.count()), (2059, 7));
}

#[test]
fn recovery_modes_are_written_as_they_are_read() {
    for (text, mode) in [
        ("strict", RecoveryMode::Strict),
        ("torn-tail", RecoveryMode::TornTail),
        ("skip-corrupt", RecoveryMode::SkipCorrupt),
    ] {
        assert_eq!((text.parse(), mode.to_string()), (Ok(mode), text.to_owned()));
    }
    assert!("lenient".parse::<RecoveryMode>().unwrap_err().contains("expected strict"));
}
