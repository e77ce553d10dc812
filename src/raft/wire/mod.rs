//! Raft's messages and log records as bytes.
//!
//! A message is a tag and its fields, in the order of the type's declaration. Indices of an append's entries are not
//! sent: they follow `prev`. A record of entries carries the index of the first.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::configuration::{Configuration, Member, Refusal};
use super::message::{Append, AppendOutcome, Ballot, Body, InstallSnapshot, Message, Round};
use super::record::{Checkpoint, HardState, Record};
use super::types::{Entry, Index, Payload, Position, Term};
use crate::node_id::NodeId;
use crate::wire::{Wire, WireError, at_end, put_sized, take_bool, take_sized};

mod tag {
    //! The first byte of a message. What a node that hosts Raft says besides has tags of its own: 7, 8 and 12 are taken.
    pub(super) const REQUEST_VOTE: u8 = 1;
    pub(super) const VOTE: u8 = 2;
    pub(super) const APPEND: u8 = 3;
    pub(super) const APPENDED: u8 = 4;
    pub(super) const READ_INDEX: u8 = 5;
    pub(super) const READ_INDEX_IS: u8 = 6;
    pub(super) const INSTALL_SNAPSHOT: u8 = 9;
    pub(super) const INSTALLING: u8 = 10;
    pub(super) const TIMEOUT_NOW: u8 = 11;
    pub(super) const HEARTBEAT: u8 = 14;
    pub(super) const HEARTBEAT_REPLY: u8 = 15;
}

impl Wire for Message {
    fn encode(&self, out: &mut BytesMut) {
        let begin = |out: &mut BytesMut, tag| {
            out.put_u8(tag);
            out.put_u64(self.term.0);
        };
        match &self.body {
            Body::RequestVote { ballot, last, transfer } => {
                begin(out, tag::REQUEST_VOTE);
                out.put_u8(ballot_byte(*ballot));
                put_position(out, *last);
                out.put_u8(u8::from(*transfer));
            }
            Body::Vote { ballot, granted } => {
                begin(out, tag::VOTE);
                out.put_u8(ballot_byte(*ballot));
                out.put_u8(u8::from(*granted));
            }
            Body::Append(Append { prev, entries, commit, round }) => {
                begin(out, tag::APPEND);
                put_position(out, *prev);
                out.put_u64(commit.0);
                out.put_u64(round.0);
                put_entries(out, entries);
            }
            Body::Appended { round, outcome } => {
                begin(out, tag::APPENDED);
                out.put_u64(round.0);
                match outcome {
                    AppendOutcome::Matched(index) => {
                        out.put_u8(0);
                        out.put_u64(index.0);
                    }
                    AppendOutcome::Conflict { prev, first, term } => {
                        out.put_u8(if term.is_some() { 2 } else { 1 });
                        put_position(out, *prev);
                        out.put_u64(first.0);
                        if let Some(term) = term {
                            out.put_u64(term.0);
                        }
                    }
                }
            }
            Body::ReadIndex { question } => {
                begin(out, tag::READ_INDEX);
                out.put_u64(*question);
            }
            Body::ReadIndexIs { question, index } => {
                begin(out, tag::READ_INDEX_IS);
                out.put_u64(*question);
                out.put_u64(index.0);
            }
            Body::InstallSnapshot(InstallSnapshot { last, configuration, number, data, done }) => {
                begin(out, tag::INSTALL_SNAPSHOT);
                put_position(out, *last);
                put_configuration(out, configuration);
                out.put_u64(*number);
                put_sized(out, data);
                out.put_u8(u8::from(*done));
            }
            Body::Installing { last, next } => {
                begin(out, tag::INSTALLING);
                put_position(out, *last);
                out.put_u64(*next);
            }
            Body::TimeoutNow => begin(out, tag::TIMEOUT_NOW),
            Body::Heartbeat { round } => {
                begin(out, tag::HEARTBEAT);
                out.put_u64(round.0);
            }
            Body::HeartbeatReply { round } => {
                begin(out, tag::HEARTBEAT_REPLY);
                out.put_u64(round.0);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Self, WireError> {
        let from = &mut bytes;
        let tag = from.try_get_u8()?;
        let term = Term(from.try_get_u64()?);
        let body = match tag {
            tag::REQUEST_VOTE => {
                let (ballot, last) = (take_ballot(from)?, take_position(from)?);
                Body::RequestVote { ballot, last, transfer: take_bool(from)? }
            }
            tag::VOTE => Body::Vote { ballot: take_ballot(from)?, granted: take_bool(from)? },
            tag::APPEND => {
                let prev = take_position(from)?;
                let (commit, round) = (Index(from.try_get_u64()?), Round(from.try_get_u64()?));
                Body::Append(Append { prev, entries: take_entries(from, prev.index)?, commit, round })
            }
            tag::APPENDED => {
                let round = Round(from.try_get_u64()?);
                let outcome = match from.try_get_u8()? {
                    0 => AppendOutcome::Matched(Index(from.try_get_u64()?)),
                    kind @ (1 | 2) => AppendOutcome::Conflict {
                        prev: take_position(from)?,
                        first: Index(from.try_get_u64()?),
                        term: if kind == 2 { Some(Term(from.try_get_u64()?)) } else { None },
                    },
                    value => return Err(WireError::Unknown { what: "append outcome", value }),
                };
                Body::Appended { round, outcome }
            }
            tag::READ_INDEX => Body::ReadIndex { question: from.try_get_u64()? },
            tag::READ_INDEX_IS => {
                Body::ReadIndexIs { question: from.try_get_u64()?, index: Index(from.try_get_u64()?) }
            }
            tag::INSTALL_SNAPSHOT => Body::InstallSnapshot(InstallSnapshot {
                last: take_position(from)?,
                configuration: take_configuration(from)?,
                number: from.try_get_u64()?,
                data: take_sized(from)?,
                done: take_bool(from)?,
            }),
            tag::INSTALLING => Body::Installing { last: take_position(from)?, next: from.try_get_u64()? },
            tag::TIMEOUT_NOW => Body::TimeoutNow,
            tag::HEARTBEAT => Body::Heartbeat { round: Round(from.try_get_u64()?) },
            tag::HEARTBEAT_REPLY => Body::HeartbeatReply { round: Round(from.try_get_u64()?) },
            value => return Err(WireError::Unknown { what: "message", value }),
        };
        at_end(from)?;
        Ok(Self { term, body })
    }
}

mod kind {
    //! The first byte of a record.
    pub(super) const HARD_STATE: u8 = 1;
    pub(super) const APPEND: u8 = 2;
    pub(super) const SNAPSHOT_BEGIN: u8 = 3;
    pub(super) const SNAPSHOT_TAIL: u8 = 4;
    pub(super) const SNAPSHOT_CHUNK: u8 = 5;
    pub(super) const SNAPSHOT_END: u8 = 6;
    pub(super) const COMMITTED: u8 = 7;
}

impl Wire for Record {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::HardState(hard_state) => {
                out.put_u8(kind::HARD_STATE);
                put_hard_state(out, hard_state);
            }
            Self::Append(entries) => {
                out.put_u8(kind::APPEND);
                put_numbered_entries(out, entries);
            }
            Self::SnapshotBegin(Checkpoint { hard_state, last, configuration }) => {
                out.put_u8(kind::SNAPSHOT_BEGIN);
                put_position(out, *last);
                put_configuration(out, configuration);
                put_hard_state(out, hard_state);
            }
            Self::SnapshotTail(entries) => {
                out.put_u8(kind::SNAPSHOT_TAIL);
                put_numbered_entries(out, entries);
            }
            Self::SnapshotChunk(data) => {
                out.put_u8(kind::SNAPSHOT_CHUNK);
                out.put_slice(data);
            }
            Self::SnapshotEnd => out.put_u8(kind::SNAPSHOT_END),
            Self::Committed(index) => {
                out.put_u8(kind::COMMITTED);
                out.put_u64(index.0);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Self, WireError> {
        match bytes.try_get_u8()? {
            kind::HARD_STATE => Ok(Self::HardState(take_hard_state(bytes)?)),
            kind::APPEND => Ok(Self::Append(take_numbered_entries(bytes)?)),
            kind::SNAPSHOT_BEGIN => {
                let (last, configuration) = (take_position(&mut bytes)?, take_configuration(&mut bytes)?);
                Ok(Self::SnapshotBegin(Checkpoint { last, configuration, hard_state: take_hard_state(bytes)? }))
            }
            kind::SNAPSHOT_TAIL => Ok(Self::SnapshotTail(take_numbered_entries(bytes)?)),
            kind::SNAPSHOT_CHUNK => Ok(Self::SnapshotChunk(bytes)),
            kind::SNAPSHOT_END => {
                at_end(&bytes)?;
                Ok(Self::SnapshotEnd)
            }
            kind::COMMITTED => {
                let index = Index(bytes.try_get_u64()?);
                at_end(&bytes)?;
                Ok(Self::Committed(index))
            }
            value => Err(WireError::Unknown { what: "record", value }),
        }
    }
}

fn put_hard_state(out: &mut BytesMut, hard_state: &HardState) {
    out.put_u64(hard_state.current_term.0);
    out.put_slice(hard_state.voted_for.as_ref().map_or("", NodeId::as_str).as_bytes());
}

fn take_hard_state(mut bytes: Bytes) -> Result<HardState, WireError> {
    let current_term = Term(bytes.try_get_u64()?);
    let voted_for = if bytes.is_empty() { None } else { Some(node_id(&bytes)?) };
    Ok(HardState { current_term, voted_for })
}

fn put_numbered_entries(out: &mut BytesMut, entries: &[Entry]) {
    out.put_u64(entries.first().map_or(0, |entry| entry.position.index.0));
    put_entries(out, entries);
}

fn take_numbered_entries(mut bytes: Bytes) -> Result<Vec<Entry>, WireError> {
    let first = bytes.try_get_u64()?;
    let entries = take_entries(&mut bytes, Index(first).prev())?;
    if first == 0 && !entries.is_empty() {
        return Err(WireError::Bad("index"));
    }
    at_end(&bytes)?;
    Ok(entries)
}

const NOOP: u8 = 0;
const COMMAND: u8 = 1;
const CONFIGURATION: u8 = 2;

fn put_entries(out: &mut BytesMut, entries: &[Entry]) {
    out.reserve(4 + entries.iter().map(|entry| 13 + entry.payload.len()).sum::<usize>());
    out.put_u32(u32::try_from(entries.len()).expect("batches are far below 2^32 entries"));
    for entry in entries {
        out.put_u64(entry.position.term.0);
        match &entry.payload {
            Payload::Noop => out.put_u8(NOOP),
            Payload::Command(command) => {
                out.put_u8(COMMAND);
                put_sized(out, command);
            }
            Payload::Configuration(configuration) => {
                out.put_u8(CONFIGURATION);
                put_configuration(out, configuration);
            }
        }
    }
}

fn take_entries(from: &mut Bytes, before: Index) -> Result<Vec<Entry>, WireError> {
    let count = from.try_get_u32()? as usize;
    if count > from.len() / 9 {
        return Err(WireError::Truncated); // each entry takes at least nine bytes: no memory for a false count
    }
    let mut entries = Vec::with_capacity(count);
    let mut index = before;
    for _ in 0..count {
        index = Index(index.0.checked_add(1).ok_or(WireError::Bad("index"))?);
        let position = Position { term: Term(from.try_get_u64()?), index };
        let payload = match from.try_get_u8()? {
            NOOP => Payload::Noop,
            COMMAND => Payload::Command(take_sized(from)?),
            CONFIGURATION => Payload::Configuration(take_configuration(from)?),
            value => return Err(WireError::Unknown { what: "payload", value }),
        };
        entries.push(Entry { position, payload });
    }
    Ok(entries)
}

/// For each member its name, whether it votes, and its address.
fn put_configuration(out: &mut BytesMut, configuration: &Configuration) {
    out.put_u32(u32::try_from(configuration.members().len()).expect("clusters are far below 2^32 members"));
    for (id, member) in configuration.members() {
        put_sized(out, id.as_str().as_bytes());
        out.put_u8(u8::from(member.voter));
        put_sized(out, member.addr.as_bytes());
    }
}

fn take_configuration(from: &mut Bytes) -> Result<Configuration, WireError> {
    let count = from.try_get_u32()? as usize;
    let mut members = Vec::new();
    for _ in 0..count {
        let id = node_id(&take_sized(from)?)?;
        let voter = take_bool(from)?;
        let addr = String::from_utf8(take_sized(from)?.into()).map_err(|_| WireError::Bad("address"))?;
        if members.last().is_some_and(|(before, _)| *before >= id) {
            return Err(WireError::Bad("order of members"));
        }
        members.push((id, Member { voter, addr }));
    }
    Ok(members.into_iter().collect())
}

fn put_position(out: &mut BytesMut, position: Position) {
    out.put_u64(position.term.0);
    out.put_u64(position.index.0);
}

fn take_position(from: &mut Bytes) -> Result<Position, WireError> {
    Ok(Position { term: Term(from.try_get_u64()?), index: Index(from.try_get_u64()?) })
}

const fn ballot_byte(ballot: Ballot) -> u8 {
    match ballot {
        Ballot::PreVote => 0,
        Ballot::Vote => 1,
    }
}

fn take_ballot(from: &mut Bytes) -> Result<Ballot, WireError> {
    Ok(if take_bool(from)? { Ballot::Vote } else { Ballot::PreVote })
}

/// A node id.
///
/// # Errors
/// When they are none.
pub fn node_id(bytes: &[u8]) -> Result<NodeId, WireError> {
    std::str::from_utf8(bytes).ok().and_then(|name| name.parse().ok()).ok_or(WireError::Bad("node id"))
}

/// The byte that stands for a refusal.
pub const fn refusal_byte(why: Refusal) -> u8 {
    match why {
        Refusal::NotLeader => 0,
        Refusal::NotReady => 1,
        Refusal::ChangePending => 2,
        Refusal::AlreadyAMember => 3,
        Refusal::NotAMember => 4,
        Refusal::LastVoter => 5,
        Refusal::CannotLead => 6,
        Refusal::NotTakenOver => 7,
    }
}

/// The refusal that the next byte stands for.
///
/// # Errors
/// When it stands for none.
pub fn take_refusal(from: &mut Bytes) -> Result<Refusal, WireError> {
    Ok(match from.try_get_u8()? {
        0 => Refusal::NotLeader,
        1 => Refusal::NotReady,
        2 => Refusal::ChangePending,
        3 => Refusal::AlreadyAMember,
        4 => Refusal::NotAMember,
        5 => Refusal::LastVoter,
        6 => Refusal::CannotLead,
        7 => Refusal::NotTakenOver,
        value => return Err(WireError::Unknown { what: "refusal", value }),
    })
}

#[cfg(test)]
pub(crate) mod tests;
