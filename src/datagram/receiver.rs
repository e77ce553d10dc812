//! Many datagrams with one system call (`recvmmsg`), each with the kernel's time and its destination.
//!
//! Not UDP_GRO, which hands over many as one and is far faster: a bundle of 64 that is lost counts as one drop.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::cmsg_space;
use nix::libc::{in_pktinfo, in6_pktinfo, timespec};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A datagram, as long as its batch is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// What was kept of it.
    pub bytes: &'a [u8],
    /// How long it was; more than was kept when it was truncated.
    pub len: usize,
    /// Who sent it, as the socket names it: IPv4 at an IPv6 socket is a mapped address.
    pub from: SocketAddr,
    /// Where it was sent; not told when the receiver keeps no details.
    pub to: Option<Destination>,
    /// When the kernel took it in, since 1970; not told when the receiver keeps no details.
    pub at: Option<Duration>,
}

impl Datagram<'_> {
    /// Whether only a part was kept.
    pub const fn is_truncated(&self) -> bool {
        self.len > self.bytes.len()
    }
}

/// Where a datagram was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The address in its header.
    pub ip: IpAddr,
    /// The address of this machine that stands for it: the same, unless it was sent to a group or to everybody.
    pub local: IpAddr,
    /// The interface through which it came.
    pub interface: u32,
}

/// Takes datagrams from a socket, as many at a time as are there.
#[derive(Debug)]
pub struct Receiver {
    /// `batch` times `kept` bytes. Pages that no datagram reaches are never touched.
    buffer: Vec<u8>,
    kept: usize,
    batch: usize,
    details: bool,
}

impl Receiver {
    /// Takes up to `batch` datagrams at a time, keeps up to `kept` bytes of each, and asks for their times and
    /// destinations if `details` (the socket must have been asked, too: [`super::socket::Listen`]).
    ///
    /// # Panics
    /// If `batch` is zero.
    pub fn new(batch: usize, kept: usize, details: bool) -> Self {
        assert!(batch > 0, "an empty batch never receives");
        Self { buffer: vec![0; batch * kept.max(1)], kept, batch, details }
    }

    /// Waits for datagrams, shows each to `each`, tells how many there were: at least one, at most `at_most`.
    /// Cancelling it loses none.
    ///
    /// # Errors
    /// The kernel's; on a connected socket also what came back for an earlier datagram, such as "connection refused".
    pub async fn receive(
        &mut self,
        socket: &UdpSocket,
        at_most: usize,
        mut each: impl FnMut(Datagram<'_>),
    ) -> io::Result<usize> {
        socket.async_io(Interest::READABLE | Interest::ERROR, || self.take(socket, at_most, &mut each)).await
    }

    /// Like [`receive`](Self::receive), but does not wait.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is there.
    pub fn take(
        &mut self,
        socket: &UdpSocket,
        at_most: usize,
        mut each: impl FnMut(Datagram<'_>),
    ) -> io::Result<usize> {
        let batch = self.batch.min(at_most);
        // The headers serve once: the kernel leaves the lengths in them that it used, and nix does not reset them.
        let control = self.details.then(|| cmsg_space!(timespec, in_pktinfo, in6_pktinfo));
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(batch, control);
        let parts = self.buffer.chunks_mut(self.kept.max(1)).take(batch);
        let mut slices: Vec<_> = parts.map(|part| [IoSliceMut::new(&mut part[..self.kept])]).collect();
        // MSG_TRUNC: tell the real length, even if less is kept.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let mut count = 0;
        for message in recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None)? {
            count += 1;
            if let Some(from) = message.address.and_then(address) {
                let (to, at) = details(&message);
                let bytes = message.iovs().next().unwrap_or_default();
                each(Datagram { bytes, len: message.bytes, from, to, at });
            }
        }
        Ok(count)
    }
}

fn address(address: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from(*v4));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)))
}

/// Destination and time, if they are told.
fn details(message: &RecvMsg<'_, '_, SockaddrStorage>) -> (Option<Destination>, Option<Duration>) {
    let (mut v4, mut v6, mut at) = (None, None, None);
    for control in message.cmsgs().into_iter().flatten() {
        match control {
            ControlMessageOwned::ScmTimestampns(time) => at = Some(Duration::from(time)),
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let ip = |address: nix::libc::in_addr| IpAddr::V4(Ipv4Addr::from(address.s_addr.to_ne_bytes()));
                v4 = Some(Destination {
                    ip: ip(info.ipi_addr),
                    local: ip(info.ipi_spec_dst),
                    interface: info.ipi_ifindex as u32,
                });
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let ip = IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)).to_canonical();
                v6 = Some(Destination { ip, local: ip, interface: info.ipi6_ifindex });
            }
            _ => {}
        }
    }
    (v4.or(v6), at)
}
