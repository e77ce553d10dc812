//! Raft, as a pure state machine.
//!
//! Sources, cited at each rule: *Raft* is Ongaro and Ousterhout, "In Search of an Understandable Consensus
//! Algorithm" (extended version, 2014); *thesis* is Ongaro, "Consensus: Bridging Theory and Practice" (2014).
//!
//! The tour, in reading order:
//!
//! | Figure 2 | here |
//! |---|---|
//! | state: `currentTerm`, `votedFor`, `log[]` | [`record`], [`log`], folded by [`Raft::recover`] |
//! | state: `commitIndex`, `lastApplied`, `nextIndex[]`, `matchIndex[]` | [`Raft`], [`progress`] |
//! | AppendEntries RPC; rules for leaders | [`replication`](self) |
//! | RequestVote RPC; rules for followers and candidates | [`election`](self) |
//! | rules for all servers: terms, applying | [`Raft::step`], [`commit`](self) |
//! | (thesis §6.4) reads without writing the log | [`read_index`](self) |
//! | (Raft §7, Figure 13) snapshots, compaction, install | [`record`], [`snapshot`](self) |
//! | (thesis §4, §3.10) members, leadership transfer | [`configuration`], [`membership`](self), [`transfer`](self) |
//!
//! Beyond Figure 2: pre-vote (thesis §9.6), check-quorum (thesis §6.2), vote stickiness (thesis §4.2.3), conflict
//! back-off by term (Raft §5.3), pipelined appends with a window of appends and bytes (thesis §10.2.1), a leader's disk
//! written in parallel with its followers' (thesis §10.2.1), learners that are promoted when they have caught up
//! (thesis §4.2.1).
//!
//! Sessions (thesis §6.3) are the application's: see [`kv`](crate::kv).

#![warn(clippy::wildcard_enum_match_arm)] // inputs, messages and effects are matched exhaustively

use crate::node_id::NodeId;
use crate::protocol::{Effect, Effects, Input, Protocol, Time};

mod commit;
mod config;
pub mod configuration;
mod election;
pub mod invariants;
pub mod log;
mod membership;
mod message;
mod patience;
pub mod progress;
mod read_index;
mod reads;
pub mod record;
mod replication;
mod role;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod transfer;
mod types;
pub mod wire;

pub use config::{Config, ConfigError};
pub use configuration::{Change, Configuration, Member, Refusal};
pub use message::{
    Append, AppendOutcome, Ballot, Body, Command, Event, InstallSnapshot, Message, RoleName, Round, Ticket, Timer,
};
pub use record::{Checkpoint, HardState, Record, Recovered, Recovery};
pub use state::{Counters, Raft};
pub use types::{Entry, Index, Payload, Position, Term};

use role::Role;

/// No cluster holds so many elections while one node is away: a term further ahead is a mistake, and believing it would
/// use up the terms there are.
const MAX_TERM_JUMP: u64 = 1 << 32;

impl Raft {
    fn receive(&mut self, now: Time, from: NodeId, message: Message, out: &mut Effects<Self>) {
        // A peer need not be a member: its configuration may be newer than this node's (thesis §4.1).
        let Message { term, body } = message;
        if !self.is_plausible(from, term) {
            return self.bad_message();
        }
        let is_prevote =
            matches!(body, Body::RequestVote { ballot: Ballot::PreVote, .. }) && !cfg!(mutant = "pre_vote_raises_term");
        let is_prevote_grant = matches!(body, Body::Vote { ballot: Ballot::PreVote, granted: true });

        if matches!(body, Body::RequestVote { transfer: false, .. }) && self.hears_a_leader(now) {
            // Not even its term counts, lest a node that was cut off disrupt the others (thesis §4.2.3).
            return;
        }
        if term > self.term() && !is_prevote && !is_prevote_grant {
            // A newer term turns every role into a follower (Raft, Figure 2, all servers).
            self.become_follower(term, None, out);
        }
        if term < self.term() && !(cfg!(mutant = "old_leader_followed") && matches!(body, Body::Append(_))) {
            return self.answer_old_term(from, &body, out);
        }
        match body {
            Body::RequestVote { ballot, last, transfer: _ } => self.on_request_vote(from, term, ballot, last, out),
            Body::Vote { ballot, granted } => self.on_vote(now, from, term, ballot, granted, out),
            Body::Append(append) => self.on_append(now, from, append, out),
            Body::Appended { round, outcome } => self.on_appended(now, from, round, outcome, out),
            Body::ReadIndex { question } => self.on_read_index(from, question, out),
            Body::ReadIndexIs { question, index } => self.on_read_index_is(question, index, out),
            Body::InstallSnapshot(part) => self.on_install_snapshot(now, from, part, out),
            Body::Installing { last, next } => self.on_installing(now, from, last, next, out),
            Body::TimeoutNow => self.on_timeout_now(now, from, out),
            Body::Heartbeat { round } => self.on_leader_heartbeat(now, from, round, out),
            Body::HeartbeatReply { round } => self.on_heartbeat_reply(now, from, round, out),
        }
    }

    fn is_plausible(&self, from: NodeId, term: Term) -> bool {
        from != self.config.id && term.0.saturating_sub(self.term().0) <= MAX_TERM_JUMP
    }

    /// Whoever asks in an old term is told the new one, so that a stale leader or candidate stands down (Raft
    /// §5.1). Answers from an old term are of no use.
    fn answer_old_term(&self, from: NodeId, body: &Body, out: &mut Effects<Self>) {
        match body {
            Body::RequestVote { ballot, .. } => {
                self.send(from, Body::Vote { ballot: *ballot, granted: false }, out);
            }
            Body::Append(append) => {
                let outcome = self.conflict_at(append.prev);
                self.send(from, Body::Appended { round: Round::default(), outcome }, out);
            }
            Body::InstallSnapshot(part) => self.send(from, Body::Installing { last: part.last, next: 0 }, out),
            Body::Heartbeat { .. } => self.send(from, Body::HeartbeatReply { round: Round::default() }, out),
            Body::Vote { .. }
            | Body::Appended { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexIs { .. }
            | Body::Installing { .. }
            | Body::HeartbeatReply { .. }
            | Body::TimeoutNow => {}
        }
    }

    /// What is pending goes out as one batch.
    fn flush(&mut self, now: Time, out: &mut Effects<Self>) {
        match &self.role {
            Role::Leader(_) => self.replicate_batch(now, out),
            Role::Follower(_) => self.ask_read_index(now, out),
            Role::PreCandidate { .. } | Role::Candidate { .. } => {}
        }
    }
}

impl Protocol for Raft {
    type Peer = NodeId;
    type Message = Message;
    type Command = Command;
    type Timer = Timer;
    type Record = Record;
    type Event = Event;

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Effects<Self>) {
        let before = (self.role(), self.term(), self.leader());
        let members = self.log.configuration_position();
        match input {
            Input::Started => self.start(now, out),
            Input::Received { from, message } => self.receive(now, from, message, out),
            Input::Elapsed(Timer::Election) => self.on_election_timeout(now, out),
            Input::Elapsed(Timer::Heartbeat) => self.on_heartbeat(now, out),
            Input::Elapsed(Timer::Flush) => self.flush(now, out),
            Input::Elapsed(Timer::Apply) => self.apply(out),
            Input::Elapsed(Timer::Compact) => self.compact(out),
            Input::Elapsed(Timer::Note) => self.on_note(out),
            Input::Synced { took, more } => self.patience.synced(now, took, more),
            Input::Requested(Command::Propose { ticket, command }) => self.propose(ticket, command, out),
            Input::Requested(Command::Read { ticket }) => self.read(ticket, out),
            Input::Requested(Command::Change { ticket, change }) => self.change(now, ticket, change, out),
            Input::Requested(Command::Transfer { ticket, to }) => self.transfer(now, ticket, to, out),
            Input::Requested(Command::BeginSnapshot) => self.begin_snapshot(out),
            Input::Requested(Command::SnapshotChunk(data)) => self.snapshot_chunk(data, out),
            Input::Requested(Command::EndSnapshot) => self.end_snapshot(out),
            Input::Requested(Command::GiveUpInstall) => self.give_up_incoming(),
            Input::Requested(Command::OfferChunk { to, number, data, done }) => {
                self.offer_chunk(now, to, number, data, done, out);
            }
        }
        if members != self.log.configuration_position() {
            out.emit(Event::ConfigurationChanged(self.configuration().clone()));
        }
        let after = (self.role(), self.term(), self.leader());
        if before != after {
            let (role, term, leader) = after;
            out.emit(Event::RoleChanged { role, term, leader });
        }
        if out.as_slice().iter().any(|effect| matches!(effect, Effect::Persist(_))) {
            self.patience.record_given(now);
        }
        invariants::check_local(self);
    }

    fn record_bytes(record: &Record) -> usize {
        record.bytes()
    }
}
