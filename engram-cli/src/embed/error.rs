//! Why there is no embedding.

use std::{fmt, time::Duration};

/// Characters of an answer that an error shows.
const SHOWN_CHARS_MAX: usize = 300;

/// Why a text has no embedding, and what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EmbedError {
    pub(crate) kind: Kind,
    message: String,
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Try again later: the endpoint cannot be reached, is busy or broken for now.
    Transient {
        /// When, if the endpoint has said so.
        retry_after: Option<Duration>,
    },
    /// This text, or one of these texts, is not taken; another may be.
    Refused,
    /// The endpoint broke: over one of these texts, or over all that come now. Who asks for a text alone while others are
    /// taken can tell.
    Broken,
    /// No text will be, until somebody corrects a setting here or there.
    Misconfigured,
}

impl EmbedError {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn transient(message: impl Into<String>) -> Self {
        Self { kind: Kind::Transient { retry_after: None }, message: message.into() }
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { kind: Kind::Refused, message: message.into() }
    }

    pub(crate) fn misconfigured(message: impl Into<String>) -> Self {
        Self { kind: Kind::Misconfigured, message: message.into() }
    }

    pub(crate) fn broken(message: impl Into<String>) -> Self {
        Self { kind: Kind::Broken, message: message.into() }
    }

    /// The same, of another kind.
    pub(crate) fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }
}

impl fmt::Display for EmbedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The beginning of a text from elsewhere, on one line and without control characters: a log line stays one.
pub(crate) fn shortened(text: &str) -> String {
    let mut words = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
        if words.len() > SHOWN_CHARS_MAX * 4 {
            break;
        }
    }
    match words.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_is_shown_on_one_short_line() {
        assert_eq!(shortened(" <html>\r\n\t<b>no\u{1b}[31m  way</b>"), "<html> <b>no [31m way</b>");
        assert_eq!(shortened(""), "");
        let long = shortened(&"é".repeat(5_000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (SHOWN_CHARS_MAX + 1, true));
        let words = shortened(&"ab\n".repeat(5_000));
        assert_eq!(words, format!("{}…", "ab ".repeat(SHOWN_CHARS_MAX / 3)));
    }
}
