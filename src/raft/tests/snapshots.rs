//! Snapshots, compaction and install (Raft §7, Figure 13).

use super::*;

/// A follower that has applied everything up to `through`, a term 1 entry each.
fn applied(through: u64) -> Node {
    let mut node = Node::with(3, vec![hard(1, None)]);
    node.append(2, 1, (0, 0), &vec![1; through as usize], through);
    assert_eq!(node.machine.last_applied(), Index(through));
    node
}

impl Node {
    fn snapshot(&mut self) -> Vec<Record> {
        let mut records = self.step(Input::Requested(Command::BeginSnapshot)).persisted;
        records.extend(self.step(Input::Requested(Command::SnapshotChunk(Bytes::from_static(b"all")))).persisted);
        records.extend(self.step(Input::Requested(Command::EndSnapshot)).persisted);
        records
    }

    fn install(&mut self, term: u64, last: Position, number: u64, done: bool) -> Did {
        let data = Bytes::from(format!("part {number}"));
        let configuration = Configuration::of_voters((1..=3).map(n));
        let part = InstallSnapshot { last, configuration, number, data, done };
        self.hear(2, term, Body::InstallSnapshot(part))
    }
}

impl Did {
    fn wanted_next(&self) -> Vec<u64> {
        let next = |(_, message): &(NodeId, Message)| match message.body {
            Body::Installing { next, .. } => Some(next),
            _ => None,
        };
        self.sent.iter().filter_map(next).collect()
    }

    fn chunks_wanted(&self) -> Vec<u64> {
        let wanted = |event: &Event| if let Event::ChunkWanted { number, .. } = event { Some(*number) } else { None };
        self.told.iter().filter_map(wanted).collect()
    }
}

fn small(mut node: Node) -> Node {
    node.machine.config.retained_bytes = 0;
    node
}

#[test]
fn a_snapshot_replaces_the_entries_that_were_applied_when_it_began() {
    let mut node = small(applied(3));
    node.append(2, 1, (1, 3), &[1], 3);
    let records = node.snapshot();
    assert!(matches!(&records[0], Record::SnapshotBegin(Checkpoint { last, .. }) if *last == at(1, 3)));
    assert_eq!(records[1], Record::SnapshotTail(entries(4, &[1])), "what came after it is kept with it");
    assert_eq!((node.machine.log().first_index(), node.machine.snapshot()), (Index(4), at(1, 3)));
}

#[test]
fn many_entries_are_forgotten_in_parts() {
    let mut node = small(applied(4000));
    node.append(2, 1, (1, 4000), &vec![1; 1000], 5000);
    node.machine.config.apply_batch = 2000;
    node.snapshot();
    assert_eq!((node.machine.log().first_index(), node.machine.snapshot()), (Index(2001), at(1, 5000)));
    assert!(node.fire(Timer::Compact).timers.contains_key(&Timer::Compact));
    assert_eq!(node.machine.log().first_index(), Index(4001));
    assert!(node.fire(Timer::Compact).timers.is_empty());
    assert!(node.machine.log().is_empty());
}

#[test]
fn the_latest_entries_stay_in_memory_for_followers_that_are_a_little_behind() {
    let mut node = applied(5);
    node.machine.config.retained_bytes = 2 * entries(1, &[1])[0].size();
    node.snapshot();
    assert_eq!((node.machine.log().first_index(), node.machine.snapshot()), (Index(4), at(1, 5)));
}

/// raft.md: "snapshot against truncation order". Records reach the disk in order, so a crash leaves a beginning of them.
#[test]
fn a_crash_at_every_effect_during_a_snapshot_boots_to_the_same_state() {
    let mut node = small(Node::with(3, vec![]));
    let mut records = vec![hard(1, None)];
    records.extend(node.append(2, 1, (0, 0), &[1, 1, 1, 1], 3).persisted);
    let before = records.len();
    records.extend(node.step(Input::Requested(Command::BeginSnapshot)).persisted);
    records.extend(node.append(2, 1, (1, 4), &[1], 4).persisted);
    records.extend(node.step(Input::Requested(Command::SnapshotChunk(Bytes::from_static(b"one")))).persisted);
    records.extend(node.hear(3, 2, Body::Vote { ballot: Ballot::Vote, granted: false }).persisted);
    records.extend(node.step(Input::Requested(Command::SnapshotChunk(Bytes::from_static(b"two")))).persisted);
    records.extend(node.step(Input::Requested(Command::EndSnapshot)).persisted);
    let config = || Config::new(n(ME), 0, (1..=3).map(n));
    for cut in before..=records.len() {
        let raft = Raft::recover(config(), records[..cut].iter().cloned()).unwrap();
        let appended = records[..cut].contains(&Record::Append(entries(5, &[1])));
        assert_eq!(raft.log().last(), at(1, if appended { 5 } else { 4 }), "cut at {cut}");
        let whole = cut == records.len();
        assert_eq!(raft.last_applied(), Index(if whole { 3 } else { 0 }), "cut at {cut}");
    }
    // Once it is whole, what came before its beginning is not needed.
    let without = Raft::recover(config(), records[before..].iter().cloned()).unwrap();
    assert_eq!(without, Raft::recover(config(), records.clone()).unwrap());
    assert_eq!(without.hard_state(), node.machine.hard_state());
    let unfinished = Raft::recover(config(), records[before..records.len() - 1].iter().cloned());
    assert!(matches!(unfinished, Err(ConfigError::Incomplete(_))), "but before that it is");
}

#[test]
fn what_was_begun_and_not_ended_is_forgotten() {
    let mut recovery = Recovery::new(Configuration::default());
    let begin = |index| {
        let configuration = Configuration::default();
        Record::SnapshotBegin(Checkpoint { hard_state: HardState::default(), last: at(1, index), configuration })
    };
    let chunk = |text: &'static str| Record::SnapshotChunk(Bytes::from_static(text.as_bytes()));
    assert_eq!(recovery.push(chunk("stray")), Recovered::Nothing);
    assert_eq!(recovery.push(begin(7)), Recovered::Begun);
    assert_eq!(recovery.push(chunk("a")), Recovered::Chunk(Bytes::from_static(b"a")));
    // The leader sent entries after all.
    assert_eq!(recovery.push(Record::Append(entries(1, &[1]))), Recovered::Nothing);
    assert_eq!(recovery.push(chunk("b")), Recovered::Nothing);
    assert_eq!(recovery.push(Record::SnapshotEnd), Recovered::Nothing);
    assert_eq!(recovery.push(begin(7)), Recovered::Begun);
    assert_eq!(recovery.push(Record::SnapshotEnd), Recovered::Whole);
    let raft = Raft::recovered(Config::new(n(ME), 0, (1..=3).map(n)), recovery).unwrap();
    assert_eq!((raft.log().base(), raft.commit_index()), (at(1, 7), Index(7)));
}

#[test]
fn a_follower_takes_a_snapshot_part_by_part_and_answers_when_it_is_durable() {
    let mut node = Node::with(3, vec![]);
    assert_eq!(node.install(1, at(1, 9), 0, false).wanted_next(), [1]);
    assert_eq!(node.install(1, at(1, 9), 1, false).wanted_next(), [2]);
    let did = node.install(1, at(1, 9), 2, true);
    assert_eq!(
        did.order[..5],
        ["persist", "emit", "persist", "emit", "send"],
        "its end is durable before anybody is told"
    );
    assert_eq!(did.outcomes(), [AppendOutcome::Matched(Index(9))]);
    assert!(matches!(did.told[1], Event::Restored { last } if last == at(1, 9)));
    assert_eq!((node.machine.log().base(), node.machine.last_applied()), (at(1, 9), Index(9)));
    node.append(2, 1, (1, 9), &[1], 10);
    assert_eq!(node.machine.commit_index(), Index(10), "the log goes on from there");
}

#[test]
fn parts_that_are_repeated_or_out_of_order_do_no_harm() {
    let mut node = Node::with(3, vec![]);
    assert_eq!(node.install(1, at(1, 9), 1, true).wanted_next(), [0]);
    assert_eq!(node.machine.last_applied(), Index(0));
    node.install(1, at(1, 9), 0, false);
    assert_eq!(node.install(1, at(1, 9), 0, false).wanted_next(), [1], "the first part twice");
    node.install(1, at(1, 9), 1, false);
    let again = node.install(1, at(1, 9), 1, false);
    assert_eq!((again.wanted_next(), again.persisted.len()), (vec![2], 0));
    assert_eq!(node.install(1, at(1, 8), 2, true).wanted_next(), [0], "a part of another snapshot");
    assert_eq!(node.install(1, at(1, 9), 0, false).wanted_next(), [1], "it begins anew");
}

#[test]
fn a_snapshot_of_what_is_committed_here_changes_nothing() {
    let mut node = applied(5);
    let did = node.install(1, at(1, 4), 0, true);
    assert_eq!((did.persisted.len(), did.outcomes()), (0, vec![AppendOutcome::Matched(Index(4))]));
    assert_eq!(node.machine.log().last(), at(1, 5));
}

/// Figure 13, InstallSnapshot RPC 6: entries that follow the snapshot are kept.
#[test]
fn a_snapshot_keeps_the_entries_after_it_when_the_log_contains_its_last_one() {
    let mut node = Node::with_log(1, &[1, 1, 1]);
    let did = node.install(1, at(1, 2), 0, true);
    assert_eq!(did.persisted[1], Record::SnapshotTail(entries(3, &[1])));
    assert_eq!((node.machine.log().base(), node.machine.log().last()), (at(1, 2), at(1, 3)));
    let mut other = Node::with_log(2, &[1, 1, 1]);
    other.install(2, at(2, 2), 0, true);
    assert_eq!((other.machine.log().base(), other.machine.log().last()), (at(2, 2), at(2, 2)), "another log goes");
}

#[test]
fn a_leader_sends_a_snapshot_to_a_follower_that_needs_what_is_gone() {
    let mut node = small(Node::leader(2, &[1, 1]));
    node.matched(2, 2, 3);
    node.snapshot();
    assert_eq!(node.machine.log().first_index(), Index(4));
    let refused = Body::Appended {
        round: Round(0),
        outcome: AppendOutcome::Conflict { prev: at(1, 2), first: Index(1), term: None },
    };
    let did = node.hear(3, 2, refused);
    assert_eq!(did.chunks_wanted(), [0]);
    let offer = |number, done| Command::OfferChunk { to: n(3), number, data: Bytes::from_static(b"x"), done };
    let did = node.step(Input::Requested(offer(0, false)));
    assert!(matches!(&did.sent[0].1.body, Body::InstallSnapshot(part) if part.last == at(2, 3) && part.number == 0));
    // What is lost is sent again, and a follower that lost everything gets everything again.
    for _ in 0..4 {
        node.pass(Duration::from_millis(50));
        node.matched(2, 2, 3);
        node.hear(3, 2, Body::Appended { round: Round(0), outcome: AppendOutcome::Matched(Index(0)) });
        let did = node.fire(Timer::Heartbeat);
        let again = did.sent.iter().any(|(_, message)| matches!(message.body, Body::InstallSnapshot(_)));
        assert_eq!(again, node.now.since_epoch() == Duration::from_millis(150), "at {:?}", node.now);
    }
    let wants = |next| Body::Installing { last: at(2, 3), next };
    assert_eq!(node.hear(3, 2, wants(1)).chunks_wanted(), [1]);
    node.step(Input::Requested(offer(1, false)));
    assert!(node.hear(3, 2, wants(1)).chunks_wanted().is_empty(), "a late answer");
    assert_eq!(node.hear(3, 2, wants(0)).chunks_wanted(), [0], "the follower has restarted");
    node.step(Input::Requested(offer(0, true)));
    node.propose("y");
    node.fire(Timer::Flush);
    let did = node.matched(3, 2, 3);
    assert!(did.told.iter().any(|event| matches!(event, Event::ChunksUnwanted { to } if *to == n(3))));
    assert_eq!(did.appends()[0].1.prev, at(2, 3), "and then the entries that follow it");
}

/// A follower that cannot read the snapshot answers heartbeats, and no part; its leader forgot no entries any more.
#[test]
fn an_install_that_nobody_answers_for_long_is_given_up_and_begins_anew() {
    let mut node = small(Node::leader(2, &[1, 1]));
    node.matched(2, 2, 3);
    node.snapshot();
    let lacking = || Body::Appended {
        round: Round(0),
        outcome: AppendOutcome::Conflict { prev: at(1, 2), first: Index(1), term: None },
    };
    assert_eq!(node.hear(3, 2, lacking()).chunks_wanted(), [0]);
    let offer = Command::OfferChunk { to: n(3), number: 0, data: Bytes::from_static(b"x"), done: false };
    node.step(Input::Requested(offer));
    for heartbeat in 1..=200 {
        node.pass(Duration::from_millis(50));
        node.matched(2, 2, 3);
        node.hear(3, 2, lacking());
        let did = node.fire(Timer::Heartbeat);
        let given_up = did.told.iter().any(|event| matches!(event, Event::ChunksUnwanted { to } if *to == n(3)));
        assert_eq!(given_up, heartbeat == 200, "after {:?}", node.now);
    }
    assert_eq!(node.hear(3, 2, lacking()).chunks_wanted(), [0]);
}

/// Snapshots of a large state are far apart, and the entries between them would take as much memory as it does.
#[test]
fn entries_that_take_too_much_memory_are_forgotten_without_a_snapshot_unless_a_follower_lacks_them() {
    let mut node = Node::with(3, vec![hard(1, None)]);
    node.machine.config.memory_bytes = entries(1, &[1, 1]).iter().map(Entry::size).sum();
    node.append(2, 1, (0, 0), &[1; 10], 7);
    assert_eq!(node.machine.log().first_index(), Index(8), "what is not applied stays");
    node.append(2, 1, (1, 10), &[], 10);
    assert_eq!(node.machine.log().first_index(), Index(9), "and so does what there is memory for");
    assert_eq!(node.machine.snapshot(), Position::ORIGIN);
    assert_eq!(node.snapshot().len(), 3, "begin, part and end: nothing has been lost for a snapshot");

    let mut node = Node::leader(2, &[1, 1]);
    node.machine.config.memory_bytes = 0;
    node.matched(3, 2, 0);
    node.matched(2, 2, 3);
    assert_eq!(node.machine.log().first_index(), Index(1), "n3 is there, and has none");
    node.matched(3, 2, 2);
    node.propose("x");
    node.fire(Timer::Flush);
    node.matched(2, 2, 4);
    assert_eq!(node.machine.log().first_index(), Index(3));
}

/// Found by a transcript of etcd-io/raft, slow_follower_after_compaction: heartbeats were answered, and freed nothing.
#[test]
fn a_follower_that_lost_a_whole_window_of_what_is_gone_is_sent_a_snapshot() {
    let mut node = small(Node::leader(2, &[1]));
    node.machine.config.window.appends = 2;
    node.matched(2, 2, 2);
    node.matched(3, 2, 2);
    for _ in 0..4 {
        node.propose("x");
        node.fire(Timer::Flush);
        node.matched(3, 2, node.machine.log().last().index.0);
    }
    assert_eq!(node.machine.progress().unwrap()[&n(2)].next_index, Index(5), "its window is full");
    node.snapshot();
    let prev = node.fire(Timer::Heartbeat).appends()[0].1.prev;
    assert_eq!(prev, Position::ORIGIN, "what came before its next entry is gone");
    assert_eq!(node.matched(2, 2, 0).chunks_wanted(), [0]);
}

#[test]
fn nobody_is_sent_a_snapshot_who_is_not_there() {
    let mut node = small(Node::leader(2, &[1, 1]));
    node.matched(2, 2, 3);
    node.snapshot();
    let refused = Body::Appended {
        round: Round(0),
        outcome: AppendOutcome::Conflict { prev: at(1, 2), first: Index(1), term: None },
    };
    assert_eq!(node.hear(3, 2, refused).chunks_wanted(), [0]);
    node.pass(Duration::from_millis(150));
    node.matched(2, 2, 3);
    let did = node.fire(Timer::Heartbeat);
    assert!(did.told.iter().any(|event| matches!(event, Event::ChunksUnwanted { to } if *to == n(3))));
    node.propose("x");
    assert!(node.fire(Timer::Flush).chunks_wanted().is_empty());
    // It comes back, and answers a heartbeat.
    let did = node.hear(3, 2, Body::Appended { round: Round(0), outcome: AppendOutcome::Matched(Index(0)) });
    assert_eq!(did.chunks_wanted(), [0]);
}

#[test]
fn an_append_that_reaches_back_into_the_snapshot_is_matched() {
    let mut node = small(applied(3));
    node.snapshot();
    let did = node.append(2, 1, (1, 1), &[1, 1, 1], 4);
    assert_eq!(did.outcomes(), [AppendOutcome::Matched(Index(4))]);
    assert_eq!(did.persisted, [Record::Append(entries(4, &[1]))]);
    assert_eq!(node.append(2, 1, (0, 0), &[1], 4).outcomes(), [AppendOutcome::Matched(Index(1))]);
}
