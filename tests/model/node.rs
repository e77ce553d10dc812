//! One node of the model: the real machine, a disk with what has not reached it yet, timers without lengths, and an
//! application that keeps what it was told.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use netbelt::node_id::NodeId;
use netbelt::protocol::{Effect, Effects, Input, Protocol, Time};
use netbelt::raft::{
    Change, Command, Config, Event, Message, Raft, Record, Recovered, Recovery, RoleName, Ticket, Timer,
};

use crate::application::{self, Applied};

/// A node, with its fingerprint: nodes are shared between states, so that a step copies and hashes only one.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) raft: Raft,
    /// What the application of this life has applied.
    pub(crate) applied: Vec<Applied>,
    /// What is sent of the application to other nodes, and to this one's disk.
    views: BTreeMap<NodeId, Vec<Applied>>,
    /// Parts of a snapshot that came from a leader.
    received: Vec<Bytes>,
    pub(crate) timers: BTreeSet<Timer>,
    /// What waits for the disk, in order; it begins with a record, or is empty.
    waiting: Vec<Waiting>,
    disk: Disk,
    /// What is said while the disk is busy leaves.
    leaves_meanwhile: bool,
    /// Stands for its configuration, of which its own hash has the name alone.
    config: u64,
    pub(crate) fingerprint: u64,
}

/// What a crash leaves.
#[derive(Clone, Debug)]
struct Disk {
    recovery: Recovery,
    /// The records since a snapshot has begun that is not whole.
    open: Vec<Record>,
    chunks: Vec<Bytes>,
    /// What a restart would recover.
    raft: Raft,
    applied: Vec<Applied>,
}

/// An effect behind the barrier.
#[derive(Clone, Debug, Hash)]
enum Waiting {
    Record(Record),
    Output(Output),
}

/// What leaves a node.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Output {
    Send(NodeId, Message),
    /// The application has been told so much.
    Told(Vec<Applied>),
}

/// What may happen to a node.
#[derive(Clone, Debug, Hash)]
pub(crate) enum NodeEvent {
    Elapsed(Time, Timer),
    Received {
        now: Time,
        from: NodeId,
        message: Message,
    },
    Proposed(u8),
    Changed(Change),
    Transferred(NodeId),
    /// The application begins a snapshot, or ends the one begun.
    Snapshot,
    /// The next record has become durable.
    Synced,
    /// It loses what was not durable, and starts again.
    Crashed,
}

/// A node after something has happened to it, and what leaves it.
pub(crate) type Step = (Arc<Node>, Arc<[Output]>);

thread_local! {
    /// A node is a function: what happened to it once need not be computed again, in whatever state of the others.
    static KNOWN: RefCell<HashMap<(u64, u64), Step>> = RefCell::default();
}

impl Node {
    /// A node that has just started from a disk with these records.
    pub(crate) fn new(config: Config, leaves_meanwhile: bool, records: Vec<Record>) -> Arc<Self> {
        let recovery = Recovery::new(config.initial.clone());
        let settings = fingerprint(&format!("{config:?}"));
        let raft = Raft::recover(config, []).expect("the model's configuration works");
        let disk = Disk { recovery, open: Vec::new(), chunks: Vec::new(), raft: raft.clone(), applied: Vec::new() };
        let waiting = records.into_iter().map(Waiting::Record).collect();
        let mut node = Self {
            raft,
            applied: Vec::new(),
            views: BTreeMap::new(),
            received: Vec::new(),
            timers: BTreeSet::new(),
            waiting,
            disk,
            leaves_meanwhile,
            config: settings,
            fingerprint: 0,
        };
        while !node.waiting.is_empty() {
            node.sync(&mut Vec::new());
        }
        let (node, outputs) = node.compute(NodeEvent::Crashed);
        assert!(outputs.is_empty(), "nobody speaks before its first election timeout");
        node
    }

    /// What a restart would recover.
    pub(crate) const fn durable(&self) -> &Raft {
        &self.disk.raft
    }

    /// Whether something is on its way to the disk.
    pub(crate) const fn is_writing(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether a part of a snapshot has come from a leader.
    pub(crate) const fn is_receiving(&self) -> bool {
        !self.received.is_empty()
    }

    pub(crate) fn leads(&self) -> bool {
        self.raft.role() == RoleName::Leader
    }

    /// Whether its application may begin a snapshot, or has begun one.
    pub(crate) fn may_snapshot(&self) -> bool {
        self.views.contains_key(&self.id()) || self.raft.last_applied() > self.raft.snapshot().index
    }

    fn id(&self) -> NodeId {
        self.raft.config().id
    }

    /// The node after something has happened to it.
    pub(crate) fn after(&self, event: &NodeEvent) -> Step {
        let key = (self.fingerprint, fingerprint(event));
        if let Some(known) = KNOWN.with_borrow(|known| known.get(&key).cloned()) {
            return known;
        }
        let step = self.compute(event.clone());
        KNOWN.with_borrow_mut(|known| known.insert(key, step.clone()));
        step
    }

    fn compute(&self, event: NodeEvent) -> Step {
        let mut node = self.clone();
        let mut outputs = Vec::new();
        let ticket = Ticket(0);
        let requested = |command| (Time::ZERO, Input::Requested(command));
        let (now, input) = match event {
            NodeEvent::Elapsed(now, timer) => {
                node.timers.remove(&timer);
                (now, Input::Elapsed(timer))
            }
            NodeEvent::Received { now, from, message } => (now, Input::Received { from, message }),
            NodeEvent::Proposed(value) => requested(Command::Propose { ticket, command: Bytes::from(vec![value]) }),
            NodeEvent::Changed(change) => requested(Command::Change { ticket, change }),
            NodeEvent::Transferred(to) => requested(Command::Transfer { ticket, to: Some(to) }),
            NodeEvent::Snapshot => {
                node.snapshot(&mut outputs);
                return node.sealed(outputs);
            }
            NodeEvent::Synced => {
                node.sync(&mut outputs);
                return node.sealed(outputs);
            }
            NodeEvent::Crashed => {
                node = Self {
                    raft: self.disk.raft.clone(),
                    applied: self.disk.applied.clone(),
                    views: BTreeMap::new(),
                    received: Vec::new(),
                    timers: BTreeSet::new(),
                    waiting: Vec::new(),
                    disk: self.disk.clone(),
                    leaves_meanwhile: self.leaves_meanwhile,
                    config: self.config,
                    fingerprint: 0,
                };
                (Time::ZERO, Input::Started)
            }
        };
        node.step(now, input, &mut outputs);
        node.sealed(outputs)
    }

    /// Gives it its fingerprint. Of the disk only that counts to which its records fold.
    fn sealed(mut self, outputs: Vec<Output>) -> Step {
        let disk = (self.disk.raft.hard_state(), self.disk.raft.log(), &self.disk.applied, &self.disk.open);
        let application = (&self.applied, &self.views, &self.received);
        self.fingerprint = fingerprint(&(self.config, &self.raft, application, disk, &self.waiting, &self.timers));
        (Arc::new(self), outputs.into())
    }

    fn step(&mut self, now: Time, input: Input<Raft>, outputs: &mut Vec<Output>) {
        let mut inputs = vec![input];
        let mut effects = Effects::new();
        while let Some(input) = inputs.pop() {
            self.raft.step(now, input, &mut effects);
            self.carry_out(&mut effects, outputs, &mut inputs);
            // A timer of zero length runs out once everything queued has been stepped: here, one input at a time.
            if inputs.is_empty() && self.timers.remove(&Timer::Flush) {
                inputs.push(Input::Elapsed(Timer::Flush));
            }
        }
    }

    fn carry_out(&mut self, effects: &mut Effects<Raft>, outputs: &mut Vec<Output>, inputs: &mut Vec<Input<Raft>>) {
        for effect in effects.drain() {
            let output = match effect {
                Effect::Persist(record) => {
                    self.waiting.push(Waiting::Record(record));
                    continue;
                }
                Effect::SetTimer(timer, length) => {
                    assert!(timer != Timer::Flush || *length.end() == Duration::ZERO, "a flush does not wait");
                    self.timers.insert(timer);
                    continue;
                }
                Effect::CancelTimer(timer) => {
                    self.timers.remove(&timer);
                    continue;
                }
                Effect::Meanwhile { to, message } => {
                    if !self.waiting.is_empty() && self.leaves_meanwhile {
                        outputs.push(Output::Send(to, message));
                    }
                    continue;
                }
                Effect::Send { to, message } => Output::Send(to, message),
                Effect::Emit(event) | Effect::EmitAtOnce(event) => {
                    if !self.hear(event, inputs) {
                        continue;
                    }
                    Output::Told(self.applied.clone())
                }
            };
            if self.waiting.is_empty() {
                outputs.push(output);
            } else {
                self.waiting.push(Waiting::Output(output));
            }
        }
    }

    /// The application hears of an event. True when it has applied something.
    fn hear(&mut self, event: Event, inputs: &mut Vec<Input<Raft>>) -> bool {
        match event {
            Event::Committed(entries) => {
                self.applied.extend(entries.iter().map(Applied::of));
                return true;
            }
            Event::ChunkWanted { to, number } => {
                if number == 0 {
                    self.views.insert(to, self.applied.clone());
                }
                let (data, done) = application::part(&self.views[&to], number);
                inputs.push(Input::Requested(Command::OfferChunk { to, number, data, done }));
            }
            Event::ChunksUnwanted { to } => drop(self.views.remove(&to)),
            Event::Chunk { number, data } => {
                if number == 0 {
                    self.received.clear();
                }
                self.received.push(data);
            }
            Event::Restored { .. } => {
                self.applied = application::whole(&std::mem::take(&mut self.received));
                return true;
            }
            Event::Proposed { .. }
            | Event::ReadReady { .. }
            | Event::Dropped { .. }
            | Event::Refused { .. }
            | Event::SteppedDown { .. }
            | Event::ConfigurationChanged(_)
            | Event::RoleChanged { .. } => {}
        }
        false
    }

    /// Begins a snapshot, or ends the one begun; other things may happen in between.
    fn snapshot(&mut self, outputs: &mut Vec<Output>) {
        let id = self.id();
        let commands = match self.views.remove(&id) {
            None => {
                let view = self.applied.clone();
                let first = application::part(&view, 0).0;
                self.views.insert(id, view);
                [Command::BeginSnapshot, Command::SnapshotChunk(first)]
            }
            Some(view) => [Command::SnapshotChunk(application::part(&view, 1).0), Command::EndSnapshot],
        };
        for command in commands {
            self.step(Time::ZERO, Input::Requested(command), outputs);
        }
    }

    fn sync(&mut self, outputs: &mut Vec<Output>) {
        let mut waiting = std::mem::take(&mut self.waiting).into_iter().peekable();
        if let Some(Waiting::Record(record)) = waiting.next() {
            self.disk.write(record, self.raft.config());
        }
        while let Some(Waiting::Output(output)) = waiting.next_if(|next| matches!(next, Waiting::Output(_))) {
            outputs.push(output);
        }
        self.waiting = waiting.collect();
    }
}

impl Disk {
    fn write(&mut self, record: Record, config: &Config) {
        if !self.open.is_empty() {
            self.open.push(record.clone());
        }
        match self.recovery.push(record.clone()) {
            Recovered::Nothing => {}
            Recovered::Begun => {
                self.open = vec![record];
                self.chunks.clear();
            }
            Recovered::Chunk(data) => self.chunks.push(data),
            Recovered::Whole => {
                self.open.clear();
                self.applied = application::whole(&std::mem::take(&mut self.chunks));
            }
        }
        self.raft = Raft::recovered(config.clone(), self.recovery.clone()).expect("the records are a whole log");
    }
}

pub(crate) fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
