//! Disks that fail and disks that are full. These need root and their tools; without them they say so and pass.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use netbelt::net::disk::{Log, Options};
use netbelt::raft::Record;
use netbelt::wire::Wire;
use serde_json::json;

use crate::common::http::{Answer, Http, listing, set_body};
use crate::common::saboteur::Saboteur;
use crate::common::{Node, eventually, node_in};

/// Writes until something is not acknowledged; gives how many were.
fn write_until_refused(node: &Node) -> usize {
    let mut connection = Http::connect(node.addr).unwrap();
    for number in 0..1000 {
        let body = set_body(&format!("key/{number}"), &format!("value {number}"));
        match connection.ask("POST", "/kv?timeout=5s", &[], body.as_bytes()) {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => {
                assert!(matches!(answer.status, 503 | 504), "{answer:?}");
                return number;
            }
            Err(_) => return number,
        }
    }
    panic!("a thousand writes went well on a disk that fails");
}

/// Sends a request, and gives its answer and how long it took.
#[expect(clippy::disallowed_methods, reason = "how long it took is what the test is about")]
fn timed(node: &Node, method: &str, path: &str, body: &str) -> (Answer, Duration) {
    let began = Instant::now();
    let answer = node.ask(method, path, body);
    (answer, began.elapsed())
}

/// None of 800 requests was answered, `/health` was ok, and SIGTERM waited as long as the disk.
#[test]
#[expect(clippy::disallowed_methods, reason = "how long it took is what the test is about")]
fn a_disk_that_stands_still_keeps_nobody_waiting_longer_than_he_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::alone(dir.path());
    node.set("before", "1");
    node.get("/health").expect(200);
    let Some(saboteur) = Saboteur::attach(&node, "fdatasync:delay_enter=600000000") else { return };
    let soon = Duration::from_millis(1500);

    let (answer, took) = timed(&node, "POST", "/kv?timeout=300ms", &set_body("stuck", "2"));
    assert!(answer.clone().expect(504).error().starts_with("outcome unknown"), "{answer:?}");
    assert!(took < soon, "{took:?}");
    for path in ["/kv/before", "/kv?prefix=bef"] {
        let (answer, took) =
            timed(&node, "GET", &format!("{path}{}consistency=stale", if path.contains('?') { '&' } else { '?' }), "");
        assert!(answer.expect(200).text().contains(r#""before","value":"1""#) && took < soon, "{took:?}");
    }
    // What is not durable is not shown, to those who ask for stale values either.
    for path in ["/kv/stuck?consistency=stale&timeout=200ms", "/kv/before?timeout=200ms", "/kv?timeout=200ms"] {
        let (answer, took) = timed(&node, "GET", path, "");
        assert!(answer.clone().expect(503).error().contains("no answer in time"), "{answer:?}");
        assert!(took < soon, "{path}: {took:?}");
    }
    let health = eventually("a health that says why", || {
        let health = node.get("/health");
        if health.status == 503 { Ok(health.json()["status"].to_string()) } else { Err(health.text()) }
    });
    assert!(health.contains("the disk has not finished a write for"), "{health}");
    assert!(node.get("/status").expect(200).json()["health"].to_string().contains("the disk has not finished"));
    node.get("/livez").expect(200);
    let metrics = node.get("/metrics").expect(200).text();
    let in_hand = metrics.lines().find_map(|line| line.strip_prefix("netbelt_raft_fsync_in_hand_seconds ")).unwrap();
    assert!(in_hand.parse::<f64>().unwrap() >= 1.0, "{in_hand}");

    let began = Instant::now();
    node.process.signal("TERM");
    node.process.err.line_with("a node that stops waits for it no longer");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(saboteur); // which keeps the thread it delays from ending
    assert_eq!(node.process.ended().code(), Some(6), "{}", node.process.err.text());
    let node = Node::start(node_in(dir.path(), "n1"));
    node.wait_healthy();
    assert_eq!(node.value("before").as_deref(), Some("1"));
}

#[test]
fn a_node_whose_disk_fails_ends_without_acknowledging_what_it_could_not_keep() {
    // The disk thread is seen from its third call on, say: its count begins when strace attaches.
    for (call, error, at) in [("fdatasync", "EIO", 3), ("fdatasync", "EIO", 1), ("pwrite64", "EIO", 5)] {
        let dir = tempfile::tempdir().unwrap();
        let mut node = Node::alone(dir.path());
        node.set("before", "the trouble");
        let Some(mut saboteur) = Saboteur::attach(&node, &format!("{call}:error={error}:when={at}")) else { return };
        let acknowledged = write_until_refused(&node);
        assert_eq!(acknowledged, at - 1, "{call}: the write that failed, and no other, is not acknowledged");
        let status = node.process.ended();
        let said = node.process.err.text();
        assert_eq!(status.code(), Some(6), "{said}");
        let file = dir.path().join("n1/log/00000000000000000001.log");
        assert!(said.contains(file.to_str().unwrap()) && said.contains("Input/output error"), "{said}");
        assert!(node.process.out.line_with(r#""event":"error""#).contains(r#""kind":"local""#));
        saboteur.0.ended();

        let node = Node::start(node_in(dir.path(), "n1"));
        node.wait_healthy();
        assert_eq!(node.value("before").as_deref(), Some("the trouble"));
        for number in 0..acknowledged {
            assert_eq!(node.value(&format!("key/{number}")), Some(format!("value {number}")));
        }
    }
}

/// A file system of a given size, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(path: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(path);
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(path.to_owned())),
            Ok(output) => {
                eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                eprintln!("skipped: no mount: {error}");
                None
            }
        }
    }

    fn grow(&self, size: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0).status();
        assert!(status.expect("mount is there").success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_node_on_a_full_disk_acknowledges_nothing_more_says_why_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    // Segments have 16 MiB: the first one fits, the second one does not.
    let Some(mount) = Mount::tmpfs(&dir.path().join("disk"), "24m") else { return };
    let mut node = Node::alone(&mount.0);
    let value = "x".repeat(900 << 10);
    let mut connection = Http::connect(node.addr).unwrap();
    let mut acknowledged = 0;
    let refused = loop {
        let body = set_body(&format!("key/{acknowledged}"), &value);
        let answer = connection.ask("POST", "/kv", &[], body.as_bytes()).expect("a full disk is no reason to hang up");
        if answer.status != 200 {
            break answer;
        }
        acknowledged += 1;
        assert!(acknowledged < 40, "24 MiB do not hold this");
    };
    assert!(acknowledged >= 15, "the first segment holds more than {acknowledged}");
    assert!(matches!(refused.status, 503 | 504), "{refused:?}");
    assert!(refused.error().contains("no space left"), "{refused:?}");

    // It stays up to say what is wrong, and refuses everything else.
    let health = node.get("/health").expect(503).json()["status"].clone();
    let status = node.get("/status").expect(200).json();
    assert_eq!((&status["state"], &status["leaderId"], &status["health"]), (&json!("halted"), &json!(null), &health));
    let why = health.as_str().expect("a reason");
    assert!(why.contains("no space left") && why.contains(mount.0.to_str().unwrap()), "{why}");
    for answer in
        [node.ask("POST", "/kv", &set_body("a", "1")), node.get("/kv/key%2F0"), node.ask("DELETE", "/kv/a", "")]
    {
        assert!(answer.clone().expect(503).error().contains("no space left"), "{answer:?}");
        assert!(answer.header("retry-after").is_some());
    }
    node.get("/metrics").expect(200);
    node.process.err.line_with("no space left");

    // It starts on the full disk, has everything, and goes on when there is space.
    assert_eq!(node.stop().code(), Some(0), "a node that stands still can be stopped");
    let filler = mount.0.join("filler");
    let mut rest = File::create(&filler).unwrap();
    while rest.write_all(&[1; 4096]).is_ok() {}
    let mut full = Node::start(node_in(&mount.0, "n1"));
    full.process.err.line_with("this start is not counted");
    assert_eq!(full.stop().code(), Some(0));
    fs::remove_file(filler).unwrap();
    let assert_all_there = |node: &Node| {
        let held = listing(node.addr, "&consistency=stale").unwrap();
        assert!((0..acknowledged).all(|number| held[&format!("key/{number}")].0 == value));
    };
    mount.grow("64m");
    let node = Node::start(node_in(&mount.0, "n1"));
    node.wait_healthy();
    assert_all_there(&node);
    node.set("key/after", &value);
    node.set("key/after that", &value);
    assert_all_there(&node);
}

/// The records of a node's log, by what they are to its snapshots: `{` begins one, `.` is a part of it, `}` ends it.
fn snapshots_in(log: &Path) -> String {
    let records = Log::open(log, Options::new(1)).unwrap();
    let signs = records.map(|record| match Record::decode(record.unwrap()).unwrap() {
        Record::SnapshotBegin(_) => "{",
        Record::SnapshotChunk(_) => ".",
        Record::SnapshotEnd => "}",
        Record::HardState(_) | Record::Append(_) | Record::SnapshotTail(_) | Record::Committed(_) => "",
    });
    signs.collect()
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_snapshot_costs_no_acknowledged_write() {
    let dir = tempfile::tempdir().unwrap();
    // 25 MiB of state are a segment of 16 MiB and two thirds; a snapshot of it needs one more than there is room for.
    let Some(mount) = Mount::tmpfs(&dir.path().join("disk"), "56m") else { return };
    let mut node = Node::alone(&mount.0);
    let value = "x".repeat(1 << 20);
    (0..25).for_each(|number| node.set(&format!("before/{number}"), &value));
    let addr = node.addr;
    let writer = std::thread::spawn(move || {
        let mut connection = Http::connect(addr).unwrap();
        for number in 0.. {
            let body = set_body(&format!("during/{number}"), "y");
            let answer = connection.ask("POST", "/kv", &[], body.as_bytes()).expect("it does not hang up");
            if answer.status != 200 {
                return number;
            }
        }
        unreachable!("the disk fills up")
    });
    let refused = node.ask("POST", "/snapshot", "");
    assert!(refused.clone().expect(503).error().contains("no space left"), "{refused:?}");
    let acknowledged: u64 = writer.join().unwrap();
    let status = node.get("/status").expect(200).json();
    assert_eq!(status["state"], "halted");
    assert!(status["health"].as_str().unwrap().contains("no space left"), "{status}");
    assert_eq!(node.stop().code(), Some(0));

    mount.grow("256m");
    let log = mount.0.join("n1/log");
    let broken_off = snapshots_in(&log);
    assert!(broken_off.starts_with("{..") && !broken_off.contains('}'), "{broken_off:?}");
    let assert_all_there = |node: &Node| {
        let held = listing(node.addr, "&consistency=stale").unwrap();
        assert!((0..25).all(|number| held[&format!("before/{number}")].0 == value));
        assert!((0..acknowledged).all(|number| held[&format!("during/{number}")].0 == "y"));
    };
    let mut node = Node::start(node_in(&mount.0, "n1"));
    node.wait_healthy();
    assert_all_there(&node);
    node.ask("POST", "/snapshot", "").expect(200);
    assert_eq!(node.stop().code(), Some(0));
    let whole = snapshots_in(&log);
    assert!(whole.starts_with("{..") && whole.ends_with('}') && whole.matches('{').count() == 1, "{whole:?}");
    let node = Node::start(node_in(&mount.0, "n1"));
    node.wait_healthy();
    assert_all_there(&node);
}

#[test]
fn a_node_whose_disk_is_full_shortens_its_log_with_what_was_kept_back_for_that() {
    let dir = tempfile::tempdir().unwrap();
    // Room for three segments of 16 MiB and for one that is kept back.
    let Some(mount) = Mount::tmpfs(&dir.path().join("disk"), "68m") else { return };
    let mut command = node_in(&mount.0, "n1");
    command.args(["--snapshot-every", "1GiB"]); // of itself it writes none
    let mut node = Node::start(command);
    node.wait_healthy();
    let reserve = mount.0.join("n1/log/reserve");
    let kept = || fs::metadata(&reserve).map_or(0, |file| file.len());
    let is_kept = || if kept() == 16 << 20 { Ok(()) } else { Err(kept().to_string()) };
    eventually("space that is kept back", is_kept);
    let value = "x".repeat(300 << 10);
    let mut connection = Http::connect(node.addr).unwrap();
    let mut write = |number: usize| {
        let body = set_body(&format!("key/{}", number % 3), &format!("{number} {value}"));
        connection.ask("POST", "/kv", &[], body.as_bytes()).unwrap().expect(200);
    };
    // Nearly twice the disk.
    (0..400).for_each(&mut write);
    node.process.err.line_with("the disk is full: gave back");
    node.process.err.line_with("the log begins with a new snapshot");
    let mut last = 400;
    eventually("space that is kept back again", || {
        write(last); // old segments are on their way out, and nobody looks but who writes
        last += 1;
        is_kept()
    });
    let metric = node.get("/metrics").text();
    assert!(metric.contains("netbelt_raft_reserve_bytes 16777216\n"), "{metric}");

    // Somebody else takes what is left of the disk: the log becomes shorter once more.
    let filler = mount.0.join("filler");
    let mut rest = File::create(&filler).unwrap();
    while rest.write_all(&[1; 1 << 16]).is_ok() {}
    let said = || node.process.err.text().matches("the disk is full: gave back").count();
    let before = said();
    for _ in 0..200 {
        write(last);
        last += 1;
    }
    assert!(said() > before, "it was full");
    assert_eq!(node.stop().code(), Some(0));
    fs::remove_file(filler).unwrap();
    let node = Node::start(node_in(&mount.0, "n1"));
    node.wait_healthy();
    let number = last - 1;
    assert_eq!(node.value(&format!("key/{}", number % 3)), Some(format!("{number} {value}")));
}
