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
//! | exactly-once | the same: a write with a session that is sent again and again is one operation |
//! | liveness | after healing, every node serves a write within [`RECOVERY`] |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::checker::Checker;
use super::kv_model::{KvOperation, without_unseen_writes};
use super::operator::{self, Operator};
use super::script::said;
use crate::kv::command::{Condition, Operation, Outcome, SessionId, SessionRequest};
use crate::kv::raft_kv::{self, Answer, Ask, Event, Query, RaftKv, RequestError, RequestId};
use crate::node_id::NodeId;
use crate::protocol::Time;
use crate::raft::progress::Window;
use crate::raft::{self, RoleName, invariants};
use crate::sim::faults::{Faults, Kind, Tally, draw_within};
use crate::sim::history::{self, Span, Verdict};
use crate::sim::trace::{Keep, Moment};
use crate::sim::world::{News, World};

/// Ten times the longest election timeout: how soon a healed cluster must serve everybody.
pub const RECOVERY: Duration = Duration::from_secs(3);

/// Steps in a second of virtual time, for each node. A busy one takes less than a fifth; beyond it, messages breed messages.
const MOST_STEPS: u64 = 20_000;

const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that a client with a session waits before it asks another node: shorter than many elections.
const SESSION_TIMEOUT: Duration = Duration::from_millis(400);
const KEYS: u64 = 3;
/// Every few dozen writes.
const SNAPSHOT_EVERY: u64 = 2000;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// How many clients, each with one request at a time.
    pub clients: usize,
    /// How long faults last, in virtual time.
    pub faults_for: Duration,
    /// Which kinds of faults.
    pub faults: Vec<Kind>,
    /// How long a sync takes on each node's disk, in their turn; fast disks when there is none.
    pub disks: Vec<RangeInclusive<Duration>>,
    /// How much of the run is kept.
    pub keep: Keep,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            nodes: 5,
            clients: 4,
            faults_for: Duration::from_secs(30),
            faults: Kind::ALL.to_vec(),
            disks: Vec::new(),
            keep: Keep::Hash,
        }
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// How often which faults happened.
    pub faults: Tally,
    /// How long after healing every node had served a write.
    pub recovery: Duration,
    /// The hash of the trace, if it was kept.
    pub trace_hash: u64,
    /// The trace, if it was kept.
    pub trace: Vec<Moment>,
    /// Requests that were answered with a result, and requests whose outcome stayed open.
    pub answered: usize,
    /// Requests whose outcome stayed open.
    pub open: usize,
    /// Writes that were answered after they had been sent again.
    pub retried: usize,
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
    pub trace: Vec<Moment>,
}

/// What a seed decides before anything happens.
#[derive(Clone, Debug)]
pub struct Draws {
    /// Whether elections are tried out first. What it prevents must be safe without it; the same goes for the next.
    pub pre_vote: bool,
    /// Whether leaders without a majority step down, and nobody votes while he hears a leader.
    pub check_quorum: bool,
    /// In some runs it has little spread: elections are mostly contested.
    pub election_timeout: RangeInclusive<Duration>,
    /// The rates of faults.
    pub faults: Faults,
    /// Clients whose writes are remembered, if there are more of them: then a name is forgotten while a write is tried again
    /// under it.
    pub remembered: Option<usize>,
    world: u64,
}

impl Draws {
    /// Those of a seed.
    pub fn new(seed: u64, plan: &Plan) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let latest = Duration::from_millis(if rng.next_u64().is_multiple_of(3) { 165 } else { 300 });
        let pre_vote = !rng.next_u64().is_multiple_of(4);
        let check_quorum = !rng.next_u64().is_multiple_of(4);
        let world = rng.next_u64();
        let faults = Faults::draw(&mut rng).only(&plan.faults);
        let remembered = rng.next_u64().is_multiple_of(4).then_some(2);
        let election_timeout = Duration::from_millis(150)..=latest;
        Self { pre_vote, check_quorum, election_timeout, faults, remembered, world }
    }
}

impl fmt::Display for Draws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |on| if on { "on" } else { "off" };
        let (pre_vote, check_quorum, timeout) = (on(self.pre_vote), on(self.check_quorum), &self.election_timeout);
        let faults = &self.faults;
        write!(f, "pre-vote {pre_vote}, check-quorum {check_quorum}, election timeout {timeout:?}, {faults}")?;
        self.remembered.map_or(Ok(()), |clients| write!(f, ", {clients} clients remembered"))
    }
}

/// Runs one seed.
///
/// # Errors
/// The first property that did not hold.
pub fn run(seed: u64, plan: &Plan) -> Result<Report, Violation> {
    let mut cluster = Cluster::new(&Draws::new(seed, plan), plan);
    // A machine asserts what must hold for itself alone, and the run must outlive that to tell it.
    let run = catch_unwind(AssertUnwindSafe(|| cluster.run(plan)));
    let run = run.unwrap_or_else(|panic| Err(format!("a node's own assertion failed: {}", said(&*panic))));
    run.map_err(|what| Violation { what, trace: cluster.world.take_moments() })
}

struct Cluster {
    world: World<RaftKv>,
    faults: Faults,
    checker: Checker,
    clients: Vec<Client>,
    operator: Operator,
    next_request: u64,
    /// Each client's request in hand.
    asked: BTreeMap<RequestId, Asked>,
    /// A write for each node that must be served after healing.
    probes: BTreeMap<RequestId, NodeId>,
    history: BTreeMap<Bytes, Vec<Span<KvOperation>>>,
    /// What was last read of a key, for compare-and-set.
    last_read: BTreeMap<Bytes, Option<Bytes>>,
    retried: usize,
}

/// A client asks, waits for the answer, rests a little, and asks again.
struct Client {
    next_at: Time,
    busy: Option<RequestId>,
    /// What it will ask again, of any node: the outcome is unknown, and it has a session.
    again: Option<Asked>,
    /// The names it has had: the last of them is that of its session.
    names: Vec<String>,
}

impl Client {
    fn new(number: usize) -> Self {
        Self { next_at: Time::ZERO, busy: None, again: None, names: vec![format!("c{number}")] }
    }
}

struct Asked {
    client: usize,
    node: NodeId,
    key: Bytes,
    called: u64,
    session: Option<SessionId>,
    /// How often it was asked before.
    tries: u64,
    operation: KvOperation,
}

impl Cluster {
    fn new(draws: &Draws, plan: &Plan) -> Self {
        let peers: Vec<_> = (1..=plan.nodes).map(NodeId::numbered).collect();
        let config = raft::Config {
            batch_delay: Duration::from_millis(1), // as the real driver has it
            note_commit: Duration::from_millis(20),
            election_timeout: draws.election_timeout.clone(),
            // Small limits, so that the little that happens here reaches them.
            max_append_bytes: 400,
            window: Window { appends: 4, bytes: 1000 },
            retained_bytes: 200,
            memory_bytes: 2000,
            apply_batch: 5,
            pre_vote: draws.pre_vote,
            check_quorum: draws.check_quorum,
            ..raft::Config::new(peers[0], 0, peers.iter().copied())
        };
        let remembered = draws.remembered;
        let boot = move |id, life, records| {
            let mut config = raft::Config { id, boot_nonce: life, ..config.clone() };
            if !config.initial.contains(id) {
                config.initial = raft::Configuration::default(); // it came later
            }
            let node = RaftKv::recover(config, SNAPSHOT_EVERY, records);
            let node = node.expect("the configuration and its records are valid");
            if let Some(clients) = remembered { node.remembering(clients) } else { node }
        };
        let mut world = World::new(draws.world, peers.clone(), Box::new(boot), plan.keep);
        for (peer, sync) in peers.into_iter().zip(plan.disks.iter().cycle()) {
            world.set_disk(peer, sync.clone());
        }
        Self {
            world,
            faults: draws.faults.clone(),
            checker: Checker::default(),
            clients: (0..plan.clients).map(Client::new).collect(),
            operator: Operator::new(plan.nodes, draws.faults.members),
            next_request: 0,
            asked: BTreeMap::new(),
            probes: BTreeMap::new(),
            history: BTreeMap::new(),
            last_read: BTreeMap::new(),
            retried: 0,
        }
    }

    fn run(&mut self, plan: &Plan) -> Result<Report, String> {
        self.world.set_faults(self.faults.clone());
        self.run_until(Time::ZERO + plan.faults_for, |_| false)?;

        self.world.heal();
        let healed = self.world.now();
        self.abandon_clients();
        self.operator.rest();
        self.probe_every_node();
        self.recover(healed + RECOVERY)?;
        self.check_agreement()?;
        self.check_history()?;
        Ok(Report {
            faults: self.world.tally().clone(),
            recovery: self.world.now().since(healed),
            trace_hash: self.world.trace().hash(),
            trace: self.world.take_moments(),
            answered: self.history.values().flatten().filter(|span| span.returned.is_some()).count(),
            open: self.history.values().flatten().filter(|span| span.returned.is_none()).count(),
            retried: self.retried,
            leaders: self.checker.leaders.len(),
            committed: self.checker.committed.len() as u64,
            virtual_time: self.world.now().since_epoch(),
        })
    }

    /// Until every member has served a write. Nodes that are no members, of which nobody told the operator in the
    /// turmoil, are switched off as soon as that is certain.
    fn recover(&mut self, end: Time) -> Result<(), String> {
        while !self.run_until(end.min(self.world.now() + Duration::from_millis(50)), |c| c.probes.is_empty())? {
            for node in operator::outsiders(&self.world) {
                self.world.retire(node);
            }
            let peers = self.world.peers();
            self.probes.retain(|_, probed| peers.contains(probed));
            if self.world.now() >= end {
                let waiting: BTreeSet<_> = self.probes.values().collect();
                return Err(format!("liveness: {RECOVERY:?} after healing, {waiting:?} have not served a write"));
            }
        }
        Ok(())
    }

    /// Lets time pass until `end`, or until `enough`; checks after everything that happens. True when `enough`.
    fn run_until(&mut self, end: Time, enough: impl Fn(&Self) -> bool) -> Result<bool, String> {
        loop {
            let next_client = self.clients.iter().filter(|c| c.busy.is_none()).map(|c| c.next_at).min();
            let limit = next_client.into_iter().chain(self.operator.next_at()).fold(end, Time::min);
            let steps = self.world.steps_this_second();
            if steps > MOST_STEPS * self.world.peers().len() as u64 {
                return Err(format!(
                    "livelock: {steps} steps in one second of virtual time, at {:?}",
                    self.world.now()
                ));
            }
            if !self.world.advance(limit) {
                if self.world.now() >= end {
                    return Ok(enough(self));
                }
                self.clients_ask();
                self.operator.ask(&mut self.world, &mut self.next_request);
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
            News::Emitted { node, event: Event::Changed { through } } => {
                let latest = self.world.machine(node).map(|machine| machine.changes().latest());
                match latest {
                    Some(latest) if latest < through => Err(format!("{node} announced {through}, and has {latest}")),
                    Some(_) | None => Ok(()),
                }
            }
            News::Emitted { node: _, event: Event::MembersChanged(_) } => Ok(()),
            News::Emitted { node, event: Event::SnapshotRefused { from, why } } => {
                Err(format!("{node} refuses the snapshot of {from}: {why}"))
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
                    self.outcome_unknown(id);
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
            let node = crate::sim::faults::pick(rng, &peers);
            if let Some(asked) = self.clients[client].again.take() {
                self.ask(Asked { node, tries: asked.tries + 1, ..asked });
                continue;
            }
            let key = Bytes::from(format!("k{}", rng.next_u64() % KEYS));
            let value = Bytes::from(format!("v{}", self.next_request)); // unique
            let has_session = rng.next_u64().is_multiple_of(2);
            let operation = match rng.next_u64() % 10 {
                0..4 => KvOperation::Write(Operation::Set { key: key.clone(), value, condition: None }, None),
                4 => KvOperation::Write(Operation::Delete { key: key.clone(), condition: None }, None),
                5 => {
                    let condition = Some(Condition::Absent);
                    KvOperation::Write(Operation::Set { key: key.clone(), value, condition }, None)
                }
                6 => {
                    let seen = self.last_read.get(&key).cloned().unwrap_or_default();
                    let condition = Some(seen.map_or(Condition::Absent, Condition::Value));
                    KvOperation::Write(Operation::Set { key: key.clone(), value, condition }, None)
                }
                _ => KvOperation::Get(None),
            };
            let session = (has_session && matches!(operation, KvOperation::Write(..)))
                .then(|| SessionId { client: self.name_of(client), sequence: self.next_request });
            let called = now.since_epoch().as_micros() as u64;
            self.ask(Asked { client, node, key, called, session, tries: 0, operation });
        }
    }

    fn name_of(&self, client: usize) -> Bytes {
        self.clients[client].names.last().expect("it has one").clone().into()
    }

    /// The cluster has forgotten the name of a client, which takes another one: every other says since when.
    fn rename(&mut self, client: usize) {
        let number = self.clients[client].names.len();
        let version = self.world.machines().map(|machine| machine.store().version()).next().unwrap_or_default();
        let since = if number.is_multiple_of(2) { String::new() } else { format!(";since={version}") };
        self.clients[client].names.push(format!("c{client}-{number}{since}"));
    }

    fn ask(&mut self, asked: Asked) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let ask = match &asked.operation {
            KvOperation::Write(command, _) => {
                Ask::Write(SessionRequest { session: asked.session.clone(), command: command.clone() }.encode())
            }
            KvOperation::Get(_) => Ask::Read(Query::Get { key: asked.key.clone() }),
        };
        let timeout = match asked.session {
            Some(_) => draw_within(self.world.rng(), &(Duration::from_millis(1)..=SESSION_TIMEOUT)),
            None => CLIENT_TIMEOUT,
        };
        let taken = self.world.request(asked.node, raft_kv::Command { id, ask, timeout });
        let client = &mut self.clients[asked.client];
        if taken {
            client.busy = Some(id);
            self.asked.insert(id, asked);
        } else if asked.tries > 0 {
            client.again = Some(asked); // the node is down
        }
    }

    /// A client with a session asks another node; one without can only give up.
    fn outcome_unknown(&mut self, id: RequestId) {
        match self.asked.get(&id) {
            Some(asked) if asked.session.is_some() => {
                let asked = self.asked.remove(&id).expect("it was there");
                let client = &mut self.clients[asked.client];
                (client.busy, client.again) = (None, Some(asked));
            }
            Some(_) | None => self.finish(id, None),
        }
    }

    fn on_answer(&mut self, node: NodeId, id: RequestId, answer: Result<Answer, RequestError>) -> Result<(), String> {
        if self.operator.on_answer(id, &answer, &mut self.world) {
            return Ok(());
        }
        if self.probes.contains_key(&id) {
            if matches!(answer, Ok(Answer::Written(_))) {
                self.probes.remove(&id);
            } else {
                self.probe(node); // as a client would: the healed cluster may still have been electing
                self.probes.remove(&id);
            }
            return Ok(());
        }
        let Some(asked) = self.asked.get(&id) else { return Ok(()) };
        let result = match (&asked.operation, answer) {
            (KvOperation::Write(..), Ok(Answer::Written(outcome @ (Outcome::Forgotten | Outcome::NameTaken)))) => {
                return Err(format!("exactly-once: {id:?} was answered {outcome:?}"));
            }
            (KvOperation::Write(..), Ok(Answer::Written(Outcome::NameForgotten))) => {
                let (client, is_sure) = (asked.client, asked.tries == 0);
                self.rename(client);
                if is_sure {
                    self.asked.remove(&id); // its number is fresh: it was not done, and leaves no mark on the history
                    self.clients[client].busy = None;
                } else {
                    self.finish(id, None);
                }
                return Ok(());
            }
            (KvOperation::Write(command, _), Ok(Answer::Written(outcome))) => {
                Some(KvOperation::Write(command.clone(), Some(outcome)))
            }
            (KvOperation::Get(_), Ok(Answer::Value(value))) => Some(KvOperation::Get(Some(value.map(|v| v.value)))),
            (KvOperation::Write(..), Err(RequestError::OutcomeUnknown)) => {
                self.outcome_unknown(id);
                return Ok(());
            }
            (KvOperation::Write(..), Err(RequestError::NoLeader | RequestError::Overloaded)) if asked.tries > 0 => {
                self.outcome_unknown(id); // nothing was done this time
                return Ok(());
            }
            // Certainly not done: it leaves no mark on the history.
            (_, Err(RequestError::NoLeader | RequestError::TooLate | RequestError::Overloaded)) => {
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
        self.retried += usize::from(asked.tries > 0 && seen.is_some());
        self.record(asked, seen);
    }

    fn record(&mut self, asked: Asked, seen: Option<KvOperation>) {
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
        for asked in std::mem::take(&mut self.clients).into_iter().filter_map(|client| client.again) {
            self.record(asked, None);
        }
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
            Operation::Set { key: Bytes::from("probe"), value: Bytes::from(format!("{node}")), condition: None };
        self.probes.insert(id, node);
        let ask = Ask::Write(SessionRequest::once(command).encode());
        self.world.request(node, raft_kv::Command { id, ask, timeout: CLIENT_TIMEOUT });
    }

    /// The whole logs and stores, at the end: the checks that look at everything.
    fn check_agreement(&self) -> Result<(), String> {
        for a in self.world.machines() {
            for b in self.world.machines() {
                if a.raft().last_applied() == b.raft().last_applied() && a.state() != b.state() {
                    return Err(format!("the states of {} and {} differ", a.raft().config().id, b.raft().config().id));
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
