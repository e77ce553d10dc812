//! Real processes for tests: started, watched, asked over HTTP, and killed when the test is done with them.
//!
//! Nothing here sleeps. Whoever waits asks again whenever a child has printed something (or a few milliseconds later),
//! until a deadline, and then tells what it last saw.

#![allow(dead_code, reason = "each test crate uses its part of this")]
#![expect(clippy::disallowed_methods, reason = "deadlines of real processes need a real clock")]

use std::fmt::Display;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) mod cluster;
pub(crate) mod http;
pub(crate) mod net;
pub(crate) mod saboteur;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The variables that netbelt reads: those of whoever runs the tests must not reach the children.
const VARIABLES: [&str; 12] = [
    "NODE_ID",
    "PORT",
    "PEER_IDS",
    "LISTEN",
    "JOIN",
    "ADVERTISE",
    "DATA_DIR",
    "INSECURE",
    "RAFT_NODES",
    "RUST_LOG",
    "NOTIFY_SOCKET",
    "NO_COLOR",
];

/// `raft-node`, without arguments.
pub(crate) fn raft_node() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_raft-node")))
}

/// `raft-ctl`, without arguments.
pub(crate) fn raft_ctl() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_raft-ctl")))
}

/// `netsim`, without arguments.
pub(crate) fn netsim() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_netsim")))
}

/// `tcp-echo`, without arguments.
pub(crate) fn tcp_echo() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_tcp-echo")))
}

/// `udp-listen`, without arguments.
pub(crate) fn udp_listen() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_udp-listen")))
}

/// `udp-send`, without arguments.
pub(crate) fn udp_send() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_udp-send")))
}

/// `worker-pool`, without arguments.
pub(crate) fn worker_pool() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_worker-pool")))
}

fn clean(mut command: Command) -> Command {
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    // What raft-ctl keeps between calls is not that of whoever runs the tests.
    command.env("XDG_STATE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/state"));
    command
}

/// `raft-node` as node `id` on a free port, with its data in `dir` and timeouts that a busy machine keeps.
pub(crate) fn node_in(dir: &Path, id: &str) -> Command {
    let mut command = raft_node();
    command.args(["--id", id, "--listen", "127.0.0.1:0", "--json"]).arg("--data-dir").arg(dir.join(id));
    command.args(["--heartbeat", "50ms", "--election-timeout", "300ms..600ms"]);
    command
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Insists on an exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Insists on these texts in stderr.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "stderr lacks {text:?}:\n{}", self.stderr);
        }
        self
    }

    /// Stdout, which is one line of JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let lines: Vec<_> = self.stdout.lines().collect();
        assert_eq!(lines.len(), 1, "one line: {:?}", self.stdout);
        serde_json::from_str(lines[0]).unwrap_or_else(|error| panic!("{error}: {:?}", self.stdout))
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> Ended {
    run_with(command, "")
}

/// Runs a command with this on its stdin, to its end.
pub(crate) fn run_with(command: Command, stdin: impl Into<Vec<u8>>) -> Ended {
    let mut command = assert_cmd::Command::from_std(command);
    let output = command.timeout(PATIENCE).write_stdin(stdin).output().expect("the binary can be started");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Asks until there is an answer; panics with the last reason when there is none in time.
#[track_caller]
pub(crate) fn eventually<T, E: Display>(what: &str, attempt: impl FnMut() -> Result<T, E>) -> T {
    within(PATIENCE, what, attempt)
}

/// Like [`eventually`], with another deadline.
#[track_caller]
pub(crate) fn within<T, E: Display>(time: Duration, what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + time;
    loop {
        match attempt() {
            Ok(answer) => return answer,
            Err(last) => assert!(Instant::now() < deadline, "waited in vain for {what}; last: {last}"),
        }
        until_something_is_printed(Duration::from_millis(10));
    }
}

/// Rings whenever any child prints a line or closes its output.
static BELL: (Mutex<u64>, Condvar) = (Mutex::new(0), Condvar::new());

fn ring() {
    *lock(&BELL.0) += 1;
    BELL.1.notify_all();
}

/// Waits for the next line of any child, up to `at_most`.
pub(crate) fn until_something_is_printed(at_most: Duration) {
    let rung = lock(&BELL.0);
    let before = *rung;
    drop(BELL.1.wait_timeout_while(rung, at_most, |now| *now == before));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a child prints, as it comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Printed(Arc<Mutex<(String, bool)>>);

impl Printed {
    /// Each whole line so far, which is JSON.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = self.text();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"))).collect()
    }

    /// The first event of that name, once it is there.
    #[track_caller]
    pub(crate) fn event(&self, name: &str) -> Value {
        eventually(&format!("the event {name}"), || {
            self.events().into_iter().find(|event| event["event"] == name).ok_or_else(|| self.text())
        })
    }

    fn follow(stream: impl Read + Send + 'static, reader: Reader) -> Self {
        let printed = Self::default();
        let heard = printed.clone();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while let Ok(1..) = stream.read_until(b'\n', &mut line) {
                lock(&heard.0).0.push_str(&String::from_utf8_lossy(&line));
                line.clear();
                ring();
                if reader == Reader::OneLine {
                    break;
                }
            }
            drop(stream);
            lock(&heard.0).1 = true;
            ring();
        });
        printed
    }

    /// All of it so far.
    pub(crate) fn text(&self) -> String {
        lock(&self.0).0.clone()
    }

    fn is_closed(&self) -> bool {
        lock(&self.0).1
    }

    /// The first line that contains `text`, once it is there.
    #[track_caller]
    pub(crate) fn line_with(&self, text: &str) -> String {
        eventually(&format!("a line with {text:?}"), || {
            let all = self.text();
            all.lines().find(|line| line.contains(text)).map(str::to_owned).ok_or(all)
        })
    }
}

/// How much of its stdout a child gets rid of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// All.
    ToTheEnd,
    /// The first line; then the pipe is closed, as `head -1` does.
    OneLine,
}

/// A child process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) out: Printed,
    pub(crate) err: Printed,
}

impl Process {
    /// Starts a command.
    pub(crate) fn start(command: Command) -> Self {
        Self::start_read_by(command, Reader::ToTheEnd)
    }

    /// Starts a command that is fed through its stdin: gives the writing end.
    pub(crate) fn start_fed(command: Command) -> (Self, ChildStdin) {
        let mut process = Self::spawn(command, Reader::ToTheEnd, Stdio::piped());
        let stdin = process.child.stdin.take().expect("it is piped");
        (process, stdin)
    }

    /// Starts a command whose stdout is read in this way.
    pub(crate) fn start_read_by(command: Command, reader: Reader) -> Self {
        Self::spawn(command, reader, Stdio::null())
    }

    fn spawn(mut command: Command, reader: Reader, stdin: Stdio) -> Self {
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let out = Printed::follow(child.stdout.take().expect("it is piped"), reader);
        let err = Printed::follow(child.stderr.take().expect("it is piped"), Reader::ToTheEnd);
        Self { child, out, err }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal: `TERM`, `STOP`, ...
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        eventually("the end of a process", || match self.child.try_wait() {
            Ok(Some(status)) if self.out.is_closed() && self.err.is_closed() => Ok(status),
            Ok(status) => Err(format!("{status:?}, stderr:\n{}", self.err.text())),
            Err(error) => panic!("cannot wait for a child: {error}"),
        })
    }

    /// Whether it has ended and all that it said is here.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.out.is_closed() && self.err.is_closed() && !matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it, as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- process {} said on stderr:\n{}---", self.pid(), self.err.text());
        }
    }
}

/// Sends a signal through the shell's own `kill`.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().expect("there is a shell");
    assert!(sent.success(), "cannot send {name} to {pid}");
}

/// A server that is ready. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    /// Its ready line.
    pub(crate) ready: Value,
}

impl Server {
    /// Starts a server, which must have been told `--json`, and waits for its ready line.
    #[track_caller]
    pub(crate) fn start(command: Command) -> Self {
        Self::try_start(command).unwrap_or_else(|stderr| panic!("the server did not start:\n{stderr}"))
    }

    /// Starts a server; gives what it said on stderr when it ends instead of serving.
    pub(crate) fn try_start(command: Command) -> Result<Self, String> {
        let mut process = Process::start(command);
        let ready = eventually("the ready line", || {
            let out = process.out.text();
            if let Some(ready) = out.lines().find(|line| line.contains(r#""event":"ready""#)) {
                return Ok(Ok(serde_json::from_str::<Value>(ready).expect("a ready line is JSON")));
            }
            if process.has_ended() {
                return Ok(Err(process.err.text()));
            }
            Err(format!("stdout {out:?}, stderr {:?}", process.err.text()))
        })?;
        let addr = ready["addr"].as_str().and_then(|addr| addr.parse().ok());
        let addr = addr.unwrap_or_else(|| panic!("no address in {ready}"));
        Ok(Self { process, addr, ready })
    }

    /// Sends SIGTERM and waits for the end.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.process.signal("TERM");
        self.process.ended()
    }

    /// Most memory it ever had resident, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }
}

/// A `raft-node` that serves. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    server: Server,
    pub(crate) id: String,
}

impl Deref for Node {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

impl Node {
    /// A cluster of one, with its data in `dir`, once it leads.
    #[track_caller]
    pub(crate) fn alone(dir: &Path) -> Self {
        let node = Self::start(node_in(dir, "n1"));
        node.wait_healthy();
        node
    }

    /// Starts a `raft-node`, which must have been told `--json`, and waits for its ready line.
    #[track_caller]
    pub(crate) fn start(command: Command) -> Self {
        Self::try_start(command).unwrap_or_else(|stderr| panic!("the node did not start:\n{stderr}"))
    }

    /// Starts a `raft-node`; gives what it said on stderr when it ends instead of serving.
    pub(crate) fn try_start(command: Command) -> Result<Self, String> {
        let server = Server::try_start(command)?;
        let id = server.ready["id"].as_str().unwrap_or_else(|| panic!("no id in {}", server.ready)).to_owned();
        Ok(Self { server, id })
    }

    /// Waits until it can serve.
    #[track_caller]
    pub(crate) fn wait_healthy(&self) {
        eventually("a healthy node", || match http::get(self.addr, "/health") {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// Asks for what must have an answer.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> http::Answer {
        self.ask("GET", path, "")
    }

    /// Asks for what must have an answer, on a connection of its own.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> http::Answer {
        http::ask(self.addr, method, path, body).unwrap_or_else(|error| {
            panic!("{method} {path} at {}: {error}; stderr:\n{}", self.addr, self.process.err.text())
        })
    }

    /// Sets a key, which must succeed.
    #[track_caller]
    pub(crate) fn set(&self, key: &str, value: &str) {
        let answer = self.ask("POST", "/kv", &http::set_body(key, value));
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// The value of a key, read linearizably.
    #[track_caller]
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        http::value_in(&self.get(&format!("/kv/{}", http::encoded(key))))
    }
}
