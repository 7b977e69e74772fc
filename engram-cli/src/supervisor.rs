//! What the process that supervises this one is told: the protocol of systemd, where `NOTIFY_SOCKET` names the socket.

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::{
        ffi::OsStrExt as _,
        net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use tracing::warn;

/// The variable with the socket's path, or, after an `@`, its abstract name.
const SOCKET: &str = "NOTIFY_SOCKET";

/// How long a supervisor that is busy is waited for.
const SEND_TIME_MAX: Duration = Duration::from_secs(1);

/// What it is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum News {
    /// All is there, and requests are answered.
    Ready,
    /// No more are taken: the end is near.
    Stopping,
}

/// Tells it, if there is one. A supervisor that cannot be told is none of the server's affair: it goes on.
pub(crate) fn tell(news: News) {
    let Some(socket) = env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else { return };
    let line = match news {
        News::Ready => "READY=1",
        News::Stopping => "STOPPING=1",
    };
    if let Err(error) = send(&socket, line) {
        warn!(%error, "the supervisor at {SOCKET} could not be told {line}");
    }
}

fn send(socket: &OsStr, line: &str) -> io::Result<()> {
    let address = address(socket)?;
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(SEND_TIME_MAX))?;
    sender.send_to_addr(line.as_bytes(), &address)?;
    Ok(())
}

fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        #[cfg(not(target_os = "linux"))]
        Some(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no abstract sockets")),
        None => SocketAddr::from_pathname(socket),
    }
}
