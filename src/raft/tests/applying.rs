//! Applying what is committed.

use super::*;

#[test]
fn a_long_log_is_applied_in_parts_and_reads_wait_for_all_of_it() {
    let mut node = Node::with_log(1, &[1; 10_000]);
    let did = node.append(3, 1, (1, 10_000), &[], 10_000);
    assert_eq!((did.committed().len(), node.raft.commit_index()), (4096, Index(10_000)));
    assert!(did.timers.contains(&Timer::Apply));
    node.step(Input::Requested(Command::Read { ticket: Ticket(1) }));
    node.fire(Timer::Flush);
    let early = node.hear(3, 1, Body::ReadIndexIs { question: 0, index: Index(10_000) });
    assert!(early.told.is_empty(), "4096 of 10000 are applied: {:?}", early.told);
    assert_eq!(node.fire(Timer::Apply).committed().len(), 4096);
    let did = node.fire(Timer::Apply);
    assert_eq!((did.committed().last(), did.timers.len()), (Some(&Index(10_000)), 0));
    assert!(matches!(did.told.last(), Some(Event::ReadReady { .. })));
}
