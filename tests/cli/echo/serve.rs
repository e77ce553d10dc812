//! `tcp-echo serve`, and clients that mean well.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::{
    assert_echoes, dial, echo, last_words, noise, serving, serving_at, take, until_closed, with_files, with_length,
    write_until_stuck,
};
use crate::common::{PATIENCE, Process, Reader, Server, eventually, run, tcp_echo};

/// Writes a stream in parts of odd sizes while it reads; gives what came back until the server closed.
fn through(server: &Server, stream: &[u8]) -> Vec<u8> {
    let connection = dial(server.addr);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut rest, mut output) = (stream, &connection);
            for size in [1, 2, 7, 4095, 65_537, 3, 131_073, 300_001].into_iter().cycle() {
                let (part, after) = rest.split_at(rest.len().min(size));
                output.write_all(part).unwrap();
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            output.shutdown(Shutdown::Write).unwrap();
        });
        until_closed(&connection).unwrap()
    })
}

#[test]
fn megabytes_come_back_byte_for_byte_in_every_framing_however_they_are_split() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let sizes = [5_000; 200].into_iter().chain([60_000; 200]).map(|most| (rng.next_u32() % most) as usize);
    let frames: Vec<_> = sizes.chain([0, 1 << 20]).zip(1..).map(|(len, seed)| noise(seed, len)).collect();
    let lines = frames.iter().map(|frame| {
        let line = frame.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte });
        line.chain([b'\n']).collect::<Vec<_>>()
    });
    let streams = [
        ("raw", frames.concat()),
        ("lines", lines.collect::<Vec<_>>().concat()),
        ("length", frames.iter().map(|frame| with_length(frame)).collect::<Vec<_>>().concat()),
    ];
    for (framing, stream) in streams {
        let server = serving(&["--frame", framing]);
        assert!(stream.len() > 5 << 20, "{} bytes", stream.len());
        assert!(through(&server, &stream) == stream, "{framing}: other bytes came back");
        let end = server.process.out.event("disconnect");
        assert_eq!((&end["bytes"], &end["reason"]), (&stream.len().into(), &"closed".into()), "{end}");
        if framing != "raw" {
            assert_eq!(end["frames"], frames.len(), "{end}");
        }
    }
}

#[test]
fn half_a_frame_comes_back_when_it_is_whole_and_not_before() {
    for (framing, whole, next) in
        [("lines", b"one\n".to_vec(), b"second\n".to_vec()), ("length", with_length(b"one"), with_length(b"second"))]
    {
        let server = serving(&["--frame", framing]);
        let mut connection = dial(server.addr);
        for cut in 1..next.len() {
            connection.write_all(&[&whole, &next[..cut]].concat()).unwrap();
            assert_eq!(take(&connection, whole.len()), whole);
            connection.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            let nothing = connection.peek(&mut [0]).expect_err("half a frame came back");
            let waited = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted];
            assert!(waited.contains(&nothing.kind()), "{nothing}");
            connection.set_read_timeout(Some(PATIENCE)).unwrap();
            connection.write_all(&next[cut..]).unwrap();
            assert_eq!(take(&connection, next.len()), next);
        }
    }
}

#[test]
fn a_last_line_without_an_end_comes_back_when_the_client_is_done() {
    let server = serving(&["--frame", "lines"]);
    assert_eq!(through(&server, b"one\ntwo"), b"one\ntwo");
    assert_eq!(through(&server, b""), b"");
    assert_eq!(server.process.out.event("disconnect")["reason"], "closed");
}

#[test]
fn half_a_frame_at_the_end_is_an_error_and_the_client_is_told() {
    let server = serving(&["--frame", "length"]);
    let answer = through(&server, &[with_length(b"whole"), with_length(b"cut off")[..7].to_vec()].concat());
    let notice = "tcp-echo: closed in the middle of a frame, after 7 bytes of it";
    assert_eq!(answer, [with_length(b"whole"), with_length(notice.as_bytes())].concat());
    assert_eq!(server.process.out.event("error")["kind"], "peer");
    assert_eq!(server.process.out.event("disconnect")["reason"], "protocol");
}

#[test]
fn one_connection_too_many_is_told_so_in_its_framing_and_one_that_leaves_makes_room() {
    const WHY: &str = "tcp-echo: all 2 connections are taken, try again later";
    for (framing, hello, refusal) in [
        ("raw", b"hello".to_vec(), format!("{WHY}\n").into_bytes()),
        ("lines", b"hello\n".to_vec(), format!("{WHY}\n").into_bytes()),
        ("length", with_length(b"hello"), with_length(WHY.as_bytes())),
    ] {
        let server = serving(&["--max-conns", "2", "--frame", framing]);
        let (first, second) = (dial(server.addr), dial(server.addr));
        assert_echoes(&first, &hello);
        assert_echoes(&second, &hello);
        let mut third = dial(server.addr);
        third.write_all(&hello).unwrap(); // what it has sent must not take back what it is told
        assert_eq!(until_closed(&third).unwrap(), refusal);
        let reject = server.process.out.event("reject");
        assert_eq!(
            (&reject["peer"], &reject["max_conns"]),
            (&third.local_addr().unwrap().to_string().into(), &2.into())
        );
        assert_echoes(&first, &hello);
        drop(first);
        eventually("room for another", || {
            let mut another = dial(server.addr);
            another.write_all(&hello).unwrap();
            let answer = take(&another, hello.len());
            if answer == hello { Ok(()) } else { Err(format!("{answer:?}")) }
        });
        assert_echoes(&second, &hello);
    }
}

#[test]
fn who_is_silent_sends_half_a_frame_or_does_not_read_is_closed_and_who_is_active_is_not() {
    let server = serving(&["--frame", "lines", "--idle-timeout", "1s"]);
    let (silent, mut half, active, deaf) = (dial(server.addr), dial(server.addr), dial(server.addr), dial(server.addr));
    half.write_all(b"half").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let block = [[b'x'; 1023].as_slice(), b"\n"].concat().repeat(64);
            while (&deaf).write_all(&block).is_ok() {}
        });
        let ended = |connection: &std::net::TcpStream| {
            let peer = connection.local_addr().unwrap().to_string();
            let events = server.process.out.events();
            events.into_iter().find(|event| event["event"] == "disconnect" && event["peer"] == peer.as_str())
        };
        eventually("three that are closed", || {
            assert_echoes(&active, b"ping\n");
            let ends: Vec<_> = [&silent, &half, &deaf].into_iter().filter_map(ended).collect();
            if ends.len() < 3 {
                return Err(format!("{ends:?}"));
            }
            for end in ends {
                assert_eq!(end["reason"], "idle", "{end}");
                assert!(end["seconds"].as_f64().unwrap() >= 1.0, "{end}");
            }
            Ok(())
        });
    });
    assert_eq!(until_closed(&silent).unwrap(), b"");
    assert_echoes(&active, b"still here\n");
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_and_gets_every_byte_when_it_does() {
    for framing in ["raw", "lines"] {
        let server = serving(&["--frame", framing]);
        let connection = dial(server.addr);
        let before = server.peak_memory();
        let blocks = || (0u64..2_000).map(|number| format!("{number:>31}\n").repeat(2_000).into_bytes());
        let taken = write_until_stuck(&connection, &mut blocks());
        let grown = server.peak_memory() - before;
        assert!(grown < 8 << 20, "{grown} bytes more, for {taken}");
        connection.shutdown(Shutdown::Write).unwrap();
        let back = until_closed(&connection).unwrap();
        let sent: Vec<u8> = blocks().flatten().take(taken).collect();
        assert!(back == sent, "{framing}: {} of {taken} bytes came back, or others", back.len());
    }
}

#[test]
fn sigterm_lets_what_was_sent_come_back_and_ends_well() {
    let mut server = serving(&[]);
    let sent: Vec<_> = (0..40).map(|seed| noise(seed, 30_000)).collect();
    let clients: Vec<_> = sent.iter().map(|_| dial(server.addr)).collect();
    for (mut client, sent) in clients.iter().zip(&sent) {
        client.write_all(sent).unwrap();
    }
    server.process.signal("TERM");
    for (client, sent) in clients.iter().zip(&sent) {
        assert!(until_closed(client).unwrap() == *sent);
    }
    assert_eq!(server.process.ended().code(), Some(0));
    let events = server.process.out.events();
    let summary = events.last().unwrap();
    assert_eq!(summary["event"], "summary", "{summary}");
    assert_eq!(events.iter().filter(|event| event["event"] == "summary").count(), 1);
    assert_eq!(
        (&summary["connections"], &summary["open"], &summary["bytes"], &summary["interrupted"]),
        (&40.into(), &0.into(), &(40 * 30_000).into(), &true.into())
    );
}

#[test]
fn who_connected_before_sigterm_is_served_even_if_nobody_has_accepted_it_yet() {
    let mut server = serving(&["--workers", "1"]);
    server.process.signal("STOP");
    let clients: Vec<_> = (0..300).map(|_| dial(server.addr)).collect();
    for mut client in &clients {
        client.write_all(b"early").unwrap();
    }
    server.process.signal("TERM");
    server.process.signal("CONT");
    for client in &clients {
        assert_eq!(until_closed(client).unwrap(), b"early");
    }
    assert_eq!(server.process.ended().code(), Some(0));
}

#[test]
fn a_client_that_never_reads_holds_the_end_for_five_seconds_at_most() {
    let mut server = serving(&[]);
    let deaf = dial(server.addr);
    write_until_stuck(&deaf, &mut std::iter::repeat_n(vec![0; 64 << 10], 2_000));
    server.process.signal("TERM");
    assert_eq!(server.process.ended().code(), Some(0));
    assert!(server.process.err.text().contains("1 connections did not end in time"), "{}", server.process.err.text());
    let events = server.process.out.events();
    let (end, summary) = (&events[events.len() - 2], &events[events.len() - 1]);
    assert_eq!((&end["event"], &end["reason"]), (&"disconnect".into(), &"cut".into()), "it ends like any other: {end}");
    assert_eq!((&summary["event"], &summary["interrupted"]), (&"summary".into(), &true.into()), "{summary}");
    let seconds = summary["seconds"].as_f64().unwrap();
    assert!((4.5..12.0).contains(&seconds), "{summary}");
}

#[test]
fn a_second_sigterm_ends_at_once() {
    // On a machine so busy that the drain is over before the second signal is sent, that shows nothing: then once more.
    for _ in 0..3 {
        let mut server = serving(&[]);
        let deaf = dial(server.addr);
        write_until_stuck(&deaf, &mut std::iter::repeat_n(vec![0; 64 << 10], 2_000));
        server.process.signal("TERM");
        let addr = server.addr;
        eventually("a server that takes no more", || match std::net::TcpStream::connect(addr) {
            Ok(_) => Err("it does"),
            Err(_) => Ok(()),
        });
        server.process.signal("TERM");
        let code = server.process.ended().code();
        if code == Some(143) {
            assert!(!server.process.err.text().contains("in time"), "{}", server.process.err.text());
            return;
        }
        assert!(code == Some(0) && server.process.err.text().contains("in time"), "{code:?}");
    }
    panic!("the second signal changed nothing");
}

#[test]
fn it_serves_ipv6_and_on_every_address_ipv4_too() {
    let server = serving_at("[::1]:0", &[]);
    assert!(server.addr.is_ipv6());
    assert_echoes(&dial(server.addr), b"six");
    let server = serving_at("[::]:0", &[]);
    for host in ["127.0.0.1", "::1"] {
        assert_echoes(&dial(SocketAddr::new(host.parse().unwrap(), server.addr.port())), host.as_bytes());
    }
    assert!(server.process.err.text().contains("other machines"), "{}", server.process.err.text());
    let server = serving_at("localhost:0", &[]);
    assert_eq!(server.addr.ip().to_string(), "127.0.0.1", "as every tool reads it");
    assert_echoes(&dial(server.addr), b"by name");
    let second = format!("localhost:{}", server.addr.port());
    echo(&["serve", "--listen", &second]).expect(6).says(&[&second, "in use"]);
    assert_eq!(echo(&["send", &second, "by name"]).expect(0).stdout, "by name\n");
}

#[test]
fn a_greeting_comes_first_and_hangup_leaves_time_to_read_it() {
    let server = serving(&["--greet", "Hello from server"]);
    let connection = dial(server.addr);
    assert_eq!(take(&connection, 17), b"Hello from server");
    assert_echoes(&connection, b"and an echo");
    let lines = serving(&["--greet", "Hello", "--frame", "lines"]);
    assert_eq!(take(&dial(lines.addr), 6), b"Hello\n");

    let greeting = "Hello from server. ".repeat(5_000);
    let server = serving(&["--greet", &greeting, "--hangup"]);
    let mut eager = dial(server.addr);
    let _ = eager.write_all(&[0; 50_000]); // closing with this unread would take the greeting back
    assert_eq!(last_words(&eager), greeting);
    let end = server.process.out.event("disconnect");
    assert_eq!((&end["reason"], &end["bytes"]), (&"hangup".into(), &greeting.len().into()), "{end}");
    assert_eq!(last_words(&dial(serving(&["--hangup"]).addr)), "");
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let ended = echo(&["serve", "--listen", &addr, "--json"]).expect(6).says(&[&addr, "in use", "--listen"]);
    assert_eq!(ended.json()["kind"], "local");
    let other = serving(&[]);
    echo(&["serve", "--listen", &other.addr.to_string()]).expect(6).says(&["in use"]);
}

#[test]
fn an_address_that_cannot_be_served_is_named() {
    echo(&["serve", "--listen", "192.0.2.1:0"]).expect(6).says(&["192.0.2.1:0", "an address of this machine"]);
    echo(&["serve", "--listen", "nosuchhost.invalid:0"]).expect(3).says(&["nosuchhost.invalid:0", "name"]);
}

#[test]
fn command_lines_that_make_no_sense_are_refused_with_the_option_named() {
    for (arguments, words) in [
        (&["serve", "--max-conns", "0"] as &[_], &["--max-conns", "from 1 on"] as &[_]),
        (&["serve", "--frame", "foo"], &["--frame", "raw", "lines", "length"]),
        (&["serve", "--max-frame", "0"], &["--max-frame"]),
        (&["serve", "--max-frame", "much"], &["--max-frame", "64KiB"]),
        (&["serve", "--max-frame", "1GiB"], &["--max-frame"]),
        (&["serve", "--idle-timeout", "0s"], &["--idle-timeout", "above zero"]),
        (&["serve", "--idle-timeout", "5"], &["--idle-timeout", "500ms"]),
        (&["serve", "--workers", "0"], &["--workers"]),
        (&["serve", "--listen", "7000"], &["--listen", "HOST:PORT"]),
        (&["serve", "127.0.0.1:0"], &["127.0.0.1:0"]),
        (&[], &["serve", "send", "bench"]),
    ] {
        let ended = echo(arguments).expect(2).says(words);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    for tool in [&["--help"] as &[_], &["serve", "--help"], &["send", "--help"], &["bench", "--help"]] {
        let help = echo(tool).expect(0);
        assert!(help.stdout.contains("Usage:") && help.stdout.contains("Examples:"), "{}", help.stdout);
        assert_eq!(help.stderr, "");
    }
    assert!(echo(&["--help"]).stdout.contains("Exit codes:"));
    assert_eq!(echo(&["--version"]).expect(0).stdout, format!("tcp-echo {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn ready_is_told_to_scripts_and_to_systemd() {
    let dir = tempfile::tempdir().unwrap();
    let (file, socket) = (dir.path().join("ready.json"), dir.path().join("notify"));
    std::fs::write(&file, "of an earlier life").unwrap();
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = tcp_echo();
    command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--ready-file"]).arg(&file);
    command.env("NOTIFY_SOCKET", &socket);
    let mut server = Server::start(command);
    let ready: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(ready, server.ready);
    assert_eq!((&ready["tool"], &ready["pid"]), (&"tcp-echo".into(), &server.process.pid().into()));
    server.stop();
    for expected in ["READY=1", "STOPPING=1"] {
        let mut said = [0; 100];
        let len = systemd.recv(&mut said).unwrap();
        assert_eq!(&said[..len], expected.as_bytes());
    }
    let mut text = tcp_echo();
    text.args(["serve", "--listen", "127.0.0.1:0", "--ready-file", "/nonexistent/ready"]);
    run(text).expect(6).says(&["--ready-file", "/nonexistent/ready"]);
}

#[test]
fn people_get_a_ready_line_and_totals_and_sigusr1_tells_how_far_it_is() {
    let mut command = tcp_echo();
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let mut server = Process::start(command);
    let ready = server.out.line_with("ready");
    let addr = ready.strip_prefix("tcp-echo ready on ").unwrap().parse().unwrap();
    let client = dial(addr);
    assert_echoes(&client, b"hello");
    server.signal("USR1");
    let line = server.out.line_with("connections");
    assert!(line.starts_with("1 connections (1 open), 5 bytes, 0 turned away"), "{line}");
    drop(client);
    server.signal("INT");
    assert_eq!(server.ended().code(), Some(0));
    assert_eq!(server.out.text().lines().count(), 3, "{}", server.out.text());

    let mut server = serving(&[]);
    server.process.signal("USR1");
    let interval = server.process.out.event("interval");
    assert_eq!((&interval["connections"], &interval["open"]), (&0.into(), &0.into()), "{interval}");
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_server_whose_events_nobody_reads_ends_quietly() {
    let mut command = tcp_echo();
    command.args(["serve", "--json", "--listen", "127.0.0.1:0"]);
    let mut server = Process::start_read_by(command, Reader::OneLine);
    let ready: serde_json::Value = serde_json::from_str(&server.out.line_with("ready")).unwrap();
    let addr = ready["addr"].as_str().unwrap().parse().unwrap();
    eventually("the end", || match std::net::TcpStream::connect_timeout(&addr, PATIENCE) {
        Ok(_) => Err("it takes connections"),
        Err(_) => Ok(()),
    });
    assert_eq!(server.ended().code(), Some(0));
    assert_eq!(server.err.text(), "");
}

#[test]
fn a_server_whose_events_nobody_reads_ends_although_there_are_none() {
    let mut command = tcp_echo();
    command.args(["serve", "--json", "--listen", "127.0.0.1:0"]);
    let mut server = Process::start_read_by(command, Reader::OneLine);
    assert_eq!(server.ended().code(), Some(0));
    assert_eq!(server.err.text(), "");
}

#[test]
fn who_goes_on_sending_at_sigterm_gets_back_all_that_was_taken() {
    let mut server = serving(&[]);
    let connection = dial(server.addr);
    let numbers = || (0u32..).flat_map(u32::to_be_bytes);
    let back = std::thread::scope(|scope| {
        scope.spawn(|| {
            // A window at a time, so that there is always something on its way, and an end to it.
            let mut numbers = numbers();
            while (&connection).write_all(&numbers.by_ref().take(4000).collect::<Vec<_>>()).is_ok() {}
        });
        let mut back = take(&connection, 1 << 20);
        server.process.signal("TERM");
        let mut buffer = vec![0; 10_000];
        while let Ok(read @ 1..) = std::io::Read::read(&mut &connection, &mut buffer) {
            back.extend_from_slice(&buffer[..read]);
        }
        drop(connection.shutdown(Shutdown::Both)); // ends the writer, if the server has not
        back
    });
    assert!(numbers().take(back.len()).eq(back.iter().copied()), "what came back is not what was sent");
    assert_eq!(server.process.ended().code(), Some(0));
    let events = server.process.out.events();
    let summary = events.last().unwrap();
    assert_eq!(summary["bytes"], back.len(), "what was echoed arrives: {summary}");
}

#[test]
fn a_reader_of_events_that_stalls_stalls_nobody_else() {
    // A pipe that nobody reads, once its ready line has been.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = tcp_echo();
    command.args(["serve", "--json", "--listen", "127.0.0.1:0"]).stdout(writer);
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    drop(command);
    let mut line = String::new();
    let mut reader = std::io::BufReader::with_capacity(1, reader);
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let addr: SocketAddr = ready["addr"].as_str().unwrap().parse().unwrap();
    for _ in 0..1000 {
        drop(dial(addr)); // two events each: more than a pipe holds
    }
    let mut client = dial(addr);
    client.write_all(b"still there?").unwrap();
    assert_eq!(take(&client, 12), b"still there?");
    drop(client);
    for _ in 0..2 {
        crate::common::signal(child.id(), "TERM");
    }
    eventually("the end of the server", || match child.try_wait().unwrap() {
        Some(status) => Ok(status),
        None => Err("it runs"),
    });
}

#[test]
fn threads_that_cannot_start_are_told_before_anybody_is_told_ready() {
    let mut command = with_files(60);
    command.args(["serve", "--listen", "127.0.0.1:0", "--workers", "100"]);
    let ended = run(command).expect(6).says(&["cannot start 100 threads", "--workers", "ulimit -n"]);
    assert_eq!(ended.stdout, "");
}
