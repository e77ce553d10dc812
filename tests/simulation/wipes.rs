//! Disks that are lost, a majority of them, too.

use netbelt::sim::raft::wipes::run;

/// Two nodes of three that had lost their disks began a second cluster beside the third, and acknowledged writes were gone.
#[test]
fn every_seed_of_wiped_disks_keeps_what_was_acknowledged_and_begins_no_second_cluster() {
    let seeds = std::env::var("NETBELT_SEEDS").map_or(200, |text| text.parse().expect("NETBELT_SEEDS is a number"));
    let (mut acknowledged, mut lost, mut served) = (0, 0, 0);
    for seed in 0..seeds {
        let report = run(seed).unwrap_or_else(|why| panic!("{why} (wipes, seed {seed})"));
        acknowledged += report.acknowledged;
        lost += usize::from(report.is_lost);
        served += usize::from(report.wiped > 0 && !report.is_lost);
    }
    println!("{seeds} seeds: {acknowledged} acknowledged; {lost} lost a majority, {served} a minority");
    assert!(
        acknowledged as u64 > 10 * seeds && lost as u64 > seeds / 5 && served as u64 > seeds / 5,
        "they do something"
    );
}
