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

/// Where the parts of an answer go. Unless it is finished, the answer breaks off when this is dropped, so that its reader
/// does not take it for whole.
pub(super) struct Parts(Option<channel::Sender<Bytes, BoxError>>);

/// The client has gone, or reads nothing.
pub(super) struct Gone;

impl Parts {
    pub(super) async fn send(&mut self, part: Vec<u8>) -> Result<(), Gone> {
        if part.is_empty() {
            return Ok(());
        }
        let Some(sender) = &mut self.0 else { return Err(Gone) };
        match timeout(UNREAD_TIME_MAX, sender.send_data(part.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Ends the answer: its reader has all of it.
    pub(super) fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            sender.abort(std::io::Error::other("the answer was broken off").into());
        }
    }
}

/// An answer of this type, and where its parts go.
pub(super) fn answer(content_type: &'static str) -> (Parts, Response) {
    let (sender, body) = Channel::<Bytes, BoxError>::new(PARTS_MAX);
    let response = ([(header::CONTENT_TYPE, content_type)], Body::new(body)).into_response();
    (Parts(Some(sender)), response)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_whole_only_when_it_was_finished() {
        for is_finished in [true, false] {
            let (mut parts, response) = answer(NDJSON);
            assert!(parts.send(b"line\n".to_vec()).await.is_ok());
            if is_finished {
                parts.finish();
            } else {
                drop(parts);
            }
            let read = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
            assert_eq!(read.ok().is_some_and(|bytes| bytes == b"line\n"[..]), is_finished);
        }
    }
}
