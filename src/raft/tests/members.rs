//! Changes of the members (thesis §4).

use super::*;

impl Node {
    fn change(&mut self, change: Change) -> Did {
        self.step(Input::Requested(Command::Change { ticket: Ticket(9), change }))
    }

    fn add(&mut self, node: usize) -> Did {
        self.change(Change::Add { node: n(node), addr: format!("host:{node}") })
    }

    fn remove(&mut self, node: usize) -> Did {
        self.change(Change::Remove { node: n(node) })
    }
}

impl Did {
    fn refusals(&self) -> Vec<Refusal> {
        self.told
            .iter()
            .filter_map(|event| if let Event::Refused { why, .. } = event { Some(*why) } else { None })
            .collect()
    }
}

/// A leader of three whose first entry is committed.
fn settled() -> Node {
    let mut node = Node::leader(1, &[]);
    node.matched(2, 1, 1);
    node
}

fn members(raft: &Raft) -> Vec<(NodeId, bool)> {
    raft.configuration().members().iter().map(|(id, member)| (*id, member.voter)).collect()
}

/// Thesis §4.1, and the bug that was found in it in 2015.
#[test]
fn membership_change_right_after_an_election_is_refused_until_an_entry_of_the_term_commits() {
    let mut node = Node::leader(1, &[]);
    assert_eq!(node.add(4).refusals(), [Refusal::NotReady]);
    node.matched(2, 1, 1);
    assert!(node.add(4).refusals().is_empty());
    assert_eq!(node.remove(3).refusals(), [Refusal::ChangePending], "and one at a time");
    node.matched(2, 1, 2);
    assert!(node.remove(3).refusals().is_empty());
}

/// raft.md: "quorum raised by a member that never started".
#[test]
fn a_new_member_is_a_learner_until_it_has_caught_up() {
    let mut node = settled();
    let did = node.add(4);
    assert_eq!(members(&node.machine), [(n(1), true), (n(2), true), (n(3), true), (n(4), false)]);
    assert!(did.told.iter().any(|event| matches!(event, Event::ConfigurationChanged(_))));
    assert!(did.appends().iter().any(|(to, _)| *to == n(4)), "it gets the log at once");
    node.matched(2, 1, 2);
    assert_eq!(node.machine.commit_index(), Index(2), "two of three are a majority, as before");
    let did = node.matched(4, 1, 2);
    assert_eq!(members(&node.machine)[3], (n(4), true), "caught up");
    assert!(did.appends().iter().any(|(_, append)| matches!(append.entries[0].payload, Payload::Configuration(_))));
    node.matched(2, 1, 3);
    assert_eq!(node.machine.commit_index(), Index(2), "now it takes three of four");
    node.matched(4, 1, 3);
    assert_eq!(node.machine.commit_index(), Index(3));
}

#[test]
fn a_learner_that_catches_up_slowly_stays_one() {
    let mut node = settled();
    node.add(4);
    node.matched(2, 1, 2);
    node.pass(Duration::from_secs(1));
    node.matched(4, 1, 2);
    assert_eq!(members(&node.machine)[3], (n(4), false), "that took too long: another round");
    node.matched(4, 1, 2);
    assert_eq!(members(&node.machine)[3], (n(4), true));
}

#[test]
fn a_node_that_does_not_vote_never_seeks_election() {
    let mut config = Config::new(n(ME), 0, []);
    config.initial = Configuration::default();
    let mut node = Node { machine: Raft::recover(config, []).unwrap(), now: Time::ZERO };
    node.step(Input::Started);
    assert!(node.fire(Timer::Election).sent.is_empty());
    let learner: Configuration =
        [(n(2), Member { voter: true, addr: String::new() }), (n(ME), Member::default())].into_iter().collect();
    let entry = Entry { position: at(1, 1), payload: Payload::Configuration(learner) };
    let append = Append { prev: Position::ORIGIN, entries: vec![entry], commit: Index(0), round: Round(0) };
    assert_eq!(node.hear(2, 1, Body::Append(append)).outcomes(), [AppendOutcome::Matched(Index(1))]);
    assert!(node.fire(Timer::Election).sent.is_empty(), "it only learns");
    assert_eq!(
        node.hear(3, 2, request(Ballot::Vote, (9, 9))).votes(),
        [(n(3), true)],
        "and grants votes (thesis §4.1)"
    );
}

#[test]
fn a_configuration_that_is_overwritten_counts_no_more() {
    let mut node = settled();
    node.add(4);
    assert_eq!(members(&node.machine).len(), 4);
    let did = node.append(3, 2, (1, 1), &[2], 1);
    assert_eq!(members(&node.machine).len(), 3);
    assert!(did.told.iter().any(|event| matches!(event, Event::ConfigurationChanged(_))));
}

/// Thesis §4.2.2: it goes on until its removal is committed, and does not count itself.
#[test]
fn a_leader_that_is_removed_leads_until_that_is_committed_and_names_a_successor() {
    let mut node = settled();
    node.matched(3, 1, 1);
    node.remove(ME);
    assert_eq!(node.machine.role(), RoleName::Leader);
    node.matched(2, 1, 2);
    assert_eq!(
        (node.machine.commit_index(), node.machine.role()),
        (Index(1), RoleName::Leader),
        "one of the two others"
    );
    let did = node.matched(3, 1, 2);
    assert_eq!((node.machine.commit_index(), node.machine.role()), (Index(2), RoleName::Follower));
    assert!(did.sent.iter().any(|(_, message)| message.body == Body::TimeoutNow));
    assert!(node.fire(Timer::Election).sent.is_empty());
}

/// Seed 90 of the simulation: of two voters one was about to be removed. It had the longer log and did not seek election, and the
/// other could not win against it.
#[test]
fn who_is_about_to_be_removed_seeks_election_until_that_is_committed() {
    let mut node = Node::with(2, vec![]);
    node.append(2, 1, (0, 0), &[1], 1);
    let alone = Configuration::of_voters([n(2)]);
    let entry = Entry { position: at(1, 2), payload: Payload::Configuration(alone) };
    let append = Append { prev: at(1, 1), entries: vec![entry], commit: Index(1), round: Round(0) };
    node.hear(2, 1, Body::Append(append));
    node.fire(Timer::Election);
    node.hear(2, 2, Body::Vote { ballot: Ballot::PreVote, granted: true });
    assert_eq!(node.machine.role(), RoleName::Candidate, "its own vote does not count, the other's does");
    node.hear(2, 2, Body::Vote { ballot: Ballot::Vote, granted: true });
    assert_eq!(node.machine.role(), RoleName::Leader);
    let did = node.matched(2, 2, 3);
    assert_eq!((node.machine.commit_index(), node.machine.role()), (Index(3), RoleName::Follower));
    assert!(did.sent.iter().any(|(_, message)| message.body == Body::TimeoutNow));
    assert!(node.fire(Timer::Election).sent.is_empty(), "now it is none");
}

#[test]
fn members_survive_a_restart_and_a_snapshot() {
    let mut node = settled();
    let mut records = vec![hard(1, Some(ME)), Record::Append(entries(1, &[1]))];
    node.machine.config.retained_bytes = 0;
    records.extend(node.add(4).persisted);
    node.matched(2, 1, 2);
    let config = || Config::new(n(ME), 0, (1..=3).map(n));
    assert_eq!(members(&Raft::recover(config(), records.clone()).unwrap()), members(&node.machine));
    for command in [Command::BeginSnapshot, Command::EndSnapshot] {
        records.extend(node.step(Input::Requested(command)).persisted);
    }
    let recovered = Raft::recover(config(), records).unwrap();
    assert_eq!(recovered.log().base(), at(1, 2));
    assert_eq!(members(&recovered), members(&node.machine));
}

#[test]
fn nothing_is_refused_twice_and_nobody_but_the_leader_changes_anything() {
    let mut node = settled();
    assert_eq!(node.remove(7).refusals(), [Refusal::NotAMember]);
    assert!(node.add(4).refusals().is_empty());
    node.matched(2, 1, 2);
    assert_eq!(node.add(4).refusals(), [Refusal::AlreadyAMember]);
    assert_eq!(Node::with(3, vec![]).add(4).refusals(), [Refusal::NotLeader]);
}
