//! Elections: who leads in which term (Raft §5.2, §5.4.1).

use std::collections::BTreeSet;

use super::message::{Ballot, Body, Event, Message, Timer};
use super::progress::Flow;
use super::record::{HardState, Record};
use super::role::{Follower, Role};
use super::state::Raft;
use super::types::{Position, Term};
use crate::node_id::NodeId;
use crate::protocol::{Effects, Time};

impl Raft {
    /// Starts as a follower. Alone in the cluster there is nobody to wait for.
    pub(super) fn start(&mut self, now: Time, out: &mut Effects<Self>) {
        let alone = BTreeSet::from([self.config.id]);
        if self.configuration().is_majority(&alone) && self.configuration().is_voter(self.config.id) {
            self.campaign(now, Ballot::Vote, false, out);
        } else {
            out.set_timer(Timer::Election, self.election_timeout());
        }
        self.apply(out); // what the records say is committed
    }

    /// No leader was heard in time, or the candidacy came to nothing: seek election (Raft §5.2).
    pub(super) fn on_election_timeout(&mut self, now: Time, out: &mut Effects<Self>) {
        match self.role {
            Role::Follower(_) | Role::PreCandidate { .. } | Role::Candidate { .. }
                if self.may_campaign() && !self.disk_stands_still(now) =>
            {
                if !matches!(self.role, Role::Follower(_)) {
                    self.patience.candidacy_failed();
                }
                let ballot = if self.config.pre_vote { Ballot::PreVote } else { Ballot::Vote };
                self.campaign(now, ballot, false, out);
            }
            Role::Follower(_) | Role::PreCandidate { .. } | Role::Candidate { .. } => {
                self.become_follower(self.term(), None, out);
                out.set_timer(Timer::Election, self.election_timeout());
            }
            Role::Leader(_) => {}
        }
    }

    /// Asks every voter for a vote; for a pre-vote, without raising the term (thesis §9.6). `transfer` tells that the
    /// leader wants it (thesis §3.10).
    pub(super) fn campaign(&mut self, now: Time, ballot: Ballot, transfer: bool, out: &mut Effects<Self>) {
        self.leave_role(out);
        let term = self.term().next();
        let granted = BTreeSet::from([self.config.id]);
        match ballot {
            Ballot::PreVote => self.role = Role::PreCandidate { granted },
            Ballot::Vote => {
                self.counters.elections += 1;
                self.set_hard_state(HardState { current_term: term, voted_for: Some(self.config.id) }, out);
                self.role = Role::Candidate { granted };
            }
        }
        out.set_timer(Timer::Election, self.election_timeout());
        let body = Body::RequestVote { ballot, last: self.log.last(), transfer };
        for peer in self.peers().into_iter().filter(|peer| self.configuration().is_voter(*peer)) {
            out.send(peer, Message { term, body: body.clone() });
        }
        self.count_votes(now, out);
    }

    /// Grants at most one vote a term, first come first served, and only to a log at least as up to date (Raft,
    /// Figure 2, RequestVote RPC 2; §5.4.1). The caller has dealt with terms and with stickiness.
    pub(super) fn on_request_vote(
        &mut self,
        from: NodeId,
        term: Term,
        ballot: Ballot,
        last: Position,
        out: &mut Effects<Self>,
    ) {
        let free = match ballot {
            // Would be given in a term not yet begun, where no vote has been cast.
            Ballot::PreVote => term > self.term(),
            Ballot::Vote => self.hard_state.voted_for.is_none_or(|candidate| candidate == from),
        };
        let granted = free && (cfg!(mutant = "vote_for_shorter_log") || last >= self.log.last());
        if granted && ballot == Ballot::Vote {
            self.set_hard_state(HardState { voted_for: Some(from), ..self.hard_state }, out);
            out.set_timer(Timer::Election, self.election_timeout());
        }
        // The grant of a pre-vote names the term asked for; a refusal tells the candidate ours.
        let term = if granted { term } else { self.term() };
        out.send(from, Message { term, body: Body::Vote { ballot, granted } });
    }

    pub(super) fn on_vote(
        &mut self,
        now: Time,
        from: NodeId,
        term: Term,
        ballot: Ballot,
        granted: bool,
        out: &mut Effects<Self>,
    ) {
        if !granted {
            return; // A newer term has been taken over already; the election timer tries again.
        }
        let next_term = self.term().next();
        let current_term = self.term();
        let votes = match (&mut self.role, ballot) {
            (Role::PreCandidate { granted }, Ballot::PreVote) if term == next_term => granted,
            (Role::Candidate { granted }, Ballot::Vote) if term == current_term => granted,
            // Late: for a candidacy that has been won, lost or begun anew.
            (Role::Follower(_) | Role::PreCandidate { .. } | Role::Candidate { .. } | Role::Leader(_), _) => return,
        };
        votes.insert(from);
        self.count_votes(now, out);
    }

    fn count_votes(&mut self, now: Time, out: &mut Effects<Self>) {
        let won = |granted: &BTreeSet<NodeId>| {
            cfg!(mutant = "elected_without_majority") || self.configuration().is_majority(granted)
        };
        match &self.role {
            Role::PreCandidate { granted } if won(granted) => self.campaign(now, Ballot::Vote, false, out),
            Role::Candidate { granted } if won(granted) => self.become_leader(now, out),
            Role::Follower(_) | Role::PreCandidate { .. } | Role::Candidate { .. } | Role::Leader(_) => {}
        }
    }

    /// Follows `leader`, or nobody yet, in `term`.
    pub(super) fn become_follower(&mut self, term: Term, leader: Option<(NodeId, Time)>, out: &mut Effects<Self>) {
        let led = matches!(self.role, Role::Leader(_));
        self.leave_role(out);
        if term > self.term() || cfg!(mutant = "vote_cleared_in_same_term") {
            self.set_hard_state(HardState { current_term: term, voted_for: None }, out);
        }
        self.role = Role::Follower(Follower { leader, ..Follower::default() });
        if led {
            out.cancel_timer(Timer::Heartbeat);
            out.set_timer(Timer::Election, self.election_timeout());
        }
    }

    /// What waits for the role that ends will not be done by it.
    pub(super) fn leave_role(&mut self, out: &mut Effects<Self>) {
        if cfg!(mutant = "questions_counted_anew") {
            self.next_question = 0;
        }
        let tickets = match &mut self.role {
            Role::Follower(follower) => follower.reads.take_all(),
            Role::PreCandidate { .. } | Role::Candidate { .. } => Vec::new(),
            Role::Leader(leader) => {
                let unwanted = leader.progress.iter().filter(|(_, p)| matches!(p.flow, Flow::Snapshot(_)));
                unwanted.for_each(|(to, _)| out.emit(Event::ChunksUnwanted { to: *to }));
                if let Some(transfer) = leader.transfer.take() {
                    out.emit(Event::SteppedDown { ticket: transfer.ticket });
                }
                let mut tickets = leader.reads.take_local();
                tickets.extend(leader.proposals.drain(..).map(|(ticket, _)| ticket));
                tickets
            }
        };
        if !tickets.is_empty() {
            out.emit(Event::Dropped { tickets });
        }
    }

    /// Whether a leader was heard within the shortest election timeout, so that nobody needs another (thesis
    /// §4.2.3). A leader hears itself: it would have stepped down without a majority.
    pub(super) fn hears_a_leader(&self, now: Time) -> bool {
        self.config.check_quorum
            && !cfg!(mutant = "no_stickiness")
            && match &self.role {
                Role::Follower(follower) => {
                    follower.leader.is_some_and(|(_, heard)| now.since(heard) < *self.config.election_timeout.start())
                }
                Role::PreCandidate { .. } | Role::Candidate { .. } => false,
                Role::Leader(_) => true,
            }
    }

    fn set_hard_state(&mut self, hard_state: HardState, out: &mut Effects<Self>) {
        if hard_state != self.hard_state {
            self.hard_state = hard_state;
            if !cfg!(mutant = "vote_not_persisted") {
                out.persist(Record::HardState(hard_state));
            }
        }
    }
}
