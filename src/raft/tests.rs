//! The paper's rules, one test each, on a single machine: an input goes in, the effects are read.

#![expect(clippy::wildcard_enum_match_arm, reason = "each helper picks one kind of effect out of many")]

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::protocol::Effect;

const ME: usize = 1;

/// A machine with its effects, asked the way a driver asks.
struct Node {
    raft: Raft,
    now: Time,
}

/// What one input led to.
#[derive(Debug, Default)]
struct Did {
    persisted: Vec<Record>,
    sent: Vec<(NodeId, Message)>,
    told: Vec<Event>,
    /// Names of effects in order, for rules about order.
    order: Vec<&'static str>,
    timers: Vec<Timer>,
}

impl Node {
    /// One of `members` nodes, started with `records`.
    fn with(members: usize, records: Vec<Record>) -> Self {
        let config = Config::new(n(ME), 0, (1..=members).map(n));
        let mut node = Self { raft: Raft::recover(config, records).unwrap(), now: Time::ZERO };
        node.step(Input::Started);
        node
    }

    /// One of three nodes, with a log of these terms, in `term`.
    fn with_log(term: u64, terms: &[u64]) -> Self {
        Self::with(3, vec![hard(term, None), Record::Append(entries(1, terms))])
    }

    /// A leader of three nodes in `term`, whose log has `terms` and its own first entry.
    fn leader(term: u64, terms: &[u64]) -> Self {
        let mut node = Self::with_log(term - 1, terms);
        node.elect();
        assert_eq!((node.raft.role(), node.raft.term()), (RoleName::Leader, Term(term)));
        node
    }

    fn elect(&mut self) -> Did {
        self.fire(Timer::Election);
        let term = self.raft.term().next().0;
        self.hear(2, term, Body::Vote { ballot: Ballot::PreVote, granted: true });
        self.hear(2, term, Body::Vote { ballot: Ballot::Vote, granted: true })
    }

    fn step(&mut self, input: Input<Raft>) -> Did {
        let mut effects = Effects::new();
        self.raft.step(self.now, input, &mut effects);
        let mut did = Did::default();
        for effect in effects.drain() {
            match effect {
                Effect::Persist(record) => {
                    did.order.push("persist");
                    did.persisted.push(record);
                }
                Effect::Send { to, message } => {
                    did.order.push("send");
                    did.sent.push((to, message));
                }
                Effect::Emit(event) => {
                    did.order.push("emit");
                    did.told.push(event);
                }
                Effect::SetTimer(timer, _) => did.timers.push(timer),
                Effect::CancelTimer(_) => {}
            }
        }
        did
    }

    fn hear(&mut self, from: usize, term: u64, body: Body) -> Did {
        self.step(Input::Received { from: n(from), message: Message { term: Term(term), body } })
    }

    fn append(&mut self, from: usize, term: u64, prev: (u64, u64), terms: &[u64], commit: u64) -> Did {
        let entries = entries(prev.1 + 1, terms);
        let append = Append { prev: at(prev.0, prev.1), entries, commit: Index(commit), round: Round(0) };
        self.hear(from, term, Body::Append(append))
    }

    fn matched(&mut self, from: usize, term: u64, index: u64) -> Did {
        self.hear(from, term, Body::Appended { round: Round(0), outcome: AppendOutcome::Matched(Index(index)) })
    }

    fn fire(&mut self, timer: Timer) -> Did {
        self.step(Input::Elapsed(timer))
    }

    fn propose(&mut self, text: &'static str) -> Did {
        let command = Command::Propose { ticket: Ticket(7), command: Bytes::from_static(text.as_bytes()) };
        self.step(Input::Requested(command))
    }

    fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    fn log_terms(&self) -> Vec<u64> {
        (1..=self.raft.log.last().index.0).map(|i| self.raft.log.get(Index(i)).unwrap().position.term.0).collect()
    }
}

impl Did {
    fn votes(&self) -> Vec<(NodeId, bool)> {
        let vote = |(to, message): &(NodeId, Message)| match message.body {
            Body::Vote { granted, .. } => Some((*to, granted)),
            _ => None,
        };
        self.sent.iter().filter_map(vote).collect()
    }

    fn outcomes(&self) -> Vec<AppendOutcome> {
        let outcome = |(_, message): &(NodeId, Message)| match message.body {
            Body::Appended { outcome, .. } => Some(outcome),
            _ => None,
        };
        self.sent.iter().filter_map(outcome).collect()
    }

    fn appends(&self) -> Vec<(NodeId, Append)> {
        let append = |(to, message): &(NodeId, Message)| match &message.body {
            Body::Append(append) => Some((*to, append.clone())),
            _ => None,
        };
        self.sent.iter().filter_map(append).collect()
    }

    fn committed(&self) -> Vec<Index> {
        let committed = |event: &Event| match event {
            Event::Committed(entries) => entries.iter().map(|entry| entry.position.index).collect(),
            _ => Vec::new(),
        };
        self.told.iter().flat_map(committed).collect()
    }

    fn dropped(&self) -> usize {
        let dropped = |event: &Event| if let Event::Dropped { tickets } = event { tickets.len() } else { 0 };
        self.told.iter().map(dropped).sum()
    }
}

fn n(number: usize) -> NodeId {
    NodeId::numbered(number)
}

fn at(term: u64, index: u64) -> Position {
    Position { term: Term(term), index: Index(index) }
}

fn entries(first: u64, terms: &[u64]) -> Vec<Entry> {
    let positions = terms.iter().zip(first..).map(|(term, index)| at(*term, index));
    positions.map(|position| Entry { position, payload: Payload::Noop }).collect()
}

fn hard(term: u64, vote: Option<usize>) -> Record {
    Record::HardState(HardState { current_term: Term(term), voted_for: vote.map(n) })
}

fn request(ballot: Ballot, last: (u64, u64)) -> Body {
    Body::RequestVote { ballot, last: at(last.0, last.1) }
}

mod elections {
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
        assert_eq!(node.raft.role(), RoleName::Candidate);
        node.append(3, 2, (1, 1), &[2], 0);
        assert_eq!((node.raft.role(), node.raft.leader()), (RoleName::Follower, Some(n(3))));
        assert_eq!(node.raft.hard_state(), HardState { current_term: Term(2), voted_for: Some(n(1)) });
    }

    /// Thesis §9.6: a node that cannot win does not raise its term.
    #[test]
    fn a_node_that_was_cut_off_comes_back_in_its_old_term() {
        let mut node = Node::with_log(4, &[1]);
        for _ in 0..100 {
            node.pass(Duration::from_secs(1));
            node.fire(Timer::Election);
        }
        assert_eq!(node.raft.term(), Term(4));
        assert!(
            node.fire(Timer::Election).sent.iter().all(|(_, message)| message.term == Term(5)),
            "it asks for the next"
        );
    }

    /// Thesis §4.2.3: whoever hears a leader does not vote, and does not even take over the term.
    #[test]
    fn nobody_votes_while_he_hears_a_leader() {
        for ballot in [Ballot::PreVote, Ballot::Vote] {
            let mut node = Node::with_log(2, &[1]);
            node.append(3, 2, (1, 1), &[], 0);
            node.pass(Duration::from_millis(149));
            assert!(node.hear(2, 9, request(ballot, (9, 9))).sent.is_empty(), "{ballot:?}");
            assert_eq!(node.raft.term(), Term(2));
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
        assert_eq!(node.raft.hard_state(), HardState { current_term: Term(2), voted_for: None });
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
            node.raft.role(),
            RoleName::PreCandidate,
            "one peer is no majority of five, however often it answers"
        );
        node.hear(3, 1, Body::Vote { ballot: Ballot::PreVote, granted: true });
        assert_eq!(node.raft.role(), RoleName::Candidate);
        node.fire(Timer::Election);
        node.hear(2, 2, Body::Vote { ballot: Ballot::PreVote, granted: true });
        node.hear(3, 2, Body::Vote { ballot: Ballot::PreVote, granted: true });
        node.hear(4, 1, Body::Vote { ballot: Ballot::Vote, granted: true });
        node.hear(5, 1, Body::Vote { ballot: Ballot::Vote, granted: true });
        assert_eq!((node.raft.role(), node.raft.term()), (RoleName::Candidate, Term(2)), "votes of term 1 are void");
    }

    /// Thesis §6.2.
    #[test]
    fn a_leader_that_hears_from_no_majority_steps_down_within_one_election_timeout() {
        let mut node = Node::leader(2, &[1]);
        for _ in 0..3 {
            node.pass(Duration::from_millis(50));
            node.fire(Timer::Heartbeat);
        }
        assert_eq!(node.raft.role(), RoleName::Follower, "after 150 ms");
        let mut node = Node::leader(2, &[1]);
        for _ in 0..10 {
            node.pass(Duration::from_millis(50));
            node.matched(3, 2, 1);
            node.fire(Timer::Heartbeat);
        }
        assert_eq!(node.raft.role(), RoleName::Leader, "one follower of two is enough");
    }

    /// Raft, Figure 2, all servers: "If RPC request or response contains term T > currentTerm".
    #[test]
    fn a_newer_term_in_an_answer_deposes_a_leader() {
        let mut node = Node::leader(2, &[1]);
        let did = node.hear(2, 3, Body::Appended { round: Round(0), outcome: AppendOutcome::Matched(Index(1)) });
        assert_eq!((node.raft.role(), node.raft.term()), (RoleName::Follower, Term(3)));
        assert_eq!(did.persisted, [hard(3, None)]);
        assert!(did.timers.contains(&Timer::Election), "a deposed leader waits for another one");
    }

    /// A cluster of one elects itself at once.
    #[test]
    fn alone_a_node_leads_at_once_and_commits_behind_its_own_disk() {
        let config = Config::new(n(1), 0, [n(1)]);
        let mut node = Node { raft: Raft::recover(config, []).unwrap(), now: Time::ZERO };
        let did = node.step(Input::Started);
        assert_eq!(node.raft.role(), RoleName::Leader);
        assert_eq!(did.order[..3], ["persist", "persist", "emit"], "term, entry, and only then the commit");
        node.propose("x");
        assert_eq!(node.fire(Timer::Flush).order[..2], ["persist", "emit"]);
    }
}

mod replication {
    use super::*;

    /// Raft, Figure 2, AppendEntries RPC 1.
    #[test]
    fn an_append_of_an_old_term_is_refused_and_the_stale_leader_told() {
        let mut node = Node::with_log(5, &[1]);
        let did = node.append(2, 4, (1, 1), &[4], 1);
        assert_eq!((did.sent[0].1.term, node.log_terms()), (Term(5), vec![1]));
        assert_eq!(node.raft.leader(), None);
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
        assert_eq!(node.raft.commit_index(), Index(0));
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
        let window = node.raft.config().append_window;
        let next = node.raft.progress().unwrap()[&n(2)].next_index;
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
        assert_eq!(node.raft.commit_index(), Index(3));
        let take_back = node.append(2, 3, (1, 1), &[3], 3);
        let future = node.append(2, 3, (1, 3), &[4], 3);
        let backwards = node.append(2, 3, (1, 3), &[3, 2], 3);
        let second_leader = node.append(3, 3, (1, 3), &[3], 3);
        let stranger = node.append(4, 9, (1, 3), &[9], 3);
        for did in [take_back, future, backwards, second_leader, stranger] {
            assert!(did.sent.is_empty() && did.persisted.is_empty(), "{did:?}");
        }
        assert_eq!(
            (node.raft.counters().bad_messages, node.log_terms(), node.raft.term()),
            (5, vec![1, 1, 1], Term(3))
        );
        let mut leader = Node::leader(4, &[1]);
        leader.matched(2, 4, 99);
        leader.append(3, 4, (1, 1), &[4], 0);
        assert_eq!((leader.raft.counters().bad_messages, leader.raft.role()), (2, RoleName::Leader));
    }

    /// Thesis §3.8: the log is what its records say, in order.
    #[test]
    fn recovery_folds_appends_that_replace_earlier_ones() {
        let records = vec![
            hard(1, Some(1)),
            Record::Append(entries(1, &[1, 1, 1])),
            hard(3, None),
            Record::Append(entries(2, &[3])),
        ];
        let node = Node::with(3, records);
        assert_eq!((node.log_terms(), node.raft.term(), node.raft.commit_index()), (vec![1, 3], Term(3), Index(0)));
    }
}

mod reads {
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
        assert!(did.timers.contains(&Timer::Flush), "now they go out");
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
        assert!(node.append(3, 2, (1, 1), &[], 0).timers.contains(&Timer::Flush));
        let did = node.fire(Timer::Flush);
        assert_eq!(did.sent, [(n(3), Message { term: Term(2), body: Body::ReadIndex { question: 1 } })]);
    }
}

mod hostile_peers {
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
            (0u64..8, proptest::collection::vec(0u64..8, 0..4))
                .prop_map(|(first, terms)| entries(first, &terms))
                .boxed(),
        ];
        prop_oneof![
            (ballot.clone(), position()).prop_map(|(ballot, last)| Body::RequestVote { ballot, last }),
            (ballot, any::<bool>()).prop_map(|(ballot, granted)| Body::Vote { ballot, granted }),
            (position(), entries, small(), small()).prop_map(|(prev, entries, commit, round)| {
                Body::Append(Append { prev, entries, commit: Index(commit), round: Round(round) })
            }),
            (small(), outcome).prop_map(|(round, outcome)| Body::Appended { round: Round(round), outcome }),
            small().prop_map(|question| Body::ReadIndex { question }),
            (small(), small()).prop_map(|(question, index)| Body::ReadIndexIs { question, index: Index(index) }),
        ]
    }

    proptest! {
        /// Whatever peers say, a node neither panics nor lets its committed entries change.
        #[test]
        fn no_message_makes_a_node_panic_or_take_back_what_is_committed(
            messages in proptest::collection::vec((2usize..4, small(), body()), 1..60),
            fire in proptest::collection::vec(0usize..4, 60),
        ) {
            let mut node = Node::with_log(2, &[1, 1, 2]);
            let mut committed: Vec<Entry> = Vec::new();
            for ((from, term, body), fire) in messages.into_iter().zip(fire) {
                match fire {
                    0 => { node.fire(Timer::Election); }
                    1 => { node.fire(Timer::Flush); }
                    2 => { node.propose("x"); }
                    _ => {}
                }
                node.pass(Duration::from_millis(100));
                node.hear(from, term, body);
                let now = node.raft.log().between(Index(0), node.raft.commit_index());
                prop_assert!(now.starts_with(&committed));
                committed = now;
            }
        }
    }

    /// One such message would have used up all terms, for good: it would have been persisted.
    #[test]
    fn a_term_from_the_far_future_is_not_believed() {
        let mut node = Node::with_log(3, &[1]);
        let did = node.hear(2, u64::MAX, Body::Vote { ballot: Ballot::Vote, granted: false });
        assert_eq!((node.raft.term(), did.persisted.len(), node.raft.counters().bad_messages), (Term(3), 0, 1));
    }
}

mod applying {
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
}

mod configuration {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_with_the_remedy() {
        let ms = Duration::from_millis;
        let good = Config::new(n(1), 0, [n(1), n(2)]);
        assert!(good.validate().is_ok());
        let slow = Config { heartbeat: ms(100), ..good.clone() };
        assert!(slow.validate().unwrap_err().to_string().contains("lower --heartbeat"));
        let fixed = Config { election_timeout: ms(150)..=ms(150), ..good.clone() };
        assert!(fixed.validate().unwrap_err().to_string().contains("range"));
        assert!(matches!(Config { id: n(9), ..good }.validate(), Err(ConfigError::NotAMember(_))));
    }

    #[test]
    fn a_node_id_is_short_printable_and_without_separators() {
        for good in ["n1", "raft-0.raft.svc", &"x".repeat(63)] {
            assert_eq!(good.parse::<NodeId>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a=b", "a,b", "a/b", "ü", &"x".repeat(64)] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad:?}");
        }
        assert!(n(1) < n(2) && n(1) < n(10), "in the order of their text");
    }
}
