//! How far recovery says it is.

use super::*;

#[test]
fn recovery_tells_how_far_it_is() {
    const TOLD_EVERY: u64 = 8192;
    let disk = SimDisk::new(1);
    let options = WalOptions { segment_bytes: 1 << 20, ..small(FsyncMode::None) };
    let (wal, _) = open(&disk, options.clone()).unwrap();
    for _ in 0..TOLD_EVERY + 10 {
        wal.submit_with(entry(vec![1; 400]), |_, outcome| assert!(outcome.is_ok()));
    }
    drop(wal);
    let used = WalReader::open(Arc::new(disk.clone())).inspect().unwrap().segments;
    let used: u64 = used.iter().map(|segment| segment.used_bytes).sum();
    let told = Arc::new(Mutex::new(Vec::new()));
    let on_progress: ProgressHook = {
        let told = Arc::clone(&told);
        Arc::new(move |progress| told.lock().unwrap().push(progress))
    };
    let (_, report) = open(&disk, WalOptions { on_progress: Some(on_progress), ..options }).unwrap();
    let told = told.lock().unwrap();
    let [progress] = &told[..] else { panic!("{told:?}") };
    assert_eq!((progress.records, progress.bytes_total), (TOLD_EVERY, used));
    assert_eq!(report.bytes, used);
    // Where the record that was the last one then ends, after all segments before its own.
    let inspection = WalReader::open(Arc::new(disk.clone())).inspect().unwrap();
    let record = WalReader::open(Arc::new(disk)).iter().map(Result::unwrap).nth(8191).unwrap();
    assert!(record.segment.get() > 2, "{record:?}");
    let before = inspection.segments.iter().filter(|segment| segment.id < record.segment);
    let before: u64 = before.map(|segment| segment.used_bytes).sum();
    assert_eq!(progress.bytes_done, before + record.offset + HEADER_LEN as u64 + 448);
}
