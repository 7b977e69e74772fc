//! Tests that a machine cannot run.

/// Says why a test was skipped. In CI, where the machine is known to be able to, that is a failure.
pub(crate) fn because(reason: &str) {
    println!("skipped: {reason}");
    assert!(std::env::var_os("CI").is_none(), "skipped in CI: {reason}");
}
