//! Whether a request may do what it asks for: one layer, by path and method alone.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{
    body,
    need::Need,
    problem::{Code, Problem},
    state::App,
};
use crate::keys::{
    Grant, Sha256Hash,
    server::{Holder, Stranger},
};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// When to ask again while keys cannot be read.
const RETRY_AFTER_S: u32 = 5;

/// Who asks, and what they may do: an extension of each request that is let in. A handler whose path and method do not
/// tell what it does (one of many tools, say) asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The name of the key; nothing where none is asked for.
    pub(crate) key: Option<String>,
    pub(crate) grant: Grant,
}

impl Principal {
    /// Refuses what the key is not for.
    pub(crate) fn check(&self, need: &Need) -> Result<(), Problem> {
        let Self { key, grant } = self;
        let is_covered = match need {
            Need::Nothing => return Ok(()),
            Need::Space { space, .. } => grant.covers(space),
            Need::AllSpaces { .. } => grant.covers_all(),
        };
        if is_covered && grant.access >= need.access() {
            return Ok(());
        }
        let name = key.as_deref().unwrap_or("?");
        let detail = format!("expected a key that may {need}; the key {name:?} may {grant}");
        Err(Problem::new(Code::Forbidden, detail))
    }
}

/// What lets a request go on for as long as it takes: an extension of each that is let in.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    hash: Option<Sha256Hash>,
    need: Need,
}

impl Admission {
    /// Refuses who would not be let in any more.
    pub(crate) fn renew(&self, app: &App) -> Result<(), Problem> {
        admit(app, self.hash.as_ref(), &self.need).map(drop)
    }
}

/// Lets in who has a key for what is asked for, where keys are required.
pub(crate) async fn authorize(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let need = Need::of(request.method(), request.uri().path());
    if need == Need::Nothing {
        return next.run(request).await;
    }
    let hash = secret(request.headers()).map(Sha256Hash::of);
    match admit(&app, hash.as_ref(), &need) {
        Ok(principal) => {
            // Nobody behind this has a use for it, and so nobody logs it.
            request.headers_mut().remove(header::AUTHORIZATION);
            request.headers_mut().remove(X_API_KEY);
            request.extensions_mut().insert(principal);
            request.extensions_mut().insert(Admission { hash, need });
            next.run(request).await
        }
        Err(problem) => {
            body::discard(request).await;
            problem.into_response()
        }
    }
}

fn admit(app: &App, hash: Option<&Sha256Hash>, need: &Need) -> Result<Principal, Problem> {
    let Holder { key, grant } = app.keys.admit(hash).map_err(|stranger| match stranger {
        Stranger::NoKey => {
            Problem::new(Code::Unauthorized, "expected a key: Authorization: Bearer KEY, or X-Api-Key: KEY")
        }
        Stranger::UnknownKey => Problem::new(
            Code::Unauthorized,
            "expected a key of this server, got another one, or one that is revoked",
        ),
        Stranger::Unreadable => {
            Problem::new(Code::KeysUnavailable, "the server cannot read its keys, and lets in none of them")
                .retry_after_s(RETRY_AFTER_S)
        }
    })?;
    let principal = Principal { key, grant };
    principal.check(need).map(|()| principal)
}

/// What was sent as a key.
fn secret(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get_all(header::AUTHORIZATION).iter().find_map(|value| {
        let (scheme, rest) = value.as_bytes().split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| rest.trim_ascii())
    });
    // A proxy may use the former header for itself.
    bearer.or_else(|| headers.get(X_API_KEY).map(|value| value.as_bytes().trim_ascii()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::keys::Access;

    #[test]
    fn a_key_is_found_in_either_header() {
        let headers = |lines: &[(&'static str, &'static str)]| {
            lines
                .iter()
                .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect()
        };
        for (lines, expected) in [
            (&[][..], None),
            (&[("authorization", "Bearer k")], Some("k")),
            (&[("authorization", "bearer  k ")], Some("k")),
            (&[("authorization", "Basic k")], None),
            (&[("authorization", "Bearer")], None),
            (&[("x-api-key", "k")], Some("k")),
            (&[("authorization", "Basic x"), ("x-api-key", "k")], Some("k")),
            (&[("authorization", "Bearer a"), ("x-api-key", "k")], Some("a")),
        ] {
            let headers: HeaderMap = headers(lines);
            assert_eq!(secret(&headers), expected.map(str::as_bytes), "{lines:?}");
        }
    }

    #[test]
    fn a_key_is_for_its_spaces_and_its_access() {
        let principal = |spaces: &[&str], access| Principal {
            key: Some("k".to_owned()),
            grant: Grant { spaces: spaces.iter().map(|&it| it.into()).collect(), access },
        };
        let may = |principal: &Principal, need: &Need| principal.check(need).is_ok();
        let space = |space: &str, access| Need::Space { space: space.to_owned(), access };
        let reader = principal(&["a"], Access::Read);
        assert!(may(&reader, &Need::Nothing) && may(&reader, &space("a", Access::Read)));
        assert!(!may(&reader, &space("a", Access::Write)) && !may(&reader, &space("b", Access::Read)));
        assert!(!may(&reader, &Need::AllSpaces { access: Access::Read }));
        let problem = reader.check(&space("b", Access::Write)).unwrap_err();
        assert_eq!(
            problem.detail(),
            "expected a key that may write in the space \"b\"; the key \"k\" may read in the space \"a\""
        );
        let all = principal(&[], Access::Read);
        assert!(may(&all, &space("b", Access::Read)) && may(&all, &Need::AllSpaces { access: Access::Read }));
        assert!(!may(&all, &Need::AllSpaces { access: Access::Write }));
        let all = principal(&[], Access::Write);
        assert!(
            may(&all, &space("b", Access::Write)) && may(&all, &Need::AllSpaces { access: Access::Write })
        );
        assert!(!may(&principal(&["a"], Access::Write), &Need::AllSpaces { access: Access::Read }));
    }
}
