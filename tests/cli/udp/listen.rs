//! What `udp-listen` shows.

#![expect(clippy::disallowed_methods, reason = "the kernel's time is compared with that of a real clock")]

use std::net::UdpSocket;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::{client, events, listen_command, listener, summary};
use crate::common::{Process, Reader, Server, eventually, udp_listen};

/// A listener that talks to people, once it is ready, and a socket that sends to it.
fn for_people(arguments: &[&str]) -> (Process, UdpSocket) {
    let mut command = udp_listen();
    command.args(["--listen", "127.0.0.1:0"]).args(arguments);
    let process = Process::start(command);
    let ready = process.out.line_with("udp-listen ready on ");
    let socket = client("127.0.0.1:0");
    socket.connect(ready.rsplit(' ').next().unwrap()).unwrap();
    (process, socket)
}

#[test]
fn a_packet_has_the_kernels_time_and_both_addresses() {
    let server = listener(&[]);
    let client = client("127.0.0.1:0");
    let before = SystemTime::now();
    client.send_to(b"hello", server.addr).unwrap();
    let after = SystemTime::now();
    let packet = server.process.out.event("packet");
    let expected = json!({
        "event": "packet", "ts": packet["ts"], "from": client.local_addr().unwrap(), "to": server.addr, "len": 5,
        "text": "hello",
    });
    assert_eq!(packet, expected);

    let ts = packet["ts"].as_str().unwrap();
    assert_eq!(ts.len(), "2026-01-02T03:04:05.123456789Z".len(), "{ts}");
    let time = humantime::parse_rfc3339(ts).unwrap();
    assert!(before <= time && time <= after, "{before:?} {ts} {after:?}");
    assert!(time > UNIX_EPOCH);
}

#[test]
fn people_read_a_line_a_packet_in_which_nothing_moves_the_cursor() {
    let (mut process, client) = for_people(&["--count", "4"]);
    let from = client.local_addr().unwrap();
    for payload in [&b"hello"[..], b"a\r\nb\x1b[31m\\", b"\xff\x00", b""] {
        client.send(payload).unwrap();
    }
    assert_eq!(process.ended().code(), Some(0));
    let text = process.out.text();
    let lines: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(lines[0], format!("Received 5 bytes from {from}: hello"));
    assert_eq!(lines[1], format!("Received 10 bytes from {from}: a\\r\\nb\\x1b[31m\\\\"));
    assert_eq!(lines[2], format!("Received 2 bytes from {from}: hex ff00"));
    assert_eq!(lines[3], format!("Received 0 bytes from {from}: "));
    assert!(lines[4].starts_with("4 packets, 17 bytes, 0 dropped, "), "{text}");
    assert_eq!(lines.len(), 5, "{text}");
}

#[test]
fn what_is_no_text_is_shown_in_hexadecimal_and_so_is_all_when_asked() {
    let server = listener(&[]);
    client("127.0.0.1:0").send_to(b"\xff\xfe\x00", server.addr).unwrap();
    let packet = server.process.out.event("packet");
    assert_eq!((&packet["hex"], packet.get("text")), (&json!("fffe00"), None));

    let server = listener(&["--hex"]);
    client("127.0.0.1:0").send_to(b"hi", server.addr).unwrap();
    let packet = server.process.out.event("packet");
    assert_eq!((&packet["hex"], packet.get("text")), (&json!("6869"), None));
}

#[test]
fn a_datagram_longer_than_what_is_kept_is_marked_and_its_real_length_told() {
    let mut server = listener(&["--size", "4"]);
    let client = client("127.0.0.1:0");
    client.send_to(b"four", server.addr).unwrap();
    client.send_to(b"three and more", server.addr).unwrap();
    let summary = summary(&mut server);
    assert_eq!((&summary["packets"], &summary["bytes"], &summary["truncated"]), (&2.into(), &18.into(), &1.into()));
    let packets = events(&server.process, "packet");
    assert_eq!(
        (&packets[0]["len"], &packets[0]["text"], packets[0].get("truncated")),
        (&4.into(), &"four".into(), None)
    );
    assert_eq!((&packets[1]["len"], &packets[1]["text"]), (&14.into(), &"thre".into()));
    assert_eq!(packets[1]["truncated"], true);

    let (mut process, client) = for_people(&["--size", "4", "--count", "1"]);
    client.send(b"three and more").unwrap();
    process.ended();
    process.out.line_with(&format!("Received 14 bytes from {} (4 kept): thre", client.local_addr().unwrap()));
}

#[test]
fn the_longest_datagram_is_taken_whole() {
    let server = listener(&[]);
    let longest: String = "longest ".chars().cycle().take(65_507).collect();
    client("127.0.0.1:0").send_to(longest.as_bytes(), server.addr).unwrap();
    let packet = server.process.out.event("packet");
    assert_eq!((&packet["len"], packet.get("truncated")), (&65_507.into(), None));
    assert_eq!(packet["text"], longest);
}

#[test]
fn it_stops_after_a_count_and_takes_not_one_more() {
    let mut server = listener(&["--count", "3"]);
    let client = client("127.0.0.1:0");
    for _ in 0..10 {
        let _ = client.send_to(b"x", server.addr); // refused when it has ended
    }
    assert_eq!(server.process.ended().code(), Some(0));
    assert_eq!(events(&server.process, "packet").len(), 3);
    let summaries = events(&server.process, "summary");
    assert_eq!(summaries.len(), 1);
    assert_eq!((&summaries[0]["packets"], &summaries[0]["bytes"]), (&3.into(), &3.into()));
    assert_eq!((&summaries[0]["dropped"], &summaries[0]["interrupted"]), (&0.into(), &false.into()));
}

#[test]
fn it_stops_after_a_time() {
    let mut server = listener(&["--duration", "300ms"]);
    assert_eq!(server.process.ended().code(), Some(0));
    let summary = server.process.out.event("summary");
    assert_eq!((&summary["packets"], &summary["interrupted"]), (&0.into(), &false.into()));
    assert!(summary["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.3), "{summary}");
}

#[test]
fn a_signal_ends_it_well_and_loses_nothing_that_had_arrived() {
    for signal in ["INT", "TERM"] {
        let mut server = listener(&[]);
        let client = client("127.0.0.1:0");
        for number in 0..1000 {
            client.send_to(number.to_string().as_bytes(), server.addr).unwrap();
        }
        server.process.signal(signal);
        assert_eq!(server.process.ended().code(), Some(0));
        let packets = events(&server.process, "packet");
        let texts: Vec<_> = packets.iter().map(|packet| packet["text"].as_str().unwrap().to_owned()).collect();
        assert_eq!(texts, (0..1000).map(|number| number.to_string()).collect::<Vec<_>>());
        let all = server.process.out.events();
        let last = all.last().unwrap();
        assert_eq!((&last["event"], &last["packets"]), (&"summary".into(), &1000.into()));
        assert_eq!((&last["interrupted"], &last["dropped"]), (&true.into(), &0.into()));
        assert_eq!(events(&server.process, "summary").len(), 1);
    }
}

#[test]
fn it_tells_how_far_it_is_when_asked_and_as_often_as_asked() {
    let mut server = listener(&[]);
    let client = client("127.0.0.1:0");
    client.send_to(b"one", server.addr).unwrap();
    server.process.out.event("packet");
    server.process.signal("USR1");
    let interval = server.process.out.event("interval");
    assert_eq!((&interval["packets"], &interval["bytes"], &interval["dropped"]), (&1.into(), &3.into(), &0.into()));
    assert!(interval["pps"].is_number() && interval["seconds"].is_number(), "{interval}");
    assert_eq!(summary(&mut server)["packets"], 1);

    let server = listener(&["--stats", "20ms", "--quiet"]);
    client.send_to(b"one", server.addr).unwrap();
    eventually("an interval that counts the packet", || {
        let intervals = events(&server.process, "interval");
        intervals.last().is_some_and(|last| last["packets"] == 1).then_some(()).ok_or(format!("{intervals:?}"))
    });
    let (process, _) = for_people(&["--stats", "20ms"]);
    process.err.line_with("0 packets, 0 bytes, 0 dropped, ");
    assert_eq!(process.out.text().lines().count(), 1, "people find it on stderr");
}

#[test]
fn quiet_counts_without_showing() {
    let (mut process, client) = for_people(&["--quiet", "--count", "2"]);
    client.send(b"three").unwrap();
    client.send(&[b'x'; 60_000]).unwrap();
    assert_eq!(process.ended().code(), Some(0));
    let text = process.out.text();
    assert!(text.lines().nth(1).unwrap().starts_with("2 packets, 60005 bytes, 0 dropped, "), "{text}");
    assert_eq!((text.lines().count(), process.err.text().as_str()), (2, ""));
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let mut process = Process::start_read_by(listen_command(&[]), Reader::OneLine);
    let ready = process.out.event("ready");
    let client = client("127.0.0.1:0");
    eventually("the end of a listener that nobody reads", || {
        let _ = client.send_to(b"hello?", ready["addr"].as_str().unwrap()); // refused when it has ended
        match std::fs::read_to_string(format!("/proc/{}/stat", process.pid())) {
            Ok(stat) if stat.contains(") Z ") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(process.ended().code(), Some(0));
    assert_eq!(process.err.text(), "");
}

#[test]
fn the_datagrams_go_to_a_file_and_the_rest_to_stdout() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("packets.jsonl");
    std::fs::write(&file, "").unwrap(); // as mktemp leaves it
    let mut server = listener(&["--out", file.to_str().unwrap()]);
    let client = client("127.0.0.1:0");
    for _ in 0..100 {
        client.send_to(b"x", server.addr).unwrap();
    }
    assert_eq!(summary(&mut server)["packets"], 100);
    assert_eq!(events(&server.process, "packet").len(), 0);
    let kept = std::fs::read_to_string(&file).unwrap();
    assert_eq!(kept.lines().count(), 100);
    assert!(kept.lines().all(|line| line.contains(r#""event":"packet""#)), "{kept}");

    let server = listener(&["--out", "-"]);
    client.send_to(b"x", server.addr).unwrap();
    server.process.out.event("packet");
}

#[test]
fn what_a_file_holds_is_not_lost_to_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("packets.jsonl");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "of an earlier run\n").unwrap();
    let said = Server::try_start(listen_command(&["--out", path])).unwrap_err();
    assert!(said.contains(path) && said.contains("holds 18 bytes already") && said.contains("--append"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "of an earlier run\n");

    let mut server = listener(&["--out", path, "--append"]);
    client("127.0.0.1:0").send_to(b"x", server.addr).unwrap();
    summary(&mut server);
    let kept = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<_> = kept.lines().collect();
    assert!(lines.len() == 2 && lines[0] == "of an earlier run" && lines[1].contains("packet"), "{kept}");
    super::listen(&["--append"]).expect(2).says(&["--out"]);
}

#[test]
fn a_reader_that_goes_while_nothing_comes_ends_it_too() {
    for arguments in [&["--json"][..], &[]] {
        let mut command = udp_listen();
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        let mut process = Process::start_read_by(command, Reader::OneLine);
        assert_eq!(process.ended().code(), Some(0));
        assert_eq!(process.err.text(), "");
    }
    // Where no datagrams are shown on stdout, a script may take the ready line and leave.
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    for arguments in [&["--quiet"][..], &["--out", out.to_str().unwrap()]] {
        let mut process = Process::start_read_by(listen_command(arguments), Reader::OneLine);
        let ready = process.out.event("ready");
        client("127.0.0.1:0").send_to(b"x", ready["addr"].as_str().unwrap()).unwrap();
        process.signal("TERM");
        process.ended();
    }
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().count(), 1);
}

#[test]
fn systemd_hears_when_it_begins_and_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(crate::common::PATIENCE)).unwrap();
    let mut command = listen_command(&[]);
    command.env("NOTIFY_SOCKET", &path);
    let mut server = Server::start(command);
    summary(&mut server);
    for expected in ["READY=1", "STOPPING=1"] {
        let mut message = [0; 100];
        let len = socket.recv(&mut message).expect("a message");
        assert_eq!(&message[..len], expected.as_bytes());
    }
}

#[test]
fn localhost_is_the_same_for_every_tool_and_a_port_that_is_taken_is_not_passed_over() {
    let mut command = udp_listen();
    command.args(["--listen", "localhost:0", "--json"]);
    let server = Server::start(command);
    assert_eq!(server.addr.ip().to_string(), "127.0.0.1");
    let second = format!("localhost:{}", server.addr.port());
    super::listen(&["--listen", &second]).expect(6).says(&["127.0.0.1", "in use"]);
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let said = Server::try_start(listen_command(&["--out", path])).unwrap_err();
    assert!(said.contains("--out") && said.contains(path) && said.contains("directory"), "{said}");

    let mut server = listener(&["--out", "/dev/full"]);
    client("127.0.0.1:0").send_to(b"x", server.addr).unwrap();
    assert_eq!(server.process.ended().code(), Some(6));
    let error = server.process.out.event("error");
    let message = error["message"].as_str().unwrap();
    assert!(error["kind"] == "local" && message.contains("--out /dev/full") && message.contains("No space"), "{error}");
    assert_eq!(events(&server.process, "summary")[0]["packets"], 1, "what came is told all the same");
}

#[test]
fn ipv6_and_ipv4_come_through_one_socket_and_look_like_what_they_are() {
    let mut command = udp_listen();
    command.args(["--listen", "[::]:0", "--json"]);
    let mut server = Server::start(command);
    server.process.err.line_with("can be reached from other machines");
    let (v4, v6) = (client("127.0.0.1:0"), client("[::1]:0"));
    v4.send_to(b"four", ("127.0.0.1", server.addr.port())).unwrap();
    v6.send_to(b"six", ("::1", server.addr.port())).unwrap();
    assert_eq!(summary(&mut server)["packets"], 2);
    let packets = events(&server.process, "packet");
    assert_eq!(packets[0]["from"], json!(v4.local_addr().unwrap()));
    assert_eq!(packets[0]["to"], format!("127.0.0.1:{}", server.addr.port()));
    assert_eq!(packets[1]["from"], json!(v6.local_addr().unwrap()));
    assert_eq!(packets[1]["to"], format!("[::1]:{}", server.addr.port()));
}

#[test]
fn a_script_finds_the_address_in_the_ready_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ready");
    let server = listener(&["--ready-file", file.to_str().unwrap()]);
    let ready: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(ready, server.ready);
    assert_eq!((&ready["tool"], ready.get("id")), (&"udp-listen".into(), None));
}
