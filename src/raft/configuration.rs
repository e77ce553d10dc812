//! Who is in the cluster, and how that changes: one member at a time (thesis §4.1).
//!
//! Any majority of the old voters shares a node with any majority of the new ones when they differ in one voter, so
//! no two leaders can be elected at once, and no joint configuration is needed.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::node_id::NodeId;
use crate::quorum::{majority, reached_by_majority};

/// The members of a cluster. It takes effect as soon as it is in a node's log, committed or not (thesis §4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Configuration {
    members: BTreeMap<NodeId, Member>,
}

/// What a configuration says of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Member {
    /// Whether it votes and counts. A learner only receives the log, until its leader finds that it has caught up
    /// (thesis §4.2.1).
    pub voter: bool,
    /// Where it is, for drivers; empty when that is not known. Raft does not look into it.
    pub addr: String,
}

/// A change of the members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Lets a node join, as a learner first; tells the address of one that is a member already.
    Add {
        /// The node.
        node: NodeId,
        /// Where it is.
        addr: String,
    },
    /// Lets a member go.
    Remove {
        /// The member.
        node: NodeId,
    },
}

/// Why a change, or the transfer of leadership, is refused. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// Only a leader can do it.
    #[error("this node does not lead")]
    NotLeader,
    /// A new leader does not know yet what is committed (thesis §4.1; the bug found in 2015 in the thesis' first text).
    #[error("the leader has just been elected and has committed nothing of its own yet: try again in a moment")]
    NotReady,
    /// One change at a time.
    #[error("another change of the members is under way: try again when it is committed")]
    ChangePending,
    /// It is a member already, at that address.
    #[error("it is a member already")]
    AlreadyAMember,
    /// It is none.
    #[error("it is not a member")]
    NotAMember,
    /// Without it nobody could vote.
    #[error("it is the only voter")]
    LastVoter,
    /// Leadership goes to voters only, and to nodes that are heard.
    #[error("it is not a voter that the leader hears from")]
    CannotLead,
    /// The chosen node did not take over within an election timeout.
    #[error("it did not take over in time")]
    NotTakenOver,
}

impl Configuration {
    /// These voters, whose addresses are not known.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Self {
        voters.into_iter().map(|id| (id, Member { voter: true, addr: String::new() })).collect()
    }

    /// Every member by name.
    pub const fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// The members that vote.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().filter(|(_, member)| member.voter || cfg!(mutant = "learner_counts")).map(|(id, _)| *id)
    }

    /// Whether `id` is a member.
    pub fn contains(&self, id: NodeId) -> bool {
        self.members.contains_key(&id)
    }

    /// Whether `id` votes.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.members.get(&id).is_some_and(|member| member.voter)
    }

    /// Whether these nodes have among them a majority of the voters.
    pub fn is_majority(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.voters().filter(|id| nodes.contains(id)).count() >= majority(self.voters().count())
    }

    /// The largest value that a majority of the voters has reached; None without voters.
    pub fn reached_by_majority<T: Copy + Ord>(&self, reached: impl Fn(NodeId) -> T) -> Option<T> {
        reached_by_majority(self.voters().map(reached))
    }

    /// The members after a change.
    pub(super) fn changed(&self, change: Change) -> Result<Self, Refusal> {
        let mut changed = self.clone();
        match change {
            Change::Add { node, addr } => match changed.members.get_mut(&node) {
                Some(member) if member.addr == addr => return Err(Refusal::AlreadyAMember),
                Some(member) => member.addr = addr,
                None => drop(changed.members.insert(node, Member { voter: false, addr })),
            },
            Change::Remove { node } => {
                changed.members.remove(&node).ok_or(Refusal::NotAMember)?;
                if changed.voters().next().is_none() {
                    return Err(Refusal::LastVoter);
                }
            }
        }
        Ok(changed)
    }

    /// With a learner as a voter.
    pub(super) fn promoted(&self, node: NodeId) -> Self {
        let mut promoted = self.clone();
        promoted.members.entry(node).or_default().voter = true;
        promoted
    }
}

impl FromIterator<(NodeId, Member)> for Configuration {
    fn from_iter<T: IntoIterator<Item = (NodeId, Member)>>(members: T) -> Self {
        Self { members: members.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(number: usize) -> NodeId {
        NodeId::numbered(number)
    }

    #[test]
    fn learners_do_not_count() {
        let add = Change::Add { node: n(4), addr: "d".to_owned() };
        let three_and_one = Configuration::of_voters((1..=3).map(n)).changed(add).unwrap();
        assert!(three_and_one.is_majority(&BTreeSet::from([n(1), n(3)])));
        assert!(!three_and_one.is_majority(&BTreeSet::from([n(1), n(4)])));
        let match_index = |id: NodeId| if id == n(1) { 5 } else { u64::from(id == n(4)) * 9 };
        assert_eq!(three_and_one.reached_by_majority(match_index), Some(0));
        assert_eq!(three_and_one.promoted(n(4)).reached_by_majority(match_index), Some(0));
        assert_eq!(three_and_one.promoted(n(4)).voters().count(), 4);
    }

    #[test]
    fn a_change_that_changes_nothing_or_leaves_nobody_is_refused() {
        let one = Configuration::of_voters([n(1)]);
        assert_eq!(one.changed(Change::Remove { node: n(1) }), Err(Refusal::LastVoter));
        assert_eq!(one.changed(Change::Remove { node: n(2) }), Err(Refusal::NotAMember));
        let again = Change::Add { node: n(1), addr: String::new() };
        assert_eq!(one.changed(again), Err(Refusal::AlreadyAMember));
        let moved = one.changed(Change::Add { node: n(1), addr: "b".to_owned() }).unwrap();
        assert_eq!(moved.members()[&n(1)], Member { voter: true, addr: "b".to_owned() });
    }
}
