//! The transfer of leadership (thesis §3.10).

use std::collections::BTreeMap;

use super::configuration::Refusal;
use super::message::{Ballot, Body, Event, Ticket};
use super::role::{Role, Transfer};
use super::state::Raft;
use crate::node_id::NodeId;
use crate::protocol::{Effects, Time};

impl Raft {
    pub(super) fn transfer(&mut self, now: Time, ticket: Ticket, to: Option<NodeId>, out: &mut Effects<Self>) {
        match self.successor(to) {
            Ok(to) => {
                let deadline = now + *self.config.election_timeout.end();
                if let Role::Leader(leader) = &mut self.role {
                    leader.transfer = Some(Transfer { ticket, to, deadline, told: false });
                }
                self.go_on_with_transfer(to, out);
            }
            Err(why) => out.emit(Event::Refused { ticket, why }),
        }
    }

    fn successor(&self, to: Option<NodeId>) -> Result<NodeId, Refusal> {
        let Role::Leader(leader) = &self.role else { return Err(Refusal::NotLeader) };
        if leader.transfer.is_some() {
            return Err(Refusal::ChangePending);
        }
        match to {
            None => self.best_follower().ok_or(Refusal::CannotLead),
            Some(to) => match leader.progress.get(&to) {
                // A new leader has heard nobody yet; a transfer to somebody who is not there comes to its end in time.
                Some(progress)
                    if (progress.reachable || self.commit_index < leader.first_of_term)
                        && self.configuration().is_voter(to) =>
                {
                    Ok(to)
                }
                Some(_) => Err(Refusal::CannotLead),
                None if to == self.config.id => Err(Refusal::CannotLead),
                None => Err(Refusal::NotAMember),
            },
        }
    }

    /// The voter that has most, among those that are there.
    pub(super) fn best_follower(&self) -> Option<NodeId> {
        let nobody = BTreeMap::new();
        let followers = self.progress().unwrap_or(&nobody).iter();
        let able = followers.filter(|(id, progress)| progress.reachable && self.configuration().is_voter(**id));
        able.max_by_key(|(_, progress)| progress.match_index).map(|(id, _)| *id)
    }

    /// As soon as the successor has every entry, it is told to seek election.
    pub(super) fn go_on_with_transfer(&mut self, from: NodeId, out: &mut Effects<Self>) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = leader.transfer.as_mut().filter(|transfer| transfer.to == from && !transfer.told) else {
            return;
        };
        if leader.progress.get(&from).is_some_and(|progress| progress.match_index == last) {
            transfer.told = true;
            self.send(from, Body::TimeoutNow, out);
        }
    }

    /// The successor did not take over in time.
    pub(super) fn end_late_transfer(&mut self, now: Time, out: &mut Effects<Self>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(transfer) = leader.transfer.take_if(|transfer| now >= transfer.deadline) {
            out.emit(Event::Refused { ticket: transfer.ticket, why: Refusal::NotTakenOver });
            Self::flush_soon(out);
        }
    }

    /// The leader wants this node to lead. It asks at once and without a pre-vote, since the others hear a leader.
    pub(super) fn on_timeout_now(&mut self, now: Time, from: NodeId, out: &mut Effects<Self>) {
        let follows =
            matches!(&self.role, Role::Follower(follower) if follower.leader.is_none_or(|(id, _)| id == from));
        if follows && self.may_campaign() {
            self.campaign(now, Ballot::Vote, true, out);
        }
    }
}
