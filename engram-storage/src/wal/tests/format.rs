//! The bytes on disk, and files that are not ours.

use super::*;

#[test]
fn unknown_and_temporary_files_do_not_matter() {
    let disk = SimDisk::new(1);
    for name in ["notes.txt", "wal-1.log", "wal-00000000000000000009.log.tmp", "wal-spare.tmp", "x.tmp"] {
        disk.plant(name, b"not a segment".to_vec());
    }
    let (wal, _) = open(&disk, small(FsyncMode::PerBatch)).unwrap();
    write_numbered(&wal, 0..20);
    drop(wal);
    assert_eq!(payloads(&disk), numbered(0..20));
    assert!(
        disk.read("notes.txt").is_some() && disk.read("wal-1.log").is_some() && disk.read("x.tmp").is_some()
    );
    assert!(disk.read("wal-00000000000000000009.log.tmp").is_none());
}

#[test]
fn another_format_version_is_refused_by_its_number() {
    let disk = log_of(3, true);
    let name = SegmentId::FIRST.file_name();
    let mut bytes = disk.read(&name).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..SECTOR_LEN - 4]);
    bytes[SECTOR_LEN - 4..SECTOR_LEN].copy_from_slice(&crc.to_le_bytes());
    disk.plant(&name, bytes);
    let error = recover(&disk, RecoveryMode::SkipCorrupt).map(|found| found.report).unwrap_err();
    assert!(matches!(error, StorageError::UnsupportedFormat { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn a_whole_record_with_unknown_numbers_is_refused_where_it_is_ours() {
    // A byte of the first record's header, and what it says then.
    for (at, value, what) in
        [(4, 2, "record version"), (5, 9, "record kind"), (6, 1, "record flags"), (44, 1, "record flags")]
    {
        for ours in [true, false] {
            let disk = log_of(3, false);
            let name = SegmentId::FIRST.file_name();
            let mut bytes = disk.read(&name).unwrap();
            let header = &mut bytes[SECTOR_LEN..SECTOR_LEN + HEADER_LEN];
            header[at] = value;
            header[24] ^= u8::from(!ours);
            let crc = crc32c::crc32c(&header[..HEADER_LEN - 4]);
            header[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
            disk.plant(&name, bytes);
            match recover(&disk, RecoveryMode::SkipCorrupt) {
                Err(StorageError::UnsupportedFormat { what: named, .. }) => {
                    assert!(ours && named == what, "{what}");
                }
                Err(other) => panic!("{what}: {other}"),
                Ok(found) => assert!(!ours && found.report.lost_records == 1, "{what}: {}", found.report),
            }
        }
    }
}

#[test]
fn each_type_of_record_comes_back_with_where_and_when_it_was_written() {
    let types = [
        WalEntryType::MemoryStore,
        WalEntryType::MemoryForget,
        WalEntryType::StoreConfig,
        WalEntryType::SpaceConfig,
        WalEntryType::SpaceDrop,
        WalEntryType::MemoryEmbed,
        WalEntryType::RequestReceipt,
    ];
    let disk = SimDisk::new(1);
    let (wal, _) = open(&disk, small(FsyncMode::PerBatch)).unwrap();
    let entries: Vec<_> =
        (0..30).map(|n| WalEntry { entry_type: types[n % types.len()], payload: vec![7; n] }).collect();
    for entry in &entries {
        wal.write(entry.clone()).unwrap();
    }
    drop(wal);
    let records: Vec<_> = WalReader::open(Arc::new(disk.clone())).iter().map(Result::unwrap).collect();
    assert_eq!(records.len(), entries.len());
    for (record, entry) in records.iter().zip(&entries) {
        assert_eq!((record.entry_type(), &record.payload), (entry.entry_type, &entry.payload));
        let bytes = disk.read(&record.segment.file_name()).unwrap();
        let header = bytes[usize::try_from(record.offset).unwrap()..].first_chunk().unwrap();
        assert_eq!(record::WalEntryHeader::decode(header), Ok(record.header));
        // Not before this was written, and in microseconds.
        assert!((1_700_000_000_000_000..1 << 60).contains(&record.header.time_us));
    }
    assert!(records.last().unwrap().segment > SegmentId::FIRST);
}

#[test]
fn numbers_are_written_plainly_and_end_at_the_first() {
    assert_eq!((SegmentId::FIRST.to_string(), Lsn::new(70).to_string()), ("1".to_owned(), "70".to_owned()));
    assert_eq!(
        (SegmentId::FIRST.previous(), SegmentId::FIRST.next().previous()),
        (SegmentId::FIRST, SegmentId::FIRST)
    );
}

#[test]
fn each_log_has_a_number_of_its_own() {
    let log_ids: std::collections::BTreeSet<u64> =
        (0..8).map(|_| WalReader::open(Arc::new(log_of(1, true))).inspect().unwrap().log_id).collect();
    assert!(log_ids.len() == 8 && !log_ids.contains(&0), "{log_ids:?}");
}

#[test]
fn the_bytes_of_format_version_1_stay_what_they_are() {
    let place = record::Place {
        log_id: 0x1122_3344_5566_7788,
        segment_low: SegmentId::FIRST.low(),
        lsn: Lsn::new(2),
        synced_lsn: Lsn::FIRST,
        time_us: 3,
        previous_crc: 4,
    };
    let mut bytes = Vec::new();
    record::encode(&mut bytes, &place, WalEntryType::MemoryStore, b"payload");
    assert_eq!(hex(&bytes), GOLDEN_RECORD);
    let header = segment::SegmentHeader {
        log_id: 0x1122_3344_5566_7788,
        id: SegmentId::FIRST,
        first_lsn: Lsn::FIRST,
        previous_end: 5,
        previous_crc: 6,
        time_us: 7,
    };
    let sector = header.encode();
    let hex = hex(&sector);
    let (start, end) = GOLDEN_SEGMENT;
    assert!(
        hex.starts_with(start) && hex.ends_with(end) && hex[start.len()..1016].trim_matches('0').is_empty(),
        "{hex}"
    );
    assert_eq!(segment::SegmentHeader::decode(&sector), Ok(header));
}

const GOLDEN_RECORD: &str = "6552656301010000020000000000000001000000000000008877665544332211030000000000000007000000070000007069e3f40400000001000000a329d9777061796c6f6164000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";

/// The fields and the checksum; all between is zero.
const GOLDEN_SEGMENT: (&str, &str) = (
    "454e47524d57414c01000000000000008877665544332211010000000000000001000000000000000500000000000000070000000000000006000000",
    "30643144",
);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

#[test]
fn a_record_of_another_version_is_refused_and_an_impossible_length_is_damage() {
    let name = SegmentId::FIRST.file_name();
    // Version, kind, flags; both lengths.
    for (field, value) in [(4, &[2][..]), (5, &[77]), (6, &[1]), (40, &[255; 8])] {
        let disk = log_of(3, false);
        let mut bytes = disk.read(&name).unwrap();
        let header = &mut bytes[SECTOR_LEN..SECTOR_LEN + HEADER_LEN];
        header[field..field + value.len()].copy_from_slice(value);
        let crc = crc32c::crc32c(&header[..HEADER_LEN - 4]);
        header[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        disk.plant(&name, bytes);
        let read: Vec<_> = WalReader::open(Arc::new(disk.clone())).iter().collect();
        match recover(&disk, RecoveryMode::SkipCorrupt) {
            Err(StorageError::UnsupportedFormat { .. }) => {
                assert!(field < 40 && matches!(read[..], [Err(StorageError::UnsupportedFormat { .. })]));
            }
            Err(error) => panic!("field {field}: {error}"),
            Ok(found) => assert_eq!((field, found.report.lost_records, read.len()), (40, 1, 3)),
        }
    }
}
