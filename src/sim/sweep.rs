//! Many seeds, on all processors; what they come to is told in the order of the seeds.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use super::scenario::{Plan, Report, Scenario, Violation, run};
use super::trace::Keep;

/// Of so many seeds, one is run twice when determinism is checked.
pub const DETERMINISM_EVERY: u64 = 10;

/// Runs every seed and calls `each` with what it came to, lowest first, until that says false. Where fewer threads are to be
/// had, fewer work.
///
/// # Errors
/// When there is no thread at all.
pub fn sweep<S: Scenario>(
    seeds: Range<u64>,
    threads: NonZeroUsize,
    plan: &Plan,
    check_determinism: bool,
    mut each: impl FnMut(u64, Result<Report<S::Figures>, Violation>) -> bool,
) -> io::Result<()> {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let (done, results) = mpsc::channel();
    thread::scope(|scope| {
        for number in 0..threads.get() {
            let done = done.clone();
            let worker = thread::Builder::new().spawn_scoped(scope, || {
                let done = done;
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let twice = check_determinism && seed.is_multiple_of(DETERMINISM_EVERY);
                    let result = if twice { run_twice::<S>(seed, plan) } else { run::<S>(seed, plan) };
                    if done.send((seed, result)).is_err() {
                        break;
                    }
                }
            });
            match worker {
                Err(error) if number == 0 => return Err(error),
                Err(_) => break, // those that are there do it
                Ok(_) => {}
            }
        }
        drop(done);
        let (mut early, mut expected) = (BTreeMap::new(), seeds.start);
        for (seed, result) in results {
            early.insert(seed, result);
            while let Some(result) = early.remove(&expected) {
                if !each(expected, result) {
                    stop.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                expected += 1;
            }
        }
        Ok(())
    })
}

fn run_twice<S: Scenario>(seed: u64, plan: &Plan) -> Result<Report<S::Figures>, Violation> {
    let plan = Plan { keep: Keep::Hash, ..plan.clone() };
    let (first, second) = (run::<S>(seed, &plan)?, run::<S>(seed, &plan)?);
    if first.trace_hash == second.trace_hash {
        return Ok(first);
    }
    let what = format!("determinism: two runs differ, {:016x} and {:016x}", first.trace_hash, second.trace_hash);
    Err(Violation { what, trace: Vec::new() })
}
