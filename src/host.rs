//! The pure half of every driver: a machine with its timers and its durability barrier.
//!
//! A driver owns a [`Host`], feeds it inputs and the time, and does three things for it: sleeps until
//! [`Host::next_deadline`], makes [`Host::take_batch`] durable and says so with [`Host::batch_durable`], and
//! carries out what [`Host::next_output`] lets go. There is at most one batch on its way to the disk; whatever
//! is persisted meanwhile forms the next one.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::defaults::MAX_BATCH_BYTES;
use crate::protocol::{Effect, Effects, Input, Protocol, Time};

/// A machine, its running timers and its effects that wait for the disk.
pub struct Host<P: Protocol> {
    machine: P,
    timers: BTreeMap<P::Timer, Time>,
    jitter: ChaCha8Rng,
    effects: Effects<P>,
    /// Records persisted by the machine and not yet taken by the driver.
    records: Vec<P::Record>,
    /// How many records the machine has ever persisted, the driver has taken, and the disk has.
    persisted: u64,
    taken: u64,
    durable: u64,
    /// When the batch on its way to the disk was taken.
    taken_at: Time,
    /// Each output with the number of records that must be durable before it may leave; never decreasing.
    outputs: VecDeque<(u64, Output<P>)>,
    /// What waits for no record.
    at_once: VecDeque<Output<P>>,
}

/// An effect that leaves the host: what a driver carries out.
#[derive(Debug)]
pub enum Output<P: Protocol> {
    /// Send this to that peer.
    Send {
        /// To whom.
        to: P::Peer,
        /// What to say.
        message: P::Message,
    },
    /// Tell the application this.
    Emit(P::Event),
}

impl<P: Protocol> Host<P> {
    /// Hosts `machine`; `seed` decides every timer's jitter. The driver still has to step [`Input::Started`].
    pub fn new(machine: P, seed: u64) -> Self {
        Self {
            machine,
            timers: BTreeMap::new(),
            jitter: ChaCha8Rng::seed_from_u64(seed),
            effects: Effects::new(),
            records: Vec::new(),
            persisted: 0,
            taken: 0,
            durable: 0,
            taken_at: Time::ZERO,
            outputs: VecDeque::new(),
            at_once: VecDeque::new(),
        }
    }

    /// The machine, to look at.
    pub const fn machine(&self) -> &P {
        &self.machine
    }

    /// Steps the machine with one input.
    pub fn step(&mut self, now: Time, input: Input<P>) {
        self.machine.step(now, input, &mut self.effects);
        for effect in self.effects.drain() {
            match effect {
                Effect::Persist(record) => {
                    self.records.push(record);
                    self.persisted += 1;
                }
                Effect::Send { to, message } => {
                    self.outputs.push_back((self.persisted, Output::Send { to, message }));
                }
                Effect::Emit(event) => self.outputs.push_back((self.persisted, Output::Emit(event))),
                Effect::Meanwhile { to, message } => {
                    if self.durable < self.persisted {
                        self.at_once.push_back(Output::Send { to, message });
                    }
                }
                Effect::EmitAtOnce(event) => self.at_once.push_back(Output::Emit(event)),
                Effect::SetTimer(timer, length) => {
                    self.timers.insert(timer, now + draw(&mut self.jitter, &length));
                }
                Effect::CancelTimer(timer) => {
                    self.timers.remove(&timer);
                }
            }
        }
    }

    /// When the next timer runs out.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.values().min().copied()
    }

    /// Steps every timer that has run out by `now`, earliest first, those set meanwhile included.
    pub fn fire_due(&mut self, now: Time) {
        while let Some((&timer, _)) =
            self.timers.iter().filter(|(_, deadline)| **deadline <= now).min_by_key(|(_, deadline)| **deadline)
        {
            self.timers.remove(&timer);
            self.step(now, Input::Elapsed(timer));
        }
    }

    /// Stops a timer, for a driver that lets it run out now. False when it does not run.
    pub fn stop_timer(&mut self, timer: P::Timer) -> bool {
        self.timers.remove(&timer).is_some()
    }

    /// The records to write next, in order, when there are any and no earlier batch is on its way: as many as
    /// [`MAX_BATCH_BYTES`] hold, and one at least.
    pub fn take_batch(&mut self, now: Time) -> Option<Vec<P::Record>> {
        if self.taken > self.durable || self.records.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let mut fits = |record: &P::Record| {
            let is_full = bytes >= MAX_BATCH_BYTES;
            bytes += P::record_bytes(record);
            !is_full
        };
        let count = self.records.iter().take_while(|record| fits(record)).count();
        let rest = self.records.split_off(count);
        self.taken += count as u64;
        self.taken_at = now;
        Some(std::mem::replace(&mut self.records, rest))
    }

    /// The batch taken last is durable; the machine hears how long that took.
    pub fn batch_durable(&mut self, now: Time) {
        self.durable = if cfg!(mutant = "later_batch_durable_too_soon") { self.persisted } else { self.taken };
        let more = self.durable < self.persisted;
        self.step(now, Input::Synced { took: now.since(self.taken_at), more });
    }

    /// The next output that may leave, in the order the machine wanted.
    pub fn next_output(&mut self) -> Option<Output<P>> {
        if let Some(output) = self.at_once.pop_front() {
            return Some(output);
        }
        let (needs, _) = self.outputs.front()?;
        if *needs > self.durable && !cfg!(mutant = "messages_before_barrier") {
            return None;
        }
        self.outputs.pop_front().map(|(_, output)| output)
    }

    /// Whether everything persisted is durable: then what the machine believes rests on nothing that a crash can take.
    pub const fn is_settled(&self) -> bool {
        self.durable == self.persisted
    }
}

/// A length drawn from the range, to the microsecond.
fn draw(rng: &mut ChaCha8Rng, range: &RangeInclusive<Duration>) -> Duration {
    let spread = range.end().saturating_sub(*range.start()).as_micros() as u64;
    *range.start() + Duration::from_micros(if spread == 0 { 0 } else { rng.next_u64() % (spread + 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Persists and emits what it is told: `Command(n, true)` persists `n` before it emits it.
    struct Probe;

    impl Protocol for Probe {
        type Peer = u8;
        type Message = u32;
        type Command = (u32, bool);
        type Timer = u8;
        type Record = u32;
        type Event = u32;

        fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Effects<Self>) {
            match input {
                Input::Requested((n, durable)) => {
                    out.send(1, n);
                    if durable {
                        out.persist(n);
                    }
                    out.emit(n);
                }
                Input::Elapsed(timer) => out.emit(u32::from(timer)),
                Input::Started => {
                    out.set_timer(7, Duration::from_millis(10)..=Duration::from_millis(20));
                    out.set_timer(8, Duration::ZERO..=Duration::ZERO);
                }
                Input::Received { .. } => out.cancel_timer(7),
                Input::Synced { .. } => {}
            }
        }
    }

    fn outputs(host: &mut Host<Probe>) -> Vec<String> {
        std::iter::from_fn(|| host.next_output())
            .map(|output| match output {
                Output::Send { message, .. } => format!("send {message}"),
                Output::Emit(event) => format!("emit {event}"),
            })
            .collect()
    }

    #[test]
    fn an_effect_before_a_persist_leaves_at_once_and_one_after_it_waits() {
        let mut host = Host::new(Probe, 0);
        host.step(Time::ZERO, Input::Requested((1, true)));
        assert_eq!(outputs(&mut host), ["send 1"]);
        assert_eq!(host.take_batch(Time::ZERO), Some(vec![1]));
        host.batch_durable(Time::ZERO);
        assert_eq!(outputs(&mut host), ["emit 1"]);
    }

    #[test]
    fn what_follows_a_second_batch_waits_for_the_second_batch() {
        let mut host = Host::new(Probe, 0);
        host.step(Time::ZERO, Input::Requested((1, true)));
        assert_eq!(host.take_batch(Time::ZERO), Some(vec![1]));
        host.step(Time::ZERO, Input::Requested((2, true)));
        host.step(Time::ZERO, Input::Requested((3, false)));
        assert_eq!(host.take_batch(Time::ZERO), None, "one batch at a time");
        outputs(&mut host);
        host.batch_durable(Time::ZERO);
        assert_eq!(outputs(&mut host), ["emit 1", "send 2"]);
        assert_eq!(host.take_batch(Time::ZERO), Some(vec![2]));
        host.batch_durable(Time::ZERO);
        assert_eq!(outputs(&mut host), ["emit 2", "send 3", "emit 3"]);
    }

    #[test]
    fn timers_fire_in_order_within_their_range_and_not_when_cancelled() {
        for seed in 0..100 {
            let mut host = Host::new(Probe, seed);
            host.step(Time::ZERO, Input::Started);
            assert_eq!(host.next_deadline(), Some(Time::ZERO));
            host.fire_due(Time::ZERO);
            let deadline = host.next_deadline().expect("timer 7 runs").since_epoch();
            assert!(deadline >= Duration::from_millis(10) && deadline <= Duration::from_millis(20), "{deadline:?}");
            if seed % 2 == 0 {
                host.step(Time::ZERO, Input::Received { from: 1, message: 0 });
            }
            host.fire_due(Time::after_epoch(Duration::from_millis(20)));
            let expected: &[&str] = if seed % 2 == 0 { &["emit 8"] } else { &["emit 8", "emit 7"] };
            assert_eq!(outputs(&mut host), expected);
        }
    }
}
