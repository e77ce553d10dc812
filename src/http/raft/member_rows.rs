//! The members as `/status` and `/members` tell them.

use serde::Serialize;

use super::members_table::Members;
use crate::http::upgrade::Version;
use crate::kv::RaftKv;
use crate::net::identity::random_id::MemberAddr;
use crate::node_id::NodeId;
use crate::raft;

/// A member, as `/status` and `/members` tell it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) addr: String,
    pub(super) voter: bool,
    /// Of peers: whether this node is connected to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connected: Option<bool>,
    /// Of a leader's followers: how far their log is known to match.
    #[serde(skip_serializing_if = "Option::is_none")]
    match_index: Option<u64>,
    /// Of those that this node has met since it started.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
}

impl Member {
    /// Whether it is a peer that is not connected.
    pub(super) fn is_away(&self) -> bool {
        self.connected == Some(false)
    }
}

/// Every member that `machine` knows; this node itself is at `own_addr`.
pub(super) fn rows(machine: &RaftKv, members: &Members, own_addr: &str) -> Vec<Member> {
    let raft = machine.raft();
    let links = members.links().states();
    let mut versions = members.versions();
    let row = |(id, member): (&NodeId, &raft::Member)| {
        let link = links.get(id);
        let addr = match link {
            Some(link) => link.addr.clone(),
            None if *id == members.id() => members.own_addr(own_addr),
            None => MemberAddr::of(&member.addr).addr,
        };
        Member {
            id: id.as_str().to_owned(),
            addr,
            voter: member.voter,
            connected: (*id != members.id()).then(|| link.is_some_and(|link| link.is_up)),
            match_index: raft.progress().and_then(|progress| progress.get(id)).map(|progress| progress.match_index.0),
            version: if *id == members.id() { Some(Version::own()) } else { versions.remove(id) },
        }
    };
    raft.configuration().members().iter().map(row).collect()
}
