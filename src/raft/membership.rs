//! Changes of the members, one at a time (thesis §4).

use super::configuration::{Change, Configuration, Refusal};
use super::message::{Body, Event, Ticket};
use super::progress::{CatchingUp, Flow, Progress};
use super::role::{Leader, Role};
use super::state::Raft;
use super::types::{Entry, Payload, Position};
use crate::node_id::NodeId;
use crate::protocol::{Effects, Time};

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
            Role::Leader(Leader { transfer: Some(_), .. }) => Err(Refusal::ChangePending),
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
