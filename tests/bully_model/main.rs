//! Every order of events among a few nodes that elect a leader.
//!
//! `stateright` walks the real machine, [`netbelt::bully::Bully`], through everything that can happen within the bounds of a
//! [`Scope`]: timers in any order, messages in any order, any number of times or never, disks that are slow, crashes that
//! lose what is not durable, restarts from the fold of the records, leaders that resign. With a quorum a term never has two
//! leaders; without one the checker finds two, and prints the shortest way there.
//!
//! What is left out, and why nothing is overlooked:
//!
//! - *Time.* Every timer that is set may run out next, and each node has a clock of its own that may jump by an hour: after
//!   that all that it waited for is over. Real clocks allow fewer runs. That two commands never run at once, which does rest
//!   on clocks, is tested on the network in `src/bully/tests`.
//! - *Greetings* ([`Body::Alive`](netbelt::bully::Body)) are lost, which any message may be, unless a scope hears them.
//! - *Down time.* A crash and the restart are one step: what arrives in between is lost.
//!
//! `cargo test --test bully_model -- --nocapture` prints the numbers of states, and `cargo test --release --test bully_model --
//! --ignored --nocapture` visits a large scope. `NETBELT_MODEL="nodes=3 terms=2 crashes=1"` makes that one of your own.

#![expect(clippy::print_stdout, reason = "counts and traces for whoever runs it with --nocapture")]

mod cluster;
mod node;

use std::time::Instant;

use cluster::{Budget, Scope};
use netbelt::bully::Rule;
use stateright::{Checker, HasDiscoveries, Model};

/// Visits every state of a scope.
fn check(scope: Scope) {
    let name = scope.name;
    #[expect(clippy::disallowed_methods, reason = "reports how long it took; nothing depends on it")]
    let started = Instant::now();
    let checker = scope.checker().finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    let seconds = started.elapsed().as_secs_f64();
    println!("{name}: {} states, {} steps, {seconds:.1} s", checker.unique_state_count(), checker.state_count());
    checker.assert_properties();
}

/// The fewest steps to a state that breaks `promise`, one a line.
fn shortest(scope: &Scope, promise: &'static str) -> Vec<String> {
    let name = scope.name;
    let within = |depth| scope.clone().checker().target_max_depth(depth).spawn_bfs().join().discovery(promise);
    let path = (2..20).find_map(within).unwrap_or_else(|| panic!("{name}: nothing breaks \"{promise}\""));
    let steps: Vec<_> = path.into_actions().iter().map(ToString::to_string).collect();
    println!("{name}: \"{promise}\" is broken after {} steps\n  {}", steps.len(), steps.join("\n  "));
    steps
}

fn classic() -> Scope {
    Scope { quorum: false, ..Scope::of(3) }
}

/// The bridge: nodes 2 and 3 do not hear each other, node 1 hears both.
const BRIDGE: &[(u64, u64)] = &[(2, 3), (3, 2)];

const ONE_LEADER_A_TERM: &str = "a term never has two leaders";

#[test]
fn with_a_quorum_a_term_never_has_two_leaders_whatever_happens() {
    let two_terms = |silences| Scope { terms: 2, budget: Budget { silences, ..Budget::default() }, ..Scope::of(2) };
    for scope in [
        Scope {
            name: "the bridge, and a clock that jumps",
            cuts: BRIDGE,
            budget: Budget { hours: 1, ..two_terms(3).budget },
            ..Scope::of(3)
        },
        Scope {
            name: "the bridge, and a crash",
            cuts: BRIDGE,
            budget: Budget { crashes: 1, ..two_terms(2).budget },
            ..Scope::of(3)
        },
        Scope { name: "three nodes", budget: two_terms(2).budget, ..Scope::of(3) },
        Scope {
            name: "two nodes, two terms, two crashes",
            budget: Budget { crashes: 2, ..two_terms(3).budget },
            ..two_terms(3)
        },
        Scope {
            name: "two nodes, two terms, a crash, and a clock that jumps",
            budget: Budget { crashes: 1, hours: 1, ..two_terms(3).budget },
            ..two_terms(3)
        },
        Scope {
            name: "two nodes, two terms, heartbeats",
            budget: Budget { heartbeats: 2, ..two_terms(3).budget },
            ..two_terms(3)
        },
        Scope {
            name: "two nodes, greetings are heard",
            greetings: true,
            terms: 1,
            budget: Budget { heartbeats: 2, ..two_terms(3).budget },
            ..two_terms(3)
        },
        Scope { name: "a leader that resigns", budget: Budget { resigns: 1, ..two_terms(4).budget }, ..two_terms(4) },
        Scope {
            name: "sticky, by the lowest id",
            sticky: true,
            rule: Rule::Lowest,
            budget: Budget { hours: 2, ..two_terms(3).budget },
            ..two_terms(3)
        },
    ] {
        check(scope);
    }
}

#[test]
fn without_a_quorum_the_checker_finds_two_leaders_of_one_term() {
    let steps = shortest(&Scope { name: "classic, messages are lost", ..classic() }, ONE_LEADER_A_TERM);
    assert_eq!(steps.len(), 3, "the shortest way");
    let bridge =
        Scope { name: "classic, the bridge, and nothing else is lost", cuts: BRIDGE, prompt: true, ..classic() };
    shortest(&bridge, ONE_LEADER_A_TERM);
}

#[test]
fn without_a_quorum_and_within_the_papers_assumptions_a_term_has_one_leader() {
    // Assumptions 8 and 9: nothing is lost, and nobody takes a node for silent while a message is on its way.
    check(Scope { name: "classic, assumptions 8 and 9", prompt: true, terms: 2, ..classic() });
}

#[test]
#[ignore = "millions of states: some minutes, with --release"]
fn millions_of_states_keep_every_property() {
    let of_ones_own = std::env::var("NETBELT_MODEL");
    check(read(of_ones_own.as_deref().unwrap_or("nodes=3 silences=2 crashes=1")));
}

/// Bounds such as `nodes=3 terms=2 crashes=1`.
fn read(bounds: &str) -> Scope {
    let mut scope = Scope { name: "a large scope", ..Scope::of(3) };
    for (bound, value) in bounds.split_whitespace().map(|part| part.split_once('=').expect("bound=number")) {
        let value: u64 = value.parse().unwrap_or_else(|_| panic!("'{value}' is no number"));
        let budget = &mut scope.budget;
        match bound {
            "nodes" => scope.nodes = value,
            "quorum" => scope.quorum = value > 0,
            "sticky" => scope.sticky = value > 0,
            "lowest" => scope.rule = if value > 0 { Rule::Lowest } else { Rule::Highest },
            "bridge" => scope.cuts = if value > 0 { BRIDGE } else { &[] },
            "prompt" => scope.prompt = value > 0,
            "greetings" => scope.greetings = value > 0,
            "terms" => scope.terms = value,
            "crashes" => budget.crashes = value as u8,
            "heartbeats" => budget.heartbeats = value as u8,
            "resigns" => budget.resigns = value as u8,
            "silences" => budget.silences = value as u8,
            "hours" => budget.hours = value as u8,
            other => panic!("there is no bound '{other}'"),
        }
    }
    scope
}
