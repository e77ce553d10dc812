//! What holds in every state, and what the model must reach for that to mean something.

use netbelt::raft::progress::majority;
use netbelt::raft::{Index, Position, Raft, RoleName, invariants};
use stateright::Property;

use crate::cluster::{Scope, State};

pub(crate) fn of(scope: &Scope) -> Vec<Property<Scope>> {
    let mut properties = vec![
        Property::always("election safety", |_, state| invariants::election_safety(rafts(state)).is_ok()),
        Property::always("log matching", |_, state| pairs(state, invariants::log_matching)),
        Property::always("leader completeness", |_, state| pairs(state, invariants::leader_completeness)),
        Property::always("state-machine safety", |_, state| pairs(state, invariants::committed_agree)),
        Property::always("what was told is never told otherwise", |_, state: &State| !state.contradiction),
        Property::always("what was told is durable on a majority", |_, state| told_is_durable(state)),
        Property::always("a leader of the newest term has all that was told", |_, state| newest_leader_has_told(state)),
        Property::sometimes("somebody leads", |_, state| leaders(state).count() > 0),
        Property::sometimes("something is committed", |_, state: &State| !state.told.is_empty()),
    ];
    if scope.terms > 1 {
        properties.push(Property::sometimes("two lead, in different terms", |_, state| leaders(state).count() == 2));
        properties.push(Property::sometimes("a leader after a commit", |_, state| leads_after_a_commit(state)));
    }
    if scope.budget.proposals > 0 {
        properties.push(Property::sometimes("a proposal is committed", |_, state| has_told_a_proposal(state)));
    }
    if scope.budget.crashes > 0 {
        properties.push(Property::sometimes("a crash after a commit", |scope: &Scope, state: &State| {
            state.left.crashes < scope.budget.crashes
                && rafts(state).all(|raft| raft.commit_index() == Index(0))
                && !state.told.is_empty()
        }));
    }
    properties
}

fn rafts(state: &State) -> impl Iterator<Item = &Raft> {
    state.nodes.iter().map(|node| &node.raft)
}

fn leaders(state: &State) -> impl Iterator<Item = &Raft> {
    rafts(state).filter(|raft| raft.role() == RoleName::Leader)
}

fn pairs(state: &State, holds: fn(&Raft, &Raft) -> Result<(), String>) -> bool {
    rafts(state).all(|a| rafts(state).all(|b| std::ptr::eq(a, b) || holds(a, b).is_ok()))
}

fn last_told(state: &State) -> Option<Position> {
    state.told.last().map(|entry| entry.position)
}

fn told_is_durable(state: &State) -> bool {
    let Some(last) = last_told(state) else { return true };
    let holders = state.nodes.iter().filter(|node| node.durable.log().contains(last)).count();
    holders >= majority(state.nodes.len())
}

fn newest_leader_has_told(state: &State) -> bool {
    let Some(last) = last_told(state) else { return true };
    let newest = rafts(state).map(|raft| raft.hard_state().current_term).max();
    leaders(state).filter(|raft| Some(raft.hard_state().current_term) == newest).all(|raft| raft.log().contains(last))
}

fn has_told_a_proposal(state: &State) -> bool {
    state.told.iter().any(|entry| !entry.payload.is_empty())
}

fn leads_after_a_commit(state: &State) -> bool {
    let Some(last) = last_told(state) else { return false };
    leaders(state).any(|raft| raft.hard_state().current_term > last.term)
}
