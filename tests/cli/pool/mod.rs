//! `worker-pool`: real commands, synchronised through named pipes and files.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::{Ended, eventually, run_with, worker_pool};

mod basics;
mod ending;
mod joblog;
mod limits;
mod order;
mod output;
mod shell;
mod signals;
mod terminal;
mod usage;

/// `worker-pool` with these arguments.
fn pool(arguments: &[&str]) -> Command {
    let mut command = worker_pool();
    command.args(arguments);
    command
}

/// Runs it with these jobs, to its end.
fn pool_of(jobs: impl Into<Vec<u8>>, arguments: &[&str]) -> Ended {
    run_with(pool(arguments), jobs)
}

/// Runs it in this directory.
fn pool_in(dir: &Path, jobs: impl Into<Vec<u8>>, arguments: &[&str]) -> Ended {
    let mut command = pool(arguments);
    command.current_dir(dir);
    run_with(command, jobs)
}

/// Each line of stdout, which is JSON.
#[track_caller]
fn events(ended: &Ended) -> Vec<Value> {
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"))).collect()
}

/// The job events by number, and the summary, which comes once and last.
#[track_caller]
fn jobs_and_summary(ended: &Ended) -> (Vec<Value>, Value) {
    let mut events = events(ended);
    let summary = events.pop().unwrap_or_default();
    assert_eq!(summary["event"], "summary", "{}", ended.stdout);
    assert!(events.iter().all(|event| event["event"] == "job"), "{}", ended.stdout);
    events.sort_by_key(|job| job["job"].as_u64());
    (events, summary)
}

fn seq(last: u32) -> String {
    (1..=last).map(|number| format!("{number}\n")).collect()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("there is mkfifo").success());
}

/// Whether a process runs; a zombie does not.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

/// The process ids in a file, once there are so many.
#[track_caller]
fn pids(file: &Path, count: usize) -> Vec<String> {
    eventually("the process ids of the jobs", || {
        let text = fs::read_to_string(file).unwrap_or_default();
        let pids: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        if text.ends_with('\n') && pids.len() >= count { Ok(pids) } else { Err(text) }
    })
}

#[track_caller]
fn all_are_gone(pids: &[String]) {
    for pid in pids {
        eventually("the end of a job's process", || if is_alive(pid) { Err(format!("{pid} lives")) } else { Ok(()) });
    }
}
