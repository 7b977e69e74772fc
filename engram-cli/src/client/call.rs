//! Requests of the HTTP interface, of any kind, and their answers.

use std::{
    io::{self, Read},
    net::IpAddr,
};

use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use serde_json::Value;
use ureq::{
    Body,
    http::{Request, Response},
};

use super::Client;

/// Bytes of an answer. A page of long memories has about eight million.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// One request of the HTTP interface.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// From the first `/` on, with its query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Option<Value>,
}

impl Call {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: None }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same as a request of HTTP.
    pub(crate) fn request<B: From<Vec<u8>>>(&self, origin: &str) -> Result<Request<B>, String> {
        let mut request = Request::builder().method(&self.method).uri(format!("{origin}{}", self.path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if self.body.is_some() {
            request = request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let body = self.body.as_ref().map(|body| body.to_string().into_bytes()).unwrap_or_default();
        request.body(B::from(body)).map_err(|e| format!("{} {} is no request: {e}", self.method, self.path))
    }
}

/// What a server has answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Null when it is no JSON.
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A text of the answer, such as a problem's `code`.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.body.get(name)?.as_str()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoReply {
    /// Nothing was sent: nobody listens there.
    NobodyListens(String),
    /// The request may have been carried out.
    Broken(String),
}

impl NoReply {
    /// In words.
    pub(crate) fn reason(&self) -> &str {
        let (Self::NobodyListens(reason) | Self::Broken(reason)) = self;
        reason
    }
}

impl From<ureq::Error> for NoReply {
    fn from(error: ureq::Error) -> Self {
        let reason = error.to_string();
        if reason.contains("CaUsedAsEndEntity") {
            return Self::NobodyListens(
                "its certificate is that of an authority (CA:TRUE): make one for the server, with \
                 basicConstraints=CA:FALSE"
                    .to_owned(),
            );
        }
        match error {
            ureq::Error::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused => Self::NobodyListens(reason),
            ureq::Error::ConnectionFailed
            | ureq::Error::HostNotFound
            | ureq::Error::BadUri(_)
            | ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Self::NobodyListens(reason)
            }
            _ => Self::Broken(reason),
        }
    }
}

impl Client {
    /// Where the server listens, if that is this machine and needs no TLS: `HOST:PORT`.
    pub(crate) fn loopback_address(&self) -> Option<String> {
        loopback_address(&self.url)
    }

    /// Whether nobody reads on the way what is sent.
    pub(crate) fn is_confidential(&self) -> bool {
        self.loopback_address().is_some() || self.url.starts_with("https://")
    }

    /// Sends a request and waits for the answer, of whatever status.
    ///
    /// # Errors
    /// [`NoReply`] when there is none.
    pub(crate) fn call(&self, call: &Call) -> Result<Reply, NoReply> {
        let request = self.with_key(call.request::<Vec<u8>>(&self.url))?;
        // A deletion may have a body.
        let request = self.agent.configure_request(request).allow_non_standard_methods(true).build();
        reply(self.agent.run(request)?)
    }

    /// Sends lines of JSON and waits for the answer.
    ///
    /// # Errors
    /// [`NoReply`] when there is none.
    pub(crate) fn send_lines(&self, path: &str, lines: Vec<u8>) -> Result<Reply, NoReply> {
        let request = self.with_key(Call::new(Method::POST, path).request::<Vec<u8>>(&self.url))?;
        let mut request = request.map(|_| lines);
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        reply(self.agent.run(request)?)
    }

    /// The body of a long answer, to be read as it comes; the answer itself when it is no success.
    ///
    /// # Errors
    /// [`NoReply`] when there is none.
    pub(crate) fn lines(&self, path: &str) -> Result<Result<impl Read + use<>, Reply>, NoReply> {
        let request = self.with_key(Call::get(path).request::<Vec<u8>>(&self.url))?;
        let request = self.agent.configure_request(request).allow_non_standard_methods(true).build();
        let answer = self.agent.run(request)?;
        Ok(if answer.status().is_success() {
            Ok(answer.into_body().into_reader())
        } else {
            Err(reply(answer)?)
        })
    }

    fn with_key<B>(&self, request: Result<Request<B>, String>) -> Result<Request<B>, NoReply> {
        let mut request = request.map_err(NoReply::NobodyListens)?;
        if let Some(key) = &self.key {
            let value = HeaderValue::try_from(format!("Bearer {}", key.expose()));
            let value = value.map_err(|e| NoReply::NobodyListens(format!("the key is no header: {e}")))?;
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }
}

fn reply(mut answer: Response<Body>) -> Result<Reply, NoReply> {
    let status = answer.status().as_u16();
    let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
    Ok(Reply { status, body: serde_json::from_slice(&body).unwrap_or_default() })
}

/// The address of a server on this machine that needs no TLS: `HOST:PORT`.
pub(super) fn loopback_address(url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    let host = url.host()?;
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let is_plain = url.scheme_str() == Some("http");
    (is_loopback && is_plain).then(|| format!("{host}:{}", url.port_u16().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_of_this_machine_are_loopback() {
        for (url, address) in [
            ("http://127.0.0.1:7432/", Some("127.0.0.1:7432")),
            ("http://localhost:80", Some("localhost:80")),
            ("http://[::1]:7432", Some("[::1]:7432")),
            ("https://127.0.0.1:7432", None),
            ("http://10.0.0.1:7432", None),
            ("http://localhost.example:7432", None),
            ("127.0.0.1:7432", None),
        ] {
            assert_eq!(loopback_address(url).as_deref(), address, "{url}");
        }
    }
}
