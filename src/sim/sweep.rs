//! Many seeds, on all processors; what they come to is told in the order of the seeds.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use super::cluster::{Plan, Report, Violation, run};
use super::trace::Keep;

/// Of so many seeds, one is run twice when determinism is checked.
pub const DETERMINISM_EVERY: u64 = 10;

/// Runs every seed and calls `each` with what it came to, lowest first, until that says false.
pub fn sweep(
    seeds: Range<u64>,
    threads: NonZeroUsize,
    plan: &Plan,
    check_determinism: bool,
    mut each: impl FnMut(u64, Result<Report, Violation>) -> bool,
) {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let (done, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.get() {
            let done = done.clone();
            scope.spawn(|| {
                let done = done;
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let twice = check_determinism && seed.is_multiple_of(DETERMINISM_EVERY);
                    let result = if twice { run_twice(seed, plan) } else { run(seed, plan) };
                    if done.send((seed, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done);
        let (mut early, mut expected) = (BTreeMap::new(), seeds.start);
        for (seed, result) in results {
            early.insert(seed, result);
            while let Some(result) = early.remove(&expected) {
                if !each(expected, result) {
                    return stop.store(true, Ordering::Relaxed);
                }
                expected += 1;
            }
        }
    });
}

fn run_twice(seed: u64, plan: &Plan) -> Result<Report, Violation> {
    let plan = Plan { keep: Keep::Hash, ..plan.clone() };
    let (first, second) = (run(seed, &plan)?, run(seed, &plan)?);
    if first.trace_hash == second.trace_hash {
        return Ok(first);
    }
    let what = format!("determinism: two runs differ, {:016x} and {:016x}", first.trace_hash, second.trace_hash);
    Err(Violation { what, trace: Vec::new() })
}
