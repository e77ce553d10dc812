//! Simulated clusters over many seeds, with every fault there is.

#![expect(clippy::print_stdout, reason = "figures for whoever runs it with --nocapture")]

mod disks;
mod scripts;
mod traps;
mod wipes;

use std::time::{Duration, Instant};

use netbelt::sim::raft::cluster::Cluster;
use netbelt::sim::run;
use netbelt::sim::scenario::Plan;

const fn nodes_of(seed: u64) -> usize {
    [5, 3, 5, 4, 5, 3, 5, 2, 5, 1][(seed % 10) as usize]
}

/// NETBELT_SEEDS runs more of them.
#[test]
fn every_seed_of_faults_keeps_every_property_and_heals() {
    let seeds = std::env::var("NETBELT_SEEDS").map_or(200, |text| text.parse().expect("NETBELT_SEEDS is a number"));
    let plan = Plan::default();
    #[expect(clippy::disallowed_methods, reason = "reports how fast the simulator is; nothing depends on it")]
    let started = Instant::now();
    let (mut virtual_time, mut answered, mut open, mut leaders, mut committed) = (Duration::ZERO, 0, 0, 0, 0);
    let mut retried = 0;
    for seed in 0..seeds {
        let nodes = nodes_of(seed);
        let report = run::<Cluster>(seed, &Plan { nodes, ..plan.clone() })
            .unwrap_or_else(|e| panic!("{e} (netsim raft --seed {seed} --nodes {nodes})"));
        virtual_time += report.virtual_time;
        answered += report.figures.answered;
        open += report.figures.open;
        retried += report.figures.retried;
        leaders += report.figures.leaders;
        committed += report.figures.committed;
    }
    let speed = virtual_time.as_secs_f64() / started.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds: {virtual_time:?} virtual, {speed:.0}x real time; {answered} answered, {retried} of them after a retry, {open} open, {leaders} leaders, {committed} committed"
    );
    assert!(
        answered as u64 > 20 * seeds && retried as u64 > seeds && leaders as u64 >= seeds,
        "the runs must do something: {answered} answers, {retried} after a retry, {leaders} leaders"
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let plan = Plan { faults_for: Duration::from_secs(5), ..Plan::default() };
    for seed in 0..50 {
        let hash = || run::<Cluster>(seed, &plan).unwrap_or_else(|e| panic!("seed {seed}: {e}")).trace_hash;
        assert_eq!(hash(), hash(), "seed {seed}");
    }
}
