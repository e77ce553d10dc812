//! Reads (thesis §6.4).

use super::*;

fn read(node: &mut Node, ticket: u64) -> Did {
    node.step(Input::Requested(Command::Read { ticket: Ticket(ticket) }))
}

fn ready(did: &Did) -> Vec<u64> {
    let tickets = |event: &Event| match event {
        Event::ReadReady { tickets } => tickets.iter().map(|ticket| ticket.0).collect(),
        _ => Vec::new(),
    };
    did.told.iter().flat_map(tickets).collect()
}

fn answered(node: &mut Node, from: usize, term: u64, round: u64, index: u64) -> Did {
    let outcome = AppendOutcome::Matched(Index(index));
    node.hear(from, term, Body::Appended { round: Round(round), outcome })
}

/// Thesis §6.4, steps 2 to 4; one round for all reads that wait.
#[test]
fn a_leader_serves_reads_once_a_majority_has_answered_one_round_for_all_of_them() {
    let mut node = Node::leader(2, &[1]);
    node.matched(2, 2, 2);
    read(&mut node, 1);
    read(&mut node, 2);
    let did = node.fire(Timer::Flush);
    assert_eq!(did.appends().len(), 2, "one append a follower for both reads");
    assert!(ready(&did).is_empty(), "not before anybody has answered");
    assert!(ready(&answered(&mut node, 2, 2, 0, 2)).is_empty(), "an answer to an earlier round proves nothing");
    assert_eq!(ready(&answered(&mut node, 2, 2, 1, 2)), [1, 2]);
}

/// Thesis §6.4, step 1; Raft §8: before its first commit a leader does not know what is committed.
#[test]
fn a_new_leader_holds_reads_until_an_entry_of_its_term_is_committed() {
    let mut node = Node::leader(2, &[1]);
    read(&mut node, 1);
    assert!(node.fire(Timer::Flush).appends().is_empty());
    let did = node.matched(2, 2, 2);
    assert!(did.timers.contains_key(&Timer::Flush), "now they go out");
    node.fire(Timer::Flush);
    assert_eq!(ready(&answered(&mut node, 3, 2, 1, 1)), [1]);
}

/// Thesis §6.4: a follower asks the leader, and waits until it has committed that far itself.
#[test]
fn a_follower_serves_a_read_when_it_has_committed_up_to_the_leaders_index() {
    let mut node = Node::with_log(2, &[1, 2, 2]);
    node.append(3, 2, (2, 3), &[], 1);
    read(&mut node, 1);
    let did = node.fire(Timer::Flush);
    assert_eq!(did.sent, [(n(3), Message { term: Term(2), body: Body::ReadIndex { question: 0 } })]);
    assert!(ready(&node.hear(3, 2, Body::ReadIndexIs { question: 0, index: Index(3) })).is_empty());
    assert!(ready(&node.append(3, 2, (2, 3), &[], 2)).is_empty());
    assert_eq!(ready(&node.append(3, 2, (2, 3), &[], 3)), [1]);
}

#[test]
fn a_read_is_dropped_without_a_leader_and_when_the_leader_changes() {
    let mut node = Node::with_log(2, &[1]);
    assert_eq!(read(&mut node, 1).dropped(), 1);
    node.append(3, 2, (1, 1), &[], 0);
    read(&mut node, 2);
    node.fire(Timer::Flush);
    assert_eq!(node.append(2, 3, (1, 1), &[], 0).dropped(), 1, "asked of the old leader");
    let mut leader = Node::leader(2, &[1]);
    read(&mut leader, 3);
    assert_eq!(leader.append(3, 3, (1, 1), &[], 0).dropped(), 1);
}

/// Seed 11924 of the simulation: questions were counted anew after a candidacy that came to nothing, and a late answer
/// to an old question served a new read with an index from before a write.
#[test]
fn a_late_answer_is_not_taken_for_one_to_a_new_question() {
    let mut node = Node::with_log(2, &[1]);
    node.append(3, 2, (1, 1), &[], 1);
    read(&mut node, 1);
    node.fire(Timer::Flush);
    node.fire(Timer::Election); // asks for pre-votes, hears the same leader, follows it again
    node.append(3, 2, (1, 1), &[], 1);
    read(&mut node, 2);
    node.fire(Timer::Flush);
    assert!(ready(&node.hear(3, 2, Body::ReadIndexIs { question: 0, index: Index(1) })).is_empty());
    assert_eq!(ready(&node.hear(3, 2, Body::ReadIndexIs { question: 1, index: Index(1) })), [2]);
}

#[test]
fn a_question_that_was_lost_is_asked_again() {
    let mut node = Node::with_log(2, &[1]);
    node.append(3, 2, (1, 1), &[], 0);
    read(&mut node, 1);
    node.fire(Timer::Flush);
    node.pass(Duration::from_millis(200));
    assert!(node.append(3, 2, (1, 1), &[], 0).timers.contains_key(&Timer::Flush));
    let did = node.fire(Timer::Flush);
    assert_eq!(did.sent, [(n(3), Message { term: Term(2), body: Body::ReadIndex { question: 1 } })]);
}
