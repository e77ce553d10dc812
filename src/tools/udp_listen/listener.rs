//! The loop of `udp-listen`: takes what comes, tells how it went.

use std::fmt;
use std::io::{ErrorKind, Write};
use std::pin::pin;
use std::time::Duration;

use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::options::Args;
use super::sink::Sink;
use super::writer::Writer;
use crate::cli::closed;
use crate::cli::measure::rounded_seconds;
use crate::cli::signals::{self, Signal, Signals};
use crate::cli::{Failure, Kind, Output, ready};
use crate::datagram::receiver::Receiver;
use crate::datagram::socket;
use crate::datagram::table::dropped;
use crate::defaults::{DRAIN, UDP_CHUNK_BYTES, UDP_DRAIN, UDP_QUEUE_BYTES, UDP_RECEIVE_BATCH};
use crate::tools::{at, counted};

/// A listener at work.
pub(super) struct Listener<'a> {
    args: &'a Args,
    output: &'a Output,
    socket: UdpSocket,
    receiver: Receiver,
    sink: Sink,
    /// Lines that are not in the writer's queue yet.
    waiting: Vec<u8>,
    started: Instant,
    /// When the last interval was, and how many datagrams had come by then.
    reported: (Instant, u64),
}

impl<'a> Listener<'a> {
    /// Begins to listen.
    pub(super) fn new(args: &'a Args, output: &'a Output, socket: UdpSocket, sink: Sink) -> Self {
        let started = Instant::now();
        Self {
            args,
            output,
            socket,
            receiver: Receiver::new(UDP_RECEIVE_BATCH, args.kept(), args.wants_details()),
            sink,
            waiting: Vec::new(),
            started,
            reported: (started, 0),
        }
    }

    /// Listens to the end.
    pub(super) async fn run(mut self, mut signals: Signals, writer: Writer) -> Result<(), Failure> {
        let ended = self.listen(&mut signals, &writer).await;
        ready::stopping();
        // Whatever ended it: what had come is written.
        let (end, failure) = match ended {
            Ok(end) => (end, None),
            Err(failure) => (End::Output, Some(failure)),
        };
        let finished = tokio::select! {
            finished = tokio::time::timeout(DRAIN, self.finish(end, writer)) => finished,
            signal = signals.stop() => signals::end(signal),
        };
        let finished = finished
            .unwrap_or_else(|_| Err(Failure::local(format!("gave up: nobody took what was written for {DRAIN:?}"))));
        if let Some(failure) = failure {
            return Err(failure);
        }
        // A stdout that took no lines takes no summary either.
        if finished.is_ok() || self.args.out_file().is_some() {
            self.summary(end == End::Signal)?;
        }
        finished
    }

    /// Takes what comes, until it is to end.
    async fn listen(&mut self, signals: &mut Signals, writer: &Writer) -> Result<End, Failure> {
        // No clock goes on for longer than a year at a time.
        let mut stats =
            self.args.stats.map(|stats| tokio::time::interval(stats.min(Duration::from_secs(365 * 86_400))));
        if let Some(stats) = &mut stats {
            stats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            stats.reset(); // the first one comes after a period
        }
        let mut end = pin!(at(self.args.duration.and_then(|duration| self.started.checked_add(duration))));
        let mut failed = pin!(writer.failed());
        // Without datagrams on stdout, a reader may take the ready line and go.
        let shows_there = self.args.out_file().is_none() && !self.args.common.quiet;
        let mut unread = pin!(closed::stdout());
        loop {
            let left = self.left();
            if left == 0 {
                return Ok(End::Count);
            }
            tokio::select! {
                biased;
                signal = signals.next() => match signal {
                    Signal::Stop(_) => return Ok(End::Signal),
                    Signal::Interval => self.interval()?,
                },
                () = &mut end => return Ok(End::Duration),
                () = tick(&mut stats) => self.interval()?,
                () = &mut failed => return Ok(End::Output),
                () = &mut unread, if shows_there => return Err(Failure::new(Kind::ClosedPipe, "")),
                // First what is there, as far as a chunk of lines reaches; as soon as nothing is, the lines go.
                received = self.receiver.receive(&self.socket, left, |datagram| {
                    self.sink.take(&self.socket, &datagram);
                }), if self.waiting.len() < UDP_CHUNK_BYTES => {
                    received.map_err(|error| cannot_receive(&error))?;
                    self.waiting.append(&mut self.sink.lines);
                }
                () = writer.write(&mut self.waiting), if !self.waiting.is_empty() => {}
            }
        }
    }

    /// How many to take at most.
    fn left(&self) -> usize {
        let left = self.args.count.map_or(u64::MAX, |count| count - self.sink.totals.packets);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// Takes what has arrived by now, and waits until all lines are written.
    async fn finish(&mut self, end: End, writer: Writer) -> Result<(), Failure> {
        writer.write(&mut self.waiting).await;
        let enough = Instant::now() + UDP_DRAIN;
        while matches!(end, End::Duration | End::Signal) && self.left() > 0 && Instant::now() < enough {
            match self.receiver.take(&self.socket, self.left(), |datagram| self.sink.take(&self.socket, &datagram)) {
                Ok(_) => writer.write(&mut self.sink.lines).await,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(cannot_receive(&error)),
            }
        }
        writer.finish().await.map_err(|error| match (error.kind(), self.args.out_file()) {
            (_, Some(file)) => Failure::local(format!("cannot write to --out {}: {error}", file.display())),
            (ErrorKind::BrokenPipe, None) => Failure::new(Kind::ClosedPipe, ""),
            (_, None) => Failure::local(format!("cannot write to stdout: {error}")),
        })
    }

    /// Says how far it is.
    fn interval(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let (before, packets_before) = std::mem::replace(&mut self.reported, (now, self.sink.totals.packets));
        let pps = (self.sink.totals.packets - packets_before) as f64 / (now - before).as_secs_f64();
        let interval = Event { pps: Some(pps.round()), ..self.event("interval") };
        if !self.output.is_json() {
            let _ = writeln!(std::io::stderr(), "{interval}"); // with stderr closed there is nobody to tell
        } else if self.args.out_file().is_some() {
            self.output.result(&interval, String::new)?;
        } else if self.waiting.len() < UDP_QUEUE_BYTES {
            // In line with the datagrams. A reader that has stalled stalls this, too, but not the rest.
            serde_json::to_writer(&mut self.waiting, &interval).expect("a Vec takes all");
            self.waiting.push(b'\n');
        }
        Ok(())
    }

    /// Says how it ended.
    fn summary(&self, interrupted: bool) -> Result<(), Failure> {
        let summary = Event { interrupted: Some(interrupted), ..self.event("summary") };
        self.output.result(&summary, || summary.to_string())?;
        if let (Some(dropped @ 1..), Ok(granted)) = (summary.dropped, socket::granted_buffer(&self.socket)) {
            let lost = counted(dropped, "datagram");
            tracing::warn!(
                "{lost} came while the {granted} bytes were full that the kernel keeps for this program: see --rcvbuf, \
                 --quiet, and sysctl net.core.rmem_max"
            );
        }
        Ok(())
    }

    fn event(&self, event: &'static str) -> Event {
        let (totals, replies) = (self.sink.totals, self.args.reply.is_some());
        Event {
            event,
            packets: totals.packets,
            bytes: totals.bytes,
            dropped: dropped(&self.socket),
            seconds: rounded_seconds(self.started.elapsed().as_secs_f64()),
            pps: None,
            truncated: self.args.size.map(|_| totals.truncated),
            replies: replies.then_some(totals.replies),
            withheld: replies.then_some(totals.withheld),
            interrupted: None,
        }
    }
}

/// Why it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Count,
    Duration,
    Signal,
    Output,
}

/// How far it is, or how it ended.
#[derive(Debug, Serialize)]
struct Event {
    event: &'static str,
    packets: u64,
    bytes: u64,
    /// Nothing when the kernel does not tell.
    dropped: Option<u64>,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replies: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    withheld: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interrupted: Option<bool>,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, ", counted(self.packets, "packet"), counted(self.bytes, "byte"))?;
        match self.dropped {
            Some(dropped) => write!(f, "{dropped} dropped")?,
            None => write!(f, "nobody knows how many dropped")?,
        }
        if let Some(truncated) = self.truncated {
            write!(f, ", {truncated} truncated")?;
        }
        if let (Some(replies), Some(withheld)) = (self.replies, self.withheld) {
            write!(f, ", {replies} answered, {withheld} not")?;
        }
        write!(f, ", {:.3} s", self.seconds)?;
        self.pps.map_or(Ok(()), |pps| write!(f, ", {pps:.0}/s now"))
    }
}

fn cannot_receive(error: &std::io::Error) -> Failure {
    Failure::local(format!("cannot receive: {error}"))
}

/// Waits for the next tick, or for ever.
async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}
