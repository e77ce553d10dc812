//! Replication (Raft §5.3, §5.4.2).

use super::*;

/// Raft, Figure 2, AppendEntries RPC 1.
#[test]
fn an_append_of_an_old_term_is_refused_and_the_stale_leader_told() {
    let mut node = Node::with_log(5, &[1]);
    let did = node.append(2, 4, (1, 1), &[4], 1);
    assert_eq!((did.sent[0].1.term, node.log_terms()), (Term(5), vec![1]));
    assert_eq!(node.machine.leader(), None);
}

/// Raft, Figure 2, AppendEntries RPC 2, and the fast back-off of §5.3.
#[test]
fn an_append_that_does_not_fit_is_refused_with_the_place_to_try_next() {
    let mut node = Node::with_log(5, &[1, 1, 4, 4]);
    let missing = node.append(2, 5, (5, 9), &[5], 0).outcomes();
    assert_eq!(missing, [AppendOutcome::Conflict { prev: at(5, 9), first: Index(5), term: None }]);
    let differs = node.append(2, 5, (5, 4), &[5], 0).outcomes();
    assert_eq!(differs, [AppendOutcome::Conflict { prev: at(5, 4), first: Index(3), term: Some(Term(4)) }]);
    assert_eq!(node.log_terms(), [1, 1, 4, 4], "a refusal removes nothing");
}

/// Raft, Figure 2, AppendEntries RPC 3 and 4.
#[test]
fn a_conflicting_suffix_is_replaced_and_persisted_before_the_answer() {
    let mut node = Node::with_log(3, &[1, 2, 2]);
    let did = node.append(2, 3, (1, 1), &[3, 3], 0);
    assert_eq!(node.log_terms(), [1, 3, 3]);
    assert_eq!(did.persisted, [Record::Append(entries(2, &[3, 3]))]);
    assert_eq!(did.order[..2], ["persist", "send"]);
}

/// An old append that arrives late must not shorten a log that has grown since (Figure 2, 3: "if an existing entry
/// conflicts").
#[test]
fn an_overtaken_append_does_not_truncate() {
    let mut node = Node::with_log(3, &[1]);
    node.append(2, 3, (1, 1), &[3, 3, 3], 0);
    let did = node.append(2, 3, (1, 1), &[3], 0);
    assert_eq!(did.outcomes(), [AppendOutcome::Matched(Index(2))], "it vouches for what it carried, no more");
    assert_eq!((node.log_terms(), did.persisted.len()), (vec![1, 3, 3, 3], 0));
}

/// Raft, Figure 2, AppendEntries RPC 5: "min(leaderCommit, index of last new entry)".
#[test]
fn a_follower_commits_no_further_than_the_append_vouches_for() {
    let mut node = Node::with_log(3, &[1, 2, 2]);
    let did = node.append(2, 3, (1, 1), &[], 3);
    assert_eq!(did.committed(), [Index(1)], "2 and 3 may differ from the leader's");
    assert_eq!(node.append(2, 3, (1, 1), &[3], 3).committed(), [Index(2)]);
}

/// The leader's append leaves before its own disk has the entries (thesis §10.2.1); the commit waits for both.
#[test]
fn followers_get_a_batch_before_the_leaders_disk_does() {
    let mut node = Node::leader(2, &[1]);
    node.matched(2, 2, 2);
    node.matched(3, 2, 2);
    node.propose("a");
    node.propose("b");
    let did = node.fire(Timer::Flush);
    assert_eq!(did.order, ["send", "send", "persist", "emit", "emit"], "one append each for both proposals");
    assert_eq!(did.appends()[0].1.entries.len(), 2);
}

/// Raft §5.4.2 and Figure 8: an entry of an old term is not committed by counting.
#[test]
fn figure_8_an_old_terms_entry_on_a_majority_waits_for_one_of_the_current_term() {
    let mut node = Node::leader(4, &[1, 2]); // its own entry, of term 4, is at 3
    assert!(node.matched(2, 4, 2).committed().is_empty(), "2 is on a majority, but of term 2");
    assert_eq!(node.machine.commit_index(), Index(0));
    assert_eq!(node.matched(2, 4, 3).committed(), [Index(1), Index(2), Index(3)]);
}

/// Raft §5.3: back over a whole term at a time, not over single entries.
#[test]
fn a_leader_backs_off_over_a_whole_term() {
    let mut node = Node::leader(8, &[1, 1, 4, 4, 5, 5, 6, 6]);
    let refusal = |prev, first, term: Option<u64>| Body::Appended {
        round: Round(0),
        outcome: AppendOutcome::Conflict { prev, first: Index(first), term: term.map(Term) },
    };
    // The follower has terms 1 1 4 4 4 4 4 4: it names its term 4 and the first entry of it.
    let did = node.hear(2, 8, refusal(at(6, 8), 3, Some(4)));
    assert_eq!(did.appends()[0].1.prev, at(4, 4), "the leader's own last entry of term 4");
    // The follower has terms 1 1 2 2 2 2 3 3, and the leader none of term 3.
    let did = node.hear(3, 8, refusal(at(6, 8), 7, Some(3)));
    assert_eq!(did.appends()[0].1.prev, at(5, 6));
}

/// A follower whose log is far too short is sent what it lacks after one round trip.
#[test]
fn a_short_log_is_found_in_one_step() {
    let mut node = Node::leader(2, &[1; 100]);
    let outcome = AppendOutcome::Conflict { prev: at(1, 100), first: Index(3), term: None };
    let did = node.hear(2, 2, Body::Appended { round: Round(0), outcome });
    let (to, append) = &did.appends()[0];
    assert_eq!((*to, append.prev, append.entries.len()), (n(2), at(1, 2), 99));
}

/// Pipelining, with a bounded window; a heartbeat's answer frees the window when answers were lost.
#[test]
fn appends_follow_each_other_up_to_the_window() {
    let mut node = Node::leader(2, &[1]);
    node.matched(2, 2, 2);
    for _ in 0..100 {
        node.propose("x");
        node.fire(Timer::Flush);
    }
    let window = node.machine.config().window.appends;
    let next = node.machine.progress().unwrap()[&n(2)].next_index;
    assert_eq!(next, Index(3 + window as u64), "one entry each, and no more than the window");
    let did = node.matched(2, 2, 2 + window as u64);
    assert_eq!(did.appends()[0].1.entries.len(), 100 - window, "the rest goes out as one");
}

/// A probe that was lost is sent again with the next heartbeat.
#[test]
fn a_lost_probe_is_repeated_at_the_next_heartbeat() {
    let mut node = Node::leader(2, &[1]);
    let did = node.fire(Timer::Heartbeat);
    assert_eq!(
        did.appends().iter().map(|(to, append)| (*to, append.prev)).collect::<Vec<_>>(),
        [(n(2), at(1, 1)), (n(3), at(1, 1))]
    );
    let did = node.matched(2, 2, 1);
    assert_eq!(did.appends()[0].1.entries, entries(2, &[2]), "now that the place is known");
}

/// Proposals that have no place in the log yet are given back, not lost.
#[test]
fn proposals_of_a_deposed_leader_are_dropped_before_they_reach_its_log() {
    let mut node = Node::leader(2, &[1]);
    node.propose("x");
    let did = node.append(3, 3, (1, 1), &[3], 0);
    assert_eq!((did.dropped(), node.log_terms()), (1, vec![1, 3]));
    assert_eq!(node.propose("y").dropped(), 1, "a follower takes none");
}

/// Bad peers are ordinary input: dropped, counted, and nothing else.
#[test]
fn messages_that_no_correct_peer_sends_are_dropped_and_counted() {
    let mut node = Node::with_log(3, &[1, 1, 1]);
    node.append(2, 3, (1, 1), &[1, 1], 3);
    assert_eq!(node.machine.commit_index(), Index(3));
    let take_back = node.append(2, 3, (1, 1), &[3], 3);
    let future = node.append(2, 3, (1, 3), &[4], 3);
    let backwards = node.append(2, 3, (1, 3), &[3, 2], 3);
    let second_leader = node.append(3, 3, (1, 3), &[3], 3);
    for did in [take_back, future, backwards, second_leader] {
        assert!(did.sent.is_empty() && did.persisted.is_empty(), "{did:?}");
    }
    assert_eq!(
        (node.machine.counters().bad_messages, node.log_terms(), node.machine.term()),
        (4, vec![1, 1, 1], Term(3))
    );
    let mut leader = Node::leader(4, &[1]);
    leader.matched(2, 4, 99);
    leader.append(3, 4, (1, 1), &[4], 0);
    assert_eq!((leader.machine.counters().bad_messages, leader.machine.role()), (2, RoleName::Leader));
}

/// Thesis §3.8: the log is what its records say, in order.
#[test]
fn recovery_folds_appends_that_replace_earlier_ones() {
    let records =
        vec![hard(1, Some(1)), Record::Append(entries(1, &[1, 1, 1])), hard(3, None), Record::Append(entries(2, &[3]))];
    let node = Node::with(3, records);
    assert_eq!((node.log_terms(), node.machine.term(), node.machine.commit_index()), (vec![1, 3], Term(3), Index(0)));
}

/// RFC 896 for the log: what comes while a batch is under way leaves as one batch when that is committed.
#[test]
fn proposals_gather_while_earlier_ones_are_on_their_way() {
    let mut node = Node::leader(2, &[1]);
    node.machine.config.batch_delay = Duration::from_millis(1);
    for follower in [2, 3] {
        node.matched(follower, 2, 2);
    }
    node.propose("first");
    assert_eq!(node.fire(Timer::Flush).appends().len(), 2, "nothing is under way: it leaves at once");
    for text in ["second", "third"] {
        node.propose(text);
        assert!(node.fire(Timer::Flush).appends().is_empty());
    }
    assert!(node.matched(2, 2, 3).timers.contains_key(&Timer::Flush), "the first is committed");
    let appends = node.fire(Timer::Flush).appends();
    assert_eq!(appends.iter().map(|(_, append)| append.entries.len()).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn a_long_way_to_the_followers_holds_proposals_up_no_longer_than_they_gather() {
    let mut node = Node::leader(2, &[1]);
    node.machine.config.batch_delay = Duration::from_millis(1);
    for follower in [2, 3] {
        node.matched(follower, 2, 2);
    }
    node.propose("first");
    node.fire(Timer::Flush);
    node.propose("second");
    assert!(node.fire(Timer::Flush).timers.contains_key(&Timer::Flush), "it looks again");
    node.pass(Duration::from_millis(1));
    assert_eq!(node.fire(Timer::Flush).appends().len(), 2, "although the first is not committed");
}
