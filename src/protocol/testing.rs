//! What the tests of every machine want: a machine that is stepped as a driver steps it, and its effects by kind.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Effect, Effects, Input, Protocol, Time};

/// A machine with its time.
pub(crate) struct Bench<P: Protocol> {
    pub(crate) machine: P,
    pub(crate) now: Time,
}

/// What one input led to.
#[derive(Debug)]
pub(crate) struct Did<P: Protocol> {
    pub(crate) persisted: Vec<P::Record>,
    pub(crate) sent: Vec<(P::Peer, P::Message)>,
    pub(crate) meanwhile: Vec<(P::Peer, P::Message)>,
    pub(crate) told: Vec<P::Event>,
    /// Names of effects in order, for rules about order.
    pub(crate) order: Vec<&'static str>,
    /// Those that were set, and to what.
    pub(crate) timers: BTreeMap<P::Timer, RangeInclusive<Duration>>,
}

impl<P: Protocol> Bench<P> {
    /// The machine at the driver's epoch, started.
    pub(crate) fn start(machine: P) -> Self {
        let mut bench = Self { machine, now: Time::ZERO };
        bench.step(Input::Started);
        bench
    }

    /// Steps with a disk that is done at once; [`Bench::step_with_busy_disk`] leaves it busy.
    pub(crate) fn step(&mut self, input: Input<P>) -> Did<P> {
        let did = self.step_with_busy_disk(input);
        self.step_with_busy_disk(Input::Synced { took: Duration::ZERO, more: false });
        did
    }

    pub(crate) fn step_with_busy_disk(&mut self, input: Input<P>) -> Did<P> {
        Did::of(&mut self.machine, self.now, input)
    }

    pub(crate) fn fire(&mut self, timer: P::Timer) -> Did<P> {
        self.step(Input::Elapsed(timer))
    }

    pub(crate) fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }
}

impl<P: Protocol> Did<P> {
    /// What `machine` does about this input.
    pub(crate) fn of(machine: &mut P, now: Time, input: Input<P>) -> Self {
        let mut effects = Effects::new();
        machine.step(now, input, &mut effects);
        let mut did = Self::default();
        for effect in effects.drain() {
            match effect {
                Effect::Persist(record) => {
                    did.order.push("persist");
                    did.persisted.push(record);
                }
                Effect::Send { to, message } => {
                    did.order.push("send");
                    did.sent.push((to, message));
                }
                Effect::Meanwhile { to, message } => {
                    did.order.push("meanwhile");
                    did.meanwhile.push((to, message));
                }
                Effect::Emit(event) | Effect::EmitAtOnce(event) => {
                    did.order.push("emit");
                    did.told.push(event);
                }
                Effect::SetTimer(timer, length) => drop(did.timers.insert(timer, length)),
                Effect::CancelTimer(_) => {}
            }
        }
        did
    }
}

// A derived one would ask it of the machine.
impl<P: Protocol> Default for Did<P> {
    fn default() -> Self {
        Self {
            persisted: Vec::new(),
            sent: Vec::new(),
            meanwhile: Vec::new(),
            told: Vec::new(),
            order: Vec::new(),
            timers: BTreeMap::new(),
        }
    }
}
