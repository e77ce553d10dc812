//! The arguments of `udp-listen`, and what they open: a socket, and where the datagrams go.

use std::fs::{File, OpenOptions};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use tokio::net::UdpSocket;

use super::writer::Writer;
use crate::cli::{Common, Failure, args};
use crate::datagram;
use crate::datagram::group::Group;
use crate::datagram::socket::{self, Listen};
use crate::defaults::{UDP_MAX_DATAGRAM, UDP_MAX_RCVBUF, UDP_RCVBUF, UDP_REPLY_RATE};
use crate::net::bind::another_may_do;
use crate::tools::{counted, resolve, udp_failure};

/// Show, count and answer UDP datagrams
///
/// A line for each datagram; at the end a summary, with how many the kernel had to drop because this program, or whoever
/// reads its output, was too slow.
#[derive(Debug, Parser)]
#[command(
    name = "udp-listen",
    version,
    mut_arg("quiet", |quiet| quiet.help("Only count: show no datagrams, and nothing on stderr but --stats and errors")),
    after_help = "Examples:\n  \
        udp-listen\n  \
        udp-listen --listen 0.0.0.0:514 --json --out packets.jsonl\n  \
        udp-listen --json | jq 'select(.event == \"packet\").len'\n  \
        udp-listen --quiet --stats 1s          how many come, and how many are lost\n  \
        udp-listen --join 239.1.2.3%eth0       a multicast group, on port 9000\n  \
        udp-listen --listen '[::]:9000'        IPv6 and IPv4\n  \
        udp-listen --reply echo                send back what comes\n\n\
        SIGUSR1 prints how far it is.\n\n\
        Exit codes: 0 done, or stopped by a signal, 2 usage, 3 name not found, 6 trouble with port, group or disk"
)]
pub struct Args {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:9000, with --join port 9000 of all addresses]
    #[arg(long, short, value_name = "HOST:PORT", value_parser = args::address)]
    listen: Option<String>,
    /// Stop after this many datagrams
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// Stop after this time
    #[arg(long, short, value_name = "DURATION", value_parser = args::duration)]
    pub(super) duration: Option<Duration>,
    /// Receive a multicast group, too, through the interface of that name or address; repeatable
    #[arg(long, value_name = "GROUP[%IFACE]")]
    join: Vec<Group>,
    /// Answer each datagram with itself, or with a text, cut to as many bytes as came
    ///
    /// Not answered are source ports below 1024, this socket itself and what was sent to a group or to everybody.
    #[arg(long, value_name = "echo|TEXT")]
    pub(super) reply: Option<String>,
    /// Replies a source may have a second
    #[arg(long, value_name = "PPS", requires = "reply", default_value_t = UDP_REPLY_RATE, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) reply_rate: u32,
    /// Show the bytes in hexadecimal, even if they are text
    #[arg(long)]
    pub(super) hex: bool,
    /// Keep only so many bytes of a datagram, and mark it as truncated if it had more [default: all]
    #[arg(long, value_name = "BYTES", value_parser = args::size)]
    pub(super) size: Option<usize>,
    /// Say how far it is, this often: on stderr, or with --json on stdout
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    pub(super) stats: Option<Duration>,
    /// What the kernel is to keep while this program is busy [default: 4MiB, or what net.core.rmem_max allows]
    #[arg(long, value_name = "BYTES", value_parser = args::size)]
    rcvbuf: Option<usize>,
    /// Write the datagrams to this file instead of stdout; - is stdout. A file that holds something is left alone
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write behind what the file of --out holds
    #[arg(long, requires = "out")]
    append: bool,
    /// Write the ready line to this file, too, as JSON, in one piece
    #[arg(long, value_name = "FILE")]
    pub(super) ready_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Args {
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.common.quiet && self.out_file().is_some() {
            return Err(Failure::usage(
                "--quiet shows no datagrams, so nothing would come to --out: leave one of them out",
            ));
        }
        if let Some(size) = self.rcvbuf.filter(|size| *size > UDP_MAX_RCVBUF) {
            return Err(Failure::usage(format!("--rcvbuf {size} is more than the kernel can count: at most 1GiB")));
        }
        Ok(())
    }

    /// What is asked of each datagram beside its size. When nothing is, the kernel copies nothing.
    pub(super) const fn wants_details(&self) -> bool {
        !self.common.quiet || self.reply.is_some()
    }

    pub(super) fn kept(&self) -> usize {
        if self.wants_details() { self.size.map_or(UDP_MAX_DATAGRAM, |size| size.min(UDP_MAX_DATAGRAM)) } else { 0 }
    }

    /// Binds the first address of --listen that can be bound.
    pub(super) async fn open(&self) -> Result<UdpSocket, Failure> {
        let options = Listen {
            buffer: self.rcvbuf.unwrap_or(UDP_RCVBUF),
            groups: self.join.clone(),
            details: self.wants_details(),
        };
        let listen = match (&self.listen, &self.join[..]) {
            (Some(listen), _) => listen,
            (None, []) => "127.0.0.1:9000",
            (None, groups) if groups.iter().all(|group| group.address.is_ipv4()) => "0.0.0.0:9000",
            (None, _) => "[::]:9000",
        };
        let addrs = resolve(listen).await?;
        for group in &self.join {
            if !addrs.iter().any(|addr| can_receive(addr.ip(), group.address)) {
                let wildcard = if group.address.is_ipv4() { "0.0.0.0" } else { "[::]" };
                return Err(Failure::usage(format!(
                    "a socket on {listen} never receives what is sent to {group}: use --listen {wildcard}:{}, or leave \
                     --listen out",
                    addrs[0].port()
                )));
            }
        }
        let mut failed = None;
        for addr in addrs {
            match socket::listen(addr, &options) {
                Ok(socket) => {
                    self.warn(&socket, addr);
                    return Ok(socket);
                }
                Err(datagram::Error::Bind { reason, addr }) if !another_may_do(&reason) => {
                    return Err(udp_failure(&datagram::Error::Bind { reason, addr }));
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(udp_failure(&failed.expect("a name has an address")))
    }

    fn warn(&self, socket: &UdpSocket, addr: SocketAddr) {
        if !addr.ip().is_loopback() {
            tracing::warn!("{addr} can be reached from other machines; nothing says who sends, or that it is true");
        }
        // By default it takes what it can get, and tells when that was too little.
        if let (Some(asked), Ok(granted)) = (self.rcvbuf, socket::granted_buffer(socket))
            && granted < asked
        {
            tracing::warn!(
                "the kernel keeps {granted} bytes for this socket, not {asked}: \
                 allow it more with sysctl -w net.core.rmem_max={asked}"
            );
        }
    }

    pub(super) fn writer(&self) -> Result<Writer, Failure> {
        let writer = match self.out_file() {
            Some(file) => Writer::start(self.open_out(file)?),
            None => Writer::start(std::io::stdout()),
        };
        writer.map_err(|error| Failure::local(format!("cannot start the writing thread: {error}")))
    }

    /// Whoever forgets that the file of an earlier run has the same name must not lose that.
    fn open_out(&self, file: &Path) -> Result<File, Failure> {
        let failed = |error| Failure::local(format!("cannot write --out {}: {error}", file.display()));
        let open = OpenOptions::new().create(true).append(true).open(file).map_err(failed)?;
        let found = open.metadata().map_err(failed)?;
        if found.is_file() && found.len() > 0 && !self.append {
            return Err(Failure::local(format!(
                "--out {} holds {} already, and is left as it is: choose another file, or write behind that with --append",
                file.display(),
                counted(found.len(), "byte")
            )));
        }
        Ok(open)
    }

    pub(super) fn out_file(&self) -> Option<&PathBuf> {
        self.out.as_ref().filter(|file| file.as_os_str() != "-")
    }
}

/// Whether a socket on `addr` can receive what is sent to `group`.
fn can_receive(addr: IpAddr, group: IpAddr) -> bool {
    addr == group || (addr.is_unspecified() && (addr.is_ipv6() || group.is_ipv4()))
}
