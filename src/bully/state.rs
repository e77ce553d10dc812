//! A node's state, and what can be read of it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use super::config::{Config, ConfigError};
use super::message::{Promise, Reason, RoleName};
use super::types::{Id, Term};
use crate::protocol::Time;
use crate::quorum::{majority, reached_by_majority};

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bully {
    pub(super) config: Config,
    /// The latest promise (quorum only); on the disk before anybody hears of it.
    pub(super) promise: Option<Promise>,
    /// The highest term that this node has heard of.
    pub(super) seen: Term,
    pub(super) role: Role,
    pub(super) peers: BTreeMap<Id, Peer>,
    /// Until then it promises nothing: somebody may lead who relies on it (quorum only).
    pub(super) held_until: Time,
    /// Until then it does not stand: it listens first, or has resigned.
    pub(super) rests_until: Time,
    pub(super) counters: Counters,
}

/// What is known of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    /// When it was heard last; at first, since when this node listens.
    pub(super) heard: Time,
    pub(super) alive: bool,
}

/// A role with the data that only it has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// Follows a leader in its term, or waits for one. When it has waited long enough it stands, for `reason`.
    Follower { leader: Option<(Id, Term)>, reason: Reason },
    /// Has asked who is better. `asked` have not answered; `willing` are no obstacle.
    Candidate { reason: Reason, asked: BTreeSet<Id>, willing: BTreeSet<Id> },
    /// Has asked for promises of its term; each promise has the time of the question.
    Claimant { reason: Reason, promised: BTreeMap<Id, Time> },
    /// Leads; each follower has answered what was said at that time (quorum only).
    Leader { term: Term, reason: Reason, answered: BTreeMap<Id, Time> },
    /// Led, and waits for its command to end.
    Leaving { term: Term, reason: Reason },
}

/// What happened since the start, for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Elections begun by this node.
    pub elections: u64,
    /// Messages dropped because they came from a stranger or broke a rule.
    pub bad_messages: u64,
}

/// What is counted decides nothing: to a model checker, nodes that differ in it alone are the same.
impl Hash for Counters {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Bully {
    /// A node as it was when the last of `records` became durable: the highest term among them is its promise.
    ///
    /// # Errors
    /// Those of [`Config::validate`].
    pub fn recover(config: Config, records: impl IntoIterator<Item = Promise>) -> Result<Self, ConfigError> {
        config.validate()?;
        let promise = records.into_iter().max_by_key(|promise| promise.term);
        let unheard = Peer { heard: Time::ZERO, alive: false };
        let peers = config.peers.iter().map(|peer| (*peer, unheard)).collect();
        Ok(Self {
            seen: promise.map_or(Term(0), |promise| promise.term),
            promise,
            role: Role::Follower { leader: None, reason: Reason::Start },
            peers,
            held_until: Time::ZERO,
            rests_until: Time::ZERO,
            counters: Counters::default(),
            config,
        })
    }

    /// What it was configured with.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Its role.
    pub const fn role(&self) -> RoleName {
        match self.role {
            Role::Follower { .. } => RoleName::Follower,
            Role::Candidate { .. } | Role::Claimant { .. } => RoleName::Candidate,
            Role::Leader { .. } => RoleName::Leader,
            Role::Leaving { .. } => RoleName::Leaving,
        }
    }

    /// The term that it leads; else the newest that it holds to: with a quorum the one it has promised, without one the highest
    /// it has heard of.
    pub fn term(&self) -> Term {
        match self.role {
            Role::Leader { term, .. } | Role::Leaving { term, .. } => term,
            Role::Follower { .. } | Role::Candidate { .. } | Role::Claimant { .. } => {
                if self.config.quorum {
                    self.promise.map_or(Term(0), |promise| promise.term)
                } else {
                    self.seen
                }
            }
        }
    }

    /// The latest promise (quorum only).
    pub const fn promise(&self) -> Option<Promise> {
        self.promise
    }

    /// Who leads, as far as it knows.
    pub fn leader(&self) -> Option<Id> {
        match self.role {
            Role::Follower { leader, .. } => leader.map(|(leader, _)| leader),
            Role::Candidate { .. } | Role::Claimant { .. } | Role::Leaving { .. } => None,
            Role::Leader { .. } => Some(self.config.id),
        }
    }

    /// Every peer, and whether it was heard within a time-out.
    pub fn peers(&self) -> impl Iterator<Item = (Id, bool)> {
        self.peers.iter().map(|(id, peer)| (*id, peer.alive))
    }

    /// Until when it leads if nobody answers any more. `None` when it does not lead, and when no bound is needed: in the
    /// classic mode, and alone.
    pub fn leads_until(&self) -> Option<Time> {
        let Role::Leader { answered, .. } = &self.role else { return None };
        self.lease_end(answered)
    }

    /// What happened since the start.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The end of the lease of a leader whose words of these times were answered: a majority, with itself, relies on it until
    /// then.
    pub(super) fn lease_end(&self, answered: &BTreeMap<Id, Time>) -> Option<Time> {
        if !self.config.quorum || self.peers.is_empty() {
            return None;
        }
        let forever = Some(Time::after_epoch(std::time::Duration::MAX)); // it always hears itself
        let answers = self.peers.keys().map(|peer| answered.get(peer).copied());
        let spoke = reached_by_majority(answers.chain([forever])).flatten()?;
        Some(spoke + self.config.lease())
    }

    /// Whether so many peers and this node are a majority.
    pub(super) fn is_majority(&self, peers: usize) -> bool {
        peers + 1 >= majority(self.peers.len() + 1)
    }

    /// Whether `peer` is to lead rather than this node.
    pub(super) fn is_better(&self, peer: Id) -> bool {
        self.config.rule.prefers(peer, self.config.id)
    }

    /// Whether somebody may rely on this node as on a part of a leader's majority.
    pub(super) fn is_held(&self, now: Time) -> bool {
        self.config.quorum && now < self.held_until && !cfg!(mutant = "bully_promises_while_it_hears")
    }

    /// Whether it may stand for election.
    pub(super) fn may_stand(&self, now: Time) -> bool {
        now >= self.rests_until && !self.is_held(now)
    }

    /// Whether a peer was silent for a time-out.
    pub(super) fn is_silent(&self, now: Time, peer: &Peer) -> bool {
        now.since(peer.heard) >= self.config.timeout
    }
}
