//! HTTP/1.1 and JSON over [`MemoryService`](crate::service::MemoryService).
//!
//! A request goes through the accept loop here, the layers and routes of [`mod@router`], an extractor of [`extract`],
//! and a handler, which calls the service and answers with a view of [`dto`] or with a [`problem`]. Handlers know no
//! limits of time, no metrics and (later) no authentication: those are layers.

mod batch;
mod body;
mod changes;
mod code;
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
mod openapi;
mod problem;
mod recall;
mod refusal;
mod router;
mod snapshot;
mod spaces;
mod state;
mod status;
mod stream;
mod terms;

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::Router;
use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tracing::{debug, warn};

pub(crate) use router::router;
pub(crate) use snapshot::SnapshotView;
pub(crate) use state::App;

use crate::count::count;

/// How long a client may take for the head of a request, from when the connection is idle on. Without it a client
/// that sends half a head keeps its place for ever.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a client may read nothing of its answer. Without it each one that does not read keeps its place and its
/// answer in memory for ever.
const UNREAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// The pause after the operating system could give no connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A server that accepts connections, until it is stopped.
pub(crate) struct Server {
    stop: oneshot::Sender<()>,
    /// Gives the stop of all connections, when it accepts no more.
    accepting: JoinHandle<watch::Sender<()>>,
}

impl Server {
    /// Starts to serve, up to `connections_max` connections at once.
    pub(crate) fn start(listener: TcpListener, router: Router, connections_max: usize) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, accepting: tokio::spawn(accept(listener, router, connections_max, stopped)) }
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
    router: Router,
    connections_max: usize,
    mut stopped: oneshot::Receiver<()>,
) -> watch::Sender<()> {
    let places = Arc::new(Semaphore::new(connections_max));
    let (connections, _) = watch::channel(());
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).max_buf_size(HEAD_BYTES_MAX);
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stopped => return connections,
            accepted = next_connection(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let serving = serve(http.clone(), stream, router.clone(), connections.subscribe());
                tokio::spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => accept_failed(&error).await,
        }
    }
}

/// Serves one connection to its end. When the server stops, a request in flight is still answered.
async fn serve(http: http1::Builder, stream: TcpStream, router: Router, mut stopped: watch::Receiver<()>) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(UNREAD_TIME_MAX));
    let router = TowerToHyperService::new(router);
    let begun = AtomicBool::new(false);
    let service = service_fn(|request| {
        begun.store(true, Relaxed);
        router.call(request)
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(Box::pin(stream)), service));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        _ = stopped.changed() => {
            // Until its first request has a whole head, hyper waits for that, and so would the end of the process.
            if !begun.load(Relaxed) {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        // The client broke off, was too slow, or spoke no HTTP: its affair.
        debug!(%error, "connection ended");
    }
}

/// The next connection, when there is a place for it.
async fn next_connection(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // An answer is a small write that waits for nothing more to come.
    stream.set_nodelay(true)?;
    Ok((stream, place))
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
