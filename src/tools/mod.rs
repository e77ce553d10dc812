//! One file or folder a tool: its arguments, and what it does with the rest of the library.

mod backup_target;
pub mod netsim;
mod node;
pub mod raft_ctl;
pub mod raft_node;
pub mod tcp_echo;
pub mod udp_listen;
pub mod udp_send;
pub mod worker_pool;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::time::Instant;

use crate::cli::{Failure, Kind};
use crate::datagram;
use crate::net::address::{self, ResolveError};
use crate::net::bind::BindError;
use crate::threads;

/// Why nothing can be served, and the exit code for it.
fn bind_failure(error: &BindError) -> Failure {
    let (kind, remedy) = match error {
        BindError::Resolve(error) => (resolve_kind(error), ""),
        BindError::Port { source, .. } => (
            Kind::Local,
            match source.kind() {
                ErrorKind::AddrInUse => " (is another one running there? choose another port with --listen)",
                ErrorKind::AddrNotAvailable => " (is that an address of this machine?)",
                ErrorKind::PermissionDenied => " (ports below 1024 need privileges: choose a higher one)",
                _ => "",
            },
        ),
    };
    Failure::new(kind, format!("{error}{remedy}"))
}

/// Why an address leads nowhere, as an exit code.
fn resolve_kind(error: &ResolveError) -> Kind {
    match error {
        ResolveError::NotFound { source, .. } if threads::none_left(source) => Kind::Local,
        ResolveError::NotFound { .. } => Kind::NameNotFound,
        ResolveError::NoInterface { .. } => Kind::Local,
        ResolveError::NoZone { .. } => Kind::Usage,
    }
}

/// The addresses of `addr`, in the order in which they are to be tried.
async fn resolve(addr: &str) -> Result<Vec<SocketAddr>, Failure> {
    address::resolve(addr).await.map_err(|error| Failure::new(resolve_kind(&error), error.to_string()))
}

/// What went wrong with a socket, what to do about it, and the exit code.
fn udp_failure(error: &datagram::Error) -> Failure {
    let (kind, remedy) = match error {
        datagram::Error::Resolve(error) => (resolve_kind(error), ""),
        datagram::Error::Broadcast { .. } => (Kind::Usage, ": pass --broadcast to send to everybody there"),
        datagram::Error::Unreachable { .. } => (Kind::Unreachable, ""),
        datagram::Error::Bind { reason, .. } => (Kind::Local, bind_remedy(reason)),
        datagram::Error::Join { reason, .. } => (Kind::Local, join_remedy(reason)),
        datagram::Error::Setup { .. } | datagram::Error::NoInterface { .. } => (Kind::Local, ""),
    };
    Failure::new(kind, format!("{error}{remedy}"))
}

fn bind_remedy(reason: &io::Error) -> &'static str {
    match reason.kind() {
        ErrorKind::AddrInUse => " (does something listen there already? choose another port with --listen)",
        ErrorKind::AddrNotAvailable => " (is that an address of this machine? see --listen)",
        ErrorKind::PermissionDenied => " (ports below 1024 need privileges: choose a higher one with --listen)",
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

/// A random number of the system's.
fn entropy() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| Failure::local(format!("the system gives no random numbers: {error}")))
}

/// Waits until then, or for ever.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// `1 packet`, `2 packets`.
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
