//! What a client hears when a request fails: RFC 9457, `application/problem+json`.

use std::borrow::Cow;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

pub(crate) use super::code::Code;
use super::{code::Row, request_id};

/// The answer to a request that failed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    code: Code,
    status: StatusCode,
    detail: String,
    suggestion: Cow<'static, str>,
    retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem, with what was expected and what came.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let Row { status, suggestion, .. } = code.row();
        Self {
            code,
            status,
            detail: detail.into(),
            suggestion: Cow::Borrowed(suggestion),
            retry_after_s: None,
        }
    }

    /// With something better to do than the table knows.
    pub(crate) fn suggest(self, suggestion: impl Into<Cow<'static, str>>) -> Self {
        Self { suggestion: suggestion.into(), ..self }
    }

    /// With another status than that of the table, where the path gives it a meaning of its own.
    pub(crate) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// With when to try again.
    pub(crate) fn retry_after_s(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// With another detail.
    pub(crate) fn with_detail(self, detail: String) -> Self {
        Self { detail, ..self }
    }

    /// Whether the request itself is wrong, and not what it met.
    pub(crate) fn is_of_the_client(&self) -> bool {
        self.status.is_client_error()
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// What was expected, and what came.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    #[cfg(test)]
    pub(crate) fn suggestion(&self) -> &str {
        &self.suggestion
    }
}

/// A problem as it is written.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct ProblemView<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    /// Never changes its meaning: for a program to act on.
    code: &'a str,
    /// What was expected, and what came.
    detail: &'a str,
    /// What to do.
    suggestion: &'a str,
    /// Of the request that met it.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

impl Problem {
    fn view(&self, request_id: Option<String>) -> ProblemView<'_> {
        let Row { name, title, .. } = self.code.row();
        ProblemView {
            r#type: format!("urn:engram:problem:{name}"),
            title,
            status: self.status.as_u16(),
            code: name,
            detail: &self.detail,
            suggestion: &self.suggestion,
            request_id,
        }
    }
}

/// As one of several in an answer.
impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view(None).serialize(serializer)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.view(request_id::current()))).into_response();
        // For the layer that counts them.
        response.extensions_mut().insert(self.code);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
