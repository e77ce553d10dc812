//! Sends what is due, shows what comes back, tells how it went.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::options::Args;
use super::payloads::{Feeder, Payloads};
use crate::cli::signals::{Signal, Signals};
use crate::cli::{Failure, Kind, Output};
use crate::datagram::hex;
use crate::datagram::receiver::{Datagram, Receiver};
use crate::datagram::sender::{Pace, Sender};
use crate::datagram::table::is_unsent;
use crate::defaults::{UDP_MAX_DATAGRAM, UDP_RECEIVE_BATCH};
use crate::tools::{at, counted};

/// One run of the tool.
pub(super) struct SendLoop<'a> {
    args: &'a Args,
    output: &'a Output,
    sender: Sender,
    to: SocketAddr,
    payloads: Payloads,
    /// Where more comes from, until there is no more.
    feeder: Option<Feeder>,
    /// Why there is no more, if something is wrong with it. What came before is sent.
    bad: Option<Failure>,
    receiver: Receiver,
    inbox: Inbox,
    started: Instant,
    sent: u64,
    bytes: u64,
    /// When the last datagram was sent.
    last: Option<Instant>,
}

impl<'a> SendLoop<'a> {
    pub(super) fn new(
        args: &'a Args,
        output: &'a Output,
        sender: Sender,
        to: SocketAddr,
        payloads: Payloads,
        feeder: Option<Feeder>,
    ) -> Self {
        // Without --wait-reply nothing is received.
        let kept = if args.wait_reply.is_some() { UDP_MAX_DATAGRAM } else { 0 };
        Self {
            args,
            output,
            sender,
            to,
            payloads,
            feeder,
            bad: None,
            receiver: Receiver::new(UDP_RECEIVE_BATCH, kept, false),
            inbox: Inbox { json: output.is_json(), hex: args.hex, ..Inbox::default() },
            started: Instant::now(),
            sent: 0,
            bytes: 0,
            last: None,
        }
    }

    pub(super) async fn run(mut self, signals: &mut Signals) -> Result<(), Failure> {
        let outcome = match self.send(signals).await {
            Ok(()) => self.wait(signals).await,
            Err(failure) => Err(failure),
        };
        if outcome.as_ref().is_err_and(|failure| failure.kind == Kind::ClosedPipe) {
            return outcome;
        }
        let interrupted = outcome.as_ref().is_err_and(|failure| matches!(failure.kind, Kind::Interrupted { .. }));
        self.summary(interrupted)?;
        outcome
    }

    /// Sends all there is to send, each when it is due.
    async fn send(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        let limit = self.args.limit();
        let pace = self.args.rate.map(Pace::new);
        let mut end = pin!(at(self.args.duration.and_then(|duration| self.started.checked_add(duration))));
        while self.sent < limit && (self.feeder.is_some() || self.payloads.len() > 0) {
            let due = pace.map_or(u64::MAX, |pace| pace.due(self.started.elapsed()));
            let now = limit.min(due).saturating_sub(self.sent).min(self.payloads.len() as u64) as usize;
            let must_wait = now == 0 && self.payloads.len() > 0;
            let next = pace.filter(|_| must_wait).and_then(|pace| self.started.checked_add(pace.time_of(self.sent)?));
            let wants_more = self.payloads.len() == 0;
            let mut lines = Vec::new();
            let datagrams = self.payloads.next(self.sent, now);
            tokio::select! {
                biased;
                signal = signals.next() => self.signal(signal)?,
                () = &mut end => return Ok(()),
                received = self.receiver.receive(self.sender.socket(), usize::MAX, |datagram| {
                    self.inbox.take(&datagram, self.sent, self.last);
                }), if self.args.wait_reply.is_some() => self.received(received)?,
                sent = self.sender.send(&datagrams), if now > 0 => {
                    let sent = sent.map_err(|error| self.failed(&error))?;
                    self.bytes += self.payloads.gone(sent);
                    self.sent += sent as u64;
                    self.last = Some(Instant::now());
                }
                () = at(next), if must_wait => {}
                count = more(&mut self.feeder, &mut lines), if wants_more => {
                    if count == 0 {
                        self.feeder = None;
                    }
                    for line in lines {
                        match line {
                            Ok(line) => self.payloads.add(line),
                            Err(bad) => (self.feeder, self.bad) = (None, Some(bad)),
                        }
                    }
                }
            }
        }
        if let Some(bad) = self.bad.take() {
            return Err(bad);
        }
        if self.sent == 0 {
            return Err(Failure::usage(
                "nothing to send: stdin is empty or closed; give TEXT, --size, or lines on stdin",
            ));
        }
        Ok(())
    }

    /// Waits for what comes back.
    async fn wait(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        // On this machine, and near it, that nothing listens is known by now.
        self.sender.check().map_err(|error| self.failed(&error))?;
        let (Some(patience), Some(last)) = (self.args.wait_reply, self.last) else { return Ok(()) };
        let mut end = pin!(at(last.checked_add(patience)));
        while self.sender.is_to_many() || self.inbox.replies < self.sent {
            tokio::select! {
                biased;
                signal = signals.next() => self.signal(signal)?,
                received = self.receiver.receive(self.sender.socket(), usize::MAX, |datagram| {
                    self.inbox.take(&datagram, self.sent, self.last);
                }) => self.received(received)?,
                () = &mut end => break,
            }
        }
        let late = |what: &str| {
            let message = format!("{what} from {} within {patience:?}", self.to);
            Err(Failure::new(Kind::Deadline, message))
        };
        match self.inbox.replies {
            // The kernel asks for some seconds who has an address, and says nothing until then.
            0 if is_unsent(self.sender.socket()) == Some(true) => {
                let to = self.to;
                Err(Failure::new(
                    Kind::Unreachable,
                    format!(
                        "cannot reach {to}: it is still waiting to be sent after {patience:?}, most likely since nobody on the link \
                         has that address"
                    ),
                ))
            }
            0 => late("no reply"),
            // How many of many answer is for nobody to know.
            replies if replies < self.sent && !self.sender.is_to_many() => {
                late(&format!("only {replies} of {} replies", self.sent))
            }
            _ => Ok(()),
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        match signal {
            Signal::Stop(signal) => Err(Failure::new(Kind::Interrupted { signal }, "interrupted")),
            Signal::Interval => {
                let interval = self.event("interval", self.started.elapsed());
                if self.output.is_json() {
                    return self.output.result(&interval, String::new);
                }
                let _ = writeln!(io::stderr(), "{interval}"); // with stderr closed there is nobody to tell
                Ok(())
            }
        }
    }

    fn received(&mut self, received: io::Result<usize>) -> Result<(), Failure> {
        received.map_err(|error| self.failed(&error))?;
        let shown = self.output.bytes(&self.inbox.lines);
        self.inbox.lines.clear();
        shown
    }

    /// What an error of the socket means.
    fn failed(&self, error: &io::Error) -> Failure {
        let to = self.to;
        match error.kind() {
            ErrorKind::ConnectionRefused => {
                Failure::new(Kind::Refused, format!("nothing listens at {to} (is udp-listen running there?)"))
            }
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                Failure::new(Kind::Unreachable, format!("cannot reach {to}: {error}"))
            }
            _ if error.raw_os_error() == Some(nix::libc::EMSGSIZE) => {
                Failure::usage(format!("a datagram is too long for the way to {to}: {error}"))
            }
            _ => Failure::local(format!("cannot send to {to}: {error}")),
        }
    }

    fn summary(&self, interrupted: bool) -> Result<(), Failure> {
        // What counts is the time in which it sent, not that in which it waited.
        let span = self.last.map_or(Duration::ZERO, |last| last - self.started);
        let summary = Event { interrupted: Some(interrupted), ..self.event("summary", span) };
        if self.output.is_json() || self.sent > 1 {
            self.output.result(&summary, || summary.to_string())?;
        }
        Ok(())
    }

    fn event(&self, event: &'static str, span: Duration) -> Event {
        let seconds = span.as_secs_f64();
        // The first goes at once: n datagrams have n - 1 gaps.
        let pps = if seconds > 0.0 { self.sent.saturating_sub(1) as f64 / seconds } else { 0.0 };
        Event {
            event,
            sent: self.sent,
            bytes: self.bytes,
            seconds: (seconds * 1e6).round() / 1e6,
            pps: if pps < 100.0 { (pps * 100.0).round() / 100.0 } else { pps.round() },
            replies: self.args.wait_reply.map(|_| self.inbox.replies),
            interrupted: None,
        }
    }
}

/// How far it is, or how it ended.
#[derive(Debug, Serialize)]
struct Event {
    event: &'static str,
    sent: u64,
    bytes: u64,
    seconds: f64,
    pps: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    replies: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interrupted: Option<bool>,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, bytes) = (counted(self.sent, "datagram"), counted(self.bytes, "byte"));
        write!(f, "sent {sent}, {bytes} in {:.3} s, {}/s", self.seconds, self.pps)?;
        match self.replies {
            None => Ok(()),
            Some(1) => write!(f, "; 1 reply"),
            Some(replies) => write!(f, "; {replies} replies"),
        }
    }
}

/// How many lines more; 0 when there will be no more.
async fn more(feeder: &mut Option<Feeder>, lines: &mut Vec<Result<Vec<u8>, Failure>>) -> usize {
    match feeder {
        Some(feeder) => feeder.recv_many(lines, UDP_RECEIVE_BATCH).await,
        None => std::future::pending().await,
    }
}

/// What has come back.
#[derive(Debug, Default)]
struct Inbox {
    json: bool,
    hex: bool,
    replies: u64,
    /// What is to be printed.
    lines: Vec<u8>,
}

#[derive(Serialize)]
struct Reply<'a> {
    event: &'static str,
    from: SocketAddr,
    len: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_us: Option<u64>,
}

impl Inbox {
    fn take(&mut self, reply: &Datagram<'_>, sent: u64, last: Option<Instant>) {
        self.replies += 1;
        let text = if self.hex { None } else { std::str::from_utf8(reply.bytes).ok() };
        let mut digits = String::new();
        if self.json {
            if text.is_none() {
                hex::push(reply.bytes, &mut digits);
            }
            // With several on their way, nobody can tell which one this answers.
            let rtt = last.filter(|_| sent == 1).map(|last| last.elapsed().as_micros() as u64);
            let event = Reply {
                event: "reply",
                from: reply.from,
                len: reply.len,
                text,
                hex: text.is_none().then_some(&digits),
                rtt_us: rtt,
            };
            serde_json::to_writer(&mut self.lines, &event).expect("a Vec takes all");
            self.lines.push(b'\n');
        } else if self.hex {
            hex::push(reply.bytes, &mut digits);
            writeln!(self.lines, "{digits}").expect("a Vec takes all");
        } else {
            self.lines.extend_from_slice(reply.bytes);
            self.lines.push(b'\n');
        }
    }
}
