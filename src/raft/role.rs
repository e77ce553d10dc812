//! The roles, with what only they have.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::message::Ticket;
use super::progress::Progress;
use super::reads::{FollowerReads, LeaderReads};
use super::types::Index;
use crate::node_id::NodeId;
use crate::protocol::Time;

/// A role with the data that only it has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Follower(Follower),
    PreCandidate { granted: BTreeSet<NodeId> },
    Candidate { granted: BTreeSet<NodeId> },
    Leader(Leader),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    /// The leader of the current term and when it was last heard.
    pub(super) leader: Option<(NodeId, Time)>,
    pub(super) reads: FollowerReads,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    pub(super) progress: BTreeMap<NodeId, Progress>,
    /// The first entry of its term: once it is committed, the commit index is known to be right (Raft §8).
    pub(super) first_of_term: Index,
    /// Proposals of the next batch; they have no place in the log yet.
    pub(super) proposals: Vec<(Ticket, Bytes)>,
    /// Since when they wait for earlier ones to be committed.
    pub(super) batch_since: Option<Time>,
    pub(super) reads: LeaderReads,
    /// Another node is to lead.
    pub(super) transfer: Option<Transfer>,
}

/// A leader that lets another one lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transfer {
    pub(super) ticket: Ticket,
    pub(super) to: NodeId,
    /// Until then the leader takes no new entries; after that it goes on as if nothing had been.
    pub(super) deadline: Time,
    /// The other has all entries and was told to seek election.
    pub(super) told: bool,
}
