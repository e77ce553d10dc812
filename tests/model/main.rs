//! Every order of events in a small cluster.
//!
//! `stateright` walks the real machine, [`netbelt::raft::Raft`], through everything that can happen to three nodes.

#![expect(clippy::print_stdout, reason = "counts for whoever runs it with --nocapture")]

mod cluster;
mod node;
mod properties;

use std::time::Instant;

use cluster::{Budget, Scope};
use stateright::{Checker, HasDiscoveries, Model};

fn check(name: &str, scope: Scope) -> usize {
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
    check(
        "probe",
        Scope {
            nodes: 3,
            pre_vote: env("PRE", 0) == 1,
            terms: env("TERMS", 2),
            log: env("LOG", 2) as usize,
            in_flight: env("FLIGHT", 2) as usize,
            budget: Budget {
                crashes: env("CRASHES", 0) as u8,
                proposals: env("PROP", 1) as u8,
                repeats: env("DUP", 1) as u8,
                heartbeats: env("HB", 1) as u8,
            },
        },
    );
}
