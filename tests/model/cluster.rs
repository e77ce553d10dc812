//! A small cluster as a `stateright` model: everything that may happen next, in every state.

use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use netbelt::protocol::Time;
use netbelt::raft::{Body, Config, Entry, Message, NodeId, RoleName, Timer};
use stateright::{Model, Property};

use crate::node::{Happening, Node, Output, fingerprint};
use crate::properties;

/// Just after everything that was ever heard.
const SOON: Time = Time::ZERO;
/// Long after it.
const LATE: Time = Time::after_epoch(Duration::from_secs(3600));

/// What is explored: a cluster and the bounds of its states. Every state within them is visited.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) nodes: usize,
    /// Ask for pre-votes first.
    pub(crate) pre_vote: bool,
    /// No term beyond this one.
    pub(crate) terms: u64,
    /// No longer log.
    pub(crate) log: usize,
    /// No more messages on their way at a time.
    pub(crate) in_flight: usize,
    /// No more of these in a run.
    pub(crate) budget: Budget,
}

/// What else would go on for ever.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Budget {
    pub(crate) proposals: u8,
    pub(crate) crashes: u8,
    /// Messages that arrive twice.
    pub(crate) repeats: u8,
    pub(crate) heartbeats: u8,
}

/// A state of the whole cluster.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) nodes: Vec<Arc<Node>>,
    /// What is on its way, sorted; the same message twice is one that may arrive twice.
    network: Vec<Arc<Envelope>>,
    /// What may still happen.
    pub(crate) left: Budget,
    /// What any node ever told its application to be committed.
    pub(crate) told: Arc<Vec<Entry>>,
    /// An entry was told that differs from one told before.
    pub(crate) contradiction: bool,
}

#[derive(Clone, Debug)]
struct Envelope {
    from: usize,
    to: usize,
    message: Message,
    fingerprint: u64,
}

/// What may happen. Nodes are counted from zero, messages by their place in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Timeout(usize),
    Heartbeat(usize),
    /// A heartbeat of a leader that has heard from nobody for long.
    Lonely(usize),
    Propose(usize),
    Sync(usize),
    Crash(usize),
    Deliver(usize),
    /// Deliver it, and it will arrive once more.
    Repeat(usize),
    Lose(usize),
}

impl Scope {
    fn config(&self, number: usize) -> Config {
        let members = (0..self.nodes).map(name);
        Config { pre_vote: self.pre_vote, election_timeout: ELECTION, ..Config::new(name(number), 0, members) }
    }
}

const ELECTION: RangeInclusive<Duration> = Duration::from_millis(150)..=Duration::from_millis(300);

fn name(number: usize) -> NodeId {
    NodeId::numbered(number + 1)
}

impl State {
    fn number(&self, id: NodeId) -> usize {
        self.nodes.iter().position(|node| node.raft.config().id == id).expect("a node of this cluster")
    }

    /// Lets something happen to a node, and takes what leaves it.
    fn happen(&mut self, number: usize, happening: &Happening) {
        let (node, outputs) = self.nodes[number].after(happening);
        self.nodes[number] = node;
        for output in outputs.iter() {
            match output {
                Output::Send(to, message) => {
                    let envelope = Envelope::new(number, self.number(*to), message.clone());
                    if let Err(at) = self.network.binary_search_by_key(&envelope.fingerprint, |e| e.fingerprint) {
                        self.network.insert(at, Arc::new(envelope));
                    }
                }
                Output::Told(entries) => entries.iter().for_each(|entry| self.tell(entry)),
            }
        }
    }

    fn deliver(&mut self, envelope: &Envelope) {
        // Whoever hears a leader ignores those who ask for votes, which is as if they were lost: see `main.rs`.
        let now = if matches!(envelope.message.body, Body::RequestVote { .. }) { LATE } else { SOON };
        let from = name(envelope.from);
        self.happen(envelope.to, &Happening::Received { now, from, message: envelope.message.clone() });
    }

    fn tell(&mut self, entry: &Entry) {
        match self.told.get(entry.position.index.prev().0 as usize) {
            Some(before) => self.contradiction |= before != entry,
            None => Arc::make_mut(&mut self.told).push(entry.clone()),
        }
    }
}

impl Envelope {
    fn new(from: usize, to: usize, message: Message) -> Self {
        let fingerprint = fingerprint(&(from, to, &message));
        Self { from, to, message, fingerprint }
    }
}

impl Model for Scope {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let (nodes, outputs): (_, Vec<_>) = (0..self.nodes).map(|number| Node::new(self.config(number))).unzip();
        assert!(outputs.iter().all(|outputs| outputs.is_empty()), "nobody speaks before its first election timeout");
        vec![State { nodes, network: Vec::new(), left: self.budget, told: Arc::default(), contradiction: false }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (number, node) in state.nodes.iter().enumerate() {
            if node.timers.contains(&Timer::Election) {
                actions.push(Action::Timeout(number));
            }
            if node.timers.contains(&Timer::Heartbeat) {
                actions.push(Action::Lonely(number));
                if state.left.heartbeats > 0 {
                    actions.push(Action::Heartbeat(number));
                }
            }
            if node.raft.role() == RoleName::Leader && state.left.proposals > 0 {
                actions.push(Action::Propose(number));
            }
            if node.is_writing() {
                actions.push(Action::Sync(number));
            }
            if state.left.crashes > 0 {
                actions.push(Action::Crash(number));
            }
        }
        for place in 0..state.network.len() {
            actions.push(Action::Deliver(place));
            actions.push(Action::Lose(place));
            if state.left.repeats > 0 {
                actions.push(Action::Repeat(place));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Timeout(number) => next.happen(number, &Happening::Elapsed(SOON, Timer::Election)),
            Action::Heartbeat(number) => {
                next.left.heartbeats -= 1;
                next.happen(number, &Happening::Elapsed(SOON, Timer::Heartbeat));
            }
            Action::Lonely(number) => next.happen(number, &Happening::Elapsed(LATE, Timer::Heartbeat)),
            Action::Propose(number) => {
                next.left.proposals -= 1;
                next.happen(number, &Happening::Proposed(next.left.proposals));
            }
            Action::Sync(number) => next.happen(number, &Happening::Synced),
            Action::Crash(number) => {
                next.left.crashes -= 1;
                next.happen(number, &Happening::Crashed);
            }
            Action::Deliver(place) => {
                let envelope = next.network.remove(place);
                next.deliver(&envelope);
            }
            Action::Repeat(place) => {
                next.left.repeats -= 1;
                next.deliver(&state.network[place]);
            }
            Action::Lose(place) => {
                next.network.remove(place);
            }
        }
        Some(next)
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.network.len() <= self.in_flight
            && state
                .nodes
                .iter()
                .all(|node| node.raft.hard_state().current_term.0 <= self.terms && node.raft.log().len() <= self.log)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::of(self)
    }
}

/// Only what decides what can happen next.
impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for node in &self.nodes {
            hasher.write_u64(node.fingerprint);
        }
        for envelope in &self.network {
            hasher.write_u64(envelope.fingerprint);
        }
        (self.left, &self.told, self.contradiction).hash(hasher);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        fingerprint(self) == fingerprint(other)
    }
}

impl Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            let raft = &node.raft;
            let (role, term) = (raft.role().as_str(), raft.hard_state().current_term);
            writeln!(f, "{} {role} {term:?} commit {:?} {:?}", raft.config().id, raft.commit_index(), raft.log())?;
        }
        for envelope in &self.network {
            writeln!(f, "  {} -> {} {:?}", name(envelope.from), name(envelope.to), envelope.message)?;
        }
        writeln!(f, "  told {:?}", self.told)
    }
}
