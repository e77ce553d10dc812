//! `GET /watch` and `raft-ctl watch`.

use std::io::{self, ErrorKind, Read};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::common::http::{self, Http};
use crate::common::{Node, Process, Reader, raft_ctl, run};

fn alone() -> (Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Node::alone(dir.path()), dir)
}

/// A stream of events, read as it comes.
struct Stream(Http);

impl Stream {
    /// HTTP/1.0, so that the events come as they are.
    fn open(node: &Node, path: &str, headers: &str) -> Self {
        let mut connection = Http::connect(node.addr).unwrap();
        connection.send(format!("GET {path} HTTP/1.0\r\n{headers}\r\n")).unwrap();
        let mut head = Vec::new();
        while head.last().is_none_or(|line: &String| !line.is_empty()) {
            head.push(connection.line().unwrap());
        }
        assert!(head[0].contains("200 OK") && head.contains(&"content-type: text/event-stream".to_owned()), "{head:?}");
        Self(connection)
    }

    /// The lines of the next message.
    fn next(&mut self) -> Vec<String> {
        self.try_next().unwrap()
    }

    /// The same, or what ended the stream.
    fn try_next(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            match self.0.line()? {
                line if line.is_empty() => return Ok(lines),
                line => lines.push(line),
            }
        }
    }
}

#[test]
fn every_change_is_told_once_it_is_made_with_its_version_as_id() {
    let (node, _dir) = alone();
    node.set("before", "0");
    let mut stream = Stream::open(&node, "/watch", "");
    assert_eq!(stream.next(), ["id: 1"], "the place to go on from, at once");
    node.set("a", "1\n2");
    node.ask("DELETE", "/kv/a", "").expect(200);
    node.ask("DELETE", "/kv/a", "").expect(200);
    node.set("a", "3");
    let data = r#"data: {"key":"a","value":"1\n2","version":2}"#;
    assert_eq!(stream.next(), ["id: 2", "event: set", data]);
    assert_eq!(stream.next(), ["id: 3", "event: delete", r#"data: {"key":"a","version":3}"#]);
    assert_eq!(stream.next()[0], "id: 4", "to delete what is not there is no change");
}

#[test]
fn a_stream_goes_on_after_the_last_id_and_keeps_to_its_prefix() {
    let (node, _dir) = alone();
    for key in ["a/1", "b/1", "a/2", "b/2", "a/3"] {
        node.set(key, "v");
    }
    let keys = |stream: &mut Stream, count: usize| -> Vec<String> {
        let data = (0..count).map(|_| stream.next().last().unwrap().strip_prefix("data: ").unwrap().to_owned());
        let key = |data: String| serde_json::from_str::<Value>(&data).unwrap()["key"].as_str().unwrap().to_owned();
        data.map(key).collect()
    };
    let mut all = Stream::open(&node, "/watch?prefix=a/&after=0", "");
    assert_eq!(all.next(), ["id: 0"]);
    assert_eq!(keys(&mut all, 3), ["a/1", "a/2", "a/3"]);
    let mut rest = Stream::open(&node, "/watch?prefix=a%2F&after=0", "Last-Event-ID: 2\r\n");
    assert_eq!(rest.next(), ["id: 2"], "what a browser sends when it connects anew counts");
    assert_eq!(keys(&mut rest, 2), ["a/2", "a/3"]);
}

#[test]
fn what_is_no_version_is_400_and_a_wrong_method_405() {
    let (node, _dir) = alone();
    assert!(node.get("/watch?after=x").expect(400).error().contains("a version"));
    node.get("/watch?limit=1").expect(400);
    let mut connection = Http::connect(node.addr).unwrap();
    connection.ask("GET", "/watch?after=1", &["last-event-id: -1"], b"").unwrap().expect(400);
    assert_eq!(node.ask("POST", "/watch", "x").expect(405).header("allow"), Some("GET, HEAD"));
}

#[test]
fn a_watcher_that_asks_for_changes_of_long_ago_is_told_that_they_are_gone() {
    let (node, _dir) = alone();
    let value = "v".repeat(1 << 20);
    for number in 0..34 {
        node.set(&format!("k{number}"), &value); // more than the bytes that are kept
    }
    let mut stream = Stream::open(&node, "/watch?after=0", "");
    assert_eq!(stream.next(), ["id: 0"]);
    let gone = stream.next();
    assert_eq!(gone[0], "event: gone");
    let data: Value = serde_json::from_str(gone[1].strip_prefix("data: ").unwrap()).unwrap();
    let oldest = data["oldest"].as_u64().unwrap();
    assert!((2..=34).contains(&oldest) && data["error"].as_str().unwrap().contains("not kept"), "{data}");
    assert_eq!(stream.next(), ["id: gone"]);
    assert_eq!(stream.0.until_closed().unwrap(), b"");
    run(ctl(&node, &["watch", "--after", "0"])).expect(1).says(&["not kept any more", "list"]);
    let after = (oldest - 1).to_string();
    let kept = run(ctl(&node, &["watch", "--after", &after, "-n", "1", "--json"])).expect(0);
    assert!(kept.stdout.contains(&format!(r#""version":{oldest}"#)), "what is kept is told");
}

/// A change: its version and what became of its key; or the oldest version that is kept, when it says that others are gone.
fn read_change(lines: &[String]) -> (bool, u64) {
    let data: Value = serde_json::from_str(lines.last().unwrap().strip_prefix("data: ").unwrap()).unwrap();
    match data["oldest"].as_u64() {
        Some(oldest) => (false, oldest),
        None => (true, data["version"].as_u64().unwrap()),
    }
}

/// An EventSource connects anew whenever a stream ends, and would be told the same for ever. 204 ends that (WHATWG HTML).
#[test]
fn a_browser_that_was_told_that_changes_are_gone_does_not_come_back_for_ever() {
    let (node, _dir) = alone();
    let mut connection = Http::connect(node.addr).unwrap();
    let answer = connection.ask("GET", "/watch?prefix=a&after=0", &["last-event-id: gone"], b"").unwrap();
    assert_eq!((answer.status, answer.body), (204, vec![]));
    node.get("/watch?after=gone").expect(400);
    // Another EventSource begins without that id.
    assert_eq!(Stream::open(&node, "/watch", "").next(), ["id: 0"]);
}

#[test]
fn a_watcher_that_takes_nothing_is_told_that_it_missed_changes_and_goes_on_from_what_is_kept() {
    let (node, _dir) = alone();
    let mut slow = Stream::open(&node, "/watch", "");
    let mut attentive = Stream::open(&node, "/watch", "");
    assert_eq!((slow.next(), attentive.next()), (vec!["id: 0".to_owned()], vec!["id: 0".to_owned()]));
    slow.0.keep_little();
    // More than is kept for one that does not read, and then more than the node keeps of changes (32 MiB).
    let (small, large) = ("v".repeat(15 << 10), "v".repeat(1 << 20));
    let latest = 100;
    for version in 1..=latest {
        node.set("k", if version <= 60 { &small } else { &large });
        assert_eq!(read_change(&attentive.next()), (true, version), "it does not wait for the slow one");
    }
    // What it was sent before has no gap.
    let mut last = 0;
    let oldest = loop {
        match read_change(&slow.next()) {
            (true, version) => {
                assert_eq!(version, last + 1);
                last = version;
            }
            (false, oldest) => break oldest,
        }
    };
    assert!(0 < last && last + 1 < oldest && oldest <= latest, "told up to {last}, and {oldest} is kept");
    assert!(last < 40, "{last} values of 15 KiB were on their way to somebody who does not read");
    assert_eq!(slow.next(), ["id: gone"]);
    assert_eq!(slow.0.until_closed().unwrap(), b"");

    let mut late = Stream::open(&node, "/watch", &format!("Last-Event-ID: {last}\r\n"));
    assert_eq!((late.next(), read_change(&late.next())), (vec![format!("id: {last}")], (false, oldest)));
    let mut again = Stream::open(&node, &format!("/watch?after={}", oldest - 1), "");
    assert_eq!(again.next(), [format!("id: {}", oldest - 1)]);
    assert!((oldest..=latest).all(|version| read_change(&again.next()) == (true, version)));
    // One that breaks off in time misses nothing.
    drop(attentive);
    node.set("k", "the last");
    let mut resumed = Stream::open(&node, "/watch", &format!("Last-Event-ID: {latest}\r\n"));
    resumed.next();
    assert_eq!(read_change(&resumed.next()), (true, latest + 1));
}

#[test]
fn a_watcher_that_falls_behind_within_a_large_event_is_broken_off_and_told_when_it_comes_again() {
    let (node, _dir) = alone();
    let mut slow = Stream::open(&node, "/watch", "");
    assert_eq!(slow.next(), ["id: 0"]);
    slow.0.keep_little();
    let value = "v".repeat(1 << 20);
    (0..40).for_each(|_| node.set("k", &value));
    let error = slow.try_next().expect_err("the first event is larger than what is kept for it, and gone by now");
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{error}");
    let mut again = Stream::open(&node, "/watch", "Last-Event-ID: 0\r\n");
    assert_eq!((again.next(), again.next()[0].clone()), (vec!["id: 0".to_owned()], "event: gone".to_owned()));
    run(ctl(&node, &["watch", "--after", "0"])).expect(1).says(&["not kept any more", "list"]);
}

/// 400 of them and one such value took 2.5 GB: a page was built for each before anybody asked whether there was room.
#[test]
fn watchers_that_read_nothing_cost_little_memory_and_nobody_else_an_answer() {
    let (node, _dir) = alone();
    let deaf: Vec<_> = (0..400).map(|_| Stream::open(&node, "/watch", "")).collect();
    let before = node.peak_memory();
    // JSON writes each byte as six.
    let values = (0..8).map(|number| char::from(number).to_string().repeat(1 << 20));
    for value in values {
        node.set("large", &value);
    }
    let mut connection = Http::connect(node.addr).unwrap();
    let body = http::set_body("new", &"v".repeat(100 << 10));
    connection.ask("POST", "/kv", &["if-none-match: *"], body.as_bytes()).unwrap().expect(200);
    assert_eq!(node.get("/kv?prefix=large").expect(200).json()["items"].as_array().unwrap().len(), 1);
    let grown = node.peak_memory() - before;
    assert!(grown < 128 << 20, "{} MiB more", grown >> 20);
    drop(deaf);
}

/// Reads what comes on many connections, until it is told to stop.
fn read_all(streams: &[Stream], stop: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    while !stop.load(Ordering::Relaxed) {
        let mut waiting: Vec<_> = streams.iter().map(|stream| PollFd::new(stream.0.socket(), PollFlags::IN)).collect();
        poll(&mut waiting, Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 })).unwrap();
        for (stream, waiting) in streams.iter().zip(&waiting) {
            if !waiting.revents().is_empty() {
                let _ = stream.0.socket().read(&mut buffer); // who is cut asks no more
            }
        }
    }
}

/// Each commit woke each of them: 1,000 left 2 % of the writes, and a third when none of them wanted to hear of it.
#[test]
fn a_thousand_watchers_leave_the_node_its_time_for_writes() {
    let (node, _dir) = alone();
    let writes = || {
        let load = ["bench", "--clients", "16", "--reads", "0", "--warm-up", "0s", "--duration", "1s", "--json"];
        let said = run(ctl(&node, &load)).expect(0).stdout;
        let summary: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(summary["errors"], 0, "{summary}");
        summary["writes_per_s"].as_f64().unwrap()
    };
    let share_with = |prefix: fn(usize) -> String| {
        let streams = (0..1000).map(|number| Stream::open(&node, &format!("/watch?prefix={}", prefix(number)), ""));
        let (streams, stop) = (streams.collect::<Vec<_>>(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| read_all(&streams, &stop));
            let with = writes();
            stop.store(true, Ordering::Relaxed);
            with
        })
    };
    // A machine that does something else meanwhile is asked again.
    let is_kept = |least: f64, prefix: fn(usize) -> String| {
        let mut shares = Vec::new();
        while shares.last().is_none_or(|share| *share < least) {
            assert!(shares.len() < 5, "{shares:?} of the writes, and never {least}");
            shares.push(share_with(prefix) / writes());
        }
    };
    is_kept(0.75, |number| format!("other/{number}/"));
    is_kept(0.35, |_| String::new());
}

#[test]
fn watchers_have_a_limit_and_a_place_is_free_again_when_one_leaves() {
    let (node, _dir) = alone();
    let mut streams: Vec<_> = (0..1000).map(|_| Stream::open(&node, "/watch", "")).collect();
    let refused = node.get("/watch").expect(503);
    assert_eq!(refused.error(), "too many watchers");
    assert!(refused.header("retry-after").is_some());
    streams.pop();
    crate::common::eventually("a free place", || match node.ask("HEAD", "/watch", "").status {
        200 => Ok(()),
        status => Err(status),
    });
}

/// It was noticed when there was something to tell, a sign of life at the latest, and till then there was no place for others.
#[test]
fn a_watcher_that_leaves_is_noticed_before_there_is_anything_to_tell() {
    let (node, _dir) = alone();
    let mut leaves = Stream::open(&node, "/watch", "");
    assert_eq!(leaves.next(), ["id: 0"]);
    leaves.0.finish_sending().unwrap();
    assert_eq!(leaves.0.until_closed().unwrap(), b"", "not even a sign of life");

    // Who waits for an answer with his half closed gets it.
    let mut waits = Http::connect(node.addr).unwrap();
    waits.send(http::request("GET", "/kv?stale=no", &[], b"")).unwrap();
    waits.finish_sending().unwrap();
    waits.answer(false).unwrap().expect(400);
    let mut waits = Http::connect(node.addr).unwrap();
    waits.send(http::request("GET", "/kv", &[], b"")).unwrap();
    waits.finish_sending().unwrap();
    waits.answer(false).unwrap().expect(200);
}

fn ctl(node: &Node, arguments: &[&str]) -> Command {
    let mut command = raft_ctl();
    command.env("RAFT_NODES", node.addr.to_string()).args(arguments);
    command
}

#[test]
fn raft_ctl_prints_changes_as_they_come_and_a_summary_when_it_is_interrupted() {
    let (node, _dir) = alone();
    node.set("user/1", "ada");
    node.set("colour", "green");
    node.ask("DELETE", "/kv/user%2F1", "").expect(200);
    let text = run(ctl(&node, &["watch", "user/", "--after", "0", "-n", "2"])).expect(0);
    assert_eq!(text.stdout, "1\tset\tuser/1\tada\n3\tdelete\tuser/1\n");

    let mut watch = Process::start(ctl(&node, &["watch", "--after", "2", "--json"]));
    watch.out.event("delete");
    node.set("user/2", "bob");
    let set = watch.out.event("set");
    assert_eq!(set, json!({ "event": "set", "key": "user/2", "value": "bob", "version": 4 }));
    watch.signal("INT");
    assert_eq!(watch.ended().code(), Some(130));
    let summary = watch.out.event("summary");
    assert_eq!(summary, json!({ "event": "summary", "changes": 2, "version": 4, "interrupted": true }));
}

#[test]
fn a_watch_that_nobody_reads_ends_although_nothing_changes() {
    let (node, _dir) = alone();
    node.set("k", "v");
    let mut watch = Process::start_read_by(ctl(&node, &["watch", "--after", "0"]), Reader::OneLine);
    assert_eq!(watch.ended().code(), Some(0));
    assert_eq!((watch.out.text().as_str(), watch.err.text().as_str()), ("1\tset\tk\tv\n", ""));
}

#[test]
fn a_watch_of_nobody_is_exit_3_and_a_node_that_stops_does_not_wait_for_watchers() {
    let mut command = raft_ctl();
    run({
        command.args(["--nodes", "127.0.0.1:1", "--timeout", "300ms", "watch"]);
        command
    })
    .expect(3);
    let (mut node, _dir) = alone();
    let mut stream = Stream::open(&node, "/watch", "");
    stream.next();
    assert_eq!(node.stop().code(), Some(0));
    assert!(!node.process.err.text().contains("not finished"), "{}", node.process.err.text());
    assert_eq!(stream.0.until_closed().unwrap(), b"");
}
