//! Any bytes as one to three segments.
#![no_main]

use engram_fuzz::{Files, examine, offer_seeds, real_log};
use libfuzzer_sys::fuzz_target;

/// An input is the lengths of the first two files, and the bytes of all three.
const LENGTHS: usize = 4;

fn seeds() -> Vec<Vec<u8>> {
    let of_log = |clean| {
        let (files, _) = real_log(clean, None);
        let files: Vec<_> = files.into_values().take(3).collect();
        let length = |at: usize| files.get(at).map_or(0, |bytes| bytes.len() as u16).to_le_bytes();
        [&length(0)[..], &length(1)[..], &files.concat()].concat()
    };
    vec![of_log(false), of_log(true)]
}

fuzz_target!(init: offer_seeds(seeds), |input: &[u8]| {
    let Some((lengths, mut bytes)) = input.split_at_checked(LENGTHS) else { return };
    let mut files = Files::new();
    for number in 0..3 {
        let length = lengths.get(2 * number..2 * number + 2).map(|l| usize::from(u16::from_le_bytes([l[0], l[1]])));
        let (file, rest) = bytes.split_at(length.unwrap_or(bytes.len()).min(bytes.len()));
        if !file.is_empty() {
            files.insert(format!("wal-{:020}.log", number + 1), file.to_vec());
        }
        bytes = rest;
    }
    examine(&files, None);
});
