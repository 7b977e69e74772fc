//! What a request needs of a key, by its path and method. What is not named here needs a key, too: a route that is new
//! is never open by oversight.

use std::{borrow::Cow, fmt};

use axum::http::Method;
use engram_core::MemoryStore;
use percent_encoding::percent_decode_str;

use crate::keys::Access;

/// What a request needs of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Need {
    /// What tells nothing of any memory: who asks whether the server lives has no key.
    Nothing,
    /// What concerns one space.
    Space { space: String, access: Access },
    /// What concerns all of them.
    AllSpaces { access: Access },
}

impl Need {
    /// The path is as it came, percent-encoded.
    pub(crate) fn of(method: &Method, path: &str) -> Self {
        let segments: Vec<&str> = path.trim_start_matches('/').trim_end_matches('/').split('/').collect();
        let access = if is_read(method, &segments) { Access::Read } else { Access::Write };
        match segments.as_slice() {
            // The description of the interface is the same everywhere, and a browser that opens it has no key to send.
            ["healthz" | "readyz" | "openapi.json" | "docs"] => Self::Nothing,
            ["metrics"] | ["v1", "status" | "snapshot" | "reembed" | "spaces"] => Self::AllSpaces { access },
            // To make a space or to remove one is no affair of those who use it.
            ["v1", "spaces", _] if access == Access::Write => Self::AllSpaces { access },
            ["v1", "spaces", space, ..] => match decoded(space) {
                Some(space) => Self::Space { space: space.into_owned(), access },
                // No space has such a name.
                None => Self::AllSpaces { access },
            },
            // One way for all that its tools do: what they change, they ask the principal for.
            ["mcp", ..] => Self::Space { space: MemoryStore::DEFAULT_SPACE.to_owned(), access: Access::Read },
            // What names no space is of the one that is always there.
            _ => Self::Space { space: MemoryStore::DEFAULT_SPACE.to_owned(), access },
        }
    }

    /// What it needs where.
    pub(crate) fn access(&self) -> Access {
        match self {
            Self::Nothing => Access::Read,
            Self::Space { access, .. } | Self::AllSpaces { access } => *access,
        }
    }
}

/// In words, after "may".
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("do nothing"),
            Self::Space { space, access } => write!(f, "{access} in the space {space:?}"),
            Self::AllSpaces { access } => write!(f, "{access} in all spaces"),
        }
    }
}

/// A question is posted, and changes nothing.
fn is_read(method: &Method, segments: &[&str]) -> bool {
    let is_recall = matches!(segments, ["v1", "recall"] | ["v1", "spaces", _, "recall"]);
    method == Method::GET || method == Method::HEAD || (method == Method::POST && is_recall)
}

/// As the router decodes it.
fn decoded(segment: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(segment).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_needs_its_space_and_its_access() {
        let all = |access| Need::AllSpaces { access };
        let space = |space: &str, access| Need::Space { space: space.to_owned(), access };
        let (read, write) = (Access::Read, Access::Write);
        for (method, path, expected) in [
            ("GET", "/healthz", Need::Nothing),
            ("GET", "/readyz", Need::Nothing),
            ("GET", "/openapi.json", Need::Nothing),
            ("GET", "/docs", Need::Nothing),
            ("GET", "/metrics", all(read)),
            ("GET", "/v1/status", all(read)),
            ("POST", "/v1/snapshot", all(write)),
            ("POST", "/v1/reembed", all(write)),
            ("GET", "/v1/reembed", all(read)),
            ("GET", "/v1/memories", space("default", read)),
            ("HEAD", "/v1/memories/a", space("default", read)),
            ("POST", "/v1/memories", space("default", write)),
            ("POST", "/v1/memories/batch", space("default", write)),
            ("PUT", "/v1/memories/recall", space("default", write)),
            ("POST", "/v1/memories/recall", space("default", write)),
            ("DELETE", "/v1/memories/a", space("default", write)),
            ("OPTIONS", "/v1/memories/a", space("default", write)),
            ("DELETE", "/v1/memories", space("default", write)),
            ("PATCH", "/v1/memories/a", space("default", write)),
            ("GET", "/v1/changes", space("default", read)),
            ("GET", "/v1/spaces/ada/export", space("ada", read)),
            ("POST", "/v1/spaces/ada/import", space("ada", write)),
            ("POST", "/v1/recall", space("default", read)),
            ("PUT", "/v1/recall", space("default", write)),
            ("GET", "/v1/spaces", all(read)),
            ("GET", "/v1/spaces/", all(read)),
            ("GET", "/v1/spaces/ada", space("ada", read)),
            ("PUT", "/v1/spaces/ada", all(write)),
            ("DELETE", "/v1/spaces/ada", all(write)),
            ("DELETE", "/v1/spaces/ada/", all(write)),
            ("POST", "/v1/spaces/ada/recall", space("ada", read)),
            ("POST", "/v1/spaces/ada/memories", space("ada", write)),
            ("POST", "/v1/spaces/ada/memories/recall", space("ada", write)),
            ("GET", "/v1/spaces/ada/memories/x", space("ada", read)),
            ("GET", "/v1/spaces/%61d%61/memories", space("ada", read)),
            ("GET", "/v1/spaces/a%2Fb/memories", space("a/b", read)),
            ("GET", "/v1/spaces/%ff/memories", all(read)),
            ("GET", "/v1/spaces/../memories", space("..", read)),
            ("POST", "/mcp", space("default", read)),
            ("GET", "/elsewhere", space("default", read)),
            ("GET", "/", space("default", read)),
            ("GET", "/healthz/x", space("default", read)),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(Need::of(&method, path), expected, "{method} {path}");
        }
    }
}
