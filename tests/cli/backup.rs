//! `GET /snapshot`, `raft-ctl snapshot` and `raft-ctl restore`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use netbelt::defaults::RESTORE_WRITERS;
use serde_json::json;

use crate::common::http::{Http, listing, set_body};
use crate::common::{Ended, Node, Process, node_in, raft_ctl, raft_node, run, run_with};

fn alone() -> (Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Node::alone(dir.path()), dir)
}

fn command(node: &Node, arguments: &[&str]) -> Command {
    let mut command = raft_ctl();
    command.env("RAFT_NODES", node.addr.to_string()).args(arguments);
    command
}

fn ctl(node: &Node, arguments: &[&str]) -> Ended {
    run(command(node, arguments))
}

fn values(node: &Node) -> BTreeMap<String, String> {
    listing(node.addr, "").unwrap().into_iter().map(|(key, (value, _))| (key, value)).collect()
}

/// A node with `count` keys, and a backup of it.
fn backed_up(count: usize) -> (Node, tempfile::TempDir, String) {
    let (node, dir) = alone();
    let mut connection = Http::connect(node.addr).unwrap();
    for number in 0..count {
        let body = set_body(&format!("key/{number}"), &format!("wert ä\n{number}"));
        connection.ask("POST", "/kv", &[], body.as_bytes()).unwrap().expect(200);
    }
    let file = dir.path().join("a.backup").to_str().unwrap().to_owned();
    let said = ctl(&node, &["snapshot", "--out", &file]).expect(0);
    assert!(said.stdout.contains(&format!("{count} keys at version {count}, ")), "{}", said.stdout);
    (node, dir, file)
}

#[test]
fn what_was_backed_up_comes_back_in_an_empty_cluster() {
    let (node, _dir, file) = backed_up(1500);
    let (other, _other_dir) = alone();
    let said = ctl(&other, &["restore", &file]).expect(0);
    assert_eq!(said.stdout, "1500 keys restored\n");
    assert_eq!(values(&other), values(&node));
    let again = ctl(&other, &["restore", &file]).expect(1);
    assert!(again.stderr.contains("has keys") && again.stderr.contains("--force"), "{}", again.stderr);
}

#[test]
fn a_backup_may_come_through_a_pipe() {
    let (node, dir, file) = backed_up(300);
    let (other, _other_dir) = alone();
    let bytes = fs::read(&file).unwrap();
    let said = run_with(command(&other, &["restore", "-"]), bytes.clone()).expect(0);
    assert_eq!(said.stdout, "300 keys restored\n");
    assert_eq!(values(&other), values(&node));
    let cut = run_with(command(&other, &["restore", "-", "--force"]), &bytes[..bytes.len() - 1]).expect(1);
    assert!(cut.stderr.contains("stdin") && cut.stderr.contains("cut short"), "{}", cut.stderr);
    assert_eq!(values(&other), values(&node));

    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let restore = Process::start(command(&other, &["restore", pipe.to_str().unwrap(), "--force"]));
    fs::write(&pipe, &bytes).unwrap();
    restore.out.line_with("300 keys restored");

    let nowhere = dir.path().join("nowhere");
    let mut restore = command(&other, &["restore", "-"]);
    restore.env("TMPDIR", &nowhere);
    run_with(restore, bytes).expect(6).says(&[nowhere.to_str().unwrap(), "TMPDIR"]);
}

#[test]
fn a_backup_does_not_come_from_a_terminal_and_one_that_does_not_come_can_be_given_up() {
    let (node, _dir) = alone();
    let terminal = fs::File::options().read(true).write(true).open("/dev/ptmx").unwrap();
    let said = command(&node, &["restore", "-"]).stdin(terminal).output().unwrap();
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stderr).contains("terminal"), "{said:?}");
    let (mut waits, _stdin) = Process::start_fed(command(&node, &["restore", "-", "-vv"]));
    waits.err.line_with("reading the backup from stdin");
    waits.signal("INT");
    assert_eq!(waits.ended().code(), Some(130));
}

#[test]
fn for_programs_a_backup_ends_with_a_summary_interrupted_or_not() {
    let (node, dir, file) = backed_up(7);
    let summary = ctl(&node, &["snapshot", "--json", "--out", &file]).expect(0).json();
    let cluster = node.get("/status").json()["clusterId"].clone();
    let bytes = fs::metadata(&file).unwrap().len();
    assert_eq!(
        summary,
        json!({
            "event": "summary", "file": file, "keys": 7, "version": 7, "bytes": bytes, "cluster": cluster,
            "through": summary["through"], "last": summary["last"], "stale": false, "interrupted": false
        })
    );
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap().to_string();
    let mut process = Process::start(command(&node, &["--nodes", &at, "snapshot", "--json", "--out", &file]));
    let _connection = silent.accept().unwrap();
    process.signal("INT");
    assert_eq!(process.ended().code(), Some(130));
    let events = process.out.events();
    assert_eq!(events[0], json!({ "event": "summary", "file": file, "bytes": 0, "interrupted": true }));
    assert_eq!((events.len(), &events[1]["kind"]), (2, &json!("interrupted")), "{events:?}");
    assert_eq!(fs::metadata(&file).unwrap().len(), bytes, "the old one is as it was");
    assert_eq!(dir.path().read_dir().unwrap().count(), 2, "n1 and the backup: no other file is left");
}

#[test]
fn force_makes_the_cluster_what_the_backup_was() {
    let (node, _dir, file) = backed_up(30);
    let before = values(&node);
    node.set("key/7", "changed");
    node.ask("DELETE", "/kv/key%2F8", "").expect(200);
    for key in ["a", "key/15/new", "z"] {
        node.set(key, "new");
    }
    let said = ctl(&node, &["restore", &file, "--force", "--json"]).expect(0);
    let summary = json!({ "event": "summary", "keys": 30, "of": 30, "deleted": 3, "interrupted": false });
    assert_eq!(said.json(), summary);
    assert_eq!(values(&node), before);
}

#[test]
fn a_backup_that_is_cut_or_damaged_or_newer_is_refused_before_anything_is_written() {
    let (_, dir, file) = backed_up(20);
    let (other, _other_dir) = alone();
    let whole = fs::read(&file).unwrap();
    let bad = dir.path().join("bad");
    let refused = |bytes: &[u8], why: &str| {
        fs::write(&bad, bytes).unwrap();
        let said = ctl(&other, &["restore", bad.to_str().unwrap()]).expect(1);
        assert!(said.stderr.contains(why), "{}", said.stderr);
    };
    refused(&whole[..whole.len() - 1], "cut short");
    refused(&whole[..40], "cut short");
    refused(b"", "cut short");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    refused(&damaged, "damaged");
    let mut newer = whole.clone();
    newer[8] += 1;
    refused(&newer, "format 2");
    refused(b"key,value\n", "no backup");
    assert_eq!(values(&other), [].into());
    ctl(&other, &["restore", "/nonexistent"]).expect(6);
    ctl(&other, &["restore", "/dev/null"]).expect(2);
}

#[test]
fn a_backup_is_whole_under_its_name_or_not_there() {
    let (mut node, dir, file) = backed_up(3);
    let piped = command(&node, &["snapshot", "--out", "-"]).output().unwrap();
    assert!(piped.status.success() && piped.stdout == fs::read(&file).unwrap());
    let mut to_null = command(&node, &["snapshot", "--out", "/dev/null"]);
    to_null.arg("--json");
    assert_eq!(run(to_null).expect(0).json()["keys"], 3);
    let nowhere = dir.path().join("no/such/dir/f");
    ctl(&node, &["snapshot", "--out", nowhere.to_str().unwrap()]).expect(6);
    let old = fs::read(&file).unwrap();
    node.stop();
    ctl(&node, &["snapshot", "--out", &file]).expect(3);
    assert_eq!(fs::read(&file).unwrap(), old);
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".tmp")), "{names:?}");
}

#[test]
fn a_backup_is_of_one_moment_while_writes_go_on() {
    let (node, dir) = alone();
    // Each write changes both keys' common number, one after the other: at any moment they differ by at most one.
    let addr = node.addr;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let set = |connection: &mut Http, key: &str, value: &str| {
        connection.ask("POST", "/kv", &[], set_body(key, value).as_bytes()).unwrap().expect(200)
    };
    let filler = "x".repeat(20_000);
    let mut connection = Http::connect(addr).unwrap();
    for number in 0..100 {
        set(&mut connection, &format!("m/{number}"), &filler); // some chunks between the two keys
    }
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut connection = Http::connect(addr).unwrap();
            let mut number = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                number += 1;
                set(&mut connection, "a", &number.to_string());
                set(&mut connection, "z", &number.to_string());
            }
            number
        });
        for round in 0..10 {
            let file = dir.path().join(format!("{round}.backup"));
            ctl(&node, &["snapshot", "--out", file.to_str().unwrap()]).expect(0);
            let numbers = numbers_in(&file);
            assert!(numbers.0 == numbers.1 || numbers.0 == numbers.1 + 1, "{numbers:?}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0);
    });
}

/// The values of `a` and `z` in a backup.
fn numbers_in(file: &Path) -> (u64, u64) {
    let (other, _dir) = alone();
    ctl(&other, &["restore", file.to_str().unwrap()]).expect(0);
    let number = |key| other.value(key).map_or(0, |text| text.parse().unwrap());
    (number("a"), number("z"))
}

/// `--out` took the place of whatever was there.
#[test]
fn a_backup_takes_the_place_of_an_older_one_and_of_nothing_else() {
    let (node, dir) = alone();
    node.set("k", "v");
    let file = dir.path().join("file");
    let out = file.to_str().unwrap();
    fs::write(&file, "precious\n").unwrap();
    ctl(&node, &["snapshot", "--out", out]).expect(6).says(&["is no backup of netbelt", "--out"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious\n");
    fs::write(&file, "").unwrap();
    for _ in 0..2 {
        ctl(&node, &["snapshot", "--out", out]).expect(0);
    }
}

#[test]
fn an_interrupted_restore_says_how_far_it_came_and_can_be_run_again() {
    let (node, dir) = alone();
    let value = "v".repeat(30_000);
    for number in 0..300 {
        node.set(&format!("k{number}"), &value);
    }
    let file = dir.path().join("large.backup").to_str().unwrap().to_owned();
    ctl(&node, &["snapshot", "--out", &file]).expect(0);
    let (other, _other_dir) = alone();
    let mut restore = Process::start(command(&other, &["restore", &file, "--timeout", "20s"]));
    // With more keys there than writes may be on their way, one at least has been answered and counted.
    crate::common::eventually("an answered write", || match other.get("/status").json()["keys"].as_u64() {
        Some(keys) if keys > RESTORE_WRITERS as u64 => Ok(()),
        keys => Err(format!("{keys:?} keys")),
    });
    restore.signal("INT");
    let code = restore.ended().code();
    if code == Some(130) {
        let said = restore.err.text();
        assert!(said.contains("of 300 keys have been restored") && said.contains("--force"), "{said}");
    } else {
        assert_eq!(code, Some(0), "it was quicker than the signal: {}", restore.err.text());
    }
    ctl(&other, &["restore", &file, "--force", "--timeout", "20s"]).expect(0);
    assert_eq!(values(&other), values(&node));
}

#[test]
fn a_node_that_is_told_to_writes_a_snapshot_and_starts_from_it() {
    let (mut node, dir) = alone();
    for number in 0..50 {
        node.set("k", &number.to_string());
    }
    let said = ctl(&node, &["snapshot", "--json"]).expect(0).json();
    let index = said["snapshotIndex"].as_u64().unwrap();
    let status = node.get("/status").json();
    assert!(index >= 50 && status["snapshotIndex"] == json!(index), "{status}");
    node.stop();
    let node = Node::start(node_in(dir.path(), "n1"));
    node.wait_healthy();
    assert_eq!(node.value("k").as_deref(), Some("49"));
    assert!(node.get("/status").json()["firstIndex"].as_u64() > Some(1));
}

fn dump(arguments: &[&str], data_dir: &Path) -> Command {
    let mut command = raft_node();
    command.arg("dump").args(arguments).arg("--data-dir").arg(data_dir);
    command
}

#[test]
fn a_directory_without_its_node_makes_the_backup_that_the_node_would_make() {
    let (mut node, dir, file) = backed_up(299);
    node.ask("POST", "/snapshot", "").expect(200); // the log begins with that
    node.set("later", "than the snapshot");
    ctl(&node, &["snapshot", "--out", &file]).expect(0);
    node.process.kill();
    let data = dir.path().join("n1");
    let dumped = dir.path().join("dumped").to_str().unwrap().to_owned();
    let said = run(dump(&["--out", &dumped], &data)).expect(0);
    assert!(said.stdout.contains("300 keys at version 300, ") && said.stdout.contains("of n1"), "{}", said.stdout);
    assert!(!said.stderr.contains("committed"), "alone it knows: {}", said.stderr);
    assert_eq!(fs::read(&dumped).unwrap(), fs::read(&file).unwrap());
    let piped = dump(&[], &data).output().unwrap();
    assert_eq!(piped.stdout, fs::read(&file).unwrap());

    // A copy does as well, and one that cannot be locked.
    let copy = dir.path().join("copy");
    assert!(Command::new("cp").args(["-r"]).arg(&data).arg(&copy).status().unwrap().success());
    fs::remove_file(copy.join("LOCK")).unwrap();
    run(dump(&["--out", &dumped], &copy)).expect(0);
    assert!(!copy.join("LOCK").exists(), "it only reads");

    run(dump(&[], dir.path())).expect(6).says(&["no data directory of netbelt"]);
    run(dump(&[], &dir.path().join("nowhere"))).expect(6).says(&["no data directory of netbelt"]);
    let log = copy.join("log/00000000000000000001.log");
    let mut bytes = fs::read(&log).unwrap();
    bytes[100] ^= 1;
    fs::write(&log, bytes).unwrap();
    run(dump(&["--out", &dumped], &copy)).expect(6).says(&["is damaged at offset", log.to_str().unwrap()]);
    run(dump(&["--out", "/nowhere/a"], &data)).expect(6).says(&["cannot write the backup to /nowhere/a"]);
}

#[test]
fn a_dump_is_called_beside_the_variables_of_a_node_and_not_beside_its_options() {
    let (mut node, _dir, _) = backed_up(1);
    node.process.kill();
    let data = _dir.path().join("n1");
    let mut command = dump(&["--json", "--out", "/dev/null"], &data);
    command.envs([("NODE_ID", "n9"), ("PORT", "7"), ("PEER_IDS", "n2=a:1")]);
    assert_eq!(run(command).expect(0).json()["keys"], json!(1));
    let mut command = raft_node();
    command.args(["--id", "n1", "dump"]);
    run(command).expect(2).says(&["cannot be used with"]);
}

#[test]
fn a_new_cluster_is_not_forced_where_that_makes_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let force = |id: &str, more: &[&str]| {
        let mut command = node_in(dir.path(), id);
        command.arg("--force-new-cluster").args(more);
        run(command)
    };
    force("n1", &[]).expect(6).says(&["no data directory of netbelt"]);
    assert!(!dir.path().join("n1").exists(), "nothing is made");
    let mut node = Node::alone(dir.path());
    force("n1", &[]).expect(6).says(&["in use"]);
    node.stop();
    force("n1", &[]).expect(1).says(&["cluster of n1 alone already"]);
    force("n1", &["--join", "127.0.0.1:1"]).expect(2).says(&["--join"]);
    fs::rename(dir.path().join("n1"), dir.path().join("n2")).unwrap();
    force("n2", &[]).expect(6).says(&["belongs to raft-node n1"]);
    let mut command = node_in(dir.path(), "n3");
    command.args(["--peer", "n4=127.0.0.1:1"]);
    Node::start(command).stop();
    force("n3", &[]).expect(1).says(&["ever had a leader", "nothing to save"]);
}
