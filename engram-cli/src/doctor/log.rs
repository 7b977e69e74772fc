//! The log of a store that no server runs on: what a start would find in it.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use engram_core::{
    Change, LogAudit, ModelIdentity, Precision, StorageError, StoreError,
    storage::{RecoveryPlan, WalEntryHeader, WalEntryType, WalReader},
};

use super::finding::Finding;
use crate::{config::StartConfig, count::count, embed::Embedder, exit::Failure, operator::output::size};

/// What the store says of itself.
struct Made {
    dimension: usize,
    precision: Precision,
    model: Option<ModelIdentity>,
}

pub(super) fn examine(config: &StartConfig, is_held: bool) -> Vec<Finding> {
    let directory = config.log_directory();
    if !directory.is_dir() {
        return Vec::new();
    }
    let (files, bytes) = match look(&directory) {
        Ok(found) => found,
        Err((file, e)) => {
            let mend = "run as the user that owns the data directory; or give it all files in there (chown -R), which a verb \
                        that ran as root may have made";
            return vec![Finding::failed("log", format!("{file}: {e}"), mend)];
        }
    };
    if files == 0 {
        return vec![Finding::ok("log", "nothing was stored yet")];
    }
    let found = format!("{}, {}", count(files, "file", "files"), size(bytes));
    if is_held {
        return vec![Finding::ok("log", format!("{found}; `engram verify` reads all of it"))];
    }
    match read(&directory, config) {
        Err(failure) => vec![Finding::of_failure("log", &failure)],
        Ok((plan, made)) => {
            let mut findings = vec![judge(&plan, &found)];
            findings.extend(made.map(|made| settings(config, &made)));
            findings
        }
    }
}

/// How many files there are, and how long they are; all can be opened.
fn look(directory: &Path) -> Result<(u64, u64), (String, io::Error)> {
    let (mut files, mut bytes) = (0, 0);
    let of_directory = |e: io::Error| (directory.display().to_string(), e);
    for entry in fs::read_dir(directory).map_err(of_directory)? {
        let entry = entry.map_err(of_directory)?;
        let path = entry.path();
        let is_log = path.extension().is_some_and(|kind| kind == "log" || kind == "snap");
        if !is_log {
            continue;
        }
        match File::options().read(true).write(true).open(&path).and_then(|file| file.metadata()) {
            Ok(metadata) => (files, bytes) = (files + 1, bytes + metadata.len()),
            // A segment may go at any time while a server runs.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err((path.display().to_string(), e)),
        }
    }
    Ok((files, bytes))
}

/// What a start would do, and how the store was made, as far as that can be read.
fn read(directory: &Path, config: &StartConfig) -> Result<(RecoveryPlan, Option<Made>), Failure> {
    let failed = |error: StorageError| Failure::from(StoreError::from(error));
    let reader = WalReader::new(directory).map_err(failed)?;
    let plan = reader.plan_recovery(config.recovery).map_err(failed)?;
    let (mut audit, mut made) = (LogAudit::new(), None);
    let mut take = |header: &WalEntryHeader, payload: &[u8]| {
        if header.entry_type == WalEntryType::StoreConfig
            && let Ok(Change::Configured { dimension, precision, model }) =
                audit.read_payload(header.lsn, header.entry_type, payload)
        {
            made = Some(Made { dimension, precision, model });
        }
        Ok::<(), StorageError>(())
    };
    reader.for_each_in_snapshot(&mut take).map_err(failed)?;
    for record in &reader {
        match record {
            Ok(record) => take(&record.header, &record.payload).map_err(failed)?,
            Err(StorageError::Corrupt { .. }) => {} // the plan has it
            Err(other) => return Err(failed(other)),
        }
    }
    Ok((plan, made))
}

fn judge(plan: &RecoveryPlan, found: &str) -> Finding {
    let report = &plan.report;
    if let Some(reason) = &plan.refused {
        let mend = "`engram verify` names what is damaged; restore a backup, or copy the data directory and `engram repair`";
        return Finding::failed("log", format!("{found}: a start would refuse: {reason}"), mend);
    }
    if report.lost_records > 0 {
        let lost = count(report.lost_records, "acknowledged record", "acknowledged records");
        let mend = "`engram verify` names them: bring them back from a backup; copy the data directory before anything else";
        return Finding::warning("log", format!("{found}: a start would lose {lost}"), mend);
    }
    let stop = if report.clean { "after a clean stop" } else { "after a kill or crash" };
    Finding::ok("log", format!("{found}, {stop}: a start loses nothing that was acknowledged"))
}

/// Whether a start with these settings would be refused over those that the store was made with.
fn settings(config: &StartConfig, made: &Made) -> Finding {
    let Made { dimension, precision, model } = made;
    let model_name = model.as_ref().map_or_else(|| "no model that was told".to_owned(), ToString::to_string);
    let found = format!("{precision} of {dimension} dimensions, {model_name}");
    let another = |what: String, mend: &str| Finding::failed("store", format!("{found}: {what}"), mend);
    if let Some(wanted) = config.dimension.filter(|wanted| wanted != dimension) {
        return another(
            format!("--dimension is {wanted}"),
            "leave it out; `engram reembed` changes that of a store",
        );
    }
    if let Some(wanted) = config.precision.filter(|wanted| wanted != precision) {
        return another(
            format!("--embedding-precision is {wanted}"),
            "leave it out: it is chosen once, at the first start",
        );
    }
    // One that cannot be opened is told of elsewhere.
    let wanted = config.embed.as_ref().and_then(|embed| Embedder::open(embed).ok()).map(|it| it.identity());
    if let (Some(wanted), Some(model)) = (wanted, model)
        && wanted != *model
    {
        let mend =
            "start with the store's own model, or change it: engram reembed --embed-url … --embed-model …";
        return another(format!("the model is to be {wanted}"), mend);
    }
    Finding::ok("store", found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(look(directory.path()).unwrap(), (0, 0));
        fs::write(directory.path().join("wal-1.log"), "four").unwrap();
        fs::write(directory.path().join("LOCK"), "1").unwrap();
        assert_eq!(look(directory.path()).unwrap(), (1, 4));
        fs::create_dir(directory.path().join("wal-2.log")).unwrap();
        assert!(look(directory.path()).unwrap_err().0.ends_with("wal-2.log"));
    }
}
