//! `tcp-echo bench`: does it tell the truth?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use serde_json::Value;

use super::{echo, peak_memory, serving, with_files};
use crate::common::{Process, Reader, Server, eventually, run, tcp_echo};

const AT_ONCE: [&str; 2] = ["--warm-up", "0s"];

fn bench_of(addr: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = tcp_echo();
    command.args(["bench", &addr.to_string()]).args(AT_ONCE).args(arguments);
    command
}

/// Measures for a moment.
#[track_caller]
fn bench(server: &Server, arguments: &[&str]) -> Value {
    let mut command = bench_of(server.addr, arguments);
    command.arg("--json");
    if !arguments.contains(&"--duration") {
        command.args(["--duration", "150ms"]);
    }
    let ended = run(command).expect(0);
    assert_eq!(ended.stderr, "");
    ended.json()
}

/// Asks a bench how far it is, once it can be asked: until then the signal would end it.
fn ask_how_far(bench: &Process) -> Result<(), String> {
    const USR1: u64 = 1 << 9;
    let status = std::fs::read_to_string(format!("/proc/{}/status", bench.pid())).map_err(|error| error.to_string())?;
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("Linux says so");
    if u64::from_str_radix(caught.trim(), 16).expect("a mask") & USR1 == 0 {
        return Err("it takes no signals yet".to_owned());
    }
    bench.signal("USR1");
    Ok(())
}

/// Waits until a bench has measured for so many seconds; gives what it told.
#[track_caller]
fn wait_for_seconds(bench: &Process, seconds: f64) -> Value {
    eventually("an interval", || {
        ask_how_far(bench)?;
        let interval = bench.out.events().into_iter().rfind(|event| event["event"] == "interval");
        let interval = interval.ok_or_else(|| "none yet".to_owned())?;
        if interval["seconds"].as_f64().unwrap() >= seconds { Ok(interval) } else { Err(interval.to_string()) }
    })
}

/// A server that does this with the bytes it gets, for ever.
fn answering(answer: impl Fn(&mut Vec<u8>) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    let mut bytes = buffer[..read].to_vec();
                    answer(&mut bytes);
                    if stream.write_all(&bytes).is_err() {
                        break;
                    }
                }
            });
        }
    });
    addr
}

#[test]
fn every_framing_window_and_way_to_connect_is_measured_without_an_error() {
    for framing in ["raw", "lines", "length"] {
        let server = serving(&["--frame", framing]);
        for way in [
            &["--window", "1"] as &[_],
            &["--window", "16", "--size", "1000"],
            &["--size", "70000", "--window", "3", "--workers", "3"],
            &["--rate", "5000", "--size", "1"],
            &["--reconnect"],
            &["--reconnect", "--rate", "500"],
        ] {
            let summary = bench(&server, &[&["--frame", framing, "--conns", "5"], way].concat());
            let what = format!("{framing} {way:?}: {summary}");
            let number = |key: &str| summary[key].as_f64().unwrap_or_else(|| panic!("no {key} in {what}"));
            assert!(number("messages") > 5.0 && number("msgs_per_s") > 5.0 && number("mb_per_s") >= 0.0, "{what}");
            let quantiles = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(number);
            assert!(quantiles[0] > 1.0 && quantiles.is_sorted(), "{what}");
            assert_eq!((&summary["errors"], &summary["interrupted"]), (&0.into(), &false.into()), "{what}");
            assert!(summary.get("first_error").is_none(), "{what}");
            assert!((0.15..5.0).contains(&number("seconds")), "{what}");
        }
        eventually("all connections to end", || {
            let text = server.process.out.text();
            let count = |name: &str| text.matches(&format!(r#""event":"{name}""#)).count();
            if count("connect") == count("disconnect") { Ok(()) } else { Err(count("disconnect")) }
        });
    }
}

#[test]
fn with_a_rate_it_sends_so_many_and_no_more() {
    let server = serving(&[]);
    let summary = bench(&server, &["--rate", "1000", "--conns", "4", "--duration", "500ms"]);
    assert_eq!(summary["rate"], 1000.0);
    let (messages, seconds) = (summary["messages"].as_f64().unwrap(), summary["seconds"].as_f64().unwrap());
    // What was answered in the measured time was due in it, or before it by no more than the longest that an answer took.
    let due_before = summary["max_us"].as_f64().unwrap() / 1e6;
    assert!(messages <= (seconds + due_before) * 1000.0 + 5.0 && messages > 300.0, "{summary}");
}

#[test]
fn a_server_that_stalls_for_a_second_is_seen_to_stall() {
    let server = serving(&[]);
    let mut bench = bench_of(server.addr, &["--conns", "2", "--rate", "1000", "--duration", "2s"]);
    bench.arg("--json");
    let mut bench = Process::start(bench);
    wait_for_seconds(&bench, 0.3);
    server.process.signal("STOP");
    let stopped = wait_for_seconds(&bench, 0.0)["seconds"].as_f64().unwrap();
    wait_for_seconds(&bench, stopped + 1.0);
    server.process.signal("CONT");
    assert_eq!(bench.ended().code(), Some(0));
    let summary = bench.out.event("summary");
    let number = |key: &str| summary[key].as_f64().unwrap();
    // A thousand messages of two thousand were due meanwhile: the first of them waited for a second, each next one less.
    assert!(number("max_us") > 950_000.0 && number("p99_us") > 700_000.0, "{summary}");
    assert!(number("p90_us") > 300_000.0, "all that were due count, not one a connection: {summary}");
    assert_eq!(summary["errors"], 0, "{summary}");
}

#[test]
fn a_server_that_stalls_until_the_end_is_seen_to_stall() {
    for way in [&["--rate", "1000"] as &[_], &[], &["--reconnect"]] {
        let server = serving(&[]);
        let mut bench = bench_of(server.addr, &[&["--conns", "2", "--duration", "900ms", "--json"], way].concat());
        bench.args(["--timeout", "20s"]);
        let mut bench = Process::start(bench);
        wait_for_seconds(&bench, 0.1);
        server.process.signal("STOP");
        let stopped = wait_for_seconds(&bench, 0.0)["seconds"].as_f64().unwrap();
        assert_eq!(bench.ended().code(), Some(0));
        server.process.signal("CONT");
        let summary = bench.out.event("summary");
        let measured = summary["seconds"].as_f64().unwrap();
        let unanswered = summary["unanswered_us"].as_f64().unwrap();
        assert!(unanswered > (measured - stopped) * 1e6 * 0.9, "stopped at {stopped} s: {summary}");
    }
}

#[test]
fn a_server_that_sends_something_else_is_an_error_and_nothing_is_measured() {
    let addr = answering(|bytes| bytes.fill(b'z'));
    let mut command = bench_of(addr, &["--json", "--conns", "3", "--duration", "200ms"]);
    command.args(["--workers", "1"]);
    let ended = run(command).expect(5).says(&["echoed nothing", "not what was sent came back", "zzzz"]);
    let events: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&events[0]["event"], &events[0]["messages"]), (&"summary".into(), &0.into()));
    assert!(events[0]["errors"].as_u64().is_some_and(|errors| errors >= 3), "{}", events[0]);
    assert!(events[0]["first_error"].as_str().is_some_and(|error| error.contains("zzz")), "{}", events[0]);
    assert_eq!((events.len(), &events[1]["kind"]), (2, &"peer".into()));
    // One byte too many is not what was sent, either.
    let addr = answering(|bytes| bytes.push(b'a'));
    let ended = run(bench_of(addr, &["--conns", "1", "--duration", "200ms", "--json"])).expect(1);
    let summary: Value =
        serde_json::from_str(ended.says(&["errors, the first"]).stdout.lines().next().unwrap()).unwrap();
    assert!(summary["errors"].as_u64().is_some_and(|errors| errors >= 1), "{summary}");
    assert!(summary["first_error"].as_str().is_some_and(|error| error.contains("not what was sent")), "{summary}");
}

#[test]
fn a_server_that_goes_away_is_counted() {
    let mut server = serving(&[]);
    let mut bench = bench_of(server.addr, &["--conns", "3", "--duration", "700ms", "--json"]);
    bench.args(["--rate", "300"]);
    let mut bench = Process::start(bench);
    wait_for_seconds(&bench, 0.2);
    server.process.kill();
    bench.ended();
    let summary = bench.out.event("summary");
    assert!(summary["errors"].as_u64().is_some_and(|errors| errors >= 3), "{summary}");
    assert!(summary["messages"].as_u64().is_some_and(|messages| messages > 10), "{summary}");
    assert!(summary["first_error"].is_string(), "{summary}");
}

#[test]
fn what_was_measured_before_a_server_went_is_told_apart_from_what_came_after() {
    for way in [&["--rate", "300"] as &[_], &[], &["--reconnect"]] {
        let mut server = serving(&[]);
        let bench = bench_of(server.addr, &[&["--conns", "3", "--duration", "1500ms", "--json"], way].concat());
        let mut bench = Process::start(bench);
        wait_for_seconds(&bench, 0.2);
        server.process.kill();
        // The first interval from now on may have been asked for before; the second one has not.
        let intervals = || bench.out.events().into_iter().filter(|event| event["event"] == "interval");
        let before = intervals().count();
        let killed = eventually("an interval after the end", || {
            ask_how_far(&bench)?;
            let second = intervals().nth(before + 1).and_then(|interval| interval["seconds"].as_f64());
            second.ok_or_else(|| "not yet".to_owned())
        });
        assert_eq!(bench.ended().code(), Some(1));
        let summary = bench.out.event("summary");
        let number = |key: &str| summary[key].as_f64().unwrap_or_else(|| panic!("no {key} in {summary}"));
        assert!(
            number("last_reply_s") > 0.1 && number("last_reply_s") <= killed + 0.001,
            "killed before {killed} s: {summary}"
        );
        // Whoever was promised an answer waits for it to the end.
        assert!(
            number("unanswered_us") > (number("seconds") - killed) * 1e6 * 0.9,
            "at {killed} s, {way:?}: {summary}"
        );
    }
    let server = serving(&[]);
    let summary = bench(&server, &["--conns", "2"]);
    assert!(summary.get("last_reply_s").is_none(), "{summary}");
}

#[test]
fn a_rate_that_was_not_kept_is_said() {
    let server = serving(&[]);
    // A busy machine may keep it from being kept, and is then told so, too.
    let kept = eventually("a rate that is kept", || {
        let summary = bench(&server, &["--conns", "2", "--rate", "100", "--duration", "500ms"]);
        if summary["rate_kept"] == true { Ok(summary) } else { Err(summary) }
    });
    assert!(kept["due"].as_u64() >= Some(50), "{kept}");
    let missed = bench(&server, &["--conns", "1", "--rate", "100000000"]);
    assert_eq!(missed["rate_kept"], false, "{missed}");
    assert!(missed["due"].as_u64() > missed["messages"].as_u64(), "{missed}");
    let told = run(bench_of(server.addr, &["--conns", "1", "--rate", "100000000", "--duration", "150ms"])).expect(0);
    assert!(told.stdout.contains("the rate was not kept: "), "{}", told.stdout);
}

#[test]
fn nothing_measured_is_no_zero() {
    let server = serving(&[]);
    let mut command = tcp_echo();
    command.args(["bench", &server.addr.to_string(), "--warm-up", "1h", "--json"]);
    let mut warming = Process::start(command);
    eventually("a bench that can be asked", || ask_how_far(&warming));
    warming.signal("INT");
    assert_eq!(warming.ended().code(), Some(130));
    let summary = warming.out.event("summary");
    for key in ["msgs_per_s", "mb_per_s", "p50_us", "max_us"] {
        assert!(summary[key].is_null(), "{key} in {summary}");
    }
    let addr = answering(|bytes| bytes.fill(b'z'));
    let told = run(bench_of(addr, &["--conns", "1", "--duration", "100ms"])).expect(5).stdout;
    assert!(told.contains("no latency was measured") && !told.contains("p50"), "{told}");
}

#[test]
fn who_cannot_be_reached_is_reported_and_not_measured() {
    let refused = echo(&["bench", "127.0.0.1:1", "--json"]).expect(3).says(&["connection refused"]);
    assert_eq!(refused.json()["kind"], "refused");
    let unknown = echo(&["bench", "nosuchhost.invalid:1", "--json"]).expect(3);
    assert_eq!(unknown.json()["kind"], "name_not_found");
}

#[test]
fn an_interrupted_measurement_tells_what_it_has() {
    let server = serving(&[]);
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = bench_of(server.addr, &["--conns", "2", "--duration", "1h"]);
        command.arg("--json");
        let mut bench = Process::start(command);
        let interval = wait_for_seconds(&bench, 0.1);
        assert!(interval["ops"].as_u64().is_some_and(|count| count > 0), "{interval}");
        bench.signal(name);
        assert_eq!(bench.ended().code(), Some(code));
        let summary = bench.out.event("summary");
        assert_eq!(summary["interrupted"], true, "{summary}");
        assert!(summary["messages"].as_u64().is_some_and(|count| count > 0), "{summary}");
        assert_eq!(bench.out.text().matches(r#""event":"summary""#).count(), 1);
    }
}

#[test]
fn people_get_a_histogram_and_on_a_terminal_a_live_line() {
    let server = serving(&[]);
    let ended = run(bench_of(server.addr, &["--conns", "2", "--duration", "150ms"])).expect(0);
    for part in ["2 connections, messages of 64 bytes", "messages/s", "0 errors", "p50 ", "p999 ", "max ", " %  █"] {
        assert!(ended.stdout.contains(part), "no {part:?} in:\n{}", ended.stdout);
    }
    assert_eq!(ended.stderr, "", "no live line without a terminal");

    // `script` gives it a terminal.
    let mut terminal = Command::new("script");
    let tool = tcp_echo();
    let tool = tool.get_program().display().to_string();
    let bench = format!("{tool} bench {} --warm-up 100ms --duration 1300ms --conns 2", server.addr);
    terminal.args(["-q", "-e", "-c", &bench, "/dev/null"]);
    let shown = run(terminal).expect(0).stdout;
    assert!(shown.contains("warming up") && shown.contains("\r\x1b[K    1 of 1 s"), "{shown:?}");
    let (live, result) = shown.rsplit_once("\r\x1b[K").unwrap();
    assert!(live.contains("messages/s") && result.starts_with("2 connections"), "{shown:?}");
}

#[test]
fn a_bench_whose_result_nobody_reads_ends_quietly() {
    let server = serving(&[]);
    let mut command = bench_of(server.addr, &["--conns", "2", "--duration", "400ms"]);
    command.arg("--json");
    let mut bench = Process::start_read_by(command, Reader::OneLine);
    eventually("an interval", || {
        ask_how_far(&bench)?;
        if bench.out.text().is_empty() { Err("none yet".to_owned()) } else { Ok(()) }
    });
    assert_eq!(bench.ended().code(), Some(0));
    assert_eq!(bench.err.text(), "");
}

#[test]
fn command_lines_that_make_no_sense_are_refused_with_the_option_named() {
    for (arguments, words) in [
        (&["--conns", "0"] as &[_], &["--conns", "from 1 on"] as &[_]),
        (&["--size", "0"], &["--size", "from 1 to 64MiB"]),
        (&["--size", "65MiB"], &["--size", "from 1 to 64MiB"]),
        (&["--size", "1MiB", "--window", "65"], &["--window", "--size", "64MiB"]),
        (&["--window", "0"], &["--window"]),
        (&["--rate", "0"], &["--rate", "such as 1000"]),
        (&["--rate", "nan"], &["--rate"]),
        (&["--duration", "0s"], &["--duration", "above zero"]),
        (&["--duration", "ten"], &["--duration", "500ms"]),
        (&["--warm-up", "ten"], &["--warm-up", "500ms"]),
        (&["--frame", "foo"], &["--frame", "length"]),
        (&["--reconnect", "--window", "2"], &["--reconnect", "--window"]),
    ] {
        echo(&[&["bench", "127.0.0.1:1"], arguments].concat()).expect(2).says(words);
    }
    echo(&["bench"]).expect(2).says(&["<HOST:PORT>"]);
}

#[test]
fn a_duration_of_ages_is_no_panic() {
    let server = serving(&[]);
    let ages = "500000000000y";
    let mut command = bench_of(server.addr, &["--conns", "1", "--json", "--duration", ages, "--timeout", ages]);
    command.arg("--frame").arg("raw");
    let mut bench = Process::start(command);
    wait_for_seconds(&bench, 0.0);
    bench.signal("INT");
    assert_eq!(bench.ended().code(), Some(130));
    assert_eq!(bench.err.text(), "tcp-echo: interrupted\n");
    let server = serving(&["--idle-timeout", ages]);
    let address = server.addr.to_string();
    echo(&["send", &address, "x", "--timeout", ages, "--connect-timeout", ages]).expect(0);
}

#[test]
fn more_connections_than_files_are_refused_with_the_timers_counted() {
    let server = serving(&[]);
    let addr = server.addr.to_string();
    let bench = |conns: &str, more: &[&str]| {
        let mut command = with_files(200);
        command.args(["bench", &addr, "--json", "--duration", "100ms", "--conns", conns]).args(AT_ONCE).args(more);
        run(command)
    };
    bench("137", &[]).expect(2).says(&["--conns 137", "(136)", "ulimit -n"]);
    assert!(bench("136", &[]).expect(0).json().get("first_error").is_none());
    bench("69", &["--rate", "1000"]).expect(2).says(&["--conns 69", "(68)", "ulimit -n"]);
    assert!(bench("68", &["--rate", "1000"]).expect(0).json().get("first_error").is_none());
}

#[test]
fn large_messages_are_not_kept_once_a_connection() {
    let server = serving(&[]);
    let mut command = bench_of(server.addr, &["--conns", "40", "--size", "8MiB", "--window", "2", "--duration", "1h"]);
    command.arg("--json");
    let bench = Process::start(command);
    eventually("messages", || {
        let interval = wait_for_seconds(&bench, 0.0);
        if interval["ops"].as_u64() >= Some(1) { Ok(()) } else { Err(interval) }
    });
    let peak = peak_memory(&bench);
    assert!(peak < 100 << 20, "{peak} bytes");
}
