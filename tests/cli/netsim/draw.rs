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
    let svg = sim(&["draw", &path, "--from", "0s"]).expect(0).stdout;
    assert!(svg.contains("Left out: ") && svg.len() < 300_000, "{} bytes", svg.len());
    let part = sim(&["draw", &path, "--from", "160ms", "--to", "260ms"]).expect(0).stdout;
    assert!(!part.contains("Left out: ") && part.contains("200 ms"), "{part}");
}

/// The picture of a script.
fn picture(text: &str, arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = trace(dir.path(), text);
    sim(&[&["draw", &path], arguments].concat()).expect(0).stdout
}

const SPLIT: &str = "nodes 4 prevote=off\nfire 1 election\nfire 4 election\ndeliver 1 2\ndeliver 4 3\ndeliver all\n";

#[test]
fn granted_and_refused_votes_look_different_and_are_counted() {
    let svg = picture(SPLIT, &[]);
    for part in ["url(#Vote)", "url(#Voteno)", ">yes</text>", ">no</text>", ">2/4<", ">granted<", ">refused<"] {
        assert!(svg.contains(part), "no {part} in:\n{svg}");
    }
    assert_eq!(svg.matches("n1: 2 votes of 4").count(), 1, "{svg}");
    assert!(!svg.contains("3/4"), "a vote that was refused is not counted: {svg}");
}

#[test]
fn a_node_that_asks_for_pre_votes_is_no_candidate_yet() {
    let svg = picture("nodes 3\nfire 1 election\ndeliver 1 2\ndeliver 2 1\ndeliver all\n", &[]);
    for part in ["n1: asks for pre-votes, term 0", "n1: candidate: asks for votes, term 1", "n1: 2 pre-votes of 3"] {
        assert!(svg.contains(part), "no {part} in:\n{svg}");
    }
}

#[test]
fn logs_are_drawn_under_the_lanes_while_they_are_short() {
    let repaired = "nodes 3 prevote=off checkquorum=off\nfire 1 election\ndeliver all\npropose 1 lost\ndrop all\ncrash 1\n\
        fire 2 election\ndeliver all\npropose 2 kept\ndeliver all\nrestart 1\nfire 2 heartbeat\ndeliver all\n";
    let svg = picture(repaired, &[]);
    for part in ["n1: entry 2 of term 1 lost", "n1: entry 2 of term 2 ", "n1: entry 3 of term 2 kept", ">log</text>"] {
        assert!(svg.contains(part), "no {part} in:\n{svg}");
    }
    let compacted = "nodes 1\nfire 1 election\npropose 1 a\nsnapshot 1\npropose 1 b\n";
    let svg = picture(compacted, &[]);
    assert!(svg.contains("a snapshot in place of the entries up to 2") && svg.contains("entry 3 of term 1 b"), "{svg}");
    let many = format!("nodes 1\nfire 1 election\n{}", "propose 1 x\n".repeat(12));
    assert!(!picture(&many, &[]).contains(">log</text>"), "a long log would be a smear");
}

#[test]
fn a_wiped_node_begins_in_term_0_with_an_empty_log() {
    let svg = picture("nodes 3 prevote=off\nfire 1 election\ndeliver all\nwipe 2\nelapse 1\n", &[]);
    for part in [">wiped<", "n2: follower, term 0</title></rect>\n<rect", "n2 loses its disk"] {
        assert!(svg.contains(part), "no {part} in:\n{svg}");
    }
    assert!(!svg.contains(">crash<") && !svg.contains(">down<"), "one sign is enough: {svg}");
}

#[test]
fn the_legend_says_what_the_numbers_mean_and_how_many_there_are() {
    let svg = picture("nodes 3 prevote=off\nfire 1 election\ndeliver all\npropose 1 x\ndeliver all\n", &[]);
    for part in [
        "votes it has, with its own",
        "committed up to this index",
        "entries, with their index",
        "entry of that term, committed",
        "vote<tspan class=\"f-soft\"> ×4</tspan>",
    ] {
        assert!(svg.contains(part), "no {part} in:\n{svg}");
    }
}

#[test]
fn labels_are_whole_and_the_picture_is_as_wide_as_they_need() {
    let width = |svg: &str| -> f64 {
        let from = svg.find(" width=\"").unwrap() + 8;
        svg[from..].split('"').next().unwrap().parse().unwrap()
    };
    let begun = "nodes 3\nfire 1 election\ndeliver all\n";
    let short = picture(&format!("{begun}propose 1 x\n"), &[]);
    let line = "propose 1 a command of some forty letters it is";
    let svg = picture(&format!("{begun}{line}\n"), &[]);
    assert!(svg.contains(&format!(">{line}<title>")), "{svg}");
    assert!(width(&svg) > width(&short) + 100.0, "{} beside {}", width(&svg), width(&short));
}

#[test]
fn a_picture_is_dark_where_the_reader_prefers_that() {
    let (light, dark) = (".f-paper{fill:#ffffff}", ".f-paper{fill:#0d1117}");
    let both = picture(SPLIT, &[]);
    assert!(both.contains(light) && both.contains(dark) && both.contains("prefers-color-scheme:dark"), "{both}");
    let only = picture(SPLIT, &["--theme", "light"]);
    assert!(only.contains(light) && !only.contains(dark) && !only.contains("prefers-color-scheme"), "{only}");
    let only = picture(SPLIT, &["--theme", "dark"]);
    assert!(only.contains(dark) && !only.contains(light), "{only}");
}

#[test]
fn nodes_that_are_cut_off_together_have_one_frame() {
    let svg = picture("nodes 5\nisolate 1 2\nfire 1 election\nheal\nisolate 4\nelapse 1\n", &[]);
    for part in ["cut off: n1, n2<", "cut off: n4<"] {
        assert!(svg.contains(part), "no {part} in:\n{svg}");
    }
    assert!(!svg.contains("from n1 to n3 is cut<"), "the frame says it");
    assert!(picture("nodes 3\ncut 1 2\nelapse 1\n", &[]).contains("the link from n1 to n2 is cut<"));
}

#[test]
fn a_quiet_seed_is_drawn_where_something_happens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.jsonl").to_str().unwrap().to_owned();
    sim(&["raft", "--seed", "4", "--until", "20s", "--faults", "none", "--trace", &path]).expect(0);
    let svg = sim(&["draw", &path]).expect(0).stdout;
    for part in ["most happens here", "leader, t", "votes it has"] {
        assert!(svg.contains(part), "no {part} in:\n{svg}");
    }
    let arrows = svg.matches("clip-path=").count();
    assert!((10..=150).contains(&arrows), "{arrows} arrows");
}

#[test]
fn the_words_of_another_protocol_are_drawn_as_they_are() {
    let svg = picture_of(
        r#"{"event":"start","id":1,"time_us":0}
{"event":"start","id":2,"time_us":0}
{"event":"role","id":1,"state":"coordinator","round":4,"time_us":5000}
{"event":"send","msg":1,"from":1,"to":2,"type":"victory","round":4,"time_us":8000}
{"event":"deliver","msg":1,"time_us":9000}
{"event":"view","id":2,"seen":"<a>","time_us":9500}
{"event":"heal","time_us":20000}
"#,
    );
    for part in [
        "n1: coordinator, round 4",
        ">coordinator<tspan",
        "n2: up<",
        "victory from n1 to n2: round 4",
        ">victory<tspan",
        "n2: view: seen &lt;a&gt;",
    ] {
        assert!(svg.contains(part), "no {part} in:\n{svg}");
    }
    assert!(!svg.contains("term 0") && !svg.contains(">follower<"), "Raft's words are Raft's: {svg}");
}

/// The picture of these lines, after a header.
fn picture_of(lines: &str) -> String {
    let mut command = netsim();
    command.args(["draw", "-"]);
    let header = r#"{"event":"trace","nodes":2,"axis":"time_us"}"#;
    run_with(command, format!("{header}\n{lines}")).expect(0).stdout
}

#[test]
fn a_node_that_tells_no_role_is_up() {
    let svg = picture_of(
        r#"{"event":"start","id":1,"time_us":0}
{"event":"start","id":2,"time_us":0}
{"event":"table","id":1,"peers":3,"time_us":5000}
{"event":"crash","id":2,"time_us":8000}
{"event":"start","id":2,"time_us":9000}
{"event":"heal","time_us":20000}
"#,
    );
    for part in ["n1: up<", "n2: up<", "n2: down<", "n1: table: peers 3"] {
        assert!(svg.contains(part), "no {part} in:\n{svg}");
    }
    assert!(!svg.contains("term 0") && !svg.contains("follower<"), "nobody told a term: {svg}");
}

#[test]
fn words_that_raft_has_too_keep_their_own_meaning() {
    let svg = picture_of(
        r#"{"event":"role","id":1,"state":"primary","term":4,"time_us":0}
{"event":"state","id":1,"largest":7,"time_us":1000}
{"event":"commit","id":1,"of":"x","time_us":2000}
{"event":"log","id":2,"bytes":9,"time_us":3000}
{"event":"send","msg":1,"from":1,"to":2,"type":"heartbeat","term":4,"round":2,"time_us":4000}
{"event":"deliver","msg":1,"term":4,"time_us":5000}
{"event":"heal","time_us":20000}
"#,
    );
    for part in [
        "n1: primary, term 4",
        "n1: state: largest 7",
        "n1: commit: of x",
        "n2: log: bytes 9",
        "heartbeat from n1 to n2: ",
        "round 2",
        ">heartbeat<tspan",
    ] {
        assert!(svg.contains(part), "no {part} in:\n{svg}");
    }
    assert!(!svg.contains("forwarded write"), "{svg}");
}

/// Node 0 has no lane, and a million lanes are no picture: the one ended in a panic, the other in gigabytes.
#[test]
fn a_node_that_has_no_lane_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for bad in [
        r#""event":"role","id":0,"state":"up""#,
        r#""event":"start","id":1000000"#,
        r#""event":"send","msg":1,"from":1,"to":10001,"type":"x""#,
    ] {
        let header = r#"{"event":"trace","nodes":2,"axis":"time_us"}"#;
        let trace = format!("{header}\n{{\"time_us\":0,\"step\":0,{bad}}}\n");
        let path = dir.path().join("bad.jsonl");
        fs::write(&path, trace).unwrap();
        sim(&["draw", path.to_str().unwrap()]).expect(2).says(&["line 2", "1 to 10000"]);
    }
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
