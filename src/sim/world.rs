//! The simulated world: nodes with their disks, a network between them, and time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::faults::{Faults, TICK, draw_within, happens, pick};
use super::trace::Trace;
use crate::host::{Host, Output};
use crate::protocol::{Input, Protocol, Time};

/// A driver may be late by this much to fire a timer, so that inputs gather as they do behind a real queue.
const LATENESS: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_micros(200);
const DISK: std::ops::RangeInclusive<Duration> = Duration::from_micros(50)..=Duration::from_micros(500);
const SLOW_DISK: std::ops::RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_millis(200);

/// Makes the machine of a node from a random number and what its disk kept.
pub type Boot<P> = Box<dyn Fn(<P as Protocol>::Peer, u64, Vec<<P as Protocol>::Record>) -> P>;

/// A deterministic world.
pub struct World<P: Protocol> {
    now: Time,
    rng: ChaCha8Rng,
    /// What will happen, by time and then by the order in which it was foreseen.
    queue: BTreeMap<(Time, u64), Happening<P>>,
    foreseen: u64,
    boot: Boot<P>,
    peers: Vec<P::Peer>,
    nodes: BTreeMap<P::Peer, Node<P>>,
    cuts: BTreeSet<(P::Peer, P::Peer)>,
    faults: Faults,
    news: Vec<News<P>>,
    trace: Trace,
}

/// What a run tells its caller, in order.
#[derive(Debug)]
pub enum News<P: Protocol> {
    /// A node told its application.
    Emitted {
        /// The node.
        node: P::Peer,
        /// What it told.
        event: P::Event,
    },
    /// Records have become durable on a node's disk.
    Durable {
        /// The node.
        node: P::Peer,
        /// The records.
        records: Vec<P::Record>,
    },
    /// A node crashed: what it was asked and has not answered is never answered.
    Crashed {
        /// The node.
        node: P::Peer,
    },
    /// A node came back.
    Restarted {
        /// The node.
        node: P::Peer,
    },
}

struct Node<P: Protocol> {
    /// None while it is down.
    host: Option<Host<P>>,
    disk: Vec<P::Record>,
    /// On its way to the disk.
    writing: Option<Vec<P::Record>>,
    /// Counts starts, so that what was foreseen for an earlier life does not happen to a later one.
    life: u64,
    paused_until: Time,
    wake_at: Option<Time>,
}

enum Happening<P: Protocol> {
    Arrives { from: P::Peer, to: P::Peer, message: P::Message },
    DiskDone { node: P::Peer, life: u64 },
    Wake { node: P::Peer, life: u64 },
    Restart { node: P::Peer, life: u64 },
    Joins { from: P::Peer, to: P::Peer },
    FaultTick,
}

impl<P: Protocol> World<P> {
    /// A world with these nodes, all started, and without faults.
    pub fn new(seed: u64, peers: Vec<P::Peer>, boot: Boot<P>, keep_trace: bool) -> Self {
        let mut world = Self {
            now: Time::ZERO,
            rng: ChaCha8Rng::seed_from_u64(seed),
            queue: BTreeMap::new(),
            foreseen: 0,
            boot,
            nodes: BTreeMap::new(),
            cuts: BTreeSet::new(),
            faults: Faults::none(),
            news: Vec::new(),
            trace: Trace::new(keep_trace),
            peers,
        };
        for node in world.peers.clone() {
            let down =
                Node { host: None, disk: Vec::new(), writing: None, life: 0, paused_until: Time::ZERO, wake_at: None };
            world.nodes.insert(node, down);
            world.restart(node);
        }
        world.foresee(TICK, Happening::FaultTick);
        world
    }

    /// Virtual time.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// The world's generator, for whoever drives it.
    pub const fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.rng
    }

    /// The trace so far.
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// All nodes.
    pub fn peers(&self) -> &[P::Peer] {
        &self.peers
    }

    /// A node's machine, unless it is down.
    pub fn machine(&self, node: P::Peer) -> Option<&P> {
        self.nodes[&node].host.as_ref().map(Host::machine)
    }

    /// A node's machine, if it is up and everything it has persisted is durable.
    pub fn settled_machine(&self, node: P::Peer) -> Option<&P> {
        self.nodes[&node].host.as_ref().filter(|host| host.is_settled()).map(Host::machine)
    }

    /// The machines that are up.
    pub fn machines(&self) -> impl Iterator<Item = &P> {
        self.nodes.values().filter_map(|node| node.host.as_ref()).map(Host::machine)
    }

    /// What happened since this was last asked.
    pub fn take_news(&mut self) -> Vec<News<P>> {
        std::mem::take(&mut self.news)
    }

    /// From now on, these faults happen.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Every fault ends: links join, nodes go on or come back.
    pub fn heal(&mut self) {
        self.faults = Faults::none();
        self.cuts.clear();
        self.trace.line(self.now, format_args!("heal"));
        for node in self.peers.clone() {
            self.nodes.get_mut(&node).expect("a node").paused_until = self.now;
            self.restart(node);
        }
    }

    /// Asks a node something. False when it is down.
    pub fn request(&mut self, node: P::Peer, command: P::Command) -> bool {
        if self.nodes[&node].host.is_none() {
            return false;
        }
        self.input(node, Input::Requested(command));
        true
    }

    /// The node stops; what it has not made durable is lost, though the disk may have got the beginning of it.
    pub fn crash(&mut self, node: P::Peer) {
        let state = self.nodes.get_mut(&node).expect("a node");
        if state.host.take().is_none() {
            return;
        }
        state.life += 1;
        state.wake_at = None;
        if let Some(writing) = state.writing.take() {
            let kept = (self.rng.next_u64() % (writing.len() as u64 + 1)) as usize;
            let records = writing[..kept].to_vec();
            state.disk.extend(records.iter().cloned());
            self.news.push(News::Durable { node, records });
        }
        self.trace.line(self.now, format_args!("{node:?} crashes with {} records", state.disk.len()));
        self.news.push(News::Crashed { node });
    }

    /// The node starts again from its disk, if it is down.
    pub fn restart(&mut self, node: P::Peer) {
        let state = self.nodes.get_mut(&node).expect("a node");
        if state.host.is_some() {
            return;
        }
        state.life += 1;
        state.host = Some(Host::new((self.boot)(node, self.rng.next_u64(), state.disk.clone()), self.rng.next_u64()));
        self.trace.line(self.now, format_args!("{node:?} starts with {} records", state.disk.len()));
        self.news.push(News::Restarted { node });
        self.input(node, Input::Started);
    }

    /// Messages from `from` to `to` are lost until the link joins.
    pub fn cut(&mut self, from: P::Peer, to: P::Peer) {
        self.trace.line(self.now, format_args!("cut {from:?} -> {to:?}"));
        self.cuts.insert((from, to));
    }

    /// Messages from `from` to `to` arrive again.
    pub fn join(&mut self, from: P::Peer, to: P::Peer) {
        self.trace.line(self.now, format_args!("join {from:?} -> {to:?}"));
        self.cuts.remove(&(from, to));
    }

    /// The node does nothing for a while, then goes on as if nothing had been; messages wait.
    pub fn pause(&mut self, node: P::Peer, duration: Duration) {
        self.trace.line(self.now, format_args!("{node:?} pauses for {duration:?}"));
        self.nodes.get_mut(&node).expect("a node").paused_until = self.now + duration;
    }

    /// Lets the next thing happen, unless that is after `until`: then time is `until`, and the answer false.
    pub fn advance(&mut self, until: Time) -> bool {
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        let ((at, _), happening) = entry.remove_entry();
        self.now = at;
        match happening {
            Happening::Arrives { from, to, message } => self.arrive(from, to, message),
            Happening::DiskDone { node, life } => self.disk_done(node, life),
            Happening::Wake { node, life } => self.wake(node, life),
            Happening::Restart { node, life } if self.nodes[&node].life == life => self.restart(node),
            Happening::Restart { .. } => {}
            Happening::Joins { from, to } => self.join(from, to),
            Happening::FaultTick => self.draw_faults(),
        }
        true
    }

    fn foresee(&mut self, after: Duration, happening: Happening<P>) {
        self.foreseen += 1;
        self.queue.insert((self.now + after, self.foreseen), happening);
    }

    /// How long the node will still be paused, if it is.
    fn paused(&self, node: P::Peer) -> Option<Duration> {
        let left = self.nodes[&node].paused_until.since(self.now);
        (!left.is_zero()).then_some(left)
    }

    fn arrive(&mut self, from: P::Peer, to: P::Peer, message: P::Message) {
        if self.nodes[&to].host.is_none() {
            return;
        }
        if let Some(left) = self.paused(to) {
            return self.foresee(left, Happening::Arrives { from, to, message });
        }
        self.trace.line(self.now, format_args!("{to:?} <- {from:?} {message:?}"));
        self.input(to, Input::Received { from, message });
    }

    fn disk_done(&mut self, node: P::Peer, life: u64) {
        if self.nodes[&node].life != life {
            return;
        }
        if let Some(left) = self.paused(node) {
            return self.foresee(left, Happening::DiskDone { node, life });
        }
        let state = self.nodes.get_mut(&node).expect("a node");
        let records = state.writing.take().expect("a write was on its way");
        self.trace.line(self.now, format_args!("{node:?} durable {records:?}"));
        state.disk.extend(records.iter().cloned());
        state.host.as_mut().expect("it is up").batch_durable();
        self.news.push(News::Durable { node, records });
        self.settle(node);
        if happens(&mut self.rng, self.faults.crash_on_sync) {
            self.crash_for_a_while(node);
        }
    }

    fn wake(&mut self, node: P::Peer, life: u64) {
        if self.nodes[&node].life != life {
            return;
        }
        if let Some(left) = self.paused(node) {
            return self.foresee(left, Happening::Wake { node, life });
        }
        let now = self.now;
        let state = self.nodes.get_mut(&node).expect("a node");
        if state.wake_at.is_some_and(|at| at <= now) {
            state.wake_at = None;
        }
        state.host.as_mut().expect("it is up").fire_due(now);
        self.settle(node);
    }

    fn input(&mut self, node: P::Peer, input: Input<P>) {
        let now = self.now;
        if let Some(host) = &mut self.nodes.get_mut(&node).expect("a node").host {
            host.step(now, input);
            self.settle(node);
        }
    }

    /// Does for a node what its driver does after each step.
    fn settle(&mut self, node: P::Peer) {
        let state = self.nodes.get_mut(&node).expect("a node");
        let host = state.host.as_mut().expect("it is up");
        let life = state.life;
        let batch = host.take_batch();
        let outputs: Vec<_> = std::iter::from_fn(|| host.next_output()).collect();
        let wake_at =
            host.next_deadline().map(|deadline| deadline.max(self.now) + draw_within(&mut self.rng, &LATENESS));
        if let Some(at) = wake_at
            && state.wake_at.is_none_or(|earlier| at < earlier)
        {
            state.wake_at = Some(at);
            self.foresee(at.since(self.now), Happening::Wake { node, life });
        }
        if let Some(batch) = batch {
            self.nodes.get_mut(&node).expect("a node").writing = Some(batch);
            let speed = if happens(&mut self.rng, self.faults.slow_disk) { SLOW_DISK } else { DISK };
            let after = draw_within(&mut self.rng, &speed);
            self.foresee(after, Happening::DiskDone { node, life });
        }
        for output in outputs {
            match output {
                Output::Send { to, message } => self.transmit(node, to, &message),
                Output::Emit(event) => {
                    self.trace.line(self.now, format_args!("{node:?} tells {event:?}"));
                    self.news.push(News::Emitted { node, event });
                }
            }
        }
    }

    fn transmit(&mut self, from: P::Peer, to: P::Peer, message: &P::Message) {
        if self.cuts.contains(&(from, to)) || happens(&mut self.rng, self.faults.loss) {
            return;
        }
        let copies = 1 + u32::from(happens(&mut self.rng, self.faults.duplication));
        for _ in 0..copies {
            let delay = draw_within(&mut self.rng, &self.faults.delay);
            self.foresee(delay, Happening::Arrives { from, to, message: message.clone() });
        }
    }

    fn draw_faults(&mut self) {
        self.foresee(TICK, Happening::FaultTick);
        let faults = self.faults.clone();
        if happens(&mut self.rng, faults.cut) {
            let (a, b) = (pick(&mut self.rng, &self.peers), pick(&mut self.rng, &self.peers));
            let links: Vec<_> = match self.rng.next_u64() % 3 {
                0 => vec![(a, b)],
                1 => vec![(a, b), (b, a)],
                _ => self.peers.iter().flat_map(|&other| [(a, other), (other, a)]).collect(),
            };
            let lasts = draw_within(&mut self.rng, &faults.cut_for);
            for (from, to) in links.into_iter().filter(|(from, to)| from != to) {
                self.cut(from, to);
                self.foresee(lasts, Happening::Joins { from, to });
            }
        }
        if happens(&mut self.rng, faults.crash) {
            let node = pick(&mut self.rng, &self.peers);
            self.crash_for_a_while(node);
        }
        if happens(&mut self.rng, faults.pause) {
            let node = pick(&mut self.rng, &self.peers);
            let lasts = draw_within(&mut self.rng, &faults.pause_for);
            self.pause(node, lasts);
        }
    }

    fn crash_for_a_while(&mut self, node: P::Peer) {
        let lasts = draw_within(&mut self.rng, &self.faults.down_for);
        self.crash(node);
        let life = self.nodes[&node].life;
        self.foresee(lasts, Happening::Restart { node, life });
    }
}
