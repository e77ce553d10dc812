//! `kill -9` for some and for all: what was acknowledged stays.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::common::cluster::{Cluster, Writers, assert_holds};
use crate::common::http::listing;

#[test]
fn what_was_acknowledged_survives_the_death_of_all_three() {
    let mut cluster = Cluster::of_three();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let writers = Writers::start(&cluster.addrs(), &format!("round/{round}"), 4);
        writers.wait_for_more(100);
        for number in 0..3 {
            cluster.kill(number);
        }
        acknowledged.extend(writers.stop());
        for number in 0..3 {
            cluster.restart(number);
        }
        assert_holds(&cluster.converged(), &acknowledged);
    }
}

#[test]
fn ten_rounds_of_killing_random_nodes_lose_nothing_acknowledged() {
    const SEED: u64 = 20_260_102;
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut cluster = Cluster::with_election_timeout("200ms..400ms");
    let writers = Writers::start(&cluster.addrs(), "chaos", 4);
    for round in 0..10 {
        writers.wait_for_more(20 + rng.next_u32() as usize % 30);
        // Any one, any two, or all of them.
        let victims = 1 + rng.next_u32() % 7;
        let victims: Vec<_> = (0..3).filter(|number| victims & (1 << number) != 0).collect();
        eprintln!("seed {SEED}, round {round}: kills {victims:?}");
        for number in &victims {
            cluster.kill(*number);
        }
        if victims.len() == 1 && rng.next_u32().is_multiple_of(2) {
            writers.wait_for_more(20); // two of three go on
        }
        for number in victims {
            cluster.restart(number);
        }
    }
    writers.wait_for_more(20);
    let acknowledged = writers.stop();
    assert_holds(&cluster.converged(), &acknowledged);
    for addr in cluster.addrs() {
        assert_holds(&listing(addr, "").unwrap(), &acknowledged);
    }
}

/// Without a majority a node that was restarted served nothing, although it had known all of it to be committed.
#[test]
fn a_node_that_is_restarted_without_a_majority_shows_what_it_knew_to_be_committed() {
    let mut cluster = Cluster::of_three();
    let writers = Writers::start(&cluster.addrs(), "known", 2);
    writers.wait_for_more(50);
    let acknowledged = writers.stop();
    cluster.converged();
    cluster.node(0).set("later", "takes the note along");
    cluster.converged();
    for number in 0..3 {
        cluster.kill(number);
    }
    cluster.restart(1);
    let node = cluster.node(1);
    for (key, value) in &acknowledged {
        assert_eq!(node.get(&format!("/kv/{key}?consistency=stale")).expect(200).json()["value"], **value);
    }
    node.get("/kv/later?timeout=10ms").expect(503); // it has no majority
}
