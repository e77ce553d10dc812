//! Every order of events in a small cluster.
//!
//! `stateright` walks the real machine, [`netbelt::raft::Raft`], depth first through everything that can happen within the
//! bounds of a [`Scope`]: election timeouts, messages in any order, lost or repeated, disks that are slow, crashes that lose
//! what is not durable, restarts from the fold of the records, proposals, snapshots and their install, changes of the
//! members, transfers of leadership. In every state the properties of `properties.rs` hold.
//!
//! What is left out of the states, and why nothing is overlooked:
//!
//! - *Time.* Every timer that is set may run out next. The machine asks a clock three things: whether a leader, or a
//!   majority, was heard lately, and whether something was sent long ago. In the model all that is heard was heard at time
//!   zero; a message that asks for a vote comes long after (whoever ignores it for a leader he hears might as well have
//!   lost it), and a leader's heartbeat comes either at once or long after. A real clock allows fewer runs than that. Two
//!   things never happen, neither of which safety rests on: a transfer that is given up, and a part of a snapshot sent again.
//! - *Batches.* Records become durable one at a time, and what waits behind each leaves at once: a batch is several such
//!   steps without another one between.
//! - *Down time.* A crash and the restart are one step. What arrives in between is lost, which any message can be.
//! - *Counters* of a node are not part of its fingerprint: they decide nothing. Nor are the records on its disk, but what they
//!   fold to.
//!
//! `cargo test --test model` visits the small scopes, `cargo test --release --test model -- --ignored --nocapture` the large
//! one. `NETBELT_MODEL="terms=2 log=3 in_flight=2 proposals=1"` makes that one of your own.

#![expect(clippy::print_stdout, reason = "counts for whoever runs it with --nocapture")]

mod application;
mod cluster;
mod node;
mod properties;

use std::time::Instant;

use cluster::{Beginning, Budget, Scope};
use stateright::{Checker, HasDiscoveries, Model};

#[test]
fn everything_that_can_happen_in_small_clusters_keeps_every_property() {
    for scope in small_scopes() {
        check(scope, 1);
    }
}

#[test]
#[ignore = "millions of states: a minute or two, with --release"]
fn millions_of_states_keep_every_property() {
    let of_ones_own = std::env::var("NETBELT_MODEL");
    let bounds = of_ones_own.as_deref().unwrap_or("terms=2 log=2 in_flight=2 crashes=1 proposals=1");
    let states = check(read(bounds), 2);
    assert!(of_ones_own.is_ok() || states >= 5_000_000, "{states} states are fewer than it had");
}

/// Visits every state of a scope, and says how many there are.
fn check(scope: Scope, threads: usize) -> usize {
    let name = scope.name.clone();
    #[expect(clippy::disallowed_methods, reason = "reports how long it took; nothing depends on it")]
    let started = Instant::now();
    let checker = scope.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{name}: {} states, {} steps, depth {}, {seconds:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
    checker.unique_state_count()
}

/// A few seconds' worth, each with an eye on something.
fn small_scopes() -> Vec<Scope> {
    let three = || Scope::of(3);
    vec![
        Scope {
            name: "a proposal and a crash".to_owned(),
            budget: Budget { proposals: 1, crashes: 1, ..Budget::default() },
            ..three()
        },
        Scope {
            name: "a message that comes twice".to_owned(),
            budget: Budget { proposals: 1, repeats: 1, ..Budget::default() },
            ..three()
        },
        Scope {
            name: "a leader after a leader, and a crash".to_owned(),
            nodes: vec![after(1, 0, &[1]), after(1, 0, &[1]), after(1, 0, &[])],
            terms: 2,
            budget: Budget { crashes: 1, ..Budget::default() },
            ..three()
        },
        // Raft, Figure 8, with three nodes: each of two leaders has an entry that nobody else has.
        Scope {
            name: "figure 8".to_owned(),
            nodes: vec![after(1, 0, &[1]), after(2, 1, &[2]), after(2, 1, &[])],
            one_by_one: true,
            terms: 4,
            ..three()
        },
        Scope {
            name: "pre-votes and a crash".to_owned(),
            nodes: vec![Beginning::default(); 2],
            voters: 2,
            pre_vote: true,
            terms: 2,
            in_flight: 3,
            budget: Budget { crashes: 1, pre_votes: 3, ..Budget::default() },
            ..three()
        },
        Scope {
            name: "a snapshot, and a crash in the middle".to_owned(),
            nodes: vec![Beginning::default(); 2],
            voters: 2,
            budget: Budget { proposals: 1, crashes: 1, snapshots: 2, ..Budget::default() },
            ..three()
        },
        Scope {
            name: "a snapshot for a follower".to_owned(),
            log: 1,
            budget: Budget { snapshots: 2, heartbeats: 1, ..Budget::default() },
            ..three()
        },
        Scope {
            name: "entries that are forgotten without a snapshot".to_owned(),
            forgets: true,
            budget: Budget { heartbeats: 1, crashes: 1, ..Budget::default() },
            log: 1,
            ..three()
        },
        Scope {
            name: "commits that are noted, and a crash".to_owned(),
            nodes: vec![Beginning::default(); 2],
            voters: 2,
            notes: true,
            log: 3,
            budget: Budget { proposals: 2, crashes: 1, heartbeats: 1, ..Budget::default() },
            ..three()
        },
        Scope {
            name: "what is said while disks are busy".to_owned(),
            meanwhile: true,
            log: 1,
            budget: Budget { heartbeats: 2, ..Budget::default() },
            ..three()
        },
        Scope {
            name: "a member that joins, and a crash".to_owned(),
            voters: 2,
            log: 3,
            in_flight: 3,
            budget: Budget { changes: 1, crashes: 1, ..Budget::default() },
            ..three()
        },
        Scope {
            name: "a member that leaves".to_owned(),
            budget: Budget { changes: 1, ..Budget::default() },
            ..three()
        },
        Scope {
            name: "a transfer of leadership".to_owned(),
            nodes: vec![Beginning::default(); 2],
            voters: 2,
            terms: 2,
            log: 3,
            in_flight: 3,
            budget: Budget { transfers: 1, proposals: 1, ..Budget::default() },
            ..three()
        },
    ]
}

/// A node that has voted in a term, with a log of these terms.
fn after(term: u64, vote: usize, log: &[u64]) -> Beginning {
    Beginning { term, vote: Some(vote), log: log.to_vec() }
}

/// Bounds such as `nodes=3 terms=2 log=2 in_flight=2 crashes=1`.
fn read(bounds: &str) -> Scope {
    let parts = || bounds.split_whitespace().map(|part| part.split_once('=').expect("bound=number"));
    let number = |value: &str| -> u64 { value.parse().unwrap_or_else(|_| panic!("'{value}' is no number")) };
    let nodes = parts().find(|(key, _)| *key == "nodes").map_or(3, |(_, value)| number(value) as usize);
    let mut scope = Scope { name: bounds.to_owned(), ..Scope::of(nodes) };
    for (key, value) in parts() {
        let value = number(value);
        let budget = &mut scope.budget;
        match key {
            "nodes" => {}
            "voters" => scope.voters = value as usize,
            "pre_vote" => scope.pre_vote = value > 0,
            "one_by_one" => scope.one_by_one = value > 0,
            "forgets" => scope.forgets = value > 0,
            "notes" => scope.notes = value > 0,
            "meanwhile" => scope.meanwhile = value > 0,
            "terms" => scope.terms = value,
            "log" => scope.log = value,
            "in_flight" => scope.in_flight = value as usize,
            "proposals" => budget.proposals = value as u8,
            "crashes" => budget.crashes = value as u8,
            "repeats" => budget.repeats = value as u8,
            "heartbeats" => budget.heartbeats = value as u8,
            "snapshots" => budget.snapshots = value as u8,
            "changes" => budget.changes = value as u8,
            "transfers" => budget.transfers = value as u8,
            "pre_votes" => budget.pre_votes = value as u8,
            other => panic!("there is no bound '{other}'"),
        }
    }
    scope
}
