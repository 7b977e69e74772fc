//! What changes, as it changes: NDJSON, or server-sent events.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, header},
    response::Response,
};
use engram_core::{FeedEvent, FeedItem, Lsn, Memory};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::{
    auth::Admission,
    dto::MemoryView,
    extract::{InSpace, Params},
    metrics::Gauged,
    problem::{Code, Problem, ProblemView},
    state::App,
    stream::{self, Gone, Parts},
};
use crate::service::SpaceService;

/// Changes of one part of the answer.
const PART_CHANGES: usize = 256;

/// How often a follower hears that nothing has changed: both sides know then that the other is there.
const QUIET_TIME_MAX: Duration = Duration::from_secs(10);

/// Parameters of `GET /v1/changes`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangesParams {
    /// The first change that is wanted; 1 unless it is said.
    from_lsn: Option<u64>,
    /// Goes on with what changes from now on.
    follow: Option<bool>,
}

/// A change.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChangeView<'a> {
    lsn: u64,
    /// `stored`, `embedded`, `forgotten`, `space_configured`, `space_dropped`, or `none`: all changes up to here have
    /// come.
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    /// The memory, as long as it is as it was stored then; if it is not, a later change says what became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<MemoryView<'a>>,
}

/// An answer that ends before its time.
#[derive(Debug, Serialize, JsonSchema)]
struct ErrorView {
    #[schemars(with = "ProblemView")]
    error: Problem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Ndjson,
    Events,
}

/// `GET /v1/changes`
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    InSpace(space): InSpace,
    Params(params): Params<ChangesParams>,
    Extension(admission): Extension<Admission>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let format = Format::of(&headers);
    let from = params.from_lsn.map_or(Lsn::FIRST, Lsn::new);
    // A client of events that comes again says what it has had.
    let after = last_event(&headers)?.unwrap_or(from.previous());
    // Asked once before the answer begins, so that changes that are gone are an error and no answer.
    space.service().changes(after, 0)?;
    let (parts, response) = stream::answer(format.content_type());
    let follow = params.follow == Some(true);
    let stopped = app.stopped();
    let counted = follow.then(|| Gauged::new(&app.metrics.http.followers));
    let quiet_until = Instant::now() + QUIET_TIME_MAX;
    let mut feed = Feed { app, admission, space, format, parts, after, quiet_until };
    tokio::spawn(async move {
        let _counted = counted;
        let is_whole = tokio::select! {
            ended = feed.send(follow) => ended.is_ok(),
            () = stopped, if follow => true,
        };
        if is_whole {
            feed.parts.finish();
        }
    });
    Ok(response)
}

struct Feed {
    app: Arc<App>,
    admission: Admission,
    space: SpaceService,
    format: Format,
    parts: Parts,
    after: Lsn,
    /// When the reader is told that nothing has come.
    quiet_until: Instant,
}

/// What comes after the changes that were looked at.
enum Next {
    /// Perhaps others.
    Changes,
    /// None by now.
    Nothing,
    /// None at all, which was said.
    End,
}

impl Feed {
    async fn send(&mut self, follow: bool) -> Result<(), Gone> {
        let mut seen = self.space.service().seen();
        loop {
            seen.borrow_and_update();
            loop {
                match self.send_changes().await? {
                    Next::Changes => {}
                    Next::Nothing => break,
                    Next::End => return Ok(()),
                }
            }
            if !follow {
                return Ok(());
            }
            tokio::select! {
                changed = seen.changed() => if changed.is_err() { return Ok(()) },
                () = sleep_until(self.quiet_until) => {
                    let none = ChangeView { lsn: self.after.get(), change: "none", id: None, memory: None };
                    let mut part = Vec::new();
                    self.format.write(&mut part, &none, "none", self.after);
                    self.send_part(part).await?;
                }
            }
        }
    }

    /// What its reader does not hear of, such as changes of other spaces, breaks no quiet.
    async fn send_part(&mut self, part: Vec<u8>) -> Result<(), Gone> {
        if !part.is_empty() {
            self.quiet_until = Instant::now() + QUIET_TIME_MAX;
        }
        self.parts.send(part).await
    }

    async fn send_changes(&mut self) -> Result<Next, Gone> {
        let mut part = Vec::new();
        let items = self.space.service().changes(self.after, PART_CHANGES).map_err(Problem::from);
        let items = match self.admission.renew(&self.app).and(items) {
            Ok(items) => items,
            // The client has read too slowly, or its key was revoked. It is told, and so the answer is whole.
            Err(error) => {
                self.format.write(&mut part, &ErrorView { error }, "error", self.after);
                self.send_part(part).await?;
                return Ok(Next::End);
            }
        };
        let Some(last) = items.last().map(|item| item.lsn) else { return Ok(Next::Nothing) };
        for item in items.iter().filter(|item| item.space == *self.space.name()) {
            self.write(&mut part, item);
        }
        self.after = last;
        self.send_part(part).await?;
        Ok(Next::Changes)
    }

    fn write(&self, part: &mut Vec<u8>, item: &FeedItem) {
        let (change, id) = match &item.event {
            FeedEvent::Stored(id) => ("stored", Some(id)),
            FeedEvent::Embedded(id) => ("embedded", Some(id)),
            FeedEvent::Forgotten(id) => ("forgotten", Some(id)),
            FeedEvent::SpaceConfigured => ("space_configured", None),
            FeedEvent::SpaceDropped => ("space_dropped", None),
            _ => return,
        };
        let memory = id.filter(|_| change == "stored").and_then(|id| self.space.get(id));
        let memory: Option<Arc<Memory>> = memory.filter(|memory| memory.lsn() == item.lsn);
        let view = ChangeView {
            lsn: item.lsn.get(),
            change,
            id: id.map(|id| &**id),
            memory: memory.as_deref().map(MemoryView::from),
        };
        self.format.write(part, &view, change, item.lsn);
    }
}

impl Format {
    fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        if accept.contains("text/event-stream") { Self::Events } else { Self::Ndjson }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Ndjson => stream::NDJSON,
            Self::Events => "text/event-stream",
        }
    }

    fn write(self, part: &mut Vec<u8>, view: &impl Serialize, event: &str, lsn: Lsn) {
        // Our own views can be written, and a vector takes all.
        let json = serde_json::to_string(view).unwrap_or_default();
        let text = match self {
            Self::Ndjson => format!("{json}\n"),
            Self::Events => format!("event: {event}\nid: {lsn}\ndata: {json}\n\n"),
        };
        part.extend_from_slice(text.as_bytes());
    }
}

fn last_event(headers: &HeaderMap) -> Result<Option<Lsn>, Problem> {
    let Some(id) = headers.get("last-event-id").filter(|id| !id.is_empty()) else { return Ok(None) };
    let lsn = id.to_str().ok().and_then(|id| id.trim().parse().ok());
    let wrong = || {
        let detail = format!("last-event-id: expected the id of an event, which is an LSN, got {id:?}");
        Problem::new(Code::InvalidHeader, detail)
    };
    lsn.map(|lsn| Some(Lsn::new(lsn))).ok_or_else(wrong)
}
