//! The messages and the log records of a Raft key-value node.
//!
//! A message is a tag and its fields, in the order of the type's declaration. Indices of an append's entries are not
//! sent: they follow `prev`. A record of entries carries the index of the first.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Wire, WireError, at_end, take, take_sized};
use crate::kv::command::{Outcome, Versioned};
use crate::kv::raft_kv::{Forwarding, Message, RequestId};
use crate::raft::{
    self, Append, AppendOutcome, Ballot, Body, Checkpoint, Configuration, Entry, HardState, Index, InstallSnapshot,
    Member, NodeId, Payload, Position, Record, Round, Term,
};

mod tag {
    //! The first byte of a message.
    pub(super) const REQUEST_VOTE: u8 = 1;
    pub(super) const VOTE: u8 = 2;
    pub(super) const APPEND: u8 = 3;
    pub(super) const APPENDED: u8 = 4;
    pub(super) const READ_INDEX: u8 = 5;
    pub(super) const READ_INDEX_IS: u8 = 6;
    pub(super) const FORWARD: u8 = 7;
    pub(super) const FORWARDED: u8 = 8;
    pub(super) const INSTALL_SNAPSHOT: u8 = 9;
    pub(super) const INSTALLING: u8 = 10;
    pub(super) const TIMEOUT_NOW: u8 = 11;
}

impl Wire for Message {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Raft(message) => encode_raft(message, out),
            Self::Forward { id, term, command } => {
                out.put_u8(tag::FORWARD);
                out.put_u64(id.0);
                out.put_u64(term.0);
                out.put_slice(command);
            }
            Self::Forwarded { id, term, result } => {
                out.put_u8(tag::FORWARDED);
                out.put_u64(id.0);
                out.put_u64(term.0);
                encode_forwarding(result, out);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Self, WireError> {
        match bytes.try_get_u8()? {
            tag::FORWARD => {
                let (id, term) = (RequestId(bytes.try_get_u64()?), Term(bytes.try_get_u64()?));
                Ok(Self::Forward { id, term, command: bytes })
            }
            tag::FORWARDED => {
                let (id, term) = (RequestId(bytes.try_get_u64()?), Term(bytes.try_get_u64()?));
                let result = decode_forwarding(&mut bytes)?;
                at_end(&bytes)?;
                Ok(Self::Forwarded { id, term, result })
            }
            raft_tag => decode_raft(raft_tag, bytes).map(Self::Raft),
        }
    }
}

fn encode_raft(message: &raft::Message, out: &mut BytesMut) {
    let begin = |out: &mut BytesMut, tag| {
        out.put_u8(tag);
        out.put_u64(message.term.0);
    };
    match &message.body {
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
    }
}

fn decode_raft(tag: u8, mut bytes: Bytes) -> Result<raft::Message, WireError> {
    let from = &mut bytes;
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
        tag::READ_INDEX_IS => Body::ReadIndexIs { question: from.try_get_u64()?, index: Index(from.try_get_u64()?) },
        tag::INSTALL_SNAPSHOT => Body::InstallSnapshot(InstallSnapshot {
            last: take_position(from)?,
            configuration: take_configuration(from)?,
            number: from.try_get_u64()?,
            data: take_sized(from)?,
            done: take_bool(from)?,
        }),
        tag::INSTALLING => Body::Installing { last: take_position(from)?, next: from.try_get_u64()? },
        tag::TIMEOUT_NOW => Body::TimeoutNow,
        value => return Err(WireError::Unknown { what: "message", value }),
    };
    at_end(from)?;
    Ok(raft::Message { term, body })
}

fn encode_forwarding(result: &Forwarding, out: &mut BytesMut) {
    match result {
        Forwarding::NotLeader => out.put_u8(0),
        Forwarding::Overloaded => out.put_u8(1),
        Forwarding::Applied(Outcome::Set { version }) => {
            out.put_u8(2);
            out.put_u64(*version);
        }
        Forwarding::Applied(Outcome::Deleted { existed }) => {
            out.put_u8(3);
            out.put_u8(u8::from(*existed));
        }
        Forwarding::Applied(Outcome::ConditionFailed { current: None }) => out.put_u8(4),
        Forwarding::Applied(Outcome::ConditionFailed { current: Some(Versioned { value, version }) }) => {
            out.put_u8(5);
            out.put_u64(*version);
            put_sized(out, value);
        }
    }
}

fn decode_forwarding(from: &mut Bytes) -> Result<Forwarding, WireError> {
    Ok(Forwarding::Applied(match from.try_get_u8()? {
        0 => return Ok(Forwarding::NotLeader),
        1 => return Ok(Forwarding::Overloaded),
        2 => Outcome::Set { version: from.try_get_u64()? },
        3 => Outcome::Deleted { existed: take_bool(from)? },
        4 => Outcome::ConditionFailed { current: None },
        5 => {
            let version = from.try_get_u64()?;
            Outcome::ConditionFailed { current: Some(Versioned { version, value: take_sized(from)? }) }
        }
        value => return Err(WireError::Unknown { what: "forwarding result", value }),
    }))
}

mod kind {
    //! The first byte of a record.
    pub(super) const HARD_STATE: u8 = 1;
    pub(super) const APPEND: u8 = 2;
    pub(super) const SNAPSHOT_BEGIN: u8 = 3;
    pub(super) const SNAPSHOT_TAIL: u8 = 4;
    pub(super) const SNAPSHOT_CHUNK: u8 = 5;
    pub(super) const SNAPSHOT_END: u8 = 6;
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

fn node_id(bytes: &[u8]) -> Result<NodeId, WireError> {
    std::str::from_utf8(bytes).ok().and_then(|name| name.parse().ok()).ok_or(WireError::Bad("node id"))
}

fn put_position(out: &mut BytesMut, position: Position) {
    out.put_u64(position.term.0);
    out.put_u64(position.index.0);
}

fn take_position(from: &mut Bytes) -> Result<Position, WireError> {
    Ok(Position { term: Term(from.try_get_u64()?), index: Index(from.try_get_u64()?) })
}

fn put_sized(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).expect("values are far below 4 GiB"));
    out.put_slice(bytes);
}

fn take_bool(from: &mut Bytes) -> Result<bool, WireError> {
    match take(from, 1)?[0] {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(WireError::Unknown { what: "truth value", value }),
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn position() -> impl Strategy<Value = Position> {
        (any::<u64>(), 0..u64::MAX / 2).prop_map(|(term, index)| Position { term: Term(term), index: Index(index) })
    }

    fn entries(before: Index) -> impl Strategy<Value = Vec<Entry>> {
        let payload = prop_oneof![
            Just(Payload::Noop),
            bytes().prop_map(Payload::Command),
            configuration().prop_map(Payload::Configuration)
        ];
        proptest::collection::vec((any::<u64>(), payload), 0..5).prop_map(move |entries| {
            let numbered = entries.into_iter().zip(before.0 + 1..);
            numbered
                .map(|((term, payload), index)| Entry {
                    position: Position { term: Term(term), index: Index(index) },
                    payload,
                })
                .collect()
        })
    }

    fn configuration() -> impl Strategy<Value = Configuration> {
        let member = (any::<bool>(), "[a-z0-9.:]{0,20}").prop_map(|(voter, addr)| Member { voter, addr });
        proptest::collection::btree_map("[a-z0-9.:-]{1,63}", member, 0..4).prop_map(|members| {
            members.into_iter().map(|(name, member)| (name.parse::<NodeId>().unwrap(), member)).collect()
        })
    }

    fn install() -> impl Strategy<Value = Body> {
        (position(), configuration(), any::<u64>(), bytes(), any::<bool>()).prop_map(
            |(last, configuration, number, data, done)| {
                Body::InstallSnapshot(InstallSnapshot { last, configuration, number, data, done })
            },
        )
    }

    fn append() -> impl Strategy<Value = Body> {
        (position(), any::<u64>(), any::<u64>()).prop_flat_map(|(prev, commit, round)| {
            entries(prev.index).prop_map(move |entries| {
                Body::Append(Append { prev, entries, commit: Index(commit), round: Round(round) })
            })
        })
    }

    fn body() -> impl Strategy<Value = Body> {
        let ballot = prop_oneof![Just(Ballot::PreVote), Just(Ballot::Vote)].boxed();
        let outcome = prop_oneof![
            any::<u64>().prop_map(|index| AppendOutcome::Matched(Index(index))),
            (position(), any::<u64>(), any::<Option<u64>>()).prop_map(|(prev, first, term)| {
                AppendOutcome::Conflict { prev, first: Index(first), term: term.map(Term) }
            }),
        ];
        prop_oneof![
            (ballot.clone(), position(), any::<bool>()).prop_map(|(ballot, last, transfer)| Body::RequestVote {
                ballot,
                last,
                transfer
            }),
            install(),
            (position(), any::<u64>()).prop_map(|(last, next)| Body::Installing { last, next }),
            Just(Body::TimeoutNow),
            (ballot, any::<bool>()).prop_map(|(ballot, granted)| Body::Vote { ballot, granted }),
            append(),
            (any::<u64>(), outcome).prop_map(|(round, outcome)| Body::Appended { round: Round(round), outcome }),
            any::<u64>().prop_map(|question| Body::ReadIndex { question }),
            any::<(u64, u64)>().prop_map(|(question, index)| Body::ReadIndexIs { question, index: Index(index) }),
        ]
    }

    fn forwarding() -> impl Strategy<Value = Forwarding> {
        prop_oneof![
            Just(Forwarding::NotLeader),
            Just(Forwarding::Overloaded),
            any::<u64>().prop_map(|version| Forwarding::Applied(Outcome::Set { version })),
            any::<bool>().prop_map(|existed| Forwarding::Applied(Outcome::Deleted { existed })),
            proptest::option::of((bytes(), any::<u64>())).prop_map(|current| {
                let current = current.map(|(value, version)| Versioned { value, version });
                Forwarding::Applied(Outcome::ConditionFailed { current })
            }),
        ]
    }

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            (any::<u64>(), body()).prop_map(|(term, body)| Message::Raft(raft::Message { term: Term(term), body })),
            (any::<(u64, u64)>(), bytes()).prop_map(|((id, term), command)| Message::Forward {
                id: RequestId(id),
                term: Term(term),
                command
            }),
            (any::<(u64, u64)>(), forwarding()).prop_map(|((id, term), result)| Message::Forwarded {
                id: RequestId(id),
                term: Term(term),
                result
            }),
        ]
    }

    fn record() -> impl Strategy<Value = Record> {
        let hard_state = (any::<u64>(), proptest::option::of("[a-z0-9.:-]{1,63}")).prop_map(|(term, vote)| HardState {
            current_term: Term(term),
            voted_for: vote.map(|name| name.parse().unwrap()),
        });
        let checkpoint =
            (hard_state.clone(), position(), configuration()).prop_map(|(hard_state, last, configuration)| {
                Record::SnapshotBegin(Checkpoint { hard_state, last, configuration })
            });
        prop_oneof![
            hard_state.prop_map(Record::HardState),
            (0..u64::MAX / 2).prop_flat_map(|before| entries(Index(before))).prop_map(Record::Append),
            (0..u64::MAX / 2).prop_flat_map(|before| entries(Index(before))).prop_map(Record::SnapshotTail),
            checkpoint,
            bytes().prop_map(Record::SnapshotChunk),
            Just(Record::SnapshotEnd),
        ]
    }

    fn encoded(wire: &impl Wire) -> Bytes {
        let mut out = BytesMut::new();
        wire.encode(&mut out);
        out.freeze()
    }

    proptest! {
        #[test]
        fn a_message_survives_its_encoding(message in message()) {
            prop_assert_eq!(Message::decode(encoded(&message)), Ok(message));
        }

        #[test]
        fn a_record_survives_its_encoding(record in record()) {
            prop_assert_eq!(Record::decode(encoded(&record)), Ok(record));
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_decoded_without_panic(bytes in bytes()) {
            if let Ok(message) = Message::decode(bytes.clone()) {
                prop_assert_eq!(encoded(&message), bytes.clone());
            }
            let _ = Record::decode(bytes);
        }

        #[test]
        fn a_shortened_message_is_refused(message in message(), cut in any::<prop::sample::Index>()) {
            let whole = encoded(&message);
            let cut = cut.index(whole.len());
            // A forwarded command is whatever is left, so its end cannot be told.
            if !matches!(message, Message::Forward { .. }) {
                prop_assert!(Message::decode(whole.slice(..cut)).is_err());
            }
        }
    }

    #[test]
    fn a_false_count_of_entries_sets_no_memory_aside() {
        let mut bytes = BytesMut::new();
        bytes.put_u8(kind::APPEND);
        bytes.put_u64(1);
        bytes.put_u32(u32::MAX);
        assert_eq!(Record::decode(bytes.freeze()), Err(WireError::Truncated));
    }
}
