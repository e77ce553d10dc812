//! What is done with each datagram: counted, shown, answered.

use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::lines::Lines;
use crate::cli::Failure;
use crate::datagram::receiver::Datagram;
use crate::datagram::reply::{self, RateLimit};
use crate::datagram::socket;
use crate::defaults::UDP_REPLY_BUCKETS;
use crate::tools::entropy;
use crate::tools::udp_failure;

/// What has come so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) truncated: u64,
    pub(super) replies: u64,
    pub(super) withheld: u64,
}

/// Where each datagram goes.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) totals: Totals,
    /// The lines of the datagrams since they were last taken from here.
    pub(super) lines: Vec<u8>,
    form: Option<Lines>,
    replier: Option<Replier>,
}

impl Sink {
    /// Shows and answers, or does without.
    pub(super) fn new(form: Option<Lines>, replier: Option<Replier>) -> Self {
        Self { totals: Totals::default(), lines: Vec::new(), form, replier }
    }

    /// Handles a datagram that came through `socket`.
    pub(super) fn take(&mut self, socket: &UdpSocket, datagram: &Datagram<'_>) {
        self.totals.packets += 1;
        self.totals.bytes += datagram.len as u64;
        self.totals.truncated += u64::from(datagram.is_truncated());
        if let Some(form) = &mut self.form {
            form.append(datagram, &mut self.lines);
        }
        if let Some(replier) = &mut self.replier {
            let counted =
                if replier.answer(socket, datagram) { &mut self.totals.replies } else { &mut self.totals.withheld };
            *counted += 1;
        }
    }
}

/// Answers datagrams.
#[derive(Debug)]
pub(super) struct Replier {
    /// What to answer, unless it is what came.
    text: Option<Vec<u8>>,
    limit: RateLimit,
    own: Vec<IpAddr>,
    port: u16,
    started: Instant,
    told: bool,
}

impl Replier {
    /// Answers with `text`, or with what came if that is `echo`, at most `rate` times a second and source.
    pub(super) fn new(text: &str, rate: u32, addr: SocketAddr) -> Result<Self, Failure> {
        Ok(Self {
            text: (text != "echo").then(|| text.as_bytes().to_vec()),
            limit: RateLimit::new(rate, UDP_REPLY_BUCKETS, entropy()?),
            own: socket::own_addresses().map_err(|error| udp_failure(&error))?,
            port: addr.port(),
            started: Instant::now(),
            told: false,
        })
    }

    /// Whether it has answered.
    fn answer(&mut self, socket: &UdpSocket, datagram: &Datagram<'_>) -> bool {
        let asked = match reply::may_answer(datagram.from, datagram.to, &self.own, self.port) {
            Ok(asked) => asked,
            Err(why) => {
                tracing::debug!("no reply to {}: {why}", datagram.from);
                return false;
            }
        };
        if !self.limit.allows(datagram.from.ip(), self.started.elapsed()) {
            if !std::mem::replace(&mut self.told, true) {
                tracing::warn!(
                    "{} asks for more replies a second than --reply-rate gives",
                    datagram.from.ip().to_canonical()
                );
            }
            return false;
        }
        let answer = reply::answer(self.text.as_deref(), datagram);
        let sent = reply::send(socket, answer, datagram.from, asked);
        if let Err(error) = &sent {
            tracing::debug!("cannot reply to {}: {error}", datagram.from);
        }
        sent.is_ok()
    }
}
