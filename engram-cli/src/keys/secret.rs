//! A key itself: made anew, or of the environment. It is never shown but where it is made.

use std::{env, fmt, fs::File, io::Read as _, path::Path};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::Sha256Hash;
use crate::exit::{Exit, Failure};

/// Tells people, and tools that look for secrets in what is published, what it is.
const PREFIX: &str = "engram_";

const RANDOM_BYTES: usize = 32;

/// Characters of a key that somebody else has made.
const LEN_MAX: usize = 1_024;

/// With fewer characters than this a key can be guessed by whoever may try for long.
const LEN_SAFE: usize = 16;

/// The variable that has the key itself. There is no such flag: all users of a machine see each other's.
const VARIABLE: &str = "ENGRAM_API_KEY";

/// The secret of a key: visible ASCII, as a header takes it.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// A new one, of the operating system's random bytes.
    pub(crate) fn generate() -> Result<Self, Failure> {
        let bytes: [u8; RANDOM_BYTES] = random_bytes()?;
        Ok(Self(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The one of the environment, or of this file; nothing when there is neither.
    pub(crate) fn from_environment(file: Option<&Path>) -> Result<Option<Self>, Failure> {
        let variable = env::var_os(VARIABLE).filter(|value| !value.is_empty());
        match (variable, file) {
            (None, None) => Ok(None),
            (Some(_), Some(file)) => {
                Err(refused(format!("expected one key, got {VARIABLE} and the file {}", file.display()))
                    .help(format!("unset {VARIABLE}, or leave out --api-key-file and ENGRAM_API_KEY_FILE")))
            }
            (Some(value), None) => {
                let value = value.into_string().map_err(|_| not_a_key(VARIABLE))?;
                Self::new(value).map(Some).ok_or_else(|| not_a_key(VARIABLE))
            }
            (None, Some(file)) => Self::read(file).map(Some),
        }
    }

    fn read(file: &Path) -> Result<Self, Failure> {
        let unread = |e| refused(format!("expected a file with a key, got {}: {e}", file.display()));
        let mut bytes = Vec::new();
        let opened = File::open(file).map_err(unread)?;
        // One more than a key may have, and a line end.
        opened.take(LEN_MAX as u64 + 3).read_to_end(&mut bytes).map_err(unread)?;
        let text = String::from_utf8(bytes).ok().map(|text| text.trim_ascii().to_owned());
        text.and_then(Self::new).ok_or_else(|| not_a_key(&file.display().to_string()))
    }

    fn new(text: String) -> Option<Self> {
        let is_key = (1..=LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_key.then_some(Self(text))
    }

    /// As it is sent.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    pub(crate) fn hash(&self) -> Sha256Hash {
        Sha256Hash::of(self.0.as_bytes())
    }

    /// Whether it can be guessed.
    pub(crate) fn is_short(&self) -> bool {
        self.0.len() < LEN_SAFE
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// From the operating system.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::new(Exit::Failure, format!("the system gives no random bytes: {e}")))?;
    Ok(bytes)
}

/// What it is not is not said: it may be a key all the same, with a typing error.
fn not_a_key(source: &str) -> Failure {
    refused(format!(
        "expected a key of 1 to {LEN_MAX} visible ASCII characters in {source}, got something else"
    ))
}

fn refused(message: String) -> Failure {
    Failure::new(Exit::Setting, message)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_new_secret_is_long_and_differs() {
        let [one, other] = [Secret::generate().unwrap(), Secret::generate().unwrap()];
        assert_ne!(one.expose(), other.expose());
        assert!(one.expose().starts_with("engram_") && one.expose().len() == 7 + 43, "{}", one.expose());
        assert!(Secret::new(one.expose().to_owned()).is_some() && !one.is_short());
        assert_eq!(format!("{one:?}"), "Secret(..)");
    }

    #[test]
    fn a_file_has_one_key_or_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        for (text, expected) in [
            ("a-key", Some("a-key")),
            (" a-key\n", Some("a-key")),
            ("a\nb", None),
            ("", None),
            ("\n", None),
            ("schlüssel", None),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(Secret::read(&file).ok().as_ref().map(Secret::expose), expected, "{text:?}");
        }
        fs::write(&file, "x".repeat(LEN_MAX + 1)).unwrap();
        assert!(Secret::read(&file).is_err());
        assert!(Secret::read(directory.path()).is_err());
    }
}
