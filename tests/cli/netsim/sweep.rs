//! Seeds: in order, the same each time, and to be seen again.

use std::fs;

use serde_json::json;

use super::{answers, sim};

#[test]
fn a_sweep_ends_with_a_summary() {
    let ended = sim(&["raft", "--seeds", "0..6", "--until", "3s", "--json", "--check-determinism"]).expect(0);
    let mut all = answers(&ended);
    let summary = all.pop().unwrap();
    assert_eq!((&summary["event"], &summary["seeds"], &summary["failed"]), (&json!("summary"), &json!(6), &json!(0)));
    assert!(summary["times_real_time"].as_f64().unwrap() > 0.0 && summary["faults"]["loss"].as_u64().unwrap() > 0);
    let seeds: Vec<_> = all.iter().map(|line| line["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds, [0, 1, 2, 3, 4, 5], "in order, whoever was first");
}

#[test]
fn a_seed_says_first_what_it_decides_and_is_the_same_each_time() {
    let run = || sim(&["raft", "--seed", "17", "--nodes", "3", "--until", "2s"]).expect(0).stdout;
    let first = run();
    assert!(first.starts_with("seed 17, 3 nodes: pre-vote"), "{first}");
    assert!(first.contains("seed 17 holds") && first.contains("trace "), "{first}");
    assert_eq!(first, run());
}

#[test]
fn only_the_faults_asked_for_happen() {
    let ended = sim(&["raft", "--seeds", "0..8", "--until", "3s", "--faults", "crash,disk", "--json"]).expect(0);
    let faults = &answers(&ended).pop().unwrap()["faults"];
    assert!(faults["crash"].as_u64().unwrap() > 0, "{faults}");
    for other in ["loss", "dup", "delay", "partition", "pause", "members"] {
        assert_eq!(faults[other], 0, "{faults}");
    }
}

#[test]
fn a_trace_is_json_lines_in_the_order_of_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.jsonl");
    sim(&["raft", "--seed", "3", "--until", "2s", "--trace", path.to_str().unwrap()]).expect(0);
    let trace = fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = trace.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["event"], "trace");
    let times: Vec<_> = lines[1..].iter().map(|line| line["time_us"].as_u64().unwrap()).collect();
    assert!(times.is_sorted());
    for event in ["start", "role", "send", "deliver", "persist", "commit"] {
        assert!(lines.iter().any(|line| line["event"] == event), "no {event}");
    }
}

#[test]
fn arguments_that_make_no_sense_are_exit_2() {
    for (arguments, said) in [
        (vec!["raft"], "--seeds 0..100"),
        (vec!["raft", "--seeds", "5..5"], "no range of seeds"),
        (vec!["raft", "--seeds", "many"], "0..1000"),
        (vec!["raft", "--seed", "1", "--nodes", "0"], "from 1 to 99"),
        (vec!["raft", "--seed", "1", "--faults", "rain"], "'rain' is no kind of fault"),
        (vec!["raft", "--seed", "1", "--script", "-"], "cannot be used with"),
    ] {
        sim(&arguments).expect(2).says(&[said]);
    }
    sim(&["raft", "--seed", "1", "--until", "1s", "--trace", "/dev/null/x"]).expect(6).says(&["/dev/null/x"]);
}
