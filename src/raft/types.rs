//! Names and numbers: ids, terms, indices, positions, entries.

use std::fmt;

use bytes::Bytes;

use super::configuration::{Configuration, Member};
use crate::node_id::NodeId;

/// A term: Raft's logical clock (Raft §5.1). Zero before the first election.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(pub u64);

impl Term {
    /// The term after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// An index into the log. The first entry has index 1; zero is the place before it (Raft, Figure 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Index(pub u64);

impl Index {
    /// The index after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The index before this one; zero has none before it and stays.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "i{}", self.0)
    }
}

/// Where an entry stands and when it was created: by the Log Matching Property (Raft §5.3) this names
/// the entry and every entry before it. Ordered as §5.4.1 compares logs: by term, then by index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The term in which a leader created it.
    pub term: Term,
    /// Its index.
    pub index: Index,
}

impl Position {
    /// The place before the first entry.
    pub const ORIGIN: Self = Self { term: Term(0), index: Index(0) };
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term.0, self.index.0)
    }
}

/// One entry of the log.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its term and index.
    pub position: Position,
    /// What it carries.
    pub payload: Payload,
}

impl Entry {
    /// About how many bytes it takes in a message or a record.
    pub fn size(&self) -> usize {
        16 + self.payload.len()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{:?}", self.position, self.payload)
    }
}

/// What an entry carries.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Nothing: a new leader's first entry, with which it learns what is committed (Raft §8).
    Noop,
    /// A command of the replicated state machine, which Raft does not look into.
    Command(Bytes),
    /// The members from here on (thesis §4.1).
    Configuration(Configuration),
}

impl Payload {
    /// Its size in bytes, for limits.
    pub fn len(&self) -> usize {
        match self {
            Self::Noop => 0,
            Self::Command(bytes) => bytes.len(),
            Self::Configuration(configuration) => {
                configuration.members().values().map(|member| NodeId::MAX_LEN + member.addr.len()).sum()
            }
        }
    }

    /// Whether it carries no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noop => f.write_str("noop"),
            Self::Command(bytes) => write!(f, "{bytes:?}"),
            Self::Configuration(configuration) => {
                let name = |(id, member): (&NodeId, &Member)| format!("{id}{}", if member.voter { "" } else { "?" });
                let names: Vec<_> = configuration.members().iter().map(name).collect();
                write!(f, "members {}", names.join(","))
            }
        }
    }
}
