//! One node of the model: the real machine, a disk with what has not reached it yet, and timers without lengths.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use netbelt::protocol::{Effect, Effects, Input, Protocol, Time};
use netbelt::raft::{Command, Config, Entry, Event, Message, NodeId, Raft, Record, Ticket, Timer};

/// A node, with its fingerprint: nodes are shared between states, so that a step copies and hashes only one.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) raft: Raft,
    /// What a restart would recover: the fold over every record that is durable.
    pub(crate) durable: Raft,
    /// The durable records.
    disk: Vec<Record>,
    /// What waits for the disk, in order; it begins with a record, or is empty.
    waiting: Vec<Waiting>,
    pub(crate) timers: BTreeSet<Timer>,
    pub(crate) fingerprint: u64,
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
    /// These entries are committed.
    Told(Vec<Entry>),
}

/// What may happen to a node.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Happening {
    Elapsed(Time, Timer),
    Received {
        now: Time,
        from: NodeId,
        message: Message,
    },
    Proposed(u8),
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
    /// A node that has just started from an empty disk.
    pub(crate) fn new(config: Config) -> Step {
        let raft = Raft::recover(config, []).expect("the model's configuration works");
        let durable = raft.clone();
        let node =
            Self { raft, durable, disk: Vec::new(), waiting: Vec::new(), timers: BTreeSet::new(), fingerprint: 0 };
        node.compute(Happening::Crashed)
    }

    /// The node after something has happened to it.
    pub(crate) fn after(&self, happening: &Happening) -> Step {
        let key = (self.fingerprint, fingerprint(happening));
        if let Some(known) = KNOWN.with_borrow(|known| known.get(&key).cloned()) {
            return known;
        }
        let step = self.compute(happening.clone());
        KNOWN.with_borrow_mut(|known| known.insert(key, step.clone()));
        step
    }

    fn compute(&self, happening: Happening) -> Step {
        let mut node = self.clone();
        let mut outputs = Vec::new();
        match happening {
            Happening::Elapsed(now, timer) => {
                node.timers.remove(&timer);
                node.step(now, Input::Elapsed(timer), &mut outputs);
            }
            Happening::Received { now, from, message } => {
                node.step(now, Input::Received { from, message }, &mut outputs);
            }
            Happening::Proposed(value) => {
                let propose = Command::Propose { ticket: Ticket(0), command: Bytes::from(vec![value]) };
                node.step(Time::ZERO, Input::Requested(propose), &mut outputs);
            }
            Happening::Synced => node.sync(&mut outputs),
            Happening::Crashed => {
                node.raft = self.durable.clone();
                node.waiting.clear();
                node.timers.clear();
                node.step(Time::ZERO, Input::Started, &mut outputs);
            }
        }
        // The records themselves do not count, only what they fold to.
        let durable = (node.durable.hard_state(), node.durable.log());
        node.fingerprint = fingerprint(&(&node.raft, durable, &node.waiting, &node.timers));
        (Arc::new(node), outputs.into())
    }

    /// Whether something is on its way to the disk.
    pub(crate) fn is_writing(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn step(&mut self, now: Time, input: Input<Raft>, outputs: &mut Vec<Output>) {
        let mut effects = Effects::new();
        self.raft.step(now, input, &mut effects);
        self.carry_out(&mut effects, outputs);
        // A timer of zero length runs out once everything queued has been stepped: here, one input at a time.
        while self.timers.remove(&Timer::Flush) {
            self.raft.step(now, Input::Elapsed(Timer::Flush), &mut effects);
            self.carry_out(&mut effects, outputs);
        }
    }

    fn carry_out(&mut self, effects: &mut Effects<Raft>, outputs: &mut Vec<Output>) {
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
                Effect::Send { to, message } => Output::Send(to, message),
                Effect::Emit(Event::Committed(entries)) => Output::Told(entries),
                Effect::Emit(
                    Event::Proposed { .. }
                    | Event::ReadReady { .. }
                    | Event::Dropped { .. }
                    | Event::RoleChanged { .. },
                ) => continue,
            };
            if self.waiting.is_empty() {
                outputs.push(output);
            } else {
                self.waiting.push(Waiting::Output(output));
            }
        }
    }

    fn sync(&mut self, outputs: &mut Vec<Output>) {
        let mut waiting = std::mem::take(&mut self.waiting).into_iter().peekable();
        if let Some(Waiting::Record(record)) = waiting.next() {
            self.disk.push(record);
            self.durable =
                Raft::recover(self.raft.config().clone(), self.disk.iter().cloned()).expect("it was recovered before");
        }
        while let Some(Waiting::Output(output)) = waiting.next_if(|next| matches!(next, Waiting::Output(_))) {
            outputs.push(output);
        }
        self.waiting = waiting.collect();
    }
}

pub(crate) fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
