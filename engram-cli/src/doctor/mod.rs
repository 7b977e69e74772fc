//! `engram doctor`: what commonly goes wrong, found before it does, and how to mend it.
//!
//! - [`finding`] is what a check has found, and how that is told;
//! - [`place`] looks at the data directory and its disk, [`mod@log`] at the log in it, [`machine`] at the clock, the memory and the files of a
//!   process, [`access`] at the address, the keys and the certificate, [`server`] at a server that runs, [`model`] at the one
//!   that embeds.
//!
//! Nothing is changed: what is written to try the disk is removed again.

mod access;
mod finding;
mod log;
mod machine;
mod model;
mod place;
mod server;

use std::env;

use self::finding::{Finding, print};
use crate::{
    args::StartArgs,
    config::StartConfig,
    count::count,
    exit::{Exit, Failure},
    system::kernel,
};

const EXAMPLES: &str = "\
Examples:
  engram doctor
  engram doctor --config /etc/engram/engram.toml
  engram doctor --data-dir /var/lib/engram --listen 0.0.0.0:7432 --json

Takes the flags of `engram start`, and looks whether a server could run so, or how the one does that runs. Run it as the
user of the server. It changes nothing; a few small writes to a file of its own tell how fast the disk syncs.

Exit codes: 0 nothing has failed (there may be warnings), 1 a check has failed, 2 wrong usage";

/// Flags of `engram doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    start: StartArgs,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: DoctorArgs) -> Result<(), Failure> {
    let mut findings = vec![version()];
    match StartConfig::from_args(args.start) {
        Ok((config, _)) => findings.extend(examine(&config)),
        Err(failure) => findings.push(Finding::of_failure("settings", &failure)),
    }
    print(&findings, args.json)?;
    match findings.iter().filter(|finding| finding.has_failed()).count() {
        0 => Ok(()),
        failed => {
            let failed = count(failed, "check has failed", "checks have failed");
            Err(Failure::new(Exit::Failure, failed).help("each says what to do about it"))
        }
    }
}

fn version() -> Finding {
    let (version, system) = (env!("CARGO_PKG_VERSION"), kernel());
    Finding::ok("version", format!("engram {version} on {system}, {}", env::consts::ARCH))
}

fn examine(config: &StartConfig) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("settings", "`engram config show` prints them".to_owned())];
    findings.extend(place::directory(config));
    let holder = place::holder(config);
    findings.extend(holder.finding);
    findings.extend(log::examine(config, holder.is_held));
    findings.extend(access::address(config, holder.is_held));
    findings.push(access::keys(config));
    findings.extend(access::certificate(config));
    if holder.is_held {
        findings.extend(server::running(config));
    }
    findings.push(machine::clock(config));
    findings.push(machine::memory(config));
    findings.push(machine::open_files());
    findings.extend(model::embedder(config));
    findings
}
