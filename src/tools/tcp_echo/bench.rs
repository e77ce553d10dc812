//! `tcp-echo bench`.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::common::{Frame, cores, too_many_threads, unreachable};
use crate::cli::measure::{self, Measured, Period};
use crate::cli::{Failure, Kind, Output, args};
use crate::echo::bench::{Bench, Load, Tally};
use crate::net::tcp;
use crate::tools::resolve;

/// Measure messages a second and their latency
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
        tcp-echo bench 127.0.0.1:7000\n  \
        tcp-echo bench 127.0.0.1:7000 --conns 1 --rate 1000 --duration 30s\n  \
        tcp-echo bench 127.0.0.1:7000 --size 64KiB --window 4 --json | jq .mb_per_s\n  \
        tcp-echo bench 127.0.0.1:7000 --reconnect\n\n\
        A latency counts from when the message was due: with --rate, its place in the schedule; without, the moment\n\
        the window had room for it. A server that stalls is thus seen to stall. SIGUSR1 prints how far it is.")]
pub(super) struct Options {
    /// Where the server is
    #[arg(value_name = "HOST:PORT", value_parser = args::address)]
    addr: String,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = args::at_least_one)]
    conns: usize,
    /// Bytes of a message
    #[arg(long, default_value = "64", value_parser = size)]
    size: usize,
    /// Messages on their way at a time on each connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = args::at_least_one)]
    window: usize,
    /// Messages a second on all connections together [default: as many as it takes]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// What the server takes for a message
    #[arg(long, value_enum, default_value_t = Frame::Raw, value_name = "FRAME")]
    frame: Frame,
    /// Make a connection for each message, and close it
    #[arg(long, conflicts_with = "window")]
    reconnect: bool,
    /// How long a reply may take, and a connection
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = args::duration)]
    timeout: Duration,
    /// Threads that load [default: one a core]
    #[arg(long, short = 'j', value_name = "N", value_parser = args::at_least_one)]
    workers: Option<usize>,
    #[command(flatten)]
    period: Period,
}

/// Most bytes on their way on one connection, so that what it keeps is bounded.
const MOST_IN_FLIGHT: usize = 64 << 20;

/// Most messages on their way on all connections: when each was due is kept.
const MOST_MESSAGES: usize = 16 << 20;

fn size(text: &str) -> Result<usize, String> {
    let size = args::size(text)?;
    if (1..=MOST_IN_FLIGHT).contains(&size) { Ok(size) } else { Err("a size from 1 to 64MiB".to_owned()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=1e9).contains(rate));
    rate.ok_or_else(|| "a number of messages a second, such as 1000".to_owned())
}

/// Loads the server and prints what it took.
pub(super) async fn run(options: Options, output: &Output) -> Result<(), Failure> {
    options.check()?;
    // Whoever cannot be reached at all is reported as such, not as a benchmark of nothing.
    let addrs = resolve(&options.addr).await?;
    drop(tcp::connect(&options.addr, options.timeout).await.map_err(|error| unreachable(&error))?);

    let load = Load {
        addrs,
        framing: options.frame.framing(),
        connections: options.conns,
        size: options.size,
        window: options.window,
        rate: options.rate,
        reconnect: options.reconnect,
        timeout: options.timeout,
        workers: options.workers.unwrap_or_else(cores).min(options.conns),
    };
    let threads = load.workers;
    let bench = Bench::start(load).map_err(|error| too_many_threads(threads, &error))?;
    let mut began = Instant::now();
    let begin = || {
        began = Instant::now();
        bench.measure(true);
    };
    let measured = options.period.measure("messages", output, begin, || bench.messages()).await?;
    let report = Report::of(options, bench.stop(), measured, began);
    output.result(&report.summary(), || report.text())?;
    report.conclude()
}

impl Options {
    /// Whether what is kept of all that is on its way is bounded, and there are files for it.
    fn check(&self) -> Result<(), Failure> {
        if self.size.saturating_mul(self.window) > MOST_IN_FLIGHT {
            return Err(Failure::usage("--window times --size exceeds 64MiB: choose less of one of them"));
        }
        if self.conns.saturating_mul(self.window) > MOST_MESSAGES {
            return Err(Failure::usage(format!(
                "--conns times --window exceeds {MOST_MESSAGES} messages on their way: choose less of one of them"
            )));
        }
        // With a rate, each connection has a timer, which is a file, too.
        let most = tcp::most_connections(usize::MAX) / if self.rate.is_some() { 2 } else { 1 };
        if self.conns > most {
            return Err(Failure::usage(format!(
                "--conns {} is more than the limit of open files allows ({most}): raise it (ulimit -n)",
                self.conns
            )));
        }
        Ok(())
    }
}

/// What it took, and what is worth saying about it.
struct Report {
    options: Options,
    tally: Tally,
    measured: Measured,
    messages_per_s: Option<f64>,
    megabytes_per_s: Option<f64>,
    schedule: Option<Due>,
    silence: Option<Silence>,
}

impl Report {
    fn of(options: Options, tally: Tally, measured: Measured, began: Instant) -> Self {
        let answered = tally.latency.len();
        let messages_per_s = measure::per_second(answered as f64, measured.seconds);
        Self {
            messages_per_s,
            megabytes_per_s: messages_per_s.map(|per_s| per_s * options.size as f64 / 1e6),
            schedule: options.rate.map(|rate| Due::of(rate, measured.seconds, answered)),
            silence: silence(&tally, began, &measured, options.rate),
            options,
            tally,
            measured,
        }
    }

    fn summary(&self) -> Value {
        let Self { options, tally, measured, .. } = self;
        let mut summary = json!({
            "event": "summary",
            "addr": options.addr,
            "conns": options.conns,
            "size": options.size,
            "window": options.window,
            "reconnect": options.reconnect,
            "seconds": measure::rounded_seconds(measured.seconds),
            "messages": tally.latency.len(),
            "msgs_per_s": self.messages_per_s.map(f64::round),
            "mb_per_s": self.megabytes_per_s.map(|per_s| (per_s * 100.0).round() / 100.0),
            "errors": tally.errors,
            "interrupted": measured.signal.is_some(),
        });
        if let (Some(rate), Some(due)) = (options.rate, &self.schedule) {
            summary["rate"] = json!(rate);
            summary["due"] = json!(due.messages);
            summary["rate_kept"] = json!(due.is_kept);
        }
        measure::quantiles(&mut summary, "", &tally.latency);
        summary["unanswered_us"] = json!(measure::microseconds(tally.unanswered.as_nanos() as u64));
        if let Some(silence) = &self.silence {
            summary["last_reply_s"] = json!(measure::rounded_seconds(silence.after));
        }
        if let Some(error) = &tally.first_error {
            summary["first_error"] = json!(error);
        }
        summary
    }

    fn text(&self) -> String {
        let Self { options, tally, measured, .. } = self;
        let latency = &tally.latency;
        let due = match options.rate {
            Some(rate) => format!("{rate} messages/s due"),
            None => format!("{} at a time", options.window),
        };
        let mut lines = vec![
            format!(
                "{} connections, messages of {} bytes, {due}, {:.1} s",
                options.conns, options.size, measured.seconds
            ),
            match (self.messages_per_s, self.megabytes_per_s) {
                (Some(messages), Some(megabytes)) => {
                    format!("{messages:.0} messages/s  {megabytes:.1} MB/s each way  {} errors", tally.errors)
                }
                _ => "it ended before anything was measured: see --warm-up".to_owned(),
            },
        ];
        if measured.seconds > 0.0 {
            lines.push(measure::quantiles_text(latency));
        }
        lines.extend(measure::draw(latency));
        if let Some(due) = self.schedule.as_ref().filter(|due| !due.is_kept) {
            let part = latency.len() as f64 / due.messages as f64 * 100.0;
            lines.push(format!(
                "the rate was not kept: {} of {} messages that were due were answered ({part:.1} %)",
                latency.len(),
                due.messages
            ));
        }
        if let Some(Silence { after, per_s }) = self.silence {
            lines.push(format!("the last answer came after {after:.1} s: until then {per_s:.0} messages/s"));
        }
        if measured.seconds > 0.0 && tally.unanswered > Duration::from_nanos(latency.max()) {
            let wait = tally.unanswered.as_secs_f64();
            lines.push(format!("at the end a message was unanswered that had been due for {wait:.3} s"));
        }
        lines.extend(tally.first_error.as_ref().map(|error| format!("the first error: {error}")));
        lines.join("\n")
    }

    /// The exit code, and why.
    fn conclude(&self) -> Result<(), Failure> {
        let Self { tally, .. } = self;
        let why = tally.first_error.as_deref();
        match self.measured.signal {
            Some(signal) => Err(Failure::new(Kind::Interrupted { signal }, "interrupted")),
            None if tally.latency.is_empty() => Err(Failure::new(
                Kind::Peer,
                format!("{} echoed nothing: {}", self.options.addr, why.unwrap_or("no reply in that time")),
            )),
            None if tally.errors > 0 => {
                let why = why.unwrap_or("not told");
                Err(Failure::new(Kind::No, format!("{} errors, the first: {why}", tally.errors)))
            }
            None => Ok(()),
        }
    }
}

/// What a rate makes due.
struct Due {
    messages: u64,
    /// Whether as many were answered, but for a hundredth, and for those that are on their way at the end.
    is_kept: bool,
}

impl Due {
    fn of(rate: f64, seconds: f64, answered: u64) -> Self {
        const ON_ITS_WAY: f64 = 0.05;
        let due = rate * seconds;
        let behind = due - answered as f64;
        Self { messages: due.round() as u64, is_kept: behind <= due / 100.0 + rate * ON_ITS_WAY + 2.0 }
    }
}

/// The end of the answers, long before that of the measurement: the mean of both parts says nothing of either.
struct Silence {
    /// Seconds after which the last answer came.
    after: f64,
    /// Messages a second until then.
    per_s: f64,
}

fn silence(tally: &Tally, began: Instant, measured: &Measured, rate: Option<f64>) -> Option<Silence> {
    let after = tally.last?.duration_since(began).as_secs_f64();
    let gap = measured.seconds - after;
    let is_long = gap > 0.1 && gap > measured.seconds / 10.0 && gap > tally.latency.max() as f64 / 1e9;
    // Where few messages are due, there is nothing to hear in between.
    let is_silence = is_long && rate.is_none_or(|rate| gap > 3.0 / rate);
    let per_s = measure::per_second(tally.latency.len() as f64, after)?;
    is_silence.then_some(Silence { after, per_s })
}
