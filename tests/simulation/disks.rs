//! Disks that are slow, each in its own way, and stand still: who leads, and for how long.

use std::ops::RangeInclusive;
use std::time::Duration;

use netbelt::sim::raft::cluster::{Cluster, Figures};
use netbelt::sim::run;
use netbelt::sim::scenario::Plan;

const SEEDS: u64 = 20;
const FOR: Duration = Duration::from_secs(30);

const fn ms(from: u64, to: u64) -> RangeInclusive<Duration> {
    Duration::from_millis(from)..=Duration::from_millis(to)
}

/// No fault but these disks, in a cluster of so many nodes with the timing that nodes have.
fn with_disks(seed: u64, nodes: usize, disks: &[RangeInclusive<Duration>]) -> Figures {
    let plan = Plan { nodes, disks: disks.to_vec(), faults: Some(Vec::new()), faults_for: FOR, ..Plan::default() };
    let run = run::<Cluster>(seed, &plan);
    run.unwrap_or_else(|error| panic!("seed {seed}, {nodes} nodes, disks {disks:?}: {error}")).figures
}

/// With 120 ms a sync there were 23 terms in 13 s, with 250 ms never a leader.
#[test]
fn a_cluster_with_slow_disks_elects_a_leader_and_keeps_it() {
    for sync in [ms(60, 60), ms(120, 120), ms(250, 250), ms(200, 300)] {
        let mut leaders = 0;
        for seed in 0..SEEDS {
            let report = with_disks(seed, 3 + 2 * (seed as usize % 2), std::slice::from_ref(&sync));
            leaders += report.leaders;
            assert!(report.leaders <= 2, "{sync:?}, seed {seed}: {} leaders in {FOR:?}", report.leaders);
            assert!(report.committed > 20, "{sync:?}, seed {seed}: {} entries committed", report.committed);
        }
        println!("{sync:?}: {leaders} leaders in {SEEDS} runs");
        assert!(leaders as u64 <= SEEDS + 2, "{sync:?}: {leaders} leaders in {SEEDS} runs: patience follows the disk");
    }
}

/// Whoever has a fast disk must not lose patience with voters that have slow ones, term after term.
#[test]
fn a_cluster_with_slow_and_fast_disks_elects_a_leader_and_keeps_it() {
    let (fast, slow) = (ms(0, 1), ms(250, 250));
    for disks in [[fast.clone(), slow.clone(), slow.clone()], [fast.clone(), fast, slow]] {
        for seed in 0..SEEDS {
            let report = with_disks(seed, 3, &disks);
            assert!(report.leaders <= 3, "{disks:?}, seed {seed}: {} leaders in {FOR:?}", report.leaders);
            assert!(report.committed > 20, "{disks:?}, seed {seed}: {} entries committed", report.committed);
        }
    }
}
