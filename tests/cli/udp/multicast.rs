//! Groups and broadcasts, on the loopback interface.

use std::net::{Ipv4Addr, UdpSocket};

use super::{client, events, listen, send, summary};
use crate::common::{Server, udp_listen};

/// Whether a group can be used on the loopback interface here; says so when it cannot.
fn lo_has_multicast() -> bool {
    let probe = UdpSocket::bind("127.0.0.1:0").unwrap();
    let joined = probe.join_multicast_v4(&Ipv4Addr::new(239, 255, 7, 7), &Ipv4Addr::LOCALHOST);
    if let Err(error) = &joined {
        eprintln!("SKIPPED: the loopback interface takes no multicast here: {error}");
    }
    joined.is_ok()
}

fn joined(arguments: &[&str]) -> Server {
    let mut command = udp_listen();
    command.args(["--json"]).args(arguments);
    Server::start(command)
}

#[test]
fn a_group_is_heard_by_all_who_joined_it_and_answered_by_none() {
    if !lo_has_multicast() {
        return;
    }
    let arguments = ["--join", "239.255.7.8%lo", "--reply", "echo"];
    let mut one = joined(&[&arguments[..], &["--listen", "0.0.0.0:0"]].concat());
    let port = one.addr.port();
    let mut other = joined(&[&arguments[..], &["--listen", &format!("0.0.0.0:{port}")]].concat());
    let group = format!("239.255.7.8:{port}");
    send(&[&group, "hello", "--interface", "lo"]).expect(0);
    for server in [&mut one, &mut other] {
        let summary = summary(server);
        assert_eq!((&summary["packets"], &summary["replies"], &summary["withheld"]), (&1.into(), &0.into(), &1.into()));
        assert_eq!(events(&server.process, "packet")[0]["to"], group);
    }
}

#[test]
fn a_group_that_was_not_joined_is_not_heard_although_another_process_joined_it() {
    if !lo_has_multicast() {
        return;
    }
    let mut one = joined(&["--listen", "0.0.0.0:0", "--join", "239.255.7.9%127.0.0.1"]);
    let port = one.addr.port();
    let mut other = joined(&["--listen", &format!("0.0.0.0:{port}"), "--join", "239.255.7.10%lo"]);
    send(&[&format!("239.255.7.9:{port}"), "hello", "--interface", "127.0.0.1"]).expect(0);
    assert_eq!(summary(&mut one)["packets"], 1);
    assert_eq!(summary(&mut other)["packets"], 0);
}

#[test]
fn an_ipv6_group_is_joined_through_its_interface() {
    let probe = UdpSocket::bind("[::1]:0").unwrap();
    if probe.join_multicast_v6(&"ff15::7:7".parse().unwrap(), 1).is_err() {
        return eprintln!("SKIPPED: the loopback interface takes no IPv6 multicast here");
    }
    // One socket, a group of each family.
    let mut server = joined(&["--listen", "[::]:0", "--join", "ff15::7:8%lo", "--join", "239.255.7.11%lo"]);
    let port = server.addr.port();
    send(&[&format!("239.255.7.11:{port}"), "four", "--interface", "lo"]).expect(0);
    let six = send(&[&format!("[ff15::7:8]:{port}"), "six", "--interface", "lo", "--ttl", "1"]);
    summary(&mut server);
    let packets = events(&server.process, "packet");
    assert_eq!((&packets[0]["to"], &packets[0]["text"]), (&format!("239.255.7.11:{port}").into(), &"four".into()));
    if six.code == Some(3) || packets.len() == 1 {
        // Most kernels have no route for it, and do not take it back with one.
        return eprintln!("SKIPPED: the loopback interface passes on no IPv6 groups here: {}", six.stderr);
    }
    six.expect(0);
    assert_eq!((&packets[1]["to"], &packets[1]["text"]), (&format!("[ff15::7:8]:{port}").into(), &"six".into()));
}

#[test]
fn a_broadcast_needs_a_yes_and_gets_no_reply() {
    let mut command = udp_listen();
    command.args(["--json", "--listen", "0.0.0.0:0", "--reply", "echo"]);
    let mut server = Server::start(command);
    let everybody = format!("127.255.255.255:{}", server.addr.port());
    send(&[&everybody, "hello"]).expect(2).says(&[&everybody, "--broadcast"]);
    let waited = send(&[&everybody, "hello", "--broadcast", "--wait-reply", "100ms"]).expect(124);
    assert_eq!(waited.stdout, "");
    // A unicast shows that the silence was not for lack of a voice.
    let client = client("127.0.0.1:0");
    client.connect(("127.0.0.1", server.addr.port())).unwrap();
    client.send(b"alone").unwrap();
    assert_eq!(super::next(&client), b"alone");
    let summary = summary(&mut server);
    assert_eq!((&summary["packets"], &summary["replies"], &summary["withheld"]), (&2.into(), &1.into(), &1.into()));
    assert_eq!(events(&server.process, "packet")[0]["to"], everybody);
}

#[test]
fn a_group_that_can_never_be_heard_is_refused() {
    let refused = listen(&["--listen", "127.0.0.1:0", "--join", "239.1.2.3"]).expect(2);
    refused.says(&["127.0.0.1:0", "239.1.2.3", "--listen 0.0.0.0:0"]);
    listen(&["--listen", "0.0.0.0:0", "--join", "ff15::1"]).expect(2).says(&["--listen [::]:0"]);
    listen(&["--listen", "0.0.0.0:0", "--join", "239.1.2.3%nosuch0"]).expect(6).says(&["'nosuch0'", "lo"]);
    listen(&["--join", "127.0.0.1"]).expect(2).says(&["--join", "239.1.2.3%eth0"]);
    send(&["239.1.2.3:9", "x", "--interface", "nosuch0"]).expect(6).says(&["'nosuch0'", "lo"]);
}
