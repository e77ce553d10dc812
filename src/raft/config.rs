//! What a node is configured with.

use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::time::Duration;

use thiserror::Error;

use super::configuration::Configuration;
use super::progress::Window;
use super::record::Incomplete;
use crate::defaults;
use crate::node_id::NodeId;

/// What a node is told once, at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// A number that no earlier start of this node had, drawn at random by the driver: an answer to a question of an
    /// earlier life must not be taken for one to this life's.
    pub boot_nonce: u64,
    /// The members when the cluster began, the same on every one of them. A node that joins later has no members.
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
    /// How long proposals wait to share a batch while earlier ones are on their way to a majority; with zero, not at all.
    pub batch_delay: Duration,
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
    Incomplete(#[from] Incomplete),
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
    pub fn new(id: NodeId, boot_nonce: u64, members: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            id,
            boot_nonce,
            initial: Configuration::of_voters(members),
            election_timeout: defaults::ELECTION_TIMEOUT,
            heartbeat: defaults::HEARTBEAT,
            pre_vote: true,
            check_quorum: true,
            max_append_bytes: defaults::MAX_APPEND_BYTES,
            window: Window { appends: defaults::APPEND_WINDOW, bytes: defaults::APPEND_WINDOW_BYTES },
            retained_bytes: defaults::RETAINED_BYTES,
            memory_bytes: defaults::LOG_MEMORY_BYTES,
            apply_batch: defaults::APPLY_BATCH,
            batch_delay: Duration::ZERO,
            note_commit: Duration::ZERO,
            disk_patience: defaults::DISK_PATIENCE,
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
