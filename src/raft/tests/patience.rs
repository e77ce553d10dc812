//! Slow disks: what is said while they are busy, and how long a node waits.

use super::*;

const MS: Duration = Duration::from_millis(1);

impl Node {
    /// Its disk has just taken so long, twice in a row.
    fn with_syncs_of(mut self, took: Duration) -> Self {
        for _ in 0..2 {
            self.step_with_busy_disk(Input::Synced { took, more: false });
        }
        self
    }

    fn election_timer(did: &Did) -> RangeInclusive<Duration> {
        did.timers[&Timer::Election].clone()
    }
}

fn heartbeat(round: u64) -> Body {
    Body::Heartbeat { round: Round(round) }
}

fn heartbeat_reply(round: u64) -> Body {
    Body::HeartbeatReply { round: Round(round) }
}

/// Heartbeats waited for the disk behind the entries, and with 250 ms a sync there was never a leader.
#[test]
fn a_leader_whose_disk_is_busy_says_that_it_is_there_and_nothing_of_its_log() {
    let mut node = Node::leader(2, &[1]);
    node.propose("x");
    let did = node.fire(Timer::Heartbeat);
    let said: Vec<_> = did.meanwhile.iter().map(|(to, message)| (*to, message.term, message.body.clone())).collect();
    assert_eq!(said, [(n(2), Term(2), heartbeat(0)), (n(3), Term(2), heartbeat(0))]);
    assert_eq!(did.appends().len(), 2, "what it has to say of its log follows when the disk is done");
}

#[test]
fn a_follower_whose_disk_is_busy_says_that_it_hears_the_leader_and_not_that_it_matches() {
    let mut node = Node::with_log(2, &[1]);
    let did = node.append(2, 2, (1, 1), &[2], 0);
    assert!(did.meanwhile.is_empty(), "the answer to entries is that they are durable: {did:?}");
    let did = node.append(2, 2, (2, 2), &[], 0);
    assert_eq!(did.meanwhile, [(n(2), Message { term: Term(2), body: heartbeat_reply(0) })]);
    let did = node.hear(2, 2, heartbeat(7));
    assert_eq!(did.meanwhile, did.sent, "at once, however busy the disk is");
    assert_eq!(did.sent, [(n(2), Message { term: Term(2), body: heartbeat_reply(7) })]);
    assert!(did.timers.contains_key(&Timer::Election), "it goes on waiting for this leader");
}

#[test]
fn followers_that_are_heard_keep_a_leader_and_confirm_its_reads_while_their_disks_are_busy() {
    let mut node = Node::leader(2, &[1]);
    node.matched(2, 2, 2);
    node.step(Input::Requested(Command::Read { ticket: Ticket(1) }));
    node.fire(Timer::Flush);
    for _ in 0..20 {
        node.pass(50 * MS);
        assert!(node.hear(2, 2, heartbeat_reply(0)).told.is_empty(), "it has not heard of the round");
        node.fire(Timer::Heartbeat);
    }
    assert_eq!(node.machine.role(), RoleName::Leader);
    let did = node.hear(2, 2, heartbeat_reply(1));
    assert!(matches!(&did.told[..], [Event::ReadReady { .. }]), "{did:?}");
    assert_eq!(node.machine.progress().unwrap()[&n(2)].match_index, Index(2), "and nothing is known of its log");
    node.hear(3, 2, heartbeat_reply(9));
    assert_eq!(node.machine.counters().bad_messages, 1, "there was no such round");
}

/// It kept the entries for it in memory, however many came.
#[test]
fn a_follower_that_is_heard_and_whose_disk_stands_still_is_not_there_for_entries() {
    let mut node = Node::leader(2, &[1]);
    node.matched(3, 2, 2);
    assert!(node.machine.progress().unwrap()[&n(3)].reachable);
    for _ in 0..20 {
        node.pass(50 * MS);
        node.matched(2, 2, 2);
        node.hear(3, 2, heartbeat_reply(0));
        node.fire(Timer::Heartbeat);
    }
    let followers = node.machine.progress().unwrap();
    assert_eq!((followers[&n(2)].reachable, followers[&n(3)].reachable), (true, false));
    node.matched(3, 2, 2);
    assert!(node.machine.progress().unwrap()[&n(3)].reachable, "its disk is back");
}

#[test]
fn a_leader_whose_disk_stands_still_steps_down_and_does_not_seek_election_until_it_is_back() {
    let mut node = Node::leader(2, &[1]);
    node.matched(2, 2, 2);
    node.step_with_busy_disk(Input::Requested(Command::Propose { ticket: Ticket(1), command: Bytes::new() }));
    node.step_with_busy_disk(Input::Elapsed(Timer::Flush));
    let mut beats = 0;
    while node.machine.role() == RoleName::Leader {
        node.pass(50 * MS);
        beats += 1;
        for follower in [2, 3] {
            // Its appends wait for its disk, so nobody answers for any.
            let message = Message { term: Term(2), body: heartbeat_reply(0) };
            node.step_with_busy_disk(Input::Received { from: n(follower), message });
        }
        node.step_with_busy_disk(Input::Elapsed(Timer::Heartbeat));
        assert!(beats < 100, "it leads for ever");
    }
    assert_eq!(beats * 50 * MS, crate::defaults::DISK_PATIENCE);
    let did = node.step_with_busy_disk(Input::Elapsed(Timer::Election));
    assert!(did.sent.is_empty() && did.timers.contains_key(&Timer::Election), "{did:?}");
    node.step_with_busy_disk(Input::Synced { took: Duration::from_secs(2), more: false });
    assert!(!node.step_with_busy_disk(Input::Elapsed(Timer::Election)).sent.is_empty());
}

#[test]
fn a_leader_whose_disk_stands_still_goes_on_when_there_is_nobody_else() {
    let mut node = Node::with(1, Vec::new());
    assert_eq!(node.machine.role(), RoleName::Leader);
    node.step_with_busy_disk(Input::Requested(Command::Propose { ticket: Ticket(1), command: Bytes::new() }));
    node.step_with_busy_disk(Input::Elapsed(Timer::Flush));
    for _ in 0..100 {
        node.pass(50 * MS);
        node.step_with_busy_disk(Input::Elapsed(Timer::Heartbeat));
    }
    assert_eq!(node.machine.role(), RoleName::Leader);
}

#[test]
fn patience_grows_with_slow_syncs_and_not_with_fast_ones_or_a_single_slow_one() {
    let usual = crate::defaults::ELECTION_TIMEOUT;
    for (syncs, more) in [(0, 0), (1, 0), (37, 0), (50, 50), (250, 850)] {
        let mut node = Node::with_log(1, &[1]).with_syncs_of(syncs * MS);
        let did = node.step_with_busy_disk(Input::Elapsed(Timer::Election));
        assert_eq!(Node::election_timer(&did), *usual.start() + more * MS..=*usual.end() + more * MS, "{syncs} ms");
    }
    let mut node = Node::with_log(1, &[1]).with_syncs_of(MS);
    node.step_with_busy_disk(Input::Synced { took: Duration::from_secs(3), more: false });
    assert_eq!(Node::election_timer(&node.step_with_busy_disk(Input::Elapsed(Timer::Election))), usual);
}

#[test]
fn a_candidate_gives_voters_more_time_with_each_candidacy_that_came_to_nothing_until_there_is_a_leader() {
    let mut node = Node::with_log(1, &[1]);
    let start = |did: &Did| *Node::election_timer(did).start();
    let starts: Vec<_> = (0..7).map(|_| start(&node.fire(Timer::Election)).as_millis()).collect();
    assert_eq!(starts, [150, 300, 450, 600, 750, 750, 750]);
    node.append(2, 2, (1, 1), &[], 0);
    assert_eq!(start(&node.fire(Timer::Election)), 150 * MS);
}
