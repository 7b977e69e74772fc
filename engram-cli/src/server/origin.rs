//! Requests that a browser sends for somebody else's page.
//!
//! A server on loopback is within reach of each page that its user looks at. Two headers tell: `Origin` names the page
//! that asks, and `Host` the name that it asked for, which after DNS rebinding is that of the page's own site. No page
//! can change either.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{
    body,
    need::Need,
    problem::{Code, Problem},
    state::App,
};

/// What is taken for ours beside loopback.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowed {
    /// Names of hosts, with a port or for all of them.
    pub(crate) hosts: Vec<String>,
    /// Origins, as browsers send them: scheme, host and port.
    pub(crate) origins: Vec<String>,
}

impl Allowed {
    /// Refuses a page of another site. Who sends no origin is no page that is another site's.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        for origin in headers.get_all(header::ORIGIN) {
            let is_ours = origin.to_str().is_ok_and(|origin| {
                let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
                // A page of our own host is one that the server has given.
                host.is_some_and(|host| self.is_our_host(host))
                    || self.origins.iter().any(|it| it.eq_ignore_ascii_case(origin))
            });
            if !is_ours {
                let detail = format!("expected an origin on loopback or an allowed one, got {origin:?}");
                return Err(Problem::new(Code::ForeignOrigin, detail));
            }
        }
        Ok(())
    }

    /// Refuses a request for another host.
    pub(crate) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        // A target with a host of its own makes the header void (RFC 9112, 3.2.2).
        let host = match uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => headers.get(header::HOST).and_then(|host| host.to_str().ok()),
        };
        if host.is_some_and(|host| self.is_our_host(host)) {
            return Ok(());
        }
        let got = host.map_or_else(|| "none".to_owned(), |host| format!("{host:?}"));
        let detail = format!("expected localhost, an address of loopback or an allowed host, got {got}");
        Err(Problem::new(Code::ForeignHost, detail))
    }

    /// Whether this host, with or without a port, is on loopback or an allowed one.
    fn is_our_host(&self, host: &str) -> bool {
        let name = without_port(host);
        is_loopback(name)
            || self.hosts.iter().any(|it| it.eq_ignore_ascii_case(host) || it.eq_ignore_ascii_case(name))
    }
}

/// Refuses pages of other sites; and other hosts, too, where nothing but the address keeps anybody out. A page has no
/// key to send.
pub(crate) async fn refuse_foreign_pages(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    if Need::of(request.method(), request.uri().path()) == Need::Nothing {
        return next.run(request).await;
    }
    let is_open = app.on_loopback && !app.keys.are_required();
    check(&app, request, next, is_open).await
}

/// The same with other hosts refused in any case: for ways in that browsers are known to be led to.
pub(crate) async fn refuse_foreign_hosts(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    check(&app, request, next, true).await
}

async fn check(app: &App, request: Request, next: Next, is_host_checked: bool) -> Response {
    let allowed = &app.config.http.allowed;
    let mut checked = allowed.check_origin(request.headers());
    if is_host_checked {
        checked = checked.and_then(|()| allowed.check_host(request.uri(), request.headers()));
    }
    match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            body::discard(request).await;
            problem.into_response()
        }
    }
}

/// Whether browsers ask nobody but this machine for it.
fn is_loopback(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn allowed() -> Allowed {
        Allowed {
            hosts: vec!["engram".to_owned(), "proxy.example:8443".to_owned()],
            origins: vec!["https://app.example".to_owned()],
        }
    }

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn origins_on_loopback_and_allowed_ones_are_ours() {
        assert!(allowed().check_origin(&HeaderMap::new()).is_ok());
        for (origin, is_ours) in [
            ("http://localhost", true),
            ("http://localhost:3000", true),
            ("https://LOCALHOST:3000", true),
            ("http://127.0.0.1:5173", true),
            ("http://127.8.9.10", true),
            ("http://[::1]:3000", true),
            ("https://app.example", true),
            ("https://App.Example", true),
            ("https://engram:7432", true),
            ("https://proxy.example:8443", true),
            ("https://proxy.example", false),
            ("https://app.example:444", false),
            ("http://app.example", false),
            ("https://evil.example", false),
            ("http://localhost.evil.example", false),
            ("http://evil.example/localhost", false),
            ("http://evil.example:80@localhost", false),
            ("http://127.0.0.1.evil.example", false),
            ("http://192.168.1.5:7432", false),
            ("file://localhost", false),
            ("localhost", false),
            ("null", false),
            ("", false),
        ] {
            let checked = allowed().check_origin(&headers(header::ORIGIN, origin));
            assert_eq!(checked.is_ok(), is_ours, "{origin}");
        }
        let mut two = headers(header::ORIGIN, "http://localhost");
        two.append(header::ORIGIN, HeaderValue::from_static("https://evil.example"));
        assert!(allowed().check_origin(&two).is_err());
    }

    #[test]
    fn hosts_on_loopback_and_allowed_ones_are_ours() {
        let path = Uri::from_static("/v1/memories");
        for (host, is_ours) in [
            ("localhost", true),
            ("localhost:7432", true),
            ("LocalHost:7432", true),
            ("127.0.0.1:7432", true),
            ("[::1]:7432", true),
            ("[::1]", true),
            ("engram", true),
            ("engram:7432", true),
            ("Proxy.Example:8443", true),
            ("proxy.example", false),
            ("proxy.example:8444", false),
            ("evil.example", false),
            ("evil.example:7432", false),
            ("localhost.evil.example:7432", false),
            ("10.0.0.1:7432", false),
            ("", false),
        ] {
            let checked = allowed().check_host(&path, &headers(header::HOST, host));
            assert_eq!(checked.is_ok(), is_ours, "{host}");
        }
        assert!(allowed().check_host(&path, &HeaderMap::new()).is_err());
        let ours = headers(header::HOST, "localhost");
        assert!(allowed().check_host(&Uri::from_static("http://evil.example/v1"), &ours).is_err());
        assert!(allowed().check_host(&Uri::from_static("http://localhost:1/v1"), &HeaderMap::new()).is_ok());
    }
}
