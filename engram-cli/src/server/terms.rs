//! The headers that say on what terms a change is made: `If-Match`, `If-None-Match`, `Idempotency-Key` and
//! `Engram-Durability`.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, Method, header, request::Parts},
};
use engram_core::{Durability, Lsn, Receipt, RequestKey, WriteOptions, Writes};
use sha2::{Digest as _, Sha256};

use super::problem::{Code, Problem};
use crate::service::SpaceService;

/// What makes a request safe to repeat.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Bytes of a key. What tells the items of a batch apart comes behind it.
const KEY_BYTES_MAX: usize = 200;

/// What the change has to survive when it is answered.
const DURABILITY: &str = "engram-durability";

/// On what terms the request changes something.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    version: Expected,
    key: Option<String>,
    is_to_be_synced: bool,
    /// What the request is, apart from its body.
    request: String,
}

/// The version that is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Any,
    Some,
    None,
    Lsn(Lsn),
}

impl<S: Send + Sync> FromRequestParts<S> for Terms {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(&parts.method, parts.uri.path(), &parts.headers)
    }
}

impl Terms {
    fn of(method: &Method, path: &str, headers: &HeaderMap) -> Result<Self, Problem> {
        let version = match (text(headers, "if-match")?, text(headers, "if-none-match")?) {
            (None, None) => Expected::Any,
            (None, Some("*")) => Expected::None,
            (Some("*"), None) => Expected::Some,
            (Some(tag), None) => Expected::Lsn(version(tag).ok_or_else(|| {
                invalid(format!("if-match: expected * or the ETag of a memory, such as \"7\", got {tag:?}"))
            })?),
            (None, Some(tag)) => {
                return Err(invalid(format!(
                    "if-none-match: expected *, for a memory that is not there, got {tag:?}"
                )));
            }
            (Some(_), Some(_)) => {
                return Err(invalid("expected one of if-match and if-none-match, got both".to_owned()));
            }
        };
        let is_to_be_synced = match text(headers, DURABILITY)? {
            None | Some("written") => false,
            Some("synced") => true,
            Some(other) => {
                return Err(invalid(format!("{DURABILITY}: expected synced or written, got {other:?}")));
            }
        };
        let key = text(headers, IDEMPOTENCY_KEY)?.map(str::to_owned);
        if let Some(key) = key.as_ref().filter(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
            let got = key.len();
            return Err(invalid(format!(
                "{IDEMPOTENCY_KEY}: expected 1 to {KEY_BYTES_MAX} bytes, got {got}"
            )));
        }
        Ok(Self { version, key, is_to_be_synced, request: format!("{method} {path}\n") })
    }

    /// None.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { version: Expected::Any, key: None, is_to_be_synced: false, request: String::new() }
    }

    /// For a change of this memory by a request with this body.
    pub(crate) fn options(&self, body: &[u8]) -> WriteOptions {
        let expected = match self.version {
            Expected::Any | Expected::Some => None,
            Expected::None => Some(Lsn::ZERO),
            Expected::Lsn(lsn) => Some(lsn),
        };
        let request = self.key.clone().map(|key| RequestKey { key, fingerprint: self.fingerprint(body) });
        WriteOptions { expected, request, ..WriteOptions::default() }
    }

    /// Whether there must be a memory, of whatever version.
    pub(crate) fn ask_for_any_version(&self) -> bool {
        self.version == Expected::Some
    }

    /// What is told when the change was refused: a memory that is not there is not of the version that was expected, either.
    pub(crate) fn refusal(&self, error: impl Into<Problem>) -> Problem {
        let problem = error.into();
        match self.version {
            Expected::Some | Expected::Lsn(_) if problem.code() == Code::NotFound => {
                Problem::new(Code::VersionMismatch, format!("if-match: {}", problem.detail()))
            }
            _ => problem,
        }
    }

    /// For one item of a batch: each is repeated by itself.
    pub(crate) fn options_of_item(&self, item: usize, body: &[u8]) -> WriteOptions {
        let request = self.key.as_ref().map(|key| {
            let key = format!("{key}#{item}");
            RequestKey { key, fingerprint: self.fingerprint(body) }
        });
        WriteOptions { request, ..WriteOptions::default() }
    }

    /// Refuses a version where a request changes many memories.
    pub(crate) fn without_version(self) -> Result<Self, Problem> {
        if self.version == Expected::Any {
            return Ok(self);
        }
        Err(invalid(
            "expected no if-match and no if-none-match: the request is about many memories".to_owned(),
        ))
    }

    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Makes the change as durable as it was asked for.
    pub(crate) async fn keep(&self, space: &SpaceService, receipt: Receipt) -> Result<Receipt, Problem> {
        if receipt.durability != Durability::Synced {
            self.sync(space).await?;
        }
        Ok(self.synced(receipt))
    }

    /// The same, of many changes, of which some are not synced.
    pub(crate) async fn sync(&self, space: &SpaceService) -> Result<(), Problem> {
        if !self.is_to_be_synced {
            return Ok(());
        }
        if space.service().status().writes == Writes::Volatile {
            let detail =
                "engram-durability: expected to make the change survive power loss, but the log has failed";
            return Err(Problem::new(Code::LogFailed, detail));
        }
        Ok(space.service().sync().await?)
    }

    /// A receipt after that.
    pub(crate) fn synced(&self, receipt: Receipt) -> Receipt {
        if self.is_to_be_synced { Receipt { durability: Durability::Synced, ..receipt } } else { receipt }
    }

    /// Stays the same over builds: it is in the log.
    fn fingerprint(&self, body: &[u8]) -> u128 {
        let digest = Sha256::new().chain_update(&self.request).chain_update(body).finalize();
        digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
    }
}

/// The version as a tag.
pub(crate) fn etag(lsn: Lsn) -> String {
    format!("\"{lsn}\"")
}

/// Whether the client has this version already.
pub(crate) fn has_version(headers: &HeaderMap, lsn: Lsn) -> bool {
    let tags = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    tags.is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == "*" || version(tag.trim()) == Some(lsn)))
}

fn version(tag: &str) -> Option<Lsn> {
    let number = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
    // Zero would mean a memory that is not there.
    number.parse().ok().filter(|number| *number > 0).map(Lsn::new)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid(format!("{name}: expected it once, got it several times")));
    }
    value
        .to_str()
        .map(|value| Some(value.trim()))
        .map_err(|_| invalid(format!("{name}: expected printable ASCII")))
}

fn invalid(detail: String) -> Problem {
    Problem::new(Code::InvalidHeader, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(headers: &[(&'static str, &'static str)]) -> Result<Terms, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Terms::of(&Method::PUT, "/v1/memories/a", &map).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn headers_are_read_and_wrong_ones_refused_with_what_was_expected() {
        assert_eq!(terms(&[]).unwrap().version, Expected::Any);
        assert_eq!(terms(&[("if-match", "\"7\"")]).unwrap().version, Expected::Lsn(Lsn::new(7)));
        assert_eq!(terms(&[("if-match", "7")]).unwrap().version, Expected::Lsn(Lsn::new(7)));
        assert_eq!(terms(&[("if-none-match", "*")]).unwrap().version, Expected::None);
        assert!(terms(&[("engram-durability", "synced")]).unwrap().is_to_be_synced);
        for (headers, expected) in [
            (&[("if-match", "tea")][..], "such as \"7\""),
            (&[("if-match", "\"0\"")], "ETag"),
            (&[("if-none-match", "\"7\"")], "expected *"),
            (&[("if-match", "*"), ("if-none-match", "*")], "got both"),
            (&[("engram-durability", "ever")], "synced or written"),
            (&[("idempotency-key", "a"), ("idempotency-key", "b")], "several times"),
            (&[("idempotency-key", "")], "1 to 200 bytes"),
        ] {
            let detail = terms(headers).unwrap_err();
            assert!(detail.contains(expected), "{detail}");
        }
    }

    #[test]
    fn another_body_or_path_is_another_request() {
        let print = |path: &str, body: &[u8]| {
            Terms::of(&Method::PUT, path, &HeaderMap::new()).unwrap().fingerprint(body)
        };
        // Pinned: repetitions are told from other requests over updates of the server, too.
        assert_eq!(print("/v1/memories/a", b"{}"), print("/v1/memories/a", b"{}"));
        assert_ne!(print("/v1/memories/a", b"{}"), print("/v1/memories/b", b"{}"));
        assert_ne!(print("/v1/memories/a", b"{}"), print("/v1/memories/a", b"{ }"));
    }
}
