//! A place in a listing, as clients see it: opaque, and safe in a URL.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use engram_core::{Cursor, limits::ID_BYTES_MAX};

use super::problem::{Code, Problem};

/// The form below. Another one gets another number, so that an old cursor is never taken for something else.
const VERSION: u8 = 1;

/// Version, microseconds since 1970 (big-endian), id.
pub(crate) fn encode(cursor: &Cursor) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(cursor.when_us.to_be_bytes());
    bytes.extend(cursor.id.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn decode(text: &str) -> Result<Cursor, Problem> {
    parse(text).ok_or_else(|| {
        Problem::new(Code::InvalidCursor, format!("expected next_cursor of another page, got {text:?}"))
    })
}

fn parse(text: &str) -> Option<Cursor> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let (&version, rest) = bytes.split_first()?;
    let (when_us, id) = rest.split_first_chunk()?;
    let known = version == VERSION && (1..=ID_BYTES_MAX).contains(&id.len());
    let id = str::from_utf8(id).ok().filter(|_| known)?;
    Some(Cursor { when_us: i64::from_be_bytes(*when_us), id: Arc::from(id) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        for (when_us, id) in [(0, "a"), (-1, "ü/%"), (i64::MIN, "x"), (i64::MAX, &*"é".repeat(128))] {
            let cursor = Cursor { when_us, id: Arc::from(id) };
            assert_eq!(decode(&encode(&cursor)).unwrap(), cursor);
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let no_id = BASE64_URL_SAFE_NO_PAD.encode([VERSION, 0, 0, 0, 0, 0, 0, 0, 0]);
        let later_version = BASE64_URL_SAFE_NO_PAD.encode([VERSION + 1, 0, 0, 0, 0, 0, 0, 0, 0, b'a']);
        let not_text = BASE64_URL_SAFE_NO_PAD.encode([VERSION, 0, 0, 0, 0, 0, 0, 0, 0, 0xff]);
        for text in ["", "AQ", "!", "AQ==", &no_id, &later_version, &not_text] {
            assert_eq!(decode(text).unwrap_err().code(), Code::InvalidCursor, "{text:?}");
        }
    }
}
