//! The `OpenAPI` 3.1 document of the interface, and a page to read it with.
//!
//! Schemas are derived from the types that handlers read and write; what a path takes and answers is in the table of
//! [`mod@operations`]. A test holds the table against the router, and schemathesis holds the document against the server.

mod document;
mod operations;

use std::sync::OnceLock;

use axum::{
    http::header,
    response::{Html, IntoResponse, Response},
};

/// `GET /openapi.json`
pub(crate) async fn json() -> Response {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| document::document().to_string());
    ([(header::CONTENT_TYPE, "application/json")], document.as_str()).into_response()
}

/// `GET /docs`: needs no other host.
pub(crate) async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}
