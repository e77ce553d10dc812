//! What earlier builds wrote to disk: kept in `tests/data`, where `make.sh` made it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::http::{Http, listing};
use crate::common::{Node, node_in, raft_ctl, raft_node, run};

/// As long as a segment of the log is made.
const SEGMENT_BYTES: u64 = 16 << 20;

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/before-rooms").join(name)
}

/// Every key with its value and version, as the earlier build listed them.
fn list() -> BTreeMap<String, (String, u64)> {
    let lines = fs::read_to_string(kept("list.jsonl")).unwrap();
    let text = |item: &Value, name: &str| item[name].as_str().unwrap().to_owned();
    let items = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    items.map(|item| (text(&item, "key"), (text(&item, "value"), item["version"].as_u64().unwrap()))).collect()
}

/// Copies a data directory, with the zeros at the end of its segments that were not kept.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
            if to.extension().is_some_and(|extension| extension == "log") {
                File::options().write(true).open(&to).unwrap().set_len(SEGMENT_BYTES).unwrap();
            }
        }
    }
}

#[test]
fn a_data_directory_from_before_the_rooms_moved_starts_and_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("n1");
    copy(&kept("n1"), &data);
    let file = |name: &str| fs::read_to_string(data.join(name)).unwrap();
    let (identity, peers) = (serde_json::from_str::<Value>(&file("netbelt.json")).unwrap(), file("peers.json"));

    let dumped = dir.path().join("dumped.backup");
    let mut dump = raft_node();
    dump.args(["dump", "--data-dir"]).arg(&data).arg("--out").arg(&dumped);
    run(dump).expect(0);
    assert!(fs::read(&dumped).unwrap() == fs::read(kept("whole.backup")).unwrap(), "the same state, byte for byte");

    let mut start = node_in(dir.path(), "n1");
    start.arg("--moved");
    let node = Node::start(start);
    node.wait_healthy();
    assert_eq!(listing(node.addr, "").unwrap(), list());
    let status = node.get("/status").expect(200).json();
    assert_eq!(status["incarnation"], identity["incarnation"]);
    assert_eq!(
        (&status["snapshotIndex"], &status["version"]),
        (&12.into(), &10.into()),
        "a snapshot and a tail behind it"
    );
    assert!(peers.contains(r#""removed":true"#), "{peers}");
    assert_eq!(status["members"].as_array().map(Vec::len), Some(1), "n2 came and went");

    // The answers of both sessions: of a write in the snapshot, of one that failed, of one in the tail.
    let order = r#"{"key":"order","value":"first"}"#;
    let failed = r#"{"key":"order","value":"second","if_value":"none"}"#;
    let tea = r#"{"key":"tea","value":"grün ☕"}"#;
    let mut connection = Http::connect(node.addr).unwrap();
    for (name, method, path, body, status, answer) in [
        ("shop-17;since=4:1", "POST", "/kv", order, 200, r#"{"key":"order","value":"first","version":5}"#),
        (
            "shop-17;since=4:2",
            "POST",
            "/kv",
            failed,
            412,
            r#"{"error":"condition failed","key":"order","value":"first","version":5}"#,
        ),
        ("shop-17;since=4:3", "DELETE", "/kv/empty", "", 200, r#"{"key":"empty","deleted":true}"#),
        ("cafe:7", "POST", "/kv", tea, 200, r#"{"key":"tea","value":"grün ☕","version":6}"#),
    ] {
        let key = format!("idempotency-key: {name}");
        let again = connection.ask(method, path, &[&key], body.as_bytes()).unwrap().expect(status);
        assert_eq!(again.text().trim_end(), answer);
    }
    connection.ask("POST", "/kv", &["idempotency-key: cafe:7"], order.as_bytes()).unwrap().expect(422);
    assert_eq!(listing(node.addr, "").unwrap(), list(), "nothing was carried out again");

    // What the tail changed is still told, and what the snapshot holds is gone.
    let watch = |after: u64| {
        let mut watch = Http::connect(node.addr).unwrap();
        watch.send(format!("GET /watch?after={after} HTTP/1.0\r\n\r\n")).unwrap();
        watch
    };
    let mut told = watch(7);
    for key in ["colour", "empty", "tail"] {
        while !told.line().unwrap().contains(&format!(r#""key":"{key}""#)) {}
    }
    let gone = String::from_utf8(watch(6).until_closed().unwrap()).unwrap();
    assert!(gone.contains("changes before version 8 are not kept any more"), "{gone}");

    node.set("new", "1");
    assert_eq!(listing(node.addr, "").unwrap()["new"], ("1".to_owned(), 11), "the versions go on");
    assert_eq!(file("peers.json"), peers);
    assert!(file("starts.json").contains(r#""number":2"#), "{}", file("starts.json"));
}

#[test]
fn a_backup_from_before_the_rooms_moved_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::alone(dir.path());
    let mut restore = raft_ctl();
    restore.env("RAFT_NODES", node.addr.to_string()).arg("restore").arg(kept("whole.backup"));
    assert_eq!(run(restore).expect(0).stdout, "5 keys restored\n");
    let values = |list: BTreeMap<_, (String, u64)>| list.into_iter().map(|(key, (value, _))| (key, value)).collect();
    let (restored, kept): (Vec<_>, Vec<_>) = (values(listing(node.addr, "").unwrap()), values(list()));
    assert_eq!(restored, kept);
}
