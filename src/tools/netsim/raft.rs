//! `netsim raft`: one seed, many seeds, or a script.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{json, script};
use crate::cli::args::{at_least_one, duration};
use crate::cli::signals::{Signal, Signals};
use crate::cli::{Common, Failure, Kind, Output};
use crate::sim::faults::{Kind as Fault, Tally};
use crate::sim::raft::cluster::{Draws, Plan, Report, Violation, run as run_seed};
use crate::sim::sweep::sweep;
use crate::sim::trace::{Keep, Moment};
use crate::threads;

/// The largest cluster worth simulating: Raft is for a handful.
const MOST_NODES: usize = 99;

/// The path that is no file.
const STDOUT: &str = "-";

/// Simulate Raft: seeds that decide every fault, or a script that says what happens
///
/// A seed decides everything: how often each kind of fault happens, when, and to whom. Faults last for --until of virtual
/// time; then all is healed, and every node must serve a write within 3 s. Clients write and read all the time, and what
/// they saw must be linearizable; the properties of Raft's Figure 3 are checked after whatever happens.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    netsim raft --seeds 0..1000\n  \
    netsim raft --seeds 0..100 --nodes 3 --until 10m --faults crash,disk\n  \
    netsim raft --seed 28 --nodes 3 --faults crash,delay --trace - | netsim draw - > run.svg\n  \
    netsim raft --script figure-8.netsim\n\n\
Scripts: one command a line, # begins a comment. A node is 2 or n2. Each answers a JSON line with\n\
    \"ok\"; `state` a line a node; `pending` and `progress` a line a message or a member, then \"ok\".\n\
    What cannot be done now is \"ok\":false with \"error\", and the script goes on. A mistake ends it\n\
    (exit 2), and so does a violation or what is not as expected (exit 1).\n  \
    nodes COUNT [OPTION..]  comes first. Options: prevote=off; checkquorum=off, with which nodes\n                          \
    also vote while they hear a leader; maxappend=1, an append carries\n                          \
    one entry. n2:prevote=off is for n2 alone\n  \
    fire N election|heartbeat   a timer runs out, now\n  \
    elapse MS [N]           time passes for all, or for N alone: timers run out, messages wait\n  \
    propose N TEXT          answers \"index\" and \"term\", or \"error\":\"not leader\"\n  \
    read N                  linearizable: answers \"read\":[..], all that N has applied, when it may\n  \
    deliver A B [TYPE] [COUNT]   the oldest message from A to B arrives, or the COUNT oldest; of this\n                          \
    TYPE only, such as append_entries, heartbeat, request_vote_reply\n  \
    deliver all             messages arrive, oldest first, until none is in flight\n  \
    drop A B [TYPE] [COUNT], drop all   they are lost\n  \
    dup A B                 the oldest is sent again, behind the others\n  \
    reorder A B             the newest comes first\n  \
    cut A B, join A B       one direction; what a cut link has in flight is lost when its turn comes\n  \
    isolate N [M..], heal   all links between these and the others; of everybody\n  \
    hold-disk N, sync N     nothing becomes durable until sync\n  \
    crash N, restart N [OPTION..]   what is not durable is lost\n  \
    wipe N                  N loses its disk and starts as new. It has forgotten its vote and can give\n                          \
    it twice: two leaders of one term. So raft-node lets no wiped node vote,\n                          \
    which the bare machine here does not know of\n  \
    snapshot N              N forgets the log that its state replaces\n  \
    transfer N M            leader N hands over to M\n  \
    add N [OPTION..], remove N   asked of the leader; a new node begins as a learner\n  \
    state [N], pending      nodes; messages in flight\n  \
    progress N              what leader N knows of the others: match_index, next_index, flow\n  \
    expect N FIELD=VALUE..  ends the script with exit 1 when it is not so, and says what is. Fields\n                          \
    are those of `state`, terms (of the log: 1,1,2) and read (the latest\n                          \
    read's answer: x,y, or waits, or none); nobody is none")]
pub(super) struct Options {
    /// Nodes in the cluster
    #[arg(long, value_name = "N", default_value = "5", value_parser = nodes, conflicts_with = "script")]
    nodes: usize,
    /// Run these seeds, on all processors: exit 1 and the first that fails
    #[arg(long, value_name = "A..B", value_parser = seeds, conflicts_with_all = ["seed", "script"])]
    seeds: Option<Range<u64>>,
    /// Run this seed, and say first what it decides
    #[arg(long, value_name = "S", conflicts_with = "script")]
    seed: Option<u64>,
    /// How long faults last, in virtual time
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration, conflicts_with = "script")]
    until: Duration,
    /// Kinds of faults: all, none, or some of loss,dup,delay,partition,crash,pause,disk,members
    #[arg(long, value_name = "KINDS", default_value = "all", value_parser = faults, conflicts_with = "script")]
    faults: Faults,
    /// Run one seed in ten twice: both runs must be the same
    #[arg(long, conflicts_with = "script")]
    check_determinism: bool,
    /// Seeds that run at the same time [default: one a processor]
    #[arg(long, short = 'j', value_name = "N", value_parser = at_least_one, conflicts_with = "script")]
    workers: Option<usize>,
    /// Do what this script says (- is stdin)
    #[arg(long, value_name = "FILE")]
    script: Option<String>,
    /// Write what happens as JSON lines to FILE: of the one seed, of the first that fails, or of the script. With - they go to
    /// stdout, in place of the results
    #[arg(long, value_name = "FILE")]
    trace: Option<String>,
}

/// Where results go: nowhere, while stdout is for the trace.
pub(super) struct Results<'a>(&'a Output, bool);

impl Results<'_> {
    fn is_json(&self) -> bool {
        self.0.is_json()
    }

    fn result(&self, json: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.1 { Ok(()) } else { self.0.result(json, text) }
    }

    pub(super) fn line(&self, line: &str) -> Result<(), Failure> {
        if self.1 { Ok(()) } else { self.0.line(line) }
    }

    /// Writes a trace: a header, then a moment a line.
    pub(super) fn trace(&self, path: &str, nodes: usize, steps: bool, moments: &[Moment]) -> Result<(), Failure> {
        let write = |file: &mut dyn Write| {
            writeln!(file, "{}", json::trace_header(nodes, steps))?;
            for moment in moments {
                writeln!(file, "{}", json::moment(moment))?;
            }
            file.flush()
        };
        if path == STDOUT {
            return self.0.raw(|stdout| write(&mut BufWriter::new(stdout)));
        }
        let written = File::create(path).and_then(|file| write(&mut BufWriter::new(file)));
        written.map_err(|error| Failure::local(format!("cannot write the trace to {path}: {error}")))
    }
}

/// Kinds of faults, as one argument.
#[derive(Clone, Debug)]
struct Faults(Vec<Fault>);

/// Runs what was asked for.
pub(super) async fn run(options: Options, common: &Common, output: &Output) -> Result<(), Failure> {
    let plan = Plan {
        nodes: options.nodes,
        faults_for: options.until,
        faults: options.faults.0.clone(),
        keep: Keep::Nothing,
        ..Plan::default()
    };
    let results = Results(output, options.trace.as_deref() == Some(STDOUT));
    match (&options.script, options.seed, options.seeds.clone()) {
        (Some(path), _, _) => script::run(path, options.trace.as_deref(), &results),
        (None, Some(seed), _) => one(seed, &plan, &options, &results),
        (None, None, Some(seeds)) => many(seeds, plan, &options, common, &results).await,
        (None, None, None) => {
            Err(Failure::usage("say what to run: --seeds 0..100, --seed 17 or --script FILE (see netsim raft --help)"))
        }
    }
}

/// One seed: what it decides comes first, so that it is known when the run does not come to an end.
fn one(seed: u64, plan: &Plan, options: &Options, results: &Results<'_>) -> Result<(), Failure> {
    let draws = Draws::new(seed, plan);
    results
        .result(&json!({ "event": "draws", "seed": seed, "nodes": plan.nodes, "draws": draws.to_string() }), || {
            format!("seed {seed}, {} nodes: {draws}", plan.nodes)
        })?;
    let keep = if options.trace.is_some() { Keep::Moments } else { Keep::Hash };
    let result = run_seed(seed, &Plan { keep, ..plan.clone() });
    if let Some(path) = &options.trace {
        let moments = result.as_ref().map_or_else(|violation| &violation.trace, |report| &report.trace);
        results.trace(path, plan.nodes, false, moments)?;
    }
    match result {
        Ok(report) => {
            let mut line = seed_line(seed, &report);
            line["trace_hash"] = json!(format!("{:016x}", report.trace_hash));
            results.result(&line, || format!("{}, trace {:016x}", describe(seed, &report), report.trace_hash))
        }
        Err(violation) => Err(failed(seed, &violation, plan, options, results)),
    }
}

/// All seeds, in order, until one fails.
async fn many(
    seeds: Range<u64>,
    plan: Plan,
    options: &Options,
    common: &Common,
    results: &Results<'_>,
) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let started = Instant::now();
    let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let processors = options.workers.and_then(NonZeroUsize::new).unwrap_or(processors);
    let check = options.check_determinism;
    let (ends, mut next) = tokio::sync::mpsc::channel(64);
    let (all, planned) = (seeds.clone(), plan.clone());
    let no_thread = |error| Failure::local(format!("cannot start a thread for the seeds: {}", threads::explain(error)));
    let sweeping = threads::spawn("sweep", move || {
        sweep(all, processors, &planned, check, |seed, result| ends.blocking_send((seed, result)).is_ok())
    });
    let mut sweeping = Some(sweeping.map_err(no_thread)?);
    let bar = progress(&seeds, common);
    let (mut total, mut failure, mut signal) = (Total::default(), None, None);
    loop {
        tokio::select! {
            result = next.recv() => match result {
                Some((seed, Ok(report))) => {
                    total.add(&report);
                    bar.inc(1);
                    if results.is_json() || common.verbose > 0 {
                        let draws = Draws::new(seed, &plan);
                        let mut line = seed_line(seed, &report);
                        line["draws"] = json!(draws.to_string());
                        bar.suspend(|| results.result(&line, || format!("{}\n    {draws}", describe(seed, &report))))?;
                    }
                }
                Some((seed, Err(violation))) => {
                    failure = Some((seed, violation));
                    break;
                }
                None => {
                    let swept = sweeping.take().map_or(Ok(Ok(())), JoinHandle::join);
                    swept.unwrap_or_else(|panic| resume_unwind(panic)).map_err(no_thread)?;
                    break;
                }
            },
            asked = signals.next() => match asked {
                Signal::Stop(number) => {
                    signal = Some(number);
                    break;
                }
                Signal::Interval => bar.suspend(|| total.print("interval", started, processors, signal.is_some(), results))?,
            },
        }
    }
    drop(next);
    bar.finish_and_clear();
    total.failed = u64::from(failure.is_some());
    if let (Some((seed, _)), Some(path)) = (&failure, &options.trace) {
        let kept = run_seed(*seed, &Plan { keep: Keep::Moments, ..plan.clone() });
        let moments = kept.map_or_else(|violation| violation.trace, |report| report.trace);
        results.trace(path, plan.nodes, false, &moments)?;
    }
    let failed = failure.map(|(seed, violation)| failed(seed, &violation, &plan, options, results));
    total.print("summary", started, processors, signal.is_some(), results)?;
    match (failed, signal) {
        (Some(failure), _) => Err(failure),
        (None, Some(signal)) => Err(Failure::new(Kind::Interrupted { signal }, "")),
        (None, None) => Ok(()),
    }
}

/// Prints which property did not hold, and how to see it again.
fn failed(seed: u64, violation: &Violation, plan: &Plan, options: &Options, results: &Results<'_>) -> Failure {
    let Plan { nodes, faults_for, .. } = plan;
    let kinds = options.faults.to_string();
    let until = humantime::format_duration(*faults_for).to_string().replace(' ', "");
    let replay = format!("netsim raft --seed {seed} --nodes {nodes} --until {until} --faults {kinds}");
    let draws = Draws::new(seed, plan).to_string();
    let json = json!({ "violation": violation.what, "seed": seed, "draws": draws, "replay": replay });
    let told = if results.is_json() { results.line(&json.to_string()) } else { Ok(()) };
    match told {
        Ok(()) => Failure::new(
            Kind::No,
            format!("seed {seed} fails: {violation}\n  it decides: {draws}\n  again: {replay} --trace FILE"),
        ),
        Err(failure) => failure,
    }
}

fn seed_line(seed: u64, report: &Report) -> Value {
    json!({
        "event": "seed",
        "seed": seed,
        "ok": true,
        "simulated_seconds": report.virtual_time.as_secs_f64(),
        "recovery_ms": report.recovery.as_millis() as u64,
        "leaders": report.leaders,
        "committed": report.committed,
        "answered": report.answered,
        "open": report.open,
        "faults": tally(&report.faults),
    })
}

fn describe(seed: u64, report: &Report) -> String {
    let Report { leaders, committed, answered, open, recovery, .. } = report;
    let seconds = report.virtual_time.as_secs_f64();
    format!(
        "seed {seed} holds: {seconds:.1} s, {leaders} leaders, {committed} entries committed, {answered} requests answered, \
         {open} open; all served {} ms after healing; {}",
        recovery.as_millis(),
        words(&report.faults)
    )
}

fn tally(faults: &Tally) -> Value {
    faults
        .iter()
        .map(|(kind, count)| (kind.as_str().to_owned(), json!(count)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn words(faults: &Tally) -> String {
    let words: Vec<_> = faults.iter().map(|(kind, count)| format!("{} {count}", kind.as_str())).collect();
    format!("faults: {}", words.join(", "))
}

/// What all seeds came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    failed: u64,
    simulated: Duration,
    slowest_recovery: Duration,
    leaders: usize,
    committed: u64,
    answered: usize,
    open: usize,
    faults: Tally,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.simulated += report.virtual_time;
        self.slowest_recovery = self.slowest_recovery.max(report.recovery);
        self.leaders += report.leaders;
        self.committed += report.committed;
        self.answered += report.answered;
        self.open += report.open;
        self.faults.add(&report.faults);
    }

    fn print(
        &self,
        event: &str,
        started: Instant,
        threads: NonZeroUsize,
        interrupted: bool,
        results: &Results<'_>,
    ) -> Result<(), Failure> {
        let Self { seeds, failed, leaders, committed, answered, open, .. } = self;
        let seconds = started.elapsed().as_secs_f64();
        let hours = self.simulated.as_secs_f64() / 3600.0;
        let ratio = self.simulated.as_secs_f64() / seconds;
        let recovery = self.slowest_recovery.as_millis() as u64;
        let json = json!({
            "event": event,
            "seeds": seeds,
            "failed": failed,
            "simulated_hours": hours,
            "seconds": seconds,
            "simulated_hours_per_second": hours / seconds,
            "times_real_time": ratio,
            "workers": threads,
            "slowest_recovery_ms": recovery,
            "leaders": leaders,
            "committed": committed,
            "answered": answered,
            "open": open,
            "faults": tally(&self.faults),
            "interrupted": interrupted,
        });
        results.result(&json, || {
            let held = if *failed == 0 { "every property held" } else { "then one failed" };
            format!(
                "{seeds} seeds: {held}\n{hours:.2} simulated hours in {seconds:.1} s: {:.2} hours a second, {ratio:.0} times real \
                 time, {threads} at a time\n{leaders} leaders, {committed} entries committed, {answered} requests answered, {open} \
                 open; slowest recovery {recovery} ms\n{}",
                hours / seconds,
                words(&self.faults)
            )
        })
    }
}

fn progress(seeds: &Range<u64>, common: &Common) -> ProgressBar {
    use std::io::IsTerminal;
    if common.quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} seeds, {elapsed}, {eta} left");
    let bar = ProgressBar::with_draw_target(Some(seeds.end - seeds.start), ProgressDrawTarget::stderr());
    bar.with_style(style.expect("the template is valid").progress_chars("=> "))
}

fn nodes(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MOST_NODES).contains(number));
    number.ok_or_else(|| format!("'{text}' is no number from 1 to {MOST_NODES}"))
}

/// `0..1000`: the last one is not run.
fn seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.filter(|seeds| !seeds.is_empty()).ok_or_else(|| {
        format!("'{text}' is no range of seeds such as 0..1000 (the last is not run; the first must be below it)")
    })
}

fn faults(text: &str) -> Result<Faults, String> {
    match text {
        "all" => Ok(Faults(Fault::ALL.to_vec())),
        "none" => Ok(Faults(Vec::new())),
        _ => {
            let kind = |word: &str| {
                Fault::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or_else(|| {
                    let names: Vec<_> = Fault::ALL.iter().map(|kind| kind.as_str()).collect();
                    format!("'{word}' is no kind of fault: there are all, none, {}", names.join(", "))
                })
            };
            text.split(',').map(kind).collect::<Result<_, _>>().map(Faults)
        }
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.len() == Fault::ALL.len() {
            return f.write_str("all");
        }
        if self.0.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&self.0.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(","))
    }
}
