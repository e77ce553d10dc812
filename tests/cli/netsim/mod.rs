//! `netsim`: scripts, seeds and pictures.

use serde_json::Value;

use crate::common::{Ended, netsim, run, run_with};

mod draw;
mod script;
mod sweep;

/// Runs `netsim` with these arguments.
fn sim(arguments: &[&str]) -> Ended {
    let mut command = netsim();
    command.args(arguments);
    run(command)
}

/// Runs a script from stdin.
fn script(text: &str) -> Ended {
    let mut command = netsim();
    command.args(["raft", "--script", "-"]);
    run_with(command, text)
}

/// Each line of stdout, which is JSON.
#[track_caller]
fn answers(ended: &Ended) -> Vec<Value> {
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"))).collect()
}
