//! The snapshots of a node: its own, those it sends and receives, and backups.
//!
//! All are read off [views](crate::kv::view) of the state, a chunk at a time between other inputs, so that writes go on.
//! A node writes one of its own when so many bytes have been applied since the last: a number that is given, but at least
//! half of what the last snapshot had, so that a large state is not written over and over for a few changes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::message::RequestId;
use crate::kv::restore::Restorer;
use crate::kv::snapshot::SnapshotError;
use crate::kv::state::State;
use crate::kv::view::ViewId;
use crate::node_id::NodeId;
use crate::protocol::Time;
use crate::raft::{InstallSnapshot, Term};

/// What a node has in hand of snapshots.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// Bytes applied between two of its own.
    pub(super) every: u64,
    pub(super) applied: u64,
    /// Bytes of the latest one.
    pub(super) latest: u64,
    pub(super) own: Option<Own>,
    /// Those on their way to followers.
    pub(super) installs: BTreeMap<NodeId, Install>,
    /// The one on its way from the leader.
    pub(super) incoming: Option<Incoming>,
    /// In which term one was refused last.
    pub(super) refused: Option<Term>,
    /// Views that backups read, and when they are closed unless they are read again.
    pub(super) backups: BTreeMap<ViewId, Time>,
}

/// A snapshot being written into the log.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) view: ViewId,
    pub(super) bytes: u64,
    /// Who asked for it.
    pub(super) waiting: Vec<RequestId>,
}

#[derive(Debug)]
pub(super) struct Install {
    pub(super) view: ViewId,
    /// The part to be offered next, and its data, read ahead to know which part is the last.
    pub(super) number: u64,
    pub(super) data: Option<Bytes>,
}

/// What came of the leader's snapshot.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) parts: u64,
    pub(super) bytes: u64,
    pub(super) restorer: Restorer,
    /// What its last part made of it.
    pub(super) state: Option<State>,
}

impl Incoming {
    pub(super) fn take(&mut self, part: &InstallSnapshot) -> Result<(), SnapshotError> {
        self.parts += 1;
        self.bytes += part.data.len() as u64;
        self.restorer.push(part.data.clone())?;
        if part.done {
            self.state = Some(std::mem::take(&mut self.restorer).finish()?);
        }
        Ok(())
    }
}

impl Snapshots {
    pub(super) const fn new(every: u64, latest: u64) -> Self {
        Self {
            every,
            applied: 0,
            latest,
            own: None,
            installs: BTreeMap::new(),
            incoming: None,
            refused: None,
            backups: BTreeMap::new(),
        }
    }

    /// A command of `size` bytes has been applied.
    pub(super) const fn applied(&mut self, size: usize) {
        self.applied += size as u64;
    }

    pub(super) fn is_due(&self) -> bool {
        self.applied >= self.every.max(self.latest / 2)
    }
}
