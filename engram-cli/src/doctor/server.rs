//! The server that has the data directory.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;

use super::finding::Finding;
use crate::{
    client::{Call, Client},
    config::StartConfig,
    count::count,
};

/// How long it may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// How it does, as it says itself.
pub(super) fn running(config: &StartConfig) -> Vec<Finding> {
    let url = match config.addresses().map(|addresses| addresses.first().copied()) {
        Ok(Some(address)) => url(config, address),
        Ok(None) => return Vec::new(),
        Err(failure) => return vec![Finding::of_failure("server", &failure)],
    };
    let http = &config.http;
    let trusted = http.tls.as_ref().map(|files| &*files.certificate);
    let client = match Client::new(&url, http.root_key.clone(), trusted, ANSWER_TIME_MAX) {
        Ok(client) => client,
        Err(failure) => return vec![Finding::of_failure("server", &failure)],
    };
    let reply = match client.call(&Call::get("/v1/status")) {
        Ok(reply) => reply,
        Err(no_reply) => {
            if config.http.tls.is_some() && no_reply.reason().contains("certificate") {
                // Whom its clients know by a name this check knows by an address alone.
                let found =
                    format!("{url} answers, by TLS; how it does was not asked: {}", no_reply.reason());
                let mend = "ask it by its name: engram status --server https://NAME --tls-ca FILE";
                return vec![Finding::warning("server", found, mend)];
            }
            let found = format!("no answer from {url}: {}", no_reply.reason());
            let mend =
                "name the address that it listens on with --listen; its log says whether it still recovers";
            return vec![Finding::failed("server", found, mend)];
        }
    };
    match reply.status {
        200 => judge(&url, &reply.body),
        401 | 403 => {
            let mend = "set ENGRAM_API_KEY to a key for all spaces, so that it can be asked";
            vec![Finding::warning("server", format!("{url} wants a key to tell how it does"), mend)]
        }
        status => {
            let said = reply.field("detail").map_or_else(|| status.to_string(), str::to_owned);
            vec![Finding::failed("server", format!("{url}: {said}"), "look into its log")]
        }
    }
}

/// Where it can be reached from here: an address that stands for all of them is none to connect to.
fn url(config: &StartConfig, mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            [0, 0, 0, 0, 0, 0, 0, 1].into()
        });
    }
    let scheme = if config.http.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{address}")
}

fn judge(url: &str, status: &Value) -> Vec<Finding> {
    let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let is = |pointer: &str| status.pointer(pointer).and_then(Value::as_bool).unwrap_or_default();
    let version = text("/version");
    let found = format!(
        "{url}: version {version}, {}, writes {}",
        count(number("/memories"), "memory", "memories"),
        text("/writes")
    );
    let mut findings = vec![if version == env!("CARGO_PKG_VERSION") {
        Finding::ok("server", found)
    } else {
        let mend = "restart it, so that it is the one that is installed";
        Finding::warning("server", format!("{found}; this is {}", env!("CARGO_PKG_VERSION")), mend)
    }];
    if is("/log/disk_full") {
        let mend = "free some: it goes on by itself";
        findings.push(Finding::failed("server", "writes are refused for want of space", mend));
    } else if text("/writes") != "durable" {
        let reason = [text("/log/failure"), text("/recovery/read_only")].join("");
        let found = format!("writes are {}: {reason}", text("/writes"));
        let mend = "mend that (free space, access, the disk: see the system's log), then restart: what was acknowledged is recovered";
        findings.push(Finding::failed("server", found, mend));
    }
    let lost = number("/recovery/lost_records");
    if lost > 0 {
        let lost = count(lost, "acknowledged record", "acknowledged records");
        let found = format!("its start could not read {lost}");
        let mend = "`engram recover --report` names them; bring them back from a backup, or accept it: `engram repair`";
        findings.push(Finding::warning("server", found, mend));
    }
    let error = text("/snapshots/last_error");
    if !error.is_empty() {
        let mend = "the log grows until one succeeds: `engram snapshot` tries it now";
        findings.push(Finding::warning("server", format!("the last snapshot failed: {error}"), mend));
    }
    if matches!(&*text("/embedding/state"), "retrying" | "misconfigured") {
        let found = format!("it cannot embed: {}", text("/embedding/last_error"));
        let mend = "what is stored is recalled by words until it can: start the model, or correct the --embed-… settings";
        findings.push(Finding::warning("server", found, mend));
    }
    findings
}
