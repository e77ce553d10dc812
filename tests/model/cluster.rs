//! A small cluster as a `stateright` model: everything that may happen next, in every state.

use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use netbelt::node_id::NodeId;
use netbelt::protocol::Time;
use netbelt::raft::{
    Body, Change, Config, Configuration, Entry, HardState, Index, Message, Payload, Position, Record, Term, Timer,
};
use stateright::{Model, Property};

use crate::application::Applied;
use crate::node::{Node, NodeEvent, Output, fingerprint};
use crate::properties;

/// Just after everything that was ever heard.
const SOON: Time = Time::ZERO;
/// Long after it.
const LATE: Time = Time::after_epoch(Duration::from_secs(3600));

const ELECTION: RangeInclusive<Duration> = Duration::from_millis(150)..=Duration::from_millis(300);

/// What is explored: a cluster and the bounds of its states. Every state within them is visited.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) name: String,
    /// How many of the nodes vote at the beginning; the others wait to join.
    pub(crate) voters: usize,
    /// Where each node begins: its term, its vote, and the terms of its log.
    pub(crate) nodes: Vec<Beginning>,
    /// Ask for pre-votes first.
    pub(crate) pre_vote: bool,
    /// An append carries one entry at most.
    pub(crate) one_by_one: bool,
    /// Applied entries are forgotten as soon as that may be, without a snapshot.
    pub(crate) forgets: bool,
    /// Appends take along what is committed.
    pub(crate) notes: bool,
    /// What a node says while its disk is busy is heard, and not lost.
    pub(crate) meanwhile: bool,
    /// No term beyond this one.
    pub(crate) terms: u64,
    /// No longer log.
    pub(crate) log: u64,
    /// No more messages on their way at a time.
    pub(crate) in_flight: usize,
    /// No more of these in a run.
    pub(crate) budget: Budget,
}

/// What a node finds on its disk when a run begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beginning {
    pub(crate) term: u64,
    pub(crate) vote: Option<usize>,
    pub(crate) log: Vec<u64>,
}

/// What else would go on for ever.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(crate) struct Budget {
    pub(crate) proposals: u8,
    pub(crate) crashes: u8,
    /// Messages that arrive twice.
    pub(crate) repeats: u8,
    pub(crate) heartbeats: u8,
    pub(crate) snapshots: u8,
    /// Members added or removed.
    pub(crate) changes: u8,
    /// Leaders asked to let another one lead.
    pub(crate) transfers: u8,
    /// Election timeouts; counted only with pre-votes, since others raise the term.
    pub(crate) pre_votes: u8,
}

/// A state of the whole cluster.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) nodes: Vec<Arc<Node>>,
    /// What is on its way, sorted; the same message twice is one that may arrive twice.
    network: Vec<Arc<Envelope>>,
    /// What may still happen.
    pub(crate) left: Budget,
    /// The most that any node ever told, and past the barrier.
    pub(crate) told: Arc<Vec<Applied>>,
    /// Something was told that differs from what was told before.
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
    Snapshot(usize),
    /// The leader is asked to add a node, or to remove it.
    Add(usize, usize),
    Remove(usize, usize),
    Transfer(usize, usize),
    Sync(usize),
    Crash(usize),
    Deliver(usize),
    /// Deliver it, and it will arrive once more.
    Repeat(usize),
    Lose(usize),
}

impl Scope {
    /// So many voters, one term, and nothing that would go on for ever.
    pub(crate) fn of(nodes: usize) -> Self {
        Self {
            name: String::new(),
            voters: nodes,
            nodes: vec![Beginning::default(); nodes],
            pre_vote: false,
            one_by_one: false,
            forgets: false,
            notes: false,
            meanwhile: false,
            terms: 1,
            log: 2,
            in_flight: 2,
            budget: Budget::default(),
        }
    }

    /// Whether leaders of two terms can be there at once.
    pub(crate) fn has_two_leaders(&self) -> bool {
        self.voters > 2 && self.terms > self.nodes.iter().map(|node| node.term).max().unwrap_or(0) + 1
    }

    fn node(&self, number: usize) -> Arc<Node> {
        let voters = if number < self.voters { self.voters } else { 0 };
        let usual = Config::new(name(number), 0, []);
        let config = Config {
            initial: Configuration::of_voters((0..voters).map(name)),
            pre_vote: self.pre_vote,
            election_timeout: ELECTION,
            max_append_bytes: if self.one_by_one { 1 } else { usual.max_append_bytes },
            retained_bytes: 0,
            memory_bytes: if self.forgets { 0 } else { usual.memory_bytes },
            note_commit: if self.notes { Duration::from_millis(1) } else { Duration::ZERO },
            disk_patience: Duration::MAX,
            ..usual
        };
        let Beginning { term, vote, log } = &self.nodes[number];
        let hard_state = HardState { current_term: Term(*term), voted_for: vote.map(name) };
        let entry = |(term, index)| Entry {
            position: Position { term: Term(term), index: Index(index) },
            payload: Payload::Noop,
        };
        let entries = log.iter().copied().zip(1..).map(entry).collect();
        Node::new(config, self.meanwhile, vec![Record::HardState(hard_state), Record::Append(entries)])
    }
}

fn name(number: usize) -> NodeId {
    NodeId::numbered(number + 1)
}

fn number(id: NodeId) -> usize {
    id.as_str()[1..].parse::<usize>().expect("nodes are numbered") - 1
}

impl State {
    /// Lets something happen to a node, and takes what leaves it.
    fn happen(&mut self, node: usize, event: &NodeEvent) {
        let (after, outputs) = self.nodes[node].after(event);
        self.nodes[node] = after;
        for output in outputs.iter() {
            match output {
                Output::Send(to, message) => self.send(Envelope::new(node, number(*to), message.clone())),
                Output::Told(applied) => self.tell(applied),
            }
        }
    }

    fn send(&mut self, envelope: Envelope) {
        if let Err(at) = self.network.binary_search_by_key(&envelope.fingerprint, |e| e.fingerprint) {
            self.network.insert(at, Arc::new(envelope));
        }
    }

    fn deliver(&mut self, envelope: &Envelope) {
        // Whoever hears a leader ignores those who ask for votes, which is as if they were lost: see `main.rs`.
        let now = if matches!(envelope.message.body, Body::RequestVote { .. }) { LATE } else { SOON };
        let from = name(envelope.from);
        self.happen(envelope.to, &NodeEvent::Received { now, from, message: envelope.message.clone() });
    }

    fn tell(&mut self, applied: &[Applied]) {
        let known = applied.len().min(self.told.len());
        self.contradiction |= applied[..known] != self.told[..known];
        if applied.len() > known {
            self.told = Arc::new(applied.to_vec());
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
        let nodes = (0..self.nodes.len()).map(|number| self.node(number)).collect();
        vec![State { nodes, network: Vec::new(), left: self.budget, told: Arc::default(), contradiction: false }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let Budget { proposals, crashes, repeats, heartbeats, snapshots, changes, transfers, pre_votes } = state.left;
        for (number, node) in state.nodes.iter().enumerate() {
            if node.timers.contains(&Timer::Election) && (pre_votes > 0 || !self.pre_vote) {
                actions.push(Action::Timeout(number));
            }
            if node.timers.contains(&Timer::Heartbeat) {
                actions.push(Action::Lonely(number));
                actions.extend((heartbeats > 0).then_some(Action::Heartbeat(number)));
            }
            if node.leads() {
                actions.extend((proposals > 0).then_some(Action::Propose(number)));
                for other in 0..state.nodes.len() {
                    let is_member = node.raft.configuration().contains(name(other));
                    let change = if is_member { Action::Remove(number, other) } else { Action::Add(number, other) };
                    actions.extend((changes > 0).then_some(change));
                    actions.extend((transfers > 0 && other != number).then_some(Action::Transfer(number, other)));
                }
            }
            if snapshots > 0 && node.may_snapshot() {
                actions.push(Action::Snapshot(number));
            }
            if node.is_writing() {
                actions.push(Action::Sync(number));
            }
            if crashes > 0 {
                actions.push(Action::Crash(number));
            }
        }
        for place in 0..state.network.len() {
            actions.extend([Action::Deliver(place), Action::Lose(place)]);
            actions.extend((repeats > 0).then_some(Action::Repeat(place)));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Timeout(number) => {
                next.left.pre_votes -= u8::from(self.pre_vote);
                next.happen(number, &NodeEvent::Elapsed(SOON, Timer::Election));
            }
            Action::Heartbeat(number) => {
                next.left.heartbeats -= 1;
                next.happen(number, &NodeEvent::Elapsed(SOON, Timer::Heartbeat));
            }
            Action::Lonely(number) => next.happen(number, &NodeEvent::Elapsed(LATE, Timer::Heartbeat)),
            Action::Propose(number) => {
                next.left.proposals -= 1;
                next.happen(number, &NodeEvent::Proposed(next.left.proposals));
            }
            Action::Snapshot(number) => {
                next.left.snapshots -= 1;
                next.happen(number, &NodeEvent::Snapshot);
            }
            Action::Add(number, node) => {
                next.left.changes -= 1;
                next.happen(number, &NodeEvent::Changed(Change::Add { node: name(node), addr: String::new() }));
            }
            Action::Remove(number, node) => {
                next.left.changes -= 1;
                next.happen(number, &NodeEvent::Changed(Change::Remove { node: name(node) }));
            }
            Action::Transfer(number, to) => {
                next.left.transfers -= 1;
                next.happen(number, &NodeEvent::Transferred(name(to)));
            }
            Action::Sync(number) => next.happen(number, &NodeEvent::Synced),
            Action::Crash(number) => {
                next.left.crashes -= 1;
                next.happen(number, &NodeEvent::Crashed);
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
        // What changes nothing need not use up a budget.
        let nodes = |state: &State| state.nodes.iter().map(|node| node.fingerprint).collect::<Vec<_>>();
        let messages = |state: &State| state.network.iter().map(|envelope| envelope.fingerprint).collect::<Vec<_>>();
        let same = nodes(&next) == nodes(state) && messages(&next) == messages(state);
        (!same).then_some(next)
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.network.len() <= self.in_flight
            && state.nodes.iter().all(|node| {
                node.raft.hard_state().current_term.0 <= self.terms && node.raft.log().last().index.0 <= self.log
            })
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
            let (id, role, term) = (raft.config().id, raft.role().as_str(), raft.hard_state().current_term);
            writeln!(f, "{id} {role} {term:?} commit {:?} {:?}", raft.commit_index(), raft.log())?;
        }
        for envelope in &self.network {
            writeln!(f, "  {} -> {} {:?}", name(envelope.from), name(envelope.to), envelope.message)?;
        }
        writeln!(f, "  told {:?}", self.told)
    }
}
