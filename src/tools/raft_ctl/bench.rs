//! `raft-ctl bench`: how many writes and reads a second, and how long they take.
//!
//! Each client has one connection and one request at a time: a closed loop. A latency therefore tells what one such
//! client waits, and throughput what so many of them get; a stall shows as the maximum, once a client. What stops all of
//! them at a time, an election or a disk, shows as the longest time without any answer.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;
use hyper::StatusCode;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::task::LocalSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, SERVER, failure};
use super::status;
use crate::cli::escape::escaped;
use crate::cli::measure::{self, Measured, Period};
use crate::cli::{Failure, Kind, Output};
use crate::defaults::MAX_VALUE_BYTES;
use crate::http::client::ClientError;
use crate::http::loader::Connection;

/// The load.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    /// Clients, each with one request at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// The share of requests that are reads, from 0 to 1
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    reads: f64,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = value_size)]
    value: usize,
    /// Different keys, bench/0 and on
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    #[command(flatten)]
    period: Period,
    /// Which nodes to load: the leader, as a client that knows it would, or all in turn
    #[arg(long, value_enum, default_value_t = Target::Leader)]
    target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    Leader,
    All,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "a number from 0 to 1".to_owned())
}

fn value_size(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|size| *size <= MAX_VALUE_BYTES).ok_or_else(|| format!("a number up to {MAX_VALUE_BYTES}"))
}

/// After an error a client waits this long, lest it measure how fast errors are.
const PAUSE: Duration = Duration::from_millis(20);

/// What all clients have measured.
struct Tally {
    writes: Answers,
    reads: Answers,
    errors: u64,
    first_error: Option<String>,
    measuring: bool,
}

/// The answers to one kind of request.
struct Answers {
    /// Nanoseconds that each took.
    times: Histogram<u64>,
    /// When the latest one came, to whichever client, and the longest time without any.
    latest: Instant,
    pause: Duration,
}

impl Answers {
    fn new() -> Self {
        // Nanoseconds, a microsecond up to two minutes, three digits.
        let times = Histogram::new_with_bounds(1000, 120_000_000_000, 3).expect("the bounds are valid");
        Self { times, latest: Instant::now(), pause: Duration::ZERO }
    }

    fn record(&mut self, started: Instant, ended: Instant) {
        self.times.saturating_record(ended.duration_since(started).as_nanos() as u64);
        self.end_pause(ended);
    }

    fn end_pause(&mut self, now: Instant) {
        self.pause = self.pause.max(now.saturating_duration_since(self.latest));
        self.latest = now;
    }
}

impl Tally {
    fn new() -> Self {
        Self { writes: Answers::new(), reads: Answers::new(), errors: 0, first_error: None, measuring: false }
    }

    fn measure(&mut self, measuring: bool) {
        self.measuring = measuring;
        for answers in [&mut self.writes, &mut self.reads] {
            if measuring {
                answers.latest = Instant::now();
            } else {
                answers.end_pause(Instant::now());
            }
        }
    }

    fn operations(&self) -> u64 {
        self.writes.times.len() + self.reads.times.len()
    }

    fn error(&mut self, error: String) {
        self.errors += u64::from(self.measuring);
        self.first_error.get_or_insert(error);
    }
}

/// Loads the cluster (whose keys under bench/ it leaves behind) and prints what it took.
pub(super) async fn run(cluster: &Cluster, options: &Options, output: &Output) -> Result<(), Failure> {
    let targets = match options.target {
        Target::Leader => vec![status::leader(cluster).await?.addr],
        Target::All => cluster.nodes.clone(),
    };
    let tally = Rc::new(RefCell::new(Tally::new()));
    let stop = CancellationToken::new();
    let clients = LocalSet::new();
    for number in 0..options.clients {
        let mut client = Load {
            nodes: targets.clone(),
            next_node: number as usize,
            options: options.clone(),
            value: "x".repeat(options.value),
            rng: ChaCha8Rng::seed_from_u64(u64::from(number)),
            cluster: cluster.clone(),
            tally: Rc::clone(&tally),
        };
        let stop = stop.clone();
        clients.spawn_local(async move { stop.run_until_cancelled(client.run()).await });
    }
    // Whoever cannot be reached at all is reported as such, not as a benchmark of nothing.
    for node in &targets {
        Connection::open(node, SERVER, cluster.timeout).await.map_err(|error| failure(&error, false))?;
    }
    let measured = options.period.measure(
        "operations",
        output,
        || tally.borrow_mut().measure(true),
        || tally.borrow().operations(),
    );
    let Measured { seconds, signal } = clients.run_until(measured).await?;
    tally.borrow_mut().measure(false);
    stop.cancel();
    clients.await;
    report(options, &tally.borrow(), seconds, signal, output)
}

/// One client.
struct Load {
    nodes: Vec<String>,
    next_node: usize,
    options: Options,
    value: String,
    rng: ChaCha8Rng,
    cluster: Cluster,
    tally: Rc<RefCell<Tally>>,
}

impl Load {
    /// Asks for ever; after an error, on a new connection to the next node.
    async fn run(&mut self) {
        loop {
            let node = self.nodes[self.next_node % self.nodes.len()].clone();
            self.next_node += 1;
            let asked = match Connection::open(&node, SERVER, self.cluster.timeout).await {
                Ok(mut connection) => self.ask_on(&mut connection).await,
                Err(error) => error,
            };
            self.tally.borrow_mut().error(asked.to_string());
            tokio::time::sleep(PAUSE).await;
            if self.options.target == Target::Leader
                && let Ok(leader) = status::leader(&self.cluster).await
            {
                self.nodes = vec![leader.addr]; // it may have changed
            }
        }
    }

    /// Asks on one connection until it fails. One answer's time is the next request's: a look at the clock each.
    async fn ask_on(&mut self, connection: &mut Connection) -> ClientError {
        let (mut path, mut body) = (String::new(), String::new());
        let mut started = Instant::now();
        loop {
            let key = self.rng.next_u64() % u64::from(self.options.keys);
            let is_read = (self.rng.next_u32() as f64) < self.options.reads * f64::from(u32::MAX);
            let asked = if is_read {
                path.clear();
                let _ = write!(path, "/kv/bench%2F{key}"); // to a string, which takes everything
                connection.get(&path, started).await
            } else {
                body.clear();
                let _ = write!(body, r#"{{"key":"bench/{key}","value":"{}"}}"#, self.value);
                connection.post("/kv", body.as_bytes(), started).await
            };
            let answer = match asked {
                Ok(answer) => answer,
                Err(error) => return error,
            };
            let ended = Instant::now();
            let good = answer.status == StatusCode::OK || (is_read && answer.status == StatusCode::NOT_FOUND);
            if !good {
                let body = String::from_utf8_lossy(answer.body).trim_end().to_owned();
                self.tally.borrow_mut().error(format!("{}: {body}", answer.status));
                tokio::time::sleep(PAUSE).await;
                started = Instant::now();
                continue;
            }
            let mut tally = self.tally.borrow_mut();
            if tally.measuring {
                let answers = if is_read { &mut tally.reads } else { &mut tally.writes };
                answers.record(started, ended);
            }
            started = ended;
        }
    }
}

fn report(options: &Options, tally: &Tally, seconds: f64, signal: Option<u8>, output: &Output) -> Result<(), Failure> {
    let rate = |count: u64| measure::per_second(count as f64, seconds).map(f64::round);
    let mut summary = json!({
        "event": "summary",
        "clients": options.clients,
        "value_bytes": options.value,
        "seconds": (seconds * 1000.0).round() / 1000.0,
        "ops": tally.operations(),
        "ops_per_s": rate(tally.operations()),
        "writes": tally.writes.times.len(),
        "writes_per_s": rate(tally.writes.times.len()),
        "reads": tally.reads.times.len(),
        "reads_per_s": rate(tally.reads.times.len()),
        "errors": tally.errors,
        "interrupted": signal.is_some(),
    });
    let mut lines = vec![format!("{} clients, values of {} bytes, {seconds:.1} s", options.clients, options.value)];
    for (name, Answers { times, pause, .. }) in [("write", &tally.writes), ("read", &tally.reads)] {
        if times.is_empty() {
            continue;
        }
        measure::quantiles(&mut summary, &format!("{name}_"), times);
        summary[format!("{name}_pause_us")] = Value::from(pause.as_micros() as u64);
        let (rate, quantiles) = (rate(times.len()).unwrap_or_default(), measure::quantiles_text(times));
        let pause = measure::time(pause.as_nanos() as u64);
        lines.push(format!("{name:>6}s {rate:>9.0}/s  {quantiles}  pause {pause}"));
    }
    let error = tally.first_error.as_deref().unwrap_or("not even an error came back in that time");
    if tally.errors > 0 {
        summary["first_error"] = Value::from(error);
        lines.push(format!("{} errors, the first: {}", tally.errors, escaped(error)));
    }
    output.result(&summary, || lines.join("\n"))?;
    match signal {
        Some(signal) => Err(Failure::new(Kind::Interrupted { signal }, "interrupted")),
        None if tally.operations() == 0 => {
            Err(Failure::new(Kind::NoLeader, format!("no request was answered: {error}")))
        }
        None => Ok(()),
    }
}
