//! Peers that say anything at all.

use proptest::prelude::*;

use super::*;

fn small() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 0u64..8, 1 => any::<u64>()]
}

fn position() -> impl Strategy<Value = Position> {
    (small(), small()).prop_map(|(term, index)| at(term, index))
}

fn body() -> impl Strategy<Value = Body> {
    let ballot = any::<bool>().prop_map(|vote| if vote { Ballot::Vote } else { Ballot::PreVote }).boxed();
    let outcome = prop_oneof![
        small().prop_map(|index| AppendOutcome::Matched(Index(index))),
        (position(), small(), proptest::option::of(small())).prop_map(|(prev, first, term)| {
            AppendOutcome::Conflict { prev, first: Index(first), term: term.map(Term) }
        }),
    ];
    let entry = position().prop_map(|position| Entry { position, payload: Payload::Noop });
    let entries = prop_oneof![
        proptest::collection::vec(entry, 0..4).boxed(),
        (0u64..8, proptest::collection::vec(0u64..8, 0..4)).prop_map(|(first, terms)| entries(first, &terms)).boxed(),
    ];
    prop_oneof![
        (ballot.clone(), position(), any::<bool>()).prop_map(|(ballot, last, transfer)| Body::RequestVote {
            ballot,
            last,
            transfer
        }),
        (ballot, any::<bool>()).prop_map(|(ballot, granted)| Body::Vote { ballot, granted }),
        (position(), entries, small(), small()).prop_map(|(prev, entries, commit, round)| {
            Body::Append(Append { prev, entries, commit: Index(commit), round: Round(round) })
        }),
        (small(), outcome).prop_map(|(round, outcome)| Body::Appended { round: Round(round), outcome }),
        small().prop_map(|question| Body::ReadIndex { question }),
        (small(), small()).prop_map(|(question, index)| Body::ReadIndexIs { question, index: Index(index) }),
        (position(), small(), 0usize..5, any::<bool>()).prop_map(|(last, number, members, done)| {
            let configuration = Configuration::of_voters((1..=members).map(n));
            Body::InstallSnapshot(InstallSnapshot { last, configuration, number, data: Bytes::new(), done })
        }),
        (position(), small()).prop_map(|(last, next)| Body::Installing { last, next }),
        Just(Body::TimeoutNow),
    ]
}

proptest! {
    /// Whatever peers say, a node neither panics nor lets its committed entries change.
    #[test]
    fn no_message_makes_a_node_panic_or_take_back_what_is_committed(
        messages in proptest::collection::vec((2usize..4, small(), body()), 1..60),
        fire in proptest::collection::vec(0usize..9, 60),
    ) {
        let mut node = Node::with_log(2, &[1, 1, 2]);
        node.machine.config.retained_bytes = 20;
        let mut committed: Vec<Entry> = Vec::new();
        for ((from, term, body), fire) in messages.into_iter().zip(fire) {
            match fire {
                0 => { node.fire(Timer::Election); }
                1 => { node.fire(Timer::Flush); }
                2 => { node.propose("x"); }
                3 => { node.fire(Timer::Heartbeat); }
                4 => { node.step(Input::Requested(Command::BeginSnapshot)); }
                5 => { node.step(Input::Requested(Command::EndSnapshot)); }
                6 => {
                    let offer = Command::OfferChunk { to: n(2), number: 0, data: Bytes::new(), done: true };
                    node.step(Input::Requested(offer));
                }
                _ => {}
            }
            node.pass(Duration::from_millis(100));
            node.hear(from, term, body);
            let log = node.machine.log();
            let kept = committed.iter().filter(|entry| entry.position.index > log.base().index);
            prop_assert!(kept.clone().all(|entry| log.get(entry.position.index) == Some(entry)));
            committed = log.between(log.base().index, node.machine.commit_index());
        }
    }
}

/// One such message would have used up all terms, for good: it would have been persisted.
#[test]
fn a_term_from_the_far_future_is_not_believed() {
    let mut node = Node::with_log(3, &[1]);
    let did = node.hear(2, u64::MAX, Body::Vote { ballot: Ballot::Vote, granted: false });
    assert_eq!((node.machine.term(), did.persisted.len(), node.machine.counters().bad_messages), (Term(3), 0, 1));
}
