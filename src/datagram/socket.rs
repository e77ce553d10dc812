//! Opening sockets: buffers, multicast groups, interfaces.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::error::{Error, setup};
use super::group::Group;

/// How to listen.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Bytes of payload that the kernel is asked to keep for a slow reader; what it grants is [`granted_buffer`].
    pub buffer: usize,
    /// Groups to join. With any, other sockets may share the port, as they may join the same groups.
    pub groups: Vec<Group>,
    /// Whether each datagram comes with its time and destination.
    pub details: bool,
}

/// A socket that listens on `addr`. `[::]` takes IPv4 as well.
///
/// # Errors
/// [`Error::Bind`], [`Error::Join`], [`Error::NoInterface`], [`Error::Setup`].
pub fn listen(addr: SocketAddr, options: &Listen) -> Result<UdpSocket, Error> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP));
    let socket = socket.map_err(setup("make a socket"))?;
    let wildcard_v6 = addr.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    // Before binding, so that no datagram arrives to a socket half set up.
    let prepared = || -> io::Result<()> {
        if wildcard_v6 {
            socket.set_only_v6(false)?;
        }
        if setsockopt(&socket, sockopt::RcvBufForce, &options.buffer).is_err() {
            socket.set_recv_buffer_size(options.buffer)?; // without privileges, up to net.core.rmem_max
        }
        if options.details {
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
            // IPv4 that arrives at an IPv6 socket has its destination and the local address in IP_PKTINFO only.
            if addr.is_ipv4() || wildcard_v6 {
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            }
            if addr.is_ipv6() {
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
        if !options.groups.is_empty() {
            socket.set_reuse_address(true)?;
            // Linux otherwise passes on what arrives for groups that any other process of this machine has joined.
            if addr.is_ipv4() || wildcard_v6 {
                socket.set_multicast_all_v4(false)?;
            }
            if addr.is_ipv6() {
                socket.set_multicast_all_v6(false)?;
            }
        }
        socket.set_nonblocking(true)
    };
    prepared().map_err(setup("set up a socket"))?;
    socket.bind(&addr.into()).map_err(|reason| Error::Bind { addr, reason })?;
    for group in &options.groups {
        join(&socket, group)?;
    }
    UdpSocket::from_std(socket.into()).map_err(setup("watch a socket"))
}

fn join(socket: &Socket, group: &Group) -> Result<(), Error> {
    let index = group.interface.as_deref().map(interface).transpose()?.map_or(0, |interface| interface.index);
    let joined = match group.address {
        IpAddr::V4(address) => socket.join_multicast_v4_n(&address, &InterfaceIndexOrAddress::Index(index)),
        IpAddr::V6(address) => socket.join_multicast_v6(&address, index),
    };
    joined.map_err(|reason| Error::Join { group: group.clone(), reason })
}

/// Bytes that the kernel keeps for a slow reader. It reserves as much again for its own book-keeping, and counts that,
/// too: some 700 bytes for a small datagram.
///
/// # Errors
/// The kernel's.
pub fn granted_buffer(socket: &UdpSocket) -> io::Result<usize> {
    Ok(SockRef::from(socket).recv_buffer_size()? / 2)
}

/// A network interface of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Its first IPv4 address.
    pub v4: Option<Ipv4Addr>,
}

/// The interface of that name, or with that address.
///
/// # Errors
/// [`Error::NoInterface`], which names those there are.
pub fn interface(name: &str) -> Result<Interface, Error> {
    let all: Vec<_> = getifaddrs().map_err(setup("list the network interfaces"))?.collect();
    let wanted: Option<IpAddr> = name.parse().ok();
    let found = all.iter().find(|entry| entry.interface_name == name || (wanted.is_some() && ip(entry) == wanted));
    let index = found.and_then(|found| if_nametoindex(found.interface_name.as_str()).ok());
    let (Some(found), Some(index)) = (found, index) else {
        let mut known: Vec<_> = all.iter().map(|entry| entry.interface_name.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        return Err(Error::NoInterface { name: name.to_owned(), known: known.join(", ") });
    };
    let same = all.iter().filter(|entry| entry.interface_name == found.interface_name);
    let v4 = same.filter_map(ip).find_map(|ip| if let IpAddr::V4(v4) = ip { Some(v4) } else { None });
    Ok(Interface { index, v4 })
}

/// Every address of this machine, as of now.
///
/// # Errors
/// [`Error::Setup`].
pub fn own_addresses() -> Result<Vec<IpAddr>, Error> {
    Ok(getifaddrs().map_err(setup("list the network interfaces"))?.filter_map(|entry| ip(&entry)).collect())
}

fn ip(entry: &InterfaceAddress) -> Option<IpAddr> {
    let address = entry.address?;
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_a_name_and_addresses() {
        let lo = interface("lo").unwrap();
        assert_eq!(lo.v4, Some(Ipv4Addr::LOCALHOST));
        assert_eq!(interface("127.0.0.1").unwrap(), lo);
        let error = interface("nosuch0").unwrap_err().to_string();
        assert!(error.contains("'nosuch0'") && error.contains("lo"), "{error}");
        assert!(own_addresses().unwrap().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
