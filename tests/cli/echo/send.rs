//! `tcp-echo send`, against servers that echo and servers that do not.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::{dial, echo, noise, reset, serving, take};
use crate::common::{Ended, PATIENCE, Process, Reader, Server, run, run_with, tcp_echo};

/// Sends to a server of netbelt.
fn send(server: &Server, arguments: &[&str]) -> Ended {
    echo(&[&["send", &server.addr.to_string()], arguments].concat())
}

/// Sends stdin.
fn feed(server: &Server, arguments: &[&str], stdin: impl Into<Vec<u8>>) -> Ended {
    let mut command = tcp_echo();
    command.args(["send", &server.addr.to_string()]).args(arguments);
    run_with(command, stdin)
}

/// A server that does this with its first client.
fn behaving(behave: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        behave(stream);
    });
    (addr, thread)
}

fn lines(ended: &Ended) -> Vec<Value> {
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn words_come_back_joined_by_spaces_in_every_framing() {
    for framing in ["raw", "lines", "length"] {
        let server = serving(&["--frame", framing]);
        let reply = send(&server, &["--frame", framing, "--check", "hello", "world"]).expect(0);
        assert_eq!((reply.stdout.as_str(), reply.stderr.as_str()), ("hello world\n", ""));
        assert_eq!(send(&server, &["--frame", framing, "--check", ""]).expect(0).stdout, "\n");
        assert_eq!(send(&server, &["--frame", framing, "-n", "3", "ping"]).expect(0).stdout, "ping\nping\nping\n");
        assert_eq!(
            send(&server, &["--frame", framing, "-n", "2", "--", "--json"]).expect(0).stdout,
            "--json\n--json\n"
        );
    }
}

#[test]
fn every_reply_has_a_round_trip_time_in_json_and_one_summary_ends_them() {
    let server = serving(&["--frame", "lines"]);
    let ended = send(&server, &["--frame", "lines", "--count", "3", "--json", "ping"]).expect(0);
    let events = lines(&ended);
    for (number, reply) in events[..3].iter().enumerate() {
        assert_eq!((&reply["event"], &reply["reply"]), (&"reply".into(), &(number + 1).into()), "{reply}");
        assert_eq!((&reply["bytes"], &reply["text"]), (&4.into(), &"ping".into()), "{reply}");
        assert!(reply["rtt_us"].as_f64().is_some_and(|time| time > 0.0), "{reply}");
    }
    let summary = &events[3];
    assert_eq!((events.len(), &summary["event"], &summary["interrupted"]), (4, &"summary".into(), &false.into()));
    assert_eq!((&summary["sent_bytes"], &summary["received_bytes"]), (&15.into(), &15.into()), "{summary}");
    let server = serving(&["--frame", "length"]);
    let binary = feed(&server, &["--frame", "length", "--json"], b"\xff\x00\n".as_slice()).expect(0);
    assert_eq!((&lines(&binary)[0]["hex"], &lines(&binary)[0]["bytes"]), (&"ff00".into(), &2.into()));
}

#[test]
fn stdin_comes_back_as_it_is_empty_small_or_megabytes_of_anything() {
    let server = serving(&[]);
    for bytes in [Vec::new(), b"no end".to_vec(), b"line\n".to_vec(), noise(1, 9_000_001)] {
        let mut command = tcp_echo();
        command.args(["send", &server.addr.to_string(), "--check"]);
        let output = assert_cmd::Command::from_std(command).timeout(PATIENCE).write_stdin(bytes.clone()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout == bytes, "{} of {} bytes, or others", output.stdout.len(), bytes.len());
    }
    let text = "one\n\nthree\n".repeat(10_000);
    let lines = serving(&["--frame", "lines"]);
    assert!(feed(&lines, &["--frame", "lines", "--check"], text.clone()).expect(0).stdout == text);
    let length = serving(&["--frame", "length"]);
    assert!(feed(&length, &["--frame", "length", "--check"], text.clone()).expect(0).stdout == text);
}

#[test]
fn what_is_too_long_for_a_frame_is_refused_before_anything_is_asked() {
    for (arguments, words) in [
        (&["--frame", "lines", "--max-frame", "3", "four"] as &[_], &["4 bytes", "--max-frame allows 3"] as &[_]),
        (&["--frame", "length", "--max-frame", "3", "four"], &["4 bytes", "--max-frame allows 3"]),
        (&["--frame", "lines", "two\nlines"], &["line end", "--frame length"]),
        (&["--max-frame", "0", "x"], &["--max-frame"]),
        (&["--count", "2"], &["TEXT"]),
        (&["--frame", "foo", "x"], &["--frame", "length"]),
    ] {
        // Nobody listens there: a command line that makes no sense is found before that is.
        echo(&[&["send", "127.0.0.1:1"], arguments].concat()).expect(2).says(words);
    }
    echo(&["send"]).expect(2).says(&["<HOST:PORT>"]);
    echo(&["send", "localhost", "x"]).expect(2).says(&["HOST:PORT"]);
    let server = serving(&["--frame", "length"]);
    let ended = feed(&server, &["--frame", "length", "--max-frame", "5"], "short\ntoo long\nnever sent\n").expect(2);
    ended.says(&["line 2 of stdin", "--max-frame", "5 bytes"]);
    let exact = feed(&server, &["--frame", "length", "--max-frame", "5"], "12345\n12345").expect(0);
    assert_eq!(exact.stdout, "12345\n12345\n");
}

#[test]
fn a_server_that_refuses_a_frame_is_quoted_and_it_is_an_error() {
    let server = serving(&["--frame", "lines", "--max-frame", "10"]);
    let ended = send(&server, &["--frame", "lines", "--check", "longer than ten"]).expect(5);
    ended.says(&["refused: a frame of 15 bytes exceeds the limit of 10"]);
    let ended = feed(&server, &["--frame", "lines"], "good\nlonger than ten\nnever\n").expect(5);
    assert!(ended.stdout.starts_with("good\ntcp-echo: a frame of "), "{}", ended.stdout);
}

#[test]
fn a_server_without_room_refuses_and_that_is_no_echo() {
    let server = serving(&["--max-conns", "1"]);
    let _held = dial(server.addr);
    server.process.out.event("connect");
    let ended = send(&server, &["hello", "--json"]).expect(5).says(&["refused: all 1 connections are taken"]);
    assert_eq!(ended.json()["kind"], "peer");
    feed(&server, &["--frame", "lines"], "one\n").expect(5).says(&["refused: all 1 connections are taken"]);
    // Whoever is echoed that text has not been refused.
    let other = serving(&[]);
    send(&other, &["tcp-echo: hello"]).expect(0);
}

#[test]
fn a_last_line_without_an_end_comes_back_and_nothing_panics() {
    let server = serving(&["--frame", "lines"]);
    assert_eq!(feed(&server, &["--frame", "lines"], "one\ntwo").expect(0).stdout, "one\ntwo\n");
    let (addr, other) = behaving(|mut stream| stream.write_all(b"abc").unwrap());
    echo(&["send", &addr.to_string(), "--frame", "lines", "hi"]).expect(5);
    other.join().unwrap();
}

#[test]
fn a_stderr_that_takes_nothing_changes_no_exit_code() {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>/dev/full", "sh"]).arg(tcp_echo().get_program());
    command.args(["send", "127.0.0.1:1", "x", "--retries", "1"]).env_remove("RUST_LOG");
    run(command).expect(3);
}

#[test]
fn who_cannot_be_reached_is_told_apart() {
    let refused = echo(&["send", "127.0.0.1:1", "x", "--json"]).expect(3);
    let refused = refused.says(&["cannot connect to 127.0.0.1:1: connection refused", "tcp-echo serve"]);
    assert_eq!(refused.json()["kind"], "refused");
    for name in ["nosuchhost.invalid:7000", "a..b:7000"] {
        let unknown = echo(&["send", name, "x", "--json"]).expect(3).says(&["cannot find", name]);
        assert_eq!(unknown.json()["kind"], "name_not_found");
    }
    // A listener whose queue is full answers nobody.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let addr = full.local_addr().unwrap().as_socket().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
        queue.push(stream);
    }
    let late = echo(&["send", &addr.to_string(), "x", "--connect-timeout", "100ms", "--json"]).expect(124);
    let late = late.says(&[&addr.to_string(), "no answer within 100ms", "--connect-timeout"]);
    assert_eq!(late.json()["kind"], "deadline");
}

#[test]
fn a_server_that_never_answers_is_given_up_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap(); // which nobody accepts from
    let addr = listener.local_addr().unwrap();
    let ended = echo(&["send", &addr.to_string(), "hello", "--timeout", "100ms", "--json"]).expect(124);
    let ended = ended.says(&[&addr.to_string(), "nothing came back for 100ms", "0 of 5 bytes", "--timeout"]);
    assert_eq!(ended.json()["kind"], "deadline");
}

#[test]
fn a_server_that_closes_early_or_resets_is_told_with_how_much_had_come() {
    let (addr, _) = behaving(|mut stream| {
        take(&stream, 5);
        stream.write_all(b"hel").unwrap();
    });
    let ended = echo(&["send", &addr.to_string(), "hello", "--json"]).expect(5);
    let ended = ended.says(&[&addr.to_string(), "closed after 3 of 5 bytes"]);
    assert_eq!(ended.json()["kind"], "closed");
    let (addr, _) = behaving(|stream| {
        take(&stream, 2);
        reset(stream);
    });
    let ended = echo(&["send", &addr.to_string(), "hello", "--json"]).expect(5).says(&["0 of 5 bytes", "reset"]);
    assert_eq!(ended.json()["kind"], "closed");
    let (addr, _) = behaving(|mut stream| {
        take(&stream, 100_000);
        stream.write_all(&[0; 1000]).unwrap();
    });
    let mut command = tcp_echo();
    command.args(["send", &addr.to_string(), "--json"]);
    let ended = run_with(command, vec![0; 1 << 20]).expect(5);
    assert_eq!(lines(&ended).last().unwrap()["kind"], "closed");
}

#[test]
fn a_server_that_closes_before_stdin_has_been_sent_is_an_error_however_late_stdin_comes() {
    let (addr, server) = behaving(drop);
    let mut command = tcp_echo();
    command.args(["send", &addr.to_string(), "--json"]);
    let (mut process, mut stdin) = Process::start_fed(command);
    server.join().unwrap(); // it has closed, and nothing was owed
    let _ = stdin.write_all(b"hello");
    drop(stdin);
    assert_eq!(process.ended().code(), Some(5), "{}", process.out.text());
    assert_eq!(process.out.event("error")["kind"], "closed");
}

#[test]
fn a_greeting_is_printed_and_a_close_with_nothing_owed_is_no_error() {
    let server = serving(&["--greet", "Hello from server", "--hangup"]);
    let ended = feed(&server, &[], "").expect(0);
    assert_eq!(ended.stdout, "Hello from server");
    assert_eq!(send(&server, &["hi"]).expect(0).stdout, "Hello from server\n");
}

#[test]
fn check_tells_when_something_else_comes_back() {
    let other = |stream: TcpStream| {
        take(&stream, 5);
        let mut stream = stream;
        stream.write_all(b"jello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        drop(stream.read_to_end(&mut Vec::new()));
    };
    let (addr, _) = behaving(other);
    let ended = echo(&["send", &addr.to_string(), "--check", "hello", "--json"]).expect(1);
    let ended = ended.says(&["5 bytes", "not the 5 sent"]);
    assert_eq!(lines(&ended).last().unwrap()["kind"], "no");
    let (addr, _) = behaving(other);
    assert_eq!(echo(&["send", &addr.to_string(), "hello"]).expect(0).stdout, "jello\n");
}

#[test]
fn retries_reach_a_server_that_comes_up_later() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = reserved.local_addr().unwrap();
    drop(reserved);
    let mut command = tcp_echo();
    command.args(["send", &addr.to_string(), "hello", "--retries", "100"]);
    let mut client = Process::start(command);
    client.err.line_with("connection refused; trying again");
    let mut serve = tcp_echo();
    serve.args(["serve", "--json", "--listen", &addr.to_string()]);
    let _server = Server::start(serve);
    assert_eq!(client.ended().code(), Some(0));
    assert_eq!(client.out.text(), "hello\n");
    let ended = echo(&["send", "127.0.0.1:1", "x", "--retries", "2"]).expect(3);
    assert_eq!(ended.stderr.matches("trying again").count(), 2, "{}", ended.stderr);
}

#[test]
fn a_signal_ends_it_with_a_summary_and_its_own_code() {
    let server = serving(&[]);
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = tcp_echo();
        command.args(["send", &server.addr.to_string(), "--json"]);
        let (mut process, mut stdin) = Process::start_fed(command);
        stdin.write_all(b"hello").unwrap();
        process.out.event("reply");
        process.signal(name);
        assert_eq!(process.ended().code(), Some(code));
        let summary = process.out.event("summary");
        assert_eq!((&summary["sent_bytes"], &summary["received_bytes"]), (&5.into(), &5.into()), "{summary}");
        assert_eq!(summary["interrupted"], true, "{summary}");
        let count = process.out.text().matches(r#""event":"summary""#).count();
        assert_eq!(count, 1, "{}", process.out.text());
    }
}

#[test]
fn closed_ends_of_its_own_are_quiet() {
    let server = serving(&["--frame", "lines"]);
    let mut command = tcp_echo();
    command.args(["send", &server.addr.to_string(), "--frame", "lines", "-n", "1000000", "hello"]);
    let mut process = Process::start_read_by(command, Reader::OneLine);
    assert_eq!(process.ended().code(), Some(0));
    assert_eq!(process.err.text(), "");
    // Nothing on stdin, and not even a stdin.
    for redirection in ["</dev/null", "<&-", "<&- >&-"] {
        let mut shell = Command::new("sh");
        let tool = tcp_echo();
        shell.args(["-c", &format!("exec \"$0\" send {} {redirection}", server.addr)]).arg(tool.get_program());
        let ended = run(shell).expect(0);
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""), "{redirection}");
    }
    let mut directory = tcp_echo();
    directory.args(["send", &server.addr.to_string()]).stdin(File::open("/").unwrap());
    let output = directory.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("cannot read stdin: Is a directory"), "{said}");
    let mut full = tcp_echo();
    full.args(["send", &server.addr.to_string(), "--frame", "lines", "x"]);
    full.stdout(File::create("/dev/full").unwrap());
    let output = full.output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to stdout"));
}

#[test]
fn who_types_slowly_is_waited_for_and_answered_at_once() {
    let server = serving(&["--frame", "lines"]);
    let mut command = tcp_echo();
    command.args(["send", &server.addr.to_string(), "--frame", "lines", "--timeout", "100ms"]);
    let (mut process, mut stdin) = Process::start_fed(command);
    for line in ["one", "two"] {
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
        process.out.line_with(line);
        // Longer than --timeout passes, in which nothing is owed.
        let (_pause, mut end) = UnixStream::pair().unwrap();
        end.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
        let _ = end.read(&mut [0]);
    }
    drop(stdin);
    assert_eq!(process.ended().code(), Some(0), "{}", process.err.text());
    assert_eq!(process.out.text(), "one\ntwo\n");
}
