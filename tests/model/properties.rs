//! What holds in every state, and what a scope must reach for that to mean something.

use std::collections::BTreeSet;

use netbelt::raft::{Index, Raft, RoleName, invariants};
use stateright::Property;

use crate::application::{self, Applied};
use crate::cluster::{Scope, State};

pub(crate) fn of(scope: &Scope) -> Vec<Property<Scope>> {
    let mut properties: Vec<Property<Scope>> = vec![
        Property::always("election safety", |_, state| invariants::election_safety(rafts(state)).is_ok()),
        Property::always("log matching", |_, state| pairs(state, invariants::log_matching)),
        Property::always("leader completeness", |_, state| pairs(state, invariants::leader_completeness)),
        Property::always("state-machine safety", |_, state| pairs(state, invariants::committed_agree)),
        Property::always("applications agree with what was told", |_, state| applications_agree(state)),
        Property::always("what was told is durable on a majority", |_, state| told_is_durable(state)),
        Property::always("a leader of the newest term has all that was told", |_, state| newest_leader_has_told(state)),
        Property::sometimes("somebody leads", |_, state| leaders(state).count() > 0),
        Property::sometimes("something is committed", |_, state: &State| !state.told.is_empty()),
    ];
    let mut sometimes = |wanted: bool, name, condition: fn(&Scope, &State) -> bool| {
        if wanted {
            properties.push(Property::sometimes(name, condition));
        }
    };
    let budget = scope.budget;
    sometimes(scope.has_two_leaders(), "two lead, in different terms", |_, state| leaders(state).count() == 2);
    sometimes(
        scope.has_two_leaders() && scope.log > 1 && !scope.one_by_one,
        "a leader of a later term than a commit",
        |_, state| {
            let Some(last) = application::last(&state.told) else { return false };
            leaders(state).any(|raft| raft.hard_state().current_term > last.term)
        },
    );
    sometimes(budget.proposals > 0, "a proposal is committed", |_, state| told(state, Applied::is_a_proposal));
    sometimes(budget.crashes > 0, "a commit, and a crash of all who knew", |_, state| {
        !state.told.is_empty() && rafts(state).all(|raft| raft.commit_index() == Index(0))
    });
    sometimes(budget.crashes > 0, "a leader that has committed, in a cluster that has seen a crash", |scope, state| {
        state.left.crashes < scope.budget.crashes && leaders(state).any(|raft| raft.commit_index() > Index(0))
    });
    sometimes(budget.snapshots > 1, "a log begins after a snapshot", |_, state| {
        state.nodes.iter().any(|node| node.durable().log().base().index > Index(0))
    });
    sometimes(budget.snapshots > 1 && budget.heartbeats > 0, "a snapshot arrives", |_, state| {
        state.nodes.iter().any(|node| node.is_receiving())
    });
    sometimes(budget.changes > 0, "a change of the members is committed", |_, state| {
        told(state, Applied::is_a_configuration)
    });
    properties
}

fn rafts(state: &State) -> impl Iterator<Item = &Raft> {
    state.nodes.iter().map(|node| &node.raft)
}

fn leaders(state: &State) -> impl Iterator<Item = &Raft> {
    rafts(state).filter(|raft| raft.role() == RoleName::Leader)
}

fn told(state: &State, what: fn(Applied) -> bool) -> bool {
    state.told.iter().copied().any(what)
}

fn pairs(state: &State, holds: fn(&Raft, &Raft) -> Result<(), String>) -> bool {
    rafts(state).all(|a| rafts(state).all(|b| std::ptr::eq(a, b) || holds(a, b).is_ok()))
}

/// What nodes have applied, in this life or from a snapshot of any earlier one, is the same as far as it goes.
fn applications_agree(state: &State) -> bool {
    let agree = |a: &[Applied], b: &[Applied]| a.iter().zip(b).all(|(a, b)| a == b);
    let applied = || state.nodes.iter().map(|node| node.applied.as_slice()).chain([state.told.as_slice()]);
    !state.contradiction
        && applied().all(|a| applied().all(|b| agree(a, b)))
        && state.nodes.iter().all(|node| node.applied.len() as u64 == node.raft.last_applied().0)
}

fn has_told(raft: &Raft, state: &State) -> bool {
    let Some(last) = application::last(&state.told) else { return true };
    raft.log().contains(last) || raft.log().base().index > last.index
}

/// Of the members that somebody takes for the latest: while they change, a commit may count the new ones already.
fn told_is_durable(state: &State) -> bool {
    let holders = state.nodes.iter().map(|node| node.durable()).filter(|raft| has_told(raft, state));
    let holders: BTreeSet<_> = holders.map(|raft| raft.config().id).collect();
    state.told.is_empty() || rafts(state).any(|raft| raft.configuration().is_majority(&holders))
}

fn newest_leader_has_told(state: &State) -> bool {
    let newest = rafts(state).map(|raft| raft.hard_state().current_term).max();
    leaders(state).filter(|raft| Some(raft.hard_state().current_term) == newest).all(|raft| has_told(raft, state))
}
