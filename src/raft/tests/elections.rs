//! Elections (Raft §5.2, §5.4.1; thesis §4.2.3, §6.2, §9.6).

use super::*;

/// Raft, Figure 2, RequestVote RPC 2: "if votedFor is null or candidateId".
#[test]
fn one_vote_a_term_first_come_first_served_and_the_same_candidate_again() {
    let mut node = Node::with_log(1, &[1]);
    assert_eq!(node.hear(2, 2, request(Ballot::Vote, (1, 1))).votes(), [(n(2), true)]);
    assert_eq!(node.hear(3, 2, request(Ballot::Vote, (1, 1))).votes(), [(n(3), false)]);
    assert_eq!(node.hear(2, 2, request(Ballot::Vote, (1, 1))).votes(), [(n(2), true)]);
    assert_eq!(node.hear(3, 3, request(Ballot::Vote, (1, 1))).votes(), [(n(3), true)], "a new term, a new vote");
}

/// Raft, Figure 2, "Updated on stable storage before responding to RPCs".
#[test]
fn a_vote_is_persisted_before_it_is_sent() {
    let mut node = Node::with_log(1, &[1]);
    let did = node.hear(2, 2, request(Ballot::Vote, (1, 1)));
    assert_eq!(did.persisted.last(), Some(&hard(2, Some(2))));
    assert_eq!(did.order[..3], ["persist", "persist", "send"], "the term, the vote, the answer");
}

/// A vote survives a restart, so the node does not vote twice in a term.
#[test]
fn a_vote_survives_a_restart() {
    let mut node = Node::with(3, vec![hard(2, None), hard(2, Some(2))]);
    assert_eq!(node.hear(3, 2, request(Ballot::Vote, (9, 9))).votes(), [(n(3), false)]);
    assert_eq!(node.hear(2, 2, request(Ballot::Vote, (9, 9))).votes(), [(n(2), true)]);
}

/// Raft §5.4.1: the later last term wins; with equal last terms, the longer log.
#[test]
fn no_vote_for_a_log_that_is_less_up_to_date() {
    for (last, granted) in [((1, 9), false), ((2, 2), false), ((2, 3), true), ((2, 4), true), ((3, 1), true)] {
        let mut node = Node::with_log(3, &[1, 2, 2]);
        assert_eq!(node.hear(2, 4, request(Ballot::Vote, last)).votes(), [(n(2), granted)], "{last:?}");
    }
}

/// Raft, Figure 2, RequestVote RPC 1.
#[test]
fn a_candidate_of_an_old_term_is_refused_and_told_the_new_one() {
    let mut node = Node::with_log(5, &[1]);
    let did = node.hear(2, 4, request(Ballot::Vote, (1, 1)));
    assert_eq!(did.votes(), [(n(2), false)]);
    assert_eq!(did.sent[0].1.term, Term(5));
}

/// Stepping down within a term keeps the vote: cleared, it could be given to a second leader.
#[test]
fn a_candidate_that_finds_a_leader_in_its_term_keeps_its_vote() {
    let mut node = Node::with_log(1, &[1]);
    node.fire(Timer::Election);
    node.hear(2, 2, Body::Vote { ballot: Ballot::PreVote, granted: true });
    assert_eq!(node.machine.role(), RoleName::Candidate);
    node.append(3, 2, (1, 1), &[2], 0);
    assert_eq!((node.machine.role(), node.machine.leader()), (RoleName::Follower, Some(n(3))));
    assert_eq!(node.machine.hard_state(), HardState { current_term: Term(2), voted_for: Some(n(1)) });
}

/// Thesis §9.6: a node that cannot win does not raise its term.
#[test]
fn a_node_that_was_cut_off_comes_back_in_its_old_term() {
    let mut node = Node::with_log(4, &[1]);
    for _ in 0..100 {
        node.pass(Duration::from_secs(1));
        node.fire(Timer::Election);
    }
    assert_eq!(node.machine.term(), Term(4));
    assert!(node.fire(Timer::Election).sent.iter().all(|(_, message)| message.term == Term(5)), "it asks for the next");
}

/// Thesis §4.2.3: whoever hears a leader does not vote, and does not even take over the term.
#[test]
fn nobody_votes_while_he_hears_a_leader() {
    for ballot in [Ballot::PreVote, Ballot::Vote] {
        let mut node = Node::with_log(2, &[1]);
        node.append(3, 2, (1, 1), &[], 0);
        node.pass(Duration::from_millis(149));
        assert!(node.hear(2, 9, request(ballot, (9, 9))).sent.is_empty(), "{ballot:?}");
        assert_eq!(node.machine.term(), Term(2));
        node.pass(Duration::from_millis(1));
        assert_eq!(node.hear(2, 9, request(ballot, (9, 9))).votes(), [(n(2), true)], "{ballot:?}");
    }
}

/// A pre-vote changes nothing: not the term, not the vote, not the timer (thesis §9.6).
#[test]
fn granting_a_pre_vote_changes_nothing() {
    let mut node = Node::with_log(2, &[1]);
    let did = node.hear(2, 3, request(Ballot::PreVote, (1, 1)));
    assert_eq!(did.votes(), [(n(2), true)]);
    assert_eq!((did.persisted.len(), did.timers.len()), (0, 0));
    assert_eq!(node.machine.hard_state(), HardState { current_term: Term(2), voted_for: None });
    assert_eq!(node.hear(3, 3, request(Ballot::PreVote, (1, 1))).votes(), [(n(3), true)], "to everybody who asks");
}

/// Votes for an earlier candidacy, or counted twice, elect nobody.
#[test]
fn a_repeated_or_late_vote_does_not_count() {
    let mut node = Node::with(5, vec![]);
    node.fire(Timer::Election);
    for _ in 0..3 {
        node.hear(2, 1, Body::Vote { ballot: Ballot::PreVote, granted: true });
    }
    assert_eq!(
        node.machine.role(),
        RoleName::PreCandidate,
        "one peer is no majority of five, however often it answers"
    );
    node.hear(3, 1, Body::Vote { ballot: Ballot::PreVote, granted: true });
    assert_eq!(node.machine.role(), RoleName::Candidate);
    node.fire(Timer::Election);
    node.hear(2, 2, Body::Vote { ballot: Ballot::PreVote, granted: true });
    node.hear(3, 2, Body::Vote { ballot: Ballot::PreVote, granted: true });
    node.hear(4, 1, Body::Vote { ballot: Ballot::Vote, granted: true });
    node.hear(5, 1, Body::Vote { ballot: Ballot::Vote, granted: true });
    assert_eq!((node.machine.role(), node.machine.term()), (RoleName::Candidate, Term(2)), "votes of term 1 are void");
}

/// Thesis §6.2.
#[test]
fn a_leader_that_hears_from_no_majority_steps_down_within_one_election_timeout() {
    let mut node = Node::leader(2, &[1]);
    for _ in 0..3 {
        node.pass(Duration::from_millis(50));
        node.fire(Timer::Heartbeat);
    }
    assert_eq!(node.machine.role(), RoleName::Follower, "after 150 ms");
    let mut node = Node::leader(2, &[1]);
    for _ in 0..10 {
        node.pass(Duration::from_millis(50));
        node.matched(3, 2, 1);
        node.fire(Timer::Heartbeat);
    }
    assert_eq!(node.machine.role(), RoleName::Leader, "one follower of two is enough");
}

/// Raft, Figure 2, all servers: "If RPC request or response contains term T > currentTerm".
#[test]
fn a_newer_term_in_an_answer_deposes_a_leader() {
    let mut node = Node::leader(2, &[1]);
    let did = node.hear(2, 3, Body::Appended { round: Round(0), outcome: AppendOutcome::Matched(Index(1)) });
    assert_eq!((node.machine.role(), node.machine.term()), (RoleName::Follower, Term(3)));
    assert_eq!(did.persisted, [hard(3, None)]);
    assert!(did.timers.contains_key(&Timer::Election), "a deposed leader waits for another one");
}

/// A cluster of one elects itself at once.
#[test]
fn alone_a_node_leads_at_once_and_commits_behind_its_own_disk() {
    let config = Config::new(n(1), 0, [n(1)]);
    let mut node = Node { machine: Raft::recover(config, []).unwrap(), now: Time::ZERO };
    let did = node.step(Input::Started);
    assert_eq!(node.machine.role(), RoleName::Leader);
    assert_eq!(did.order[..3], ["persist", "persist", "emit"], "term, entry, and only then the commit");
    node.propose("x");
    assert_eq!(node.fire(Timer::Flush).order[..2], ["persist", "emit"]);
}
