//! What `udp-send` sends, and what it makes of what comes back.

use std::time::{Duration, SystemTime};

use super::{client, events, listener, next, send, summary};
use crate::common::{Process, Server, run, run_with, udp_listen, udp_send};

#[test]
fn words_are_one_datagram_and_a_count_repeats_it() {
    let receiver = client("127.0.0.1:0");
    let addr = receiver.local_addr().unwrap().to_string();
    let sent = send(&[&addr, "hello", "there"]).expect(0);
    assert_eq!((next(&receiver), sent.stdout.as_str(), sent.stderr.as_str()), (b"hello there".to_vec(), "", ""));
    let sent = send(&[&addr, "-n", "3", "again"]).expect(0);
    assert!(sent.stdout.starts_with("sent 3 datagrams, 15 bytes in "), "{}", sent.stdout);
    for _ in 0..3 {
        assert_eq!(next(&receiver), b"again");
    }
    send(&[&addr, "--hex", "de ad", "BEEF"]).expect(0);
    assert_eq!(next(&receiver), b"\xde\xad\xbe\xef");
    send(&[&addr, "-5"]).expect(0);
    assert_eq!(next(&receiver), b"-5");
    send(&[&addr, ""]).expect(0);
    assert_eq!(next(&receiver), b"");
}

#[test]
fn each_line_of_stdin_is_a_datagram_byte_for_byte() {
    let receiver = client("127.0.0.1:0");
    let mut command = udp_send();
    command.args(["--json", &receiver.local_addr().unwrap().to_string()]);
    let sent = run_with(command, &b"one\n\n\xff\x00\r\nlast"[..]).expect(0).json();
    assert_eq!((&sent["event"], &sent["sent"], &sent["bytes"]), (&"summary".into(), &4.into(), &10.into()));
    for line in [&b"one"[..], b"", b"\xff\x00\r", b"last"] {
        assert_eq!(next(&receiver), line);
    }
    let mut some = udp_send();
    some.args(["--count", "2", &receiver.local_addr().unwrap().to_string()]);
    run_with(some, "1\n2\n3\n").expect(0);
    assert_eq!((next(&receiver), next(&receiver)), (b"1".to_vec(), b"2".to_vec()));
}

#[test]
fn a_line_that_is_too_long_is_named_and_those_before_it_are_sent() {
    let receiver = client("127.0.0.1:0");
    let mut command = udp_send();
    command.arg(receiver.local_addr().unwrap().to_string());
    let lines = [vec![b'a'; 65_507], vec![b'b'; 65_508], b"c".to_vec()].join(&b'\n');
    run_with(command, lines).expect(2).says(&["line 2", "65507"]);
    assert_eq!(next(&receiver), vec![b'a'; 65_507]);
    receiver.set_nonblocking(true).unwrap();
    receiver.recv(&mut [0; 9]).unwrap_err();

    let mut command = udp_send();
    command.args(["--hex", &receiver.local_addr().unwrap().to_string()]);
    run_with(command, "ff\nxy\n").expect(2).says(&["line 2", "'x'"]);
}

#[test]
fn nothing_to_send_is_an_error() {
    let mut empty = udp_send();
    empty.arg("127.0.0.1:9");
    run_with(empty, "").expect(2).says(&["nothing to send", "stdin", "TEXT"]);
    let mut closed = std::process::Command::new("sh");
    closed.args(["-c", "exec \"$0\" 127.0.0.1:9 <&-", env!("CARGO_BIN_EXE_udp-send")]);
    run(closed).expect(2).says(&["nothing to send", "closed"]);
    let mut directory = std::process::Command::new("sh");
    directory.args(["-c", "exec \"$0\" 127.0.0.1:9 </", env!("CARGO_BIN_EXE_udp-send")]);
    run(directory).expect(6).says(&["cannot read stdin", "directory"]);
}

#[test]
fn filler_is_numbered_and_has_its_size() {
    let receiver = client("127.0.0.1:0");
    let addr = receiver.local_addr().unwrap().to_string();
    send(&[&addr, "--size", "6", "--count", "3"]).expect(0);
    for expected in ["1.....", "2.....", "3....."] {
        assert_eq!(next(&receiver), expected.as_bytes());
    }
    send(&[&addr, "--size", "65507"]).expect(0);
    assert_eq!(next(&receiver).len(), 65_507);
    send(&[&addr, "--size", "65508"]).expect(2).says(&["--size 65508", "at most 65507"]);
    send(&["[::1]:9", "--size", "65528"]).expect(2).says(&["--size 65528", "at most 65527"]);
}

#[test]
fn a_pace_is_kept_by_the_receivers_clock() {
    let mut server = listener(&[]);
    let sent = send(&["--json", &server.addr.to_string(), "tick", "--count", "41", "--rate", "100"]).expect(0).json();
    assert_eq!(summary(&mut server)["packets"], 41);
    let time = |packet: &serde_json::Value| -> SystemTime {
        humantime::parse_rfc3339(packet["ts"].as_str().unwrap()).unwrap()
    };
    let packets = events(&server.process, "packet");
    let start = time(&packets[0]);
    for (number, packet) in packets.iter().enumerate() {
        // The first may be late itself, as may any on a busy machine; without a pace, the last comes 400 ms early.
        let due = Duration::from_millis(10 * number as u64);
        let since = time(packet).duration_since(start).unwrap();
        assert!(since + Duration::from_millis(150) > due, "number {number} came {since:?} after the first");
    }
    assert!(sent["seconds"].as_f64().unwrap() >= 0.4, "{sent}");
    assert!(sent["pps"].as_f64().unwrap() <= 100.1, "{sent}");
}

#[test]
fn it_sends_for_a_time() {
    let mut server = listener(&["--quiet"]);
    let sent = send(&["--json", &server.addr.to_string(), "x", "--duration", "200ms", "--rate", "50"]).expect(0).json();
    let count = sent["sent"].as_u64().unwrap();
    assert!((1..=11).contains(&count), "{sent}");
    assert_eq!(summary(&mut server)["packets"], count);
}

#[test]
fn a_reply_is_printed_bare_and_its_time_told_to_programs() {
    let server = listener(&["--reply", "echo"]);
    let addr = server.addr.to_string();
    assert_eq!(send(&[&addr, "hello", "--wait-reply", "10s"]).expect(0).stdout, "hello\n");
    assert_eq!(send(&[&addr, "--hex", "00ff", "--wait-reply", "10s"]).expect(0).stdout, "00ff\n");
    let told = send(&[&addr, "hello", "--wait-reply", "10s", "--json"]).expect(0);
    let lines: Vec<serde_json::Value> = told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["event"], &lines[0]["from"], &lines[0]["len"]), (&"reply".into(), &addr.into(), &5.into()));
    assert!(lines[0]["text"] == "hello" && lines[0]["rtt_us"].as_u64().is_some_and(|rtt| rtt > 0), "{lines:?}");
    assert_eq!((&lines[1]["event"], &lines[1]["replies"]), (&"summary".into(), &1.into()));
    assert_eq!(lines.len(), 2);
    let many = send(&[&server.addr.to_string(), "x", "--count", "20", "--wait-reply", "10s"]).expect(0);
    assert_eq!(many.stdout.lines().filter(|line| *line == "x").count(), 20);
    assert!(many.stdout.lines().last().unwrap().ends_with("; 20 replies"), "{}", many.stdout);
}

#[test]
fn a_conversation_prints_replies_while_lines_still_come() {
    use std::io::Write;
    let server = listener(&["--reply", "echo"]);
    let mut command = udp_send();
    command.args([&server.addr.to_string(), "--wait-reply", "10s"]);
    let (mut process, mut stdin) = Process::start_fed(command);
    for line in ["first", "second"] {
        writeln!(stdin, "{line}").unwrap();
        process.out.line_with(line);
    }
    drop(stdin);
    assert_eq!(process.ended().code(), Some(0));
}

#[test]
fn silence_is_a_deadline() {
    let silent = client("127.0.0.1:0");
    let addr = silent.local_addr().unwrap().to_string();
    let waited =
        send(&["--json", &addr, "hello", "--wait-reply", "50ms"]).expect(124).says(&[&addr, "no reply", "50ms"]);
    let lines: Vec<serde_json::Value> = waited.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["event"], &lines[0]["replies"]), (&"summary".into(), &0.into()));
    assert_eq!((&lines[1]["event"], &lines[1]["kind"]), (&"error".into(), &"deadline".into()));
}

#[test]
fn fewer_replies_than_datagrams_are_a_deadline_too() {
    let server = listener(&["--reply", "echo", "--reply-rate", "3"]);
    let addr = server.addr.to_string();
    let waited = send(&["--json", &addr, "x", "--count", "20", "--wait-reply", "200ms"]).expect(124);
    let summary: serde_json::Value = serde_json::from_str(waited.stdout.lines().rev().nth(1).unwrap()).unwrap();
    let replies = summary["replies"].as_u64().unwrap();
    assert!((3..20).contains(&replies), "{summary}"); // 3, unless the machine is so slow that there is time for more
    waited.says(&[&format!("only {replies} of 20 replies from {addr} within 200ms")]);
}

#[test]
fn a_port_at_which_nothing_listens_is_told() {
    // A socket that hears another one only keeps the port, and is not there for us.
    let nobody = client("127.0.0.1:0");
    nobody.connect("127.0.0.1:1").unwrap();
    let addr = nobody.local_addr().unwrap().to_string();
    send(&[&addr, "hello"]).expect(3).says(&[&addr, "nothing listens"]);
    send(&[&addr, "hello", "--wait-reply", "20s"]).expect(3).says(&[&addr, "nothing listens"]);
    for size in [&["--size", "64"][..], &["text"]] {
        let blast = send(&[&["--json", &addr, "--count", "1000000"], size].concat()).expect(3);
        assert!(blast.stdout.lines().last().unwrap().contains(r#""kind":"refused""#), "{}", blast.stdout);
        assert_eq!(blast.stdout.matches(r#""event":"summary""#).count(), 1);
    }
}

#[test]
fn an_interrupted_run_tells_how_far_it_came() {
    let receiver = client("127.0.0.1:0");
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = udp_send();
        command.args(["--json", &receiver.local_addr().unwrap().to_string(), "x", "--count", "1000", "--rate", "1"]);
        let mut process = Process::start(command);
        next(&receiver);
        process.signal("USR1");
        assert_eq!(process.out.event("interval")["sent"], 1);
        process.signal(signal);
        assert_eq!(process.ended().code(), Some(code));
        let summary = process.out.event("summary");
        assert_eq!(summary["interrupted"], true);
        assert!(summary["sent"].as_u64().is_some_and(|sent| sent < 100), "{summary}");
        assert_eq!(events(&process, "summary").len(), 1);
    }
}

#[test]
fn an_interrupt_does_not_wait_for_stdin() {
    use std::io::Write;
    let receiver = client("127.0.0.1:0");
    let mut command = udp_send();
    command.arg(receiver.local_addr().unwrap().to_string());
    let (mut process, mut stdin) = Process::start_fed(command);
    writeln!(stdin, "one").unwrap();
    assert_eq!(next(&receiver), b"one");
    process.signal("INT");
    assert_eq!(process.ended().code(), Some(130));
    assert_eq!(process.err.text(), "udp-send: interrupted\n");
}

#[test]
fn ipv6_works_as_ipv4_does_and_localhost_is_where_servers_listen() {
    let mut command = udp_listen();
    command.args(["--listen", "[::1]:0", "--json", "--reply", "echo"]);
    let server = Server::start(command);
    let told = send(&[&server.addr.to_string(), "six", "--wait-reply", "10s"]).expect(0);
    assert_eq!(told.stdout, "six\n");
    let server = listener(&["--reply", "echo"]);
    let told = send(&[&format!("localhost:{}", server.addr.port()), "four", "--wait-reply", "10s"]).expect(0);
    assert_eq!(told.stdout, "four\n");
}
