//! `udp-listen` and `udp-send`.

use std::net::UdpSocket;
use std::process::Command;

use serde_json::Value;

use crate::common::{Ended, PATIENCE, Process, Server, run, udp_listen, udp_send};

mod listen;
mod losses;
mod multicast;
mod reply;
mod send;
mod usage;

/// `udp-listen --json` on a free port of 127.0.0.1, with these arguments.
fn listen_command(arguments: &[&str]) -> Command {
    let mut command = udp_listen();
    command.args(["--listen", "127.0.0.1:0", "--json"]).args(arguments);
    command
}

/// The same, ready.
#[track_caller]
fn listener(arguments: &[&str]) -> Server {
    Server::start(listen_command(arguments))
}

/// `udp-listen` with these arguments, to its end.
fn listen(arguments: &[&str]) -> Ended {
    let mut command = udp_listen();
    command.args(arguments);
    run(command)
}

/// `udp-send` with these arguments, to its end.
fn send(arguments: &[&str]) -> Ended {
    let mut command = udp_send();
    command.args(arguments);
    run(command)
}

/// A socket that gives up waiting.
fn client(addr: &str) -> UdpSocket {
    let socket = UdpSocket::bind(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What a socket receives next.
#[track_caller]
fn next(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 16];
    let len = socket.recv(&mut buffer).expect("a datagram in time");
    buffer.truncate(len);
    buffer
}

/// The events of that name.
fn events(process: &Process, name: &str) -> Vec<Value> {
    process.out.events().into_iter().filter(|event| event["event"] == name).collect()
}

/// Interrupts a listener: gives its only summary. All that was sent before is in it.
#[track_caller]
fn summary(server: &mut Server) -> Value {
    server.process.signal("INT");
    assert_eq!(server.process.ended().code(), Some(0));
    let summaries = events(&server.process, "summary");
    assert_eq!(summaries.len(), 1, "{summaries:?}");
    summaries[0].clone()
}
