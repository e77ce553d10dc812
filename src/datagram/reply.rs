//! Whom to answer, and how often, so that nobody is harmed by it.
//!
//! Anybody can send a datagram in another's name. A server that answers can therefore be made to bombard a third party
//! (reflection), more so if its answer is longer than the question (amplification, RFC 5358), or to quarrel with another
//! server for ever (CERT CA-1996-01, "UDP port denial-of-service attack"). The rules here take the fun out of that.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use tokio::net::UdpSocket;

use super::receiver::{Datagram, Destination};

/// Why a datagram gets no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// The source port is below 1024: a service of the system, such as chargen, which would answer in turn.
    #[error("a port below 1024 is that of a service, which might answer in turn")]
    LowPort,
    /// It claims to come from this very socket.
    #[error("it claims to come from this very socket")]
    OwnAddress,
    /// It was sent to a group or to everybody: all of them would answer at once.
    #[error("it was sent to many, who would all answer at once")]
    ManyDestinations,
    /// Where it was sent is not known.
    #[error("where it was sent is not known")]
    UnknownDestination,
}

/// Whether a datagram may be answered, by its addresses alone: gives where it was sent, from where to answer. `own` are the
/// addresses of this machine, `port` is the socket's.
///
/// # Errors
/// The reason why not.
pub fn may_answer(
    from: SocketAddr,
    to: Option<Destination>,
    own: &[IpAddr],
    port: u16,
) -> Result<Destination, Withheld> {
    let source = from.ip().to_canonical();
    let Some(to) = to else { return Err(Withheld::UnknownDestination) };
    let broadcast = to.ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    if from.port() < 1024 {
        Err(Withheld::LowPort)
    } else if from.port() == port && (source == to.ip || source.is_loopback() || own.contains(&source)) {
        Err(Withheld::OwnAddress)
    } else if to.ip.is_multicast() || broadcast || to.ip != to.local {
        // Only what was sent to one address has that address standing for it: this finds directed broadcasts, too.
        Err(Withheld::ManyDestinations)
    } else {
        Ok(to)
    }
}

/// What to say: never more bytes than came.
pub fn answer<'a>(text: Option<&'a [u8]>, datagram: &Datagram<'a>) -> &'a [u8] {
    let text = text.unwrap_or(datagram.bytes);
    &text[..text.len().min(datagram.len)]
}

/// Lets each source have so many replies a second, and a second's worth at once.
///
/// Sources are counted in a table of fixed size, so that a flood from invented addresses takes no memory; those that fall
/// into the same place share what it has. Which do is drawn at the start, so that nobody can choose to.
#[derive(Debug)]
pub struct RateLimit {
    per_second: f64,
    seed: u64,
    buckets: Vec<Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Duration,
}

impl RateLimit {
    /// `per_second` replies for each of `buckets` places.
    ///
    /// # Panics
    /// If there is no place.
    pub fn new(per_second: u32, buckets: usize, seed: u64) -> Self {
        assert!(buckets > 0, "a source needs a place");
        let per_second = f64::from(per_second);
        Self { per_second, seed, buckets: vec![Bucket { tokens: per_second, at: Duration::ZERO }; buckets] }
    }

    /// Whether this source may have one more at this time, counted from any fixed point.
    pub fn allows(&mut self, source: IpAddr, now: Duration) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.seed, network(source)).hash(&mut hasher);
        let place = (hasher.finish() % self.buckets.len() as u64) as usize;
        let bucket = &mut self.buckets[place];
        let since = now.saturating_sub(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + since * self.per_second).min(self.per_second);
        bucket.at = bucket.at.max(now);
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }
}

/// What one source can hardly have many of: an IPv4 address, or the first 64 bits of an IPv6 address, behind which a
/// single machine has all the others.
fn network(source: IpAddr) -> u128 {
    match source.to_canonical() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

/// Sends a reply from the address that was asked, so that a client which only hears that one hears it. Does not wait.
///
/// # Errors
/// The kernel's; [`io::ErrorKind::WouldBlock`] when its buffer is full.
pub fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr, asked: Destination) -> io::Result<()> {
    let (v4, v6);
    let control = match asked.local {
        IpAddr::V4(local) => {
            let address = |ip: Ipv4Addr| in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
            v4 = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address(local), ipi_addr: address(Ipv4Addr::UNSPECIFIED) };
            ControlMessage::Ipv4PacketInfo(&v4)
        }
        IpAddr::V6(local) => {
            v6 = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: local.octets() }, ipi6_ifindex: asked.interface };
            ControlMessage::Ipv6PacketInfo(&v6)
        }
    };
    let to = SockaddrStorage::from(to);
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], &[control], MsgFlags::MSG_DONTWAIT, Some(&to))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    const OWN: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))];

    fn unicast(ip: &str) -> Option<Destination> {
        let ip = ip.parse().unwrap();
        Some(Destination { ip, local: ip, interface: 1 })
    }

    fn judge(from: &str, to: Option<Destination>) -> Result<(), Withheld> {
        may_answer(from.parse().unwrap(), to, &OWN, 9000).map(|_| ())
    }

    #[test]
    fn a_client_is_answered() {
        assert_eq!(judge("127.0.0.1:40000", unicast("127.0.0.1")), Ok(()));
        assert_eq!(judge("[2001:db8::7]:1024", unicast("2001:db8::1")), Ok(()));
        assert_eq!(judge("198.51.100.7:9000", unicast("192.0.2.1")), Ok(()), "another machine on the same port");
    }

    #[test]
    fn services_this_socket_and_groups_are_not_answered() {
        assert_eq!(judge("198.51.100.7:19", unicast("192.0.2.1")), Err(Withheld::LowPort));
        assert_eq!(judge("198.51.100.7:1023", unicast("192.0.2.1")), Err(Withheld::LowPort));
        for own in ["127.0.0.1:9000", "127.9.9.9:9000", "192.0.2.1:9000", "[::1]:9000", "[::ffff:192.0.2.1]:9000"] {
            assert_eq!(judge(own, unicast("192.0.2.1")), Err(Withheld::OwnAddress), "{own}");
        }
        for many in ["224.0.0.1", "239.1.2.3", "255.255.255.255", "ff02::1"] {
            assert_eq!(judge("198.51.100.7:4000", unicast(many)), Err(Withheld::ManyDestinations), "{many}");
        }
        let directed = Destination { local: "192.0.2.1".parse().unwrap(), ..unicast("192.0.2.255").unwrap() };
        assert_eq!(judge("198.51.100.7:4000", Some(directed)), Err(Withheld::ManyDestinations));
        assert_eq!(judge("198.51.100.7:4000", None), Err(Withheld::UnknownDestination));
    }

    #[test]
    fn a_source_has_its_share_a_second_and_does_not_take_from_others() {
        let mut limit = RateLimit::new(10, 4096, 7);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let at = |millis: u64| Duration::from_millis(5000 + millis);
        assert_eq!((0..100).filter(|_| limit.allows(one, at(0))).count(), 10, "a second's worth at once");
        assert_eq!((0..100).filter(|_| limit.allows(one, at(500))).count(), 5, "then at its rate");
        assert!(limit.allows(other, at(500)));
        assert!(!limit.allows(one, at(0)), "a clock that goes back gives nothing");
        assert_eq!((0..100).filter(|_| limit.allows(one, at(60_000))).count(), 10, "it does not save up more");
    }

    #[test]
    fn a_machine_with_many_ipv6_addresses_is_one_source() {
        let mut limit = RateLimit::new(10, 4096, 7);
        let from = |number: u64| IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number)));
        assert_eq!((0..1000).filter(|number| limit.allows(from(*number), Duration::ZERO)).count(), 10);
    }

    proptest! {
        #[test]
        fn no_answer_is_longer_than_what_came(
            text in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..100)),
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            cut in 0..100_usize,
        ) {
            let from = SocketAddr::from(([192, 0, 2, 1], 4000));
            let kept = &bytes[..bytes.len().min(cut)];
            let datagram = Datagram { bytes: kept, len: bytes.len(), from, to: None, at: None };
            let answer = answer(text.as_deref(), &datagram);
            prop_assert!(answer.len() <= bytes.len());
            prop_assert!(text.as_deref().unwrap_or(kept).starts_with(answer));
        }

        #[test]
        fn no_answer_goes_to_a_service_to_itself_or_after_a_group(
            source in any::<[u8; 4]>(), port in any::<u16>(), to in any::<[u8; 4]>(), own in any::<u16>(),
        ) {
            let from = SocketAddr::from((source, port));
            let ip = IpAddr::from(to);
            if may_answer(from, Some(Destination { ip, local: ip, interface: 1 }), &OWN, own).is_ok() {
                prop_assert!(port >= 1024);
                prop_assert!(!ip.is_multicast() && to != [255; 4]);
                prop_assert!(from != SocketAddr::from((to, own)));
            }
        }

        #[test]
        fn a_flood_from_any_sources_never_gets_more_than_the_table_gives(
            sources in proptest::collection::vec(any::<[u8; 4]>(), 1..500), seed in any::<u64>(),
        ) {
            let mut limit = RateLimit::new(3, 8, seed);
            let allowed = sources.iter().filter(|ip| limit.allows(IpAddr::from(**ip), Duration::ZERO)).count();
            prop_assert!(allowed <= 3 * 8);
        }
    }
}
