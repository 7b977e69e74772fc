//! Edits of a real log: rot that checksums must see, and forgeries that get behind them.
#![no_main]

use std::sync::LazyLock;

use engram_fuzz::{Edits, Files, Written, edit, examine, offer_seeds, real_log};
use libfuzzer_sys::fuzz_target;

static LOGS: LazyLock<[(Files, Written); 4]> = LazyLock::new(|| {
    [(false, None), (true, None), (false, Some(6)), (true, Some(6))]
        .map(|(clean, snapshot)| real_log(clean, snapshot))
});

/// Every kind of edit, alone, of each log, believed and not.
fn seeds() -> Vec<Vec<u8>> {
    (0..80)
        .map(|kind: u8| vec![kind % 8, kind / 8, kind % 3, kind.wrapping_mul(16), 2, 70, kind, 1, kind])
        .collect()
}

fuzz_target!(init: offer_seeds(seeds), |input: &[u8]| {
    let edits = Edits::of(input);
    let (files, written) = &LOGS[usize::from(edits.clean) + 2 * usize::from(edits.snapshot)];
    let mut files = files.clone();
    edit(&mut files, input);
    examine(&files, Some(written).filter(|_| !edits.forged));
});
