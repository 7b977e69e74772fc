//! How far long work is, for people at a terminal.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often it is drawn: to be read, not to flicker.
const DRAWN_EACH: Duration = Duration::from_millis(250);

/// A bar on standard error, drawn by this template; seen on a terminal alone, and if `is_wanted`.
pub(crate) fn bar(is_wanted: bool, length: Option<u64>, template: &str) -> ProgressBar {
    let is_seen = is_wanted && io::stderr().is_terminal();
    let target = if is_seen { ProgressDrawTarget::stderr_with_hz(4) } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(length, target);
    // A template that were wrong would leave the plain bar.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    if is_seen {
        bar.enable_steady_tick(DRAWN_EACH);
    }
    bar
}
