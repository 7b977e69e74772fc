//! Reading the body of a request, within limits of size and time.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, header},
};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::problem::{Code, Problem};

/// How large a body may be, and how long it may take to arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    pub(crate) bytes_max: usize,
    pub(crate) time_max: Duration,
}

/// Of one memory, or of one question.
pub(crate) const SINGLE: BodyLimits = BodyLimits { bytes_max: 1 << 20, time_max: Duration::from_secs(20) };

/// Of many memories.
pub(crate) const BATCH: BodyLimits = BodyLimits { bytes_max: 64 << 20, time_max: Duration::from_mins(1) };

/// How long nothing of a body may come. A client that has stopped sending does not keep others waiting for its place.
pub(crate) const STALL_TIME_MAX: Duration = Duration::from_secs(10);

/// What is read and thrown away of a body over its limit: a client that is still sending when the connection closes
/// would hear of a reset instead of the limit.
const DISCARDED_BYTES_MAX: usize = 16 << 20;

/// Reads the body to its end.
pub(crate) async fn read(request: Request, limits: BodyLimits) -> Result<Vec<u8>, Problem> {
    let (head, body) = request.into_parts();
    let expected = content_length(&head.headers);
    // A client that asks before it sends is told at once, and so is one that says that it will send more than is read.
    let discarded = if head.headers.contains_key(header::EXPECT) { 0 } else { DISCARDED_BYTES_MAX };
    let read_max = limits.bytes_max + discarded;
    if expected.is_some_and(|bytes| bytes > read_max) {
        return Err(too_large(limits));
    }
    let BodyLimits { time_max, .. } = limits;
    timeout(time_max, collect(body, limits)).await.unwrap_or_else(|_| {
        let detail = format!("expected the whole body within {} s", time_max.as_secs());
        Err(Problem::new(Code::BodyTimeout, detail))
    })
}

/// How long a body is read of a request that is refused for its head.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);

/// Reads what comes with a request that is refused for its head, for the reason of [`DISCARDED_BYTES_MAX`].
pub(crate) async fn discard(request: Request) {
    let (head, mut body) = request.into_parts();
    let is_long = content_length(&head.headers).is_some_and(|bytes| bytes > DISCARDED_BYTES_MAX);
    if is_long || head.headers.contains_key(header::EXPECT) {
        return;
    }
    let mut got = 0;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            got += frame.data_ref().map_or(0, Bytes::len);
            if got > DISCARDED_BYTES_MAX {
                break;
            }
        }
    };
    // It is refused in any case.
    timeout(DISCARD_TIME_MAX, reading).await.ok();
}

async fn collect(mut body: Body, limits: BodyLimits) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let mut got = 0;
    while let Some(frame) = timeout(STALL_TIME_MAX, body.frame()).await.map_err(|_| stalled(got))? {
        let frame = frame.map_err(|e| {
            Problem::new(
                Code::InvalidRequest,
                format!("expected a whole body, got an error after {got} bytes: {e}"),
            )
        })?;
        // What is no data is a trailer, and means nothing here.
        let Ok(data) = frame.into_data() else { continue };
        got += data.len();
        if got <= limits.bytes_max {
            bytes.extend_from_slice(&data);
        } else if got > limits.bytes_max + DISCARDED_BYTES_MAX {
            break;
        }
    }
    if got > limits.bytes_max { Err(too_large(limits)) } else { Ok(bytes) }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn stalled(got: usize) -> Problem {
    let within = STALL_TIME_MAX.as_secs();
    Problem::new(Code::BodyTimeout, format!("expected more of the body within {within} s, after {got} bytes"))
}

fn too_large(limits: BodyLimits) -> Problem {
    Problem::new(
        Code::BodyTooLarge,
        format!("expected a body of at most {} bytes, got more", limits.bytes_max),
    )
}
