//! One node of the model: the real machine, a disk with what has not reached it yet, a clock that jumps, and timers without
//! lengths.

use std::collections::BTreeSet;
use std::time::Duration;

use netbelt::bully::{Body, Bully, Config, Event, Id, Message, Promise, RoleName, Term, Timer};
use netbelt::protocol::{Effect, Effects, Input, Protocol, Time};

#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Node {
    pub(crate) machine: Bully,
    pub(crate) timers: BTreeSet<Timer>,
    /// Hours that its clock has jumped.
    hours: u8,
    /// What waits for the disk, in order; it begins with a record, or is empty.
    waiting: Vec<Waiting>,
    /// What a restart recovers.
    pub(crate) disk: Option<Promise>,
}

/// An effect behind the barrier.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
enum Waiting {
    Record(Promise),
    Output(Output),
}

/// What leaves a node.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub(crate) enum Output {
    Send(Id, Message),
    /// It has said that it leads.
    Leads(Term),
}

impl Node {
    pub(crate) fn new(config: Config) -> Self {
        let machine = Bully::recover(config, []).expect("the model's configuration works");
        let mut node = Self { machine, timers: BTreeSet::new(), hours: 0, waiting: Vec::new(), disk: None };
        node.step(Input::Started, &mut Vec::new()); // greetings, which are lost
        node
    }

    pub(crate) fn leads(&self) -> bool {
        self.machine.role() == RoleName::Leader
    }

    pub(crate) const fn is_writing(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many promises are not durable.
    pub(crate) fn unwritten(&self) -> usize {
        self.waiting.iter().filter(|waiting| matches!(waiting, Waiting::Record(_))).count()
    }

    pub(crate) const fn jump(&mut self) {
        self.hours += 1;
    }

    pub(crate) fn elapse(&mut self, timer: Timer, outputs: &mut Vec<Output>) {
        self.timers.remove(&timer);
        self.step(Input::Elapsed(timer), outputs);
    }

    /// It loses what is not durable, and starts again.
    pub(crate) fn crash(&mut self, outputs: &mut Vec<Output>) {
        self.machine = Bully::recover(self.machine.config().clone(), self.disk).expect("it did before");
        self.timers.clear();
        self.waiting.clear();
        self.step(Input::Started, outputs);
    }

    /// The next record becomes durable, and what waited for it leaves.
    pub(crate) fn sync(&mut self, outputs: &mut Vec<Output>) {
        let mut waiting = std::mem::take(&mut self.waiting).into_iter().peekable();
        if let Some(Waiting::Record(promise)) = waiting.next() {
            self.disk = Some(promise);
        }
        while let Some(Waiting::Output(output)) = waiting.next_if(|next| matches!(next, Waiting::Output(_))) {
            outputs.push(output);
        }
        self.waiting = waiting.collect();
    }

    pub(crate) fn step(&mut self, input: Input<Bully>, outputs: &mut Vec<Output>) {
        // A second after its start a node has listened, and not yet waited for a time-out.
        let second = Duration::from_secs(u64::from(!matches!(input, Input::Started)));
        let now = Time::after_epoch(Duration::from_secs(3600) * u32::from(self.hours) + second);
        let mut effects = Effects::new();
        self.machine.step(now, input, &mut effects);
        for effect in effects.drain() {
            let output = match effect {
                Effect::Persist(promise) => {
                    self.waiting.push(Waiting::Record(promise));
                    continue;
                }
                Effect::SetTimer(timer, _) => {
                    self.timers.insert(timer);
                    continue;
                }
                Effect::CancelTimer(timer) => {
                    self.timers.remove(&timer);
                    continue;
                }
                Effect::Send { to, message } => Output::Send(to, message),
                Effect::Emit(Event::Leader { leader, term, .. }) if leader == self.machine.config().id => {
                    Output::Leads(term)
                }
                Effect::Emit(_) => continue,
                Effect::Meanwhile { .. } | Effect::EmitAtOnce(_) => unreachable!("bully says nothing past its disk"),
            };
            if self.waiting.is_empty() {
                outputs.push(output);
            } else if !self.waiting.contains(&Waiting::Output(output)) {
                self.waiting.push(Waiting::Output(output)); // what is said twice arrives any number of times, as it is
            }
        }
    }
}

/// Whether this is a greeting of one who does not lead.
pub(crate) const fn is_greeting(message: &Message) -> bool {
    matches!(message.body, Body::Alive)
}
