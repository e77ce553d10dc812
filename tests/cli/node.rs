//! A node's life: how it says that it serves, whose data it takes, how it ends.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use netbelt::net::disk::{Batch, Log, Options};
use netbelt::raft::{Checkpoint, Configuration, HardState, Index, Position, Record, Term};
use netbelt::wire::Wire;
use serde_json::{Value, json};

use crate::common::cluster::reserve_port;
use crate::common::http::{self, Http};
use crate::common::{Node, PATIENCE, Process, Reader, eventually, node_in, raft_ctl, raft_node, run};

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

// Ready

#[test]
fn the_ready_line_says_where_and_who_as_text() {
    let dir = temp();
    let mut command = raft_node();
    command.args(["--id", "n1", "--listen", "127.0.0.1:0"]).current_dir(dir.path());
    let process = Process::start(command);
    let line = process.out.line_with("ready");
    let addr = line.strip_prefix("raft-node n1 ready on ").unwrap_or_else(|| panic!("{line:?}"));
    assert_eq!(http::get(addr.parse().expect("an address"), "/status").unwrap().json()["nodeId"], "n1");
    assert!(dir.path().join("n1.raft").is_dir(), "the data directory has its documented default");
}

#[test]
fn the_ready_line_and_the_ready_file_say_where_and_who_as_json() {
    let dir = temp();
    let file = dir.path().join("ready.json");
    let mut command = node_in(dir.path(), "n1");
    command.arg("--ready-file").arg(&file);
    let node = Node::start(command);
    let expected = json!({
        "event": "ready", "tool": "raft-node", "id": "n1", "addr": node.addr.to_string(), "pid": node.process.pid(),
    });
    assert_eq!(node.ready, expected);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.ends_with('\n'), "{text:?}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    assert_eq!(dir.path().read_dir().unwrap().count(), 2, "the data directory, the ready file, and no leftovers");
}

#[test]
fn a_ready_file_that_cannot_be_written_is_named() {
    let dir = temp();
    let mut command = node_in(dir.path(), "n1");
    command.args(["--ready-file", "/nonexistent/ready"]);
    run(command).expect(6).says(&["--ready-file", "/nonexistent/ready"]);
}

#[test]
fn systemd_is_told_when_the_node_is_ready_and_when_it_stops() {
    let dir = temp();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = node_in(dir.path(), "n1");
    command.env("NOTIFY_SOCKET", &path);
    let mut node = Node::start(command);
    let next = || {
        let mut message = [0; 100];
        let len = socket.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..len]).into_owned()
    };
    assert_eq!(next(), "READY=1");
    node.stop();
    assert_eq!(next(), "STOPPING=1");
}

#[test]
fn the_environment_configures_a_node() {
    let dir = temp();
    let port = reserve_port();
    let mut command = raft_node();
    command.arg("--json").current_dir(dir.path());
    command.envs([("NODE_ID", "alpha"), ("PEER_IDS", "beta=127.0.0.1:1,gamma.example:7002")]);
    command.env("PORT", port.to_string());
    let node = Node::start(command);
    assert_eq!((node.id.as_str(), node.addr.port()), ("alpha", port));
    let members = node.get("/status").json()["members"].clone();
    let member = |number: usize| (members[number]["id"].as_str().unwrap(), members[number]["addr"].as_str().unwrap());
    assert_eq!(member(0), ("alpha", node.addr.to_string().as_str()));
    assert_eq!(member(1), ("beta", "127.0.0.1:1"));
    assert_eq!(member(2), ("gamma.example", "gamma.example:7002"), "a bare address takes its host as the name");
}

#[test]
fn an_option_outranks_its_variable() {
    let dir = temp();
    let mut command = node_in(dir.path(), "n1");
    command.args(["--peer", "n2=127.0.0.1:2"]);
    command.envs([("NODE_ID", "other"), ("PORT", "1"), ("PEER_IDS", "n3=127.0.0.1:3")]);
    let node = Node::start(command);
    assert_eq!(node.id, "n1");
    assert_ne!(node.addr.port(), 1);
    let status = node.get("/status").json();
    let ids: Vec<_> = status["members"].as_array().unwrap().iter().map(|member| member["id"].as_str()).collect();
    assert_eq!(ids, [Some("n1"), Some("n2")]);
}

#[test]
fn an_empty_variable_counts_as_none() {
    let dir = temp();
    let mut command = node_in(dir.path(), "n1");
    let empty = ["PORT", "PEER_IDS", "LISTEN", "JOIN", "ADVERTISE", "DATA_DIR", "INSECURE"];
    command.envs(empty.map(|variable| (variable, "")));
    Node::start(command).wait_healthy();
    let mut nameless = raft_node();
    nameless.env("NODE_ID", "");
    run(nameless).expect(2).says(&["--id <ID>"]);
}

#[test]
fn every_address_and_the_directory_may_come_from_the_environment() {
    let dir = temp();
    let mut command = raft_node();
    command.arg("--json").current_dir(dir.path());
    command.envs([("NODE_ID", "n1"), ("LISTEN", "http://127.0.0.1:0"), ("DATA_DIR", "here")]);
    command.envs([("ADVERTISE", "there.example:7001"), ("INSECURE", "0"), ("PORT", "1")]);
    let node = Node::start(command);
    node.wait_healthy();
    assert!(node.addr.port() > 1, "LISTEN outranks PORT");
    assert!(dir.path().join("here").is_dir());
    let listed = || {
        let mut members = raft_ctl();
        members.args(["members", "--json", "--nodes", &format!(" http://{}/ , 127.0.0.1:1", node.addr)]);
        run(members)
    };
    let member = listed().expect(0).json();
    assert_eq!((&member["id"], &member["addr"]), (&json!("n1"), &json!("there.example:7001")));
}

#[test]
fn a_port_alone_is_one_of_loopback_and_of_every_address_for_who_says_insecure() {
    let start = |insecure: &str| {
        let dir = temp();
        let mut command = raft_node();
        command.args(["--id", "n1", "--json"]).current_dir(dir.path());
        command.envs([("PORT", reserve_port().to_string()), ("INSECURE", insecure.to_owned())]);
        Node::start(command).addr.ip()
    };
    assert!(start("").is_loopback() && start("no").is_loopback());
    assert!(start("1").is_unspecified() && start("true").is_unspecified());
}

#[test]
fn a_mistake_in_a_variable_names_the_variable() {
    let with = |variable: &str, value: &str| {
        let mut command = raft_node();
        command.args(["--id", "n1", "--data-dir", "/nonexistent/x"]).env(variable, value);
        run(command)
    };
    for (variable, value, word) in [
        ("PEER_IDS", "n2=host", "'host' has no port"),
        ("PORT", "seventy", "from 0 to 65535"),
        ("LISTEN", ":7001", "127.0.0.1:7001"),
        ("LISTEN", "0.0.0.0:0", "--insecure"),
        ("JOIN", "nowhere", "nowhere:7001"),
        ("ADVERTISE", "nowhere", "nowhere:7001"),
        ("INSECURE", "perhaps", "1 or 0"),
        ("PEER_IDS", "n2=a:1,n2=b:2", "n2 twice"),
    ] {
        let ended = with(variable, value).expect(2).says(&[variable, word]);
        assert!(!ended.stderr.contains("for '--"), "{}", ended.stderr);
    }
    let mut elsewhere = raft_node();
    elsewhere.args(["--id", "n1", "--listen", "127.0.0.1:0"]).env("DATA_DIR", "/dev/null/x");
    run(elsewhere).expect(6).says(&["DATA_DIR", "/dev/null/x"]);
    let mut nameless = raft_node();
    nameless.env("NODE_ID", "a/b");
    run(nameless).expect(2).says(&["NODE_ID", "'a/b' cannot name a node"]);
    let mut nodes = raft_ctl();
    nodes.args(["get", "k"]).env("RAFT_NODES", "here");
    run(nodes).expect(2).says(&["RAFT_NODES", "here:7001"]);
    // What stands on the command line outranks the variable, and is what is wrong.
    let mut option = raft_node();
    option.args(["--id", "n1", "--peer", "n2"]).env("PEER_IDS", "n3");
    let said = run(option).expect(2).says(&["--peer", "'n2' has no port"]).stderr;
    assert!(!said.contains("PEER_IDS"), "{said}");
}

// The data directory

/// A stopped node's directory with five keys in its log, and the log's file.
fn written_data(dir: &Path) -> PathBuf {
    let mut node = Node::alone(dir);
    for number in 0..5 {
        node.set(&format!("key{number}"), &format!("written-value-{number}"));
    }
    assert_eq!(node.stop().code(), Some(0));
    dir.join("n1/log/00000000000000000001.log")
}

fn assert_all_there(node: &Node) {
    node.wait_healthy();
    for number in 0..5 {
        assert_eq!(node.value(&format!("key{number}")), Some(format!("written-value-{number}")));
    }
}

/// Where the last frame of a log ends, whose last byte is not zero.
fn end_of_log(bytes: &[u8]) -> usize {
    (bytes.iter().rposition(|byte| *byte != 0).expect("there is a frame") + 1).next_multiple_of(8)
}

#[test]
fn a_restarted_node_has_what_it_had() {
    let dir = temp();
    written_data(dir.path());
    assert_all_there(&Node::start(node_in(dir.path(), "n1")));
}

#[test]
fn another_nodes_directory_is_refused() {
    let dir = temp();
    drop(Node::start(node_in(dir.path(), "n1")));
    let path = dir.path().join("n1");
    let mut command = raft_node();
    command.args(["--id", "n2", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&path);
    run(command).expect(6).says(&[path.to_str().unwrap(), "belongs to raft-node n1", "--data-dir"]);
}

#[test]
fn a_member_started_without_its_peers_still_needs_their_votes() {
    let dir = temp();
    let mut member = node_in(dir.path(), "n1");
    member.args(["--peer", "n2=127.0.0.1:1"]);
    drop(Node::start(member));
    let node = Node::start(node_in(dir.path(), "n1"));
    node.process.err.line_with("cannot connect to n2 at 127.0.0.1:1");
    let status = node.get("/status").expect(200).json();
    assert_eq!((&status["members"][1]["id"], &status["members"][1]["voter"]), (&json!("n2"), &json!(true)), "{status}");
    node.ask("POST", "/kv?timeout=2s", &http::set_body("a", "1")).expect(503);
}

#[test]
fn a_peer_that_is_no_member_is_refused_lest_a_mistake_split_the_cluster() {
    let dir = temp();
    drop(Node::alone(dir.path()));
    let mut command = node_in(dir.path(), "n1");
    command.args(["--peer", "n2=127.0.0.1:1"]);
    run(command).expect(6).says(&["n1, and --peer names n2", "--join", "--data-dir"]);
}

#[test]
fn a_node_that_belongs_to_a_cluster_joins_no_other() {
    let dir = temp();
    drop(Node::alone(dir.path()));
    let mut command = node_in(dir.path(), "n1");
    command.args(["--join", "127.0.0.1:1"]);
    let node = Node::start(command);
    node.process.err.line_with("--join is of no use any more: n1 is a member of a cluster");
    node.wait_healthy();
}

#[test]
fn a_node_that_waits_to_join_says_for_what_and_is_no_cluster_of_its_own() {
    let dir = temp();
    let mut command = node_in(dir.path(), "n1");
    command.args(["--join", "127.0.0.1:1"]);
    let node = Node::start(command);
    node.process.err.line_with("cannot join the cluster of 127.0.0.1:1");
    node.process.err.line_with("still: cannot join the cluster of 127.0.0.1:1"); // after a while
    assert_eq!(node.process.out.text().lines().count(), 1, "it is ready, and not a member");
    let health = node.get("/health").expect(503).json()["status"].as_str().unwrap().to_owned();
    assert!(health.contains("127.0.0.1:1") && health.contains("refused"), "{health}");
    node.ask("POST", "/kv?timeout=1s", &http::set_body("a", "1")).expect(503);
    drop(node);
    // Started without --join, it does not become one either.
    let node = Node::start(node_in(dir.path(), "n1"));
    let health = node.get("/health").expect(503).json()["status"].as_str().unwrap().to_owned();
    assert!(health.contains("not a member of a cluster yet") && health.contains("--join"), "{health}");
}

#[test]
fn a_node_says_when_it_has_joined_and_again_when_it_starts_as_a_member() {
    let (dir, text) = (temp(), temp());
    let first = Node::alone(dir.path());
    let addr = first.addr.to_string();
    let mut command = node_in(dir.path(), "n2");
    command.args(["--join", &addr]);
    let mut node = Node::start(command);
    let joined = node.process.out.event("joined");
    let cluster = first.get("/status").json()["clusterId"].clone();
    assert_eq!(joined, json!({ "event": "joined", "id": "n2", "cluster": cluster }));
    let status = node.get("/status").json();
    assert!(status["members"].as_array().unwrap().iter().any(|member| member["id"] == "n2"), "{status}");
    assert!(!node.process.err.text().contains("WARN refused"), "{}", node.process.err.text());
    node.wait_healthy();
    node.stop();
    let mut command = node_in(dir.path(), "n2");
    command.args(["--join", &addr]);
    assert_eq!(Node::start(command).process.out.event("joined"), joined);

    let mut command = raft_node();
    command.args(["--id", "n3", "--listen", "127.0.0.1:0", "--join", "127.0.0.1:1"]).current_dir(text.path());
    let waits = Process::start(command);
    waits.err.line_with("cannot join");
    assert!(!waits.out.text().contains("is a member"), "{}", waits.out.text());
}

#[test]
fn a_node_that_was_added_where_nobody_reaches_it_says_so() {
    let dir = temp();
    let first = Node::alone(dir.path());
    let mut command = node_in(dir.path(), "n2");
    command.args(["--join", &first.addr.to_string(), "--advertise", "127.0.0.1:1"]);
    let node = Node::start(command);
    node.process.err.line_with("whose leader is to connect to 127.0.0.1:1 (--advertise");
    eventually("a health that says so", || {
        let health = node.get("/health").expect(503).json()["status"].as_str().unwrap().to_owned();
        let says_so = health.contains("not a member") && health.contains("not connected to 127.0.0.1:1");
        if says_so && health.contains("--advertise") { Ok(()) } else { Err(health) }
    });
    let mut members = raft_ctl();
    members.args(["members", "--nodes", &first.addr.to_string()]);
    let table = run(members).expect(0).stdout;
    let row = table.lines().find(|line| line.starts_with("n2")).unwrap_or_else(|| panic!("{table}"));
    assert!(row.ends_with("learner, not connected"), "{table}");
    assert!(!node.process.out.text().contains("joined"), "{}", node.process.out.text());
}

#[test]
fn a_node_does_not_ask_itself_to_let_it_in() {
    let dir = temp();
    let refused = |arguments: &[&str], own: &str| {
        let mut command = raft_node();
        command.args(["--id", "n1", "--json", "--data-dir"]).arg(dir.path().join("n1")).args(arguments);
        run(command).expect(2).says(&[own, "this node itself", "without --join"]);
        assert!(!dir.path().join("n1").exists());
    };
    let port = reserve_port();
    let own = format!("127.0.0.1:{port}");
    refused(&["--listen", &own, "--join", &own], &own);
    let named = format!("localhost:{port}");
    refused(&["--listen", &own, "--join", &named], &named);
    let all = format!("0.0.0.0:{port}");
    refused(&["--listen", &all, "--insecure", "--advertise", "here.example:1", "--join", &own], &own);
    refused(&["--listen", &own, "--advertise", "here.example:1", "--join", "here.example:1"], "here.example:1");
}

#[test]
fn a_node_on_every_address_is_for_others_where_it_reached_them_from_or_says_that_it_is() {
    let dir = temp();
    let with = |options: &[&str]| {
        let mut command = raft_node();
        command
            .args(["--id", "n1", "--listen", "0.0.0.0:0", "--insecure", "--json", "--data-dir"])
            .arg(dir.path().join("n1"));
        command.args(options);
        command
    };
    let node = Node::start(with(&["--advertise", "here.example:7001"]));
    node.wait_healthy();
    assert_eq!(node.get("/members").expect(200).json()["members"][0]["addr"], "here.example:7001");

    let (first, second) = (temp(), temp());
    let start = |dir: &Path, id: &str, options: &[&str]| {
        let mut command = raft_node();
        command
            .args(["--id", id, "--listen", "0.0.0.0:0", "--insecure", "--json", "--data-dir"])
            .arg(dir)
            .args(options);
        Node::start(command)
    };
    let n1 = start(first.path(), "n1", &[]);
    let at = format!("127.0.0.1:{}", n1.addr.port());
    let n2 = start(second.path(), "n2", &["--join", &at]);
    n2.process.out.event("joined");
    let expected = [at, format!("127.0.0.1:{}", n2.addr.port())];
    for node in [&n1, &n2] {
        eventually("where all are", || {
            let members = http::get((std::net::Ipv4Addr::LOCALHOST, node.addr.port()).into(), "/members")?.json();
            let addrs: Vec<_> =
                members["members"].as_array().into_iter().flatten().map(|m| m["addr"].clone()).collect();
            if addrs == expected { Ok(()) } else { Err(std::io::Error::other(format!("{addrs:?}"))) }
        });
    }
}

#[test]
fn where_a_member_is_said_to_be_outranks_what_was_said_before() {
    let dir = temp();
    for addr in ["127.0.0.1:1", "127.0.0.1:2"] {
        let mut member = node_in(dir.path(), "n1");
        member.args(["--peer", &format!("n2={addr}")]);
        let node = Node::start(member);
        assert_eq!(node.get("/members?consistency=stale").expect(200).json()["members"][1]["addr"], addr);
    }
}

#[test]
fn a_directory_with_other_peoples_files_is_left_as_it_is() {
    let dir = temp();
    let path = dir.path().join("n1");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("thesis.tex"), "x").unwrap();
    run(node_in(dir.path(), "n1")).expect(6).says(&[path.to_str().unwrap(), "other files", "--data-dir"]);
    assert_eq!(path.read_dir().unwrap().count(), 1);
}

#[test]
fn a_file_in_place_of_the_directory_is_named() {
    let dir = temp();
    let path = dir.path().join("n1");
    fs::write(&path, "x").unwrap();
    run(node_in(dir.path(), "n1")).expect(6).says(&[path.to_str().unwrap()]);
    assert_eq!(fs::read(&path).unwrap(), b"x");
}

#[test]
fn a_directory_in_use_is_refused_and_its_user_goes_on() {
    let dir = temp();
    let node = Node::alone(dir.path());
    let path = dir.path().join("n1");
    run(node_in(dir.path(), "n1")).expect(6).says(&[path.to_str().unwrap(), "in use", "--data-dir"]);
    node.set("still", "here");
    assert_eq!(node.value("still").as_deref(), Some("here"));
}

#[test]
fn a_flipped_byte_in_the_middle_of_the_log_is_refused_with_file_and_offset() {
    let dir = temp();
    let file = written_data(dir.path());
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(15).position(|window| window == b"written-value-2").expect("the value is in the log");
    bytes[at + 3] ^= 0x10;
    fs::write(&file, &bytes).unwrap();
    let ended =
        run(node_in(dir.path(), "n1")).expect(6).says(&[file.to_str().unwrap(), "damaged at offset", "restore"]);
    let offset = ended.stderr.split("at offset ").nth(1).and_then(|rest| rest.split(':').next()).expect("an offset");
    let offset: usize = offset.parse().unwrap_or_else(|_| panic!("{offset:?} is no offset"));
    assert!(offset <= at && at - offset < 200, "the flipped byte is at {at}, the message says {offset}");
    assert!(fs::read(&file).unwrap() == bytes, "a refused log stays as it was found");
}

#[test]
fn a_torn_tail_is_cut_off_with_a_word_and_nothing_acknowledged_is_lost() {
    let dir = temp();
    let file = written_data(dir.path());
    let mut bytes = fs::read(&file).unwrap();
    let end = end_of_log(&bytes);
    for (number, byte) in bytes[end..end + 777].iter_mut().enumerate() {
        *byte = (number * 31 + 7) as u8;
    }
    fs::write(&file, &bytes).unwrap();
    let mut node = Node::start(node_in(dir.path(), "n1"));
    let said = node.process.err.line_with("cut a torn write off the end of the log");
    assert!(said.contains(file.to_str().unwrap()) && said.contains(&format!("offset={end}")), "{said}");
    assert_all_there(&node);
    node.set("key5", "after the cut");
    assert_eq!(node.stop().code(), Some(0));
    // It is cut once, and what was written in its place is there.
    let node = Node::start(node_in(dir.path(), "n1"));
    assert_all_there(&node);
    assert_eq!(node.value("key5").as_deref(), Some("after the cut"));
    assert!(!node.process.err.text().contains("cut a torn write"));
}

#[test]
fn a_log_file_that_ends_after_its_last_frame_is_taken_up_again() {
    let dir = temp();
    let file = written_data(dir.path());
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..end_of_log(&bytes)]).unwrap();
    let node = Node::start(node_in(dir.path(), "n1"));
    node.process.err.line_with("shortened");
    assert_all_there(&node);
}

#[test]
fn garbage_in_the_identity_file_is_named() {
    let dir = temp();
    drop(Node::start(node_in(dir.path(), "n1")));
    let file = dir.path().join("n1/netbelt.json");
    fs::write(&file, "{").unwrap();
    run(node_in(dir.path(), "n1")).expect(6).says(&[file.to_str().unwrap(), "damaged"]);
}

#[test]
fn a_snapshot_of_a_newer_format_is_refused_and_left_as_it_is() {
    let dir = temp();
    drop(Node::alone(dir.path()));
    let log = dir.path().join("n1/log");
    let snapshot = [
        Record::SnapshotBegin(Checkpoint {
            hard_state: HardState { current_term: Term(9), voted_for: None },
            last: Position { term: Term(9), index: Index(100) },
            configuration: Configuration::of_voters(["n1".parse().unwrap()]),
        }),
        Record::SnapshotChunk(vec![0xfe; 100].into()),
        Record::SnapshotEnd,
    ];
    let (mut disk, _) = Log::open(&log, Options::new(1)).unwrap().finish().unwrap();
    let mut batch = Batch::new();
    snapshot.iter().for_each(|record| batch.push_with(|out| record.encode(out)));
    disk.append(&mut batch).unwrap();
    drop(disk);
    let before = fs::read(log.join("00000000000000000001.log")).unwrap();
    run(node_in(dir.path(), "n1")).expect(6).says(&[log.to_str().unwrap(), "snapshot", "254"]);
    assert!(fs::read(log.join("00000000000000000001.log")).unwrap() == before, "a refused log stays as it was found");
}

#[test]
fn files_of_a_newer_format_are_refused_by_name() {
    for (name, content) in [
        ("netbelt.json", r#"{"format":77,"of":"the future"}"#),
        ("peers.json", r#"{"format":77,"cluster":null,"peers":{}}"#),
        ("starts.json", r#"{"format":77,"number":1,"marks":[]}"#),
    ] {
        let dir = temp();
        drop(Node::alone(dir.path()));
        fs::write(dir.path().join("n1").join(name), content).unwrap();
        run(node_in(dir.path(), "n1")).expect(6).says(&["n1", "has format", "newer version of netbelt"]);
    }
}

// The end

#[test]
fn a_signal_ends_a_node_well() {
    for name in ["TERM", "INT"] {
        let dir = temp();
        let mut node = Node::alone(dir.path());
        node.process.signal(name);
        assert_eq!(node.process.ended().code(), Some(0), "{name}: {}", node.process.err.text());
    }
}

/// A node that waits in vain for its only peer.
fn without_leader(dir: &Path) -> Node {
    let mut command = node_in(dir, "n1");
    command.args(["--peer", "n2=127.0.0.1:1", "--peers-have-no-data"]);
    Node::start(command)
}

/// Waits until the node works on a request.
fn wait_until_in_hand(node: &Node) {
    eventually("a request in hand", || {
        let metrics = node.get("/metrics").text();
        if metrics.contains("netbelt_raft_requests_in_hand 1") { Ok(()) } else { Err(metrics) }
    });
}

#[test]
fn a_request_in_hand_is_answered_before_the_node_ends() {
    let dir = temp();
    let mut node = without_leader(dir.path());
    let mut waiting = Http::connect(node.addr).unwrap();
    waiting.send(http::request("GET", "/kv/a?timeout=2s", &[], b"")).unwrap();
    wait_until_in_hand(&node);
    node.process.signal("TERM");
    let answer = waiting.answer(false).expect("an answer").expect(503);
    assert_eq!(answer.error(), "no leader");
    assert_eq!(node.process.ended().code(), Some(0));
}

#[test]
fn a_second_signal_ends_a_node_at_once() {
    let dir = temp();
    let mut node = without_leader(dir.path());
    let mut waiting = Http::connect(node.addr).unwrap();
    waiting.send(http::request("GET", "/kv/a?timeout=60s", &[], b"")).unwrap();
    wait_until_in_hand(&node);
    node.process.signal("TERM");
    node.process.err.line_with("a second signal ends at once");
    node.process.signal("TERM");
    assert_eq!(node.process.ended().code(), Some(143));
}

#[test]
fn a_reader_who_takes_the_ready_line_and_leaves_does_not_end_the_node() {
    let dir = temp();
    let mut process = Process::start_read_by(node_in(dir.path(), "n1"), Reader::OneLine);
    let ready: Value = serde_json::from_str(&process.out.line_with("ready")).unwrap();
    // With --json it prints its roles, the first of which comes after the ready line: into a closed pipe.
    let addr = ready["addr"].as_str().unwrap().parse().unwrap();
    eventually("a healthy node", || match http::get(addr, "/health") {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(http::ask(addr, "POST", "/kv", &http::set_body("a", "1")).unwrap().status, 200);
    process.signal("TERM");
    assert_eq!(process.ended().code(), Some(0));
}

#[test]
fn a_closed_stderr_does_not_end_the_node() {
    let dir = temp();
    let inner = node_in(dir.path(), "n1");
    let mut command = Command::new("sh");
    command.args(["-c", "exec 2>&-; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    let node = Node::start(command);
    node.wait_healthy();
    node.set("a", "1");
}

#[test]
fn logs_go_to_stderr_and_quiet_silences_them() {
    let dir = temp();
    let node = Node::alone(dir.path());
    node.process.err.line_with("leader in term 1");
    assert!(node.process.out.text().lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "JSON lines only");
    let role: Value = serde_json::from_str(&node.process.out.line_with(r#""event":"role""#)).unwrap();
    assert_eq!(role, json!({ "event": "role", "state": "leader", "term": 1, "leader": "n1" }));
    let mut quiet = node_in(dir.path(), "n2");
    quiet.arg("-q");
    let mut quiet = Node::start(quiet);
    quiet.wait_healthy();
    quiet.stop();
    assert_eq!(quiet.process.err.text(), "");
}
