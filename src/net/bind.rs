//! Ports bound, of TCP and UDP alike.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use super::address::ResolveError;

/// Why a port cannot be served.
#[derive(Debug, Error)]
pub enum BindError {
    /// It is nowhere.
    #[error("{0}")]
    Resolve(#[from] ResolveError),
    /// The port cannot be had.
    #[error("cannot listen on {listen}: {source}")]
    Port {
        /// Where to listen.
        listen: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Whether another address of the same name may do, where one cannot be bound: a port that is taken is somebody's mistake, and
/// to serve next to it would hide that.
pub fn another_may_do(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

/// What `bind` makes of the first of `addrs` that can be bound; `listen` is what they are called.
///
/// # Errors
/// Says what the system said of the last.
pub(super) fn bind_first<S>(
    listen: &str,
    addrs: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<S>,
) -> Result<S, BindError> {
    let failed = |source| BindError::Port { listen: listen.to_owned(), source };
    let mut last = io::Error::other("the name has no address");
    for addr in addrs {
        match bind(*addr) {
            Ok(bound) => return Ok(bound),
            Err(error) if another_may_do(&error) => last = error,
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(last))
}
