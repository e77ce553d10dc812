//! Applying what is committed.

use super::*;

#[test]
fn a_long_log_is_applied_in_parts_and_reads_wait_for_all_of_it() {
    let mut node = Node::with_log(1, &[1; 10_000]);
    let did = node.append(3, 1, (1, 10_000), &[], 10_000);
    assert_eq!((did.committed().len(), node.machine.commit_index()), (4096, Index(10_000)));
    assert!(did.timers.contains_key(&Timer::Apply));
    node.step(Input::Requested(Command::Read { ticket: Ticket(1) }));
    node.fire(Timer::Flush);
    let early = node.hear(3, 1, Body::ReadIndexIs { question: 0, index: Index(10_000) });
    assert!(early.told.is_empty(), "4096 of 10000 are applied: {:?}", early.told);
    assert_eq!(node.fire(Timer::Apply).committed().len(), 4096);
    let did = node.fire(Timer::Apply);
    assert_eq!((did.committed().last(), did.timers.len()), (Some(&Index(10_000)), 0));
    assert!(matches!(did.told.last(), Some(Event::ReadReady { .. })));
}

/// Without a majority a restarted node served nothing of what it had known to be committed.
#[test]
fn what_was_known_to_be_committed_is_applied_after_a_restart_without_a_majority() {
    let mut node = Node::with_log(1, &[1]);
    node.machine.config.note_commit = Duration::from_millis(1);
    let mut records = vec![hard(1, None), Record::Append(entries(1, &[1]))];
    let did = node.append(2, 1, (1, 1), &[1, 1], 2);
    assert!(did.timers.contains_key(&Timer::Note));
    assert!(matches!(did.persisted[..], [Record::Append(_)]), "it is not known before the append: {did:?}");
    records.extend(did.persisted);
    let did = node.append(2, 1, (1, 3), &[1], 3);
    assert!(
        matches!(did.persisted[..], [Record::Committed(Index(2)), Record::Append(_)]),
        "the next append takes it along: {did:?}"
    );
    records.extend(did.persisted);
    let did = node.fire(Timer::Note);
    assert!(matches!(did.persisted[..], [Record::Committed(Index(3))]), "nothing else comes: {did:?}");
    records.extend(did.persisted);
    assert!(node.fire(Timer::Note).persisted.is_empty(), "once is enough");

    let config = node.machine.config.clone();
    let mut restarted = Node { machine: Raft::recover(config, records).unwrap(), now: Time::ZERO };
    let told = restarted.step(Input::Started).told;
    assert!(matches!(&told[..], [Event::Committed(entries)] if entries.len() == 3), "{told:?}");
    assert_eq!((restarted.machine.commit_index(), restarted.machine.log().last().index), (Index(3), Index(4)));
}

#[test]
fn what_a_snapshot_replaces_takes_the_notes_of_commits_along_and_the_next_append_notes_them_again() {
    let mut node = Node::with_log(1, &[1]);
    node.machine.config.note_commit = Duration::from_millis(1);
    node.append(2, 1, (1, 1), &[1, 1], 3);
    node.fire(Timer::Note);
    let begun = node.step(Input::Requested(Command::BeginSnapshot)).persisted;
    let ended = node.step(Input::Requested(Command::EndSnapshot)).persisted;
    node.append(2, 1, (1, 3), &[1], 4);
    let did = node.append(2, 1, (1, 4), &[1], 4).persisted;
    assert!(matches!(did[..], [Record::Committed(Index(4)), Record::Append(_)]), "{did:?}");
    let raft = Raft::recover(node.machine.config.clone(), begun.into_iter().chain(ended)).unwrap();
    assert_eq!((raft.commit_index(), raft.last_applied()), (Index(3), Index(3)));
}
