//! Memories without end: a line each, read, stored and answered in one request. What breaks off goes on at the line that is
//! told.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Request, State},
};
use engram_core::{Episode, Outcome, Receipt, WriteOptions};
use http_body_util::BodyExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::{
    auth::Admission,
    body::STALL_TIME_MAX,
    dto::MemoryBody,
    extract::{InSpace, Params, media_type, unsupported},
    json::parse_object,
    problem::{Code, Problem, ProblemView},
    state::App,
    stream::NDJSON,
    terms::Terms,
};
use crate::service::{SpaceService, Stored};

/// Bytes of a line: more than any memory takes, whatever of it must be escaped.
const LINE_BYTES_MAX: usize = 4 << 20;

/// What is stored together.
const CHUNK_LINES: usize = 1_000;
const CHUNK_BYTES: usize = 4 << 20;

/// Refused lines that are told.
const REFUSED_SHOWN_MAX: usize = 100;

/// Refused lines that are told where the import broke off.
const REFUSED_TOLD_MAX: usize = 5;

/// Parameters of `POST /v1/import`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportParams {
    /// The first line that is looked at, counted from 1: those before were stored by a request before.
    from_line: Option<u64>,
}

/// What became of the lines.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct ImportView {
    /// Lines with something in them, from the first that was looked at.
    lines: u64,
    created: u64,
    updated: u64,
    /// The same was there already.
    unchanged: u64,
    refused: u64,
    /// The first hundred of those.
    errors: Vec<Refused>,
    /// The last change.
    lsn: u64,
}

/// A line that was refused.
#[derive(Debug, Serialize, JsonSchema)]
struct Refused {
    line: u64,
    #[schemars(with = "ProblemView")]
    error: Problem,
}

/// Lines that are stored together.
type Chunk = Vec<(u64, Vec<u8>)>;

/// `POST /v1/import`
pub(crate) async fn post(
    InSpace(space): InSpace,
    Params(params): Params<ImportParams>,
    terms: Terms,
    State(app): State<Arc<App>>,
    Extension(admission): Extension<Admission>,
    request: Request,
) -> Result<Json<ImportView>, Problem> {
    let terms = terms.without_version()?;
    if terms.has_key() {
        let detail = "idempotency-key: expected none: a line that comes again is not stored twice";
        return Err(Problem::new(Code::InvalidHeader, detail));
    }
    let media_type = media_type(request.headers());
    if ![NDJSON, "application/ndjson", "application/jsonl"].contains(&&*media_type) {
        return Err(unsupported(&media_type, NDJSON).suggest(
            "Send a memory a line; with curl: -H 'content-type: application/x-ndjson' --data-binary @FILE (or -T FILE).",
        ));
    }
    let mut import =
        Import { space, view: ImportView::default(), from: params.from_line.unwrap_or(1), line: 1 };
    let mut body = request.into_body();
    let (mut rest, mut chunk, mut bytes, mut is_too_long) = (Vec::new(), Chunk::new(), 0, false);
    loop {
        let frame = timeout(STALL_TIME_MAX, body.frame()).await.map_err(|_| {
            let reason = format!("nothing came for {} s", STALL_TIME_MAX.as_secs());
            import.broken_off(Code::BodyTimeout, &reason, &chunk)
        })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|e| import.broken_off(Code::InvalidRequest, &e.to_string(), &chunk))?;
        let Ok(data) = frame.into_data() else { continue };
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            if !is_too_long {
                rest.extend_from_slice(piece);
            }
            if rest.len() > LINE_BYTES_MAX {
                import.refuse_long_line();
                (rest, is_too_long) = (Vec::new(), true);
            }
            if piece.ends_with(b"\n") {
                bytes += rest.len();
                import.take(&mut chunk, std::mem::take(&mut rest));
                is_too_long = false;
            }
            if chunk.len() >= CHUNK_LINES || bytes >= CHUNK_BYTES {
                admission.renew(&app)?;
                import.store(std::mem::take(&mut chunk)).await?;
                bytes = 0;
            }
        }
    }
    import.take(&mut chunk, rest);
    admission.renew(&app)?;
    import.store(chunk).await?;
    terms.sync(&import.space).await?;
    import.view.errors.sort_by_key(|refused| refused.line);
    Ok(Json(import.view))
}

struct Import {
    space: SpaceService,
    view: ImportView,
    from: u64,
    /// The line that comes next.
    line: u64,
}

impl Import {
    fn take(&mut self, chunk: &mut Chunk, line: Vec<u8>) {
        if self.line >= self.from && !line.trim_ascii().is_empty() {
            self.view.lines += 1;
            chunk.push((self.line, line));
        }
        self.line += 1;
    }

    fn refuse(&mut self, line: u64, error: Problem) {
        self.view.refused += 1;
        if self.view.errors.len() < REFUSED_SHOWN_MAX {
            self.view.errors.push(Refused { line, error });
        }
    }

    fn refuse_long_line(&mut self) {
        if self.line >= self.from {
            self.view.lines += 1;
            let detail = format!("expected a line of at most {LINE_BYTES_MAX} bytes, got a longer one");
            self.refuse(self.line, Problem::new(Code::BodyTooLarge, detail).suggest("Shorten the line."));
        }
    }

    async fn store(&mut self, chunk: Chunk) -> Result<(), Problem> {
        let Some(first) = chunk.first().map(|(line, _)| *line) else { return Ok(()) };
        let turn = self.space.service().batch_turn().await;
        let episodes = move || {
            let read = |(line, text): (u64, Vec<u8>)| {
                (line, episode(&text).map(|episode| (episode, WriteOptions::default())))
            };
            Ok::<_, Problem>(chunk.into_iter().map(read).collect::<Vec<_>>())
        };
        for (line, answer) in self.space.remember_all(turn, episodes).await? {
            match answer {
                Ok(Stored { receipt: Receipt { outcome, lsn, .. }, .. }) => {
                    match outcome {
                        Outcome::Created => self.view.created += 1,
                        Outcome::Updated => self.view.updated += 1,
                        Outcome::Unchanged | Outcome::Deleted => self.view.unchanged += 1,
                    }
                    self.view.lsn = self.view.lsn.max(lsn.get());
                }
                // What is wrong with one line is its own affair; what is wrong with the store is that of all.
                Err(error) if error.is_of_the_client() => self.refuse(line, error),
                Err(error) => {
                    let detail = format!("{}; {}", error.detail(), self.done_before(first));
                    return Err(error.with_detail(detail).suggest(format!(
                        "Remove the cause and send it again with ?from_line={first}: what is stored is not stored twice."
                    )));
                }
            }
        }
        Ok(())
    }

    /// What becomes of a request that ends before its lines do. Those of `chunk` are not stored.
    fn broken_off(&self, code: Code, reason: &str, chunk: &Chunk) -> Problem {
        let (line, first) = (self.line, chunk.first().map_or(self.line.max(self.from), |(line, _)| *line));
        let done = self.done_before(first);
        Problem::new(code, format!("expected lines to the end, but at line {line} {reason}; {done}"))
            .suggest(format!("Send it again with ?from_line={first}."))
    }

    /// What has become of the lines before this one.
    fn done_before(&self, first: u64) -> String {
        if first <= self.from {
            return "none of them is stored for certain".to_owned();
        }
        let refused: Vec<&Refused> = self.view.errors.iter().filter(|refused| refused.line < first).collect();
        if refused.is_empty() {
            return format!("all lines before {first} are stored");
        }
        let more = if self.view.errors.len() < REFUSED_SHOWN_MAX { "" } else { " and more" };
        let told = refused.iter().take(REFUSED_TOLD_MAX);
        let told: Vec<String> = told.map(|it| format!("line {}: {}", it.line, it.error.detail())).collect();
        let rest = if refused.len() > REFUSED_TOLD_MAX { "; …" } else { "" };
        format!(
            "all lines before {first} are stored, but for {}{more} that were refused: {}{rest}",
            refused.len(),
            told.join("; ")
        )
    }
}

fn episode(line: &[u8]) -> Result<Episode, Problem> {
    let body = parse_object::<MemoryBody>(line)?;
    if body.id().is_some() {
        return body.into_episode();
    }
    // The same line again is the same memory again.
    let digest = Sha256::digest(line.trim_ascii());
    let id = digest.iter().take(16).fold("import-".to_owned(), |id, byte| id + &format!("{byte:02x}"));
    body.with_id(id)?.into_episode()
}
