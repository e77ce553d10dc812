//! Requests that one node hands to another, and what comes back.

use bytes::Bytes;

use super::message::{Administration, Answer, Forwarding, Message, RequestError, RequestId};
use super::node::{Origin, RaftKv, Stage, Work};
use crate::kv::command::{EncodedRequest, SessionRequest};
use crate::node_id::NodeId;
use crate::protocol::{Effects, Time};
use crate::raft::{RoleName, Term};

impl RaftKv {
    /// A follower hands over a write. Messages may be repeated, and the follower takes a refusal as final: what may have
    /// been taken before is neither taken nor refused again.
    pub(super) fn on_forward(
        &mut self,
        now: Time,
        node: NodeId,
        id: RequestId,
        term: Term,
        request: Bytes,
        out: &mut Effects<Self>,
    ) {
        if SessionRequest::is_to_keep_forgotten(&request) {
            return self.on_ready(now, node, term, out);
        }
        if self.forwards.may_have_taken(term, node, id) {
            return;
        }
        // No correct node forwards anything else, and it must not reach the log.
        let Ok(request) = EncodedRequest::try_from(request) else { return };
        let leads = self.raft.role() == RoleName::Leader && self.raft.hard_state().current_term == term;
        let result = if !leads {
            Forwarding::NotLeader
        } else {
            self.forwards.take(term, node, id); // a repetition is not taken after this copy was refused, either
            if self.takes_writes(now) {
                return self.propose(now, Origin::Peer { node, id, term }, request, out);
            }
            Forwarding::Overloaded
        };
        out.send(node, Message::Forwarded { id, term, result });
    }

    /// A follower hands over a change of the cluster. One that comes twice finds that there is nothing left to change.
    pub(super) fn on_administer(
        &mut self,
        now: Time,
        node: NodeId,
        id: RequestId,
        term: Term,
        what: Administration,
        out: &mut Effects<Self>,
    ) {
        let leads = self.raft.role() == RoleName::Leader && self.raft.hard_state().current_term == term;
        if self.forwards.may_have_taken(term, node, id) {
            return;
        }
        if leads {
            self.forwards.take(term, node, id);
            return self.administer(now, Origin::Peer { node, id, term }, what, out);
        }
        out.send(node, Message::Forwarded { id, term, result: Forwarding::NotLeader });
    }

    /// The leader answers. An answer in another term than the request's is a late one.
    pub(super) fn on_forwarded(
        &mut self,
        now: Time,
        id: RequestId,
        term: Term,
        result: Forwarding,
        out: &mut Effects<Self>,
    ) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if request.stage != Stage::Forwarded(term) {
            return;
        }
        // No correct leader says anything else. Whoever does leaves open what became of it, until its time is over.
        let is_an_answer = match (&request.work, &result) {
            (_, Forwarding::NotLeader | Forwarding::Overloaded | Forwarding::Refused(_)) => true,
            (Work::Write(write), Forwarding::Applied(outcome)) => write.can_have(outcome),
            (Work::Administer(_), Forwarding::Done) => true,
            (_, Forwarding::Applied(_) | Forwarding::Done) => false,
        };
        if !is_an_answer {
            return;
        }
        match result {
            Forwarding::Applied(outcome) => self.answer(id, Ok(Answer::Written(outcome)), out),
            Forwarding::Overloaded => self.refuse(id, RequestError::Overloaded, out),
            Forwarding::Done => self.answer(id, Ok(Answer::Done), out),
            Forwarding::Refused(why) => self.answer(id, Err(RequestError::Refused(why)), out),
            Forwarding::NotLeader => {
                request.stage = Stage::Waiting { after: Some(term) };
                self.submit(now, id, out);
            }
        }
    }
}
