//! How many files the process may have open. Connections are files, and so are the log's segments: where the former
//! used up all there are, the next segment could not be made, and the log would fail.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is assumed where the limit cannot be told.
const OPEN_MAX_DEFAULT: u64 = 256;

/// Raises the limit as far as the process may, and gives it. Shells set it low for programs of another age.
pub(crate) fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
    limit.unwrap_or(OPEN_MAX_DEFAULT)
}
