//! What all requests share.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use engram_core::{
    StorageError,
    storage::{FailureHook, RecoveryProgress},
};
use tokio::sync::{Notify, Semaphore, watch};

use super::metrics::Metrics;
use crate::{config::StartConfig, count::count, keys::server::ServerKeys, service::MemoryService};

/// The running server, from before its memories are there.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: StartConfig,
    pub(crate) keys: ServerKeys,
    /// Whether only this machine can reach it.
    pub(crate) on_loopback: bool,
    /// Places for requests in flight.
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) started: Instant,
    /// How far recovery is.
    pub(crate) progress: Arc<Progress>,
    /// Whether the log has failed.
    pub(crate) log_failure: LogFailureNotice,
    pub(crate) metrics: Metrics,
    service: Arc<OnceLock<MemoryService>>,
    stopping: watch::Sender<bool>,
}

impl App {
    pub(crate) fn new(config: StartConfig, keys: ServerKeys, on_loopback: bool) -> Self {
        let service = Arc::new(OnceLock::new());
        let in_flight_max = config.http.in_flight_max;
        let in_flight = Arc::new(Semaphore::new(in_flight_max));
        Self {
            metrics: Metrics::new(Arc::clone(&service), Arc::clone(&in_flight), in_flight_max),
            in_flight,
            config,
            keys,
            on_loopback,
            started: Instant::now(),
            progress: Arc::default(),
            log_failure: LogFailureNotice::default(),
            service,
            stopping: watch::Sender::new(false),
        }
    }

    /// From now on answers that would go on for ever come to an end.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Returns when the server is stopping.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.stopping.subscribe();
        async move {
            // It fails only when the server is gone.
            drop(stopping.wait_for(|stopping| *stopping).await);
        }
    }

    /// From now on requests are answered from memory. Called once.
    pub(crate) fn ready(&self, service: MemoryService) {
        self.service.get_or_init(|| service);
    }

    /// The memories; nothing while they are recovered.
    pub(crate) fn service(&self) -> Option<&MemoryService> {
        self.service.get()
    }
}

/// How far recovery is.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Option<RecoveryProgress>>);

impl Progress {
    pub(crate) fn set(&self, progress: RecoveryProgress) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    /// In words.
    pub(crate) fn describe(&self) -> String {
        let progress = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(RecoveryProgress { records, bytes_done, bytes_total }) = progress else {
            return "the log is being opened".to_owned();
        };
        let percent = bytes_done.saturating_mul(100) / bytes_total.max(1);
        format!("{}, {bytes_done} of {bytes_total} bytes ({percent} %)", count(records, "record", "records"))
    }
}

/// Told by the log, on its own thread, that it has failed; heard by the server.
#[derive(Debug, Default)]
pub(crate) struct LogFailureNotice(Arc<Notice>);

#[derive(Debug, Default)]
struct Notice {
    cause: OnceLock<String>,
    happened: Notify,
}

impl LogFailureNotice {
    /// What tells it.
    pub(crate) fn hook(&self) -> FailureHook {
        let notice = Arc::clone(&self.0);
        Arc::new(move |error| {
            // What ended writing says more than that writing has ended.
            notice.cause.get_or_init(|| match error {
                StorageError::Poisoned { cause } => cause.to_string(),
                other => other.to_string(),
            });
            // Kept for whoever listens later.
            notice.happened.notify_one();
        })
    }

    /// Why the log has failed; nothing when it has not.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.0.cause.get().map(String::as_str)
    }

    /// Returns with the cause when the log has failed. One task may wait for it.
    pub(crate) async fn happened(&self) -> &str {
        loop {
            if let Some(cause) = self.cause() {
                return cause;
            }
            self.0.happened.notified().await;
        }
    }
}
