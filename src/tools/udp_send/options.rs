//! The arguments of `udp-send`, and what they say to send, and through which socket.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;

use super::payloads::{self, Feeder, Payloads};
use crate::cli::{Common, Failure, args};
use crate::datagram::sender::{Options, Sender};
use crate::defaults::{UDP_MAX_DATAGRAM, UDP_SEND_BATCH};
use crate::tools::udp_failure;

/// Send UDP datagrams, and show what comes back
///
/// The words of TEXT are one datagram. Without TEXT and --size, each line of stdin is one.
#[derive(Debug, Parser)]
#[command(
    name = "udp-send",
    version,
    after_help = "Examples:\n  \
        udp-send 127.0.0.1:9000 hello\n  \
        udp-send 127.0.0.1:9000 hello --wait-reply 1s       the answer on stdout, exit 124 without one\n  \
        udp-send 127.0.0.1:9000 --hex 'de ad be ef'\n  \
        seq 100 | udp-send 127.0.0.1:9000 --rate 10         a datagram a line\n  \
        udp-send 127.0.0.1:9000 --size 64 --count 1000000 --rate 500000\n  \
        udp-send 239.1.2.3:9000 hello --interface eth0 --ttl 4\n  \
        udp-send 255.255.255.255:9000 anybody --broadcast --wait-reply 2s\n\n\
        SIGUSR1 prints how far it is.\n\n\
        Exit codes: 0 sent, 2 usage, 3 nothing listens there, nobody on the link has that address, no route, \
        or name not found, 6 trouble on this machine, 124 a reply did not come in time, 130 or 143 interrupted"
)]
pub struct Args {
    /// Where to send
    #[arg(value_name = "HOST:PORT", value_parser = args::address)]
    pub(super) addr: String,
    /// What to send: these words, joined by spaces
    #[arg(conflicts_with = "size", allow_negative_numbers = true)]
    text: Vec<OsString>,
    /// Send at most so many [default: one; every line of stdin; with --duration no limit]
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Send so many a second, evenly, instead of as fast as possible
    #[arg(long, value_name = "PPS", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// Send so many bytes: the datagram's number, and dots
    #[arg(long, value_name = "BYTES", value_parser = args::size)]
    size: Option<usize>,
    /// Stop sending after this time
    #[arg(long, short, value_name = "DURATION", value_parser = args::duration)]
    pub(super) duration: Option<Duration>,
    /// What is sent is given in hexadecimal, and what comes back is shown in it
    #[arg(long, conflicts_with = "size")]
    pub(super) hex: bool,
    /// Allow a broadcast address
    #[arg(long)]
    broadcast: bool,
    /// Reach a multicast group through this interface, by its name or address
    #[arg(long, value_name = "IFACE")]
    interface: Option<String>,
    /// Let so many routers pass it on [default: the system's; 1 for a multicast group]
    #[arg(long, value_name = "HOPS", value_parser = clap::value_parser!(u8).range(1..))]
    ttl: Option<u8>,
    /// Show what comes back, for up to this time after the last datagram was sent
    ///
    /// Ends as soon as each datagram has its reply, and with exit code 124 when one has none by then. With a group or
    /// broadcast address it ends when the time is over, and one reply is enough.
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    pub(super) wait_reply: Option<Duration>,
    #[command(flatten)]
    pub(super) common: Common,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (1e-3..=1e9).contains(rate));
    rate.ok_or_else(|| "a number of datagrams a second, from 0.001 to 1000000000".to_owned())
}

impl Args {
    /// A socket for the first address to which there is a way.
    pub(super) fn open(&self, addrs: &[SocketAddr]) -> Result<(Sender, SocketAddr), Failure> {
        let options = Options { broadcast: self.broadcast, interface: self.interface.clone(), ttl: self.ttl };
        let mut failed = None;
        for addr in addrs {
            if addr.port() == 0 {
                return Err(Failure::usage(format!("nothing can be sent to port 0 of {addr}")));
            }
            match Sender::open(*addr, &options, UDP_SEND_BATCH) {
                Ok(sender) => return Ok((sender, *addr)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(udp_failure(&failed.expect("a name has an address")))
    }

    /// What to send, none of it longer than `longest`.
    pub(super) fn payloads(&self, longest: usize) -> Result<(Payloads, Option<Feeder>), Failure> {
        let payloads = match self.size {
            Some(size) if size <= longest.min(UDP_MAX_DATAGRAM) => Payloads::filler(size),
            Some(size) => return Err(too_long("--size", size, longest)),
            None if self.text.is_empty() => {
                return Ok((Payloads::Lines(VecDeque::new()), Some(payloads::stdin_lines(longest, self.hex)?)));
            }
            None => Payloads::words(&self.text, self.hex)?,
        };
        match &payloads {
            Payloads::Same(bytes) if bytes.len() > longest => Err(too_long("TEXT of", bytes.len(), longest)),
            _ => Ok((payloads, None)),
        }
    }

    /// How many to send.
    pub(super) fn limit(&self) -> u64 {
        let reads_stdin = self.text.is_empty() && self.size.is_none();
        self.count.unwrap_or(if reads_stdin || self.duration.is_some() { u64::MAX } else { 1 })
    }
}

fn too_long(what: &str, size: usize, longest: usize) -> Failure {
    Failure::usage(format!("{what} {size} bytes is too long: a datagram there has at most {longest}"))
}
