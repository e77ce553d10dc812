//! A simulated Raft key-value cluster with clients, checked all the time.
//!
//! A run has two phases: faults drawn from the seed, then healing, after which the cluster must work again. What
//! is checked:
//!
//! | property | how |
//! |---|---|
//! | election safety | one leader a term, over the whole run |
//! | log matching | an entry's position names its payload and its predecessor, over everything ever made durable |
//! | leader completeness | a new leader has every entry committed so far |
//! | state-machine safety | all nodes commit the same entry at an index, over the whole run |
//! | durability | nothing committed changes; leader completeness after crashes |
//! | linearizability | the clients' history, a key at a time ([`history`]) |
//! | liveness | after healing, every node serves a write within [`RECOVERY`] |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::faults::Faults;
use super::history::{self, Operation, Span, Verdict};
use super::world::{News, World};
use crate::kv::command::{Command, Condition, Outcome};
use crate::kv::raft_kv::{self, Answer, Ask, Event, Query, RaftKv, RequestId};
use crate::protocol::Time;
use crate::raft::progress::Window;
use crate::raft::{self, Entry, Index, NodeId, Position, Raft, Record, RoleName, Term, invariants};

/// Ten times the longest election timeout: how soon a healed cluster must serve everybody.
pub const RECOVERY: Duration = Duration::from_secs(3);

const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
const KEYS: u64 = 3;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// How many clients, each with one request at a time.
    pub clients: usize,
    /// How long faults last, in virtual time.
    pub faults_for: Duration,
    /// Keep the trace as text.
    pub keep_trace: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { nodes: 5, clients: 4, faults_for: Duration::from_secs(30), keep_trace: false }
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// The faults that were drawn.
    pub faults: Faults,
    /// The hash of the trace.
    pub trace_hash: u64,
    /// The trace, if it was kept.
    pub trace: Vec<String>,
    /// Requests that were answered with a result, and requests whose outcome stayed open.
    pub answered: usize,
    /// Requests whose outcome stayed open.
    pub open: usize,
    /// Terms that had a leader.
    pub leaders: usize,
    /// Entries committed.
    pub committed: u64,
    /// Virtual time that passed.
    pub virtual_time: Duration,
}

/// A property that did not hold.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Violation {
    /// Which one, and where.
    pub what: String,
    /// The trace up to there, if it was kept.
    pub trace: Vec<String>,
}

/// Runs one seed.
///
/// # Errors
/// The first property that did not hold.
pub fn run(seed: u64, plan: &Plan) -> Result<Report, Violation> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut cluster = Cluster::new(&mut rng, plan);
    cluster.faults = Faults::draw(&mut rng);
    let run = cluster.run(plan);
    run.map_err(|what| Violation { what, trace: cluster.world.trace().lines().to_vec() })
}

struct Cluster {
    world: World<RaftKv>,
    faults: Faults,
    checker: Checker,
    clients: Vec<Client>,
    next_request: u64,
    /// Each client's request in hand.
    asked: BTreeMap<RequestId, Asked>,
    /// A write for each node that must be served after healing.
    probes: BTreeMap<RequestId, NodeId>,
    history: BTreeMap<Bytes, Vec<Span<KvOperation>>>,
    /// What was last read of a key, for compare-and-set.
    last_read: BTreeMap<Bytes, Option<Bytes>>,
}

/// A client asks, waits for the answer, rests a little, and asks again.
struct Client {
    next_at: Time,
    busy: Option<RequestId>,
}

struct Asked {
    client: usize,
    node: NodeId,
    key: Bytes,
    called: u64,
    operation: KvOperation,
}

impl Cluster {
    /// Pre-vote and check-quorum are off in some runs: what they prevent must be safe without them. In some, elections
    /// are mostly contested.
    fn new(rng: &mut ChaCha8Rng, plan: &Plan) -> Self {
        let peers: Vec<_> = (1..=plan.nodes).map(NodeId::numbered).collect();
        let latest = Duration::from_millis(if rng.next_u64().is_multiple_of(3) { 165 } else { 300 });
        let config = raft::Config {
            gather: Duration::from_millis(1), // as the real driver has it
            election_timeout: Duration::from_millis(150)..=latest,
            // Small limits, so that the little that happens here reaches them.
            max_append_bytes: 400,
            window: Window { appends: 4, bytes: 1000 },
            retained_bytes: 200,
            apply_batch: 5,
            pre_vote: !rng.next_u64().is_multiple_of(4),
            check_quorum: !rng.next_u64().is_multiple_of(4),
            ..raft::Config::new(peers[0], 0, peers.iter().copied())
        };
        let boot = move |id, life, records| {
            let config = raft::Config { id, life, ..config.clone() };
            RaftKv::new(Raft::recover(config, records).expect("the configuration is valid"))
        };
        Self {
            world: World::new(rng.next_u64(), peers, Box::new(boot), plan.keep_trace),
            faults: Faults::none(),
            checker: Checker::default(),
            clients: (0..plan.clients).map(|_| Client { next_at: Time::ZERO, busy: None }).collect(),
            next_request: 0,
            asked: BTreeMap::new(),
            probes: BTreeMap::new(),
            history: BTreeMap::new(),
            last_read: BTreeMap::new(),
        }
    }

    fn run(&mut self, plan: &Plan) -> Result<Report, String> {
        self.world.set_faults(self.faults.clone());
        self.run_until(Time::ZERO + plan.faults_for, |_| false)?;

        self.world.heal();
        let healed = self.world.now();
        self.abandon_clients();
        self.probe_every_node();
        let recovered = self.run_until(healed + RECOVERY, |cluster| cluster.probes.is_empty())?;
        if !recovered {
            return Err(format!(
                "liveness: {RECOVERY:?} after healing, {:?} have not served a write",
                self.probes.values()
            ));
        }
        self.check_agreement()?;
        self.check_history()?;
        Ok(Report {
            faults: self.faults.clone(),
            trace_hash: self.world.trace().hash(),
            trace: self.world.trace().lines().to_vec(),
            answered: self.history.values().flatten().filter(|span| span.returned.is_some()).count(),
            open: self.history.values().flatten().filter(|span| span.returned.is_none()).count(),
            leaders: self.checker.leaders.len(),
            committed: self.checker.committed.len() as u64,
            virtual_time: self.world.now().since_epoch(),
        })
    }

    /// Lets time pass until `end`, or until `enough`; checks after everything that happens. True when `enough`.
    fn run_until(&mut self, end: Time, enough: impl Fn(&Self) -> bool) -> Result<bool, String> {
        loop {
            let next_client = self.clients.iter().filter(|c| c.busy.is_none()).map(|c| c.next_at).min();
            let limit = next_client.unwrap_or(end).min(end);
            if !self.world.advance(limit) {
                if self.world.now() >= end {
                    return Ok(enough(self));
                }
                self.clients_ask();
            }
            for news in self.world.take_news() {
                self.on_news(news)?;
            }
            if enough(self) {
                return Ok(true);
            }
        }
    }

    fn on_news(&mut self, news: News<RaftKv>) -> Result<(), String> {
        match news {
            News::Emitted { node, event: Event::Answered { id, answer } } => {
                self.check_commit(node)?;
                self.on_answer(node, id, answer)
            }
            News::Emitted { node, event: Event::RoleChanged { role, term, .. } } => {
                if role == RoleName::Leader {
                    // By the time it is told, the machine may have stepped down again.
                    let raft = self.world.machine(node).map(RaftKv::raft);
                    self.checker.on_leader(node, term, raft)?;
                }
                invariants::election_safety(self.world.machines().map(RaftKv::raft))
            }
            News::Durable { node, records } => {
                self.checker.on_durable(node, &records)?;
                self.check_commit(node)
            }
            News::Crashed { node } => {
                let lost: Vec<_> = self.asked.iter().filter(|(_, a)| a.node == node).map(|(id, _)| *id).collect();
                for id in lost {
                    self.finish(id, None);
                }
                self.checker.on_restart(node);
                Ok(())
            }
            News::Restarted { node } => {
                self.checker.on_restart(node);
                Ok(())
            }
        }
    }

    /// What a node has committed is what every other one has. Before its disk is done, a leader counts on itself too soon.
    fn check_commit(&mut self, node: NodeId) -> Result<(), String> {
        self.world.settled_machine(node).map_or(Ok(()), |machine| self.checker.on_commit(node, machine.raft()))
    }

    fn clients_ask(&mut self) {
        let now = self.world.now();
        for client in 0..self.clients.len() {
            if self.clients[client].busy.is_some() || self.clients[client].next_at > now {
                continue;
            }
            self.clients[client].next_at = now + Duration::from_micros(self.world.rng().next_u64() % 100_000);
            let peers = self.world.peers().to_vec();
            let rng = self.world.rng();
            let node = super::faults::pick(rng, &peers);
            let key = Bytes::from(format!("k{}", rng.next_u64() % KEYS));
            let id = RequestId(self.next_request);
            self.next_request += 1;
            let value = Bytes::from(format!("v{}", id.0));
            let operation = match rng.next_u64() % 10 {
                0..4 => KvOperation::Write(Command::Set { key: key.clone(), value, condition: None }, None),
                4 => KvOperation::Write(Command::Delete { key: key.clone(), condition: None }, None),
                5 => {
                    let condition = Some(Condition::Absent);
                    KvOperation::Write(Command::Set { key: key.clone(), value, condition }, None)
                }
                6 => {
                    let seen = self.last_read.get(&key).cloned().unwrap_or_default();
                    let condition = Some(seen.map_or(Condition::Absent, Condition::Value));
                    KvOperation::Write(Command::Set { key: key.clone(), value, condition }, None)
                }
                _ => KvOperation::Get(None),
            };
            let ask = match &operation {
                KvOperation::Write(command, _) => Ask::Write(command.encode()),
                KvOperation::Get(_) => Ask::Read(Query::Get { key: key.clone() }),
            };
            if self.world.request(node, raft_kv::Command { id, ask, timeout: CLIENT_TIMEOUT }) {
                let called = now.since_epoch().as_micros() as u64;
                self.asked.insert(id, Asked { client, node, key, called, operation });
                self.clients[client].busy = Some(id);
            }
        }
    }

    fn on_answer(&mut self, node: NodeId, id: RequestId, answer: Answer) -> Result<(), String> {
        if self.probes.contains_key(&id) {
            if matches!(answer, Answer::Written(_)) {
                self.probes.remove(&id);
            } else {
                self.probe(node); // as a client would: the healed cluster may still have been electing
                self.probes.remove(&id);
            }
            return Ok(());
        }
        let Some(asked) = self.asked.get(&id) else { return Ok(()) };
        let result = match (&asked.operation, answer) {
            (KvOperation::Write(command, _), Answer::Written(outcome)) => {
                Some(KvOperation::Write(command.clone(), Some(outcome)))
            }
            (KvOperation::Get(_), Answer::Value(value)) => Some(KvOperation::Get(Some(value.map(|v| v.value)))),
            (KvOperation::Write(..), Answer::OutcomeUnknown) => None,
            // Certainly not done: it leaves no mark on the history.
            (_, Answer::NoLeader | Answer::Overloaded) => {
                let asked = self.asked.remove(&id).expect("it was there");
                self.clients[asked.client].busy = None;
                return Ok(());
            }
            (operation, answer) => return Err(format!("{id:?} asked {operation:?} and was answered {answer:?}")),
        };
        self.finish(id, result);
        Ok(())
    }

    /// Puts a request into the history, with what the client saw of it.
    fn finish(&mut self, id: RequestId, seen: Option<KvOperation>) {
        let Some(asked) = self.asked.remove(&id) else { return };
        self.clients[asked.client].busy = None;
        if let Some(KvOperation::Get(Some(value))) = &seen {
            self.last_read.insert(asked.key.clone(), value.clone());
        }
        let returned = seen.is_some().then(|| self.world.now().since_epoch().as_micros() as u64);
        let operation = seen.unwrap_or(asked.operation);
        if matches!(operation, KvOperation::Get(None)) {
            return; // a read without an answer says nothing
        }
        self.history.entry(asked.key).or_default().push(Span { called: asked.called, returned, operation });
    }

    /// Clients stop asking; what they wait for stays open.
    fn abandon_clients(&mut self) {
        for id in self.asked.keys().copied().collect::<Vec<_>>() {
            self.finish(id, None);
        }
        self.clients.clear();
    }

    fn probe_every_node(&mut self) {
        for node in self.world.peers().to_vec() {
            self.probe(node);
        }
    }

    fn probe(&mut self, node: NodeId) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let command =
            Command::Set { key: Bytes::from("probe"), value: Bytes::from(format!("{node}")), condition: None };
        self.probes.insert(id, node);
        self.world.request(node, raft_kv::Command { id, ask: Ask::Write(command.encode()), timeout: CLIENT_TIMEOUT });
    }

    /// The whole logs and stores, at the end: the checks that look at everything.
    fn check_agreement(&self) -> Result<(), String> {
        for a in self.world.machines() {
            for b in self.world.machines() {
                if a.raft().last_applied() == b.raft().last_applied() && a.store() != b.store() {
                    return Err(format!("the stores of {} and {} differ", a.raft().config().id, b.raft().config().id));
                }
            }
        }
        let nodes: Vec<_> = self.world.machines().map(RaftKv::raft).collect();
        for a in &nodes {
            for b in &nodes {
                invariants::log_matching(a, b)?;
                invariants::committed_agree(a, b)?;
                invariants::leader_completeness(a, b)?;
            }
        }
        Ok(())
    }

    fn check_history(&self) -> Result<(), String> {
        for (key, spans) in &self.history {
            match history::check(&without_unseen_writes(spans), None, 30_000) {
                Verdict::Linearizable => {}
                Verdict::Violation => {
                    let mut lines: Vec<_> = spans
                        .iter()
                        .map(|s| format!("{:>10} {:>10?} {:?}", s.called, s.returned.unwrap_or(u64::MAX), s.operation))
                        .collect();
                    lines.sort();
                    return Err(format!("linearizability: no order explains {key:?}:\n{}", lines.join("\n")));
                }
                Verdict::Undecided => return Err(format!("linearizability: {key:?} is undecided")),
            }
        }
        Ok(())
    }
}

/// What a client asked about one key, and what it was told.
#[derive(Clone, Debug)]
enum KvOperation {
    Write(Command, Option<Outcome>),
    Get(Option<Option<Bytes>>),
}

/// Whether the condition of a write holds in `state`.
fn holds(command: &Command, state: &Option<Bytes>) -> bool {
    let (Command::Set { condition, .. } | Command::Delete { condition, .. }) = command;
    match condition {
        None => true,
        Some(Condition::Absent) => state.is_none(),
        Some(Condition::Value(value)) => state.as_ref() == Some(value),
        Some(Condition::Version(_)) => unreachable!("clients here do not use versions"),
    }
}

/// What a write that was answered tells of the state it found.
#[derive(PartialEq, Eq)]
enum Observed {
    /// Its condition did not hold in this state.
    Refused(Option<Bytes>),
    /// It took effect.
    Done,
}

fn observed(seen: &Option<Outcome>) -> Option<Observed> {
    Some(match seen.as_ref()? {
        Outcome::ConditionFailed { current } => {
            Observed::Refused(current.as_ref().map(|current| current.value.clone()))
        }
        Outcome::Set { .. } | Outcome::Deleted { .. } => Observed::Done,
    })
}

/// The history without the writes that got no answer and whose value nobody ever saw. An order that explains the
/// rest exists with them if and only if it exists without: nothing but an overwriting operation can come between
/// such a write and the next overwriting one. It saves the search from trying them at every place.
fn without_unseen_writes(spans: &[Span<KvOperation>]) -> Vec<Span<KvOperation>> {
    let mut seen = BTreeSet::new();
    for span in spans {
        match &span.operation {
            KvOperation::Get(value) => seen.extend(value.clone().flatten()),
            KvOperation::Write(command, outcome) => {
                if let Some(Observed::Refused(current)) = observed(outcome) {
                    seen.extend(current);
                }
                // A compare-and-set sees the value it expects.
                if let Command::Set { condition: Some(Condition::Value(expected)), .. } = command {
                    seen.insert(expected.clone());
                }
            }
        }
    }
    let matters = |span: &&Span<KvOperation>| match &span.operation {
        KvOperation::Write(Command::Set { value, .. }, None) => seen.contains(value),
        KvOperation::Write(..) | KvOperation::Get(_) => true,
    };
    spans.iter().filter(matters).cloned().collect()
}

/// The state of one key is its value. Values are unique, so versions would add nothing.
impl Operation<Option<Bytes>> for KvOperation {
    fn apply(&self, state: &Option<Bytes>) -> Option<Option<Bytes>> {
        match self {
            Self::Get(seen) => (seen.as_ref().is_none_or(|seen| seen == state)).then(|| state.clone()),
            Self::Write(command, seen) => {
                let (after, fits) = match (command, holds(command, state)) {
                    (_, false) => (state.clone(), observed(seen).is_none_or(|v| v == Observed::Refused(state.clone()))),
                    (Command::Set { value, .. }, true) => {
                        (Some(value.clone()), matches!(seen, None | Some(Outcome::Set { .. })))
                    }
                    // Whether it existed is left out: see `without_unseen_writes`.
                    (Command::Delete { .. }, true) => (None, matches!(seen, None | Some(Outcome::Deleted { .. }))),
                };
                fits.then_some(after)
            }
        }
    }
}

/// Remembers a whole run, so that each new fact is checked against everything that ever was.
#[derive(Default)]
struct Checker {
    leaders: BTreeMap<Term, NodeId>,
    /// Each entry that was ever durable anywhere, with the position before it.
    entries: BTreeMap<Position, (Entry, Position)>,
    /// Each node's durable log, as positions.
    logs: BTreeMap<NodeId, Vec<Position>>,
    committed: Vec<Entry>,
    /// For each committed entry, a term in which it was committed at the latest.
    committed_by: Vec<Term>,
    /// How far each node's commit index has been compared with `committed` in its present life.
    compared: BTreeMap<NodeId, Index>,
}

impl Checker {
    fn on_leader(&mut self, node: NodeId, term: Term, raft: Option<&Raft>) -> Result<(), String> {
        let first = *self.leaders.entry(term).or_insert(node);
        if first != node {
            return Err(format!("election safety: {first} and {node} were both elected in {term:?}"));
        }
        let Some(raft) = raft.filter(|raft| raft.hard_state().current_term == term) else { return Ok(()) };
        // What was committed in an earlier term; a leader that hears of its election late may have been overtaken.
        match self.committed_by.iter().rposition(|by| *by < term).map(|place| &self.committed[place]) {
            Some(entry) if !raft.log().contains(entry.position) => {
                Err(format!("leader completeness: {node} leads {term:?} without {:?}", entry.position))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn on_durable(&mut self, node: NodeId, records: &[Record]) -> Result<(), String> {
        let log = self.logs.entry(node).or_default();
        for record in records {
            let Record::Append(entries) = record else { continue };
            for entry in entries {
                log.truncate(entry.position.index.prev().0 as usize);
                let before = log.last().copied().unwrap_or(Position::ORIGIN);
                log.push(entry.position);
                let (known, known_before) = self.entries.entry(entry.position).or_insert((entry.clone(), before));
                if known != entry || *known_before != before {
                    return Err(format!(
                        "log matching: {node} has {entry:?} after {before:?}, not {known:?} after {known_before:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn on_commit(&mut self, node: NodeId, raft: &Raft) -> Result<(), String> {
        let from = self.compared.entry(node).or_default();
        for entry in raft.log().between(*from, raft.commit_index()) {
            let place = entry.position.index.prev().0 as usize;
            match self.committed.get(place) {
                Some(known) if *known != entry => {
                    return Err(format!("state-machine safety: {node} committed {entry:?}, another node {known:?}"));
                }
                Some(_) => {}
                None => {
                    self.committed.push(entry);
                    self.committed_by.push(raft.hard_state().current_term);
                }
            }
        }
        *from = raft.commit_index();
        Ok(())
    }

    fn on_restart(&mut self, node: NodeId) {
        self.compared.remove(&node);
    }
}
