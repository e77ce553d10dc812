//! What arrives on an open port: scanners, the wrong protocol, broken clients, false peers. The node answers or hangs up,
//! and goes on serving.

use std::process::Command;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tempfile::TempDir;

use crate::common::http::{self, Http, request, set_body};
use crate::common::{Node, node_in, raft_ctl, run};

fn alone() -> (Node, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Node::alone(dir.path()), dir)
}

/// Sends bytes, then nothing more; gives what comes back until the node hangs up.
fn shout(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut connection = Http::connect(node.addr).unwrap();
    // The node may hang up in the middle, so that the rest cannot be sent.
    let _ = connection.send(bytes);
    let _ = connection.finish_sending();
    connection.until_closed().unwrap_or_else(|error| panic!("still open after {bytes:?}: {error}"))
}

/// A write and a read go well.
#[track_caller]
fn assert_serves(node: &Node) {
    node.set("still", "serving");
    assert_eq!(node.value("still").as_deref(), Some("serving"));
}

/// Sends bytes and a good request behind them, and stops sending only when no answer has come for a moment: a client that
/// stops at once may get none.
fn shout_and_wait(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut connection = Http::connect_with(node.addr, Duration::from_millis(30)).unwrap();
    let _ = connection.send([bytes, &request("GET", "/health", &["connection: close"], b"")].concat());
    let mut answer = Vec::new();
    if connection.read_until_closed(&mut answer).is_err() {
        let _ = connection.finish_sending();
        let _ = connection.read_until_closed(&mut answer);
    }
    answer
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(answer.get(..12)?).ok()?;
    text.strip_prefix("HTTP/1.1 ").or_else(|| text.strip_prefix("HTTP/1.0 "))?.parse().ok()
}

#[test]
fn what_is_not_http_is_refused_or_hung_up_on() {
    let (node, _dir) = alone();
    let client_hello = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03RANDOMRANDOMRANDOMRANDOMRANDOM12\x20";
    let shouts: [&[u8]; 12] = [
        b"",
        b"\n",
        b"\r\n\r\n",
        b"\0\0\0\0\0\0\0\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        client_hello,
        b"EHLO mail.example\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /status HTTP/9.9\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\n\r\n",
    ];
    for bytes in shouts {
        let answer = shout(&node, bytes);
        let status = status_of(&answer);
        assert!(answer.is_empty() || status.is_some_and(|status| status < 500), "{bytes:?}: {answer:?}");
        assert_serves(&node);
    }
}

#[test]
fn a_malformed_request_is_answered_with_400_and_so_is_what_came_before_it() {
    let (node, _dir) = alone();
    assert_eq!(status_of(&shout_and_wait(&node, b"GARBAGE\r\n\r\n")), Some(400));
    let mut connection = Http::connect(node.addr).unwrap();
    let write = request("POST", "/kv", &[], set_body("a", "1").as_bytes());
    connection.send([write.as_slice(), b"\0\0\r\n\r\n"].concat()).unwrap();
    connection.answer(false).expect("the write took place, so it is acknowledged").expect(200);
    connection.answer(false).unwrap().expect(400);
    let mut old = Http::connect(node.addr).unwrap();
    old.send("GET /health HTTP/1.0\r\n\r\nand more").unwrap();
    old.answer(false).expect("an answer").expect(200);
}

#[test]
fn half_a_request_is_forgotten() {
    let (node, _dir) = alone();
    let whole = request("POST", "/kv", &[], set_body("half", "x").as_bytes());
    for end in 0..whole.len() {
        let answer = shout(&node, &whole[..end]);
        let status = status_of(&answer);
        assert!(answer.is_empty() || status.is_some_and(|status| (400..500).contains(&status)), "{end}: {answer:?}");
    }
    assert_serves(&node);
    assert_eq!(node.value("half"), None);
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let (node, _dir) = alone();
    let long = "x".repeat(200 << 10);
    let many = (0..500).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    let heads = [
        format!("GET /kv/{long} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        format!("GET /status HTTP/1.1\r\nhost: localhost\r\nx-long: {long}\r\n\r\n"),
        format!("GET /status HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"),
        format!("GET /status HTTP/1.1\r\n{long}"),
        long,
    ];
    for head in heads {
        let answer = shout(&node, head.as_bytes());
        let status = status_of(&answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || status.is_some_and(|status| (400..500).contains(&status)), "{text}");
        assert_serves(&node);
    }
}

#[test]
fn connections_that_say_nothing_are_in_nobodys_way() {
    let (node, _dir) = alone();
    let silent: Vec<_> = (0..500).map(|_| Http::connect(node.addr).unwrap()).collect();
    assert_serves(&node);
    drop(silent);
    assert_serves(&node);
}

#[test]
fn more_connections_than_the_system_has_files_for_are_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let inner = node_in(dir.path(), "n1");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    let node = Node::start(command);
    node.wait_healthy();
    let crowd: Vec<_> = (0..100).map(|_| Http::connect(node.addr).unwrap()).collect();
    let mut late = std::net::TcpStream::connect(node.addr).unwrap();
    late.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut late, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("too many connections"), "{answer}");
    drop(crowd);
    assert_serves(&node);
}

// Memory

/// Clients that take nothing of what they asked for, until a node has no memory left for further answers.
fn slow_readers(node: &Node) -> Vec<Http> {
    // The largest answer there is for one key: 6 MiB.
    node.ask("POST", "/kv", &format!(r#"{{"key":"large","value":"{}"}}"#, "\\u0000".repeat(1 << 20))).expect(200);
    let mut readers = Vec::new();
    crate::common::eventually("a node without memory for answers", || {
        let mut reader = Http::connect(node.addr).unwrap();
        reader.send(request("GET", "/kv/large", &[], b"")).unwrap();
        readers.push(reader);
        // One byte of it would do to refuse.
        let refused = node.get("/kv/large");
        if refused.status == 503 { Ok(()) } else { Err(format!("{}", refused.status)) }
    });
    readers
}

#[test]
fn a_write_is_never_answered_overloaded_once_it_is_done() {
    let (node, _dir) = alone();
    let _readers = slow_readers(&node);
    assert_eq!(node.get("/kv/large").expect(503).error(), "overloaded");
    let body = format!(r#"{{"key":"new","value":"{}","if_value":null}}"#, "\\u0000".repeat(1 << 20));
    assert_eq!(node.ask("POST", "/kv", &body).expect(200).json()["value"].as_str().map(str::len), Some(1 << 20));
    // That it failed, and why, is told; what the key holds is too much.
    let again = node.ask("POST", "/kv", &body).expect(412).json();
    let version = again["version"].as_u64().expect("the key is there");
    let expected = serde_json::json!({
        "error": "condition failed", "key": "new", "value": null, "version": version, "omitted": true
    });
    assert_eq!(again, expected);
    let mut ctl = raft_ctl();
    ctl.args(["--nodes", &node.addr.to_string(), "set", "new", "x", "--if-absent"]);
    run(ctl).expect(1).says(&["condition failed", &format!("new is at version {version}")]);
    node.ask("POST", "/kv", &set_body("small", "x")).expect(200);
    node.ask("DELETE", "/kv/new", "").expect(200);
}

#[test]
fn a_small_body_does_not_starve_behind_large_ones_that_never_end() {
    // 93 of them take the 128 MiB that a node has for bodies, to the last few bytes.
    const SENT: usize = (128 << 20) / 93;
    let (node, _dir) = alone();
    let begin = r#"{"key":"large","value":"v""#;
    let (body, end) = (begin.to_owned() + &" ".repeat(SENT - begin.len()), "}");
    let head = format!("POST /kv HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len() + end.len());
    let mut unfinished: Vec<_> = (0..100)
        .map(|_| {
            let mut connection = Http::connect(node.addr).unwrap();
            let _ = connection.send(&head).and_then(|()| connection.send(&body)); // it may be refused on the way
            connection
        })
        .collect();
    for size in [100, 20_000, 100_000, 1 << 20] {
        node.set("size", &"v".repeat(size));
        assert_eq!(node.value("size").map(|value| value.len()), Some(size));
    }
    // Those that are still there have lost nothing; the others were told.
    let (mut finished, mut refused) = (0, 0);
    for connection in &mut unfinished {
        let _ = connection.send(end);
        match connection.answer(false) {
            Ok(answer) if answer.status == 200 => finished += 1,
            Ok(answer) => {
                assert!(answer.clone().expect(503).error().contains("overloaded"), "{answer:?}");
                refused += 1;
            }
            Err(_) => {} // it was hung up on while it was sending
        }
    }
    assert!(finished >= 85 && refused >= 1, "{finished} finished, {refused} refused");
}

/// Places were shared: a thousand idle clients, and a peer that lost its connection could not come back.
#[test]
fn clients_that_take_all_places_leave_some_for_peers_and_for_who_asks_how_the_node_is() {
    for files in [64, 128] {
        let dir = tempfile::tempdir().unwrap();
        let inner = node_in(dir.path(), "n1");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files}; exec \"$@\""), "sh"]);
        command.arg(inner.get_program()).args(inner.get_args()).args([
            "--peer",
            "n2=127.0.0.1:1",
            "--peers-have-no-data",
        ]);
        let node = Node::start(command);
        // More than there are places, on the doorstep, too; some of them say half of what a peer says.
        let crowd = (0..files).map(|number| {
            let mut connection = Http::connect(node.addr).unwrap();
            if number % 2 == 0 {
                connection.send("GET /peer HTTP/1.1\r\n").unwrap();
            }
            connection
        });
        let crowd: Vec<_> = crowd.collect();
        for _ in 0..files {
            node.get("/metrics").expect(200);
            assert_eq!(node.get("/health").expect(503).json()["status"], "no leader");
            let headers = [UPGRADE[0], UPGRADE[1], UPGRADE[2], UPGRADE[3], "netbelt-from: n2", "netbelt-to: n1"];
            dial(&node, &headers).1.expect(101);
        }
        for path in ["/status", "/healthy", "/kv/x", "/peers"] {
            assert_eq!(node.get(path).expect(503).error(), "too many connections");
        }
        assert_eq!(node.ask("POST", "/kv", &set_body("a", "b")).expect(503).error(), "too many connections");
        drop(crowd);
        crate::common::eventually("a place", || match node.get("/status").status {
            200 => Ok(()),
            status => Err(status),
        });
    }
}

// Peers

/// A member whose only peer is `n2`, which does not run.
fn member() -> (Node, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = node_in(dir.path(), "n1");
    command.args(["--peer", "n2=127.0.0.1:1", "--peers-have-no-data"]);
    (Node::start(command), dir)
}

const UPGRADE: [&str; 4] = [
    "connection: upgrade",
    "upgrade: netbelt-raft/2",
    "netbelt-incarnation: 0123456789abcdef",
    "netbelt-starts: 1 0123456789abcdef",
];

fn dial(node: &Node, headers: &[&str]) -> (Http, http::Answer) {
    let mut connection = Http::connect(node.addr).unwrap();
    let answer = connection.ask("GET", "/peer", headers, b"").unwrap();
    (connection, answer)
}

#[test]
fn a_visitor_who_is_no_peer_is_told_why_not() {
    let (node, _dir) = member();
    let rows: [(&[&str], u16, &str); 12] = [
        (&[], 426, "netbelt-raft/2"),
        (&["connection: upgrade", "upgrade: websocket"], 426, "netbelt-raft/2"),
        (&["connection: upgrade", "upgrade: netbelt-raft/3"], 426, "netbelt-raft/2"),
        (&UPGRADE, 400, "names itself"),
        (&[UPGRADE[0], UPGRADE[1], UPGRADE[2], UPGRADE[3], "netbelt-from: n2"], 400, "whom it dials"),
        (
            &[UPGRADE[0], UPGRADE[1], UPGRADE[2], UPGRADE[3], "netbelt-from: n9", "netbelt-to: n1"],
            403,
            "n9 is not a member",
        ),
        (
            &[UPGRADE[0], UPGRADE[1], UPGRADE[2], UPGRADE[3], "netbelt-from: n1", "netbelt-to: n1"],
            403,
            "n1 is not a peer of itself",
        ),
        (
            &[UPGRADE[0], UPGRADE[1], UPGRADE[2], UPGRADE[3], "netbelt-from: n2", "netbelt-to: n7"],
            421,
            "this is n1, not n7",
        ),
        (&[UPGRADE[0], UPGRADE[1], "netbelt-from: n2", "netbelt-to: n1"], 400, "which incarnation"),
        (&[UPGRADE[0], UPGRADE[1], UPGRADE[2], "netbelt-from: n2", "netbelt-to: n1"], 400, "its starts"),
        (
            &[UPGRADE[0], UPGRADE[1], "netbelt-starts: 7", UPGRADE[2], "netbelt-from: n2", "netbelt-to: n1"],
            400,
            "its starts",
        ),
        (
            &[UPGRADE[0], UPGRADE[1], "netbelt-incarnation: 7", UPGRADE[3], "netbelt-from: n2", "netbelt-to: n1"],
            400,
            "which incarnation",
        ),
    ];
    for (headers, status, why) in rows {
        let (_, answer) = dial(&node, headers);
        assert!(answer.clone().expect(status).error().contains(why), "{headers:?}: {answer:?}");
    }
    node.get("/status").expect(200);
}

#[test]
fn a_peer_that_talks_nonsense_is_hung_up_on_and_costs_no_memory() {
    let (node, _dir) = member();
    let before = node.peak_memory();
    let frame = |content: &[u8]| [&(content.len() as u32).to_be_bytes(), content].concat();
    let nonsense: [Vec<u8>; 8] = [
        u32::MAX.to_be_bytes().to_vec(),
        (1u32 << 30).to_be_bytes().to_vec(),
        frame(b""),
        frame(b"\x07what version seven says"),
        frame(b"\x01"),
        frame(b"\x01\xee\xee\xee\xee\xee\xee\xee"),
        frame(&[b"\x01\x01".as_slice(), &[0xff; 64]].concat()),
        b"GET /status HTTP/1.1\r\n\r\n".to_vec(),
    ];
    for bytes in &nonsense {
        let headers = [UPGRADE[0], UPGRADE[1], UPGRADE[2], UPGRADE[3], "netbelt-from: n2", "netbelt-to: n1"];
        let (mut connection, answer) = dial(&node, &headers);
        answer.expect(101);
        connection.send(bytes).unwrap();
        assert_eq!(connection.until_closed().expect("it hangs up"), b"", "{bytes:?}");
        node.get("/status").expect(200);
    }
    // In the same packet as the request, and many times over.
    for _ in 0..100 {
        let headers = [UPGRADE[0], UPGRADE[1], UPGRADE[2], UPGRADE[3], "netbelt-from: n2", "netbelt-to: n1"];
        let mut connection = Http::connect(node.addr).unwrap();
        connection.send([request("GET", "/peer", &headers, b""), nonsense[0].clone()].concat()).unwrap();
        connection.until_closed().expect("it hangs up");
    }
    let grown = node.peak_memory() - before;
    assert!(grown < 10 << 20, "{grown} bytes more");
    node.get("/status").expect(200);
    assert!(node.process.err.text().contains("hung up on n2"), "{}", node.process.err.text());
}

#[test]
fn a_peer_that_stops_in_the_middle_of_a_frame_does_no_harm() {
    let (node, _dir) = member();
    let headers = [UPGRADE[0], UPGRADE[1], UPGRADE[2], UPGRADE[3], "netbelt-from: n2", "netbelt-to: n1"];
    let mut open = Vec::new();
    for _ in 0..50 {
        let (mut connection, answer) = dial(&node, &headers);
        answer.expect(101);
        connection.send(b"\x00\x30\x00\x00\x01half").unwrap();
        open.push(connection);
    }
    node.get("/status").expect(200);
    drop(open);
    node.get("/status").expect(200);
}

// Chance

/// Well-formed requests that chance then damages.
fn templates() -> Vec<Vec<u8>> {
    let body = set_body("key", "value");
    vec![
        request("POST", "/kv", &["content-type: application/json"], body.as_bytes()),
        request("POST", "/kv", &["if-match: \"1\""], body.as_bytes()),
        request("POST", "/kv", &["if-none-match: *", "expect: 100-continue"], body.as_bytes()),
        request("POST", "/kv", &[], br#"{"key":"k","value":"v","if_value":null}"#),
        b"POST /kv HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n17\r\n{\"key\":\"k\",\"value\":\"v\"}\r\n0\r\n\r\n".to_vec(),
        request("GET", "/kv/a%20key?consistency=stale", &["range: bytes=0-1"], b""),
        request("GET", "/kv?prefix=k&after=a&limit=10", &["accept: */*"], b""),
        request("DELETE", "/kv/key", &["connection: keep-alive"], b""),
        request("HEAD", "/kv/key", &[], b""),
        request("GET", "/status", &["connection: close"], b""),
        request("GET", "/peer", &[UPGRADE[0], UPGRADE[1], UPGRADE[2], UPGRADE[3], "netbelt-from: n2", "netbelt-to: n1"], b""),
        b"GET /health HTTP/1.0\r\n\r\n".to_vec(),
    ]
}

/// A few bytes changed, taken out, put in or doubled.
fn damaged(mut bytes: Vec<u8>, rng: &mut ChaCha8Rng) -> Vec<u8> {
    const SPICES: [&[u8]; 10] = [
        b"\r\n",
        b"\0",
        b"\xff",
        b":",
        b" ",
        b"%",
        b"%00",
        b"content-length: 5\r\n",
        b"\r\n\r\n",
        b"99999999999999999999",
    ];
    for _ in 0..=rng.next_u32() % 4 {
        let at = rng.next_u32() as usize % bytes.len().max(1);
        let end = (at + 1 + rng.next_u32() as usize % 20).min(bytes.len());
        match rng.next_u32() % 6 {
            0 if !bytes.is_empty() => bytes[at] = rng.next_u32() as u8,
            1 if !bytes.is_empty() => bytes[at] ^= 1 << (rng.next_u32() % 8),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.splice(at..at, SPICES[rng.next_u32() as usize % SPICES.len()].iter().copied()).for_each(drop),
            4 => bytes.extend_from_within(at..end),
            _ => bytes.truncate(end),
        }
    }
    bytes
}

#[test]
fn no_damaged_request_is_the_servers_fault() {
    const SEED: u64 = 20_260_101;
    let (node, _dir) = alone();
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let templates = templates();
    let mut answered = 0;
    for number in 0..300 {
        let template = templates[rng.next_u32() as usize % templates.len()].clone();
        let bytes = damaged(template, &mut rng);
        let answer = shout_and_wait(&node, &bytes);
        let text = String::from_utf8_lossy(&answer);
        let statuses: Vec<_> = text.split("HTTP/1.").skip(1).map(|rest| rest.get(2..5).unwrap_or("cut")).collect();
        assert!(
            statuses.iter().all(|status| matches!(status.as_bytes()[0], b'1'..=b'4')),
            "request {number} of seed {SEED}: {:?}\nanswer: {text}",
            String::from_utf8_lossy(&bytes)
        );
        answered += statuses.len();
    }
    assert!(answered > 50, "many of them get an answer, these got {answered}");
    assert_serves(&node);
}
