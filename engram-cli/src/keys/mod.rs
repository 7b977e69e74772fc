//! API keys: who may ask the server for what.
//!
//! A key is a random secret that is sent with each request. [`file`](mod@file) keeps the keys of a data directory, as hashes;
//! [`secret`] is a key itself, made anew or of the environment; [`verb`] is `engram key`; [`server`] is what a running
//! server knows of its keys. What a request needs is not known here.

pub(crate) mod file;
pub(crate) mod secret;
pub(crate) mod server;
pub(crate) mod verb;

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// A key, as it is kept: without its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)] // one that would narrow a key must not be passed over
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Of the secret.
    pub(crate) sha256: Sha256Hash,
    pub(crate) grant: Grant,
    /// RFC 3339.
    pub(crate) created_at: String,
}

/// What a key may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grant {
    /// In which spaces; empty for all of them, and for what concerns all of them.
    pub(crate) spaces: Vec<String>,
    pub(crate) access: Access,
}

/// Whether a key may change anything. Whoever may write may read, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Access {
    /// Read, list and recall
    Read,
    /// Store and forget, too
    Write,
}

impl Grant {
    /// Everything.
    pub(crate) const ALL: Self = Self { spaces: Vec::new(), access: Access::Write };

    /// Whether it reaches into this space.
    pub(crate) fn covers(&self, space: &str) -> bool {
        self.covers_all() || self.spaces.iter().any(|it| it == space)
    }

    /// Whether it reaches into all spaces, also those that do not exist yet.
    pub(crate) fn covers_all(&self) -> bool {
        self.spaces.is_empty()
    }
}

/// In words, after "may".
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in ", self.access)?;
        match self.spaces.as_slice() {
            [] => f.write_str("all spaces"),
            [space] => write!(f, "the space {space:?}"),
            spaces => write!(f, "the spaces {spaces:?}"),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

/// The SHA-256 of a secret: as good as the secret to compare, and useless to whoever reads it. It has no salt and is
/// not slow, since a secret of 32 random bytes cannot be guessed from it anyway.
#[derive(Clone, Copy)]
pub(crate) struct Sha256Hash([u8; 32]);

impl Sha256Hash {
    pub(crate) fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

/// In a time that tells nothing of where they differ.
impl ConstantTimeEq for Sha256Hash {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Debug for Sha256Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256Hash(..)")
    }
}

/// 64 hexadecimal digits.
impl Serialize for Sha256Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sha256Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes: Option<Vec<u8>> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?))
            .collect();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("expected a SHA-256 of 64 hexadecimal digits"))
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|it| char::from_digit(it.into(), 16))
        .collect()
}

/// The key that a secret belongs to. All are compared, whichever it is: the time tells nothing of it.
pub(crate) fn find<'a>(keys: &'a [Key], hash: &Sha256Hash) -> Option<&'a Key> {
    keys.iter().fold(None, |found, key| if key.sha256.ct_eq(hash).into() { Some(key) } else { found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_the_standard_and_reads_back() {
        let hash = Sha256Hash::of(b"abc");
        let text = serde_json::to_string(&hash).unwrap();
        assert_eq!(text, "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"");
        let back: Sha256Hash = serde_json::from_str(&text).unwrap();
        assert!(bool::from(back.ct_eq(&hash)) && !bool::from(back.ct_eq(&Sha256Hash::of(b"abd"))));
        for wrong in
            ["\"\"", "\"ba\"", "\"zz7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"", "1"]
        {
            assert!(serde_json::from_str::<Sha256Hash>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(format!("{hash:?}"), "Sha256Hash(..)");
    }

    #[test]
    fn a_grant_says_what_it_is_for() {
        let of =
            |spaces: &[&str], access| Grant { spaces: spaces.iter().map(|&it| it.into()).collect(), access };
        assert_eq!(Grant::ALL.to_string(), "write in all spaces");
        assert_eq!(of(&["a"], Access::Read).to_string(), "read in the space \"a\"");
        let two = of(&["a", "b"], Access::Write);
        assert_eq!(two.to_string(), "write in the spaces [\"a\", \"b\"]");
        assert!(two.covers("b") && !two.covers("c") && !two.covers_all() && Grant::ALL.covers("c"));
        assert!(Access::Write > Access::Read);
    }
}
