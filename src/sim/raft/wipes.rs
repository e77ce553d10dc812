//! Clusters whose nodes lose their disks: whether a write that was acknowledged is ever missing while there is one who was
//! there when it was made.
//!
//! The nodes found their cluster by the rules of [`founding`]: what a handshake does over a socket happens here in one moment,
//! with a crash of either side before the answer now and then, and a link stays cut until both have begun and taken each other.
//! One node of the cluster, drawn from the seed, never loses its disk; any of the others may, once that one has begun, and it is
//! down or up meanwhile. A client writes and reads all the time. After that everything heals: every node whose disk is whole has
//! begun by then, and when they are a majority they serve.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::cluster::RECOVERY;
use crate::founding::{self, Introduction, Word};
use crate::kv::command::{Operation, SessionRequest};
use crate::kv::raft_kv::{self, Answer, Ask, Event, Query, RaftKv, RequestError, RequestId};
use crate::node_id::NodeId;
use crate::protocol::Time;
use crate::raft::{self};
use crate::sim::faults::{Faults, draw_within, pick};
use crate::sim::trace::Keep;
use crate::sim::world::{Occurrence, World};

/// How often nodes dial each other, and the client asks.
const TICK: Duration = Duration::from_millis(20);
const FAULTS_FOR: Duration = Duration::from_secs(12);
const CLIENT_TIMEOUT: Duration = Duration::from_millis(500);

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Disks that were lost.
    pub wiped: usize,
    /// Whether too few were left for a majority.
    pub is_lost: bool,
}

/// What a node's disk has beside its log, and what its process has heard.
#[derive(Default)]
struct Directory {
    incarnation: u64,
    has_begun: bool,
    is_wiped: bool,
    met: BTreeMap<NodeId, u64>,
    /// In memory: who vouched, and as whom.
    vouched: BTreeMap<NodeId, u64>,
}

struct Run {
    world: World<RaftKv>,
    rng: ChaCha8Rng,
    nodes: Vec<NodeId>,
    directories: BTreeMap<NodeId, Directory>,
    incarnations: u64,
    requests: u64,
    /// What the client waits for: a key, and whether it is written.
    asked: Option<(RequestId, Bytes, bool)>,
    acknowledged: Vec<Bytes>,
    /// After healing: the nodes that have served a write.
    served: BTreeSet<NodeId>,
    probes: BTreeMap<RequestId, NodeId>,
}

/// Runs one seed.
///
/// # Errors
/// What did not hold.
pub fn run(seed: u64) -> Result<Report, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let nodes: Vec<_> = (1..=if seed.is_multiple_of(3) { 5 } else { 3 }).map(NodeId::numbered).collect();
    let config = raft::Config::new(nodes[0], 0, nodes.iter().copied());
    let spawn = move |id, boot_nonce, records| {
        let config = raft::Config { id, boot_nonce, ..config.clone() };
        RaftKv::recover(config, u64::MAX, records).expect("the configuration and its records are valid")
    };
    let world = World::new(rng.next_u64(), nodes.clone(), Box::new(spawn), Keep::Nothing);
    let mut run = Run {
        world,
        rng,
        directories: BTreeMap::new(),
        nodes,
        incarnations: 0,
        requests: 0,
        asked: None,
        acknowledged: Vec::new(),
        served: BTreeSet::new(),
        probes: BTreeMap::new(),
    };
    run.whole()
}

impl Run {
    fn whole(&mut self) -> Result<Report, String> {
        let nodes = self.nodes.clone();
        for node in &nodes {
            self.empty(*node);
        }
        self.world.set_faults(Faults {
            crash: (self.rng.next_u64() % 4_000) as u32,
            down_for: Duration::from_millis(1)..=Duration::from_secs(2),
            loss: (self.rng.next_u64() % 50_000) as u32,
            ..Faults::none()
        });
        let survivor = pick(&mut self.rng, &nodes);
        let mut wipes = BTreeMap::new();
        // Most are lost at about the same time, which is when it is dangerous.
        let at = draw_within(&mut self.rng, &(FAULTS_FOR / 4..=FAULTS_FOR / 2));
        for node in nodes.iter().filter(|node| **node != survivor) {
            if !self.rng.next_u64().is_multiple_of(3) {
                wipes.insert(*node, at + draw_within(&mut self.rng, &(Duration::ZERO..=Duration::from_secs(1))));
            }
        }
        let goes_down = self.rng.next_u64().is_multiple_of(2);
        let end = Time::ZERO + FAULTS_FOR;
        while self.world.now() < end {
            self.tick()?;
            let now = self.world.now().since_epoch();
            if !self.directories[&survivor].has_begun {
                continue;
            }
            if goes_down && wipes.values().any(|at| *at <= now) {
                self.world.crash(survivor); // until one of its restarts that were scheduled, or healing
            }
            for node in wipes.extract_if(.., |_, at| *at <= now).map(|(node, _)| node).collect::<Vec<_>>() {
                self.world.wipe(node);
                self.empty(node);
                self.directories.get_mut(&node).expect("a node").is_wiped = true;
                self.world.restart(node);
            }
        }
        self.heal()
    }

    fn heal(&mut self) -> Result<Report, String> {
        self.world.heal();
        for node in self.nodes.clone() {
            self.cut_off(node); // healing joins links that were never made
        }
        let end = self.world.now() + RECOVERY;
        while self.world.now() < end {
            self.tick()?;
        }
        let whole: Vec<_> = self.nodes.iter().copied().filter(|node| !self.directories[node].is_wiped).collect();
        if let Some(node) = whole.iter().find(|node| !self.directories[node].has_begun) {
            return Err(format!("{node}, whose disk is whole, has not begun"));
        }
        let is_lost = 2 * whole.len() <= self.nodes.len();
        let end = self.world.now() + RECOVERY;
        while !is_lost && !whole.iter().all(|node| self.served.contains(node)) {
            if self.world.now() >= end {
                return Err(format!("{whole:?} are a majority, and only {:?} have served a write", self.served));
            }
            for node in &whole {
                let (id, key) = (self.next_request(), Bytes::from(format!("probe of {node}")));
                self.probes.insert(id, *node);
                self.ask(*node, id, write(&key));
            }
            self.tick()?;
        }
        let wiped = self.nodes.len() - whole.len();
        Ok(Report { acknowledged: self.acknowledged.len(), wiped, is_lost })
    }

    /// A node has a new, empty directory, and links to nobody.
    fn empty(&mut self, node: NodeId) {
        self.incarnations += 1;
        self.directories.insert(node, Directory { incarnation: self.incarnations, ..Directory::default() });
        self.cut_off(node);
    }

    /// Until the next handshakes.
    fn cut_off(&mut self, node: NodeId) {
        for other in self.nodes.iter().filter(|other| **other != node) {
            self.world.cut(node, *other);
            self.world.cut(*other, node);
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        let until = self.world.now() + TICK;
        while self.world.advance(until) {}
        for occurrence in self.world.take_occurrences() {
            match occurrence {
                Occurrence::Emitted { event: Event::Answered { id, answer }, .. } => self.on_answer(id, &answer)?,
                Occurrence::Crashed { node } => {
                    self.directories.get_mut(&node).expect("a node").vouched.clear();
                    self.asked = None;
                }
                Occurrence::Emitted { .. } | Occurrence::Durable { .. } | Occurrence::Restarted { .. } => {}
            }
        }
        for from in self.nodes.clone() {
            for to in self.nodes.clone() {
                if from != to && self.rng.next_u64().is_multiple_of(4) {
                    self.dial(from, to);
                }
            }
        }
        if self.asked.is_none() {
            self.client_asks();
        }
        Ok(())
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.world.machine(node).is_some()
    }

    fn introduction(&self, of: NodeId, to: NodeId) -> Introduction {
        let directory = &self.directories[&of];
        Introduction {
            incarnation: directory.incarnation,
            has_begun: directory.has_begun,
            knows: directory.met.get(&to).copied(),
        }
    }

    fn dial(&mut self, from: NodeId, to: NodeId) {
        if !self.is_up(from) || !self.is_up(to) {
            return;
        }
        let was_new = !self.directories[&from].has_begun;
        let takes = self.hears(to, from, self.introduction(from, to));
        let answer = self.introduction(to, from);
        let died = match self.rng.next_u64() % 40 {
            0 => Some(from),
            1 => Some(to),
            _ => None,
        };
        if let Some(node) = died.filter(|_| was_new) {
            self.world.crash(node);
            self.world.restart(node);
            return;
        }
        let is_taken = self.hears(from, to, answer);
        if takes && is_taken && !was_new && answer.has_begun {
            self.world.join(from, to);
        } else {
            self.world.cut(from, to);
        }
    }

    /// A node hears what another says of itself. Whether it takes it for the one of that name.
    fn hears(&mut self, node: NodeId, from: NodeId, said: Introduction) -> bool {
        let directory = self.directories.get_mut(&node).expect("a node");
        let takes = founding::takes(directory.has_begun, directory.met.get(&from).copied(), false, &said);
        if takes {
            directory.met.insert(from, said.incarnation);
        }
        match founding::word(directory.incarnation, &said) {
            Word::Vouched => _ = directory.vouched.insert(from, said.incarnation),
            Word::NotYet | Word::HasData => _ = directory.vouched.remove(&from),
        }
        let peers = self.nodes.iter().filter(|peer| **peer != node);
        let words = peers.map(|peer| (directory.met.get(peer).copied(), directory.vouched.get(peer).copied()));
        directory.has_begun = directory.has_begun || founding::may_begin(words);
        takes
    }

    fn client_asks(&mut self) {
        let node = pick(&mut self.rng, &self.nodes);
        let id = self.next_request();
        let is_write = self.acknowledged.is_empty() || self.rng.next_u64().is_multiple_of(2);
        let key =
            if is_write { Bytes::from(format!("k{}", id.0)) } else { pick_one(&mut self.rng, &self.acknowledged) };
        let ask = if is_write { write(&key) } else { Ask::Read(Query::Get { key: key.clone() }) };
        if self.ask(node, id, ask) {
            self.asked = Some((id, key, is_write));
        }
    }

    fn ask(&mut self, node: NodeId, id: RequestId, ask: Ask) -> bool {
        self.world.request(node, raft_kv::Command { id, ask, timeout: CLIENT_TIMEOUT })
    }

    fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn on_answer(&mut self, id: RequestId, answer: &Result<Answer, RequestError>) -> Result<(), String> {
        if let Some(node) = self.probes.remove(&id) {
            if matches!(answer, Ok(Answer::Written(_))) {
                self.served.insert(node);
            }
            return Ok(());
        }
        let Some((_, key, _)) = self.asked.take_if(|(asked, _, _)| *asked == id) else { return Ok(()) };
        match answer {
            Ok(Answer::Written(_)) => self.acknowledged.push(key),
            Ok(Answer::Value(None)) => {
                return Err(format!(
                    "durability: {key:?} was acknowledged, and at {:?} it is not there",
                    self.world.now()
                ));
            }
            _ => {} // it is there, or nobody can tell
        }
        Ok(())
    }
}

fn write(key: &Bytes) -> Ask {
    let set = Operation::Set { key: key.clone(), value: Bytes::from_static(b"kept"), condition: None };
    Ask::Write(SessionRequest::once(set).encode())
}

fn pick_one(rng: &mut ChaCha8Rng, keys: &[Bytes]) -> Bytes {
    keys[(rng.next_u64() % keys.len() as u64) as usize].clone()
}
