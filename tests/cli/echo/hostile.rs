//! Clients that no program should be, and a server that must not mind.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use proptest::prelude::*;

use super::{
    assert_echoes, dial, last_words, peak_memory, processor_time, reset, serving, serving_with_files, take,
    until_closed, with_length,
};
use crate::common::{PATIENCE, Server, eventually, within};

/// What a connection ended by, as the server tells it.
#[track_caller]
fn end_of(server: &Server, connection: &TcpStream) -> serde_json::Value {
    let peer = connection.local_addr().unwrap().to_string();
    eventually("a disconnect", || {
        let events = server.process.out.events();
        let end = events.into_iter().find(|event| event["event"] == "disconnect" && event["peer"] == peer.as_str());
        end.ok_or_else(|| server.process.out.text())
    })
}

#[test]
fn a_length_of_four_gigabytes_is_refused_with_the_reason_and_costs_no_memory() {
    let server = serving(&["--frame", "length"]);
    let good = dial(server.addr);
    assert_echoes(&good, &with_length(b"good"));
    let before = server.peak_memory();
    for (prefix, len) in [(u32::MAX, "4294967295"), (1 << 31, "2147483648"), ((1 << 20) + 1, "1048577")] {
        for _ in 0..50 {
            let mut bad = dial(server.addr);
            bad.write_all(&[&prefix.to_be_bytes(), b"and some".as_slice()].concat()).unwrap();
            let why = format!("tcp-echo: a frame of {len} bytes exceeds the limit of 1048576");
            assert_eq!(until_closed(&bad).unwrap(), with_length(why.as_bytes()));
        }
    }
    let grown = server.peak_memory() - before;
    assert!(grown < 10 << 20, "{grown} bytes more");
    assert_echoes(&good, &with_length(b"still good"));
}

#[test]
fn a_frame_too_large_is_refused_and_those_before_it_in_the_same_packet_come_back() {
    let line = |len| [vec![b'x'; len], b"\n".to_vec()].concat();
    let framed = |len| with_length(&vec![b'x'; len]);
    let why = |len| format!("tcp-echo: a frame of {len} bytes exceeds the limit of 64");
    for (framing, good, bad, notice) in [
        ("lines", line(64), line(65), format!("{}\n", why(65)).into_bytes()),
        ("lines", line(64), line(1_000), format!("{}\n", why(1_000)).into_bytes()),
        ("length", framed(64), framed(65), with_length(why(65).as_bytes())),
    ] {
        let server = serving(&["--frame", framing, "--max-frame", "64"]);
        let other = dial(server.addr);
        assert_echoes(&other, &good);
        let mut connection = dial(server.addr);
        connection.write_all(&[good.as_slice(), &good, &bad, &good].concat()).unwrap();
        assert_eq!(until_closed(&connection).unwrap(), [good.as_slice(), &good, &notice].concat(), "{framing}");
        let error = server.process.out.event("error");
        let end = end_of(&server, &connection);
        assert_eq!((&error["kind"], &error["connection"]), (&"peer".into(), &end["connection"]), "{error}");
        assert!(error["message"].as_str().unwrap().contains("exceeds the limit of 64"), "{error}");
        assert_eq!((&end["reason"], &end["frames"]), (&"protocol".into(), &2.into()), "{end}");
        assert_echoes(&other, &good);
    }
}

#[test]
fn a_line_that_never_ends_is_refused_as_soon_as_it_is_too_long() {
    let server = serving(&["--frame", "lines", "--max-frame", "64"]);
    let mut endless = dial(server.addr);
    assert_echoes(&endless, b"short\n");
    endless.write_all(&[b'x'; 65]).unwrap();
    assert_eq!(last_words(&endless), "tcp-echo: a frame of 65 bytes exceeds the limit of 64\n");
}

#[test]
fn a_reset_in_the_middle_of_anything_harms_nobody_else() {
    let server = serving(&["--frame", "length"]);
    let good = dial(server.addr);
    let mut last = None;
    for number in 0..100 {
        let mut bad = dial(server.addr);
        match number % 4 {
            0 => {}
            1 => bad.write_all(b"\0\0").unwrap(),
            2 => bad.write_all(&with_length(b"cut off in the middle")[..10]).unwrap(),
            _ => bad.write_all(&with_length(&[0; 60_000])).unwrap(),
        }
        last = bad.local_addr().ok();
        reset(bad);
        assert_echoes(&good, &with_length(b"good"));
    }
    let last = last.unwrap().to_string();
    eventually("all of them to end", || {
        let ends = server.process.out.events().into_iter().filter(|event| event["event"] == "disconnect");
        let ends: Vec<_> = ends.collect();
        let kinds = ends.iter().all(|end| ["broken", "closed"].contains(&end["reason"].as_str().unwrap()));
        assert!(kinds, "{ends:?}");
        if ends.len() == 100 { Ok(()) } else { Err(format!("{} ended, of {last} too?", ends.len())) }
    });
}

#[test]
fn a_thousand_connects_at_once_are_all_served() {
    let server = serving(&[]);
    let clients: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..125).map(|_| dial(server.addr)).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    for (number, mut client) in clients.iter().enumerate() {
        client.write_all(&number.to_be_bytes()).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(take(client, 8), number.to_be_bytes());
    }
    assert_echoes(&dial(server.addr), b"one more");
    drop(clients);
    eventually("all to leave", || {
        let left = server.process.out.text().matches(r#""event":"disconnect""#).count();
        if left == 1_001 { Ok(()) } else { Err(left) }
    });
}

#[test]
fn more_clients_than_files_neither_end_the_server_nor_keep_it_busy() {
    let server = serving_with_files(40, &[]);
    let served = dial(server.addr);
    assert_echoes(&served, b"before");
    let crowd: Vec<_> = (0..80).map(|_| dial(server.addr)).collect();
    server.process.err.line_with("cannot accept connections");
    let before = processor_time(&server.process);
    // The last one stays where it is until others have gone: some tenths of a second, or longer.
    crowd[79].set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    let _ = (&crowd[79]).read(&mut [0]);
    let busy = processor_time(&server.process) - before;
    assert!(busy < Duration::from_millis(150), "{busy:?} of processor time while nothing can be done");
    assert_echoes(&served, b"meanwhile");
    assert_eq!(server.process.err.text().matches("cannot accept").count(), 1, "{}", server.process.err.text());
    drop(crowd);
    eventually("room again", || {
        let mut client = dial(server.addr);
        client.write_all(b"after").unwrap();
        let answer = take(&client, 5);
        if answer == b"after" { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    assert_echoes(&served, b"after");
}

#[test]
fn half_frames_of_many_clients_cannot_take_all_memory() {
    let server = serving(&["--frame", "length", "--max-frame", "64MiB"]);
    let block = [&(60u32 << 20).to_be_bytes(), vec![0; 59 << 20].as_slice()].concat();
    let mut crowd = Vec::new();
    let refused = loop {
        assert!(crowd.len() < 10, "nobody is refused");
        let mut connection = dial(server.addr);
        let all = connection.write_all(&block);
        connection.set_read_timeout(Some(Duration::from_millis(if crowd.len() < 4 { 1 } else { 1_000 }))).unwrap();
        match connection.peek(&mut [0]) {
            Ok(_) => break connection,
            Err(error) => assert!(
                all.is_ok() && matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
                "{error}"
            ),
        }
        crowd.push(connection);
    };
    refused.set_read_timeout(Some(PATIENCE)).unwrap();
    let notice = take(&refused, 70);
    let notice = String::from_utf8_lossy(&notice);
    assert!(notice.contains("268435456 bytes wait already"), "{notice}");
    assert!(crowd.len() >= 4, "{} were taken", crowd.len());
    let peak = peak_memory(&server.process);
    assert!(peak < 340 << 20, "{peak} bytes");
    crowd.pop().unwrap().shutdown(Shutdown::Both).unwrap();
    eventually("room for another frame", || {
        let another = dial(server.addr);
        let frame = with_length(&vec![1; 20 << 20]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _ = (&another).write_all(&frame); // it may be refused again
            });
            let mut back = vec![0; frame.len()];
            let read = (&another).read_exact(&mut back);
            if read.is_ok() && back == frame { Ok(()) } else { Err("refused") }
        })
    });
}

/// What a hostile client does next.
#[derive(Clone, Copy, Debug)]
enum Act {
    Connect,
    Prefix(u32),
    Half,
    Flood,
    Garbage(u64),
    HalfClose,
    Reset,
    Leave,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Connect),
        1 => prop_oneof![Just(u32::MAX), Just(0), any::<u32>()].prop_map(Act::Prefix),
        1 => Just(Act::Half),
        1 => Just(Act::Flood),
        2 => any::<u64>().prop_map(Act::Garbage),
        1 => Just(Act::HalfClose),
        1 => Just(Act::Reset),
        1 => Just(Act::Leave),
    ]
}

/// Does it, on one of the connections there are. What becomes of it is its own affair.
fn perform(act: Act, on: usize, server: &Server, open: &mut Vec<TcpStream>) {
    if let Act::Connect = act {
        open.push(dial(server.addr));
        return;
    }
    let Some(on) = on.checked_rem(open.len()) else { return };
    open[on].set_write_timeout(Some(Duration::from_millis(1))).unwrap();
    let _ = match act {
        Act::Connect => Ok(()),
        Act::Prefix(len) => open[on].write_all(&len.to_be_bytes()),
        Act::Half => open[on].write_all(b"\0\0\x01\0half"),
        Act::Flood => open[on].write_all(&b"\0\0\0\x02x\n".repeat(20_000)), // and never reads
        Act::Garbage(seed) => open[on].write_all(&super::noise(seed, 300)),
        Act::HalfClose => open[on].shutdown(Shutdown::Write),
        Act::Reset => {
            reset(open.swap_remove(on));
            Ok(())
        }
        Act::Leave => {
            drop(open.swap_remove(on));
            Ok(())
        }
    };
}

#[test]
fn no_interleaving_of_hostile_clients_disturbs_a_good_one() {
    for (framing, hello) in
        [("raw", b"hello".to_vec()), ("lines", b"hello\n".to_vec()), ("length", with_length(b"hello"))]
    {
        let server = serving(&["--frame", framing, "--max-frame", "1000", "--max-conns", "200"]);
        let good = dial(server.addr);
        let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(acts in proptest::collection::vec((act(), any::<usize>()), 1..60))| {
            let mut open = Vec::new();
            for (act, on) in acts {
                perform(act, on, &server, &mut open);
                assert_echoes(&good, &hello);
            }
        });
        assert_eq!(server.process.err.text(), "");
        drop(good);
        within(PATIENCE, "all of them to end", || {
            let text = server.process.out.text();
            let count = |name: &str| text.matches(&format!(r#""event":"{name}""#)).count();
            if count("connect") == count("disconnect") { Ok(()) } else { Err(count("disconnect")) }
        });
    }
}

#[test]
fn a_crowd_that_is_turned_away_costs_nothing_and_leaves_room_for_those_inside() {
    let server = serving(&["--max-conns", "1", "--frame", "lines"]);
    let inside = dial(server.addr);
    assert_echoes(&inside, b"inside\n");
    let crowd: Vec<_> = (0..300).map(|_| dial(server.addr)).collect();
    assert_echoes(&inside, b"inside\n");
    let told = crowd.iter().filter(|client| last_words_or_nothing(client).contains("all 1 connections")).count();
    assert!(told >= 64, "{told} of 300 were told why");
    eventually("all to be counted", || {
        let rejects = server.process.out.text().matches(r#""event":"reject""#).count();
        if rejects == 300 { Ok(()) } else { Err(rejects) }
    });
    assert_echoes(&inside, b"inside\n");
}

/// Those that are hung up on without a word have a connection that ends.
fn last_words_or_nothing(client: &TcpStream) -> String {
    let mut text = String::new();
    let _ = (&*client).read_to_string(&mut text);
    text
}

#[test]
fn port_scanners_and_web_browsers_are_echoed_or_refused() {
    let server = serving(&["--frame", "lines", "--max-frame", "100"]);
    let mut browser = dial(server.addr);
    browser.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    browser.shutdown(Shutdown::Write).unwrap();
    assert_eq!(last_words(&browser), "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    for _ in 0..100 {
        drop(dial(server.addr));
    }
    assert_echoes(&dial(server.addr), b"well\n");
}
