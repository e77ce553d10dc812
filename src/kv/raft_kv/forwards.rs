//! Which forwarded writes a leader has taken.

use std::collections::{BTreeMap, BTreeSet};

use super::message::RequestId;
use crate::defaults::MAX_REQUESTS;
use crate::node_id::NodeId;
use crate::raft::Term;

/// The forwarded writes that this node has taken as the leader of its latest term, so that a message which the network
/// repeats is not proposed twice. It remembers the latest [`MAX_REQUESTS`] of each follower.
#[derive(Debug)]
pub(super) struct ForwardsSeen {
    /// What was taken in this term or before is not known any more: an earlier life may have led it.
    forgotten: Term,
    term: Term,
    by_node: BTreeMap<NodeId, (Option<RequestId>, BTreeSet<RequestId>)>,
}

impl ForwardsSeen {
    /// A node that starts in `term`.
    pub(super) const fn since(term: Term) -> Self {
        Self { forgotten: term, term, by_node: BTreeMap::new() }
    }

    /// False only when it is certain that this was never taken.
    pub(super) fn may_have_taken(&self, term: Term, node: NodeId, id: RequestId) -> bool {
        let seen = || self.by_node.get(&node).is_some_and(|(oldest, seen)| *oldest >= Some(id) || seen.contains(&id));
        term <= self.forgotten || (term == self.term && seen())
    }

    pub(super) fn take(&mut self, term: Term, node: NodeId, id: RequestId) {
        if term > self.term {
            *self = Self { forgotten: self.term, term, by_node: BTreeMap::new() };
        }
        let (oldest, seen) = self.by_node.entry(node).or_default();
        seen.insert(id);
        if seen.len() > MAX_REQUESTS {
            *oldest = seen.pop_first();
        }
    }
}
