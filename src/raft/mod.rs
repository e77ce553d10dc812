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
//! | rules for all servers: terms | [`Raft::step`] |
//! | (thesis §6.4) reads without writing the log | [`read_index`](self) |
//! | (Raft §7, Figure 13) snapshots, compaction, install | [`record`], [`snapshot`](self) |
//! | (thesis §4, §3.10) members, leadership transfer | [`configuration`], [`membership`](self) |
//!
//! Beyond Figure 2: pre-vote (thesis §9.6), check-quorum (thesis §6.2), vote stickiness (thesis §4.2.3), conflict
//! back-off by term (Raft §5.3), pipelined appends with a window of appends and bytes (thesis §10.2.1), a leader's disk
//! written in parallel with its followers' (thesis §10.2.1), learners that are promoted when they have caught up
//! (thesis §4.2.1).
//!
//! Sessions (thesis §6.3) are the application's: see [`kv`](crate::kv).

#![warn(clippy::wildcard_enum_match_arm)] // inputs, messages and effects are matched exhaustively

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::time::Duration;

use thiserror::Error;

use crate::defaults::APPLY_PAUSE;
use crate::node_id::NodeId;
use crate::protocol::{Effect, Effects, Input, Protocol, Time};

pub mod configuration;
mod election;
pub mod invariants;
pub mod log;
mod membership;
mod message;
mod patience;
pub mod progress;
mod read_index;
pub mod record;
mod replication;
mod snapshot;
#[cfg(test)]
mod tests;
mod types;
pub mod wire;

pub use configuration::{Change, Configuration, Member, Refusal};
pub use message::{
    Append, AppendOutcome, Ballot, Body, Command, Event, InstallSnapshot, Message, RoleName, Round, Ticket, Timer,
};
pub use record::{Checkpoint, HardState, Record, Recovered, Recovery};
pub use types::{Entry, Index, Payload, Position, Term};

use log::Log;
use membership::Handover;
use patience::Patience;
use progress::{Progress, Window};
use read_index::{FollowerReads, LeaderReads};
use snapshot::Incoming;

/// What a node is told once, at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// A number that no earlier start of this node had, drawn at random by the driver: an answer to a question of an
    /// earlier life must not be taken for one to this life's.
    pub life: u64,
    /// The members when the cluster began, the same on every one of them. A node that joins later has none.
    pub initial: Configuration,
    /// A follower that hears of no leader for a time drawn from here seeks election (Raft §5.2).
    pub election_timeout: RangeInclusive<Duration>,
    /// How often a leader speaks when it has nothing to say.
    pub heartbeat: Duration,
    /// Ask first whether an election could be won (thesis §9.6).
    pub pre_vote: bool,
    /// A leader that hears from no majority steps down (thesis §6.2), and nobody votes while he hears a leader
    /// (thesis §4.2.3): the second is only safe for availability with the first.
    pub check_quorum: bool,
    /// Bytes after which an append, or a record of entries, is full; one entry always fits.
    pub max_append_bytes: usize,
    /// What a follower may have unanswered.
    pub window: Window,
    /// Bytes of entries before a snapshot that are kept in memory for followers that are a little behind.
    pub retained_bytes: usize,
    /// Bytes of entries beyond which applied ones are forgotten although no snapshot replaces them: a follower that is
    /// further behind gets a snapshot. Those that followers are catching up with are kept.
    pub memory_bytes: usize,
    /// Entries applied in one step.
    pub apply_batch: u64,
    /// How long proposals are gathered while earlier ones are on their way to a majority; zero sends each batch at once.
    pub gather: Duration,
    /// How long after a commit it is noted among the records, if no append has taken the note along: what a node knows to be
    /// committed it then knows after a restart, too, without a majority. Zero notes nothing.
    pub note_commit: Duration,
    /// A leader whose disk has not finished a write for so long steps down, unless nobody else is there.
    pub disk_patience: Duration,
}

/// A configuration that cannot work.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// This node is not among the voters.
    #[error("node {0} is not among the members of its own cluster")]
    NotAMember(NodeId),
    /// The records are not those of a whole log.
    #[error("{0}")]
    Incomplete(#[from] record::Incomplete),
    /// Followers would time out between two heartbeats.
    #[error(
        "the heartbeat ({heartbeat:?}) must be at most half of the shortest election timeout ({election:?}), and above zero: \
         raise --election-timeout or lower --heartbeat"
    )]
    HeartbeatTooSlow {
        /// The heartbeat.
        heartbeat: Duration,
        /// The lower end of the election timeout.
        election: Duration,
    },
    /// Without spread, candidates collide for ever.
    #[error(
        "the election timeout must be a range, such as 150ms..300ms, so that candidates do not collide: {:?}..{:?} is none",
        .0.start(),
        .0.end()
    )]
    NoSpread(RangeInclusive<Duration>),
}

/// A configuration never changes: to a model checker, the name stands for it.
impl Hash for Config {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.id.hash(hasher);
    }
}

impl Config {
    /// The usual configuration of a member of a cluster.
    pub fn new(id: NodeId, life: u64, members: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            id,
            life,
            initial: Configuration::of_voters(members),
            election_timeout: crate::defaults::ELECTION_TIMEOUT,
            heartbeat: crate::defaults::HEARTBEAT,
            pre_vote: true,
            check_quorum: true,
            max_append_bytes: crate::defaults::MAX_APPEND_BYTES,
            window: Window { appends: crate::defaults::APPEND_WINDOW, bytes: crate::defaults::APPEND_WINDOW_BYTES },
            retained_bytes: crate::defaults::RETAINED_BYTES,
            memory_bytes: crate::defaults::LOG_MEMORY_BYTES,
            apply_batch: crate::defaults::APPLY_BATCH,
            gather: Duration::ZERO,
            note_commit: Duration::ZERO,
            disk_patience: crate::defaults::DISK_PATIENCE,
        }
    }

    /// Refuses what cannot work.
    ///
    /// # Errors
    /// Says which setting is wrong and how to mend it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !self.initial.members().is_empty() && !self.initial.contains(self.id) {
            return Err(ConfigError::NotAMember(self.id));
        }
        let shortest = *self.election_timeout.start();
        if self.heartbeat.is_zero() || self.heartbeat * 2 > shortest {
            return Err(ConfigError::HeartbeatTooSlow { heartbeat: self.heartbeat, election: shortest });
        }
        if *self.election_timeout.end() <= shortest {
            return Err(ConfigError::NoSpread(self.election_timeout.clone()));
        }
        Ok(())
    }
}

/// One Raft node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raft {
    config: Config,
    hard_state: HardState,
    log: Log,
    commit_index: Index,
    /// What of it the records tell.
    noted: Noted,
    /// The last entry that the application was told to apply, or that a snapshot gave it.
    last_applied: Index,
    /// The last entry that the latest whole snapshot replaces; the log may begin earlier.
    snapshot: Position,
    /// A snapshot that is not whole yet.
    incoming: Option<Incoming>,
    role: Role,
    /// Reads that may go once their index has been applied.
    behind: Vec<(Index, Vec<Ticket>)>,
    /// Names the next question for a read index. It never starts again, not with a new leader either.
    next_question: u64,
    patience: Patience,
    counters: Counters,
}

/// How much of the commit index is among the records, which need not have the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Noted {
    through: Index,
    /// [`Timer::Note`] runs.
    due: bool,
}

/// A role with the data that only it has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Role {
    Follower(Follower),
    PreCandidate { granted: BTreeSet<NodeId> },
    Candidate { granted: BTreeSet<NodeId> },
    Leader(Leader),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Follower {
    /// The leader of the current term and when it was last heard.
    leader: Option<(NodeId, Time)>,
    reads: FollowerReads,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Leader {
    progress: BTreeMap<NodeId, Progress>,
    /// The first entry of its term: once it is committed, the commit index is known to be right (Raft §8).
    first_of_term: Index,
    /// Proposals gathered for the next batch; they have no place in the log yet.
    proposals: Vec<(Ticket, bytes::Bytes)>,
    /// Since when they wait for earlier ones to be committed.
    gathering: Option<Time>,
    reads: LeaderReads,
    /// Another node is to lead.
    handover: Option<Handover>,
}

/// No cluster holds so many elections while one node is away: a term further ahead is a mistake, and believing it would
/// use up the terms there are.
const MAX_TERM_JUMP: u64 = 1 << 32;

/// What happened since the start, for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Elections started by this node (pre-votes not counted).
    pub elections: u64,
    /// Messages dropped because they came from a stranger or broke a rule.
    pub bad_messages: u64,
}

/// What is counted decides nothing: to a model checker, nodes that differ in it alone are the same.
impl Hash for Counters {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Raft {
    /// A node as it was when the last of `records` became durable: a fold over them, oldest first. What the application
    /// is to make of the parts of a snapshot among them, [`Recovery`] tells.
    ///
    /// # Errors
    /// Those of [`Config::validate`], and when the records are not those of a whole log.
    pub fn recover(config: Config, records: impl IntoIterator<Item = Record>) -> Result<Self, ConfigError> {
        let mut recovery = Recovery::new(config.initial.clone());
        for record in records {
            recovery.push(record);
        }
        Self::recovered(config, recovery)
    }

    /// The same, after a fold that the caller has made.
    ///
    /// # Errors
    /// Those of [`Raft::recover`].
    pub fn recovered(config: Config, recovery: Recovery) -> Result<Self, ConfigError> {
        config.validate()?;
        let (record::Stored { hard_state, log }, commit_index) = recovery.finish()?;
        let snapshot = log.base();
        let role = Role::Follower(Follower::default());
        let (next_question, counters) = (config.life, Counters::default());
        Ok(Self {
            config,
            hard_state,
            log,
            commit_index,
            noted: Noted { through: commit_index, due: false },
            last_applied: snapshot.index,
            snapshot,
            incoming: None,
            role,
            behind: Vec::new(),
            next_question,
            patience: Patience::default(),
            counters,
        })
    }

    /// What it was configured with.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Its term and vote.
    pub const fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Its log.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// The last entry known to be committed.
    pub const fn commit_index(&self) -> Index {
        self.commit_index
    }

    /// The last entry that has been told ([`Event::Committed`]).
    pub const fn last_applied(&self) -> Index {
        self.last_applied
    }

    /// The last entry that the latest whole snapshot replaces.
    pub const fn snapshot(&self) -> Position {
        self.snapshot
    }

    /// Its role.
    pub const fn role(&self) -> RoleName {
        match self.role {
            Role::Follower(_) => RoleName::Follower,
            Role::PreCandidate { .. } => RoleName::PreCandidate,
            Role::Candidate { .. } => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    /// The leader of its term, when it knows one.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader.map(|(leader, _)| leader),
            Role::PreCandidate { .. } | Role::Candidate { .. } => None,
            Role::Leader(_) => Some(self.config.id),
        }
    }

    /// What it knows of its followers, when it leads.
    pub const fn progress(&self) -> Option<&BTreeMap<NodeId, Progress>> {
        match &self.role {
            Role::Leader(leader) => Some(&leader.progress),
            Role::Follower(_) | Role::PreCandidate { .. } | Role::Candidate { .. } => None,
        }
    }

    /// What happened since the start.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// About how many bytes of its log are not committed.
    pub fn uncommitted_bytes(&self) -> u64 {
        let entries = self.log.len() as u64;
        let uncommitted = self.log.last().index.0 - self.commit_index.0;
        (self.log.bytes() as u64 * uncommitted.min(entries)).checked_div(entries).unwrap_or(0)
    }

    const fn term(&self) -> Term {
        self.hard_state.current_term
    }

    /// Sends `body` in the current term.
    fn send(&self, to: NodeId, body: Body, out: &mut Effects<Self>) {
        out.send(to, Message { term: self.term(), body });
    }

    /// A message that no correct peer sends: dropped and counted.
    const fn bad_message(&mut self) {
        self.counters.bad_messages += 1;
    }

    fn receive(&mut self, now: Time, from: NodeId, message: Message, out: &mut Effects<Self>) {
        // A peer need not be a member: its configuration may be newer than this node's (thesis §4.1).
        let Message { term, body } = message;
        if !self.may_be_sane(from, term) {
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

    fn may_be_sane(&self, from: NodeId, term: Term) -> bool {
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

    /// Moves the commit index and tells what is committed now.
    fn commit_through(&mut self, index: Index, out: &mut Effects<Self>) {
        if index > self.commit_index {
            self.commit_index = index;
            self.note_soon(out);
            self.apply(out);
        }
    }

    fn note_soon(&mut self, out: &mut Effects<Self>) {
        if !self.config.note_commit.is_zero() && !self.noted.due && self.noted.through < self.commit_index {
            self.noted.due = true;
            out.set_timer(Timer::Note, self.config.note_commit..=self.config.note_commit);
        }
    }

    /// The next append takes along what is committed by now: that costs no write of its own.
    fn persist_append(&mut self, entries: Vec<Entry>, out: &mut Effects<Self>) {
        if !self.config.note_commit.is_zero() {
            self.note_commit(out);
        }
        out.persist(Record::Append(entries));
    }

    fn note_commit(&mut self, out: &mut Effects<Self>) {
        if self.commit_index > self.noted.through {
            self.noted.through = self.commit_index;
            out.persist(Record::Committed(self.commit_index));
        }
    }

    fn on_note(&mut self, out: &mut Effects<Self>) {
        self.noted.due = false;
        self.note_commit(out);
    }

    /// Tells what is committed (Raft, Figure 2, all servers), a part at a time: after a restart the whole log is
    /// committed at once, and a node that spoke to nobody while it applies it would be taken for dead.
    fn apply(&mut self, out: &mut Effects<Self>) {
        let through = self.commit_index.min(Index(self.last_applied.0 + self.config.apply_batch));
        if through > self.last_applied {
            out.emit(Event::Committed(self.log.between(self.last_applied, through)));
            self.last_applied = through;
        }
        self.trim();
        if self.last_applied < self.commit_index {
            out.set_timer(Timer::Apply, APPLY_PAUSE..=APPLY_PAUSE);
        }
        self.serve_reads(out);
    }

    /// What was gathered goes out as one batch.
    fn flush(&mut self, now: Time, out: &mut Effects<Self>) {
        match &self.role {
            Role::Leader(_) => self.replicate_batch(now, out),
            Role::Follower(_) => self.ask_read_index(now, out),
            Role::PreCandidate { .. } | Role::Candidate { .. } => {}
        }
    }
}

/// Runs [`Timer::Flush`] as soon as everything queued has been stepped.
fn flush_soon(out: &mut Effects<Raft>) {
    out.set_timer(Timer::Flush, Duration::ZERO..=Duration::ZERO);
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
            self.patience.given(now);
        }
        invariants::check_local(self);
    }

    fn record_bytes(record: &Record) -> usize {
        record.bytes()
    }
}
