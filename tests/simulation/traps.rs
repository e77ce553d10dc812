//! The traps that Raft sets for whoever writes it, one test each, named after the trap and seen from outside.
//!
//! Four need real processes, or a client's name for its request, and are elsewhere under such a name: `stale_read` and
//! `a_retried_command_applied_twice` in `tests/cluster/failover.rs`, `wiped_data_directory` and `cloned_data_directory` in
//! `tests/cluster/identity.rs`. `scripts/mutants.sh` falls into most of them on purpose, to see it noticed.

use std::path::Path;

use netbelt::sim::raft::cluster::Cluster;
use netbelt::sim::run;
use netbelt::sim::scenario::Plan;

use super::scripts::play;

/// Plays a scenario of `tests/simulation/scripts`.
fn scenario(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/scripts").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    script(&text);
}

fn script(text: &str) {
    let facts = play(text).unwrap_or_else(|what| panic!("{what}"));
    assert!(facts >= 3, "it says little: {facts} facts");
}

/// Raft §5.4.2, Figure 8: the commit index stays until an entry of the current term is on a majority.
#[test]
fn committing_an_old_terms_entry_by_counting() {
    scenario("figure-8.netsim");
    scenario("figure-8-e.netsim");
}

/// At most one leader a term, over every trace: here the one in which a second vote would elect a second one, and the
/// seeds, which check it all the time.
#[test]
fn vote_cleared_when_stepping_down_in_the_same_term() {
    script(
        "nodes 5 prevote=off checkquorum=off
fire 1 election
fire 2 election
expect 1 state=candidate term=1 voted_for=1
expect 2 state=candidate term=1 voted_for=2
deliver 2 3
deliver 3 2
deliver 2 4
deliver 4 2
expect 2 state=leader term=1
deliver 2 1 2
expect 1 state=follower term=1 leader=2 voted_for=1
fire 1 election
expect 1 state=candidate term=2 voted_for=1",
    );
    for seed in 0..20 {
        run::<Cluster>(seed, &Plan::default()).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}

/// A crash after any acknowledgement, with what was not synced lost: what was acknowledged is there after the restart.
#[test]
fn reply_before_persist() {
    scenario("held-disk.netsim");
    script(
        "nodes 3 prevote=off checkquorum=off
hold-disk 2
fire 1 election
deliver all
expect 1 state=leader term=1 commit=1
crash 2
restart 2
expect 2 term=0 voted_for=none last=0
cut 3 1
cut 3 2
propose 1 a
deliver all
expect 1 commit=1 last=2
sync 2
fire 1 heartbeat
deliver all
fire 1 heartbeat
deliver all
expect 1 commit=2
crash 1
crash 2
restart 2
expect 2 last=2",
    );
}

/// Figure 2, AppendEntries RPC 3: append 2 before append 1, and the last index stays.
#[test]
fn an_old_append_reordered_truncates_a_matching_suffix() {
    scenario("overtaken-append.netsim");
}

/// A crash between any two records of a snapshot boots to the same state; that every record is tried is a test of
/// `src/raft/tests/snapshots.rs`, and every order of events one of `tests/model`.
#[test]
fn snapshot_against_truncation_order() {
    script(
        "nodes 3
fire 1 election
deliver all
propose 1 a
propose 1 b
deliver all
fire 1 heartbeat
deliver all
expect 2 data=a,b last=3 first=1
hold-disk 2
snapshot 2
crash 2
restart 2
expect 2 first=1 last=3
sync 2
fire 1 heartbeat
deliver all
expect 2 data=a,b commit=3
snapshot 2
expect 2 first=4 last=3
crash 2
restart 2
expect 2 data=a,b first=4 last=3 commit=3",
    );
}

/// A follower that died in the middle of an install catches up within ten election timeouts of its restart.
#[test]
fn sender_stuck_on_a_follower_that_died_mid_install() {
    scenario("snapshot-to-a-straggler.netsim");
}

/// Thesis §4.1: refused until an entry of the leader's own term is committed, and one change at a time.
#[test]
fn membership_change_right_after_an_election() {
    scenario("change-after-election.netsim");
}

/// Thesis §9.6: a follower that was cut off for a minute comes back to the same leader in the same term.
#[test]
fn a_returning_node_disrupts() {
    scenario("returning-node.netsim");
}

/// One link of the leader's cut: at most one change of leader, and service goes on.
#[test]
fn one_cut_link_leader_to_one_follower() {
    scenario("one-cut-link.netsim");
}

/// The rule of durability holds at n = 1, too.
#[test]
fn one_node_cluster_acks_before_fsync() {
    scenario("alone.netsim");
}

/// Thesis §4.2.1: a new member votes when it has caught up; one that never starts counts for nothing.
#[test]
fn quorum_raised_by_a_member_that_never_started() {
    script(
        "nodes 3
fire 1 election
deliver all
add 4
crash 4
deliver all
fire 1 heartbeat
deliver all
expect 1 members=1,2,3,4 learners=4
crash 3
propose 1 a
deliver 1 2
deliver 2 1
expect 1 data=a learners=4",
    );
}
