//! What an older netbelt says of a newer one's data, and a newer one does with an older one's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::json;

use netbelt::net::disk::{Batch, Log, Options};
use netbelt::raft::{Checkpoint, Entry, HardState, Index, Payload, Position, Record, Term};
use netbelt::wire::Wire;

use crate::common::http::{self, Http};
use crate::common::{Node, node_in, run};

/// A directory of a node that has stopped, and what its files hold.
struct Stopped {
    root: tempfile::TempDir,
    dir: PathBuf,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Stopped {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut node = Node::alone(root.path());
        node.set("a", "1");
        node.stop();
        let dir = root.path().join("n1");
        let paths = |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        let all = paths(&dir).into_iter().chain(paths(&dir.join("log"))).filter(|path| path.is_file());
        let files = all.map(|path| (path.clone(), fs::read(&path).unwrap())).collect();
        Self { root, dir, files }
    }

    /// Insists that the node refuses what `forge` makes of its directory, naming this file, and takes the original.
    #[track_caller]
    fn refuses(&self, file: &str, forge: impl FnOnce(&Path)) {
        let file = self.dir.join(file);
        forge(&file);
        let name = file.to_str().unwrap().trim_end_matches("/netbelt.json");
        let ended =
            run(node_in(self.root.path(), "n1")).expect(6).says(&["written by a newer version of netbelt", name]);
        for wrong in ["damaged", "give it its name back", "restore", "remove", "replace"] {
            assert!(!ended.stderr.contains(wrong), "{wrong:?} is bad advice:\n{}", ended.stderr);
        }
        if !self.files.contains_key(&file) && file.is_file() {
            fs::remove_file(&file).unwrap();
        }
        for (path, bytes) in &self.files {
            fs::write(path, bytes).unwrap(); // the same inodes
        }
    }

    /// Adds a record to the log.
    fn append(&self, record: &[u8]) {
        let (mut log, _) = Log::open(&self.dir.join("log"), Options::new(7)).unwrap().finish().unwrap();
        let mut batch = Batch::new();
        batch.push(record);
        log.append(&mut batch).unwrap();
    }
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    record.encode(&mut bytes);
    bytes.to_vec()
}

#[test]
fn each_file_that_a_newer_netbelt_wrote_is_named_as_that_and_nothing_else_is_advised() {
    let stopped = Stopped::new();
    let first = "log/00000000000000000001.log";
    for file in ["netbelt.json", "peers.json", "starts.json"] {
        stopped.refuses(file, |path| fs::write(path, r#"{"format":77,"all":["else","is"],"new":true}"#).unwrap());
    }
    stopped.refuses(first, |path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[8] = 77;
        fs::write(path, bytes).unwrap();
    });
    for name in [
        "log/00000000000000000001-0000000064-2.first",
        "log/00000000000000000001-0000000064.first2",
        "log/00000000000000000002.log2",
        "log/00000000000000000002-0000000001.log",
    ] {
        stopped.refuses(name, |path| fs::write(path, "").unwrap());
    }
    stopped.refuses("log/00000000000000000001-0000000064.first", |path| fs::write(path, "more than a name").unwrap());

    // What is in the log: a kind of record, a kind of command, a kind of snapshot.
    stopped.refuses("log", |_| stopped.append(&[200, 1, 2, 3]));
    let position = Position { index: Index(1), term: Term(1) };
    let unknown = Entry { position, payload: Payload::Command(Bytes::from_static(&[77, 1, 2])) };
    stopped.refuses("log", |_| stopped.append(&encoded(&Record::Append(vec![unknown]))));
    stopped.refuses("log", |_| {
        let checkpoint =
            Checkpoint { hard_state: HardState::default(), last: position, configuration: [].into_iter().collect() };
        stopped.append(&encoded(&Record::SnapshotBegin(checkpoint)));
        stopped.append(&encoded(&Record::SnapshotChunk(Bytes::from_static(&[77, 0]))));
        stopped.append(&encoded(&Record::SnapshotEnd));
    });

    let node = Node::start(node_in(stopped.root.path(), "n1"));
    node.wait_healthy();
    assert_eq!(node.value("a").as_deref(), Some("1"));
}

#[test]
fn a_file_that_somebody_renamed_is_not_said_to_be_newer() {
    let stopped = Stopped::new();
    fs::write(stopped.dir.join("log/old.log"), "").unwrap();
    let ended = run(node_in(stopped.root.path(), "n1")).expect(6).says(&["old.log", "give it its name back"]);
    assert!(!ended.stderr.contains("newer"), "{}", ended.stderr);
}

#[test]
fn a_directory_of_an_older_format_gets_this_one_before_anything_else_is_written() {
    let stopped = Stopped::new();
    let file = stopped.dir.join("netbelt.json");
    let mut identity: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let (format, incarnation) = (identity["format"].clone(), identity["incarnation"].clone());
    identity["format"] = json!(1);
    for field in ["netbelt", "protocol"] {
        identity.as_object_mut().unwrap().remove(field).unwrap();
    }
    fs::write(&file, identity.to_string()).unwrap();
    let mut node = Node::start(node_in(stopped.root.path(), "n1"));
    node.wait_healthy();
    let status = node.get("/status").json();
    assert_eq!((&status["netbelt"], &status["dataFormat"]), (&json!(env!("CARGO_PKG_VERSION")), &format));
    assert_eq!((&status["protocol"], &status["incarnation"]), (&json!(2), &incarnation));
    node.stop();
    let now: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!((&now["format"], &now["netbelt"]), (&format, &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!(now["protocol"], json!(2));
    let node = Node::start(node_in(stopped.root.path(), "n1"));
    node.wait_healthy();
    assert_eq!(node.value("a").as_deref(), Some("1"));
}

#[test]
fn a_peer_of_another_protocol_is_told_both_and_one_that_offers_several_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::alone(dir.path());
    let dial = |protocols: &str| {
        let mut connection = Http::connect(node.addr).unwrap();
        let upgrade = format!("upgrade: {protocols}");
        let headers = [
            "connection: upgrade",
            &upgrade,
            "netbelt-version: 7.8.9",
            "netbelt-format: 9",
            "netbelt-from: n2",
            "netbelt-to: n9",
        ];
        connection.send(http::request("GET", "/peer", &headers, b"")).unwrap();
        connection.answer(false).unwrap()
    };
    let answer = dial("netbelt-raft/3").expect(426);
    assert_eq!(answer.header("upgrade"), Some("netbelt-raft/2"));
    for part in ["netbelt 7.8.9", "netbelt-raft/3", env!("CARGO_PKG_VERSION"), "netbelt-raft/2"] {
        assert!(answer.error().contains(part), "{answer:?}");
    }
    assert!(dial("netbelt-raft/3, netbelt-raft/2").expect(421).error().contains("not n9"), "it is heard");
}
