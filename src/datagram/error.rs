//! What can go wrong before the first datagram.

use std::io;
use std::net::SocketAddr;

use super::group::Group;
use crate::net::address::ResolveError;

/// What can go wrong before the first datagram.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address leads nowhere.
    #[error("{0}")]
    Resolve(#[from] ResolveError),
    /// A socket cannot be bound.
    #[error("cannot listen on {addr}: {reason}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the kernel said.
        reason: io::Error,
    },
    /// A socket cannot be had, or cannot be set up.
    #[error("cannot {what}: {reason}")]
    Setup {
        /// What was to be done.
        what: String,
        /// What the kernel said.
        reason: io::Error,
    },
    /// A multicast group cannot be joined.
    #[error("cannot join {group}: {reason}")]
    Join {
        /// The group.
        group: Group,
        /// What the kernel said.
        reason: io::Error,
    },
    /// No interface has that name or address.
    #[error("there is no network interface '{name}' here (there are: {known})")]
    NoInterface {
        /// What was asked for.
        name: String,
        /// The names of those there are.
        known: String,
    },
    /// The address is a broadcast address, and nobody said that this is meant.
    #[error("{addr} is a broadcast address")]
    Broadcast {
        /// The address.
        addr: SocketAddr,
    },
    /// No route leads there.
    #[error("cannot reach {addr}: {reason}")]
    Unreachable {
        /// The address.
        addr: SocketAddr,
        /// What the kernel said.
        reason: io::Error,
    },
}

/// A closure that turns the kernel's reason into an [`Error::Setup`].
pub(super) fn setup<E: Into<io::Error>>(what: &str) -> impl FnOnce(E) -> Error + '_ {
    move |reason| Error::Setup { what: what.to_owned(), reason: reason.into() }
}
