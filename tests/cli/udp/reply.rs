//! Replies that harm nobody.

use std::io::ErrorKind;

use super::{client, listener, next, summary};
use crate::common::{Server, udp_listen};

#[test]
fn echo_gives_back_what_came() {
    let mut server = listener(&["--reply", "echo"]);
    let client = client("127.0.0.1:0");
    client.connect(server.addr).unwrap();
    for payload in [&b"hello"[..], b"\xff\x00", b"", &[b'x'; 65_507]] {
        client.send(payload).unwrap();
        assert_eq!(next(&client), payload);
    }
    let summary = summary(&mut server);
    assert_eq!((&summary["replies"], &summary["withheld"]), (&4.into(), &0.into()));
}

#[test]
fn a_text_is_cut_to_as_many_bytes_as_came() {
    let server = listener(&["--reply", "a long answer"]);
    let client = client("127.0.0.1:0");
    client.connect(server.addr).unwrap();
    for (payload, answer) in [(&b"a very long question"[..], &b"a long answer"[..]), (b"short", b"a lon"), (b"", b"")] {
        client.send(payload).unwrap();
        assert_eq!(next(&client), answer);
    }
}

#[test]
fn a_truncated_datagram_is_echoed_as_far_as_it_was_kept() {
    let server = listener(&["--reply", "echo", "--size", "3"]);
    let client = client("127.0.0.1:0");
    client.connect(server.addr).unwrap();
    client.send(b"hello").unwrap();
    assert_eq!(next(&client), b"hel");
}

#[test]
fn the_reply_comes_from_the_address_that_was_asked() {
    for (listen, asked) in [("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "127.0.0.3"), ("[::]:0", "::1")] {
        let mut command = udp_listen();
        command.args(["--json", "--quiet", "--reply", "echo", "--listen", listen]);
        let server = Server::start(command);
        let client = client(if asked == "::1" { "[::1]:0" } else { "127.0.0.1:0" });
        client.connect((asked, server.addr.port())).unwrap(); // hears nobody else
        client.send(b"is it you?").unwrap();
        assert_eq!(next(&client), b"is it you?", "{listen} {asked}");
    }
}

#[test]
fn this_very_socket_is_not_answered() {
    let mut server = listener(&["--reply", "echo"]);
    let twin = client(&format!("127.0.0.2:{}", server.addr.port())); // the same port of this same machine
    twin.send_to(b"quarrel?", server.addr).unwrap();
    let other = client("127.0.0.2:0");
    other.send_to(b"hello", server.addr).unwrap();
    assert_eq!(next(&other), b"hello");
    let summary = summary(&mut server);
    assert_eq!((&summary["packets"], &summary["replies"], &summary["withheld"]), (&2.into(), &1.into(), &1.into()));
    twin.set_nonblocking(true).unwrap();
    assert_eq!(twin.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_port_below_1024_is_not_answered() {
    let Some(service) = (1000..1024).find_map(|port| std::net::UdpSocket::bind(("127.0.0.1", port)).ok()) else {
        return eprintln!("SKIPPED: no port below 1024 may be bound here");
    };
    let mut server = listener(&["--reply", "echo"]);
    service.send_to(b"quarrel?", server.addr).unwrap();
    let other = client("127.0.0.1:0");
    other.send_to(b"hello", server.addr).unwrap();
    assert_eq!(next(&other), b"hello");
    assert_eq!(summary(&mut server)["withheld"], 1);
    service.set_nonblocking(true).unwrap();
    assert_eq!(service.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_source_has_so_many_replies_a_second() {
    let mut server = listener(&["--reply", "echo", "--reply-rate", "5", "--quiet"]);
    let (flood, other) = (client("127.0.0.1:0"), client("127.0.0.2:0"));
    for _ in 0..500 {
        flood.send_to(b"again", server.addr).unwrap();
    }
    other.send_to(b"hello", server.addr).unwrap();
    assert_eq!(next(&other), b"hello", "one source does not take from another");
    let summary = summary(&mut server);
    let [packets, replies, withheld, bytes] =
        ["packets", "replies", "withheld", "bytes"].map(|field| summary[field].as_u64().unwrap());
    assert_eq!((packets, bytes), (501, 2505));
    assert_eq!(replies + withheld, packets);
    let seconds = summary["seconds"].as_f64().unwrap();
    assert!((6..=6 + (5.0 * seconds) as u64).contains(&replies), "{summary}");
}
