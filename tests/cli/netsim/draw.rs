//! Pictures of traces.

use std::fs;
use std::path::Path;

use super::sim;
use crate::common::{netsim, run_with};

/// The trace of a script, in this directory.
fn trace(dir: &Path, text: &str) -> String {
    let path = dir.join("trace.jsonl").to_str().unwrap().to_owned();
    let mut command = netsim();
    command.args(["raft", "--script", "-", "--trace", &path]);
    run_with(command, text).expect(0);
    path
}

#[test]
fn a_script_is_drawn_with_its_lines_roles_and_messages() {
    let dir = tempfile::tempdir().unwrap();
    let path = trace(dir.path(), "nodes 3\nfire 1 election\ndeliver all\ncrash 2\npropose 1 <x>&\ndeliver all\n");
    let svg = sim(&["draw", &path, "--title", "A & B"]).expect(0).stdout;
    assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
    for part in [
        "A &amp; B",
        "leader, term 1",
        "fire 1 election",
        "append_entries from n1 to n3, term 1: 2 &lt;x&gt;&amp;",
        "the receiver is down",
        "n3: committed up to 1",
        ">crash<",
    ] {
        assert!(svg.contains(part), "no {part} in:\n{svg}");
    }
    assert!(!svg.contains("<script"));
}

#[test]
fn a_part_of_a_script_is_named_by_its_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = trace(dir.path(), "nodes 3\nfire 1 election\ndeliver all\npropose 1 x\ndeliver all\n");
    let svg = sim(&["draw", &path, "--from", "4"]).expect(0).stdout;
    assert!(svg.contains("propose 1 x") && !svg.contains("fire 1 election"), "{svg}");
    sim(&["draw", &path, "--from", "9"]).expect(2).says(&["no line 9"]);
    sim(&["draw", &path, "--from", "1s"]).expect(2).says(&["lines of it"]);
}

#[test]
fn a_long_run_is_drawn_and_says_what_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.jsonl").to_str().unwrap().to_owned();
    sim(&["raft", "--seed", "5", "--until", "30s", "--trace", &path]).expect(0);
    let svg = sim(&["draw", &path]).expect(0).stdout;
    assert!(svg.contains("Left out: ") && svg.len() < 300_000, "{} bytes", svg.len());
    let part = sim(&["draw", &path, "--from", "160ms", "--to", "260ms"]).expect(0).stdout;
    assert!(!part.contains("Left out: ") && part.contains("200 ms"), "{part}");
}

#[test]
fn what_is_no_trace_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (text, said) in
        [("", "nothing happens"), ("hello\n", "line 1"), ("{\"event\":\"send\"}\n", "the first line is not")]
    {
        let path = dir.path().join("bad.jsonl");
        fs::write(&path, text).unwrap();
        sim(&["draw", path.to_str().unwrap()]).expect(2).says(&["no trace", said]);
    }
    sim(&["draw", "/nonexistent.jsonl"]).expect(2).says(&["/nonexistent.jsonl"]);
}
