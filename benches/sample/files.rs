//! The bare read that starts are measured beside.

use std::{fs, hint::black_box, io::Read as _, path::Path};

/// Reads all segments and snapshots from start to end and does nothing with them; how many bytes that are.
pub(crate) fn read_all(directory: &Path) -> u64 {
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log" || extension == "snap") {
            let mut file = fs::File::open(path).unwrap();
            loop {
                let n = file.read(&mut buffer).unwrap();
                if n == 0 {
                    break;
                }
                total += black_box(&buffer[..n]).len() as u64;
            }
        }
    }
    total
}
