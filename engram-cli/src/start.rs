//! `engram start`: binds, recovers, serves, and closes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use engram_core::{StoreStatus, Writes};
use tokio::{
    net::TcpListener,
    runtime,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{debug, error, info, warn};

use crate::{
    args::{StartArgs, WalFailurePolicy},
    boot,
    config::StartConfig,
    count::count,
    embed::Seat,
    exit::{Exit, Failure},
    files,
    keys::{secret::Secret, server::ServerKeys, verb::of_file},
    logging,
    server::{App, Server, Tls, router},
    service::{MemoryService, off_the_runtime},
    signals::Signals,
    supervisor::{self, News},
};

/// Connections that are open at once, where as many files may be. Those that come then are told so.
const CONNECTIONS_MAX: usize = 1_024;

/// How long requests in flight may take after the wish to stop.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// How often memories whose time is over are looked for, and how many of them go at once.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);
const EXPIRED_AT_ONCE: usize = 1_000;

/// How long the last sync may take. A disk that does not answer must not keep the process for ever.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(20);

/// Runs the server until it is asked to stop, or cannot go on.
pub(crate) fn run(args: StartArgs) -> Result<(), Failure> {
    let log_format = args.log_format;
    let (config, filter) = StartConfig::from_args(args)?;
    let addresses = config.addresses()?;
    let _flush = logging::start(filter, log_format)?;
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("engram-server")
        .build()
        .map_err(|e| Failure::new(Exit::Failure, format!("cannot start the runtime: {e}")))?;
    let outcome = runtime.block_on(serve(config, addresses));
    // What still runs is a recovery that was cut short, or a request that outlived the drain: a crash at any point of
    // either loses nothing.
    runtime.shutdown_background();
    outcome
}

async fn serve(config: StartConfig, addresses: Vec<SocketAddr>) -> Result<(), Failure> {
    let mut signals = Signals::catch()?;
    // First of all, so that nobody waits for a recovery to hear that the address is taken, and so that whoever asks
    // meanwhile hears that memories are on their way.
    let on_loopback = addresses.iter().all(|address| address.ip().is_loopback());
    let keys = keys(&config, on_loopback)?;
    let tls = config.http.tls.as_ref().map(Tls::open).transpose()?;
    let (listener, address) = bind(&config, &addresses).await?;
    let app = Arc::new(App::new(config, keys, on_loopback));
    info!("opening {}; until then {address} answers 503", app.config.data_dir.display());
    let metrics = Arc::clone(&app.metrics.http);
    let server = Server::start(listener, router(&app), tls, connections_max(), metrics);

    let opening = Arc::clone(&app);
    let (store, embed) = tokio::select! {
        opened = off_the_runtime(move || boot::open(&opening)) => opened?,
        signal = signals.stop() => {
            info!("{signal} during recovery: stopped; the next start recovers from the beginning");
            return Ok(());
        }
    };
    let (store, seat) = (Arc::new(store), Arc::new(Seat::new(embed.clone())));
    if let Some(embed) = embed {
        tokio::spawn(embed.worker(Arc::clone(&store), Arc::clone(&seat)).run());
    }
    let service = MemoryService::new(store, seat);
    app.ready(service.clone());
    let scheme = if app.config.http.tls.is_some() { "https" } else { "http" };
    announce(&app, &service, &format!("{scheme}://{address}"));
    warn_of_access(&app, address);
    supervisor::tell(News::Ready);

    let expiring = tokio::spawn(forget_expired(service.clone()));
    let outcome = run_until_stopped(&app, &mut signals).await;
    supervisor::tell(News::Stopping);
    expiring.abort();
    // What has not switched by now does not.
    service.reembedding().cancel();
    app.stop();
    tokio::select! {
        () = server.stop(DRAIN_TIME_MAX) => {}
        signal = signals.stop() => warn!("{signal}: not waiting for the requests in flight"),
    }
    let closed = close(&service, &mut signals).await;
    // The failure that ended the serving is the cause of the one of closing.
    outcome.and(closed)
}

/// Gives back the room of memories whose time is over. Readers do not see them from then on, whenever this comes.
async fn forget_expired(service: MemoryService) {
    let mut ticks = interval(EXPIRY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match service.forget_expired(EXPIRED_AT_ONCE).await {
            // There may be more.
            Ok(EXPIRED_AT_ONCE) => ticks.reset_immediately(),
            Ok(_) => {}
            // What is wrong with the log is said elsewhere, once.
            Err(error) => debug!(%error, "memories whose time is over stay for now"),
        }
    }
}

/// Half of the files that may be open: the other half is the log's, and of whatever else.
fn connections_max() -> usize {
    usize::try_from(files::raise_limit() / 2).unwrap_or(CONNECTIONS_MAX).min(CONNECTIONS_MAX)
}

/// The keys that clients need. Beyond this machine there must be one, unless the operator says that it may be without.
fn keys(config: &StartConfig, on_loopback: bool) -> Result<ServerKeys, Failure> {
    let is_always_required = !on_loopback && !config.http.insecure;
    let root = config.http.root_key.as_ref().map(Secret::hash);
    let keys = ServerKeys::open(&config.data_dir, root, is_always_required)
        .map_err(|e| of_file(&config.data_dir, &e))?;
    if is_always_required && keys.is_empty() {
        let message = format!("{} can be reached from other machines, and there is no key", config.listen);
        return Err(Failure::new(Exit::Setting, message).help(format!(
            "make a key with `engram key create --name NAME --data-dir {}`, or set ENGRAM_API_KEY; or let everybody in \
             who can reach it, with --insecure",
            config.data_dir.display(),
        )));
    }
    Ok(keys)
}

/// Says what an operator may not have meant.
fn warn_of_access(app: &App, address: SocketAddr) {
    let http = &app.config.http;
    if http.root_key.as_ref().is_some_and(Secret::is_short) {
        warn!("the key of the environment is short: it can be guessed by whoever may try for long");
    }
    if app.on_loopback {
        return;
    }
    if !app.keys.are_required() {
        warn!("{address} can be reached from other machines, and lets everybody in (--insecure)");
    } else if http.tls.is_none() {
        warn!(
            "{address} can be reached from other machines without TLS: keys and memories can be read on the way. Give \
             --tls-cert and --tls-key, or have a proxy in front that does it"
        );
    }
}

async fn bind(config: &StartConfig, addresses: &[SocketAddr]) -> Result<(TcpListener, SocketAddr), Failure> {
    let bound = TcpListener::bind(addresses).await;
    // The port that was taken, where port 0 left it open.
    bound.and_then(|listener| listener.local_addr().map(|address| (listener, address))).map_err(|e| {
        Failure::new(Exit::CannotListen, format!("cannot listen on {}: {e}", config.listen))
            .help(help_to_listen(e.kind()))
    })
}

fn help_to_listen(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => {
            "stop what uses the address, or choose another with --listen (port 0 takes a free one). `engram status` says \
             whether it is a server of Engram, and where its data are: `engram mcp` starts one, too"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need privileges: choose another with --listen, or give them to the process"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this is no address of this machine: choose one of its own with --listen, or 0.0.0.0 for all of them"
        }
        _ => "choose another address with --listen",
    }
}

/// The line that says that all is there. Scripts look for `listening on http://HOST:PORT` in it.
fn announce(app: &App, service: &MemoryService, url: &str) {
    let status = service.status();
    info!(
        "listening on {url} (data in {}, fsync {}, {} of {} dimensions, capacity {})",
        app.config.data_dir.display(),
        app.config.fsync,
        status.precision,
        status.dimension,
        status.capacity,
    );
    if let Some(embed) = service.embed() {
        let (model, source) = (embed.embedder().identity(), embed.embedder().source());
        let waiting = count(status.unembedded, "memory waits", "memories wait");
        info!("texts are embedded by {model} at {source}; {waiting} for it");
    }
}

/// Returns when somebody wants the server to stop, or when its log has failed and it is not to outlive that.
async fn run_until_stopped(app: &App, signals: &mut Signals) -> Result<(), Failure> {
    let policy = app.config.on_wal_failure;
    let signal = tokio::select! {
        signal = signals.stop() => signal,
        cause = app.log_failure.happened() => {
            match policy {
                WalFailurePolicy::Exit => return Err(log_failed(cause)),
                WalFailurePolicy::ReadOnly => error!("reads go on; writes are refused until a restart"),
                WalFailurePolicy::Volatile => {
                    error!("writes go on IN MEMORY ALONE: what is stored from now on is lost at the end");
                }
            }
            signals.stop().await
        }
    };
    info!("{signal}: answering what is in flight, then closing");
    Ok(())
}

fn log_failed(cause: &str) -> Failure {
    Failure::new(Exit::LogFailed, format!("the log has failed: {cause}")).help(
        "what was acknowledged is safe: start again to recover from it; the system's log may say why the disk failed",
    )
}

async fn close(service: &MemoryService, signals: &mut Signals) -> Result<(), Failure> {
    let kept = end_of_log(&service.status());
    let late = |reason: String| {
        Failure::new(Exit::LogFailed, reason)
            .help("what was acknowledged as synced is safe; the next start recovers")
    };
    tokio::select! {
        closed = timeout(CLOSE_TIME_MAX, service.close()) => match closed {
            Ok(Ok(())) => info!("closed, {kept}"),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(late(format!("the log was not closed after {} s", CLOSE_TIME_MAX.as_secs()))),
        },
        signal = signals.stop() => return Err(late(format!("{signal} before the log was closed"))),
    }
    Ok(())
}

/// What a log that closes without an error has kept.
fn end_of_log(status: &StoreStatus) -> &'static str {
    match status.writes {
        Writes::Durable => "with the log synced",
        Writes::Refused => "with the log as it was: it was open for reading only",
        Writes::Volatile => "with the log as it was: what was written in memory alone is lost",
    }
}
