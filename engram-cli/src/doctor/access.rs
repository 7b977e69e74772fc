//! The address, the keys and the certificate.

use std::{io, net::TcpListener};

use super::{finding::Finding, machine::is_readable_by_others};
use crate::{
    config::StartConfig,
    count::count,
    keys::{file, secret::Secret, verb::of_file},
    server::Tls,
};

/// Whether a server could listen there. `is_held`: one has the directory, and then it may well be the one that listens.
pub(super) fn address(config: &StartConfig, is_held: bool) -> Option<Finding> {
    if is_held {
        return None;
    }
    let addresses = match config.addresses() {
        Ok(addresses) => addresses,
        Err(failure) => return Some(Finding::of_failure("address", &failure)),
    };
    Some(match TcpListener::bind(&*addresses) {
        Ok(_) => Finding::ok("address", format!("{} is free", config.listen)),
        Err(e) => Finding::failed(
            "address",
            format!("cannot listen on {}: {e}", config.listen),
            match e.kind() {
                io::ErrorKind::AddrInUse => {
                    "another program has it (`ss -ltnp` names it): stop that, or choose another with --listen"
                }
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need privileges: choose another with --listen"
                }
                _ => "choose another address with --listen",
            },
        ),
    })
}

/// Who may ask.
pub(super) fn keys(config: &StartConfig) -> Finding {
    // Of an address that is none, the check of addresses tells.
    let is_public = config.addresses().is_ok_and(|all| all.iter().any(|it| !it.ip().is_loopback()));
    let stored = match file::read(&config.data_dir) {
        Ok(keys) => keys.unwrap_or_default().len(),
        Err(e) => return Finding::of_failure("keys", &of_file(&config.data_dir, &e)),
    };
    let root = config.http.root_key.as_ref();
    let found = match (stored, root) {
        (0, None) => "none".to_owned(),
        (stored, None) => count(stored, "key", "keys"),
        (stored, Some(_)) => format!("{}, and that of the environment", count(stored, "key", "keys")),
    };
    if stored == 0 && root.is_none() && is_public {
        let found = format!("none, and {} can be reached from other machines", config.listen);
        let create = format!("`engram key create --name NAME --data-dir {}`", config.data_dir.display());
        return if config.http.insecure {
            Finding::warning(
                "keys",
                format!("{found}: everybody is let in (--insecure)"),
                format!("make one: {create}"),
            )
        } else {
            Finding::failed("keys", found, format!("make one: {create}, or set ENGRAM_API_KEY"))
        };
    }
    if root.is_some_and(Secret::is_short) {
        let mend = "take a longer one, such as `openssl rand -hex 32` gives";
        return Finding::warning("keys", format!("{found}, which is short enough to be guessed"), mend);
    }
    if is_public && config.http.tls.is_none() {
        let mend = "give --tls-cert and --tls-key, or have a proxy in front that does TLS";
        let found = format!("{found}; without TLS they can be read on their way to {}", config.listen);
        return Finding::warning("keys", found, mend);
    }
    Finding::ok("keys", found)
}

/// What TLS is served with.
pub(super) fn certificate(config: &StartConfig) -> Option<Finding> {
    let files = config.http.tls.as_ref()?;
    Some(match Tls::open(files) {
        Err(failure) => Finding::of_failure("certificate", &failure),
        Ok(_) if is_readable_by_others(&files.key) => {
            let found = format!("everybody on this machine can read {}", files.key.display());
            Finding::warning("certificate", found, format!("chmod o-r {}", files.key.display()))
        }
        Ok(_) => Finding::ok("certificate", format!("{}, and its key", files.certificate.display())),
    })
}
