//! What nodes tell each other of themselves before anything else.

use std::fmt;
use std::str::FromStr;

use crate::founding::Introduction;
use crate::net::identity::boot_history::{Boot, BootHistory, InvalidBootHistory};
use crate::net::identity::random_id::RandomId;

/// What a node tells another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster, once it is known.
    pub cluster: Option<RandomId>,
    /// The data directory.
    pub incarnation: RandomId,
    /// What became of it lately.
    pub starts: BootHistory,
    /// The start by which the other knows it, when the other has asked for that.
    pub proof: Option<Boot>,
    /// Whether it has begun. An older version cannot say, and begins at once.
    pub has_begun: Option<bool>,
    /// How it knows the one it speaks to.
    pub knows: Option<Known>,
}

/// How a node knows another. As text: `3c.. 17`, or `3c..` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The data directory.
    pub incarnation: RandomId,
    /// The number of the latest start it was told of.
    pub start: Option<u64>,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.incarnation)?;
        self.start.map_or(Ok(()), |start| write!(f, " {start}"))
    }
}

impl FromStr for Known {
    type Err = InvalidBootHistory;

    fn from_str(text: &str) -> Result<Self, InvalidBootHistory> {
        let (incarnation, start) = match text.split_once(' ') {
            Some((incarnation, start)) => (incarnation, Some(start.parse().map_err(|_| InvalidBootHistory)?)),
            None => (text, None),
        };
        Ok(Self { incarnation: incarnation.parse().map_err(|_| InvalidBootHistory)?, start })
    }
}

impl Hello {
    /// Whether that start is in its past.
    pub fn proves(&self, start: Boot) -> bool {
        self.starts.contains(start) || self.proof == Some(start)
    }

    /// Whether that start is so long ago that it is told only when asked for.
    pub fn may_prove(&self, start: u64) -> bool {
        self.proof.is_none() && self.starts.is_before_told(start)
    }

    pub(super) fn introduction(&self) -> Introduction {
        Introduction {
            incarnation: self.incarnation.0,
            has_begun: self.has_begun.unwrap_or(true),
            knows: self.knows.map(|known| known.incarnation.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_node_is_known_is_read_back_from_its_text_and_nothing_else_is() {
        for text in ["00000000000000aa", "00000000000000aa 17"] {
            assert_eq!(text.parse::<Known>().unwrap().to_string(), text);
        }
        for text in ["", "17", "00000000000000aa ", "00000000000000aa -1", "00000000000000aa 1 2", "00000000000000ax 1"]
        {
            assert!(text.parse::<Known>().is_err(), "{text}");
        }
    }
}
