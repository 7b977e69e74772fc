//! A journal that survives whatever happens to its process, with nothing but the crate.
//!
//! `cargo run -p engram-core --example journal -- ./journal "Ada prefers green tea" "what does Ada drink?"`: each argument after
//! the directory is kept, or, where it ends with a question mark, asked. Run it again, and it still knows.

#![expect(clippy::print_stdout, reason = "it is a command")]

use std::{env, error::Error, path::Path};

use engram_core::{Episode, FsyncMode, MemoryStore, Query};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let directory = arguments.next().ok_or("expected a directory, then sentences and questions")?;
    let lines: Vec<String> = arguments.collect();
    for answer in journal(Path::new(&directory), &lines)? {
        println!("{answer}");
    }
    Ok(())
}

/// Keeps sentences and answers questions, and says what came of each.
pub(crate) fn journal(directory: &Path, lines: &[impl AsRef<str>]) -> Result<Vec<String>, Box<dyn Error>> {
    // Recovers what earlier runs have kept. `PerBatch`: what is acknowledged survives power loss.
    let store = MemoryStore::new(100_000).with_wal(directory, FsyncMode::PerBatch)?;
    let mut answers = vec![format!("{} kept so far", store.count())];
    for line in lines.iter().map(AsRef::as_ref) {
        answers.push(if line.ends_with('?') {
            let best = store.recall(&Query::words(line))?.hits.into_iter().next();
            best.map_or_else(|| "nothing is known".to_owned(), |hit| hit.memory.content().to_owned())
        } else {
            // Its content is its id here: who says the same again changes nothing.
            let receipt = store.store(Episode::text(line, line))?;
            format!("{:?} at LSN {}", receipt.outcome, receipt.lsn)
        });
    }
    store.close()?;
    Ok(answers)
}
