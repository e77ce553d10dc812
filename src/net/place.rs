//! Where the others reach a server: which of a machine's addresses that is depends on who they are.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use thiserror::Error;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where somebody who knows says that it is: a `HOST:PORT`.
    Said(String),
    /// Where it listens, which may be every address of this machine.
    Listening(SocketAddr),
}

/// Why somebody does not reach a server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OutOfReach {
    /// The other is on another machine, and the server on the loopback of this one.
    #[error(
        "{remote} is on another machine, and this node listens on {listening}, which only this machine reaches: listen where the \
         others reach it (--listen and --insecure; PORT and INSECURE=1 in the environment), or say where that is (--advertise)"
    )]
    OnlyHere {
        /// The other.
        remote: SocketAddr,
        /// Where the server listens.
        listening: SocketAddr,
    },
    /// The other is reached over a protocol that the server does not take.
    #[error(
        "{remote} is reached over IPv6, and this node listens on {listening}, which is IPv4 alone: listen on [::]:{port}, or say \
         where the others reach this node: --advertise HOST:PORT", port = .listening.port()
    )]
    OtherProtocol {
        /// The other.
        remote: SocketAddr,
        /// Where the server listens.
        listening: SocketAddr,
    },
    /// The way between the two has no addresses that a third would understand.
    #[error(
        "{remote} is reached from {local}, an address that each link has: say where the others reach this node: --advertise \
         HOST:PORT"
    )]
    OneLink {
        /// The other.
        remote: SocketAddr,
        /// This end.
        local: SocketAddr,
    },
}

impl Place {
    /// Where the other end of a connection from `local` to `remote` reaches this server.
    ///
    /// # Errors
    /// Why it does not.
    pub fn toward(&self, local: SocketAddr, remote: SocketAddr) -> Result<String, OutOfReach> {
        let listening = match self {
            Self::Said(addr) => return Ok(addr.clone()),
            Self::Listening(addr) => *addr,
        };
        let (own, other) = (local.ip().to_canonical(), remote.ip().to_canonical());
        if listening.ip().is_unspecified() {
            return match own {
                IpAddr::V6(_) if listening.is_ipv4() => Err(OutOfReach::OtherProtocol { remote, listening }),
                IpAddr::V6(ip) if ip.is_unicast_link_local() => Err(OutOfReach::OneLink { remote, local }),
                own => Ok(SocketAddr::new(own, listening.port()).to_string()),
            };
        }
        // A connection of a machine with itself has the same address at both ends.
        if listening.ip().is_loopback() && !own.is_loopback() && own != other {
            return Err(OutOfReach::OnlyHere { remote, listening });
        }
        Ok(listening.to_string())
    }
}

/// From which address this machine reaches `remote`. Sends nothing.
///
/// # Errors
/// When no route leads there.
pub fn local_toward(remote: SocketAddr) -> io::Result<SocketAddr> {
    let any = if remote.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(remote)?;
    socket.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn toward(listening: &str, local: &str, remote: &str) -> Result<String, OutOfReach> {
        Place::Listening(addr(listening)).toward(addr(local), addr(remote))
    }

    #[test]
    fn on_every_address_it_is_where_the_other_was_reached_from() {
        let there = Ok("192.0.2.4:7001".to_owned());
        assert_eq!(toward("0.0.0.0:7001", "192.0.2.4:40000", "192.0.2.1:7001"), there);
        assert_eq!(toward("[::]:7001", "192.0.2.4:40000", "192.0.2.1:7001"), there);
        assert_eq!(toward("[::]:7001", "[2001:db8::4]:1", "[2001:db8::1]:7001"), Ok("[2001:db8::4]:7001".to_owned()));
        assert_eq!(toward("0.0.0.0:7001", "127.0.0.1:40000", "127.0.0.1:7002"), Ok("127.0.0.1:7001".to_owned()));
    }

    #[test]
    fn where_nobody_reaches_it_it_says_so() {
        let why = |listening, local, remote| toward(listening, local, remote).unwrap_err().to_string();
        let only_here = why("127.0.0.1:7001", "192.0.2.4:40000", "192.0.2.1:7001");
        assert!(only_here.contains("127.0.0.1:7001, which only this machine reaches"), "{only_here}");
        assert!(why("0.0.0.0:7001", "[2001:db8::4]:1", "[2001:db8::1]:2").contains("[::]:7001"));
        assert!(why("[::]:7001", "[fe80::4%2]:1", "[fe80::1%2]:2").contains("--advertise"));
    }

    #[test]
    fn what_is_said_and_what_is_one_address_stands() {
        assert_eq!(toward("192.0.2.4:7001", "192.0.2.9:1", "192.0.2.1:7001"), Ok("192.0.2.4:7001".to_owned()));
        assert_eq!(toward("127.0.0.1:7001", "127.0.0.1:1", "127.0.0.1:7002"), Ok("127.0.0.1:7001".to_owned()));
        assert_eq!(toward("127.0.0.1:7001", "192.0.2.4:1", "192.0.2.4:7002"), Ok("127.0.0.1:7001".to_owned()));
        let said = Place::Said("n1.example:1".to_owned());
        assert_eq!(said.toward(addr("192.0.2.4:1"), addr("192.0.2.1:1")), Ok("n1.example:1".to_owned()));
    }

    #[test]
    fn the_way_to_oneself_is_the_loopback() {
        assert_eq!(local_toward(addr("127.0.0.1:9")).unwrap().ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
}
