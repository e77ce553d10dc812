//! Changes of the members, one at a time (thesis §4), and the transfer of leadership (thesis §3.10).

use std::collections::BTreeMap;

use super::configuration::{Change, Configuration, Refusal};
use super::progress::{CatchingUp, Flow, Progress};
use super::types::{Entry, Payload, Position};
use super::{Ballot, Body, Event, Leader, Raft, Role, Ticket, flush_soon};
use crate::node_id::NodeId;
use crate::protocol::{Effects, Time};

/// A leader that lets another one lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Handover {
    pub(super) ticket: Ticket,
    to: NodeId,
    /// Until then the leader takes no new entries; after that it goes on as if nothing had been.
    deadline: Time,
    /// The other has all entries and was told to seek election.
    told: bool,
}

impl Raft {
    /// The members that the latest configuration in the log names, committed or not.
    pub fn configuration(&self) -> &Configuration {
        self.log.configuration()
    }

    /// Whether this node may seek election: as a voter, or as one that is about to be none. Until that is committed it may be
    /// needed, since others may not win against its longer log; its own vote does not count (thesis §4.2.2).
    pub(super) fn may_campaign(&self) -> bool {
        let id = self.config.id;
        let is_open = self.log.configuration_position().index > self.commit_index;
        let was_voter = || self.log.earlier_configuration().is_some_and(|earlier| earlier.is_voter(id));
        self.configuration().is_voter(id) || (is_open && was_voter())
    }

    /// The other members.
    pub(super) fn peers(&self) -> Vec<NodeId> {
        self.configuration().members().keys().copied().filter(|id| *id != self.config.id).collect()
    }

    pub(super) fn change(&mut self, now: Time, ticket: Ticket, change: Change, out: &mut Effects<Self>) {
        let changed = self.may_change().and_then(|()| self.configuration().changed(change));
        match changed {
            Ok(configuration) => {
                let position = self.append_configuration(now, configuration, out);
                out.emit(Event::Proposed { ticket, position });
                self.advance_commit(out);
            }
            Err(why) => out.emit(Event::Refused { ticket, why }),
        }
    }

    /// A leader may change the members once an entry of its own term is committed, and one change at a time: otherwise
    /// two majorities that do not know of each other could exist (thesis §4.1).
    fn may_change(&self) -> Result<(), Refusal> {
        match &self.role {
            Role::Leader(leader)
                if self.commit_index < leader.first_of_term && !cfg!(mutant = "change_before_first_commit") =>
            {
                Err(Refusal::NotReady)
            }
            Role::Leader(_)
                if self.log.configuration_position().index > self.commit_index
                    && !cfg!(mutant = "two_changes_at_once") =>
            {
                Err(Refusal::ChangePending)
            }
            Role::Leader(Leader { handover: Some(_), .. }) => Err(Refusal::ChangePending),
            Role::Leader(_) => Ok(()),
            Role::Follower(_) | Role::PreCandidate { .. } | Role::Candidate { .. } => Err(Refusal::NotLeader),
        }
    }

    fn append_configuration(&mut self, now: Time, configuration: Configuration, out: &mut Effects<Self>) -> Position {
        let position = Position { term: self.term(), index: self.log.last().index.next() };
        self.adopt_members(now, &configuration, out);
        let payload = Payload::Configuration(configuration);
        self.append_and_send(vec![Entry { position, payload }], out);
        position
    }

    /// A leader begins to replicate to new members and stops replicating to those that are gone.
    fn adopt_members(&mut self, now: Time, configuration: &Configuration, out: &mut Effects<Self>) {
        let last = self.log.last();
        for peer in self.peers() {
            if !configuration.contains(peer) {
                self.give_up_install(peer, out);
            }
        }
        let id = self.config.id;
        let Role::Leader(leader) = &mut self.role else { return };
        leader.progress.retain(|peer, _| configuration.contains(*peer));
        for peer in configuration.members().keys().filter(|peer| **peer != id) {
            leader.progress.entry(*peer).or_insert_with(|| Progress::new(last, now));
        }
    }

    /// Makes a learner a voter that has caught up: one round of catching up took less than an election timeout (thesis
    /// §4.2.1).
    pub(super) fn promote(&mut self, now: Time, learner: NodeId, out: &mut Effects<Self>) {
        if self.configuration().is_voter(learner) {
            return;
        }
        let last = self.log.last().index;
        let quick = *self.config.election_timeout.start();
        let may_change = self.may_change().is_ok();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&learner) else { return };
        let CatchingUp { target, since } = progress.catching_up;
        if progress.match_index < target || !matches!(progress.flow, Flow::Replicate { .. }) {
            return;
        }
        progress.catching_up = CatchingUp { target: last, since: now };
        if now.since(since) < quick && may_change {
            let promoted = self.configuration().promoted(learner);
            self.append_configuration(now, promoted, out);
            self.advance_commit(out);
        }
    }

    /// A leader that is no voter any more goes once that is committed, and says who shall follow (thesis §4.2.2).
    pub(super) fn leave_if_removed(&mut self, out: &mut Effects<Self>) {
        let is_committed = self.log.configuration_position().index <= self.commit_index;
        if matches!(self.role, Role::Leader(_)) && is_committed && !self.configuration().is_voter(self.config.id) {
            if let Some(successor) = self.best_follower() {
                self.send(successor, Body::TimeoutNow, out);
            }
            self.become_follower(self.term(), None, out);
        }
    }
}

impl Raft {
    pub(super) fn transfer(&mut self, now: Time, ticket: Ticket, to: Option<NodeId>, out: &mut Effects<Self>) {
        match self.successor(to) {
            Ok(to) => {
                let deadline = now + *self.config.election_timeout.end();
                if let Role::Leader(leader) = &mut self.role {
                    leader.handover = Some(Handover { ticket, to, deadline, told: false });
                }
                self.go_on_with_handover(to, out);
            }
            Err(why) => out.emit(Event::Refused { ticket, why }),
        }
    }

    fn successor(&self, to: Option<NodeId>) -> Result<NodeId, Refusal> {
        let Role::Leader(leader) = &self.role else { return Err(Refusal::NotLeader) };
        if leader.handover.is_some() {
            return Err(Refusal::ChangePending);
        }
        match to {
            None => self.best_follower().ok_or(Refusal::CannotLead),
            Some(to) => match leader.progress.get(&to) {
                // A new leader has heard nobody yet; a handover to somebody who is not there comes to its end in time.
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
    fn best_follower(&self) -> Option<NodeId> {
        let nobody = BTreeMap::new();
        let followers = self.progress().unwrap_or(&nobody).iter();
        let able = followers.filter(|(id, progress)| progress.reachable && self.configuration().is_voter(**id));
        able.max_by_key(|(_, progress)| progress.match_index).map(|(id, _)| *id)
    }

    /// As soon as the successor has every entry, it is told to seek election.
    pub(super) fn go_on_with_handover(&mut self, from: NodeId, out: &mut Effects<Self>) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(handover) = leader.handover.as_mut().filter(|handover| handover.to == from && !handover.told) else {
            return;
        };
        if leader.progress.get(&from).is_some_and(|progress| progress.match_index == last) {
            handover.told = true;
            self.send(from, Body::TimeoutNow, out);
        }
    }

    /// The successor did not take over in time.
    pub(super) fn end_late_handover(&mut self, now: Time, out: &mut Effects<Self>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(handover) = leader.handover.take_if(|handover| now >= handover.deadline) {
            out.emit(Event::Refused { ticket: handover.ticket, why: Refusal::NotTakenOver });
            flush_soon(out);
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
