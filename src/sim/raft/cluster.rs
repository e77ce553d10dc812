//! A simulated Raft key-value cluster with clients, checked all the time.
//!
//! | property | how |
//! |---|---|
//! | election safety | one leader a term, over the whole run |
//! | log matching | an entry's position names its payload and its predecessor, over everything ever made durable |
//! | leader completeness | a new leader has every entry committed so far |
//! | state-machine safety | all nodes commit the same entry at an index, over the whole run |
//! | durability | nothing committed changes; leader completeness after crashes |
//! | linearizability | the clients' history, a key at a time ([`history`](crate::sim::history)) |
//! | exactly-once | the same: a write with a session that is sent again and again is one operation |
//! | liveness | after healing, every node serves a write within [`RECOVERY`] |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{AddAssign, RangeInclusive};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use serde::Serialize;

use super::checker::Checker;
use super::clients::{CLIENT_TIMEOUT, Clients};
use super::operator::{self, MEMBERS, Operator};
use crate::kv::command::{Operation, SessionRequest};
use crate::kv::raft_kv::{self, Answer, Ask, Event, RaftKv, RequestError, RequestId};
use crate::node_id::NodeId;
use crate::protocol::Time;
use crate::raft::progress::Window;
use crate::raft::{self, RoleName, invariants};
use crate::sim::faults::{Kind, TICK, draw_rate, percent};
use crate::sim::scenario::{Draws, Plan, Scenario};
use crate::sim::world::{Occurrence, Spawn, World};

/// Ten times the longest election timeout: how soon a healed cluster must serve everybody.
pub const RECOVERY: Duration = Duration::from_secs(3);

const CLIENTS: usize = 4;
/// Every few dozen writes.
const SNAPSHOT_EVERY: u64 = 2000;
/// How often a healed cluster is looked at for nodes that are no members.
const TIDY: Duration = Duration::from_millis(50);

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Figures {
    /// Terms that had a leader.
    pub leaders: usize,
    /// Entries committed.
    pub committed: u64,
    /// Requests that were answered with a result.
    pub answered: usize,
    /// Requests whose outcome stayed open.
    pub open: usize,
    /// Writes that were answered after they had been sent again.
    #[serde(skip)]
    pub retried: usize,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.leaders += other.leaders;
        self.committed += other.committed;
        self.answered += other.answered;
        self.open += other.open;
        self.retried += other.retried;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { leaders, committed, answered, open, .. } = self;
        write!(f, "{leaders} leaders, {committed} entries committed, {answered} requests answered, {open} open")
    }
}

/// The scenario, as its seed has decided it.
pub struct Cluster {
    peers: Vec<NodeId>,
    draws: Draws,
    /// Whether elections are tried out first. What it prevents must be safe without it; the same goes for the next.
    pre_vote: bool,
    /// Whether leaders without a majority step down, and nobody votes while he hears a leader.
    check_quorum: bool,
    /// In some runs it has little spread: elections are mostly contested.
    election_timeout: RangeInclusive<Duration>,
    /// How often the operator asks for another member, for one less, for another leader, or for a snapshot.
    members: u32,
    /// Clients whose writes are remembered, if there are more of them: then a name is forgotten while a write is tried again
    /// under it.
    remembered: Option<usize>,
    checker: Checker,
    clients: Clients,
    operator: Operator,
    next_request: u64,
    /// A write for each node that must be served after healing.
    probes: BTreeMap<RequestId, NodeId>,
    /// After healing: when nodes that are no members are switched off next.
    tidy_at: Option<Time>,
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |on| if on { "on" } else { "off" };
        let (pre_vote, check_quorum, timeout) = (on(self.pre_vote), on(self.check_quorum), &self.election_timeout);
        let (faults, members, tick) = (&self.draws.faults, percent(self.members), TICK.as_millis());
        write!(
            f,
            "pre-vote {pre_vote}, check-quorum {check_quorum}, election timeout {timeout:?}, {faults}, changes of members \
             {members:.2} %; cuts, crashes, pauses, changes are drawn every {tick} ms"
        )?;
        self.remembered.map_or(Ok(()), |clients| write!(f, ", {clients} clients remembered"))
    }
}

impl Scenario for Cluster {
    type Machine = RaftKv;
    type Figures = Figures;

    const OWN_FAULTS: &'static [Kind] = &[MEMBERS];
    const RECOVERY: Duration = RECOVERY;
    const RECOVERED: &'static str = "served";

    fn draw(rng: &mut ChaCha8Rng, plan: &Plan) -> Self {
        let latest = Duration::from_millis(if rng.next_u64().is_multiple_of(3) { 165 } else { 300 });
        let pre_vote = !rng.next_u64().is_multiple_of(4);
        let check_quorum = !rng.next_u64().is_multiple_of(4);
        let draws = Draws::new(rng, plan);
        let changes = draw_rate(rng, 20_000);
        let members = if plan.has(MEMBERS) { changes } else { 0 };
        Self {
            peers: (1..=plan.nodes).map(NodeId::numbered).collect(),
            draws,
            pre_vote,
            check_quorum,
            election_timeout: Duration::from_millis(150)..=latest,
            members,
            remembered: rng.next_u64().is_multiple_of(4).then_some(2),
            checker: Checker::default(),
            clients: Clients::new(CLIENTS),
            operator: Operator::new(plan.nodes, members),
            next_request: 0,
            probes: BTreeMap::new(),
            tidy_at: None,
        }
    }

    fn draws(&self) -> &Draws {
        &self.draws
    }

    fn peers(&self) -> Vec<NodeId> {
        self.peers.clone()
    }

    fn spawn(&self) -> Spawn<RaftKv> {
        let config = raft::Config {
            batch_delay: Duration::from_millis(1), // as the real driver has it
            note_commit: Duration::from_millis(20),
            election_timeout: self.election_timeout.clone(),
            // Small limits, so that the little that happens here reaches them.
            max_append_bytes: 400,
            window: Window { appends: 4, bytes: 1000 },
            retained_bytes: 200,
            memory_bytes: 2000,
            apply_batch: 5,
            pre_vote: self.pre_vote,
            check_quorum: self.check_quorum,
            ..raft::Config::new(self.peers[0], 0, self.peers.iter().copied())
        };
        let remembered = self.remembered;
        Box::new(move |id, boot_nonce, records| {
            let mut config = raft::Config { id, boot_nonce, ..config.clone() };
            if !config.initial.contains(id) {
                config.initial = raft::Configuration::default(); // it came later
            }
            let node = RaftKv::recover(config, SNAPSHOT_EVERY, records);
            let node = node.expect("the configuration and its records are valid");
            if let Some(clients) = remembered { node.remembering(clients) } else { node }
        })
    }

    fn next_at(&self) -> Option<Time> {
        [self.clients.next_at(), self.operator.next_at(), self.tidy_at].into_iter().flatten().min()
    }

    fn act(&mut self, world: &mut World<RaftKv>) {
        self.clients.ask(world, &mut self.next_request);
        self.operator.ask(world, &mut self.next_request);
        if self.tidy_at.is_some_and(|at| at <= world.now()) {
            self.tidy(world);
        }
    }

    fn on_occurrence(&mut self, world: &mut World<RaftKv>, occurrence: Occurrence<RaftKv>) -> Result<(), String> {
        match occurrence {
            Occurrence::Emitted { node, event: Event::Answered { id, answer } } => {
                self.check_commit(world, node)?;
                self.on_answer(world, node, id, answer)
            }
            Occurrence::Emitted { node, event: Event::Changed { through } } => {
                let latest = world.machine(node).map(|machine| machine.changes().latest());
                match latest {
                    Some(latest) if latest < through => Err(format!("{node} announced {through}, and has {latest}")),
                    Some(_) | None => Ok(()),
                }
            }
            Occurrence::Emitted { node: _, event: Event::MembersChanged(_) } => Ok(()),
            Occurrence::Emitted { node, event: Event::SnapshotRefused { from, why } } => {
                Err(format!("{node} refuses the snapshot of {from}: {why}"))
            }
            Occurrence::Emitted { node, event: Event::RoleChanged { role, term, .. } } => {
                if role == RoleName::Leader {
                    // By the time it is told, the machine may have stepped down again.
                    self.checker.on_leader(node, term, world.machine(node).map(RaftKv::raft))?;
                }
                invariants::election_safety(world.machines().map(RaftKv::raft))
            }
            Occurrence::Durable { node, records } => {
                self.checker.on_durable(node, &records)?;
                self.check_commit(world, node)
            }
            Occurrence::Crashed { node } => {
                self.clients.on_crash(world, node);
                self.checker.on_restart(node);
                Ok(())
            }
            Occurrence::Restarted { node } => {
                self.checker.on_restart(node);
                Ok(())
            }
        }
    }

    fn on_healed(&mut self, world: &mut World<RaftKv>) {
        self.clients.abandon(world);
        self.operator.rest();
        self.tidy_at = Some(world.now() + TIDY);
        for node in world.peers().to_vec() {
            self.probe(world, node);
        }
    }

    fn has_recovered(&self, _: &World<RaftKv>) -> bool {
        self.probes.is_empty()
    }

    fn missing(&self, _: &World<RaftKv>) -> String {
        let waiting: BTreeSet<_> = self.probes.values().collect();
        format!("{waiting:?} have not served a write")
    }

    /// The whole logs and stores: the checks that look at everything.
    fn check_end(&self, world: &World<RaftKv>) -> Result<(), String> {
        for a in world.machines() {
            for b in world.machines() {
                if a.raft().last_applied() == b.raft().last_applied() && a.state() != b.state() {
                    return Err(format!("the states of {} and {} differ", a.raft().config().id, b.raft().config().id));
                }
            }
        }
        let nodes: Vec<_> = world.machines().map(RaftKv::raft).collect();
        for a in &nodes {
            for b in &nodes {
                invariants::log_matching(a, b)?;
                invariants::committed_agree(a, b)?;
                invariants::leader_completeness(a, b)?;
            }
        }
        self.clients.check_history()
    }

    fn figures(&self) -> Figures {
        let (answered, open) = self.clients.answered_and_open();
        Figures {
            leaders: self.checker.leaders.len(),
            committed: self.checker.committed.len() as u64,
            answered,
            open,
            retried: self.clients.retried(),
        }
    }
}

impl Cluster {
    /// Nodes that are no members, of which nobody told the operator in the turmoil, are switched off as soon as that is
    /// certain.
    fn tidy(&mut self, world: &mut World<RaftKv>) {
        for node in operator::outsiders(world) {
            world.retire(node);
        }
        let peers = world.peers();
        self.probes.retain(|_, probed| peers.contains(probed));
        self.tidy_at = Some(world.now() + TIDY);
    }

    /// What a node has committed is what every other one has. Before its disk is done, a leader counts on itself too soon.
    fn check_commit(&mut self, world: &World<RaftKv>, node: NodeId) -> Result<(), String> {
        world.settled_machine(node).map_or(Ok(()), |machine| self.checker.on_commit(node, machine.raft()))
    }

    fn on_answer(
        &mut self,
        world: &mut World<RaftKv>,
        node: NodeId,
        id: RequestId,
        answer: Result<Answer, RequestError>,
    ) -> Result<(), String> {
        if self.operator.on_answer(id, &answer, world) {
            return Ok(());
        }
        if self.probes.remove(&id).is_some() {
            if !matches!(answer, Ok(Answer::Written(_))) {
                self.probe(world, node); // as a client would: the healed cluster may still have been electing
            }
            return Ok(());
        }
        self.clients.on_answer(world, id, answer)
    }

    fn probe(&mut self, world: &mut World<RaftKv>, node: NodeId) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let set = Operation::Set { key: Bytes::from("probe"), value: Bytes::from(format!("{node}")), condition: None };
        self.probes.insert(id, node);
        let ask = Ask::Write(SessionRequest::once(set).encode());
        world.request(node, raft_kv::Command { id, ask, timeout: CLIENT_TIMEOUT });
    }
}
