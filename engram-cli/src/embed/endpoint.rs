//! An OpenAI-compatible endpoint: `POST …/embeddings`.

use std::{fmt, io, time::Duration};

use chrono::{DateTime, Utc};
use serde::Serialize;
use ureq::{
    Body,
    http::{HeaderMap, Response, header},
};

use super::{
    answer,
    config::EndpointConfig,
    error::{EmbedError, Kind, shortened},
};

/// Bytes of an answer: 1,000 vectors of 4,096 numbers, as JSON. What is longer is none.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Bytes of an error that are read, to show the beginning.
const ERROR_BYTES_MAX: u64 = 64 << 10;

/// The longest that an endpoint is waited for because it has said so.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);

/// An OpenAI-compatible endpoint. Its calls block.
pub(crate) struct Endpoint {
    config: EndpointConfig,
    agent: ureq::Agent,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [String],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

impl Endpoint {
    pub(crate) fn new(config: EndpointConfig) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would lose the body, or take the key to another host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("engram/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Self { config, agent }
    }

    pub(crate) fn config(&self) -> &EndpointConfig {
        &self.config
    }

    /// The vectors of these texts, in their order, within the time that the endpoint has, or in less.
    pub(crate) fn embed(&self, texts: &[String], within: Duration) -> Result<Vec<Vec<f32>>, EmbedError> {
        let within = within.min(self.config.timeout);
        let answer = self.ask(texts, within).and_then(|body| answer::vectors(&body, texts.len()));
        answer.map_err(|error| self.told(&error))
    }

    fn ask(&self, texts: &[String], within: Duration) -> Result<Vec<u8>, EmbedError> {
        let EndpointConfig { url, model, key, dimensions, .. } = &self.config;
        let request = Request { model, input: texts, encoding_format: "float", dimensions: *dimensions };
        let mut post = self.agent.post(url).config().timeout_global(Some(within)).build();
        if let Some(key) = key {
            post = post.header(header::AUTHORIZATION, format!("Bearer {}", key.reveal()));
        }
        let mut response = post.send_json(&request).map_err(|error| of_transport(&error, within))?;
        if response.status().is_success() {
            let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
            return body.map_err(|error| of_transport(&error, within));
        }
        Err(of_status(&mut response, self.config.key.as_ref().map(super::args::Secret::reveal)))
    }

    /// An error with where it comes from, and without the key, which some endpoints repeat.
    fn told(&self, error: &EmbedError) -> EmbedError {
        let EndpointConfig { url, key, .. } = &self.config;
        let message = format!("{url}: {error}");
        let message = key.as_ref().map_or(message.clone(), |key| message.replace(key.reveal(), "[key]"));
        EmbedError::new(error.kind, message)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("config", &self.config).finish_non_exhaustive()
    }
}

/// No answer, or not a whole one.
fn of_transport(error: &ureq::Error, within: Duration) -> EmbedError {
    match error {
        ureq::Error::Timeout(_) => {
            EmbedError::transient(format!("expected an answer within {} ms", within.as_millis()))
        }
        ureq::Error::BodyExceedsLimit(limit) => {
            EmbedError::misconfigured(format!("expected an answer of at most {limit} bytes, got more"))
        }
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            EmbedError::transient("the answer ended before its end")
        }
        // A certificate that nobody here trusts, or no TLS at all.
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            EmbedError::misconfigured(error.to_string())
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => EmbedError::misconfigured(error.to_string()),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
            EmbedError::misconfigured(error.to_string())
        }
        other => EmbedError::transient(other.to_string()),
    }
}

fn of_status(response: &mut Response<Body>, key: Option<&str>) -> EmbedError {
    let status = response.status();
    if status.is_redirection() {
        let to = text_of(response.headers(), header::LOCATION);
        let to = shortened(to.unwrap_or("nowhere"));
        return EmbedError::misconfigured(format!(
            "{status}: it sends elsewhere, to {to}; set --embed-url to that"
        ));
    }
    let retry_after =
        text_of(response.headers(), header::RETRY_AFTER).and_then(|text| wait(text, Utc::now()));
    // What cannot be read of an error is not shown.
    let body = response.body_mut().with_config().limit(ERROR_BYTES_MAX).read_to_vec().unwrap_or_default();
    // Before it is cut short: a part of the key would not be found any more.
    let body = match key {
        Some(key) => hide(&body, key),
        None => body,
    };
    let message = format!("{status}: {}", reason(&body));
    match status.as_u16() {
        400 | 413 | 422 => EmbedError::refused(message),
        408 | 425 | 429 | 501.. => EmbedError::new(Kind::Transient { retry_after }, message),
        500 => EmbedError::broken(message),
        _ => EmbedError::misconfigured(message),
    }
}

/// The same without the key.
fn hide(body: &[u8], key: &str) -> Vec<u8> {
    String::from_utf8_lossy(body).replace(key, "[key]").into_bytes()
}

fn text_of(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// How long `Retry-After` asks to wait: seconds, or a date.
fn wait(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let seconds = text.trim().parse().ok().map(Duration::from_secs);
    let until = || (DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().ok();
    seconds.or_else(until).map(|wait| wait.min(RETRY_AFTER_MAX))
}

/// What an error says: the message of the usual form (an object, or a text), or the beginning of whatever it is.
fn reason(body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let error = json.get("error").unwrap_or(&json);
    let message = error.get("message").unwrap_or(error).as_str();
    shortened(message.unwrap_or(&String::from_utf8_lossy(body)))
}

#[cfg(test)]
mod tests;
