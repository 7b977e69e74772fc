use super::*;
use crate::MetaValue;

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
        vector: vector.map(|vector| LoggedVector { generation: 0, vector }),
        expires_us: None,
        terms: Terms::default(),
    }
}

fn records() -> Vec<Record> {
    vec![
        Record::Store(record(None)),
        Record::Store(record(Some(StoredVector::Int8 { codes: Box::new([1, -127]), scale: 0.25 }))),
        Record::Store(record(Some(StoredVector::F32(Box::new([1.0, -0.5]))))),
        Record::Forget(ForgetRecord {
            space: "default".to_owned(),
            id: "m1".to_owned(),
            terms: Terms::default(),
        }),
        Record::Config(Config { dimension: 768, precision: Precision::Int8, model: None, generation: 0 }),
    ]
}

/// Records with what only version 2 has.
fn records_of_version_2() -> Vec<Record> {
    let request = Request { key: "k".to_owned(), fingerprint: 7, at_us: 9 };
    let terms = Terms { expected: Some(Lsn::new(3)), request: Some(request.clone()) };
    let model =
        ModelIdentity { name: "m".to_owned(), document_prefix: "d".to_owned(), query_prefix: "q".to_owned() };
    let (space, id) = ("s".to_owned(), "m1".to_owned());
    vec![
        Record::Store(StoreRecord {
            metadata: Metadata::new(),
            expires_us: Some(5),
            terms: terms.clone(),
            ..record(Some(StoredVector::Int8 { codes: Box::new([1, -127]), scale: 0.25 }))
        }),
        Record::Forget(ForgetRecord { space: space.clone(), id: id.clone(), terms }),
        Record::Config(Config { dimension: 2, precision: Precision::F32, model: Some(model), generation: 0 }),
        Record::Space(SpaceRecord { space: space.clone(), capacity: Some(9) }),
        Record::DropSpace { space: space.clone() },
        Record::Embed(EmbedRecord {
            space: space.clone(),
            id: id.clone(),
            of: Lsn::new(4),
            vector: LoggedVector { generation: 0, vector: StoredVector::F32(Box::new([1.0, -0.5])) },
        }),
        Record::Receipt(ReceiptRecord { space, request, id, lsn: Lsn::new(4), outcome: 3 }),
    ]
}

/// Records of a store whose model has changed.
fn records_of_version_3() -> Vec<Record> {
    let model =
        ModelIdentity { name: "m".to_owned(), document_prefix: "d".to_owned(), query_prefix: "q".to_owned() };
    let vector = LoggedVector { generation: 3, vector: StoredVector::F32(Box::new([1.0, -0.5])) };
    vec![
        Record::Config(Config { dimension: 2, precision: Precision::F32, model: Some(model), generation: 3 }),
        Record::Embed(EmbedRecord {
            space: "s".to_owned(),
            id: "m1".to_owned(),
            of: Lsn::new(4),
            vector: vector.clone(),
        }),
        Record::Store(StoreRecord { vector: Some(vector), metadata: Metadata::new(), ..record(None) }),
    ]
}

fn all_records() -> impl Iterator<Item = Record> {
    records().into_iter().chain(records_of_version_2()).chain(records_of_version_3())
}

fn hex(payload: &[u8]) -> String {
    payload.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
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
        assert_eq!(hex(&payload), golden);
    }
}

/// The bytes of payload version 2: they are read for ever.
const GOLDEN_2: [&str; 7] = [
    "026b000000070000000000000064656661756c7402000000000000006d31feffffffffffffff0200000000000000c3a90000003f00000000000000000105000000000000000103000000000000000101000000000000006b07000000000000000000000000000000090000000000000001020000000000803e0181",
    "0201000000000000007302000000000000006d310103000000000000000101000000000000006b070000000000000000000000000000000900000000000000",
    "0202000000020101000000000000006d01000000000000006401000000000000007100",
    "02010000000000000073010900000000000000",
    "02010000000000000073",
    "021b00000001000000000000007302000000000000006d31040000000000000002020000000000803f000000bf",
    "0201000000000000007302000000000000006d3101000000000000006b070000000000000000000000000000000900000000000000040000000000000003",
];

#[test]
fn the_bytes_of_payload_version_2_stay_what_they_are() {
    let payloads = records_of_version_2().into_iter().map(|record| hex(&encode(record).unwrap().payload));
    assert_eq!(payloads.collect::<Vec<_>>(), GOLDEN_2);
}

/// The bytes of payload version 3, and of vectors that say their generation: they are read for ever.
const GOLDEN_3: [&str; 3] = [
    "0302000000020101000000000000006d01000000000000006401000000000000007103000000",
    "021b00000001000000000000007302000000000000006d310400000000000000030300000002020000000000803f000000bf",
    "0137000000070000000000000064656661756c7402000000000000006d31feffffffffffffff0200000000000000c3a90000003f0000000000000000030300000002020000000000803f000000bf",
];

#[test]
fn the_bytes_of_payload_version_3_stay_what_they_are() {
    let payloads = records_of_version_3().into_iter().map(|record| hex(&encode(record).unwrap().payload));
    assert_eq!(payloads.collect::<Vec<_>>(), GOLDEN_3);
}

#[test]
fn a_change_of_the_form_in_version_2_begins_a_generation() {
    let former = Some(v1::Config::of(3, Precision::Int8).unwrap());
    let form = v1::Config::of(2, Precision::F32).unwrap();
    let payload = versioned(VERSION_2, &v2::Config { form, model: None, former }).unwrap();
    assert_eq!(hex(&payload), "02020000000200010300000001");
    let config = Config { dimension: 2, precision: Precision::F32, model: None, generation: 1 };
    assert_eq!(decode(WalEntryType::StoreConfig, &payload), Ok(Record::Config(config)));
}

#[test]
fn records_come_back_as_they_were() {
    for (before, again) in all_records().zip(all_records()) {
        let entry = encode(before).unwrap();
        assert_eq!(decode(entry.entry_type, &entry.payload).unwrap(), again);
    }
}

#[test]
fn cut_and_damaged_payloads_are_refused_or_read_without_a_panic() {
    for record in all_records() {
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
    let mut payload = vec![VERSION_1];
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
    assert!(error.contains("version 1 to 3") && error.contains('9'), "{error}");
}

#[test]
fn a_dimension_that_no_store_has_is_refused() {
    for dimension in [0, crate::DIMENSION_MAX + 1] {
        let config = Config { dimension, precision: Precision::Int8, model: None, generation: 0 };
        let entry = encode(Record::Config(config)).unwrap();
        let error = decode(entry.entry_type, &entry.payload).unwrap_err();
        assert!(error.contains("expected a dimension"), "{error}");
    }
}
