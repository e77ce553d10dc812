//! Linearizable reads without writing the log (thesis §6.4): ReadIndex, on the leader and on followers.
//!
//! The leader notes its commit index, asks its followers whether it still leads, and once a majority has answered
//! that round, a read of everything up to that index is linearizable. One round serves all reads that wait. A
//! follower asks the leader for the index and serves the read itself as soon as it has committed that far.

use super::message::{Body, Event, Round, Ticket};
use super::reads::{Asked, Reader};
use super::role::Role;
use super::state::Raft;
use super::types::Index;
use crate::node_id::NodeId;
use crate::protocol::{Effects, Time};

impl Raft {
    /// Gathers a read for the next round.
    pub(super) fn read(&mut self, ticket: Ticket, out: &mut Effects<Self>) {
        match &mut self.role {
            Role::Leader(leader) => leader.reads.pending.push(Reader::Local(ticket)),
            Role::Follower(follower) if follower.leader.is_some() => follower.reads.pending.push(ticket),
            Role::Follower(_) | Role::PreCandidate { .. } | Role::Candidate { .. } => {
                return out.emit(Event::Dropped { tickets: vec![ticket] });
            }
        }
        Self::flush_soon(out);
    }

    /// A follower wants a read index.
    pub(super) fn on_read_index(&mut self, from: NodeId, question: u64, out: &mut Effects<Self>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.reads.pending.push(Reader::Follower { node: from, question });
            Self::flush_soon(out);
        }
    }

    /// Puts all pending reads into a new round. False when there is none, or when no entry of this term is
    /// committed yet: until then a new leader does not know what is committed (Raft §8).
    pub(super) fn open_read_round(&mut self) -> bool {
        let Role::Leader(leader) = &mut self.role else { return false };
        let reads = &mut leader.reads;
        let knows_commit = self.commit_index >= leader.first_of_term || cfg!(mutant = "read_before_first_commit");
        if reads.pending.is_empty() || !knows_commit {
            return false;
        }
        reads.round = Round(reads.round.0 + 1);
        reads.rounds.push_back((reads.round, self.commit_index, std::mem::take(&mut reads.pending)));
        true
    }

    /// Serves the rounds that a majority has answered.
    pub(super) fn confirm_reads(&mut self, out: &mut Effects<Self>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let reads = &mut leader.reads;
        if reads.rounds.is_empty() {
            return;
        }
        let round = |id| {
            if id == self.config.id {
                reads.round
            } else {
                leader.progress.get(&id).map_or(Round(0), |progress| progress.round)
            }
        };
        let confirmed = self.log.configuration().reached_by_majority(round).expect("a leader's cluster has voters");
        let mut followers = Vec::new();
        let confirmed = if cfg!(mutant = "read_without_majority") { reads.round } else { confirmed };
        while let Some((_, index, readers)) = reads.rounds.pop_front_if(|(round, _, _)| *round <= confirmed) {
            let mut local = Vec::new();
            for reader in readers {
                match reader {
                    Reader::Local(ticket) => local.push(ticket),
                    Reader::Follower { node, question } => followers.push((node, question, index)),
                }
            }
            if !local.is_empty() {
                self.pending_reads.push((index, local));
            }
        }
        self.serve_reads(out);
        for (node, question, index) in followers {
            self.send_empty_append(node, out); // tells the follower that the index is committed
            self.send(node, Body::ReadIndexIs { question, index }, out);
        }
    }

    /// A follower asks for one index for all its pending reads.
    pub(super) fn ask_read_index(&mut self, now: Time, out: &mut Effects<Self>) {
        let Role::Follower(follower) = &mut self.role else { return };
        let (Some((leader, _)), reads) = (follower.leader, &mut follower.reads) else { return };
        if reads.pending.is_empty() {
            return;
        }
        let question = self.next_question;
        self.next_question = question.wrapping_add(1);
        reads.asked.push_back(Asked { question, at: now, tickets: std::mem::take(&mut reads.pending) });
        self.send(leader, Body::ReadIndex { question }, out);
    }

    /// The leader has answered.
    pub(super) fn on_read_index_is(&mut self, question: u64, index: Index, out: &mut Effects<Self>) {
        let Role::Follower(follower) = &mut self.role else { return };
        let reads = &mut follower.reads;
        let Some(place) = reads.asked.iter().position(|asked| asked.question == question) else { return };
        let asked = reads.asked.remove(place).expect("it was found there");
        self.pending_reads.push((index, asked.tickets));
        self.serve_reads(out);
    }

    /// Serves the reads whose index has been applied. They outlive a change of role: their index stays right.
    pub(super) fn serve_reads(&mut self, out: &mut Effects<Self>) {
        for (_, tickets) in self
            .pending_reads
            .extract_if(.., |(index, _)| *index <= self.last_applied || cfg!(mutant = "follower_read_does_not_wait"))
        {
            out.emit(Event::ReadReady { tickets });
        }
    }

    /// Asks again for the reads whose question or answer must have been lost.
    pub(super) fn repeat_lost_questions(&mut self, now: Time, out: &mut Effects<Self>) {
        let Role::Follower(follower) = &mut self.role else { return };
        let reads = &mut follower.reads;
        let patience = *self.config.election_timeout.start();
        let lost = |asked: &mut Asked| now.since(asked.at) > patience;
        while let Some(asked) = reads.asked.pop_front_if(lost) {
            reads.pending.extend(asked.tickets);
            Self::flush_soon(out);
        }
    }
}
