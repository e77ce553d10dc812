//! `tcp-echo`: real servers, real clients, and clients that no program should be.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::common::{Ended, PATIENCE, Process, Server, run, tcp_echo};

mod bench;
mod hostile;
mod send;
mod serve;

/// `tcp-echo serve` on a free port.
#[track_caller]
fn serving(arguments: &[&str]) -> Server {
    serving_at("127.0.0.1:0", arguments)
}

#[track_caller]
fn serving_at(listen: &str, arguments: &[&str]) -> Server {
    let mut command = tcp_echo();
    command.args(["serve", "--json", "--listen", listen]).args(arguments);
    Server::start(command)
}

/// A server that may open so many files and no more.
#[track_caller]
fn serving_with_files(files: usize, arguments: &[&str]) -> Server {
    let mut command = with_files(files);
    command.args(["serve", "--json", "--listen", "127.0.0.1:0"]).args(arguments);
    Server::start(command)
}

/// `tcp-echo`, which may open so many files and no more.
fn with_files(files: usize) -> Command {
    let inner = tcp_echo();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {files}; exec \"$@\""), "sh"]).arg(inner.get_program());
    command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
    command
}

/// Runs `tcp-echo` to its end.
fn echo(arguments: &[&str]) -> Ended {
    let mut command = tcp_echo();
    command.args(arguments);
    run(command)
}

/// A connection on which nothing takes longer than a test waits.
#[track_caller]
fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap_or_else(|error| panic!("{addr}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// The next bytes, so many of them.
#[track_caller]
fn take(mut stream: &TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap_or_else(|error| panic!("waiting for {len} bytes: {error}"));
    bytes
}

/// All that comes until the server closes.
fn until_closed(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same as text, for messages.
#[track_caller]
fn last_words(stream: &TcpStream) -> String {
    String::from_utf8(until_closed(stream).expect("what it says, then the end")).expect("text")
}

/// Sends bytes, which must come back.
#[track_caller]
fn assert_echoes(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    assert_eq!(take(stream, bytes.len()), bytes);
}

/// A frame with its length before it.
fn with_length(payload: &[u8]) -> Vec<u8> {
    [&u32::try_from(payload.len()).unwrap().to_be_bytes(), payload].concat()
}

/// Closes a connection with a reset, as a process that crashes may.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Bytes that do not repeat.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// Writes, and never reads, until the other side takes no more for a while. Gives the number of bytes it took.
fn write_until_stuck(mut stream: &TcpStream, bytes: &mut impl Iterator<Item = Vec<u8>>) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut taken = 0;
    for block in bytes {
        let mut rest = block.as_slice();
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(written) => (taken, rest) = (taken + written, &rest[written..]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return taken,
                Err(error) => panic!("after {taken} bytes: {error}"),
            }
        }
    }
    panic!("it took all {taken} bytes")
}

/// The most memory a process ever had resident, in bytes.
fn peak_memory(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Processor time a process has used so far.
fn processor_time(process: &Process) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).expect("it runs");
    let fields: Vec<_> = stat.rsplit(") ").next().expect("a name in parentheses").split(' ').collect();
    let ticks = |field: &str| field.parse::<u64>().expect("a number of ticks");
    Duration::from_millis((ticks(fields[11]) + ticks(fields[12])) * 10) // there are 100 a second
}
