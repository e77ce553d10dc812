//! What nodes tell each other of themselves before anything else.

use std::fmt;
use std::str::FromStr;

use super::{KnownPeers, RandomId, lock};
use crate::founding::Introduction;
use crate::net::identity::boot_history::{BootHistory, InvalidStarts, Start};

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
    pub proof: Option<Start>,
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
    type Err = InvalidStarts;

    fn from_str(text: &str) -> Result<Self, InvalidStarts> {
        let (incarnation, start) = match text.split_once(' ') {
            Some((incarnation, start)) => (incarnation, Some(start.parse().map_err(|_| InvalidStarts)?)),
            None => (text, None),
        };
        Ok(Self { incarnation: incarnation.parse().map_err(|_| InvalidStarts)?, start })
    }
}

impl Hello {
    /// Whether that start is in its past.
    pub fn proves(&self, start: Start) -> bool {
        self.starts.contain(start) || self.proof == Some(start)
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

impl KnownPeers {
    /// What this node says of itself to `peer`, which asks for that start.
    pub fn hello(&self, peer: &str, asked: Option<u64>) -> Hello {
        let book = self.book();
        let known = book.peers.get(peer).filter(|known| !known.removed);
        let starts = lock(&self.starts);
        Hello {
            cluster: book.cluster,
            incarnation: self.incarnation,
            starts: starts.latest_told(),
            proof: asked.and_then(|number| starts.of(number)),
            has_begun: Some(!self.is_new()),
            knows: known
                .map(|known| Known { incarnation: known.incarnation, start: known.start.map(|start| start.number) }),
        }
    }

    /// The start of this node by which whoever said that knows it, if it has to be told and can be.
    pub fn asked(&self, hello: &Hello) -> Option<u64> {
        let number = hello.knows.filter(|known| known.incarnation == self.incarnation)?.start?;
        let starts = lock(&self.starts);
        (starts.of(number).is_some() && starts.latest_told().of(number).is_none()).then_some(number)
    }

    /// A member says by which start it knows this node: what is older than all members know can be forgotten.
    pub(super) fn note_what_is_remembered(&self, peer: &str, hello: &Hello) {
        let mut remembered = lock(&self.remembered);
        let Some(said) = remembered.get_mut(peer) else { return };
        *said = match hello.knows {
            Some(known) if known.incarnation == self.incarnation => known.start,
            Some(_) | None => None,
        };
        let oldest = remembered.values().copied().min().flatten(); // None is less than any number
        if let Some(oldest) = oldest
            && self.stands_still().is_none()
            && let Err(why) = lock(&self.starts).forget_before(oldest, &self.dir)
        {
            tracing::debug!("the marks of old starts stay: {why}");
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
