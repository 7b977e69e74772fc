//! What a check has found.

use serde::Serialize;

use crate::{count::count, exit::Failure, operator::Output};

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    check: &'static str,
    state: State,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Failed,
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Ok, found: found.into(), mend: None }
    }

    /// A server runs, and will not do as well as it could.
    pub(super) fn warning(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Warning, found: found.into(), mend: Some(mend.into()) }
    }

    /// A server does not start so, or does not do what it promises.
    pub(super) fn failed(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Failed, found: found.into(), mend: Some(mend.into()) }
    }

    /// What would end a start.
    pub(super) fn of_failure(check: &'static str, failure: &Failure) -> Self {
        let mend = failure.help_text().map(str::to_owned);
        Self { check, state: State::Failed, found: failure.to_string(), mend }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state == State::Failed
    }
}

/// Prints all of them.
pub(super) fn print(findings: &[Finding], as_json: bool) -> Result<(), Failure> {
    let number = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (warnings, failed) = (number(State::Warning), number(State::Failed));
    let mut output = Output::new();
    if as_json {
        output.json(&serde_json::json!({ "warnings": warnings, "failed": failed, "checks": findings }))?;
        return output.end();
    }
    for Finding { check, state, found, mend } in findings {
        let state = match state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failed => "FAILED",
        };
        output.line(&format!("{state:8} {check:12} {found}"))?;
        if let Some(mend) = mend {
            output.line(&format!("{:21} to do: {mend}", ""))?;
        }
    }
    if failed == 0 {
        let and = match warnings {
            0 => String::new(),
            warnings => format!(", {}", count(warnings, "warning", "warnings")),
        };
        output.line(&format!("nothing has failed{and}"))?;
    }
    output.end()
}
