//! One connection, from its first byte to its end.

use std::{
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
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_io_timeout::TimeoutStream;
use tracing::debug;

use super::{layers::BeyondLimit, tls::Tls};

/// How long a client may take for the head of a request, from when the connection is idle on. Without it a client
/// that sends half a head keeps its place for ever.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// The same of a client that came when there was no place.
const BEYOND_HEAD_TIME_MAX: Duration = Duration::from_secs(2);

/// How long a client may take to agree on a key.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a client may read nothing of its answer. Without it each one that does not read keeps its place and its
/// answer in memory for ever.
const UNREAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// How connections are served. Cheap to clone.
#[derive(Clone)]
pub(super) struct Protocol {
    pub(super) router: Router,
    pub(super) tls: Option<Arc<Tls>>,
}

/// Whether there was a place for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Enough,
    /// It has one request, which is told to come again, unless it asks how the server is.
    None,
}

impl Protocol {
    /// Serves one connection to its end. When the server stops, a request in flight is still answered.
    pub(super) async fn serve(self, stream: TcpStream, room: Room, mut stopped: watch::Receiver<()>) {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(UNREAD_TIME_MAX));
        let stream = Box::pin(stream);
        let Some(tls) = &self.tls else { return self.speak(stream, room, stopped).await };
        let encrypted = tokio::select! {
            biased;
            _ = stopped.changed() => return,
            encrypted = timeout(HANDSHAKE_TIME_MAX, tls.acceptor().accept(stream)) => encrypted,
        };
        match encrypted {
            Ok(Ok(stream)) => self.speak(stream, room, stopped).await,
            // The client speaks no TLS, or does not trust us: its affair.
            Ok(Err(error)) => debug!(%error, "no TLS on a connection"),
            Err(_) => debug!("no TLS on a connection within {} s", HANDSHAKE_TIME_MAX.as_secs()),
        }
    }

    async fn speak<S>(&self, stream: S, room: Room, mut stopped: watch::Receiver<()>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = TowerToHyperService::new(self.router.clone());
        let begun = AtomicBool::new(false);
        let service = service_fn(|mut request| {
            begun.store(true, Relaxed);
            if room == Room::None {
                request.extensions_mut().insert(BeyondLimit);
            }
            router.call(request)
        });
        let mut connection = pin!(http(room).serve_connection(TokioIo::new(stream), service));
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
}

fn http(room: Room) -> http1::Builder {
    let head_time_max = if room == Room::Enough { HEAD_TIME_MAX } else { BEYOND_HEAD_TIME_MAX };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_time_max).max_buf_size(HEAD_BYTES_MAX);
    http.keep_alive(room == Room::Enough);
    http
}
