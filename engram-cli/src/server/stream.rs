//! Answers that are sent while they are made.

use std::time::Duration;

use axum::{
    BoxError,
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use http_body_util::{Channel, channel};
use tokio::time::timeout;

/// Parts of an answer that wait to be sent.
const PARTS_MAX: usize = 4;

/// How long a part may wait for a client that reads nothing. Its connection is let go of before that.
const UNREAD_TIME_MAX: Duration = Duration::from_mins(1);

pub(super) const NDJSON: &str = "application/x-ndjson";

/// Where the parts of an answer go.
pub(super) struct Parts(channel::Sender<Bytes, BoxError>);

/// The client has gone.
pub(super) struct Gone;

impl Parts {
    pub(super) async fn send(&mut self, part: Vec<u8>) -> Result<(), Gone> {
        if part.is_empty() {
            return Ok(());
        }
        match timeout(UNREAD_TIME_MAX, self.0.send_data(part.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Breaks the answer off, so that its reader does not take it for whole.
    pub(super) fn abort(self) {
        self.0.abort(std::io::Error::other("the answer was broken off").into());
    }
}

/// An answer of this type, and where its parts go.
pub(super) fn answer(content_type: &'static str) -> (Parts, Response) {
    let (sender, body) = Channel::<Bytes, BoxError>::new(PARTS_MAX);
    let response = ([(header::CONTENT_TYPE, content_type)], Body::new(body)).into_response();
    (Parts(sender), response)
}
