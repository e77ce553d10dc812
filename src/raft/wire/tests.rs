//! Messages and records survive their encoding, and damaged ones are refused.

use proptest::prelude::*;

use super::*;

pub(crate) fn bytes() -> impl Strategy<Value = Bytes> {
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
        entries(prev.index)
            .prop_map(move |entries| Body::Append(Append { prev, entries, commit: Index(commit), round: Round(round) }))
    })
}

pub(crate) fn body() -> impl Strategy<Value = Body> {
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
        any::<u64>().prop_map(|round| Body::Heartbeat { round: Round(round) }),
        any::<u64>().prop_map(|round| Body::HeartbeatReply { round: Round(round) }),
        (ballot, any::<bool>()).prop_map(|(ballot, granted)| Body::Vote { ballot, granted }),
        append(),
        (any::<u64>(), outcome).prop_map(|(round, outcome)| Body::Appended { round: Round(round), outcome }),
        any::<u64>().prop_map(|question| Body::ReadIndex { question }),
        any::<(u64, u64)>().prop_map(|(question, index)| Body::ReadIndexIs { question, index: Index(index) }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (any::<u64>(), body()).prop_map(|(term, body)| Message { term: Term(term), body })
}

fn record() -> impl Strategy<Value = Record> {
    let hard_state = (any::<u64>(), proptest::option::of("[a-z0-9.:-]{1,63}")).prop_map(|(term, vote)| HardState {
        current_term: Term(term),
        voted_for: vote.map(|name| name.parse().unwrap()),
    });
    let checkpoint = (hard_state.clone(), position(), configuration()).prop_map(|(hard_state, last, configuration)| {
        Record::SnapshotBegin(Checkpoint { hard_state, last, configuration })
    });
    prop_oneof![
        hard_state.prop_map(Record::HardState),
        (0..u64::MAX / 2).prop_flat_map(|before| entries(Index(before))).prop_map(Record::Append),
        (0..u64::MAX / 2).prop_flat_map(|before| entries(Index(before))).prop_map(Record::SnapshotTail),
        checkpoint,
        bytes().prop_map(Record::SnapshotChunk),
        Just(Record::SnapshotEnd),
        any::<u64>().prop_map(|index| Record::Committed(Index(index))),
    ]
}

pub(crate) fn encoded(wire: &impl Wire) -> Bytes {
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
        prop_assert!(Message::decode(whole.slice(..cut)).is_err());
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
