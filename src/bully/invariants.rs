//! What must always hold, as plain functions: `check_local` runs at the end of every step, in release builds too; the others
//! look at a whole cluster, for the simulator and a model checker.

use super::message::{Promise, RoleName};
use super::state::{Bully, Role};
use super::types::{Id, Term};

/// Panics when a single node's state cannot be.
pub(super) fn check_local(node: &Bully) {
    assert!(node.term() <= node.seen, "{:?} is held to, and only {:?} was seen", node.term(), node.seen);
    match &node.role {
        Role::Leader { term, .. } | Role::Leaving { term, .. } if node.config.quorum => {
            let promise = Promise { term: *term, to: node.config.id };
            assert_eq!(node.promise, Some(promise), "who leads a term has promised it to itself, and none since");
        }
        Role::Claimant { .. } if node.config.quorum => {
            assert_eq!(node.promise.map(|promise| promise.to), Some(node.config.id), "a claim begins with oneself");
        }
        Role::Claimant { .. } => panic!("a claim without a quorum"),
        Role::Candidate { asked, .. } => {
            assert!(asked.iter().all(|id| node.is_better(*id)), "only better nodes are waited for");
        }
        Role::Leader { .. } | Role::Follower { .. } | Role::Leaving { .. } => {}
    }
}

/// At most one leader a term: with a quorum, always; without one, as long as the paper's assumptions 8 and 9 hold.
///
/// # Errors
/// Names the two leaders.
pub fn one_leader_a_term<'a>(nodes: impl IntoIterator<Item = &'a Bully>) -> Result<(), String> {
    let leads = |node: &&Bully| node.role() == RoleName::Leader;
    let mut leaders: Vec<(Term, Id)> =
        nodes.into_iter().filter(leads).map(|node| (node.term(), node.config.id)).collect();
    leaders.sort_unstable();
    match leaders.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(format!("one leader a term: {} and {} both lead term {}", pair[0].1, pair[1].1, pair[0].0.0)),
        None => Ok(()),
    }
}
