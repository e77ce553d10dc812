//! The layer between HTTP and the machine, on three real nodes in one process: no answer says "not done" of what is in the
//! history, however a request came to be refused.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::{Api, Dialler, Members, NodeInfo, Subscribers, dial};
use crate::defaults::{MAX_ANSWER_MEMORY, MAX_BODY_MEMORY, MAX_REQUESTS};
use crate::http::client::{Client, Response};
use crate::http::kv::IDEMPOTENCY_KEY;
use crate::http::machine::Halted;
use crate::http::server;
use crate::kv::RaftKv;
use crate::kv::changes::Change;
use crate::kv::raft_kv::{self, Ask, Event, Query, RequestId};
use crate::net::disk::{Log, Options};
use crate::net::driver::{Driver, Handle};
use crate::net::identity::boot_history::BootHistory;
use crate::net::identity::known_peers::KnownPeers;
use crate::net::identity::random_id::RandomId;
use crate::net::link::{self, Outbox};
use crate::net::links::Links;
use crate::net::place::Place;
use crate::net::writer::{DiskMetrics, RecordKind, Writer};
use crate::node_id::NodeId;
use crate::raft::{Config, Configuration, Record};

const PATIENCE: Duration = Duration::from_secs(20);

/// A node as `raft-node` puts it together.
struct Node {
    id: NodeId,
    addr: SocketAddr,
    api: Api,
    handle: Handle<RaftKv>,
    members: Arc<Members>,
    halted: Halted,
    subscribers: Subscribers,
    stop: CancellationToken,
    _dir: TempDir,
}

impl Node {
    fn start(number: u64, listener: TcpListener, addrs: &BTreeMap<NodeId, SocketAddr>) -> Self {
        let (id, dir) = (NodeId::numbered(number as usize), tempfile::tempdir().unwrap());
        let config = Config {
            election_timeout: Duration::from_millis(300)..=Duration::from_millis(600),
            ..Config::new(id, number, addrs.keys().copied())
        };
        let initial: Configuration = config.initial.clone();
        let (log, _) = Log::open(&dir.path().join("log"), Options::new(number)).unwrap().finish().unwrap();
        let machine = RaftKv::recover(config, u64::MAX, []).unwrap();
        let kind = RecordKind {
            entries: Record::entries,
            begins: |record| matches!(record, Record::SnapshotBegin(_)),
            completes: |record| matches!(record, Record::SnapshotEnd),
        };
        let writer = Writer::start(log, DiskMetrics::default(), kind).unwrap();
        let starts = BootHistory::begin(dir.path(), RandomId(number)).unwrap();
        let known = Arc::new(KnownPeers::open(dir.path(), id.as_str(), RandomId(number), starts).unwrap());
        let (links, subscribers, halted) = (Links::default(), Subscribers::default(), Halted::default());
        let others = addrs.iter().filter(|(other, _)| **other != id).map(|(other, at)| (*other, at.to_string()));
        let members = Arc::new(Members::new(id, initial, others.collect(), known, links.clone()).unwrap());
        let (told, now) = (subscribers.clone(), members.clone());
        let on_event = move |event| {
            if let Event::MembersChanged(configuration) = &event {
                now.set_configuration(configuration.clone()).unwrap();
            }
            told.on_event(event);
        };
        let (mut driver, handle) = Driver::new(machine, number, Duration::ZERO, writer, links, on_event);
        let info = NodeInfo {
            id,
            addr: addrs[&id].to_string(),
            names: Vec::new(),
            members: members.clone(),
            may_cut: true,
            stale_reads: Default::default(),
            reserve: Default::default(),
            disk: DiskMetrics::default(),
        };
        let api = Api::new(handle.clone(), info, subscribers.clone(), 1, halted.clone());
        let stop = CancellationToken::new();
        tokio::spawn(server::serve(listener, api.clone(), CancellationToken::new()));
        let (ended, over) = (stop.clone(), subscribers.clone());
        tokio::spawn(async move {
            driver.run(ended).await.unwrap();
            over.give_up();
        });
        let started = handle.clone();
        tokio::spawn(async move { started.start().await.unwrap() });
        let dialler = Dialler { id, place: Place::Listening(addrs[&id]), members: members.clone() };
        tokio::spawn(async move {
            let keep_up = |to: NodeId, addr: String, outbox: Arc<Outbox>| {
                let dialler = dialler.clone();
                async move { link::keep_up(&addr, &outbox, || dial(&addr, &dialler, to)).await }
            };
            dialler.members.follow(keep_up).await;
        });
        Self { id, addr: addrs[&id], api, handle, members, halted, subscribers, stop, _dir: dir }
    }

    async fn cluster(size: u64) -> Vec<Self> {
        let mut listeners = Vec::new();
        for _ in 0..size {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let places = listeners.iter().enumerate();
        let addrs = places.map(|(at, l)| (NodeId::numbered(at + 1), l.local_addr().unwrap())).collect();
        let nodes: Vec<_> = listeners.into_iter().zip(1..).map(|(l, number)| Self::start(number, l, &addrs)).collect();
        for node in &nodes {
            node.answers(Method::GET, "/kv", "").await;
        }
        nodes
    }

    async fn ask(&self, method: Method, path: &str, body: &str, name: Option<&str>) -> Option<Response> {
        let mut client = Client::connect(&self.addr.to_string(), "raft-node").await.ok()?;
        let name: Vec<_> = name.map(|name| (IDEMPOTENCY_KEY, name.to_owned())).into_iter().collect();
        client.ask(method, path, Bytes::from(body.to_owned()), &name, PATIENCE).await.ok()
    }

    /// Asks until the answer is 200.
    async fn answers(&self, method: Method, path: &str, body: &str) -> Value {
        let asked = tokio::time::timeout(PATIENCE, async {
            loop {
                match self.ask(method.clone(), path, body, None).await {
                    Some(answer) if answer.status.is_success() => {
                        return serde_json::from_slice(&answer.body).unwrap();
                    }
                    Some(_) | None => tokio::task::yield_now().await,
                }
            }
        });
        asked.await.unwrap_or_else(|_| panic!("{method} {path} at {} has no good answer", self.id))
    }

    /// Hears none of these any more, and all others.
    fn cut(&self, peers: impl IntoIterator<Item = NodeId>) {
        self.members.cut(peers.into_iter().collect());
    }

    /// Takes all memory for answers, or for bodies.
    fn take(&self, memory: Memory) -> Option<OwnedSemaphorePermit> {
        let (bodies, answers) = self.api.0.memory.all();
        let (all, size) = match memory {
            Memory::Answers => (answers, MAX_ANSWER_MEMORY),
            Memory::Bodies => (bodies, MAX_BODY_MEMORY),
        };
        let left = all.available_permits().min(size);
        all.try_acquire_many_owned(left as u32).ok()
    }
}

#[derive(Clone, Copy, Debug)]
enum Memory {
    Answers,
    Bodies,
}

/// What was asked, each with something in it that nothing else has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Set(u64),
    Delete(u64),
    AddMember(u64),
}

/// A deed that was asked once or more often, and what was answered each time.
#[derive(Debug)]
struct Asked {
    method: Method,
    path: String,
    body: String,
    name: Option<String>,
    answers: Vec<Option<Response>>,
}

/// What became of a cluster, from all its nodes.
struct History {
    changes: BTreeMap<u64, Change>,
    members: BTreeSet<NodeId>,
}

impl History {
    fn new() -> Self {
        Self { changes: BTreeMap::new(), members: BTreeSet::new() }
    }

    /// What one node knows now.
    async fn gather(&mut self, node: &Node) {
        let seen = node.handle.inspect(|machine| {
            let changes = machine.changes();
            // A node that was given a snapshot does not know what it replaced; another one does.
            let all: Vec<_> = changes.after(0).into_iter().flatten().cloned().collect();
            (all, machine.raft().configuration().members().keys().copied().collect::<Vec<_>>())
        });
        let Ok((page, members)) = seen.await else { return };
        self.changes.extend(page.into_iter().map(|change| (change.version, change)));
        self.members = members.into_iter().collect();
    }

    fn has(&self, deed: &Deed) -> usize {
        let sets = |number: u64, change: &Change| {
            change.value.as_ref().is_some_and(|value| value.starts_with(format!("{number}:").as_bytes()))
        };
        match deed {
            Deed::Set(number) => self.changes.values().filter(|change| sets(*number, change)).count(),
            Deed::Delete(number) => {
                let key = format!("d{number}");
                self.changes.values().filter(|change| change.key == key.as_bytes() && change.value.is_none()).count()
            }
            Deed::AddMember(number) => usize::from(self.members.contains(&format!("m{number}").parse().unwrap())),
        }
    }
}

/// Says that it is done.
fn is_done(answer: &Response) -> bool {
    answer.status.is_success()
}

/// Says that it is not done, and never will be.
fn is_refused(answer: &Response) -> bool {
    !is_done(answer) && answer.status != StatusCode::GATEWAY_TIMEOUT
}

/// A chaos of requests, refusals and partitions.
struct Chaos {
    nodes: Vec<Node>,
    rng: ChaCha8Rng,
    asked: BTreeMap<Deed, Asked>,
    /// The kinds of answers: status and the beginning of the reason.
    kinds: BTreeSet<String>,
    next: u64,
}

impl Chaos {
    async fn new(seed: u64) -> Self {
        let nodes = Node::cluster(3).await;
        Self { nodes, rng: ChaCha8Rng::seed_from_u64(seed), asked: BTreeMap::new(), kinds: BTreeSet::new(), next: 0 }
    }

    fn below(&mut self, end: usize) -> usize {
        self.rng.next_u32() as usize % end
    }

    /// A request that nobody has made before.
    fn fresh(&mut self) -> (Deed, Asked) {
        let number = self.next;
        self.next += 1;
        let timeout = ["1ms", "20ms", "200ms", "1s"][self.below(4)];
        let name = (self.below(3) == 0).then(|| format!("client-{number}:1"));
        let asked = |method, path: &str, body: Value| {
            let body = if body.is_null() { String::new() } else { body.to_string() };
            Asked { method, path: format!("{path}?timeout={timeout}"), body, name: name.clone(), answers: Vec::new() }
        };
        if number.is_multiple_of(16) {
            let body = json!({ "id": format!("m{number}"), "addr": format!("127.0.0.1:{}", number + 1) });
            return (Deed::AddMember(number), asked(Method::POST, "/members", body));
        }
        if number.is_multiple_of(4) {
            return (Deed::Delete(number), asked(Method::DELETE, &format!("/kv/d{number}"), Value::Null));
        }
        // Some answers are small, some are larger than a small body, some are larger than the request by far.
        let value = format!("{number}:{}", "\u{1}".repeat([1, 5 << 10, 40 << 10][self.below(3)]));
        let mut body = json!({ "key": format!("k{}", self.below(3)), "value": value });
        match self.below(5) {
            0 => body["if_value"] = Value::Null,
            1 => body["if_value"] = json!("what nobody has set"),
            2 => body["value"] = json!("v".repeat(2 << 20)),
            _ => {}
        }
        (Deed::Set(number), asked(Method::POST, "/kv", body))
    }

    /// Makes a few requests at the same time at nodes of chance, some of them again.
    async fn ask_some(&mut self) {
        let mut batch = Vec::new();
        for _ in 0..4 {
            let known: Vec<_> = self.asked.keys().cloned().collect();
            let deed = if !known.is_empty() && self.below(4) == 0 {
                known[self.below(known.len())].clone() // unless it has a name, it may well be done twice
            } else {
                let (deed, asked) = self.fresh();
                if let Deed::Delete(number) = deed {
                    let body = json!({ "key": format!("d{number}"), "value": "x" }).to_string();
                    self.nodes[0].ask(Method::POST, "/kv?timeout=2s", &body, None).await;
                }
                self.asked.insert(deed.clone(), asked);
                deed
            };
            if !batch.iter().any(|(other, _)| *other == deed) {
                batch.push((deed, self.below(self.nodes.len())));
            }
        }
        let ask = batch.iter().map(|(deed, at)| {
            let Asked { method, path, body, name, .. } = &self.asked[deed];
            self.nodes[*at].ask(method.clone(), path, body, name.as_deref())
        });
        let answers = join_all(ask).await;
        for ((deed, _), answer) in batch.into_iter().zip(answers) {
            if let Some(answer) = &answer {
                self.note(answer);
            }
            self.asked.get_mut(&deed).unwrap().answers.push(answer);
        }
    }

    /// Asks for what nobody else asks for; the kind of answer is noted.
    async fn ask_one(&mut self, at: usize, path: &str, body: &str) {
        let answer = self.nodes[at].ask(Method::POST, path, body, None).await.expect("an answer");
        self.note(&answer);
    }

    /// What chance may have missed.
    async fn refuse_for_want_of_memory(&mut self) {
        let set = |value: &str, more: Value| {
            let mut body = json!({ "key": "large", "value": value });
            body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
            body.to_string()
        };
        let number = self.next;
        self.next += 1;
        let large = format!("{number}:{}", "\u{1}".repeat(40 << 10));
        self.nodes[0].answers(Method::GET, "/kv", "").await;
        let answers = self.nodes[0].take(Memory::Answers);
        // Done, and too long for what is left: the answer must not deny it.
        let (method, path, body) = (Method::POST, "/kv?timeout=5s".to_owned(), set(&large, Value::Null));
        let told = vec![self.nodes[0].ask(method.clone(), &path, &body, None).await];
        self.asked.insert(Deed::Set(number), Asked { method, path, body, name: None, answers: told });
        self.ask_one(0, "/kv", &set("other", json!({ "if_value": null }))).await;
        drop(answers);
        self.ask_one(0, "/kv", &set("other", json!({ "if_value": null }))).await;
        let bodies = self.nodes[0].take(Memory::Bodies);
        self.ask_one(0, "/kv", &set(&large, Value::Null)).await;
        drop(bodies);
        self.ask_one(0, "/kv", &set(&"v".repeat(2 << 20), Value::Null)).await;
    }

    fn note(&mut self, answer: &Response) {
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let error = body["error"].as_str().unwrap_or_default();
        let omitted = if body["omitted"] == json!(true) { ", omitted" } else { "" };
        let words: Vec<_> = error.split([' ', ':']).take(2).collect();
        self.kinds.insert(format!("{} {}{omitted}", answer.status.as_u16(), words.join(" ")));
    }

    /// Everything that was said, beside everything that happened.
    fn check(&self, history: &History) {
        for (deed, asked) in &self.asked {
            let Asked { path, name, answers, .. } = asked;
            let (told, times) = (answers.iter().flatten(), history.has(deed));
            let said: Vec<_> = told.clone().map(|answer| String::from_utf8_lossy(&answer.body).into_owned()).collect();
            let said = said.iter().map(|said| said.chars().take(200).collect::<String>()).collect::<Vec<_>>();
            let about = format!(
                "{deed:?} by {} {path} ({name:?}) is {times} times in the history; answers: {said:#?}",
                asked.method
            );
            if told.clone().count() == answers.len() && told.clone().all(is_refused) {
                assert_eq!(times, 0, "refused, and done: {about}");
            }
            let is_deletion_of_nothing = matches!(deed, Deed::Delete(_));
            if told.clone().any(is_done) && !is_deletion_of_nothing {
                assert!(times > 0, "acknowledged, and not done: {about}");
            }
            if name.is_some() || answers.len() == 1 {
                assert!(times <= 1, "done more than once: {about}");
            }
        }
    }
}

/// Waits for all of them, at the same time.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in futures.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(ready) = future.as_mut().poll(context) {
                *output = Some(ready);
            }
        }
        if futures.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn no_answer_says_not_done_of_what_is_in_the_history() {
    const SEED: u64 = 9_002;
    let mut chaos = Chaos::new(SEED).await;
    let ids: Vec<_> = chaos.nodes.iter().map(|node| node.id).collect();
    for _ in 0..30 {
        let mut held = Vec::new();
        for at in 0..3 {
            for memory in [Memory::Answers, Memory::Bodies] {
                if chaos.below(3) == 0 {
                    held.extend(chaos.nodes[at].take(memory));
                }
            }
        }
        let lonely = (chaos.below(4) == 0).then(|| chaos.below(3));
        for (at, node) in chaos.nodes.iter().enumerate() {
            let hears = |other: usize| Some(at) != lonely && Some(other) != lonely;
            node.cut((0..3).filter(|other| *other != at && !hears(*other)).map(|other| ids[other]));
        }
        if chaos.below(6) == 0 {
            let (at, to) = (chaos.below(3), chaos.below(3));
            let body = json!({ "to": ids[to].as_str() }).to_string();
            chaos.nodes[at].ask(Method::POST, "/leader?timeout=200ms", &body, None).await;
        }
        chaos.ask_some().await;
    }
    chaos.nodes.iter().for_each(|node| node.cut([]));

    chaos.refuse_for_want_of_memory().await;

    // A node that has all it can do refuses, too.
    let overloaded = &chaos.nodes[0];
    overloaded.cut([ids[1], ids[2]]);
    wait_until(overloaded, |machine| machine.raft().leader().is_none()).await;
    chaos.ask_one(0, "/kv?timeout=1ms", &json!({ "key": "a", "value": "1" }).to_string()).await;
    let overloaded = &chaos.nodes[0];
    for number in 0..MAX_REQUESTS as u64 {
        let id = RequestId(u64::MAX - number);
        let command = raft_kv::Command { id, ask: Ask::Read(Query::Version), timeout: Duration::from_secs(2) };
        overloaded.handle.request(command).await.unwrap();
    }
    chaos.ask_some().await;
    chaos.ask_some().await;
    chaos.nodes[0].cut([]);

    // So does one whose disk is full, and one that is stopped in the middle of its work.
    chaos.nodes[1].halted.set("no space".to_owned()).unwrap();
    chaos.ask_some().await;
    chaos.ask_some().await;
    let leader = chaos.nodes[2].answers(Method::GET, "/kv", "").await;
    assert!(leader["items"].is_array());
    let (stop, subscribers) = (chaos.nodes[2].stop.clone(), chaos.nodes[2].subscribers.clone());
    let stopping = async {
        tokio::task::yield_now().await;
        stop.cancel();
        subscribers.give_up();
    };
    tokio::join!(chaos.ask_some(), stopping);
    chaos.ask_some().await;

    let mut history = History::new();
    for node in &chaos.nodes[..2] {
        node.answers(Method::GET, "/status", "").await;
    }
    chaos.nodes[0].answers(Method::GET, "/kv", "").await;
    history.gather(&chaos.nodes[1]).await;
    history.gather(&chaos.nodes[0]).await;
    let latest = chaos.nodes[0].handle.inspect(|machine| machine.store().version()).await.unwrap();
    assert_eq!(history.changes.keys().copied().collect::<Vec<_>>(), (1..=latest).collect::<Vec<_>>(), "all is known");
    chaos.check(&history);

    let kinds: Vec<_> = chaos.kinds.iter().map(String::as_str).collect();
    for wanted in [
        "200 ",
        "201 ",
        "412 condition failed",
        "412 condition failed, omitted",
        "413 a value",
        "503 no leader",
        "503 overloaded",
        "503 no space",
        "504 outcome unknown",
    ] {
        assert!(kinds.contains(&wanted), "no {wanted} among {kinds:?}");
    }
}

async fn wait_until(node: &Node, holds: impl Fn(&RaftKv) -> bool + Clone + Send + 'static) {
    let waiting = tokio::time::timeout(PATIENCE, async {
        while !node.handle.inspect(holds.clone()).await.unwrap() {
            tokio::task::yield_now().await;
        }
    });
    waiting.await.expect("it comes about in time");
}
