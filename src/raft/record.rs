//! What survives a crash (Raft, Figure 2, "Persistent state on all servers"; thesis §3.8).

use super::types::{Entry, NodeId, Term};

/// One change of the persistent state. Recovery folds them, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// The term or the vote changed.
    HardState(HardState),
    /// These consecutive entries were appended, after whatever stood at the first one's index and beyond was
    /// removed.
    Append(Vec<Entry>),
}

impl Record {
    /// How many log entries it holds.
    pub const fn entries(&self) -> usize {
        match self {
            Self::HardState(_) => 0,
            Self::Append(entries) => entries.len(),
        }
    }
}

/// The term and the vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct HardState {
    /// Latest term this node has seen.
    pub current_term: Term,
    /// The candidate that received its vote in that term.
    pub voted_for: Option<NodeId>,
}
