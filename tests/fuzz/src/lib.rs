//! What Engram's fuzzers share: a real log, what an input does to it, and what must hold whatever is on a disk.

mod edit;
mod examine;
mod log;

pub use edit::{Edits, edit};
pub use examine::examine;
pub use log::{Files, Written, disk_of, real_log, write};

/// Where a fuzzer is asked to put its first inputs instead of fuzzing.
const SEEDS: &str = "ENGRAM_FUZZ_SEEDS";

/// Writes `seeds` to the directory that the environment names, and ends the process. Does nothing when it names none.
pub fn offer_seeds(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(directory) = std::env::var_os(SEEDS) else { return };
    let directory = std::path::Path::new(&directory);
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        for (number, seed) in seeds().into_iter().enumerate() {
            std::fs::write(directory.join(format!("seed-{number}")), seed)?;
        }
        Ok(())
    };
    let code = match write() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{}: {error}", directory.display());
            1
        }
    };
    std::process::exit(code);
}
