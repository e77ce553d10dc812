//! The model's application: it keeps all it was told, so that it shows what was told wrongly.

use bytes::Bytes;
use netbelt::raft::{Entry, Payload, Position, Term};

use crate::node::fingerprint;

/// An entry that was applied, in sixteen bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Applied {
    term: u64,
    payload: u64,
}

impl Applied {
    pub(crate) fn of(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            Payload::Noop => 0,
            Payload::Command(bytes) => u64::from(bytes[0]) + 1,
            configuration @ Payload::Configuration(_) => fingerprint(configuration) | 1 << 63,
        };
        Self { term: entry.position.term.0, payload }
    }

    pub(crate) const fn is_a_proposal(self) -> bool {
        self.payload > 0 && self.payload < 1 << 63
    }

    pub(crate) const fn is_a_configuration(self) -> bool {
        self.payload >= 1 << 63
    }

    fn to_bytes(self) -> impl Iterator<Item = u8> {
        self.term.to_be_bytes().into_iter().chain(self.payload.to_be_bytes())
    }
}

/// Where the last of `applied` stands.
pub(crate) fn last(applied: &[Applied]) -> Option<Position> {
    let index = netbelt::raft::Index(applied.len() as u64);
    applied.last().map(|last| Position { term: Term(last.term), index })
}

/// A part of a snapshot, which has two.
pub(crate) fn part(applied: &[Applied], number: u64) -> (Bytes, bool) {
    let (first, second) = applied.split_at(applied.len() / 2);
    let part = if number == 0 { first } else { second };
    (part.iter().copied().flat_map(Applied::to_bytes).collect(), number > 0)
}

/// What the parts come to.
pub(crate) fn whole(parts: &[Bytes]) -> Vec<Applied> {
    let bytes: Vec<u8> = parts.iter().flatten().copied().collect();
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    bytes.chunks_exact(16).map(|one| Applied { term: number(&one[..8]), payload: number(&one[8..]) }).collect()
}
