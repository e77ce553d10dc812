//! What a node is told once, and which of it cannot work.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::time::Duration;

use thiserror::Error;

use super::types::{Id, Rule};
use crate::defaults::{BULLY_GRACE, BULLY_HEARTBEAT, BULLY_TIMEOUT};

/// What a node is told once, at its start. The times, the rule and the modes are the same on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub id: Id,
    /// All other nodes, living or not.
    pub peers: BTreeSet<Id>,
    /// Which id is the better one.
    pub rule: Rule,
    /// A leader needs a majority of durable promises, and goes on only while a majority hears it.
    pub quorum: bool,
    /// A better node that comes back does not take over.
    pub sticky: bool,
    /// How often a node says that it is there.
    pub heartbeat: Duration,
    /// Who is silent for so long is taken for dead.
    pub timeout: Duration,
    /// How long a leader's command may take to end.
    pub grace: Duration,
}

/// A configuration that cannot work.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Two nodes with one number are one too many.
    #[error("node {0} lists itself among its peers: every node needs an id of its own")]
    OwnPeer(Id),
    /// A node that never speaks is dead to all others.
    #[error("the heartbeat must be above zero, such as 500ms")]
    NoHeartbeat,
    /// A leader that is cut off could not end its command before another one leads.
    #[error(
        "the heartbeat ({heartbeat:?}) and the grace ({grace:?}) together must be shorter than the time-out ({timeout:?}), so \
         that a leader that is cut off has ended its command before another node leads: raise --timeout, or lower --grace \
         or --heartbeat"
    )]
    TimeoutTooShort {
        /// The heartbeat.
        heartbeat: Duration,
        /// The grace.
        grace: Duration,
        /// The time-out.
        timeout: Duration,
    },
}

/// A configuration never changes: to a model checker, the id stands for it.
impl Hash for Config {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.id.hash(hasher);
    }
}

impl Config {
    /// The classic algorithm with the usual times.
    pub fn new(id: Id, peers: impl IntoIterator<Item = Id>) -> Self {
        Self {
            id,
            peers: peers.into_iter().collect(),
            rule: Rule::Highest,
            quorum: false,
            sticky: false,
            heartbeat: BULLY_HEARTBEAT,
            timeout: BULLY_TIMEOUT,
            grace: BULLY_GRACE,
        }
    }

    /// Refuses what cannot work: see [`Config::lease`] for the reason of `heartbeat + grace < timeout`.
    ///
    /// # Errors
    /// Says which setting is wrong and how to mend it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Self { heartbeat, grace, timeout, .. } = *self;
        if self.peers.contains(&self.id) {
            return Err(ConfigError::OwnPeer(self.id));
        }
        if heartbeat.is_zero() {
            return Err(ConfigError::NoHeartbeat);
        }
        if heartbeat.saturating_add(grace) >= timeout {
            return Err(ConfigError::TimeoutTooShort { heartbeat, grace, timeout });
        }
        Ok(())
    }

    /// How long a leader may lead after it has said something that a majority has answered: `timeout - grace`. Then it steps
    /// down, and `grace` later its command is over: `timeout` after it spoke. Whoever has heard it promises nobody another
    /// term until [`Config::silence`] after that, which is longer. It is renewed every `heartbeat`, and must be longer.
    pub fn lease(&self) -> Duration {
        if cfg!(mutant = "bully_lease_without_grace") { self.timeout } else { self.timeout - self.grace }
    }

    /// How long a follower waits for its leader. The least is a tenth more than the time-out: for clocks of different speed,
    /// and for the moment that killing a process takes. The spread keeps followers from standing all at once.
    pub fn silence(&self) -> RangeInclusive<Duration> {
        self.timeout + self.margin()..=self.timeout + self.timeout / 4
    }

    /// How much longer others wait than they need to, if all clocks are right.
    pub fn margin(&self) -> Duration {
        self.timeout / 10
    }
}
