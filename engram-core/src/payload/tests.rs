use super::*;

fn record(vector: Option<StoredVector>) -> StoreRecord {
    StoreRecord {
        space: "default".to_owned(),
        id: "m1".to_owned(),
        when_us: -2,
        content: "é".to_owned(),
        confidence: 0.5,
        metadata: Metadata::from([
            ("b".to_owned(), MetaValue::Boolean(true)),
            ("i".to_owned(), MetaValue::Integer(-1)),
            ("n".to_owned(), MetaValue::Number(0.5)),
            ("t".to_owned(), MetaValue::Text("x".to_owned())),
        ]),
        vector,
    }
}

fn records() -> Vec<Record> {
    vec![
        Record::Store(record(None)),
        Record::Store(record(Some(StoredVector::Int8 { codes: Box::new([1, -127]), scale: 0.25 }))),
        Record::Store(record(Some(StoredVector::F32(Box::new([1.0, -0.5]))))),
        Record::Forget { space: "default".to_owned(), id: "m1".to_owned() },
        Record::Config(Config { dimension: 768, precision: Precision::Int8 }),
    ]
}

/// The bytes of payload version 1: they are read for ever.
const GOLDEN: [&str; 5] = [
    "0185000000070000000000000064656661756c7402000000000000006d31feffffffffffffff0200000000000000c3a90000003f0400000000000000010000000000000062030000000101000000000000006901000000ffffffffffffffff01000000000000006e02000000000000000000e03f0100000000000000740000000001000000000000007800",
    "0185000000070000000000000064656661756c7402000000000000006d31feffffffffffffff0200000000000000c3a90000003f0400000000000000010000000000000062030000000101000000000000006901000000ffffffffffffffff01000000000000006e02000000000000000000e03f0100000000000000740000000001000000000000007801020000000000803e0181",
    "0185000000070000000000000064656661756c7402000000000000006d31feffffffffffffff0200000000000000c3a90000003f0400000000000000010000000000000062030000000101000000000000006901000000ffffffffffffffff01000000000000006e02000000000000000000e03f0100000000000000740000000001000000000000007802020000000000803f000000bf",
    "01070000000000000064656661756c7402000000000000006d31",
    "010003000001",
];

#[test]
fn the_bytes_of_payload_version_1_stay_what_they_are() {
    for (record, golden) in records().into_iter().zip(GOLDEN) {
        let payload = encode(record).unwrap().payload;
        let hex = payload.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(hex, golden);
    }
}

#[test]
fn records_come_back_as_they_were() {
    for (before, again) in records().into_iter().zip(records()) {
        let entry = encode(before).unwrap();
        assert_eq!(decode(entry.entry_type, &entry.payload).unwrap(), again);
    }
}

#[test]
fn cut_and_damaged_payloads_are_refused_or_read_without_a_panic() {
    for record in records() {
        let entry = encode(record).unwrap();
        for len in 0..entry.payload.len() {
            assert!(decode(entry.entry_type, &entry.payload[..len]).is_err(), "cut at {len}");
        }
        for bit in 0..entry.payload.len() * 8 {
            let mut damaged = entry.payload.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            drop(decode(entry.entry_type, &damaged));
        }
        let mut longer = entry.payload.clone();
        longer.push(0);
        assert!(decode(entry.entry_type, &longer).is_err());
    }
}

#[test]
fn hostile_lengths_allocate_nothing() {
    let mut payload = vec![VERSION];
    payload.extend_from_slice(&16_u32.to_le_bytes());
    payload.extend_from_slice(&(1_u64 << 60).to_le_bytes());
    payload.extend_from_slice(&[0; 8]);
    assert!(decode(WalEntryType::MemoryStore, &payload).is_err());
    let mut vector = vec![VECTOR_INT8];
    vector.extend_from_slice(&u32::MAX.to_le_bytes());
    assert!(decode_vector(&vector).is_err());
}

#[test]
fn another_payload_version_is_named() {
    let error = decode(WalEntryType::MemoryStore, &[9, 0, 0, 0, 0]).unwrap_err();
    assert!(error.contains("version 1") && error.contains('9'), "{error}");
}
