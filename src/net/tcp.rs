//! TCP as every tool wants it: ports bound, connections made and taken, with errors that say which of these
//! failed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};

use super::address::{ResolveError, resolve};
use super::bind::{BindError, bind_first};
use crate::defaults::{ACCEPT_PAUSE, BACKLOG, RESERVED_FILES};

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// It leads nowhere.
    #[error("{0}")]
    Resolve(#[from] ResolveError),
    /// Nobody listens there.
    #[error("cannot connect to {addr}: connection refused")]
    Refused {
        /// Where to.
        addr: String,
    },
    /// No answer in time.
    #[error("cannot connect to {addr}: no answer within {}", humantime::format_duration(*.after))]
    TimedOut {
        /// Where to.
        addr: String,
        /// The time it had.
        after: Duration,
    },
    /// This machine cannot: no file descriptor, no free port, no permission.
    #[error("cannot connect to {addr}: {source}")]
    Local {
        /// Where to.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
    /// No way there.
    #[error("cannot connect to {addr}: {source}")]
    Unreachable {
        /// Where to.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Connects to the first address of `addr` (a `host:port`) that answers, all within `timeout`. Small messages leave at
/// once.
///
/// # Errors
/// Says what failed at the last address tried.
pub async fn connect(addr: &str, timeout: Duration) -> Result<TcpStream, ConnectError> {
    let attempt = async { connect_to(&resolve(addr).await?).await.map_err(|source| failed(addr, timeout, source)) };
    let late = |_| ConnectError::TimedOut { addr: addr.to_owned(), after: timeout };
    tokio::time::timeout(timeout, attempt).await.map_err(late)?
}

/// The same, for whoever has a time-out of its own and words for what failed.
///
/// # Errors
/// What the resolver said, or the system of the last address.
pub async fn dial(addr: &str) -> io::Result<TcpStream> {
    connect_to(&resolve(addr).await?).await
}

/// Connects to the first of `addrs` that answers. Small messages leave at once.
///
/// # Errors
/// What the system said of the last.
pub async fn connect_to(addrs: &[SocketAddr]) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addrs).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What an attempt to connect to `addr` failed by.
pub fn failed(addr: &str, timeout: Duration, source: io::Error) -> ConnectError {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, PermissionDenied, TimedOut};
    let addr = addr.to_owned();
    match source.kind() {
        ConnectionRefused => ConnectError::Refused { addr },
        TimedOut => ConnectError::TimedOut { addr, after: timeout },
        AddrNotAvailable | PermissionDenied => ConnectError::Local { addr, source },
        _ if is_exhaustion(&source) => ConnectError::Local { addr, source },
        _ => ConnectError::Unreachable { addr, source },
    }
}

/// Listens on the first of `addrs` that can be bound; `listen` is what they are called. On `[::]` it takes IPv4, too.
///
/// # Errors
/// Says what the system said of the last.
pub fn bind(listen: &str, addrs: &[SocketAddr]) -> Result<TcpListener, BindError> {
    bind_first(listen, addrs, bind_to)
}

fn bind_to(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // connections of an earlier life may linger; another listener is still refused
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes connections for as long as the process lives: running out of files neither ends it nor keeps it busy.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    said_exhausted: bool,
}

impl Acceptor {
    /// Takes connections off this listener.
    pub const fn new(listener: TcpListener) -> Self {
        Self { listener, said_exhausted: false }
    }

    /// The next connection. Cancelling this loses none.
    pub async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => {
                    self.said_exhausted = false;
                    return accepted;
                }
                Err(error) if is_exhaustion(&error) => {
                    // What is open goes on, and closing makes room. Whoever waits to be accepted, waits.
                    if !std::mem::replace(&mut self.said_exhausted, true) {
                        tracing::error!("cannot accept connections: {error}; waiting for others to close");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                // The connection failed before it was accepted; the listener is well.
                Err(error) => tracing::debug!("a connection failed before it was accepted: {error}"),
            }
        }
    }
}

/// Out of file descriptors, memory or buffers.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    exhausted.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// How many connections may be open, of the `wanted`: as many as the limit of open files allows, less what the process
/// itself needs; a quarter, where there are few.
pub fn most_connections(wanted: usize) -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    wanted.min(files.saturating_sub(RESERVED_FILES).max(files / 4))
}
