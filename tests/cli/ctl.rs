//! `raft-ctl` against a cluster of one.

#![expect(clippy::disallowed_methods, reason = "a test of time-outs needs a real clock")]

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::cluster::Cluster;
use crate::common::http::{self, Http};
use crate::common::{Ended, Node, Process, Reader, eventually, node_in, raft_ctl, run, run_with};

/// A node, and `raft-ctl` told where it is.
struct Scene {
    node: Node,
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { node: Node::alone(dir.path()), dir }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = raft_ctl();
        command.env("RAFT_NODES", self.node.addr.to_string()).env("XDG_STATE_HOME", self.dir.path().join("state"));
        command.args(arguments);
        command
    }

    fn ctl(&self, arguments: &[&str]) -> Ended {
        run(self.command(arguments))
    }

    /// What it prints when all goes well; nothing on stderr.
    #[track_caller]
    fn prints(&self, arguments: &[&str]) -> String {
        let ended = self.ctl(arguments).expect(0);
        assert_eq!(ended.stderr, "");
        ended.stdout
    }
}

/// Waits for something to be so.
#[track_caller]
fn wait_until(is_so: impl Fn() -> bool) {
    eventually("it", || if is_so() { Ok(()) } else { Err("not yet") });
}

/// Sets keys quickly, several at a time.
fn set_many(node: &Node, keys: impl IntoIterator<Item = String>, value: &str) {
    let keys: Vec<_> = keys.into_iter().collect();
    std::thread::scope(|scope| {
        for share in keys.chunks(keys.len().div_ceil(16)) {
            scope.spawn(move || {
                let mut connection = Http::connect(node.addr).unwrap();
                for key in share {
                    let body = http::set_body(key, value);
                    connection.ask("POST", "/kv", &[], body.as_bytes()).unwrap().expect(200);
                }
            });
        }
    });
}

#[test]
fn what_is_set_can_be_read_changed_and_deleted() {
    let scene = Scene::new();
    assert_eq!(scene.prints(&["set", "colour", "green"]), "ok, version 1\n");
    assert_eq!(scene.prints(&["get", "colour"]), "green\n");
    assert_eq!(scene.prints(&["get", "colour", "--stale"]), "green\n");
    assert_eq!(scene.prints(&["cas", "colour", "green", "blue"]), "ok, version 2\n");
    assert_eq!(scene.prints(&["set", "colour", "red", "--if-version", "2"]), "ok, version 3\n");
    assert_eq!(scene.prints(&["set", "shape", "round", "--if-absent"]), "ok, version 4\n");
    assert_eq!(scene.prints(&["list"]), "colour\tred\nshape\tround\n");
    assert_eq!(scene.prints(&["del", "colour"]), "deleted colour\n");
    assert_eq!(scene.prints(&["list", "--keys"]), "shape\n");
    assert_eq!(scene.prints(&["set", "empty", ""]), "ok, version 6\n");
    assert_eq!(scene.prints(&["get", "empty"]), "\n");
}

#[test]
fn an_absent_key_is_a_no() {
    let scene = Scene::new();
    for arguments in [&["get", "k"][..], &["get", "k", "--stale"], &["del", "k"]] {
        let ended = scene.ctl(arguments).expect(1).says(&["key not found: k"]);
        assert_eq!(ended.stdout, "");
    }
    let event = scene.ctl(&["--json", "get", "k"]).expect(1).json();
    assert_eq!(event, json!({ "event": "error", "kind": "no", "message": "key not found: k" }));
}

#[test]
fn a_failed_condition_is_a_no_that_tells_the_current_value() {
    let scene = Scene::new();
    scene.ctl(&["cas", "k", "old", "new"]).expect(1).says(&["k does not exist"]);
    scene.ctl(&["set", "k", "v", "--if-version", "1"]).expect(1).says(&["k does not exist"]);
    scene.prints(&["set", "k", "current"]);
    for arguments in [
        &["cas", "k", "old", "new"][..],
        &["set", "k", "new", "--if-absent"],
        &["set", "k", "new", "--if-version", "9"],
        &["del", "k", "--if-version", "9"],
    ] {
        scene.ctl(arguments).expect(1).says(&["condition failed", "k is 'current' at version 1"]);
    }
    assert_eq!(scene.prints(&["get", "k"]), "current\n");
}

#[test]
fn json_results_are_one_object_a_line() {
    let scene = Scene::new();
    let json = |arguments: &[&str]| scene.ctl(&[&["--json"], arguments].concat()).expect(0).json();
    assert_eq!(json(&["set", "k", "v"]), json!({ "key": "k", "value": "v", "version": 1 }));
    assert_eq!(json(&["get", "k"]), json!({ "key": "k", "value": "v", "version": 1 }));
    assert_eq!(json(&["list"]), json!({ "key": "k", "value": "v", "version": 1 }));
    assert_eq!(json(&["list", "--keys"]), json!({ "key": "k", "version": 1 }));
    assert_eq!(json(&["del", "k"]), json!({ "key": "k", "deleted": true }));
    assert_eq!(json(&["leader"]), json!({ "leader": "n1", "addr": scene.node.addr.to_string() }));
    let status = json(&["status"]);
    for (field, value) in [("nodeId", json!("n1")), ("state", json!("leader")), ("health", json!("ok"))] {
        assert_eq!(status[field], value, "{status}");
    }
    assert_eq!(status["addr"], scene.node.addr.to_string());
}

#[test]
fn the_leader_is_a_bare_name_and_the_status_a_table() {
    let scene = Scene::new();
    assert_eq!(scene.prints(&["leader"]), "n1\n");
    let table = scene.prints(&["status"]);
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..3], ["NODE", "ADDRESS", "STATE"]);
    assert_eq!(rows[1][..3], ["n1", &scene.node.addr.to_string(), "leader"]);
    assert_eq!((rows.len(), rows[1].last()), (2, Some(&"ok")));
}

#[test]
fn a_listing_joins_its_pages() {
    let scene = Scene::new();
    let key = |number: usize| format!("page/{number:04}");
    set_many(&scene.node, (0..1234).map(key), "v");
    set_many(&scene.node, ["other".to_owned()], "v");
    let all = scene.prints(&["list", "page/", "--keys"]);
    assert_eq!(all.lines().collect::<Vec<_>>(), (0..1234).map(key).collect::<Vec<_>>());
    let limited = scene.prints(&["list", "page/", "--keys", "--limit", "205"]);
    assert_eq!(limited.lines().collect::<Vec<_>>(), (0..205).map(key).collect::<Vec<_>>());
    let json = scene.prints(&["list", "--json", "--limit", "1100"]);
    let last: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!((json.lines().count(), last["key"].as_str()), (1100, Some("page/1098")));
    assert_eq!(scene.prints(&["list", "--limit", "0"]), "");
    assert_eq!(scene.prints(&["list", "nothing/"]), "");
}

#[test]
fn a_reader_who_leaves_early_ends_a_listing_quietly() {
    let scene = Scene::new();
    // More than a pipe holds, so that the listing does run into the closed end.
    set_many(&scene.node, (0..500).map(|number| format!("key/{number}")), &"x".repeat(1000));
    for arguments in [&["list"][..], &["--json", "list"]] {
        let mut process = Process::start_read_by(scene.command(arguments), Reader::OneLine);
        assert_eq!(process.ended().code(), Some(0));
        assert_eq!(process.err.text(), "");
    }
}

#[test]
fn keys_of_any_characters_come_back_as_they_were() {
    let scene = Scene::new();
    let keys = [
        "a/b/c",
        "a b",
        " ",
        "100%",
        "%2F",
        "a%20b",
        "?x=1&y=2#z",
        "über/straße",
        "日本",
        "\"quoted\"",
        "a+b",
        "..",
        "tab\tnew\nline",
    ];
    for (number, key) in keys.iter().enumerate() {
        scene.prints(&["set", key, &format!("value {number}")]);
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(scene.prints(&["get", key]), format!("value {number}\n"), "{key:?}");
        let listed = scene.ctl(&["--json", "list", key, "--limit", "1"]).expect(0).json();
        assert_eq!(listed["key"], *key);
    }
    for key in keys {
        assert_eq!(scene.prints(&["del", key]), format!("deleted {}\n", key.replace('\t', "\\t").replace('\n', "\\n")));
    }
    let long = "k".repeat(1024);
    scene.prints(&["set", &long, "v"]);
    assert_eq!(scene.prints(&["get", &long]), "v\n");
}

#[test]
fn a_value_may_come_from_stdin_byte_for_byte() {
    let scene = Scene::new();
    let text = "two\nlines, 日本 and no newline at the end";
    run_with(scene.command(&["set", "k", "-"]), text).expect(0);
    assert_eq!(scene.prints(&["get", "k"]), format!("{text}\n"));
    run_with(scene.command(&["cas", "k", text, "-"]), "new").expect(0);
    assert_eq!(scene.prints(&["get", "k"]), "new\n");
    run_with(scene.command(&["set", "k", "-"]), b"\xff\xfe".as_slice()).expect(2).says(&["stdin", "UTF-8"]);
    let too_large = ["a value has at most 1048576 bytes (1 MiB), and stdin has 2000000"];
    run_with(scene.command(&["set", "k", "-"]), "v".repeat(2_000_000)).expect(5).says(&too_large);
    run_with(scene.command(&["set", "k", "-"]), vec![b'x'; 1 << 20]).expect(0);
    run_with(scene.command(&["set", "k", "-"]), vec![b'x'; (1 << 20) + 1]).expect(5).says(&["1048576 bytes"]);
    assert_eq!(scene.prints(&["get", "k"]).len(), (1 << 20) + 1);
}

#[test]
fn a_key_outside_the_limits_is_a_mistake_of_the_command_line() {
    let scene = Scene::new();
    scene.ctl(&["set", "", "v"]).expect(2).says(&["1 to 1024 bytes"]);
    scene.ctl(&["get", &"k".repeat(1025)]).expect(2).says(&["1 to 1024 bytes"]);
}

#[test]
fn a_negative_number_is_a_value_and_no_flag() {
    let scene = Scene::new();
    scene.prints(&["set", "temperature", "-5"]);
    assert_eq!(scene.prints(&["get", "temperature"]), "-5\n");
}

#[test]
fn nobody_there_is_told_apart_from_nobody_leading() {
    for arguments in
        [&["get", "k"][..], &["set", "k", "v"], &["del", "k"], &["list"], &["status"], &["leader"], &["bench"]]
    {
        let mut command = raft_ctl();
        command.args(["--json", "--nodes", "127.0.0.1:1"]).args(arguments);
        let ended = run(command).expect(3);
        let last: Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(last["kind"], "unreachable", "{arguments:?}: {last}");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = node_in(dir.path(), "n1");
    command.args(["--peer", "n2=127.0.0.1:1", "--peers-have-no-data"]);
    let node = Node::start(command);
    for arguments in [&["get", "k"][..], &["set", "k", "v"], &["leader"], &["bench"]] {
        let mut command = raft_ctl();
        command.args(["--json", "--timeout", "300ms", "--nodes", &node.addr.to_string()]).args(arguments);
        let event = run(command).expect(3).says(&["no leader"]).json();
        assert_eq!(event["kind"], "no_leader", "{arguments:?}: {event}");
    }
    let mut command = raft_ctl();
    command.args(["--nodes", &node.addr.to_string(), "status"]);
    let table = run(command).expect(0).stdout;
    assert!(table.contains("no leader") && table.contains("down"), "{table}");
}

#[test]
fn nobody_there_comes_with_a_remedy() {
    for arguments in [&["get", "k"][..], &["set", "k", "v"], &["list"], &["status"], &["leader"], &["bench"]] {
        let mut command = raft_ctl();
        command.args(["--nodes", "127.0.0.1:1"]).args(arguments);
        run(command).expect(3).says(&["--nodes"]);
    }
}

#[test]
fn the_members_are_asked_of_a_node_that_is_one() {
    let scene = Scene::new();
    let dir = tempfile::tempdir().unwrap();
    let mut command = node_in(dir.path(), "n4");
    command.args(["--join", "127.0.0.1:1"]);
    let outside = Node::start(command);
    let outside = outside.addr.to_string();
    let ended = scene.ctl(&["--nodes", &outside, "members"]).expect(3).says(&["n4 is not in a cluster", "--nodes"]);
    assert_eq!(ended.stdout, "");
    let event = scene.ctl(&["--nodes", &outside, "members", "--json"]).expect(3).json();
    assert_eq!(event["kind"], "no_leader", "{event}");
    scene.ctl(&["--nodes", &outside, "members", "--stale"]).expect(3).says(&["knows no members", "--nodes"]);
    let nodes = format!("{outside},{}", scene.node.addr);
    let table = scene.prints(&["--nodes", &nodes, "members"]);
    assert_eq!(table.lines().nth(1).unwrap().split_whitespace().next(), Some("n1"), "{table}");
    assert_eq!(scene.prints(&["members", "--stale"]), table);
}

#[test]
fn who_adds_a_member_is_told_how_to_start_it() {
    let scene = Scene::new();
    let at = scene.node.addr.to_string();
    let start = format!("raft-node --id n2 --listen 127.0.0.1:1 --join {at}");
    for said in ["added n2 at 127.0.0.1:1\n", "n2 is a member, at 127.0.0.1:1\n"] {
        let ended = scene.ctl(&["members", "add", "n2=127.0.0.1:1"]).expect(0).says(&[&start]);
        assert_eq!(ended.stdout, said);
    }
    let ended = scene.ctl(&["members", "add", "n2=127.0.0.1:1", "--quiet"]).expect(0);
    assert_eq!(ended.stderr, "");
    scene.ctl(&["members", "add", "n3=127.0.0.1:1"]).expect(5).says(&["127.0.0.1:1 is the address of n2"]);
    scene.ctl(&["members", "remove", "n9"]).expect(1).says(&["not a member"]);
}

#[test]
fn a_node_that_is_down_is_passed_over() {
    let scene = Scene::new();
    let nodes = format!("127.0.0.1:1,{}", scene.node.addr);
    scene.prints(&["--nodes", &nodes, "set", "k", "v"]);
    assert_eq!(scene.prints(&["--nodes", &nodes, "get", "k"]), "v\n");
    assert_eq!(scene.prints(&["--nodes", &nodes, "leader"]), "n1\n");
}

/// Takes one request and hangs up without an answer.
fn hangs_up_once() -> (std::net::SocketAddr, std::thread::JoinHandle<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = String::new();
        while !head.contains("\r\n\r\n") {
            let mut bytes = [0; 1024];
            let count = std::io::Read::read(&mut stream, &mut bytes).unwrap();
            assert_ne!(count, 0, "{head}");
            head.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        head.to_lowercase()
    });
    (addr, thread)
}

#[test]
fn a_write_whose_connection_is_lost_goes_to_the_next_node_under_the_same_name() {
    let scene = Scene::new();
    scene.prints(&["set", "before", "0"]); // it has a name from now on
    let (addr, thread) = hangs_up_once();
    let nodes = format!("{addr},{}", scene.node.addr);
    assert_eq!(scene.prints(&["--nodes", &nodes, "set", "a", "1"]), "ok, version 2\n");
    assert!(thread.join().unwrap().contains("idempotency-key: raft-ctl-"));
    let (addr, _) = hangs_up_once();
    let ended = scene.ctl(&["--nodes", &addr.to_string(), "set", "a", "1"]).expect(124);
    assert!(ended.stderr.contains("may or may not"), "{ended:?}");
    let (addr, _) = hangs_up_once();
    let dead = format!("{addr},127.0.0.1:1");
    scene.ctl(&["--nodes", &dead, "set", "a", "1"]).expect(124); // the first may have done it
}

/// Hangs up on the first request that changes something, and refuses all others; it has no keys.
fn loses_one_change_and_refuses_the_others() -> std::net::SocketAddr {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut lost = false;
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut request, mut bytes) = (String::new(), [0; 4096]);
            while !request.contains("\r\n\r\n") {
                match stream.read(&mut bytes) {
                    Ok(count @ 1..) => request += &String::from_utf8_lossy(&bytes[..count]),
                    Ok(0) | Err(_) => break,
                }
            }
            let (status, body) = match (request.starts_with("GET "), lost) {
                (true, _) => ("200 OK", r#"{"items":[],"more":false,"next":null}"#),
                (false, false) => {
                    lost = true;
                    continue;
                }
                (false, true) => ("503 Service Unavailable", r#"{"error":"no leader"}"#),
            };
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        }
    });
    addr
}

#[test]
fn a_change_that_one_node_may_have_made_is_not_denied_because_the_next_one_refuses() {
    let scene = Scene::new();
    scene.prints(&["set", "k", "v"]);
    let backup = scene.dir.path().join("a.backup").to_str().unwrap().to_owned();
    scene.ctl(&["snapshot", "--out", &backup]).expect(0);
    let rows: [&[&str]; 8] = [
        &["set", "a", "1"],
        &["cas", "a", "1", "2"],
        &["del", "a"],
        &["members", "add", "n2=127.0.0.1:1"],
        &["members", "remove", "n2"],
        &["transfer", "n2"],
        &["snapshot"],
        &["restore", &backup],
    ];
    for row in rows {
        let addr = loses_one_change_and_refuses_the_others().to_string();
        // The same one twice: a node that was restarted, or lost its leader.
        let nodes = format!("{addr},{addr}");
        let ended = scene.ctl(&[&["--nodes", nodes.as_str(), "--timeout", "2s"][..], row].concat()).expect(124);
        assert!(ended.stderr.contains("may or may not"), "{row:?}: {ended:?}");
        assert!(!ended.stderr.contains("nothing was done"), "{row:?}: {ended:?}");
    }
}

#[test]
fn what_no_node_began_with_is_said_not_to_be_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = node_in(dir.path(), "n1");
    command.args(["--peer", "n2=127.0.0.1:1"]);
    let node = Node::start(command);
    for row in [&["set", "a", "1"][..], &["cas", "a", "1", "2"], &["del", "a"]] {
        let mut command = raft_ctl();
        command.args(["--nodes", &node.addr.to_string(), "--timeout", "300ms"]).args(row);
        run(command).expect(3).says(&["no leader", "nothing was done"]);
    }
}

#[test]
fn calls_one_after_another_use_one_name_and_calls_side_by_side_one_each() {
    let scene = Scene::new();
    let names = || {
        let metrics = scene.node.get("/metrics").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("netbelt_raft_sessions "));
        line.unwrap().parse::<u64>().unwrap()
    };
    for value in ["1", "2", "3", "4"] {
        scene.prints(&["set", "k", value]);
        scene.prints(&["set", "k", value]); // the same again is a write of its own
    }
    assert_eq!((names(), scene.prints(&["--json", "get", "k"]).contains(r#""version":8"#)), (1, true));
    // Somebody else uses that name.
    let kept = std::fs::File::open(scene.dir.path().join("state/netbelt/raft-ctl/0")).unwrap();
    kept.lock().unwrap();
    scene.prints(&["set", "k", "5"]);
    scene.prints(&["del", "k"]);
    assert_eq!(names(), 2);
    drop(kept);
    // Nothing can be kept, or what is kept is rubbish.
    for state in ["/dev/null/state", "/proc/self"] {
        let mut command = scene.command(&["set", "k", "6"]);
        command.env("XDG_STATE_HOME", state);
        assert_eq!(run(command).expect(0).stderr, "");
    }
    assert_eq!(names(), 4);
    for number in 0..2 {
        std::fs::write(scene.dir.path().join(format!("state/netbelt/raft-ctl/{number}")), "\0\0\0").unwrap();
    }
    scene.prints(&["set", "k", "7"]);
    scene.prints(&["set", "k", "8"]);
    assert_eq!(names(), 5);
}

#[test]
fn a_retry_under_a_name_that_was_forgotten_is_refused_and_does_not_run_over_a_newer_value() {
    let scene = Scene::new();
    let named = |name: &str, body: &str| {
        let mut connection = Http::connect(scene.node.addr).unwrap();
        connection.ask("POST", "/kv", &[&format!("idempotency-key: {name}")], body.as_bytes()).unwrap()
    };
    let old = http::set_body("k", "old");
    named("forgotten:1", &old).expect(200);
    scene.prints(&["set", "k", "raft-ctl was here"]);
    std::thread::scope(|scope| {
        for share in 0..50 {
            let mut connection = Http::connect(scene.node.addr).unwrap();
            scope.spawn(move || {
                for number in 0..200 {
                    let name = format!("idempotency-key: other-{share}-{number}:1");
                    let body = http::set_body("other", "v");
                    connection.ask("POST", "/kv", &[&name], body.as_bytes()).unwrap().expect(200);
                }
            });
        }
    });
    scene.node.set("k", "new");
    let refused = named("forgotten:1", &old).expect(409).error();
    assert!(refused.contains("forgotten") && refused.contains("unknown") && refused.contains("new name"), "{refused}");
    assert_eq!(scene.prints(&["get", "k"]), "new\n");
    // The name that raft-ctl keeps was forgotten, too. It takes another one.
    scene.prints(&["set", "k", "newer"]);
    assert_eq!(scene.prints(&["get", "k"]), "newer\n");
    // A name that the cluster has never heard of, and cannot tell from one that it has forgotten.
    named("never heard of;since=1:1", &old).expect(409);
    assert_eq!(scene.prints(&["get", "k"]), "newer\n");
    let version = scene.node.get("/status").json()["version"].clone();
    named(&format!("since now;since={version}:1"), &http::set_body("k", "newest")).expect(200);
}

/// On a terminal, as `script` makes one.
fn on_a_terminal(scene: &Scene, arguments: &[&str]) -> Command {
    let words = arguments.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let mut command = Command::new("script");
    let line = format!("'{}' {words}", env!("CARGO_BIN_EXE_raft-ctl"));
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command.env("RAFT_NODES", scene.node.addr.to_string()).env("TERM", "xterm").env("SHELL", "/bin/sh");
    command
}

#[test]
fn controls_in_keys_values_and_errors_are_shown_and_not_obeyed() {
    let scene = Scene::new();
    let (key, value) = ("user/\x1b[2J\n7", "two\nlines\t\x1b]0;title\x07\\ \u{9b}é");
    let (shown_key, shown) = (r"user/\x1b[2J\n7", r"two\nlines\t\x1b]0;title\x07\\ \u{9b}é");
    let mut watch = Process::start(scene.command(&["watch", "--after", "0", "--count", "2"]));
    scene.prints(&["set", key, value]);
    assert_eq!(scene.prints(&["list"]), format!("{shown_key}\t{shown}\n"));
    assert_eq!(scene.prints(&["list", "--keys"]), format!("{shown_key}\n"));
    assert_eq!(scene.prints(&["get", key]), format!("{value}\n"), "a pipe gets every byte");
    assert_eq!(scene.ctl(&["--json", "list"]).json()["value"], value, "JSON has its own escapes");
    let on_screen = run(on_a_terminal(&scene, &["get", key])).expect(0).stdout;
    assert_eq!(on_screen, "two\r\nlines\t\\x1b]0;title\\x07\\ \\u{9b}é\r\n", "lines stay lines");
    let failed = scene.ctl(&["cas", key, "old", "new"]).expect(1);
    assert!(failed.says(&[shown_key, shown]).stderr.matches('\n').count() == 1);
    assert_eq!(scene.prints(&["del", key]), format!("deleted {shown_key}\n"));
    for arguments in [["get", key], ["del", key]] {
        assert_eq!(scene.ctl(&arguments).expect(1).stderr, format!("raft-ctl: key not found: {shown_key}\n"));
    }
    assert_eq!(watch.ended().code(), Some(0));
    assert_eq!(watch.out.text(), format!("1\tset\t{shown_key}\t{shown}\n2\tdelete\t{shown_key}\n"));
}

#[test]
fn a_watched_status_is_lines_that_go_on_when_the_node_is_gone_and_end_with_a_summary() {
    let mut scene = Scene::new();
    let mut text = Process::start(scene.command(&["status", "--watch", "--interval", "20ms"]));
    let mut json = Process::start(scene.command(&["--json", "status", "--watch", "--interval", "20ms"]));
    json.out.line_with(r#""state":"leader""#);
    text.out.line_with("leader");
    scene.node.process.kill();
    json.out.line_with(r#""state":"unreachable""#);
    text.out.line_with("down");
    json.signal("INT");
    text.signal("INT");
    assert_eq!((json.ended().code(), text.ended().code()), (Some(130), Some(130)));
    assert_eq!((json.err.text(), text.err.text()), (String::new(), String::new()));
    let events = json.out.events();
    let (summary, rounds) = events.split_last().unwrap();
    assert_eq!((&summary["event"], &summary["interrupted"]), (&json!("summary"), &json!(true)));
    assert_eq!(summary["rounds"], rounds.len());
    assert!(rounds.iter().all(|round| round["event"] == "status" && round["ts"].is_string()), "{events:?}");
    let lines = text.out.text();
    assert_eq!(lines.matches("HEALTH").count(), 1, "{lines}");
    assert!(lines.lines().skip(1).all(|line| line.starts_with("20") && line.contains("Z  ")), "{lines}");
    for wrong in [&["status", "--interval", "1s"][..], &["status", "--watch", "--interval", "0s"]] {
        scene.ctl(wrong).expect(2);
    }
}

#[test]
fn a_watched_status_is_drawn_in_place_on_a_terminal() {
    let scene = Scene::new();
    let screen = Process::start(on_a_terminal(&scene, &["status", "--watch", "--interval", "20ms"]));
    eventually("three drawings", || {
        let text = screen.out.text();
        let drawn = text.matches("\x1b[H\x1b[J").count();
        if drawn >= 3 && text.matches("HEALTH").count() >= 3 { Ok(()) } else { Err(text) }
    });
}

#[test]
fn a_paused_node_is_said_not_to_answer_soon_and_holds_nobody_up() {
    let cluster = Cluster::of_three();
    let paused = (cluster.leader() + 1) % 3;
    let stopped = Paused::new(cluster.node(paused));
    let addr = cluster.addr(paused).to_string();
    for nodes in [addr.clone(), format!("{addr},{}", cluster.addr((paused + 1) % 3))] {
        let mut command = raft_ctl();
        command.args(["status", "--nodes", &nodes]);
        let begun = Instant::now();
        let ended = run(command);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?}"); // a second, on a machine that is not busy
        if nodes == addr {
            ended.expect(3).says(&["no node answers"]);
            continue;
        }
        let table = ended.expect(0).stdout;
        let row = table.lines().find(|line| line.contains(&addr)).unwrap_or_else(|| panic!("{table}"));
        assert!(row.starts_with(&Cluster::id(paused)) && row.contains("no answer"), "{table}");
        assert!(row.contains("did not answer within 1s"), "{table}");
        assert_eq!(table.lines().filter(|line| line.ends_with("  ok")).count(), 2, "{table}");
    }
    drop(stopped);
}

/// A node that is paused, until this is dropped.
struct Paused(u32);

impl Paused {
    fn new(node: &Node) -> Self {
        node.process.signal("STOP");
        Self(node.process.pid())
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        crate::common::signal(self.0, "CONT");
    }
}

#[test]
fn a_member_that_is_away_is_a_warning_below_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = node_in(dir.path(), "n1");
    command.args(["--peer", "n2=127.0.0.1:1"]);
    let node = Node::start(command);
    let mut command = raft_ctl();
    command.args(["status", "--nodes", &node.addr.to_string()]);
    let table = run(command).expect(0).stdout;
    assert_eq!(table.lines().last(), Some("n1 warns: n2 at 127.0.0.1:1 is not connected"), "{table}");
}

#[test]
fn an_answer_that_is_not_a_nodes_is_the_peers_fault() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let greeter = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
    });
    let mut command = raft_ctl();
    command.args(["--nodes", &addr, "get", "k"]);
    run(command).expect(5).says(&[&addr, "did not answer as a raft-node"]);
    greeter.join().unwrap();
}

#[test]
fn a_benchmark_ends_with_exactly_one_summary() {
    let scene = Scene::new();
    let load =
        ["bench", "--clients", "4", "--duration", "300ms", "--warm-up", "100ms", "--value", "64", "--keys", "50"];
    let summary = scene.ctl(&[&["--json"], &load[..]].concat()).expect(0).json();
    assert_eq!((&summary["event"], &summary["interrupted"]), (&json!("summary"), &json!(false)));
    assert_eq!((&summary["errors"], &summary["clients"], &summary["value_bytes"]), (&json!(0), &json!(4), &json!(64)));
    let count = |field: &str| summary[field].as_u64().unwrap_or_else(|| panic!("no {field} in {summary}"));
    assert!(count("writes") > 0 && count("reads") > 0 && count("ops") == count("writes") + count("reads"), "{summary}");
    for kind in ["write", "read"] {
        let quantiles = ["p50", "p90", "p99", "p999", "max"].map(|name| summary[format!("{kind}_{name}_us")].as_f64());
        assert!(quantiles.is_sorted() && quantiles[0] > Some(0.0), "{summary}");
        // As many pauses as answers, and one at the end, make up the whole time.
        let (pause, answers) = (count(&format!("{kind}_pause_us")), count(&format!("{kind}s")));
        let time = (summary["seconds"].as_f64().unwrap() * 1e6) as u64;
        assert!((time / (answers + 1)..time + 10_000).contains(&pause), "{summary}");
    }
    let text = scene.prints(&load);
    assert!(text.contains("writes") && text.contains("p99") && text.contains("pause"), "{text}");
    assert!(http::listing(scene.node.addr, "").unwrap().keys().all(|key| key.starts_with("bench/")));
}

#[test]
fn an_interrupted_benchmark_still_prints_its_summary() {
    let scene = Scene::new();
    let command = scene.command(&["--json", "bench", "--clients", "2", "--duration", "60s", "--warm-up", "0s"]);
    let mut process = Process::start(command);
    wait_until(|| !http::listing(scene.node.addr, "&prefix=bench").unwrap().is_empty());
    process.signal("INT");
    assert_eq!(process.ended().code(), Some(130));
    let out = process.out.text();
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summaries: Vec<_> = events.iter().filter(|event| event["event"] == "summary").collect();
    assert_eq!(summaries.len(), 1, "{out}");
    assert_eq!(summaries[0]["interrupted"], true);
}

#[test]
fn usr1_prints_an_interval_of_a_running_benchmark() {
    let scene = Scene::new();
    let mut process =
        Process::start(scene.command(&["--json", "bench", "--clients", "2", "--duration", "60s", "--warm-up", "0s"]));
    wait_until(|| !http::listing(scene.node.addr, "&prefix=bench").unwrap().is_empty());
    process.signal("USR1");
    process.out.line_with(r#""event":"interval""#);
    process.signal("TERM");
    assert_eq!(process.ended().code(), Some(143));
}

#[test]
fn a_command_that_waits_can_be_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = node_in(dir.path(), "n1");
    command.args(["--peer", "n2=127.0.0.1:1", "--peers-have-no-data"]);
    let node = Node::start(command);
    let mut command = raft_ctl();
    command.args(["--timeout", "60s", "--nodes", &node.addr.to_string(), "get", "k"]);
    let mut process = Process::start(command);
    wait_until(|| node.get("/metrics").text().contains("netbelt_raft_requests_in_hand 1"));
    process.signal("INT");
    assert_eq!(process.ended().code(), Some(130));
}
