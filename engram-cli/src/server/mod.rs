//! HTTP/1.1 and JSON over [`MemoryService`](crate::service::MemoryService).
//!
//! A request goes through the accept loop here, the layers and routes of [`mod@router`], an extractor of [`extract`],
//! and a handler, which calls the service and answers with a view of [`dto`] or with a [`problem`]. Handlers know no
//! limits of time, no metrics and no authentication: those are layers.

mod args;
mod auth;
mod batch;
mod body;
mod changes;
mod code;
mod connection;
mod cursor;
mod delete_many;
mod dto;
mod embedding_field;
mod export;
mod extract;
mod filter;
mod health;
mod import;
mod json;
mod layers;
mod memories;
mod metrics;
mod need;
mod openapi;
mod origin;
mod problem;
mod recall;
mod reembed;
mod refusal;
mod request_id;
mod router;
mod snapshot;
mod spaces;
mod state;
mod status;
mod stream;
mod terms;
mod tls;

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

pub(crate) use args::{HttpArgs, HttpConfig};
pub(crate) use auth::Principal;
pub(crate) use dto::percent_encoded;
pub(crate) use json::unique_json;
pub(crate) use metrics::HttpMetrics;
pub(crate) use need::Need;
pub(crate) use router::router;
pub(crate) use snapshot::SnapshotView;
pub(crate) use state::App;
pub(crate) use tls::Tls;

use self::{
    connection::{Protocol, Room},
    metrics::Gauged,
};
use crate::count::count;

/// Of so many places for connections one more is for those that come when all are taken, to tell them so.
const PLACES_PER_BEYOND: usize = 16;

/// The pause after the operating system could give no connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Bytes of an answer that the kernel takes ahead of its reader; it doubles them. It lets go on writing only when a third of
/// them is free again: were there megabytes, one that reads slowly would look like one that does not read.
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// A server that accepts connections, until it is stopped.
pub(crate) struct Server {
    stop: oneshot::Sender<()>,
    /// Gives the stop of all connections, when it accepts no more.
    accepting: JoinHandle<watch::Sender<()>>,
}

impl Server {
    /// Starts to serve, by TLS if there is any, and up to `connections_max` connections at once.
    pub(crate) fn start(
        listener: TcpListener,
        router: Router,
        tls: Option<Tls>,
        connections_max: usize,
        metrics: Arc<HttpMetrics>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let protocol = Protocol { router, tls: tls.map(Arc::new) };
        let places = Places::new(connections_max, metrics);
        Self { stop, accepting: tokio::spawn(accept(listener, protocol, places, stopped)) }
    }

    /// Accepts no more, and returns when all requests in flight are answered, or after `drain_time_max`.
    pub(crate) async fn stop(self, drain_time_max: Duration) {
        // It fails only when accepting has ended already, which is what is wanted.
        self.stop.send(()).ok();
        let Ok(connections) = self.accepting.await else { return };
        debug!(open = connections.receiver_count(), "closing connections");
        connections.send_replace(());
        if timeout(drain_time_max, connections.closed()).await.is_err() {
            let open = connections.receiver_count();
            let open = count(open, "request was", "requests were");
            warn!("{open} still in flight after {} s", drain_time_max.as_secs());
        }
    }
}

async fn accept(
    listener: TcpListener,
    protocol: Protocol,
    places: Places,
    mut stopped: oneshot::Receiver<()>,
) -> watch::Sender<()> {
    let (connections, _) = watch::channel(());
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stopped => return connections,
            accepted = next_connection(&listener) => accepted,
        };
        match accepted {
            Ok(stream) => {
                let Some((place, room)) = places.take() else {
                    places.metrics.closed.inc();
                    debug!("a connection is closed: there are as many as may be");
                    continue;
                };
                let serving = protocol.clone().serve(stream, room, connections.subscribe());
                tokio::spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => accept_failed(&error).await,
        }
    }
}

/// How many connections are open at once.
struct Places {
    within: Arc<Semaphore>,
    /// Of connections that are told that there is none.
    beyond: Arc<Semaphore>,
    metrics: Arc<HttpMetrics>,
}

/// The place of one connection, until it is dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    _open: Gauged,
}

impl Places {
    fn new(connections_max: usize, metrics: Arc<HttpMetrics>) -> Self {
        let beyond = (connections_max / PLACES_PER_BEYOND).max(1);
        metrics.connections_max.set(i64::try_from(connections_max).unwrap_or(i64::MAX));
        let semaphore = |places| Arc::new(Semaphore::new(places));
        Self { within: semaphore(connections_max), beyond: semaphore(beyond), metrics }
    }

    /// A place; nothing when there is not even one to say so.
    fn take(&self) -> Option<(Place, Room)> {
        let take = |places: &Arc<Semaphore>| {
            let permit = Arc::clone(places).try_acquire_owned().ok()?;
            Some(Place { _permit: permit, _open: Gauged::new(&self.metrics.connections) })
        };
        if let Some(place) = take(&self.within) {
            self.metrics.accepted.inc();
            return Some((place, Room::Enough));
        }
        let place = take(&self.beyond)?;
        self.metrics.told.inc();
        Some((place, Room::None))
    }
}

async fn next_connection(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    // An answer is a small write that waits for nothing more to come.
    stream.set_nodelay(true)?;
    set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES)?;
    Ok(stream)
}

/// No error of one connection ends the server.
async fn accept_failed(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput, NotConnected};
    match error.kind() {
        // The client left before it was accepted, or right after.
        ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput | NotConnected => {
            debug!(%error, "connection lost");
        }
        _ => {
            warn!(%error, "no connection can be accepted now; trying again");
            sleep(ACCEPT_PAUSE).await;
        }
    }
}
