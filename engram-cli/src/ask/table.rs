//! Memories as a table for people: a line each.

use std::io::{self, IsTerminal as _};

use serde_json::Value;

use super::text;
use crate::{
    exit::Failure,
    operator::output::{Output, Reader},
};

/// Columns, where the terminal does not say how many it has.
const COLUMNS_DEFAULT: usize = 100;

/// A table never leaves less than this for the content.
const CONTENT_COLUMNS_MIN: usize = 20;

/// Prints memories: their score, if they have one, when, id, and content. On a terminal a line of the table is one of the
/// terminal; elsewhere contents are whole, for `grep`.
pub(super) fn print_memories(output: &mut Output, memories: &[Value]) -> Result<Reader, Failure> {
    let width = io::stdout().is_terminal().then(columns);
    let ids = memories.iter().map(|it| text(it, "id").chars().count()).max().unwrap_or_default();
    let mut reader = Reader::Listens;
    for memory in memories {
        let score = memory.get("score").and_then(Value::as_f64);
        let score = score.map(|score| format!("{score:7.4}  ")).unwrap_or_default();
        let content = one_line(text(memory, "content"));
        let head =
            format!("{score}{:20}  {:ids$}  ", seconds(text(memory, "when")), one_line(text(memory, "id")));
        let room = width.map(|width| width.saturating_sub(head.chars().count()).max(CONTENT_COLUMNS_MIN));
        reader =
            output.line(&format!("{head}{}", room.map_or(content.clone(), |room| cut(&content, room))))?;
    }
    Ok(reader)
}

/// Columns of the terminal.
fn columns() -> usize {
    let asked = rustix::termios::tcgetwinsize(io::stdout()).map(|size| usize::from(size.ws_col));
    asked.ok().filter(|columns| *columns > 0).unwrap_or(COLUMNS_DEFAULT)
}

/// A time to the second.
fn seconds(when: &str) -> String {
    match when.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => when.to_owned(),
    }
}

/// Without what would tell a terminal what to do, but for line ends and tabs.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { ' ' } else { c }).collect()
}

/// Without line ends, and without what would tell a terminal what to do.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_and_what_commands_a_terminal_is_not_printed() {
        assert_eq!(cut("grün", 4), "grün");
        assert_eq!(cut("grüne", 4), "grü…");
        assert_eq!(one_line("a\nb\u{1b}[31mc"), "a b [31mc");
        assert_eq!(seconds("2026-03-01T09:30:00.250Z"), "2026-03-01T09:30:00Z");
        assert_eq!(seconds("2026-03-01T09:30:00Z"), "2026-03-01T09:30:00Z");
    }
}
