//! Datagrams: received in batches with the kernel's own time and drop counter, sent at a pace.
//!
//! - [`socket`]: opening sockets: buffers, multicast groups, interfaces;
//! - [`receiver`]: many datagrams with one system call, each with its time and destination;
//! - [`table`]: how many the kernel had to drop, and whether any has not left yet;
//! - [`reply`]: whom to answer, and how often, so that nobody is harmed by it;
//! - [`sender`]: many datagrams with one system call, at a pace;
//! - [`hex`]: bytes as people write them.
//!
//! UDP is RFC 768. A datagram arrives whole, or not at all, or twice; nobody says which. All that can be known is what
//! the kernel counted, so everything here counts.

use std::io;
use std::net::SocketAddr;

use crate::net::address::ResolveError;

pub mod hex;
pub mod receiver;
pub mod reply;
pub mod sender;
pub mod socket;
pub mod table;

/// What can go wrong before the first datagram.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address leads nowhere.
    #[error("{0}")]
    Resolve(#[from] ResolveError),
    /// A socket cannot be bound.
    #[error("cannot listen on {addr}: {reason}{}", bind_remedy(reason))]
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
    #[error("cannot join {group}: {reason}{}", join_remedy(reason))]
    Join {
        /// The group.
        group: socket::Group,
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
    #[error("{addr} is a broadcast address: pass --broadcast to send to everybody there")]
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

fn bind_remedy(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::AddrInUse => " (does something listen there already? choose another port with --listen)",
        io::ErrorKind::AddrNotAvailable => " (is that an address of this machine? see --listen)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need privileges: choose a higher one with --listen)",
        _ => "",
    }
}

fn join_remedy(reason: &io::Error) -> &'static str {
    match reason.raw_os_error() {
        Some(nix::libc::ENODEV) => " (no route leads to it: name the interface, as in 239.1.2.3%eth0)",
        Some(nix::libc::EADDRINUSE) => " (it is joined already)",
        Some(nix::libc::ENOBUFS) => " (too many groups: see net.ipv4.igmp_max_memberships)",
        _ => "",
    }
}

/// A closure that turns the kernel's reason into an [`Error::Setup`].
fn setup<E: Into<io::Error>>(what: &str) -> impl FnOnce(E) -> Error + '_ {
    move |reason| Error::Setup { what: what.to_owned(), reason: reason.into() }
}
