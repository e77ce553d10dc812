//! A node of a script: its machine, its disk, its application, and what may be known of it outside.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::command::Setting;
use crate::host::Host;
use crate::node_id::NodeId;
use crate::protocol::Time;
use crate::raft::{Index, Raft, Record, Ticket};
use crate::sim::observe::Look;

/// How a node is set up.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    pub(super) pre_vote: bool,
    pub(super) check_quorum: bool,
    pub(super) max_append: Option<usize>,
}

impl Settings {
    pub(super) fn with(mut self, changes: impl IntoIterator<Item = Setting>) -> Self {
        for change in changes {
            match change {
                Setting::PreVote(on) => self.pre_vote = on,
                Setting::CheckQuorum(on) => self.check_quorum = on,
                Setting::MaxAppend(bytes) => self.max_append = Some(bytes),
            }
        }
        self
    }
}

/// A node.
pub(super) struct Node {
    pub(super) settings: Settings,
    pub(super) host: Option<Host<Raft>>,
    pub(super) disk: Vec<Record>,
    pub(super) held: bool,
    pub(super) now: Time,
    /// Counts its boots.
    pub(super) boot: u64,
    /// What may be known of it outside: it changes when the disk has everything.
    pub(super) shown: Vec<Look>,
    pub(super) commit: Index,
    /// What of its log may be known outside: the first index, and the term of each entry. Only in a trace.
    pub(super) shown_log: (u64, Vec<u64>),
    pub(super) applied: Index,
    pub(super) data: Vec<String>,
    /// Parts of a snapshot that come from the leader.
    pub(super) incoming: Vec<Bytes>,
    /// Parts of a snapshot that followers want.
    pub(super) wanted: Vec<(NodeId, u64)>,
    pub(super) asked: BTreeMap<Ticket, Asked>,
}

pub(super) enum Asked {
    Other,
    Read,
}

impl Node {
    pub(super) fn down(settings: Settings, now: Time) -> Self {
        Self {
            settings,
            host: None,
            disk: Vec::new(),
            held: false,
            now,
            boot: 0,
            shown: Vec::new(),
            commit: Index(0),
            shown_log: (1, Vec::new()),
            applied: Index(0),
            data: Vec::new(),
            incoming: Vec::new(),
            wanted: Vec::new(),
            asked: BTreeMap::new(),
        }
    }
}

/// A snapshot of the application: its list.
pub(super) fn encode(data: &[String]) -> Bytes {
    serde_json::to_vec(data).expect("texts are JSON").into()
}

pub(super) fn decode(parts: &[Bytes]) -> Vec<String> {
    serde_json::from_slice(&parts.concat()).expect("the parts are those that were made")
}

/// The N of `nN`.
pub(super) fn number(node: NodeId) -> usize {
    node.as_str().strip_prefix('n').and_then(|number| number.parse().ok()).expect("simulated nodes are numbered")
}
