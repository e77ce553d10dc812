//! From `HOST:PORT` to addresses, by one rule for all tools:
//!
//! - a name that this machine has for itself, such as localhost, means 127.0.0.1 first, since that is where servers listen
//!   unless told otherwise;
//! - `[fe80::1%eth0]:7000` names the link on which that address is, by its interface; without that it would mean nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use nix::net::if_::{if_nameindex, if_nametoindex};
use thiserror::Error;

use crate::threads;

/// Why an address leads nowhere.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// The name has no address.
    #[error("cannot find {addr}: {source} (is the name right? does this machine reach its name server?)")]
    NotFound {
        /// What was asked for.
        addr: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No interface has that name.
    #[error("cannot find {addr}: there is no network interface '{zone}' here (there are: {known})")]
    NoInterface {
        /// What was asked for.
        addr: String,
        /// What should be an interface.
        zone: String,
        /// The names of those there are.
        known: String,
    },
    /// It is a different address on each link.
    #[error(
        "cannot find {addr}: each link has addresses like that one, so say which is meant: [{ip}%INTERFACE]:{port} (there are: \
         {known})"
    )]
    NoZone {
        /// What was asked for.
        addr: String,
        /// Its address.
        ip: Ipv6Addr,
        /// Its port.
        port: u16,
        /// The names of the interfaces there are.
        known: String,
    },
}

impl From<ResolveError> for io::Error {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::NotFound { source, .. } => source,
            ResolveError::NoInterface { .. } | ResolveError::NoZone { .. } => {
                Self::new(io::ErrorKind::InvalidInput, error)
            }
        }
    }
}

/// Every address of `addr`, a `HOST:PORT`, in the order in which they are to be tried.
///
/// # Errors
/// When the name has no address, or it is not clear on which link it is.
pub async fn resolve(addr: &str) -> Result<Vec<SocketAddr>, ResolveError> {
    let not_found = |source| ResolveError::NotFound { addr: addr.to_owned(), source };
    let (host, port) = split(addr).ok_or_else(|| not_found(io::Error::other("it is not HOST:PORT")))?;
    if let Some(found) = literal(addr, host, port)? {
        return Ok(vec![found]);
    }
    let mut addrs = threads::look_up(host, port).await.map_err(not_found)?;
    addrs.sort_by_key(|addr| addr.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST)); // stable: the others stay in order
    if addrs.is_empty() { Err(not_found(io::Error::other("the name has no address"))) } else { Ok(addrs) }
}

/// The host, without brackets, and the port.
fn split(addr: &str) -> Option<(&str, u16)> {
    let (host, port) = addr.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?))
}

/// The address, where the host is one and no name.
fn literal(addr: &str, host: &str, port: u16) -> Result<Option<SocketAddr>, ResolveError> {
    let (ip, zone) = match host.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone)),
        None => (host, None),
    };
    match (ip.parse(), zone) {
        (Ok(IpAddr::V6(ip)), Some(zone)) => {
            let no_interface =
                || ResolveError::NoInterface { addr: addr.to_owned(), zone: zone.to_owned(), known: interfaces() };
            // A number is what the system itself prints.
            let index = zone.parse().or_else(|_| if_nametoindex(zone)).map_err(|_| no_interface())?;
            Ok(Some(SocketAddrV6::new(ip, port, 0, index).into()))
        }
        (Ok(IpAddr::V6(ip)), None) if ip.is_unicast_link_local() => {
            Err(ResolveError::NoZone { addr: addr.to_owned(), ip, port, known: interfaces() })
        }
        (Ok(ip), None) => Ok(Some(SocketAddr::new(ip, port))),
        (Ok(IpAddr::V4(_)), Some(_)) | (Err(_), _) => Ok(None),
    }
}

/// The names of this machine's interfaces.
fn interfaces() -> String {
    let names = if_nameindex().map(|all| all.iter().map(|one| one.name().to_string_lossy().into_owned()).collect());
    names.map_or_else(|error| error.to_string(), |names: Vec<_>| names.join(", "))
}

/// `addr` as HTTP writes it in the header Host: an interface of this machine says nothing to the other (RFC 9110, 7.2).
pub fn without_zone(addr: &str) -> String {
    match (addr.find('%'), addr.find(']')) {
        (Some(zone), Some(end)) if zone < end => format!("{}{}", &addr[..zone], &addr[end..]),
        _ => addr.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_is_127_0_0_1_first_whatever_the_resolver_says() {
        let found = resolve("localhost:7000").await.unwrap();
        assert_eq!(found[0], "127.0.0.1:7000".parse().unwrap(), "{found:?}");
    }

    #[tokio::test]
    async fn a_zone_is_the_interface_of_that_name_or_number() {
        let loopback = if_nametoindex("lo").unwrap();
        let expected: Vec<SocketAddr> = vec![SocketAddrV6::new("fe80::1".parse().unwrap(), 7000, 0, loopback).into()];
        assert_eq!(resolve("[fe80::1%lo]:7000").await.unwrap(), expected);
        assert_eq!(resolve(&format!("[fe80::1%{loopback}]:7000")).await.unwrap(), expected);
        let unknown = resolve("[fe80::1%nosuch0]:7000").await.unwrap_err().to_string();
        assert!(unknown.contains("no network interface 'nosuch0'") && unknown.contains("lo"), "{unknown}");
        let without = resolve("[fe80::1]:7000").await.unwrap_err().to_string();
        assert!(without.contains("[fe80::1%INTERFACE]:7000") && without.contains("lo"), "{without}");
    }

    #[tokio::test]
    async fn addresses_are_what_they_say() {
        for addr in ["127.0.0.1:1", "[::1]:2", "[::]:0", "0.0.0.0:65535"] {
            assert_eq!(resolve(addr).await.unwrap(), [addr.parse().unwrap()]);
        }
        let unknown = resolve("nosuchhost.invalid:1").await.unwrap_err().to_string();
        assert!(unknown.contains("cannot find nosuchhost.invalid:1"), "{unknown}");
    }

    #[test]
    fn the_host_of_a_request_has_no_zone() {
        assert_eq!(without_zone("[fe80::1%eth0]:7000"), "[fe80::1]:7000");
        assert_eq!(without_zone("n1.example:7000"), "n1.example:7000");
    }
}
