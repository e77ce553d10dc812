//! When a cluster begins to keep the names of clients that it forgets.
//!
//! A new cluster does so from its first command on. One that an older netbelt initialised begins when its leader has
//! heard from every member that it knows how: the others would end at the command that says so. Until then all nodes, old
//! and new, do what the old ones do. A follower says it by forwarding that very command, which an old leader cannot decode
//! and ignores.

use super::message::{Message, RequestId};
use super::node::{Origin, RaftKv, Ready};
use crate::kv::command::{Operation, SessionRequest};
use crate::node_id::NodeId;
use crate::protocol::{Effects, Time};
use crate::raft::{RoleName, Term};

/// A follower says it again after so many entries, lest it was lost.
const AGAIN: u64 = 256;

impl RaftKv {
    /// Whether a follower that applies this entry is to tell that it is ready: once for each leader, and now and then.
    pub(super) const fn is_time_to_tell(index: u64, is_noop: bool) -> bool {
        is_noop || index.is_multiple_of(AGAIN)
    }

    pub(super) fn tell_ready(&self, out: &mut Effects<Self>) {
        let (term, leader) = (self.raft.hard_state().current_term, self.raft.leader());
        if let Some(leader) = leader.filter(|leader| *leader != self.raft.config().id && self.is_behind()) {
            let request = self.init_request().encode().into_bytes();
            out.send(leader, Message::Forward { id: RequestId(0), term, request });
        }
    }

    /// A follower says that it is ready.
    pub(super) fn on_ready(&mut self, now: Time, node: NodeId, term: Term, out: &mut Effects<Self>) {
        if term == self.raft.hard_state().current_term && self.raft.role() == RoleName::Leader && self.is_behind() {
            self.ready_in(term).members.insert(node);
            if self.all_are_ready() {
                self.init_cluster(now, out);
            }
        }
    }

    /// Whether this leader is to give the cluster its id, or to have it keep forgotten names.
    pub(super) fn is_to_init_cluster(&mut self) -> bool {
        self.ready_in(self.raft.hard_state().current_term);
        self.state.cluster().is_none() || (self.is_behind() && self.all_are_ready())
    }

    pub(super) fn init_cluster(&mut self, now: Time, out: &mut Effects<Self>) {
        self.ready.proposed = true;
        self.propose(now, Origin::Own, self.init_request().encode(), out);
    }

    fn init_request(&self) -> SessionRequest {
        let cluster = self.raft.config().boot_nonce; // a random number that nobody else has
        SessionRequest::once(Operation::InitCluster { cluster, keep_forgotten: true })
    }

    /// Whether an older netbelt has initialised the cluster.
    fn is_behind(&self) -> bool {
        self.state.cluster().is_some() && !self.state.sessions().keeps_forgotten()
    }

    fn all_are_ready(&self) -> bool {
        let others = self.raft.configuration().members().keys().filter(|id| **id != self.raft.config().id);
        !self.ready.proposed && others.into_iter().all(|id| self.ready.members.contains(id))
    }

    fn ready_in(&mut self, term: Term) -> &mut Ready {
        if self.ready.term != term {
            self.ready = Ready { term, ..Ready::default() };
        }
        &mut self.ready
    }
}
