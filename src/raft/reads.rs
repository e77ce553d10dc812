//! Linearizable reads that wait, see [`read_index`](super).

use std::collections::VecDeque;

use super::message::{Round, Ticket};
use super::types::Index;
use crate::node_id::NodeId;
use crate::protocol::Time;

/// Reads at a leader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LeaderReads {
    /// The latest round.
    pub(super) round: Round,
    /// Not yet in a round.
    pub(super) pending: Vec<Reader>,
    /// Rounds not yet confirmed, oldest first, each with the commit index when it began.
    pub(super) rounds: VecDeque<(Round, Index, Vec<Reader>)>,
}

/// Whom a read index is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reader {
    Local(Ticket),
    Follower { node: NodeId, question: u64 },
}

impl LeaderReads {
    /// Gives up every read; followers find out by themselves.
    pub(super) fn take_local(&mut self) -> Vec<Ticket> {
        let waiting = self.rounds.drain(..).flat_map(|(_, _, readers)| readers).chain(self.pending.drain(..));
        waiting
            .filter_map(|reader| match reader {
                Reader::Local(ticket) => Some(ticket),
                Reader::Follower { .. } => None,
            })
            .collect()
    }
}

/// Reads at a follower.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct FollowerReads {
    /// Not yet asked for.
    pub(super) pending: Vec<Ticket>,
    /// Asked for, oldest first.
    pub(super) asked: VecDeque<Asked>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) question: u64,
    pub(super) at: Time,
    pub(super) tickets: Vec<Ticket>,
}

impl FollowerReads {
    /// Gives up every read.
    pub(super) fn take_all(&mut self) -> Vec<Ticket> {
        let asked = self.asked.drain(..).flat_map(|asked| asked.tickets);
        self.pending.drain(..).chain(asked).collect()
    }
}
