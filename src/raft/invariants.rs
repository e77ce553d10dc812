//! What must always hold (Raft, Figure 3), as plain functions.
//!
//! `check_local` runs at the end of every step, in release builds too. The others look at a whole cluster;
//! the simulator calls them, and so can a model checker.

use std::ops::RangeInclusive;

use super::message::RoleName;
use super::role::Role;
use super::state::Raft;
use super::types::{Entry, Index};
use crate::node_id::NodeId;

/// Panics when a single node's state cannot be.
pub(super) fn check_local(raft: &Raft) {
    let last = raft.log.last();
    assert!(raft.last_applied <= raft.commit_index, "applied {:?} beyond {:?}", raft.last_applied, raft.commit_index);
    assert!(raft.log.base().index <= raft.last_applied, "entries are gone that have not been applied");
    assert!(raft.commit_index <= last.index, "committed {:?} beyond the log's end {last:?}", raft.commit_index);
    assert!(last.term <= raft.term(), "an entry of term {:?} in a node of {:?}", last.term, raft.term());
    match &raft.role {
        Role::Leader(leader) => {
            assert_eq!(raft.hard_state.voted_for, Some(raft.config.id), "a leader has voted for itself");
            for (peer, progress) in &leader.progress {
                assert!(progress.match_index < progress.next_index, "{peer} matches beyond what was sent");
                assert!(progress.next_index <= last.index.next(), "{peer} is sent what does not exist");
            }
        }
        Role::Candidate { .. } => {
            assert_eq!(raft.hard_state.voted_for, Some(raft.config.id), "a candidate has voted for itself");
        }
        Role::PreCandidate { .. } | Role::Follower(_) => {}
    }
}

/// Election safety: at most one leader a term (Raft §5.2).
///
/// # Errors
/// Names the two leaders.
pub fn election_safety<'a>(nodes: impl IntoIterator<Item = &'a Raft>) -> Result<(), String> {
    let mut leaders: Vec<(u64, NodeId)> = nodes
        .into_iter()
        .filter(|raft| raft.role() == RoleName::Leader)
        .map(|raft| (raft.term().0, raft.config.id))
        .collect();
    leaders.sort_unstable();
    match leaders.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(format!("election safety: {} and {} both lead term {}", pair[0].1, pair[1].1, pair[0].0)),
        None => Ok(()),
    }
}

/// Log matching: where two logs have an entry of the same term at the same index, they are equal up to there (Raft
/// §5.3).
///
/// # Errors
/// Names the first entry that differs.
pub fn log_matching(a: &Raft, b: &Raft) -> Result<(), String> {
    let both = kept_by_both(a, b, a.log.last().index.min(b.log.last().index));
    let entry = |raft: &Raft, index: u64| -> Entry { raft.log.get(Index(index)).expect("within the log").clone() };
    let Some(agreed) = both.clone().rev().find(|&i| entry(a, i).position == entry(b, i).position) else {
        return Ok(());
    };
    match (*both.start()..=agreed).find(|&i| entry(a, i) != entry(b, i)) {
        Some(i) => Err(format!(
            "log matching: {} and {} agree at index {agreed} and differ at {i}: {:?} against {:?}",
            a.config.id,
            b.config.id,
            entry(a, i),
            entry(b, i)
        )),
        None => Ok(()),
    }
}

/// State-machine safety, on logs: what two nodes have both committed is the same (Raft §5.4.3).
///
/// # Errors
/// Names the first entry that differs.
pub fn committed_agree(a: &Raft, b: &Raft) -> Result<(), String> {
    let mut both = kept_by_both(a, b, a.commit_index.min(b.commit_index));
    match both.find(|&i| a.log.get(Index(i)) != b.log.get(Index(i))) {
        Some(i) => {
            Err(format!("state-machine safety: {} and {} committed other entries at {i}", a.config.id, b.config.id))
        }
        None => Ok(()),
    }
}

/// The indices up to `last` of which neither log has lost the entry to a snapshot.
fn kept_by_both(a: &Raft, b: &Raft, last: Index) -> RangeInclusive<u64> {
    a.log.first_index().max(b.log.first_index()).0..=last.0
}

/// Leader completeness: a leader has every entry that a node has committed, if it leads a term not older than that
/// node's (Raft §5.4.3).
///
/// # Errors
/// Names what the leader lacks.
pub fn leader_completeness(leader: &Raft, other: &Raft) -> Result<(), String> {
    if leader.role() != RoleName::Leader || leader.term() < other.term() {
        return Ok(());
    }
    match other.log.position(other.commit_index) {
        Some(position) if position.index >= leader.log.base().index && !leader.log.contains(position) => Err(format!(
            "leader completeness: {} leads {:?} without {position:?}, which {} has committed",
            leader.config.id,
            leader.term(),
            other.config.id
        )),
        Some(_) | None => Ok(()),
    }
}
