//! Several real nodes that know each other.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::http::{self, Http};
use super::{Node, eventually, raft_node, until_something_is_printed};

/// A port of 127.0.0.1 that is free now and that this process gives to nobody else. Not one of those that the system
/// hands to outgoing connections: a node that restarts needs its port again.
pub(crate) fn reserve_port() -> u16 {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test processes that run side by side begin at different places.
    let start = std::process::id().wrapping_mul(97);
    loop {
        let port = FIRST + (start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))) % COUNT;
        let port = u16::try_from(port).expect("it is below 32,000");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Nodes n1, n2, ... with their data in one directory. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    members: Vec<Member>,
    dir: TempDir,
    election_timeout: &'static str,
}

#[derive(Debug)]
struct Member {
    addr: SocketAddr,
    node: Option<Node>,
}

impl Cluster {
    /// Three nodes, started, one of which leads.
    #[track_caller]
    pub(crate) fn of_three() -> Self {
        Self::with_election_timeout("300ms..600ms")
    }

    /// Three nodes with that election timeout.
    #[track_caller]
    pub(crate) fn with_election_timeout(election_timeout: &'static str) -> Self {
        // Somebody may take a port between its reservation and its use: then all begin anew with other ports.
        for _ in 0..5 {
            let members = (0..3).map(|_| Member { addr: ([127, 0, 0, 1], reserve_port()).into(), node: None });
            let dir = tempfile::tempdir().expect("a temporary directory");
            let mut cluster = Self { members: members.collect(), dir, election_timeout };
            if (0..3).all(|number| cluster.try_start(number).is_ok()) {
                cluster.leader();
                return cluster;
            }
        }
        panic!("no free ports");
    }

    /// Three nodes that have never been started.
    #[track_caller]
    pub(crate) fn of_three_not_started() -> Self {
        let members = (0..3).map(|_| Member { addr: ([127, 0, 0, 1], reserve_port()).into(), node: None });
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { members: members.collect(), dir, election_timeout: "300ms..600ms" }
    }

    fn try_start(&mut self, number: usize) -> Result<(), String> {
        self.try_start_with(number, &[])
    }

    fn try_start_with(&mut self, number: usize, flags: &[&str]) -> Result<(), String> {
        let mut command = self.command(number);
        command.args(flags);
        match Node::try_start(command) {
            Ok(node) => self.members[number].node = Some(node),
            Err(stderr) if stderr.contains("cannot listen") => return Err(stderr),
            Err(stderr) => panic!("node {number} did not start:\n{stderr}"),
        }
        Ok(())
    }

    /// The command that starts a node of this cluster.
    pub(crate) fn command(&self, number: usize) -> Command {
        self.command_with(number, &self.addr(number).to_string(), &self.dir.path().join(Self::id(number)))
    }

    /// The same, elsewhere.
    pub(crate) fn command_with(&self, number: usize, listen: &str, data_dir: &Path) -> Command {
        let mut command = self.lonely(number, listen, data_dir);
        for other in (0..self.members.len()).filter(|other| *other != number) {
            command.args(["--peer", &format!("{}={}", Self::id(other), self.addr(other))]);
        }
        command
    }

    /// The command that starts a node of this cluster which is told of no other one.
    pub(crate) fn joining(&self, number: usize) -> Command {
        self.lonely(number, &self.addr(number).to_string(), &self.dir.path().join(Self::id(number)))
    }

    /// The command that starts a node there with no peers.
    pub(crate) fn lonely(&self, number: usize, listen: &str, data_dir: &Path) -> Command {
        let mut command = raft_node();
        command.args(["--id", &Self::id(number), "--listen", listen, "--json"]);
        command.args(["--heartbeat", "50ms", "--election-timeout", self.election_timeout]);
        command.arg("--data-dir").arg(data_dir);
        command
    }

    pub(crate) fn id(number: usize) -> String {
        format!("n{}", number + 1)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn addr(&self, number: usize) -> SocketAddr {
        self.members[number].addr
    }

    /// Every node's address, of those that are down too.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.addr).collect()
    }

    /// A node that runs.
    #[track_caller]
    pub(crate) fn node(&self, number: usize) -> &Node {
        self.members[number].node.as_ref().unwrap_or_else(|| panic!("node {number} is down"))
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, number: usize) {
        if let Some(mut node) = self.members[number].node.take() {
            node.process.kill();
        }
    }

    /// SIGTERM, and how the node ended.
    #[track_caller]
    pub(crate) fn stop(&mut self, number: usize) -> ExitStatus {
        self.members[number].node.take().expect("it runs").stop()
    }

    /// Starts a node that is down.
    #[track_caller]
    pub(crate) fn restart(&mut self, number: usize) {
        assert!(self.members[number].node.is_none(), "node {number} is up");
        eventually("the node's port", || self.try_start(number));
    }

    /// The same with more arguments.
    #[track_caller]
    pub(crate) fn restart_with(&mut self, number: usize, flags: &[&str]) {
        eventually("the node's port", || self.try_start_with(number, flags));
    }

    /// The number of the node that leads, once all nodes that run agree on it.
    #[track_caller]
    pub(crate) fn leader(&self) -> usize {
        let up: Vec<_> = (0..self.members.len()).filter(|number| self.members[*number].node.is_some()).collect();
        self.leader_among(&up)
    }

    /// The number of the node that leads, once all of these agree on it; it is one of them.
    #[track_caller]
    pub(crate) fn leader_among(&self, numbers: &[usize]) -> usize {
        eventually("a leader that all agree on", || {
            let statuses: Vec<_> = numbers.iter().map(|number| status(self.addr(*number))).collect();
            let leads = |status: &&io::Result<Value>| matches!(status, Ok(s) if s["state"] == "leader");
            let agreed = statuses.iter().find(leads).and_then(|leader| leader.as_ref().ok()).filter(|leader| {
                let follows = |s: &Value| s["leaderId"] == leader["nodeId"] && s["term"] == leader["term"];
                statuses.iter().all(|status| status.as_ref().is_ok_and(follows))
            });
            let number = |leader: &Value| numbers.iter().copied().find(|n| leader["nodeId"] == Self::id(*n).as_str());
            agreed.and_then(number).ok_or_else(|| format!("{statuses:?}"))
        })
    }

    /// Waits until every node has committed and applied the same, and gives what each of them holds.
    #[track_caller]
    pub(crate) fn converged(&self) -> BTreeMap<String, (String, u64)> {
        self.leader();
        eventually("equal commit indices", || {
            let commits: Result<Vec<_>, _> = self.addrs().into_iter().map(status).collect();
            let commits: Vec<_> = commits?.iter().map(|s| (s["commitIndex"].clone(), s["lastIndex"].clone())).collect();
            let same = commits.iter().all(|(commit, last)| commit == last && *commit == commits[0].0);
            if same { Ok(()) } else { Err(io::Error::other(format!("{commits:?}"))) }
        });
        let listings = self.addrs().into_iter().map(|addr| http::listing(addr, "&consistency=stale"));
        let listings: Vec<_> = listings.map(|listing| listing.expect("a listing")).collect();
        assert!(listings.iter().all(|listing| *listing == listings[0]), "the nodes hold different data");
        listings.into_iter().next().expect("there are nodes")
    }
}

/// The body of `/status`.
pub(crate) fn status(addr: SocketAddr) -> io::Result<Value> {
    let mut connection = Http::connect_with(addr, Duration::from_secs(2))?;
    let answer = connection.ask("GET", "/status", &["connection: close"], b"")?;
    if answer.status == 200 { Ok(answer.json()) } else { Err(io::Error::other(format!("{answer:?}"))) }
}

/// Waits until the health of a node says this.
#[track_caller]
pub(crate) fn wait_for_health(cluster: &Cluster, number: usize, texts: &[&str]) {
    eventually("a health that says why", || {
        let health = status(cluster.addr(number))?["health"].as_str().unwrap_or_default().to_owned();
        if texts.iter().all(|text| health.contains(text)) { Ok(()) } else { Err(io::Error::other(health)) }
    });
}

/// Insists that none of these nodes finds a leader, for many election timeouts in which they seek election.
#[track_caller]
pub(crate) fn assert_no_leader(cluster: &Cluster, numbers: &[usize]) {
    for _ in 0..60 {
        for number in numbers {
            let status = status(cluster.addr(*number)).expect("it runs");
            assert!(status["leaderId"].is_null(), "{status}");
        }
        until_something_is_printed(Duration::from_millis(50));
    }
}

/// A client that stays connected to one node and goes to the next one when it fails.
#[derive(Debug)]
pub(crate) struct Client {
    addrs: Vec<SocketAddr>,
    at: usize,
    connection: Option<Http>,
}

impl Client {
    /// Begins with the node of that number.
    pub(crate) fn new(addrs: Vec<SocketAddr>, at: usize) -> Self {
        Self { addrs, at, connection: None }
    }

    /// Asks the node it is connected to, or the next one that takes a connection. An error means that the request may
    /// or may not have been carried out.
    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &[&str], body: &str) -> io::Result<http::Answer> {
        let connection = loop {
            match &mut self.connection {
                Some(connection) => break connection,
                None => match Http::connect_with(self.addrs[self.at % self.addrs.len()], Duration::from_secs(3)) {
                    Ok(connection) => self.connection = Some(connection),
                    Err(error) => {
                        self.at += 1;
                        if self.at.is_multiple_of(self.addrs.len()) {
                            until_something_is_printed(Duration::from_millis(10)); // all are down
                            return Err(error);
                        }
                    }
                },
            }
        };
        let answer = connection.ask(method, path, headers, body.as_bytes());
        if !matches!(&answer, Ok(answer) if answer.status < 500) {
            self.connection = None;
            self.at += 1;
        }
        answer
    }
}

/// Threads that set keys nobody else sets, and remember those that were acknowledged.
#[derive(Debug)]
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<(String, String)>>>,
}

impl Writers {
    /// Starts `count` writers, whose keys begin with `prefix`.
    pub(crate) fn start(addrs: &[SocketAddr], prefix: &str, count: usize) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..count).map(|writer| {
            let mut client = Client::new(addrs.to_vec(), writer);
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let prefix = format!("{prefix}/{writer}");
            std::thread::spawn(move || {
                let mut done = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (key, value) = (format!("{prefix}/{number}"), format!("value {number} of {prefix}"));
                    match client.ask("POST", "/kv?timeout=1s", &[], &http::set_body(&key, &value)) {
                        Ok(answer) if answer.status == 200 => {
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                            done.push((key, value));
                        }
                        Ok(answer) => assert!(matches!(answer.status, 503 | 504), "{answer:?}"),
                        Err(_) => {} // the node died: outcome unknown
                    }
                }
                done
            })
        });
        Self { threads: threads.collect(), stop, acknowledged }
    }

    /// Waits until so many more writes have been acknowledged.
    #[track_caller]
    pub(crate) fn wait_for_more(&self, count: usize) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + count;
        eventually("acknowledged writes", || {
            let now = self.acknowledged.load(Ordering::Relaxed);
            if now >= goal { Ok(()) } else { Err(format!("{now} of {goal}")) }
        });
    }

    /// Every key that was acknowledged, with its value.
    pub(crate) fn stop(self) -> Vec<(String, String)> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().expect("writers do not panic")).collect()
    }
}

/// Insists that every acknowledged write is there.
#[track_caller]
pub(crate) fn assert_holds(listing: &BTreeMap<String, (String, u64)>, acknowledged: &[(String, String)]) {
    let lost: Vec<_> =
        acknowledged.iter().filter(|(key, value)| listing.get(key).is_none_or(|(held, _)| held != value)).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged writes lost: {lost:?}", lost.len(), acknowledged.len());
}
