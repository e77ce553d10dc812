//! The state, its views and its snapshots, under arbitrary writes.

use bytes::Bytes;
use proptest::prelude::*;

use super::command::{Condition, Operation, Outcome, SessionId, SessionRequest};
use super::forgotten::Forgotten;
use super::restore::Restorer;
use super::sessions::Sessions;
use super::snapshot::{FORMAT, SnapshotError};
use super::state::State;
use super::store::Store;
use super::view::ViewId;
use crate::defaults::{CHUNK_BYTES, FORGOTTEN_GENERATION, FORGOTTEN_GENERATIONS, MAX_CLIENTS};

fn set(key: &str, value: &str) -> Operation {
    Operation::Set { key: Bytes::from(key.to_owned()), value: Bytes::from(value.to_owned()), condition: None }
}

fn named(client: &str, sequence: u64, operation: Operation) -> SessionRequest {
    SessionRequest { session: Some(SessionId { client: Bytes::from(client.to_owned()), sequence }), operation }
}

fn chunks(state: &mut State, view: ViewId) -> Vec<Bytes> {
    std::iter::from_fn(|| state.next_chunk(view)).collect()
}

fn snapshot(state: &mut State) -> Vec<Bytes> {
    let view = state.open_view();
    let chunks = chunks(state, view);
    state.close_view(view);
    chunks
}

fn restore(chunks: impl IntoIterator<Item = Bytes>) -> Result<State, SnapshotError> {
    let mut restorer = Restorer::default();
    for chunk in chunks {
        restorer.push(chunk)?;
    }
    restorer.finish()
}

/// Requests about few keys and clients, so that they meet; values are large at times, so that there are several chunks.
fn request() -> impl Strategy<Value = SessionRequest> {
    let condition = proptest::option::weighted(
        0.3,
        prop_oneof![
            Just(Condition::Absent),
            (0u8..4).prop_map(|value| Condition::Value(Bytes::from(vec![value; 3]))),
            (0u64..40).prop_map(Condition::Version),
        ],
    );
    let key = (0u8..30).prop_map(|key| Bytes::from(format!("k{key}")));
    let value = prop_oneof![
        (0u8..4).prop_map(|value| Bytes::from(vec![value; 3])),
        (0u8..4).prop_map(|value| Bytes::from(vec![value; CHUNK_BYTES / 3])),
    ];
    let command = prop_oneof![
        6 => (key.clone(), value, condition.clone()).prop_map(|(key, value, condition)| Operation::Set { key, value, condition }),
        3 => (key, condition).prop_map(|(key, condition)| Operation::Delete { key, condition }),
        1 => any::<(u64, bool)>().prop_map(|(cluster, keep_forgotten)| Operation::InitCluster { cluster, keep_forgotten }),
    ];
    let session = proptest::option::of((0u8..3, 0u64..20));
    (session, command).prop_map(|(session, command)| match session {
        Some((client, sequence)) => named(&format!("c{client}"), sequence, command),
        None => SessionRequest::once(command),
    })
}

fn requests(max: usize) -> impl Strategy<Value = Vec<SessionRequest>> {
    proptest::collection::vec(request(), 0..max)
}

fn state_after(requests: Vec<SessionRequest>) -> State {
    let mut state = State::default();
    for request in requests {
        state.apply(request);
    }
    state
}

proptest! {
    #[test]
    fn a_view_is_the_state_at_its_opening_whatever_is_written_while_it_is_read(
        before in requests(60),
        during in proptest::collection::vec((request(), any::<bool>(), any::<bool>()), 0..100),
    ) {
        let mut state = state_after(before);
        let frozen = state.clone();
        let expected = snapshot(&mut frozen.clone());
        let view = state.open_view();
        let mut read = Vec::new();
        let mut later = None;
        for (request, read_on, open_another) in during {
            if read_on {
                read.extend(state.next_chunk(view));
            }
            if open_another && later.is_none() {
                later = Some((state.open_view(), state.clone()));
            }
            state.apply(request);
        }
        read.extend(chunks(&mut state, view));
        prop_assert_eq!(&read, &expected, "the same state makes the same chunks");
        prop_assert_eq!(restore(read).unwrap(), frozen);
        if let Some((view, then)) = later {
            prop_assert_eq!(restore(chunks(&mut state, view)).unwrap(), then);
        }
    }

    #[test]
    fn a_restored_state_answers_every_further_request_as_the_original(before in requests(60), after in requests(40)) {
        let mut state = state_after(before);
        let mut restored = restore(snapshot(&mut state)).unwrap();
        for request in after {
            prop_assert_eq!(restored.apply(request.clone()), state.apply(request));
        }
        prop_assert_eq!(restored, state);
    }

    #[test]
    fn a_request_that_is_sent_again_any_time_changes_nothing(
        requests in proptest::collection::vec((0u8..30, 0u64..8, any::<bool>()), 1..30),
    ) {
        // Eight numbers: as many as are remembered.
        let mut state = State::default();
        let (mut first, mut applied) = (std::collections::BTreeMap::new(), Vec::new());
        for (key, sequence, conditional) in requests {
            let condition = conditional.then_some(Condition::Absent);
            let command = Operation::Set { key: Bytes::from(vec![key]), value: Bytes::from(vec![key]), condition };
            let request = first.entry(sequence).or_insert_with(|| named("c", sequence, command)).clone();
            let again = applied.iter().find(|(then, _)| *then == request).map(|(_, outcome): &(_, Outcome)| outcome.clone());
            let version = state.store().version();
            let (outcome, change) = state.apply(request.clone());
            match again {
                None => applied.push((request, outcome)),
                Some(then) => {
                    prop_assert!(change.is_none() && state.store().version() == version);
                    let failed = matches!(then, Outcome::ConditionFailed { .. });
                    let fails = matches!(outcome, Outcome::ConditionFailed { .. } | Outcome::FailedEarlier);
                    prop_assert!(outcome == then || (failed && fails), "{:?} became {:?}", then, outcome);
                }
            }
        }
    }

    #[test]
    fn a_snapshot_that_lacks_its_end_is_refused(before in requests(30), cut in any::<prop::sample::Index>()) {
        let chunks = snapshot(&mut state_after(before));
        let whole: Vec<u8> = chunks.concat();
        let cut = cut.index(whole.len());
        prop_assert!(restore([Bytes::from(whole[..cut].to_vec())]).is_err());
        prop_assert!(restore(chunks[..chunks.len() - 1].iter().cloned()).is_err());
        let longer = [&whole[..], &[0]].concat();
        prop_assert_eq!(restore([Bytes::from(longer)]), Err(SnapshotError::TooLong(1)));
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_canonical(
        before in requests(6),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..3),
    ) {
        let mut bytes = snapshot(&mut state_after(before)).concat();
        for (place, value) in changes {
            let place = place.index(bytes.len().min(400));
            bytes[place] = value;
        }
        if let Ok(mut state) = restore([Bytes::from(bytes.clone())]) {
            prop_assert_eq!(snapshot(&mut state).concat(), bytes);
        }
    }
}

#[test]
fn a_condition_that_failed_once_does_not_hold_for_a_late_copy_of_the_request() {
    let mut state = State::default();
    let if_red = Some(Condition::Value(Bytes::from_static(b"red")));
    let command =
        Operation::Set { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"blue"), condition: if_red };
    state.apply(SessionRequest::once(set("k", "green")));
    let failed = Outcome::ConditionFailed { current: state.store().get(b"k").cloned() };
    assert_eq!(state.apply(named("c", 1, command.clone())).0, failed);
    state.apply(SessionRequest::once(set("k", "red")));
    assert_eq!(state.apply(named("c", 1, command)).0, Outcome::FailedEarlier);
    assert_eq!(state.store().get(b"k").unwrap().value, "red", "the client was told that nothing was done");
}

/// A state that has forgotten the clients `names` gives, in this order.
fn forgetful(names: impl IntoIterator<Item = String>) -> State {
    let mut state = State::default();
    state.apply(SessionRequest::once(Operation::InitCluster { cluster: 1, keep_forgotten: true }));
    let others = (0..MAX_CLIENTS).map(|number| format!("other-{number}"));
    for name in names.into_iter().chain(others) {
        assert_eq!(state.apply(named(&name, 1, set("k", "old"))).0, Outcome::Set { version: state.store().version() });
    }
    state
}

#[test]
fn a_request_of_a_client_that_was_forgotten_does_not_run_again_over_a_newer_value() {
    let mut state = forgetful(["plain".to_owned(), "versioned;since=0".to_owned()]);
    state.apply(SessionRequest::once(set("k", "new")));
    let (chunks, version) = (snapshot(&mut state), state.store().version());
    for mut state in [restore(chunks).unwrap(), state] {
        for name in ["plain", "versioned;since=0", "another;since=0"] {
            assert_eq!(state.apply(named(name, 1, set("k", "old"))), (Outcome::NameForgotten, None), "{name}");
            assert_eq!(state.apply(named(name, 2, set("k", "old"))), (Outcome::NameForgotten, None), "{name}");
        }
        assert_eq!(state.store().get(b"k").unwrap().value, "new");
        assert!(
            matches!(state.apply(named("other-0", 1, set("k", "old"))).0, Outcome::Set { version: 3 }),
            "remembered"
        );
        let (outcome, _) = state.apply(named(&format!("later;since={version}"), 1, set("k", "later")));
        assert_eq!(outcome, Outcome::Set { version: version + 1 });
    }
}

#[test]
fn clients_that_only_fail_are_forgotten_without_keeping_new_ones_out() {
    let mut state = State::default();
    state.apply(SessionRequest::once(Operation::InitCluster { cluster: 1, keep_forgotten: true }));
    state.apply(SessionRequest::once(set("lock", "somebody")));
    let take = || Operation::Set {
        key: Bytes::from_static(b"lock"),
        value: Bytes::from_static(b"me"),
        condition: Some(Condition::Absent),
    };
    for number in 0..=MAX_CLIENTS {
        let (outcome, _) = state.apply(named(&format!("{number};since=1"), 1, take()));
        assert!(matches!(outcome, Outcome::ConditionFailed { .. }), "{number}: {outcome:?}");
    }
    assert_eq!(state.apply(named("0;since=1", 1, take())).0, Outcome::NameForgotten);
    assert!(matches!(state.apply(named("new;since=1", 1, take())).0, Outcome::ConditionFailed { .. }));
}

/// What an older netbelt wrote is read, and does what it did there: some nodes may still run it.
#[test]
fn until_the_cluster_says_so_forgotten_names_are_not_kept_and_snapshots_are_of_the_old_format() {
    let mut state = State::default();
    state.apply(SessionRequest::once(Operation::InitCluster { cluster: 1, keep_forgotten: false }));
    for number in 0..=MAX_CLIENTS {
        state.apply(named(&number.to_string(), 1, set("k", "old")));
    }
    let chunks = snapshot(&mut state);
    assert_eq!(chunks[0][0], 1);
    let mut restored = restore(chunks).unwrap();
    assert_eq!(restored, state);
    let found = Operation::InitCluster { cluster: 2, keep_forgotten: true };
    assert_eq!(restored.apply(SessionRequest::once(found)).0, Outcome::ClusterInitialized { cluster: 1 });
    assert_eq!(snapshot(&mut restored)[0][0], FORMAT);
    assert!(matches!(restored.apply(named("0", 1, set("k", "old"))).0, Outcome::Set { .. }), "nobody kept its name");
    assert_eq!(restored.apply(named("1", 1, set("k", "old"))).0, Outcome::NameForgotten, "it had to go for 0");
    assert!(
        matches!(state.apply(named("1", 1, set("k", "old"))).0, Outcome::Set { version: 2 }),
        "here it is remembered"
    );
}

#[test]
fn a_name_that_is_used_for_another_command_is_refused() {
    let mut state = State::default();
    state.apply(named("c", 1, set("k", "1")));
    assert_eq!(state.apply(named("c", 1, set("k", "2"))), (Outcome::NameTaken, None));
    assert_eq!(state.store().get(b"k").unwrap().value, "1");
}

/// A deletion whose checksum is that of `wanted`: CRC-32 is linear, so four bytes of the key can be solved for.
fn deletion_with(wanted: u32) -> Operation {
    let deletion = |end: u32| {
        let key = [b"k".as_slice(), &end.to_be_bytes()].concat();
        Operation::Delete { key: Bytes::from(key), condition: None }
    };
    let base = deletion(0).checksum();
    let mut rows: Vec<(u32, u32)> = Vec::new();
    for bit in (0..32).map(|bit| 1u32 << bit) {
        let mut row = (deletion(bit).checksum() ^ base, bit);
        for other in &rows {
            if row.0 & (1 << other.0.ilog2()) != 0 {
                row = (row.0 ^ other.0, row.1 ^ other.1);
            }
        }
        if row.0 != 0 {
            rows.push(row);
            rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.0));
        }
    }
    let (left, end) = rows.iter().fold((wanted ^ base, 0), |(left, end), row| {
        if left & (1 << row.0.ilog2()) != 0 { (left ^ row.0, end ^ row.1) } else { (left, end) }
    });
    assert_eq!(left, 0, "each checksum can be reached");
    deletion(end)
}

/// Its answer was that of the other kind of request, which whoever had asked took for impossible and panicked.
#[test]
fn a_name_that_is_used_for_another_kind_of_command_is_refused_even_if_their_checksums_are_the_same() {
    let mut state = State::default();
    let first = set("k", "1");
    let deletion = deletion_with(first.checksum());
    assert_eq!(deletion.checksum(), first.checksum());
    state.apply(named("c", 1, first));
    assert_eq!(state.apply(named("c", 1, deletion)), (Outcome::NameTaken, None));
}

#[test]
fn a_snapshot_of_a_newer_format_is_refused_naming_both() {
    let mut bytes = snapshot(&mut State::default()).concat();
    bytes[0] = FORMAT + 1;
    let error = restore([Bytes::from(bytes)]).unwrap_err();
    assert_eq!(error, SnapshotError::Format(FORMAT + 1));
    assert!(error.to_string().contains("format 3") && error.to_string().contains("format 2"), "{error}");
}

#[test]
fn a_header_that_promises_more_than_comes_takes_no_memory() {
    let mut bytes = snapshot(&mut State::default()).concat();
    let keys = bytes.len() - 13; // what follows is of forgotten names
    bytes[keys..keys + 8].fill(0xff);
    assert_eq!(restore([Bytes::from(bytes)]), Err(SnapshotError::Incomplete { keys: 0, all: u64::MAX }));
}

#[test]
fn chunks_are_of_the_size_they_should_be_and_a_closed_view_has_none() {
    let mut state = State::default();
    for key in 0..4000 {
        state.apply(SessionRequest::once(set(&format!("key {key}"), &"x".repeat(256))));
    }
    let view = state.open_view();
    let sizes: Vec<_> = chunks(&mut state, view).iter().map(Bytes::len).collect();
    let (last, others) = sizes[1..].split_last().unwrap();
    assert!(others.iter().all(|size| (CHUNK_BYTES..CHUNK_BYTES + 300).contains(size)), "{sizes:?}");
    assert!(*last < CHUNK_BYTES + 300 && others.len() == 4, "{sizes:?}");
    let view = state.open_view();
    state.close_view(view);
    assert_eq!((state.next_chunk(view), state.open_views()), (None, 1));
}

#[test]
fn forgotten_names_of_every_generation_come_back_from_a_snapshot() {
    let mut forgotten = Forgotten::default();
    let names = FORGOTTEN_GENERATION * (FORGOTTEN_GENERATIONS + 1) + 70_000;
    (0..names).for_each(|number| forgotten.add(&number.to_be_bytes(), 0));
    let mut state = State::restore(Store::default(), Sessions::restore(0, Vec::new(), Some(forgotten)), None);
    let chunks = snapshot(&mut state);
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES + 300));
    assert_eq!(restore(chunks.clone()).unwrap(), state);
    let mut swapped = chunks.concat();
    let last = swapped.len() - 16;
    swapped[last..].rotate_left(8);
    assert_eq!(restore([Bytes::from(swapped)]), Err(SnapshotError::Bad("order of forgotten names")));
}

#[test]
fn what_the_store_keeps_does_not_keep_the_batch_it_came_in() {
    let mut state = State::default();
    let batch = Bytes::from(
        [SessionRequest::once(set("k", "v")).encode().into_bytes(), Bytes::from(vec![0; 1 << 20])].concat(),
    );
    let request = SessionRequest::decode(batch.slice(..batch.len() - (1 << 20))).unwrap();
    let (_, change) = state.apply(request);
    assert!(batch.is_unique(), "neither the store nor {change:?} shares its memory");
}

#[test]
fn a_snapshot_takes_no_more_than_a_state_says() {
    let mut state = State::default();
    for number in 0..200 {
        let name = format!("a client with quite a long name, number {number}");
        state.apply(named(&name, 1, set(&format!("key/{number}"), &"x".repeat(number))));
    }
    let taken: usize = snapshot(&mut state).iter().map(Bytes::len).sum();
    let said = state.snapshot_bytes() as usize;
    assert!(taken <= said && said - taken < 200 * super::snapshot::CLIENT_BYTES, "{taken} of {said}");
}
