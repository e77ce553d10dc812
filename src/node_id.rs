//! The name of a node.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use thiserror::Error;

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
