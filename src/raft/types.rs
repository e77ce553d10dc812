//! Names and numbers: ids, terms, indices, positions, entries.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use bytes::Bytes;
use thiserror::Error;

use super::configuration::{Configuration, Member};

/// Names a node: 1 to [`NodeId::MAX_LEN`] printable ASCII characters, none of them `=`, `,` or `/`.
///
/// It is the name the operator gave (`n1`, a host name), kept inline so that it can be copied like a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NodeId {
    len: u8,
    name: [u8; Self::MAX_LEN],
}

impl NodeId {
    /// The longest name, in bytes: that of a DNS label.
    pub const MAX_LEN: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.name[..usize::from(self.len)]).expect("a node id is ASCII")
    }

    /// `n1`, `n2`, ...: the names that simulated nodes have.
    pub fn numbered(number: usize) -> Self {
        format!("n{number}").parse().expect("n and a number is a node id")
    }
}

/// A name that cannot be a node id.
#[derive(Debug, Error)]
#[error(
    "'{0}' cannot name a node: use 1 to {max} printable ASCII characters without spaces, '=', ',' or '/'",
    max = NodeId::MAX_LEN
)]
pub struct InvalidNodeId(String);

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(text: &str) -> Result<Self, InvalidNodeId> {
        let fits = !text.is_empty() && text.len() <= Self::MAX_LEN;
        if !fits || !text.bytes().all(|b| b.is_ascii_graphic() && !b"=,/".contains(&b)) {
            return Err(InvalidNodeId(text.chars().take(80).collect::<String>().escape_debug().to_string()));
        }
        let mut name = [0; Self::MAX_LEN];
        name[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { len: text.len() as u8, name })
    }
}

impl PartialOrd for NodeId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NodeId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name.cmp(&other.name) // padded with zeros, which no name contains
    }
}

/// Leaves out the padding, most of the bytes: a model checker hashes little else than names.
impl Hash for NodeId {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.name[..usize::from(self.len)].hash(hasher);
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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
