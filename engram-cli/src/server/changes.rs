//! What changes, as it changes: NDJSON, or server-sent events.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::Response,
};
use engram_core::{FeedEvent, FeedItem, Lsn, Memory};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{
    dto::MemoryView,
    extract::{InSpace, Params},
    metrics::Gauged,
    problem::{Problem, ProblemView},
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
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let format = Format::of(&headers);
    let from = params.from_lsn.map_or(Lsn::FIRST, Lsn::new);
    // A client of events that comes again says what it has had.
    let after = last_event(&headers).unwrap_or(from.previous());
    // Asked once before the answer begins, so that changes that are gone are an error and no answer.
    space.service().changes(after, 0)?;
    let (parts, response) = stream::answer(format.content_type());
    let follow = params.follow == Some(true);
    let mut feed = Feed { space, format, parts, after };
    let stopped = app.stopped();
    let counted = follow.then(|| Gauged::new(&app.metrics.http.followers));
    tokio::spawn(async move {
        let _counted = counted;
        let following = feed.send(follow);
        tokio::select! {
            // The client has gone, or has all.
            _ = following => {}
            () = stopped, if follow => {}
        }
    });
    Ok(response)
}

struct Feed {
    space: SpaceService,
    format: Format,
    parts: Parts,
    after: Lsn,
}

impl Feed {
    async fn send(&mut self, follow: bool) -> Result<(), Gone> {
        let mut seen = self.space.service().seen();
        loop {
            seen.borrow_and_update();
            while self.send_part().await? {}
            if !follow {
                return Ok(());
            }
            tokio::select! {
                changed = seen.changed() => if changed.is_err() { return Ok(()) },
                () = sleep(QUIET_TIME_MAX) => {
                    let none = ChangeView { lsn: self.after.get(), change: "none", id: None, memory: None };
                    let mut part = Vec::new();
                    self.format.write(&mut part, &none, "none", self.after);
                    self.parts.send(part).await?;
                }
            }
        }
    }

    /// Sends what comes next, and says whether there was something.
    async fn send_part(&mut self) -> Result<bool, Gone> {
        let mut part = Vec::new();
        let items = match self.space.service().changes(self.after, PART_CHANGES) {
            Ok(items) => items,
            // The client has read too slowly.
            Err(error) => {
                self.format.write(&mut part, &ErrorView { error: error.into() }, "error", self.after);
                self.parts.send(part).await?;
                return Err(Gone);
            }
        };
        let Some(last) = items.last().map(|item| item.lsn) else { return Ok(false) };
        for item in items.iter().filter(|item| item.space == *self.space.name()) {
            self.write(&mut part, item);
        }
        self.after = last;
        self.parts.send(part).await?;
        Ok(true)
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

fn last_event(headers: &HeaderMap) -> Option<Lsn> {
    headers.get("last-event-id")?.to_str().ok()?.trim().parse().ok().map(Lsn::new)
}
