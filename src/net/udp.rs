//! Messages as datagrams: one each, to and from whoever has an address.
//!
//! A datagram is a message's bytes ([`Wire`]) and nothing else, so that another program's format can be spoken. Nobody is known
//! by his address: what proves who he is belongs into the message.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use prometheus_client::metrics::counter::Counter;
use socket2::{Domain, Protocol as SocketProtocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::bind::{BindError, bind_first};
use super::driver::Handle;
use super::transport::Transport;
use crate::defaults::MAX_MESSAGE_DATAGRAM;
use crate::protocol::Protocol;
use crate::wire::Wire;

/// A socket over which a machine speaks. Cheap to clone: all clones are the same socket, one for the driver, one to
/// [receive](Udp::receive).
#[derive(Clone, Debug)]
pub struct Udp {
    socket: Arc<UdpSocket>,
    /// Whether IPv4 addresses have to be written as IPv6 ones.
    is_v6: bool,
    metrics: UdpMetrics,
    encoded: BytesMut,
}

/// What became of datagrams. Cheap to clone: all clones count together.
#[derive(Clone, Debug, Default)]
pub struct UdpMetrics {
    /// Received, and no message.
    pub bad: Counter,
    /// Messages that were too long for a datagram, or that the system did not take at once.
    pub unsent: Counter,
}

impl Udp {
    /// A socket at the first of `addrs` that can be bound; `listen` is what they are called. On `[::]` it takes IPv4, too.
    ///
    /// # Errors
    /// Says what the system said of the last.
    pub fn bind(listen: &str, addrs: &[SocketAddr]) -> Result<Self, BindError> {
        let (socket, is_v6) = bind_first(listen, addrs, |addr| Ok((bind_to(addr)?, addr.is_ipv6())))?;
        Ok(Self { socket: Arc::new(socket), is_v6, metrics: UdpMetrics::default(), encoded: BytesMut::new() })
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What became of datagrams so far.
    pub const fn metrics(&self) -> &UdpMetrics {
        &self.metrics
    }

    /// Hands what arrives to the driver until that stops. A datagram that is no message is dropped and counted. While the driver
    /// is busy datagrams wait in the kernel, which drops what is too much.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn receive<P>(&self, handle: &Handle<P>) -> io::Result<()>
    where
        P: Protocol<Peer = SocketAddr, Message: Wire>,
    {
        let mut buffer = BytesMut::new();
        loop {
            let room = MAX_MESSAGE_DATAGRAM + 1; // what is longer shows
            buffer.reserve(room);
            let (len, from) = self.socket.recv_buf_from(&mut (&mut buffer).limit(room)).await?;
            let datagram = buffer.split().freeze();
            match P::Message::decode(datagram) {
                Ok(message) if len <= MAX_MESSAGE_DATAGRAM => {
                    if handle.received(canonical(from), message).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(_) | Err(_) => drop(self.metrics.bad.inc()),
            }
        }
    }

    fn send(&self, to: SocketAddr) -> io::Result<usize> {
        if self.encoded.len() > MAX_MESSAGE_DATAGRAM {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let to = match to {
            SocketAddr::V4(v4) if self.is_v6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
            to => to,
        };
        // Not tokio's try_send_to, which sends nothing before the runtime has once looked at the socket.
        SockRef::from(&*self.socket).send_to(&self.encoded, &to.into())
    }
}

impl<P: Protocol<Peer = SocketAddr, Message: Wire>> Transport<P> for Udp {
    /// Sends the message, unless the socket's buffer is full.
    fn put(&mut self, to: SocketAddr, message: &P::Message) {
        self.encoded.clear();
        message.encode(&mut self.encoded);
        if self.send(to).is_err() {
            self.metrics.unsent.inc();
        }
    }

    fn flush(&mut self) {}
}

fn bind_to(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM.nonblocking(), Some(SocketProtocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

/// One peer has one address: a socket for both writes IPv4 addresses as IPv6 ones.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().map_or(addr, |v4| (v4, v6.port()).into()),
        SocketAddr::V4(_) => addr,
    }
}
