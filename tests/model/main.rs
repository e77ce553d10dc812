//! Every order of events in a small cluster.
//!
//! `stateright` walks the real machine, [`netbelt::raft::Raft`], through everything that can happen to three nodes.

#![expect(clippy::print_stdout, reason = "counts for whoever runs it with --nocapture")]

mod application;
mod cluster;
mod node;
mod properties;

use std::time::Instant;

use cluster::{Beginning, Budget, Scope};
use stateright::{Checker, HasDiscoveries, Model};

fn check(scope: Scope) -> usize {
    let name = scope.name;
    #[expect(clippy::disallowed_methods, reason = "reports how long it took; nothing depends on it")]
    let started = Instant::now();
    let checker = scope.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{name}: {} distinct states of {} generated, depth {}, {seconds:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
    checker.unique_state_count()
}

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn probe() {
    let nodes = env("NODES", 3) as usize;
    check(Scope {
        name: "probe",
        voters: env("VOTERS", nodes as u64) as usize,
        nodes: match env("BEGIN", 0) {
            0 => vec![Beginning::default(); nodes],
            8 => vec![after(1, 0, &[1]), after(2, 1, &[2]), after(2, 1, &[])],
            1 => vec![after(1, 0, &[1]), after(1, 0, &[1]), after(1, 0, &[])],
            2 => vec![after(1, 0, &[1, 1]), after(1, 0, &[1]), after(1, 0, &[])],
            _ => unreachable!(),
        },
        one_by_one: env("ONE", 0) == 1,
        pre_vote: env("PRE", 0) == 1,
        terms: env("TERMS", 2),
        log: env("LOG", 2),
        in_flight: env("FLIGHT", 2) as usize,
        budget: Budget {
            crashes: env("CRASHES", 0) as u8,
            proposals: env("PROP", 0) as u8,
            repeats: env("DUP", 0) as u8,
            heartbeats: env("HB", 0) as u8,
            snapshots: env("SNAP", 0) as u8,
            changes: env("CHANGE", 0) as u8,
            transfers: env("TRANS", 0) as u8,
        },
    });
}

/// A node that has voted in a term, with a log of these terms.
fn after(term: u64, vote: usize, log: &[u64]) -> Beginning {
    Beginning { term, vote: Some(vote), log: log.to_vec() }
}
