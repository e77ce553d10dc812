//! A node's state (Raft, Figure 2, "State"), and what is to be known of it.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::config::{Config, ConfigError};
use super::log::Log;
use super::message::{Body, Message, RoleName, Ticket, Timer};
use super::patience::Patience;
use super::progress::Progress;
use super::record::{HardState, Record, Recovery, Stored};
use super::role::{Follower, Role};
use super::types::{Index, Position, Term};
use crate::node_id::NodeId;
use crate::protocol::{Effects, Time};

/// One Raft node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raft {
    pub(super) config: Config,
    pub(super) hard_state: HardState,
    pub(super) log: Log,
    /// `last_applied <= commit_index <= log.last().index`.
    pub(super) commit_index: Index,
    /// What of it the records tell.
    pub(super) noted: Noted,
    /// The last entry that the application was told to apply, or that a snapshot gave it: `snapshot.index <= last_applied`.
    pub(super) last_applied: Index,
    /// The last entry that the latest whole snapshot replaces; the log may begin earlier.
    pub(super) snapshot: Position,
    /// A snapshot that is not whole yet.
    pub(super) incoming: Option<Incoming>,
    pub(super) role: Role,
    /// Reads that may go once their index has been applied.
    pub(super) pending_reads: Vec<(Index, Vec<Ticket>)>,
    /// Names the next question for a read index. It never starts again, not with a new leader either.
    pub(super) next_question: u64,
    pub(super) patience: Patience,
    pub(super) counters: Counters,
}

/// How much of the commit index is among the records, which need not have the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Noted {
    /// `through <= commit_index`.
    pub(super) through: Index,
    /// [`Timer::Note`] runs.
    pub(super) due: bool,
}

/// A snapshot that this node's disk is getting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Incoming {
    pub(super) last: Position,
    pub(super) source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// This node's own application.
    Own,
    /// The leader, which is to send this part next.
    Leader { next: u64 },
}

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
        let (Stored { hard_state, log }, commit_index) = recovery.finish()?;
        let snapshot = log.base();
        let role = Role::Follower(Follower::default());
        let (next_question, counters) = (config.boot_nonce, Counters::default());
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
            pending_reads: Vec::new(),
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

    /// The last entry that has been told ([`Event::Committed`](super::Event::Committed)).
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

    /// Whether its disk stands still, as far as anybody can tell from a disk that is always slow.
    pub fn disk_stands_still(&self, now: Time) -> bool {
        self.patience.disk_stands_still(now, self.config.disk_patience)
    }

    pub(super) const fn term(&self) -> Term {
        self.hard_state.current_term
    }

    /// How long a follower waits for its leader, and a candidate for votes, with its disk.
    pub(super) fn election_timeout(&self) -> RangeInclusive<Duration> {
        self.patience.election_timeout(&self.config.election_timeout)
    }

    /// Sends `body` in the current term.
    pub(super) fn send(&self, to: NodeId, body: Body, out: &mut Effects<Self>) {
        out.send(to, Message { term: self.term(), body });
    }

    /// Runs [`Timer::Flush`] as soon as everything queued has been stepped.
    pub(super) fn flush_soon(out: &mut Effects<Self>) {
        out.set_timer(Timer::Flush, Duration::ZERO..=Duration::ZERO);
    }

    /// A message that no correct peer sends: dropped and counted.
    pub(super) const fn bad_message(&mut self) {
        self.counters.bad_messages += 1;
    }
}
