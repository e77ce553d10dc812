//! `netsim PROTOCOL`: one seed or many of a protocol's scenario.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::results::Results;
use crate::cli::args::{at_least_one, duration};
use crate::cli::signals::{Signal, Signals};
use crate::cli::{Common, Failure, Kind};
use crate::sim::faults::{Kind as Fault, Tally};
use crate::sim::scenario::{Plan, Report, Scenario, Violation, draw, run as run_seed};
use crate::sim::sweep::sweep;
use crate::sim::trace::Keep;
use crate::threads;

/// The largest cluster worth simulating.
const MOST_NODES: usize = 99;

/// What to run.
#[derive(clap::Args)]
pub(super) struct SeedOptions<S: Scenario> {
    /// Nodes in the cluster
    #[arg(long, value_name = "N", default_value = "5", value_parser = nodes)]
    nodes: usize,
    /// Run these seeds, on all processors: exit 1 and the first that fails
    #[arg(long, value_name = "A..B", value_parser = seeds, conflicts_with = "seed")]
    seeds: Option<Range<u64>>,
    /// Run this seed, and say first what it decides
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// How long faults last, in virtual time
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    until: Duration,
    #[arg(
        long, value_name = "KINDS", default_value = "all", value_parser = faults::<S>,
        help = format!("Kinds of faults: all, none, or some of {}", names::<S>(","))
    )]
    faults: Faults,
    /// Run one seed in ten twice: both runs must be the same
    #[arg(long)]
    check_determinism: bool,
    /// Seeds that run at the same time [default: one a processor]
    #[arg(long, short = 'j', value_name = "N", value_parser = at_least_one)]
    workers: Option<usize>,
    #[arg(skip)]
    scenario: PhantomData<S>,
}

/// Kinds of faults, as one argument; None is all of them.
#[derive(Clone, Debug)]
struct Faults(Option<Vec<Fault>>);

/// All kinds of faults that there are in a scenario.
fn kinds<S: Scenario>() -> impl Iterator<Item = Fault> {
    Fault::ALL.into_iter().chain(S::OWN_FAULTS.iter().copied())
}

fn names<S: Scenario>(separator: &str) -> String {
    kinds::<S>().map(Fault::as_str).collect::<Vec<_>>().join(separator)
}

/// Runs one seed or many; `nothing` is said when neither was asked for.
pub(super) async fn run<S: Scenario>(
    command: &str,
    nothing: &'static str,
    options: &SeedOptions<S>,
    common: &Common,
    results: &Results<'_>,
) -> Result<(), Failure> {
    let plan = Plan {
        nodes: options.nodes,
        faults_for: options.until,
        faults: options.faults.0.clone(),
        keep: Keep::Nothing,
        ..Plan::default()
    };
    let job = Job { command, options, plan, results };
    match (options.seed, options.seeds.clone()) {
        (Some(seed), _) => job.one(seed),
        (None, Some(seeds)) => job.many(seeds, common).await,
        (None, None) => Err(Failure::usage(nothing)),
    }
}

struct Job<'a, S: Scenario> {
    command: &'a str,
    options: &'a SeedOptions<S>,
    plan: Plan,
    results: &'a Results<'a>,
}

impl<S: Scenario> Job<'_, S> {
    /// One seed: what it decides comes first, so that it is known when the run does not come to an end.
    fn one(&self, seed: u64) -> Result<(), Failure> {
        let Self { plan, results, .. } = self;
        let draws = draw::<S>(seed, plan).to_string();
        results.result(&json!({ "event": "draws", "seed": seed, "nodes": plan.nodes, "draws": draws }), || {
            format!("seed {seed}, {} nodes: {draws}", plan.nodes)
        })?;
        let keep = if results.has_trace() { Keep::Moments } else { Keep::Hash };
        let result = run_seed::<S>(seed, &Plan { keep, ..plan.clone() });
        let moments = result.as_ref().map_or_else(|violation| &violation.trace, |report| &report.trace);
        results.trace(plan.nodes, false, moments)?;
        match result {
            Ok(report) => {
                let mut line = seed_line::<S>(seed, &report);
                line["trace_hash"] = json!(format!("{:016x}", report.trace_hash));
                results.result(&line, || format!("{}, trace {:016x}", describe::<S>(seed, &report), report.trace_hash))
            }
            Err(violation) => Err(self.failed(seed, &violation)),
        }
    }

    /// All seeds, in order, until one fails.
    async fn many(&self, seeds: Range<u64>, common: &Common) -> Result<(), Failure> {
        let mut signals = Signals::new()?;
        let started = Instant::now();
        let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let processors = self.options.workers.and_then(NonZeroUsize::new).unwrap_or(processors);
        let check = self.options.check_determinism;
        let (ends, mut next) = tokio::sync::mpsc::channel(64);
        let (all, planned) = (seeds.clone(), self.plan.clone());
        let no_thread =
            |error| Failure::local(format!("cannot start a thread for the seeds: {}", threads::explain(error)));
        let sweeping = threads::spawn("sweep", move || {
            sweep::<S>(all, processors, &planned, check, |seed, result| ends.blocking_send((seed, result)).is_ok())
        });
        let mut sweeping = Some(sweeping.map_err(no_thread)?);
        let bar = progress(&seeds, common);
        let (mut total, mut failure, mut signal) = (Total::<S>::default(), None, None);
        loop {
            tokio::select! {
                result = next.recv() => match result {
                    Some((seed, Ok(report))) => {
                        bar.inc(1);
                        if self.results.is_json() || common.verbose > 0 {
                            let draws = draw::<S>(seed, &self.plan);
                            let mut line = seed_line::<S>(seed, &report);
                            line["draws"] = json!(draws.to_string());
                            bar.suspend(|| self.results.result(&line, || format!("{}\n    {draws}", describe::<S>(seed, &report))))?;
                        }
                        total.add(report);
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
                    Signal::Interval => bar.suspend(|| total.print("interval", started, processors, signal.is_some(), self.results))?,
                },
            }
        }
        drop(next);
        bar.finish_and_clear();
        total.failed = u64::from(failure.is_some());
        if let Some((seed, _)) = failure.as_ref().filter(|_| self.results.has_trace()) {
            let kept = run_seed::<S>(*seed, &Plan { keep: Keep::Moments, ..self.plan.clone() });
            let moments = kept.map_or_else(|violation| violation.trace, |report| report.trace);
            self.results.trace(self.plan.nodes, false, &moments)?;
        }
        let failed = failure.map(|(seed, violation)| self.failed(seed, &violation));
        total.print("summary", started, processors, signal.is_some(), self.results)?;
        match (failed, signal) {
            (Some(failure), _) => Err(failure),
            (None, Some(signal)) => Err(Failure::new(Kind::Interrupted { signal }, "")),
            (None, None) => Ok(()),
        }
    }

    /// Prints which property did not hold, and how to see it again.
    fn failed(&self, seed: u64, violation: &Violation) -> Failure {
        let Self { command, options, plan, results } = self;
        let kinds = options.faults.name::<S>();
        let until = humantime::format_duration(plan.faults_for).to_string().replace(' ', "");
        let replay = format!("netsim {command} --seed {seed} --nodes {} --until {until} --faults {kinds}", plan.nodes);
        let draws = draw::<S>(seed, plan).to_string();
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
}

fn seed_line<S: Scenario>(seed: u64, report: &Report<S::Figures>) -> Value {
    let mut line = json!({
        "event": "seed",
        "seed": seed,
        "ok": true,
        "simulated_seconds": report.virtual_time.as_secs_f64(),
        "recovery_ms": report.recovery.as_millis() as u64,
    });
    put(&mut line, &json!(report.figures));
    line["faults"] = tally::<S>(&report.faults);
    line
}

fn describe<S: Scenario>(seed: u64, report: &Report<S::Figures>) -> String {
    let Report { figures, faults, recovery, .. } = report;
    format!(
        "seed {seed} holds: {:.1} s, {figures}; all {} {} ms after healing; {}",
        report.virtual_time.as_secs_f64(),
        S::RECOVERED,
        recovery.as_millis(),
        words::<S>(faults)
    )
}

/// Adds what another object has.
fn put(object: &mut Value, others: &Value) {
    if let (Some(object), Some(others)) = (object.as_object_mut(), others.as_object()) {
        object.extend(others.clone());
    }
}

fn tally<S: Scenario>(faults: &Tally) -> Value {
    kinds::<S>().map(|kind| (kind.as_str(), faults.of(kind))).collect()
}

fn words<S: Scenario>(faults: &Tally) -> String {
    let words: Vec<_> = kinds::<S>().map(|kind| format!("{} {}", kind.as_str(), faults.of(kind))).collect();
    format!("faults: {}", words.join(", "))
}

/// What all seeds came to.
struct Total<S: Scenario> {
    seeds: u64,
    failed: u64,
    simulated: Duration,
    slowest_recovery: Duration,
    figures: S::Figures,
    faults: Tally,
}

impl<S: Scenario> Default for Total<S> {
    fn default() -> Self {
        let (simulated, slowest_recovery) = (Duration::ZERO, Duration::ZERO);
        Self {
            seeds: 0,
            failed: 0,
            simulated,
            slowest_recovery,
            figures: S::Figures::default(),
            faults: Tally::default(),
        }
    }
}

impl<S: Scenario> Total<S> {
    fn add(&mut self, report: Report<S::Figures>) {
        self.seeds += 1;
        self.simulated += report.virtual_time;
        self.slowest_recovery = self.slowest_recovery.max(report.recovery);
        self.figures += report.figures;
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
        let Self { seeds, failed, figures, .. } = self;
        let seconds = started.elapsed().as_secs_f64();
        let hours = self.simulated.as_secs_f64() / 3600.0;
        let ratio = self.simulated.as_secs_f64() / seconds;
        let recovery = self.slowest_recovery.as_millis() as u64;
        let mut json = json!({
            "event": event,
            "seeds": seeds,
            "failed": failed,
            "simulated_hours": hours,
            "seconds": seconds,
            "simulated_hours_per_second": hours / seconds,
            "times_real_time": ratio,
            "workers": threads,
            "slowest_recovery_ms": recovery,
        });
        put(&mut json, &json!(figures));
        json["faults"] = tally::<S>(&self.faults);
        json["interrupted"] = json!(interrupted);
        results.result(&json, || {
            let held = if *failed == 0 { "every property held" } else { "then one failed" };
            format!(
                "{seeds} seeds: {held}\n{hours:.2} simulated hours in {seconds:.1} s: {:.2} hours a second, {ratio:.0} times real \
                 time, {threads} at a time\n{figures}; slowest recovery {recovery} ms\n{}",
                hours / seconds,
                words::<S>(&self.faults)
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

fn faults<S: Scenario>(text: &str) -> Result<Faults, String> {
    match text {
        "all" => Ok(Faults(None)),
        "none" => Ok(Faults(Some(Vec::new()))),
        _ => {
            let kind = |word: &str| {
                kinds::<S>()
                    .find(|kind| kind.as_str() == word)
                    .ok_or_else(|| format!("'{word}' is no kind of fault: there are all, none, {}", names::<S>(", ")))
            };
            text.split(',').map(kind).collect::<Result<_, _>>().map(|kinds| Faults(Some(kinds)))
        }
    }
}

impl Faults {
    /// As it is given as an argument.
    fn name<S: Scenario>(&self) -> String {
        match &self.0 {
            Some(some) if some.is_empty() => "none".to_owned(),
            Some(some) if some.len() != kinds::<S>().count() => {
                some.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(",")
            }
            Some(_) | None => "all".to_owned(),
        }
    }
}

impl<S: Scenario> fmt::Debug for SeedOptions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, seeds, seed, until, faults, .. } = self;
        write!(f, "{nodes} nodes, seeds {seeds:?}, seed {seed:?}, until {until:?}, {faults:?}")
    }
}
