//! peers.json: whom a node has met.
//!
//! ```text
//! {"format":2,"cluster":"9f..","peers":{"n2":{"incarnation":"3c..","start":{"number":3,"mark":"5e.."}},
//!                                       "n3":{"incarnation":"70..","start":{"number":1,"mark":"b2.."},"removed":true}}}
//! ```
//!
//! A node with a new directory writes down whom it meets, too, and `"begun":true` once it may take part ([`founding`]); `awaited`
//! names those that were not there then, and for whom an operator spoke. Format 1 has no starts.
//!
//! [`founding`]: crate::founding

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::net::identity::boot_history::Boot;
use crate::net::identity::files::{DataDirError, PEERS, read_json, write_durably};
use crate::net::identity::random_id::RandomId;

/// The newest format of the file.
const FORMAT: u32 = 2;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PeersFile {
    pub(super) format: u32,
    pub(super) cluster: Option<RandomId>,
    /// A node that had to wait for its peers has begun.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) begun: bool,
    pub(super) peers: BTreeMap<String, Peer>,
    /// Peers that were not there when this node began, and have no data, as the operator said.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) awaited: BTreeSet<String>,
}

/// A peer that was met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Peer {
    pub(super) incarnation: RandomId,
    /// The latest that it told of; None, when a netbelt that did not ask wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) start: Option<Boot>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) removed: bool,
    /// It was met before this node heard that it is a member.
    #[serde(rename = "unseated", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) met_early: bool,
}

impl PeersFile {
    /// What the directory `dir` has; nobody, where there is no file.
    pub(super) fn read(dir: &Path) -> Result<Self, DataDirError> {
        let found = read_json(&dir.join(PEERS), FORMAT)?;
        let empty =
            || Self { format: FORMAT, cluster: None, begun: false, peers: BTreeMap::new(), awaited: BTreeSet::new() };
        Ok(Self { format: FORMAT, ..found.unwrap_or_else(empty) })
    }

    /// Writes it to the directory `dir`.
    pub(super) fn write(&self, dir: &Path) -> Result<(), DataDirError> {
        write_durably(dir, PEERS, |_| serde_json::to_vec(self).expect("a peers file is JSON"))
    }
}
