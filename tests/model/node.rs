//! One node of the model: the real machine, a disk with what has not reached it yet, and timers without lengths.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use netbelt::protocol::{Effect, Effects, Input, Protocol, Time};
use netbelt::raft::{Config, Entry, Event, Message, NodeId, Raft, Record, Timer};

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

impl Node {
    /// A node that has just started from an empty disk.
    pub(crate) fn new(config: Config) -> (Self, Vec<Output>) {
        let raft = Raft::recover(config, []).expect("the model's configuration works");
        let durable = raft.clone();
        let empty =
            Self { raft, durable, disk: Vec::new(), waiting: Vec::new(), timers: BTreeSet::new(), fingerprint: 0 };
        empty.step(Time::ZERO, Input::Started)
    }

    /// The node after one input, and what leaves it at once.
    pub(crate) fn step(&self, now: Time, input: Input<Raft>) -> (Self, Vec<Output>) {
        let mut node = self.clone();
        let mut outputs = Vec::new();
        let mut effects = Effects::new();
        node.raft.step(now, input, &mut effects);
        node.carry_out(&mut effects, &mut outputs);
        // A timer of zero length runs out once everything queued has been stepped: here, one input at a time.
        while node.timers.remove(&Timer::Flush) {
            node.raft.step(now, Input::Elapsed(Timer::Flush), &mut effects);
            node.carry_out(&mut effects, &mut outputs);
        }
        node.seal();
        (node, outputs)
    }

    /// The node after a timer has run out.
    pub(crate) fn elapsed(&self, now: Time, timer: Timer) -> (Self, Vec<Output>) {
        let mut node = self.clone();
        node.timers.remove(&timer);
        node.step(now, Input::Elapsed(timer))
    }

    /// The node after the next record has become durable, and what that lets go. None when nothing waits.
    pub(crate) fn sync(&self) -> Option<(Self, Vec<Output>)> {
        let mut node = self.clone();
        let outputs = node.write_one()?;
        node.seal();
        Some((node, outputs))
    }

    /// The node after a crash, which loses what was not durable, and a restart.
    pub(crate) fn crash(&self) -> (Self, Vec<Output>) {
        let raft = self.durable.clone();
        let mut node = self.clone();
        node.raft = raft;
        node.waiting.clear();
        node.timers.clear();
        node.step(Time::ZERO, Input::Started)
    }

    /// Whether something is on its way to the disk.
    pub(crate) fn is_writing(&self) -> bool {
        !self.waiting.is_empty()
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
                    Event::Proposed { .. } | Event::ReadReady { .. } | Event::Dropped { .. } | Event::RoleChanged { .. },
                ) => continue,
            };
            if self.waiting.is_empty() {
                outputs.push(output);
            } else {
                self.waiting.push(Waiting::Output(output));
            }
        }
    }

    fn write_one(&mut self) -> Option<Vec<Output>> {
        let mut waiting = std::mem::take(&mut self.waiting).into_iter();
        let Some(Waiting::Record(record)) = waiting.next() else { return None };
        self.disk.push(record);
        self.durable =
            Raft::recover(self.raft.config().clone(), self.disk.iter().cloned()).expect("it was recovered before");
        let mut outputs = Vec::new();
        for effect in waiting.by_ref() {
            match effect {
                Waiting::Output(output) => outputs.push(output),
                record @ Waiting::Record(_) => {
                    self.waiting.push(record);
                    break;
                }
            }
        }
        self.waiting.extend(waiting);
        Some(outputs)
    }

    /// The records themselves do not count, only what they fold to.
    fn seal(&mut self) {
        let mut hasher = DefaultHasher::new();
        self.raft.hash(&mut hasher);
        self.durable.hard_state().hash(&mut hasher);
        self.durable.log().hash(&mut hasher);
        self.waiting.hash(&mut hasher);
        self.timers.hash(&mut hasher);
        self.fingerprint = hasher.finish();
    }
}
