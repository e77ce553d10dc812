//! `worker-pool demo`: the bounded pool with nothing around it.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::cli::signals::{Signal, Signals};
use crate::cli::{Failure, Kind, Output};
use crate::pool::Pool;

use super::run::workers;

/// How many of what.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  worker-pool demo\n  worker-pool demo --workers 4 --jobs 20 --job-time 100ms --json"
)]
pub(super) struct Options {
    /// Workers that run at the same time
    #[arg(long, short = 'j', value_name = "N", default_value = "3", value_parser = workers)]
    workers: NonZeroUsize,
    /// Jobs: the numbers from 1 to N
    #[arg(long, value_name = "N", default_value_t = 5)]
    jobs: u64,
    /// How long each job takes
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = crate::cli::args::duration_or_zero)]
    job_time: Duration,
}

/// Doubles the numbers and says who did what. A signal lets the workers finish what they have.
pub(super) async fn run(options: &Options, output: &Output) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let started = Instant::now();
    let stop = CancellationToken::new();
    let (last, job_time) = (options.jobs, options.job_time);
    let pool = Pool::new(options.workers).stop_with(stop.clone());
    let (mut jobs, mut results) = pool
        .start(move |_worker, number: u64| async move {
            let begun = Instant::now();
            if !job_time.is_zero() {
                sleep(job_time).await;
            }
            (number, number.saturating_mul(2), begun.elapsed())
        })
        .map_err(|error| Failure::local(format!("cannot start {} workers: {error}", options.workers)))?;
    let feeder = tokio::spawn(async move {
        for number in 1..=last {
            if jobs.submit(number).await.is_err() {
                break; // the pool has stopped
            }
        }
    });
    let (mut done, mut signal) = (0_u64, None);
    loop {
        tokio::select! {
            result = results.next() => {
                let Some(result) = result else { break };
                done += 1;
                let (worker, (job, doubled, took)) = (result.worker, result.result);
                let ms = took.as_millis() as u64;
                let event = json!({
                    "event": "job", "job": job, "worker": worker, "status": "ok", "result": doubled, "ms": ms,
                });
                output.result(&event, || format!("worker {worker}: job {job} -> {doubled}"))?;
            }
            asked = signals.next() => match asked {
                Signal::Stop(number) if signal.is_some() => crate::cli::signals::end(number),
                Signal::Stop(number) => {
                    signal = Some(number);
                    stop.cancel();
                }
                Signal::Interval => {
                    let event = json!({ "event": "interval", "jobs": done, "seconds": started.elapsed().as_secs_f64() });
                    output.result(&event, || format!("{done} jobs so far"))?;
                }
            },
        }
    }
    feeder.abort();
    let seconds = started.elapsed().as_secs_f64();
    let (workers, interrupted) = (options.workers, signal.is_some());
    let event = json!({
        "event": "summary", "jobs": done, "workers": workers, "ok": done, "seconds": seconds, "interrupted": interrupted,
    });
    output.result(&event, || format!("{done} jobs by {workers} workers in {seconds:.3} s"))?;
    match signal {
        Some(signal) => Err(Failure::new(Kind::Interrupted { signal }, "")),
        None => Ok(()),
    }
}
