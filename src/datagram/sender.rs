//! Many datagrams with one system call, at a pace.
//!
//! Datagrams of one size go through the kernel as one, which cuts them apart only where they leave it, or where they are
//! received on the same machine (UDP_SEGMENT, since Linux 4.18): several times as fast. Others take `sendmmsg`.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::error::{Error, setup};
use super::socket;
use crate::defaults::UDP_SEND_BATCH;

/// How to send.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether a broadcast address is meant.
    pub broadcast: bool,
    /// The interface through which to reach a group, by its name or one of its addresses.
    pub interface: Option<String>,
    /// How many routers it may pass.
    pub ttl: Option<u8>,
}

/// Sends to one address.
#[derive(Debug)]
pub struct Sender {
    socket: UdpSocket,
    /// Where to send, unless the socket is connected.
    to: Option<SockaddrStorage>,
    batch: usize,
    /// Whether the kernel has cut datagrams apart so far; over some devices it cannot.
    segments: Cell<bool>,
    /// Send the next one alone: see [`send`](Self::send).
    careful: Cell<bool>,
}

impl Sender {
    /// A socket that sends to `addr`, up to `batch` datagrams at a time.
    ///
    /// A single receiver is connected to: only then does the kernel tell that nothing listens there, and only then are
    /// the answers that arrive known to be its.
    ///
    /// # Errors
    /// [`Error::Broadcast`], [`Error::Unreachable`], [`Error::NoInterface`], [`Error::Setup`].
    pub fn open(addr: SocketAddr, options: &Options, batch: usize) -> Result<Self, Error> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP));
        let socket = socket.map_err(setup("make a socket"))?;
        socket.set_nonblocking(true).map_err(setup("set up a socket"))?;
        if let Some(ttl) = options.ttl.map(u32::from) {
            let set = match addr {
                SocketAddr::V4(_) => socket.set_ttl_v4(ttl).and_then(|()| socket.set_multicast_ttl_v4(ttl)),
                SocketAddr::V6(_) => socket.set_unicast_hops_v6(ttl).and_then(|()| socket.set_multicast_hops_v6(ttl)),
            };
            set.map_err(setup("set the TTL"))?;
        }
        if let Some(name) = &options.interface {
            let interface = socket::interface(name)?;
            let set = match (addr, interface.v4) {
                (SocketAddr::V6(_), _) => socket.set_multicast_if_v6(interface.index),
                (SocketAddr::V4(_), Some(v4)) => socket.set_multicast_if_v4(&v4),
                (SocketAddr::V4(_), None) => Err(io::Error::other("it has no IPv4 address")),
            };
            set.map_err(setup(&format!("send through {name}")))?;
        }
        // That nobody on the link has the address, or that a router knows no way, comes late, and the kernel forgets it unless
        // it is asked to keep errors (ip(7), IP_RECVERR): only that a port is closed it tells a connected socket by itself.
        let keep_errors = match addr {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true),
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true),
        };
        keep_errors.map_err(setup("set up a socket"))?;
        let mut to = None;
        if addr.ip().is_multicast() {
            to = Some(addr.into());
        } else if let Err(reason) = socket.connect(&addr.into()) {
            // The kernel knows which addresses are for everybody: it lets nobody connect to them who has not asked to.
            match reason.kind() {
                io::ErrorKind::PermissionDenied if options.broadcast => {
                    socket.set_broadcast(true).map_err(setup("broadcast"))?;
                    to = Some(addr.into());
                }
                io::ErrorKind::PermissionDenied => return Err(Error::Broadcast { addr }),
                _ => return Err(Error::Unreachable { addr, reason }),
            }
        }
        let socket = UdpSocket::from_std(socket.into()).map_err(setup("watch a socket"))?;
        Ok(Self { socket, to, batch, segments: Cell::new(true), careful: Cell::new(false) })
    }

    /// The socket, to receive answers.
    pub const fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Whether many may receive what is sent.
    pub const fn is_to_many(&self) -> bool {
        self.to.is_some()
    }

    /// Sends these, in order, as far as a batch and the kernel's buffer reach; tells how many went, at least one.
    /// Cancelling it sends none.
    ///
    /// # Errors
    /// The kernel's; "connection refused" for an earlier datagram.
    pub async fn send(&self, datagrams: &[&[u8]]) -> io::Result<usize> {
        let careful = self.careful.get();
        let batch = if careful { 1 } else { self.batch };
        let datagrams = &datagrams[..datagrams.len().min(batch)];
        let (sent, tried) = self.socket.async_io(Interest::WRITABLE, || self.send_now(datagrams)).await?;
        // An error that meets the second or a later datagram of a batch is forgotten by the kernel. So after a short
        // batch one goes alone, and what comes of it is asked for before the next.
        if careful && let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        self.careful.set(sent < tried);
        Ok(sent)
    }

    /// What has come back so far for what was sent: an error, if anything.
    ///
    /// # Errors
    /// That error.
    pub fn check(&self) -> io::Result<()> {
        self.socket.take_error()?.map_or(Ok(()), Err)
    }

    /// How many went, and how many were to go.
    fn send_now(&self, datagrams: &[&[u8]]) -> io::Result<(usize, usize)> {
        let socket = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        if self.segments.get() && datagrams.len() > 1 {
            let alike = together(datagrams);
            if let (2.., Ok(size)) = (alike.len(), u16::try_from(alike[0].len())) {
                let slices: Vec<_> = alike.iter().map(|bytes| IoSlice::new(bytes)).collect();
                let cut = [ControlMessage::UdpGsoSegments(&size)];
                match sendmsg(socket, &slices, &cut, flags, self.to.as_ref()) {
                    Ok(_) => return Ok((alike.len(), alike.len())),
                    // Larger than the device takes, or it cannot do the checksums: one at a time, then.
                    Err(Errno::EINVAL | Errno::EIO | Errno::EMSGSIZE | Errno::EOPNOTSUPP) => self.segments.set(false),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(datagrams.len(), None);
        let slices: Vec<_> = datagrams.iter().map(|bytes| [IoSlice::new(bytes)]).collect();
        let addresses = vec![self.to; datagrams.len()];
        let nothing_else: [ControlMessage<'_>; 0] = [];
        let sent = sendmmsg(socket, &mut headers, &slices, addresses, nothing_else, flags)?.count();
        Ok((sent, datagrams.len()))
    }
}

/// The first of these that can go through the kernel as one: of the same size, and together no larger than one may be.
fn together<'a, 'b>(datagrams: &'a [&'b [u8]]) -> &'a [&'b [u8]] {
    let size = datagrams.first().map_or(0, |first| first.len());
    let most = longest(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).checked_div(size).unwrap_or(1).clamp(1, UDP_SEND_BATCH);
    let alike = datagrams.iter().take(most).take_while(|datagram| datagram.len() == size).count();
    &datagrams[..alike]
}

/// The longest datagram to that address: 65,535 bytes less the headers of UDP and, with IPv4, of IP (RFC 768, 791, 8200).
pub const fn longest(to: IpAddr) -> usize {
    match to {
        IpAddr::V4(_) => 65_507,
        IpAddr::V6(_) => 65_527,
    }
}

/// When each of many datagrams is due. What is late is due at once: the schedule does not shift, so the rate holds over
/// any time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    per_second: f64,
}

impl Pace {
    /// So many a second, a number above zero.
    pub const fn new(per_second: f64) -> Self {
        Self { per_second }
    }

    /// How many are due after that time, the first at once.
    pub fn due(&self, elapsed: Duration) -> u64 {
        (elapsed.as_secs_f64() * self.per_second) as u64 + 1
    }

    /// When a datagram is due, counted from 0; nothing when that is beyond all time.
    pub fn time_of(&self, number: u64) -> Option<Duration> {
        Duration::try_from_secs_f64(number as f64 / self.per_second).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_schedule_does_not_drift() {
        let pace = Pace::new(500_000.0);
        assert_eq!(pace.due(Duration::ZERO), 1);
        assert_eq!(pace.due(Duration::from_secs(3600)), 1_800_000_001);
        assert_eq!(Pace::new(0.5).time_of(3), Some(Duration::from_secs(6)));
        assert_eq!(Pace::new(1e-300).time_of(1), None);
    }

    proptest! {
        #[test]
        fn a_datagram_is_due_at_its_time_and_not_a_millisecond_before(
            rate in 0.1..1000.0_f64, number in 1..1_000_000_u64,
        ) {
            let pace = Pace::new(rate);
            let time = pace.time_of(number).unwrap();
            let little = Duration::from_micros(900);
            prop_assert!(pace.due(time + little) > number);
            prop_assert!(pace.due(time.saturating_sub(little)) <= number);
        }
    }

    #[tokio::test]
    async fn many_go_in_one_batch_and_in_order() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let sender = Sender::open(receiver.local_addr().unwrap(), &Options::default(), 64).unwrap();
        let datagrams: Vec<_> = (0..50_u8).map(|number| [number]).collect();
        let slices: Vec<_> = datagrams.iter().map(|bytes| &bytes[..]).collect();
        assert_eq!(sender.send(&slices).await.unwrap(), 50);
        let mut buffer = [0; 2];
        for number in 0..50 {
            assert_eq!(receiver.recv(&mut buffer).await.unwrap(), 1);
            assert_eq!(buffer[0], number);
        }
    }

    #[test]
    fn what_is_alike_goes_together_as_far_as_it_may() {
        let count = |sizes: &[usize]| {
            let datagrams: Vec<_> = sizes.iter().map(|size| vec![0; *size]).collect();
            together(&datagrams.iter().map(|bytes| &bytes[..]).collect::<Vec<_>>()).len()
        };
        assert_eq!((count(&[3, 3, 3]), count(&[3, 3, 4]), count(&[3, 4]), count(&[])), (3, 2, 1, 0));
        assert_eq!((count(&[0, 0]), count(&[40_000; 2]), count(&[30_000; 3])), (1, 1, 2));
        assert_eq!(count(&[64; 1000]), UDP_SEND_BATCH);
    }

    #[tokio::test]
    async fn a_long_blast_at_nobody_is_told_so() {
        // A socket that hears another one only keeps the port, and is not there for us.
        let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        nobody.connect("127.0.0.1:1").await.unwrap();
        let (alike, different) = ([&b"x"[..]; 64], std::array::from_fn::<_, 64, _>(|n| &b"xyz"[..n % 2]));
        for datagrams in [alike, different] {
            let sender = Sender::open(nobody.local_addr().unwrap(), &Options::default(), 64).unwrap();
            let mut tries = 0..10;
            let error = loop {
                tries.next().expect("somebody says that nothing listens there");
                if let Err(error) = sender.send(&datagrams).await {
                    break error;
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}
